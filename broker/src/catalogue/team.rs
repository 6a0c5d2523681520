//! Teams.

use std::sync::Arc;

use meshlog_proto::v1;

use super::audit::{Act, Kind};
use super::in_use::Users;
use super::mutation::Mutation;
use super::name::{Named, check_label, check_managed_by};
use super::page::Page;
use super::stored::Key;
use super::view::View;
use super::{Catalogue, builtin, check_etag, check_length, facts, invalid, mask};
use crate::Caller;
use crate::access::{Resource, Rpc};
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
        self.allow(caller, Rpc::CreateTeam, Resource::Broker)?;
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
        let act = Act::new("create_team", Kind::Team, &team.name)
            .changes(facts::differences(&facts::Facts::new(), &facts::of_team(&team)));
        mutation.commit(caller, act).await?;
        Ok(v1::CreateTeamResponse { team: Some(team) })
    }

    /// One team.
    ///
    /// # Errors
    /// `TEAM_NOT_FOUND`.
    pub fn get_team(
        &self,
        _caller: &Caller,
        request: v1::GetTeamRequest,
    ) -> Result<v1::GetTeamResponse> {
        let found = self.inner.view.read().team(&request.name);
        let team = found.ok_or_else(|| not_found(&request.name))?;
        Ok(v1::GetTeamResponse { team: Some(Arc::unwrap_or_clone(team)) })
    }

    /// Teams by name.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a page token of another list.
    pub fn list_teams(
        &self,
        _caller: &Caller,
        request: v1::ListTeamsRequest,
    ) -> Result<v1::ListTeamsResponse> {
        let page = Page::asked("teams", request.page_size, &request.page_token)?;
        let built_in = builtin::NAMES.into_iter().filter_map(builtin::team);
        let (teams, next_page_token) =
            page.of(&self.inner.view.read().teams, built_in, |team| &team.name);
        Ok(v1::ListTeamsResponse { teams, next_page_token })
    }

    /// Changes the fields that the mask names; without a mask, those that are not empty.
    ///
    /// # Errors
    /// `TEAM_NOT_FOUND`, `NAME_RESERVED`, `ETAG_MISMATCH`, `FIELD_MISSING` (the last contact),
    /// `INVALID_ARGUMENT`.
    pub async fn update_team(
        &self,
        caller: &Caller,
        request: v1::UpdateTeamRequest,
    ) -> Result<v1::UpdateTeamResponse> {
        let asked = request.team.ok_or_else(|| invalid("team", "it is missing"))?;
        let given = [
            ("contacts", !asked.contacts.is_empty()),
            ("description", !asked.description.is_empty()),
            ("managed_by", !asked.managed_by.is_empty()),
        ];
        let paths = mask::paths(request.update_mask, &given)?;
        let mut mutation = self.begin().await;
        let before = self.own_team(caller, Rpc::UpdateTeam, &asked.name, &asked.etag)?;
        let mut team = before.clone();
        for path in &paths {
            match path.as_str() {
                "contacts" => team.contacts.clone_from(&asked.contacts),
                "description" => team.description.clone_from(&asked.description),
                "managed_by" => team.managed_by.clone_from(&asked.managed_by),
                other => return Err(mask::unknown(other, &given)),
            }
        }
        check(&team)?;
        team.etag = mutation.etag();
        team.update_time = Some(mutation.now());
        team.updated_by = caller.principal();
        if request.validate_only {
            team.etag.clear();
            return Ok(v1::UpdateTeamResponse { team: Some(team) });
        }
        mutation.set(Key::Team(&team.name), &team);
        let changes = facts::differences(&facts::of_team(&before), &facts::of_team(&team));
        let act = Act::new("update_team", Kind::Team, &team.name)
            .etag_before(&before.etag)
            .changes(changes);
        mutation.commit(caller, act).await?;
        Ok(v1::UpdateTeamResponse { team: Some(team) })
    }

    /// Deletes a team that owns nothing and to which nothing is offered.
    ///
    /// # Errors
    /// `TEAM_NOT_FOUND`, `NAME_RESERVED`, `ETAG_MISMATCH`, `IN_USE` naming what it owns.
    pub async fn delete_team(
        &self,
        caller: &Caller,
        request: v1::DeleteTeamRequest,
    ) -> Result<v1::DeleteTeamResponse> {
        let mut mutation = self.begin().await;
        let before = self.own_team(caller, Rpc::DeleteTeam, &request.name, &request.etag)?;
        users(&self.inner.view.read(), &before.name).refuse(
            "the team",
            &before.name,
            "give those to another team first",
        )?;
        if request.validate_only {
            return Ok(v1::DeleteTeamResponse {});
        }
        mutation.remove(Key::Team(&before.name));
        // A team of the same name is another one: it gets neither the keys nor the grants.
        let keys: Vec<_> = {
            let view = self.inner.view.read();
            let keys = view.rights.keys.values();
            keys.filter(|key| key.key.team == before.name && !key.is_revoked()).cloned().collect()
        };
        for key in keys {
            mutation.revoke(caller, &key);
        }
        mutation.remove_rights(
            |grant| grant.team == before.name,
            |request| request.team == before.name,
        );
        let changes = facts::differences(&facts::of_team(&before), &facts::Facts::new());
        let act = Act::new("delete_team", Kind::Team, &before.name)
            .etag_before(&before.etag)
            .gone()
            .changes(changes);
        mutation.commit(caller, act).await?;
        Ok(v1::DeleteTeamResponse {})
    }

    /// A team that can be changed.
    fn own_team(&self, caller: &Caller, rpc: Rpc, name: &str, etag: &str) -> Result<v1::Team> {
        self.allow(caller, rpc, Resource::Team(name))?;
        check_label(Named::Team, name)?;
        let found = self.inner.view.read().teams.get(name).cloned();
        let team = found.ok_or_else(|| not_found(name))?;
        check_etag(&format!("the team `{name}`"), etag, &team.etag)?;
        Ok(Arc::unwrap_or_clone(team))
    }
}

/// What a team owns, and what waits for it.
fn users(view: &View, team: &str) -> Users {
    let mut users = Users::default();
    for (name, domain) in &view.domains {
        if domain.owner == team {
            users.add(format!("the domain {name}"));
        }
    }
    for id in view.by_team.of(team) {
        if let Some(handle) = view.product_of(id) {
            users.add(&handle.name);
        }
    }
    for (name, key) in &view.tag_keys {
        if key.owner == team {
            users.add(format!("the tag key {name}"));
        }
    }
    users
}

/// Checks that a team exists to which something can be given.
///
/// # Errors
/// `TEAM_NOT_FOUND`, `NAME_RESERVED` for a team that is built in.
pub(super) fn check_owner(view: &View, name: &str) -> Result<Arc<v1::Team>> {
    check_label(Named::Team, name)?;
    view.teams.get(name).cloned().ok_or_else(|| not_found(name))
}

pub(super) fn not_found(name: &str) -> Error {
    let shown = super::name::shown(name);
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
    check_managed_by("team.managed_by", &team.managed_by)?;
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
        managed_by: team.managed_by,
        ..Default::default()
    }
}

/// Adds a checked team to a change.
pub(super) fn add(mutation: &mut Mutation<'_>, caller: &Caller, team: v1::Team) -> v1::Team {
    let team = v1::Team {
        etag: mutation.etag(),
        create_time: Some(mutation.now()),
        created_by: caller.principal(),
        update_time: Some(mutation.now()),
        updated_by: caller.principal(),
        ..given(team)
    };
    mutation.set(Key::Team(&team.name), &team);
    team
}
