//! Requests for access: a team asks, the owner decides, and the approval is the grant.

use std::sync::Arc;

use meshlog_proto::v1::{self, AccessRequestState, access_scope::What};
use ulid::Ulid;

use super::audit::{Act, Kind};
use super::facts::{self, Facts};
use super::grant::{MAX_PURPOSE_BYTES, check_end};
use super::page::Page;
use super::rights::{named, permissions_of};
use super::stored::Key;
use super::view::View;
use super::{Catalogue, check_length, invalid};
use crate::Caller;
use crate::access::{Permission, Permissions, Resource, Rpc};
use crate::error::{Error, Reason, Result};

/// Most requests, the decided ones included: the oldest of those make room.
const MAX_REQUESTS: usize = 10_000;
/// Most requests of one team that wait.
const MAX_WAITING: usize = 100;

/// What can be asked for.
const ASKABLE: Permissions = Permissions::of(&[
    Permission::Discover,
    Permission::Consume,
    Permission::Produce,
    Permission::Schema,
    Permission::Manage,
]);

impl Catalogue {
    /// Asks the owner of a product for access to it. A request that waits already is answered again.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `FIELD_MISSING` (the purpose), `INVALID_ARGUMENT`, `STATE_INVALID` for a
    /// caller without a team or one that has the permissions already, `LIMIT_REACHED`.
    pub async fn request_access(
        &self,
        caller: &Caller,
        request: v1::RequestAccessRequest,
    ) -> Result<v1::RequestAccessResponse> {
        let mut mutation = self.begin().await;
        let product = self.resolve_for(caller, Rpc::RequestAccess, &request.product, "")?;
        product.refuse_attached()?;
        let team = caller.team.clone().filter(|team| !team.is_empty()).ok_or_else(|| {
            let what =
                "access is asked for by a team, and this caller has none; use a key of a team";
            Error::new(Reason::StateInvalid, what).with("principal", &caller.principal)
        })?;
        if request.purpose.trim().is_empty() {
            let what = "say what it is for: the owner decides by it (`--purpose TEXT`)";
            return Err(Error::new(Reason::FieldMissing, what)
                .with("field", "purpose")
                .with_violation("purpose", what));
        }
        check_length("purpose", &request.purpose, MAX_PURPOSE_BYTES)?;
        check_length("application", &request.application, Caller::MAX_APPLICATION_BYTES)?;
        check_end(request.expire_time, &mutation)?;
        let asked = match request.permissions.is_empty() {
            true => Permissions::of(&[Permission::Consume]),
            false => permissions_of(request.permissions()),
        };
        if asked.is_empty() || !ASKABLE.has_all(asked) {
            return Err(invalid("permissions", format!("these can be asked for: {ASKABLE}")));
        }
        if self.holds(caller, Resource::Product(&product)).has_all(asked) {
            let what = format!("{} has {asked} on `{}` already", caller.principal, product.name);
            return Err(Error::new(Reason::StateInvalid, what).with("product", &product.name));
        }
        let fresh = v1::AccessRequest {
            product: product.name.to_string(),
            product_id: product.id.to_string(),
            team: team.to_string(),
            application: request.application,
            permissions: named(asked),
            purpose: request.purpose,
            state: AccessRequestState::Pending.into(),
            owner: product.owner().to_owned(),
            expire_time: request.expire_time,
            ..Default::default()
        };
        let oldest_decided = {
            let view = self.inner.view.read();
            let waiting =
                view.rights.requests.values().filter(|one| {
                    one.state() == AccessRequestState::Pending && one.team == fresh.team
                });
            let same = waiting.clone().find(|one| {
                one.product_id == fresh.product_id
                    && one.application == fresh.application
                    && one.permissions == fresh.permissions
            });
            if let Some(same) = same {
                let request = Some(shown(&view, same));
                return Ok(v1::RequestAccessResponse { request });
            }
            if waiting.count() >= MAX_WAITING {
                return Err(full(MAX_WAITING, "requests of this team wait"));
            }
            oldest_decided(&view)?
        };
        if request.validate_only {
            return Ok(v1::RequestAccessResponse { request: Some(fresh) });
        }
        if let Some(oldest) = oldest_decided {
            mutation.remove(Key::AccessRequest(&oldest));
        }
        let fresh = v1::AccessRequest {
            id: Ulid::generate().to_string().to_lowercase(),
            create_time: Some(mutation.now()),
            created_by: caller.principal(),
            ..fresh
        };
        mutation.set(Key::AccessRequest(&fresh.id), &fresh);
        let act = Act::new("request_access", Kind::AccessRequest, &fresh.id)
            .changes(facts::differences(&Facts::new(), &facts::of_access_request(&fresh)));
        mutation.commit(caller, act).await?;
        Ok(v1::RequestAccessResponse { request: Some(fresh) })
    }

