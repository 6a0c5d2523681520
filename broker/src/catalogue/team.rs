//! Teams.

use std::sync::Arc;

use meshlog_proto::v1;

use super::mutation::Mutation;
use super::name::{Named, SANDBOX, check_label};
use super::page::Page;
use super::stored::Key;
use super::view::View;
use super::{Catalogue, check_length, invalid};
use crate::Caller;
use crate::error::{Error, Reason, Result};

const MAX_CONTACTS: usize = 16;
const MAX_CONTACT_BYTES: usize = 256;
pub(super) const MAX_DESCRIPTION_BYTES: usize = 4 << 10;

impl Catalogue {
    /// Creates a team.
    ///
    /// # Errors
    /// `NAME_INVALID`, `NAME_RESERVED`, `FIELD_MISSING` (a contact), `TEAM_EXISTS`.
    pub async fn create_team(
        &self,
        caller: &Caller,
        request: v1::CreateTeamRequest,
    ) -> Result<v1::CreateTeamResponse> {
        let team = request.team.ok_or_else(|| invalid("team", "it is missing"))?;
        check(&team)?;
        let mut mutation = self.begin().await;
        if self.inner.view.read().teams.contains_key(team.name.as_str()) {
            return Err(Error::new(
                Reason::TeamExists,
                format!(
                    "the team `{}` exists already; `meshlog team show {0}` shows it",
                    team.name
                ),
            )
            .with("team", team.name));
        }
        if request.validate_only {
            return Ok(v1::CreateTeamResponse { team: Some(given(team)) });
        }
        let team = add(&mut mutation, caller, team);
        mutation.commit().await?;
        Ok(v1::CreateTeamResponse { team: Some(team) })
    }

    /// One team.
    ///
    /// # Errors
    /// `TEAM_NOT_FOUND`.
    pub fn get_team(&self, request: v1::GetTeamRequest) -> Result<v1::GetTeamResponse> {
        let found = find(&self.inner.view.read(), &request.name);
        let team = found.ok_or_else(|| not_found(&request.name))?;
        Ok(v1::GetTeamResponse { team: Some(Arc::unwrap_or_clone(team)) })
    }

    /// Teams by name.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a page token of another list.
    pub fn list_teams(&self, request: v1::ListTeamsRequest) -> Result<v1::ListTeamsResponse> {
        let page = Page::asked("teams", request.page_size, &request.page_token)?;
        let view = self.inner.view.read();
        let mut teams: Vec<Arc<v1::Team>> = view.teams.values().cloned().collect();
        drop(view);
        teams.push(Arc::new(sandbox()));
        teams.sort_by(|a, b| a.name.cmp(&b.name));
        teams.retain(|team| team.name > page.after);
        teams.truncate(page.size + 1);
        let next_page_token = page.cut(&mut teams, |team| &team.name);
        let teams = teams.into_iter().map(Arc::unwrap_or_clone).collect();
        Ok(v1::ListTeamsResponse { teams, next_page_token })
    }
}

/// The team of the sandbox, which is always there.
fn sandbox() -> v1::Team {
    v1::Team {
        name: SANDBOX.to_owned(),
        contacts: vec!["whoever created the product: see created_by".to_owned()],
        description: "Answers for what is tried out in the domain sandbox.".to_owned(),
        etag: "0".to_owned(),
        ..Default::default()
    }
}

pub(super) fn find(view: &View, name: &str) -> Option<Arc<v1::Team>> {
    match name {
        SANDBOX => Some(Arc::new(sandbox())),
        name => view.teams.get(name).cloned(),
    }
}

pub(super) fn not_found(name: &str) -> Error {
    let shown: String = name.chars().take(80).flat_map(char::escape_debug).collect();
    Error::new(
        Reason::TeamNotFound,
        format!(
            "there is no team `{shown}`; create it with \
             `meshlog team create {shown} --contact MAIL`"
        ),
    )
    .with("team", shown)
}

/// Checks a team that a user gives.
pub(super) fn check(team: &v1::Team) -> Result<()> {
    check_label(Named::Team, &team.name)?;
    check_length("team.description", &team.description, MAX_DESCRIPTION_BYTES)?;
    let contacts = &team.contacts;
    if !contacts.iter().any(|contact| !contact.trim().is_empty()) {
        let what = format!(
            "the team `{0}` needs at least one contact: \
             `meshlog team create {0} --contact MAIL`",
            team.name
        );
        return Err(Error::new(Reason::FieldMissing, what.clone())
            .with("field", "contacts")
            .with("team", &team.name)
            .with_violation("team.contacts", what));
    }
    if contacts.len() > MAX_CONTACTS {
        return Err(invalid(
            "team.contacts",
            format!("at most {MAX_CONTACTS}, there are {}", contacts.len()),
        ));
    }
    for contact in contacts {
        check_length("team.contacts", contact, MAX_CONTACT_BYTES)?;
        if contact.trim().is_empty() || contact.chars().any(char::is_control) {
            return Err(invalid("team.contacts", "a contact is one line of text, not empty"));
        }
    }
    Ok(())
}

/// Without what only the server says.
fn given(team: v1::Team) -> v1::Team {
    v1::Team {
        name: team.name,
        contacts: team.contacts,
        description: team.description,
        ..Default::default()
    }
}

/// Adds a checked team to a change.
pub(super) fn add(mutation: &mut Mutation<'_>, caller: &Caller, team: v1::Team) -> v1::Team {
    let team = v1::Team {
        etag: mutation.etag(),
        create_time: Some(mutation.now()),
        created_by: caller.principal(),
        ..given(team)
    };
    mutation.set(Key::Team(&team.name), &team);
    team
}
