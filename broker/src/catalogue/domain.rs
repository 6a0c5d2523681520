//! Domains.

use std::sync::Arc;

use meshlog_proto::v1::{self, access_scope::What};

use super::audit::{Act, Kind};
use super::in_use::Users;
use super::mutation::Mutation;
use super::name::{Named, check_label, check_managed_by};
use super::page::Page;
use super::stored::Key;
use super::team::MAX_DESCRIPTION_BYTES;
use super::view::View;
use super::{Catalogue, builtin, check_etag, check_length, facts, invalid, mask, tag, team};
use crate::Caller;
use crate::access::{Resource, Rpc};
use crate::error::{Error, Reason, Result};

impl Catalogue {
    /// Creates a domain owned by an existing team.
    ///
    /// # Errors
    /// `NAME_INVALID`, `NAME_RESERVED`, `FIELD_MISSING` (the owner), `TEAM_NOT_FOUND`,
    /// `DOMAIN_EXISTS`, `TAG_KEY_NOT_FOUND`, `TAG_VALUE_INVALID`.
    pub async fn create_domain(
        &self,
        caller: &Caller,
        request: v1::CreateDomainRequest,
    ) -> Result<v1::CreateDomainResponse> {
        self.allow(caller, Rpc::CreateDomain, Resource::Broker)?;
        let domain = request.domain.ok_or_else(|| invalid("domain", "it is missing"))?;
        check(&domain)?;
        let mut mutation = self.begin().await;
        check_new(&self.inner.view.read(), &domain)?;
        if request.validate_only {
            return Ok(v1::CreateDomainResponse { domain: Some(given(domain)) });
        }
        let domain = add(&mut mutation, caller, domain);
        let act = Act::new("create_domain", Kind::Domain, &domain.name)
            .changes(facts::differences(&facts::Facts::new(), &facts::of_domain(&domain)));
        mutation.commit(caller, act).await?;
        Ok(v1::CreateDomainResponse { domain: Some(domain) })
    }

    /// One domain.
    ///
    /// # Errors
    /// `DOMAIN_NOT_FOUND`.
    pub fn get_domain(
        &self,
        _caller: &Caller,
        request: v1::GetDomainRequest,
    ) -> Result<v1::GetDomainResponse> {
        let domain = self.inner.view.read().domain(&request.name);
        let domain = domain.ok_or_else(|| not_found(&request.name, None))?;
        Ok(v1::GetDomainResponse { domain: Some(Arc::unwrap_or_clone(domain)) })
    }

    /// Domains by name.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a page token of another list.
    pub fn list_domains(
        &self,
        _caller: &Caller,
        request: v1::ListDomainsRequest,
    ) -> Result<v1::ListDomainsResponse> {
        let page = Page::asked("domains", request.page_size, &request.page_token)?;
        let built_in = builtin::NAMES.into_iter().filter_map(builtin::domain);
        let (domains, next_page_token) =
            page.of(&self.inner.view.read().domains, built_in, |domain| &domain.name);
        Ok(v1::ListDomainsResponse { domains, next_page_token })
    }

    /// Changes the fields that the mask names; without a mask, those that are not empty.
    ///
    /// # Errors
    /// `DOMAIN_NOT_FOUND`, `NAME_RESERVED`, `ETAG_MISMATCH`, `FIELD_MISSING` (the owner),
    /// `TEAM_NOT_FOUND`, `TAG_KEY_NOT_FOUND`, `TAG_VALUE_INVALID`, `INVALID_ARGUMENT`.
    pub async fn update_domain(
        &self,
        caller: &Caller,
        request: v1::UpdateDomainRequest,
    ) -> Result<v1::UpdateDomainResponse> {
        let asked = request.domain.ok_or_else(|| invalid("domain", "it is missing"))?;
        let given = [
            ("owner", !asked.owner.is_empty()),
            ("description", !asked.description.is_empty()),
            ("tags", !asked.tags.is_empty()),
            ("managed_by", !asked.managed_by.is_empty()),
        ];
        let paths = mask::paths(request.update_mask, &given)?;
        let mut mutation = self.begin().await;
        let before = self.own_domain(caller, Rpc::UpdateDomain, &asked.name, &asked.etag)?;
        let mut domain = before.clone();
        for path in &paths {
            match path.as_str() {
                "owner" => domain.owner.clone_from(&asked.owner),
                "description" => domain.description.clone_from(&asked.description),
                "tags" => domain.tags.clone_from(&asked.tags),
                "managed_by" => domain.managed_by.clone_from(&asked.managed_by),
                other => return Err(mask::unknown(other, &given)),
            }
        }
        check(&domain)?;
        {
            let view = self.inner.view.read();
            team::check_owner(&view, &domain.owner)?;
            tag::check_vocabulary(&view, &domain.tags, &before.tags)?;
        }
        domain.etag = mutation.etag();
        domain.update_time = Some(mutation.now());
        domain.updated_by = caller.principal();
        if request.validate_only {
            domain.etag.clear();
            return Ok(v1::UpdateDomainResponse { domain: Some(domain) });
        }
        mutation.set(Key::Domain(&domain.name), &domain);
        let changes = facts::differences(&facts::of_domain(&before), &facts::of_domain(&domain));
        let act = Act::new("update_domain", Kind::Domain, &domain.name)
            .etag_before(&before.etag)
            .changes(changes);
        mutation.commit(caller, act).await?;
        Ok(v1::UpdateDomainResponse { domain: Some(domain) })
    }