    /// Requests, newest first: those of the caller's team, and those that it may decide.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `INVALID_ARGUMENT` for a page token of another list.
    pub fn list_access_requests(
        &self,
        caller: &Caller,
        request: v1::ListAccessRequestsRequest,
    ) -> Result<v1::ListAccessRequestsResponse> {
        let list = format!("requests {} {}", request.product, request.include_decided);
        let page = Page::asked(&list, request.page_size, &request.page_token)?;
        let product = match request.product.as_str() {
            "" => None,
            name => Some(self.resolve_for(caller, Rpc::GetProduct, name, "")?),
        };
        let view = self.inner.view.read();
        let sees_all = view
            .holds(caller, Resource::Broker, self.inner.storage.now())
            .has_any(Permissions::of(&[Permission::Govern]));
        let decides = |one: &v1::AccessRequest| {
            view.product_of(&one.product_id).is_some_and(|product| {
                let about = Resource::Product(product);
                self.inner.allows_in(&view, caller, Rpc::ApproveAccess, about)
            })
        };
        let requests = view.rights.requests.iter().rev().filter(|(id, one)| {
            let is_on = product.as_ref().is_none_or(|product| *one.product_id == *product.id);
            let is_shown = request.include_decided || one.state() == AccessRequestState::Pending;
            let is_own = caller.team.as_deref() == Some(&*one.team);
            let is_next = page.after.is_empty() || ***id < *page.after;
            is_next && is_on && is_shown && (is_own || sees_all || decides(one))
        });
        let mut requests: Vec<v1::AccessRequest> =
            requests.map(|(_, one)| shown(&view, one)).take(page.size + 1).collect();
        drop(view);
        let next_page_token = page.cut(&mut requests, |one| &one.id);
        Ok(v1::ListAccessRequestsResponse { requests, next_page_token })
    }

    /// Grants what was asked for.
    ///
    /// # Errors
    /// `ACCESS_REQUEST_NOT_FOUND`, `PERMISSION_DENIED`, `STATE_INVALID` if it is decided already,
    /// `INVALID_ARGUMENT`, `LIMIT_REACHED`.
    pub async fn approve_access(
        &self,
        caller: &Caller,
        request: v1::ApproveAccessRequest,
    ) -> Result<v1::ApproveAccessResponse> {
        let mut mutation = self.begin().await;
        let before = self.pending_request(caller, Rpc::ApproveAccess, &request.id)?;
        check_length("reason", &request.reason, MAX_PURPOSE_BYTES)?;
        let ends = request.expire_time.or(before.expire_time);
        check_end(ends, &mutation)?;
        let product = self.find(&before.product_id).ok_or_else(|| not_found(&request.id))?;
        let asked = permissions_of(before.permissions());
        self.allow_all(caller, Rpc::ApproveAccess, Resource::Product(&product), asked)?;
        let scope = v1::AccessScope {
            what: Some(What::Product(product.name.to_string())),
            product_id: product.id.to_string(),
        };
        let grant = v1::Grant {
            team: before.team.clone(),
            application: before.application.clone(),
            permissions: before.permissions.clone(),
            scope: Some(scope),
            purpose: before.purpose.clone(),
            expire_time: ends,
            request_id: before.id.clone(),
            ..Default::default()
        };
        let grant = mutation.grant(caller, grant)?;
        let decided = v1::AccessRequest {
            state: AccessRequestState::Approved.into(),
            decide_time: Some(mutation.now()),
            decided_by: caller.principal(),
            reason: request.reason,
            grant_id: grant.id.clone(),
            ..before.clone()
        };
        mutation.set(Key::AccessRequest(&decided.id), &decided);
        let act = Act::new("approve_access", Kind::AccessRequest, &decided.id)
            .changes(facts::differences(
                &facts::of_access_request(&before),
                &facts::of_access_request(&decided),
            ))
            .along("grant", facts::differences(&Facts::new(), &facts::of_grant(&grant)));
        mutation.commit(caller, act).await?;
        Ok(v1::ApproveAccessResponse { request: Some(decided), grant: Some(grant) })
    }

