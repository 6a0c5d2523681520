//! Grants: permissions that a team has on what is not its own.

use std::sync::Arc;

use meshlog_proto::v1::{self, access_scope::What};
use ulid::Ulid;

use super::audit::{Act, Kind};
use super::facts::{self, Facts};
use super::mutation::Mutation;
use super::page::Page;
use super::rights::{Because, EVERY_TEAM, KnownGrant, Who, Why, named, permissions_of};
use super::stored::Key;
use super::{Catalogue, Inner, check_length, domain, invalid, team};
use crate::Caller;
use crate::access::{Permission, Permissions, Resource, Rpc};
use crate::error::{Error, Reason, Result};
use crate::time::storage_time;

/// Most grants.
const MAX_GRANTS: usize = 100_000;
pub(super) const MAX_PURPOSE_BYTES: usize = 2 << 10;

const ADMIN: Permissions = Permissions::of(&[Permission::Admin]);
const GOVERN: Permissions = Permissions::of(&[Permission::Govern, Permission::Admin]);
const MANAGE: Permissions = Permissions::of(&[Permission::Manage, Permission::Admin]);

impl Inner {
    /// As [`Catalogue::allows`], while the view is read.
    pub(super) fn allows_in(
        &self,
        view: &super::view::View,
        caller: &Caller,
        rpc: Rpc,
        resource: Resource<'_>,
    ) -> bool {
        rpc.row().need.is_met(|| view.holds(caller, resource, self.storage.now()))
    }
}

impl Catalogue {
    /// Gives a team permissions.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, also for permissions that the caller lacks itself; `PRODUCT_NOT_FOUND`,
    /// `DOMAIN_NOT_FOUND`, `TEAM_NOT_FOUND`, `INVALID_ARGUMENT`, `LIMIT_REACHED`.
    pub async fn create_grant(
        &self,
        caller: &Caller,
        request: v1::CreateGrantRequest,
    ) -> Result<v1::CreateGrantResponse> {
        let asked = request.grant.ok_or_else(|| invalid("grant", "it is missing"))?;
        let mut mutation = self.begin().await;
        let scope = self.checked_scope(caller, asked.scope.clone(), &asked)?;
        let permissions = permissions_of(asked.permissions());
        if permissions.is_empty() {
            return Err(invalid("grant.permissions", "say what it allows, for instance CONSUME"));
        }
        if permissions.has_any(ADMIN) && !matches!(scope.what, Some(What::Everything(_))) {
            return Err(invalid("grant.permissions", "ADMIN can only be had on everything"));
        }
        check_texts(&asked, &mutation)?;
        let grant = v1::Grant {
            team: asked.team,
            application: asked.application,
            permissions: named(permissions),
            scope: Some(scope),
            purpose: asked.purpose,
            expire_time: asked.expire_time,
            ..Default::default()
        };
        if grant.team != EVERY_TEAM {
            team::check_owner(&self.inner.view.read(), &grant.team)?;
        }
        if request.validate_only {
            return Ok(v1::CreateGrantResponse { grant: Some(grant) });
        }
        let grant = mutation.grant(caller, grant)?;
        let act = Act::new("create_grant", Kind::Grant, &grant.id)
            .changes(facts::differences(&Facts::new(), &facts::of_grant(&grant)));
        mutation.commit(caller, act).await?;
        Ok(v1::CreateGrantResponse { grant: Some(grant) })
    }

    /// What a grant is on, which the caller may give.
    fn checked_scope(
        &self,
        caller: &Caller,
        scope: Option<v1::AccessScope>,
        asked: &v1::Grant,
    ) -> Result<v1::AccessScope> {
        let missing = || invalid("grant.scope", "say on what: a product, a domain, a tag or all");
        let what = scope.and_then(|scope| scope.what).ok_or_else(missing)?;
        let permissions = permissions_of(asked.permissions());
        let rpc = Rpc::CreateGrant;
        let mut product_id = String::new();
        let what = match what {
            What::Product(name) => {
                let product = self.resolve_for(caller, rpc, &name, "")?;
                product.refuse_attached()?;
                self.allow_all(caller, rpc, Resource::Product(&product), permissions)?;
                product_id = product.id.to_string();
                What::Product(product.name.to_string())
            }
            What::Domain(name) => {
                self.allow(caller, rpc, Resource::Domain(&name))?;
                self.allow_all(caller, rpc, Resource::Domain(&name), permissions)?;
                let view = self.inner.view.read();
                view.domain(&name).ok_or_else(|| domain::not_found(&name, None))?;
                What::Domain(name)
            }
            What::Tag(tag) => {
                self.allow_with(caller, rpc, Resource::Broker, ADMIN)?;
                let key = tag.split('=').next().unwrap_or_default();
                let view = self.inner.view.read();
                if view.tag_key(key).is_none() {
                    return Err(super::tag_key::not_found(&view, key));
                }
                What::Tag(tag)
            }
            What::Everything(true) => {
                self.allow_with(caller, rpc, Resource::Broker, ADMIN)?;
                What::Everything(true)
            }
            What::Everything(false) => return Err(missing()),
        };
        Ok(v1::AccessScope { what: Some(what), product_id })
    }

