//! Domains.

use std::sync::Arc;

use meshlog_proto::v1;

use super::mutation::Mutation;
use super::name::{Named, SANDBOX, check_label};
use super::page::Page;
use super::stored::Key;
use super::team::MAX_DESCRIPTION_BYTES;
use super::view::View;
use super::{Catalogue, check_length, invalid, team};
use crate::Caller;
use crate::error::{Error, Reason, Result};

impl Catalogue {
    /// Creates a domain owned by an existing team.
    ///
    /// # Errors
    /// `NAME_INVALID`, `NAME_RESERVED`, `FIELD_MISSING` (the owner), `TEAM_NOT_FOUND`,
    /// `DOMAIN_EXISTS`.
    pub async fn create_domain(
        &self,
        caller: &Caller,
        request: v1::CreateDomainRequest,
    ) -> Result<v1::CreateDomainResponse> {
        let domain = request.domain.ok_or_else(|| invalid("domain", "it is missing"))?;
        check(&domain)?;
        let mut mutation = self.begin().await;
        check_new(&self.inner.view.read(), &domain)?;
        if request.validate_only {
            return Ok(v1::CreateDomainResponse { domain: Some(given(domain)) });
        }
        let domain = add(&mut mutation, caller, domain);
        mutation.commit().await?;
        Ok(v1::CreateDomainResponse { domain: Some(domain) })
    }

    /// One domain.
    ///
    /// # Errors
    /// `DOMAIN_NOT_FOUND`.
    pub fn get_domain(&self, request: v1::GetDomainRequest) -> Result<v1::GetDomainResponse> {
        let domain = match request.name.as_str() {
            SANDBOX => Some(Arc::new(sandbox())),
            name => self.inner.view.read().domains.get(name).cloned(),
        };
        let domain = domain.ok_or_else(|| not_found(&request.name, None))?;
        Ok(v1::GetDomainResponse { domain: Some(Arc::unwrap_or_clone(domain)) })
    }

    /// Domains by name.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a page token of another list.
    pub fn list_domains(&self, request: v1::ListDomainsRequest) -> Result<v1::ListDomainsResponse> {
        let page = Page::asked("domains", request.page_size, &request.page_token)?;
        let view = self.inner.view.read();
        let mut domains: Vec<Arc<v1::Domain>> = view.domains.values().cloned().collect();
        drop(view);
        domains.push(Arc::new(sandbox()));
        domains.sort_by(|a, b| a.name.cmp(&b.name));
        domains.retain(|domain| domain.name > page.after);
        domains.truncate(page.size + 1);
        let next_page_token = page.cut(&mut domains, |domain| &domain.name);
        let domains = domains.into_iter().map(Arc::unwrap_or_clone).collect();
        Ok(v1::ListDomainsResponse { domains, next_page_token })
    }
}

fn check_new(view: &View, domain: &v1::Domain) -> Result<()> {
    if view.domains.contains_key(domain.name.as_str()) {
        return Err(Error::new(
            Reason::DomainExists,
            format!(
                "the domain `{}` exists already; `meshlog domain show {0}` shows it",
                domain.name
            ),
        )
        .with("domain", &domain.name));
    }
    match view.teams.contains_key(domain.owner.as_str()) {
        true => Ok(()),
        false => Err(team::not_found(&domain.owner)),
    }
}

/// The domain where everything has a default, which is always there.
fn sandbox() -> v1::Domain {
    v1::Domain {
        name: SANDBOX.to_owned(),
        owner: SANDBOX.to_owned(),
        description: "For trying things out: owner, description, classification and schema of a \
                      product are filled in."
            .to_owned(),
        etag: "0".to_owned(),
        ..Default::default()
    }
}

pub(super) fn exists(view: &View, name: &str) -> bool {
    name == SANDBOX || view.domains.contains_key(name)
}

/// `product` is what was to be created in the domain.
pub(super) fn not_found(name: &str, product: Option<&str>) -> Error {
    let shown: String = name.chars().take(80).flat_map(char::escape_debug).collect();
    let create = format!("`meshlog domain create {shown} --owner TEAM`");
    let next = match product {
        None => format!("create it with {create}"),
        Some(product) => format!(
            "create it with {create}, or together with the product: \
             `meshlog product create {product} … --new-domain --contact MAIL`"
        ),
    };
    Error::new(Reason::DomainNotFound, format!("there is no domain `{shown}`; {next}"))
        .with("domain", shown)
}

/// Checks a domain that a user gives.
pub(super) fn check(domain: &v1::Domain) -> Result<()> {
    check_label(Named::Domain, &domain.name)?;
    check_length("domain.description", &domain.description, MAX_DESCRIPTION_BYTES)?;
    if domain.owner.is_empty() {
        let what = format!(
            "the domain `{0}` needs an owner: `meshlog domain create {0} --owner TEAM`",
            domain.name
        );
        return Err(Error::new(Reason::FieldMissing, what.clone())
            .with("field", "owner")
            .with("domain", &domain.name)
            .with_violation("domain.owner", what));
    }
    check_label(Named::Team, &domain.owner)
}

/// Without what only the server says.
fn given(domain: v1::Domain) -> v1::Domain {
    v1::Domain {
        name: domain.name,
        owner: domain.owner,
        description: domain.description,
        ..Default::default()
    }
}

/// Adds a checked domain to a change.
pub(super) fn add(mutation: &mut Mutation<'_>, caller: &Caller, domain: v1::Domain) -> v1::Domain {
    let domain = v1::Domain {
        etag: mutation.etag(),
        create_time: Some(mutation.now()),
        created_by: caller.principal(),
        ..given(domain)
    };
    mutation.set(Key::Domain(&domain.name), &domain);
    domain
}