    /// Refuses what was asked for.
    ///
    /// # Errors
    /// As [`Catalogue::approve_access`].
    pub async fn deny_access(
        &self,
        caller: &Caller,
        request: v1::DenyAccessRequest,
    ) -> Result<v1::DenyAccessResponse> {
        let mut mutation = self.begin().await;
        let before = self.pending_request(caller, Rpc::DenyAccess, &request.id)?;
        check_length("reason", &request.reason, MAX_PURPOSE_BYTES)?;
        let decided = v1::AccessRequest {
            state: AccessRequestState::Denied.into(),
            decide_time: Some(mutation.now()),
            decided_by: caller.principal(),
            reason: request.reason,
            ..before.clone()
        };
        mutation.set(Key::AccessRequest(&decided.id), &decided);
        let act =
            Act::new("deny_access", Kind::AccessRequest, &decided.id).changes(facts::differences(
                &facts::of_access_request(&before),
                &facts::of_access_request(&decided),
            ));
        mutation.commit(caller, act).await?;
        Ok(v1::DenyAccessResponse { request: Some(decided) })
    }

    /// A request that the caller may decide, and that is not decided.
    fn pending_request(&self, caller: &Caller, rpc: Rpc, id: &str) -> Result<v1::AccessRequest> {
        let (found, product) = {
            let view = self.inner.view.read();
            let found = view.rights.requests.get(id).map(|one| shown(&view, one));
            let product = found.as_ref().and_then(|one| view.product_of(&one.product_id).cloned());
            (found, product)
        };
        let (Some(found), Some(product)) = (found, product) else { return Err(not_found(id)) };
        let is_own = caller.team.as_deref() == Some(&*found.team);
        let allowed = self.allow(caller, rpc, Resource::Product(&product));
        allowed.map_err(|error| match is_own {
            // Whoever asked knows of it; others are told as if it did not exist.
            true => error,
            false if error.reason() == Reason::ProductNotFound => not_found(id),
            false => error,
        })?;
        if found.state() != AccessRequestState::Pending {
            let state = match found.state() {
                AccessRequestState::Approved => "approved",
                _ => "denied",
            };
            return Err(Error::new(
                Reason::StateInvalid,
                format!(
                    "the request {id} was {state} by {}; what it granted is taken back with \
                     `meshlog access revoke GRANT`",
                    found.decided_by
                ),
            )
            .with("access_request", id));
        }
        Ok(found)
    }
}

/// As it is shown: with the name and the owner that the product has now.
fn shown(view: &View, request: &v1::AccessRequest) -> v1::AccessRequest {
    let mut request = request.clone();
    if let Some(product) = view.product_of(&request.product_id) {
        request.product = product.name.to_string();
        request.owner = product.owner().to_owned();
    }
    request
}

/// The oldest decided request, if there are as many as there may be.
fn oldest_decided(view: &View) -> Result<Option<Arc<str>>> {
    let requests = &view.rights.requests;
    if requests.len() < MAX_REQUESTS {
        return Ok(None);
    }
    let mut decided = requests.iter().filter(|(_, one)| one.state() != AccessRequestState::Pending);
    match decided.next() {
        Some((id, _)) => Ok(Some(Arc::clone(id))),
        None => Err(full(MAX_REQUESTS, "requests wait")),
    }
}

fn full(limit: usize, what: &str) -> Error {
    let text = format!("{limit} {what}, the most there can be; have some decided first");
    Error::new(Reason::LimitReached, text).with("limit", limit)
}

fn not_found(id: &str) -> Error {
    let shown = super::name::shown(id);
    Error::new(
        Reason::AccessRequestNotFound,
        format!("there is no request `{shown}`; `meshlog access requests` shows those there are"),
    )
    .with("access_request", shown)
}