    /// Grants by id, oldest first: those that the caller has, gave or could have given.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `INVALID_ARGUMENT` for a page token of another list.
    pub fn list_grants(
        &self,
        caller: &Caller,
        request: v1::ListGrantsRequest,
    ) -> Result<v1::ListGrantsResponse> {
        let list = format!("grants {} {}", request.team, request.product);
        let page = Page::asked(&list, request.page_size, &request.page_token)?;
        let product = match request.product.as_str() {
            "" => None,
            name => Some(self.resolve_for(caller, Rpc::GetProduct, name, "")?),
        };
        let now = self.inner.storage.now();
        let view = self.inner.view.read();
        let sees_all = view.holds(caller, Resource::Broker, now).has_any(GOVERN);
        let manages = |grant: &KnownGrant| match grant.what() {
            Some(What::Product(_)) => {
                let scope = grant.grant.scope.as_ref();
                let product = scope.and_then(|scope| view.product_of(&scope.product_id));
                product.is_some_and(|product| {
                    view.holds(caller, Resource::Product(product), now).has_any(MANAGE)
                })
            }
            Some(What::Domain(name)) => {
                view.holds(caller, Resource::Domain(name), now).has_any(MANAGE)
            }
            _ => false,
        };
        let grants = view.rights.grants.iter().filter(|(id, known)| {
            let grant = &known.grant;
            let is_on = product.as_ref().is_none_or(|product| {
                grant.scope.as_ref().is_some_and(|scope| *scope.product_id == *product.id)
            });
            let is_of = request.team.is_empty() || grant.team == request.team;
            let is_own = caller.team.as_deref() == Some(&*grant.team);
            ***id > *page.after && is_on && is_of && (is_own || sees_all || manages(known))
        });
        let mut grants: Vec<v1::Grant> =
            grants.map(|(_, known)| shown(&view, &known.grant)).take(page.size + 1).collect();
        drop(view);
        let next_page_token = page.cut(&mut grants, |grant| &grant.id);
        Ok(v1::ListGrantsResponse { grants, next_page_token })
    }

    /// Takes a grant back, within a second also on streams that are open.
    ///
    /// # Errors
    /// `GRANT_NOT_FOUND`, also for one that the caller may not know of; `PERMISSION_DENIED`.
    pub async fn revoke_grant(
        &self,
        caller: &Caller,
        request: v1::RevokeGrantRequest,
    ) -> Result<v1::RevokeGrantResponse> {
        let mut mutation = self.begin().await;
        let known = self.inner.view.read().rights.grants.get(&*request.id).cloned();
        let known = known.ok_or_else(|| not_found(&request.id))?;
        let is_own = caller.team.as_deref() == Some(&*known.grant.team);
        if !is_own {
            let scope = known.grant.scope.clone().unwrap_or_default();
            let rpc = Rpc::RevokeGrant;
            match &scope.what {
                Some(What::Product(_)) => match self.find(&scope.product_id) {
                    Some(product) => self.allow(caller, rpc, Resource::Product(&product))?,
                    None => self.allow_with(caller, rpc, Resource::Broker, ADMIN)?,
                },
                Some(What::Domain(name)) => self.allow(caller, rpc, Resource::Domain(name))?,
                _ => self.allow_with(caller, rpc, Resource::Broker, ADMIN)?,
            }
        }
        mutation.remove(Key::Grant(&known.grant.id));
        let act = Act::new("revoke_grant", Kind::Grant, &known.grant.id)
            .gone()
            .changes(facts::differences(&facts::of_grant(&known.grant), &Facts::new()));
        mutation.commit(caller, act).await?;
        Ok(v1::RevokeGrantResponse { grant: Some(known.grant.clone()) })
    }