    /// Deletes a domain without products.
    ///
    /// # Errors
    /// `DOMAIN_NOT_FOUND`, `NAME_RESERVED`, `ETAG_MISMATCH`, `IN_USE` naming its products.
    pub async fn delete_domain(
        &self,
        caller: &Caller,
        request: v1::DeleteDomainRequest,
    ) -> Result<v1::DeleteDomainResponse> {
        let mut mutation = self.begin().await;
        let before = self.own_domain(caller, Rpc::DeleteDomain, &request.name, &request.etag)?;
        let mut users = Users::default();
        {
            let view = self.inner.view.read();
            view.of_domain(&before.name).for_each(|handle| users.add(&handle.name));
        }
        users.refuse("the domain", &before.name, "move or delete those products first")?;
        if request.validate_only {
            return Ok(v1::DeleteDomainResponse {});
        }
        mutation.remove(Key::Domain(&before.name));
        let is_on = |grant: &v1::Grant| {
            let what = grant.scope.as_ref().and_then(|scope| scope.what.as_ref());
            matches!(what, Some(What::Domain(name)) if *name == before.name)
        };
        mutation.remove_rights(is_on, |_| false);
        let changes = facts::differences(&facts::of_domain(&before), &facts::Facts::new());
        let act = Act::new("delete_domain", Kind::Domain, &before.name)
            .etag_before(&before.etag)
            .gone()
            .changes(changes);
        mutation.commit(caller, act).await?;
        Ok(v1::DeleteDomainResponse {})
    }

    /// A domain that can be changed.
    fn own_domain(&self, caller: &Caller, rpc: Rpc, name: &str, etag: &str) -> Result<v1::Domain> {
        self.allow(caller, rpc, Resource::Domain(name))?;
        check_label(Named::Domain, name)?;
        let found = self.inner.view.read().domains.get(name).cloned();
        let domain = found.ok_or_else(|| not_found(name, None))?;
        check_etag(&format!("the domain `{name}`"), etag, &domain.etag)?;
        Ok(Arc::unwrap_or_clone(domain))
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
    tag::check_vocabulary(view, &domain.tags, &[])?;
    team::check_owner(view, &domain.owner).map(drop)
}

pub(super) fn exists(view: &View, name: &str) -> bool {
    view.domain(name).is_some()
}

/// `product` is what was to be created in the domain.
pub(super) fn not_found(name: &str, product: Option<&str>) -> Error {
    let shown = super::name::shown(name);
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
    check_managed_by("domain.managed_by", &domain.managed_by)?;
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
    tag::check_of_domain(&domain.tags)?;
    check_label(Named::Team, &domain.owner)
}

/// Without what only the server says.
fn given(domain: v1::Domain) -> v1::Domain {
    v1::Domain {
        name: domain.name,
        owner: domain.owner,
        description: domain.description,
        tags: domain.tags,
        managed_by: domain.managed_by,
        ..Default::default()
    }
}

/// Adds a checked domain to a change.
pub(super) fn add(mutation: &mut Mutation<'_>, caller: &Caller, domain: v1::Domain) -> v1::Domain {
    let domain = v1::Domain {
        etag: mutation.etag(),
        create_time: Some(mutation.now()),
        created_by: caller.principal(),
        update_time: Some(mutation.now()),
        updated_by: caller.principal(),
        ..given(domain)
    };
    mutation.set(Key::Domain(&domain.name), &domain);
    domain
}
