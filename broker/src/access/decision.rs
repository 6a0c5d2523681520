//! The decision.

use std::fmt;
use std::sync::Arc;

use super::permission::Permissions;
use super::table::{Need, Rpc};
use crate::audit::{Denial, Refused};
use crate::broker::Broker;
use crate::caller::Caller;
use crate::catalogue::{Catalogue, ProductHandle, product_not_found};
use crate::error::{Error, Reason, Result};
use crate::identity;

/// What a call is about.
#[derive(Clone, Copy, Debug)]
pub enum Resource<'a> {
    /// The broker as a whole.
    Broker,
    /// The domain of this name.
    Domain(&'a str),
    /// The team of this name.
    Team(&'a str),
    /// The tag key of this name.
    TagKey(&'a str),
    /// A product.
    Product(&'a ProductHandle),
}

impl fmt::Display for Resource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broker => f.write_str("the broker"),
            Self::Domain(name) => write!(f, "the domain `{name}`"),
            Self::Team(name) => write!(f, "the team `{name}`"),
            Self::TagKey(name) => write!(f, "the tag key `{name}`"),
            Self::Product(product) => write!(f, "the product `{}`", product.name),
        }
    }
}

impl Catalogue {
    /// Refuses a call that the caller may not make.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `PRODUCT_NOT_FOUND` for a product that the caller may not even see.
    pub fn allow(&self, caller: &Caller, rpc: Rpc, resource: Resource<'_>) -> Result<()> {
        match rpc.row().need {
            Need::Open => Ok(()),
            Need::Authenticated if self.trusts(caller) => Ok(()),
            // Who it is was found out at the edge.
            Need::Authenticated => match caller.is_open() {
                true => Err(identity::missing()),
                false => Ok(()),
            },
            Need::AnyOf(needed) => self.allow_with(caller, rpc, resource, needed),
        }
    }

    /// As [`Catalogue::allow`], where not the row of the call but something in it says which
    /// permissions it needs, of which one is enough.
    ///
    /// # Errors
    /// As [`Catalogue::allow`].
    pub(crate) fn allow_with(
        &self,
        caller: &Caller,
        rpc: Rpc,
        resource: Resource<'_>,
        needed: Permissions,
    ) -> Result<()> {
        if caller.is_trusted() {
            return Ok(());
        }
        let held = self.holds(caller, resource);
        match held.has_any(needed) {
            true => Ok(()),
            false => Err(self.refusal(caller, rpc, resource, held, needed)),
        }
    }

    /// Refuses to give away permissions that the caller lacks itself.
    ///
    /// # Errors
    /// As [`Catalogue::allow`].
    pub(crate) fn allow_all(
        &self,
        caller: &Caller,
        rpc: Rpc,
        resource: Resource<'_>,
        given: Permissions,
    ) -> Result<()> {
        let held = self.holds(caller, resource);
        let lacking = given.without(held);
        match lacking.is_empty() {
            true => Ok(()),
            false => Err(self.refusal(caller, rpc, resource, held, lacking)),
        }
    }

    /// Whether a caller is not asked who it is: one inside the process, or any while there are no keys.
    pub(crate) fn trusts(&self, caller: &Caller) -> bool {
        caller.is_trusted() || caller.is_open() && !self.is_protected()
    }

    /// Whether a caller may make a call, without a word to anybody if not.
    #[must_use]
    pub fn allows(&self, caller: &Caller, rpc: Rpc, resource: Resource<'_>) -> bool {
        rpc.row().need.is_met(|| self.holds(caller, resource))
    }

    /// The product of this name, for a call that the caller may make on it.
    ///
    /// # Errors
    /// Those of [`Catalogue::resolve`] and [`Catalogue::allow`].
    pub fn resolve_for(
        &self,
        caller: &Caller,
        rpc: Rpc,
        name: &str,
        product_id: &str,
    ) -> Result<Arc<ProductHandle>> {
        if self.trusts(caller) {
            return self.resolve(name, product_id);
        }
        // The id comes last: an error about it tells that the product exists.
        let handle = self.resolve(name, "")?;
        self.allow(caller, rpc, Resource::Product(&handle)).map_err(|error| unseen(error, name))?;
        match product_id.is_empty() || *handle.id == *product_id {
            true => Ok(handle),
            false => self.resolve(name, product_id),
        }
    }

    #[cold]
    fn refusal(
        &self,
        caller: &Caller,
        rpc: Rpc,
        resource: Resource<'_>,
        held: Permissions,
        needed: Permissions,
    ) -> Error {
        let by_policy = self.refused_by_policy(caller, resource, needed);
        let error = by_policy.unwrap_or_else(|| match resource {
            _ if caller.is_open() => identity::missing(),
            Resource::Product(product) if held.is_empty() => product_not_found(&product.name),
            _ => permission_denied(caller, resource, needed),
        });
        self.denied(caller, rpc.row().path, &resource.to_string(), error.reason());
        error
    }

    /// Is told of every call that was refused because of who made it: for the log, and for the audit
    /// log.
    pub(crate) fn denied(&self, caller: &Caller, rpc: &str, resource: &str, reason: Reason) {
        tracing::info!(
            principal = &*caller.principal,
            application = &*caller.application,
            rpc,
            resource,
            reason = reason.text(),
            "a call was refused"
        );
        let refused = match reason {
            Reason::PermissionDenied | Reason::ProductNotFound => Refused::Access,
            _ => Refused::Authentication,
        };
        self.refused_call(caller, Denial { refused, action: rpc, resource, reason: reason.text() });
    }
}

impl Broker {
    /// As [`Catalogue::denied`], for calls that were refused before they reached the catalogue.
    #[cfg_attr(not(feature = "edge"), expect(dead_code, reason = "only the edge refuses calls"))]
    pub(crate) fn denied(&self, caller: &Caller, rpc: &str, resource: &str, reason: Reason) {
        self.catalogue().denied(caller, rpc, resource, reason);
    }
}

/// A product that one may not see is told by the name that was asked for.
fn unseen(error: Error, asked: &str) -> Error {
    match error.reason() {
        Reason::ProductNotFound => product_not_found(asked),
        _ => error,
    }
}

fn permission_denied(caller: &Caller, resource: Resource<'_>, needed: Permissions) -> Error {
    let names: Vec<&str> = needed.iter().map(|permission| permission.text()).collect();
    let needed = names.join(" or ");
    let next = match resource {
        Resource::Product(product) => format!(
            "ask its owner for it: `meshlog product request-access {} --purpose TEXT`",
            product.name
        ),
        Resource::Domain(_) | Resource::Team(_) | Resource::TagKey(_) => {
            "ask its owner or an administrator for it".to_owned()
        }
        Resource::Broker => "ask an administrator for it".to_owned(),
    };
    let error = Error::new(
        Reason::PermissionDenied,
        format!("{} lacks the permission {needed} on {resource}; {next}", caller.principal),
    )
    .with("principal", &caller.principal)
    .with("permission", &needed);
    match resource {
        Resource::Broker => error,
        Resource::Domain(name) => error.with("domain", name),
        Resource::Team(name) => error.with("team", name),
        Resource::TagKey(name) => error.with("tag_key", name),
        Resource::Product(product) => error.with("product", &product.name),
    }
}