    /// What a caller, or a team, may do with something, and why.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `PERMISSION_DENIED` for another team, `INVALID_ARGUMENT`.
    pub fn check_access(
        &self,
        caller: &Caller,
        request: v1::CheckAccessRequest,
    ) -> Result<v1::CheckAccessResponse> {
        let asked = permissions_of([request.permission()].into_iter());
        if asked.is_empty() {
            return Err(invalid("permission", "say which, for instance CONSUME"));
        }
        let product = match request.product.as_str() {
            "" => None,
            name => Some(self.resolve_for(caller, Rpc::GetProduct, name, "")?),
        };
        let resource = match (&product, request.domain.as_str()) {
            (Some(_), domain) if !domain.is_empty() => {
                return Err(invalid("domain", "ask about a product or about a domain, not both"));
            }
            (Some(product), _) => Resource::Product(product),
            (None, "") => Resource::Broker,
            (None, name) => Resource::Domain(name),
        };
        let own = caller.team.as_deref().unwrap_or_default();
        let is_about_caller =
            request.team.is_empty() || request.team == own && request.application.is_empty();
        if !is_about_caller {
            let may = MANAGE.with(GOVERN);
            self.allow_with(caller, Rpc::CheckAccess, resource, may)?;
        }
        let team = if request.team.is_empty() { own } else { &request.team };
        let application = match request.application.as_str() {
            "" => &*caller.application,
            named => named,
        };
        let who = Who { team, application, now: self.inner.storage.now() };
        let mut reasons = Vec::new();
        let view = self.inner.view.read();
        let by_rules = view.held_by(&who, resource, |because| reasons.push(said(&because)));
        let by_rules = match is_about_caller {
            true => by_rules,
            false => view.left_to_team(&who, resource, by_rules, &mut reasons),
        };
        drop(view);
        let held = match is_about_caller {
            true => self.holds(caller, resource),
            false => by_rules,
        };
        if is_about_caller {
            reasons.extend(caller.limits_said());
            reasons.extend(self.policies_said(caller, resource));
        }
        Ok(v1::CheckAccessResponse {
            allowed: held.has_all(asked),
            permissions: named(held),
            reasons,
        })
    }
}

impl Mutation<'_> {
    /// Adds a checked grant to a change; gives it as it will be.
    pub(super) fn grant(&mut self, caller: &Caller, grant: v1::Grant) -> Result<v1::Grant> {
        if self.catalogue().inner.view.read().rights.grants.len() >= MAX_GRANTS {
            return Err(Error::new(
                Reason::LimitReached,
                format!("there are {MAX_GRANTS} grants, the most there can be; revoke some first"),
            )
            .with("limit", MAX_GRANTS));
        }
        let grant = v1::Grant {
            id: Ulid::generate().to_string().to_lowercase(),
            create_time: Some(self.now()),
            created_by: caller.principal(),
            ..grant
        };
        self.set(Key::Grant(&grant.id), &grant);
        Ok(grant)
    }

    /// Removes the grants and the requests that go with what is being deleted.
    pub(super) fn remove_rights(
        &mut self,
        is_gone: impl Fn(&v1::Grant) -> bool,
        is_moot: impl Fn(&v1::AccessRequest) -> bool,
    ) {
        let (grants, requests): (Vec<Arc<str>>, Vec<Arc<str>>) = {
            let view = self.catalogue().inner.view.read();
            let grants = view.rights.grants.iter().filter(|(_, known)| is_gone(&known.grant));
            let requests = view.rights.requests.iter().filter(|(_, request)| is_moot(request));
            (
                grants.map(|(id, _)| Arc::clone(id)).collect(),
                requests.map(|(id, _)| Arc::clone(id)).collect(),
            )
        };
        grants.iter().for_each(|id| self.remove(Key::Grant(id)));
        requests.iter().for_each(|id| self.remove(Key::AccessRequest(id)));
    }
}

pub(super) fn check_texts(grant: &v1::Grant, mutation: &Mutation<'_>) -> Result<()> {
    check_length("grant.purpose", &grant.purpose, MAX_PURPOSE_BYTES)?;
    check_length("grant.application", &grant.application, Caller::MAX_APPLICATION_BYTES)?;
    check_end(grant.expire_time, mutation)
}

/// Refuses an end that is over.
pub(super) fn check_end(
    ends: Option<prost_types::Timestamp>,
    mutation: &Mutation<'_>,
) -> Result<()> {
    let now = storage_time(&mutation.now());
    match ends {
        Some(ends) if storage_time(&ends) <= now => {
            Err(invalid("expire_time", "it is in the past"))
        }
        _ => Ok(()),
    }
}

/// As it is shown: products by the name that they have now.
fn shown(view: &super::view::View, grant: &v1::Grant) -> v1::Grant {
    let mut grant = grant.clone();
    if let Some(scope) = &mut grant.scope
        && let Some(product) = view.product_of(&scope.product_id)
    {
        scope.what = Some(What::Product(product.name.to_string()));
    }
    grant
}

/// A reason as a sentence.
fn said(because: &Because<'_>) -> String {
    let permissions = because.permissions;
    match &because.why {
        Why::Visible => "everybody who says who it is may discover it".to_owned(),
        Why::OwnsProduct => format!("the team owns the product: {permissions}"),
        Why::OwnsDomain => format!("the team owns the domain: {permissions}"),
        Why::OwnsIt => format!("the team owns it: {permissions}"),
        Why::Offered => "the product is offered to the team: discover".to_owned(),
        Why::Sandbox => format!("the sandbox is for every team: {permissions}"),
        Why::Granted(known) => format!("the grant {}: {permissions}", known.grant.id),
    }
}

fn not_found(id: &str) -> Error {
    let shown = super::name::shown(id);
    Error::new(
        Reason::GrantNotFound,
        format!("there is no grant `{shown}`; `meshlog access grants` shows those there are"),
    )
    .with("grant", shown)
}
