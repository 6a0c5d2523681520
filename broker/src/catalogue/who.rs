//! Who the caller is.

use meshlog_proto::v1;

use super::Catalogue;
use super::rights::named;
use crate::Caller;
use crate::access::{Permissions, Resource, Rpc};
use crate::caller::Authority;
use crate::error::Result;
use crate::time::proto_time;

impl Catalogue {
    /// Who the caller is, and what its proof can be used for.
    ///
    /// # Errors
    /// Why it is not known any more.
    pub fn who_am_i(
        &self,
        caller: &Caller,
        _request: v1::WhoAmIRequest,
    ) -> Result<v1::WhoAmIResponse> {
        self.allow(caller, Rpc::WhoAmI, Resource::Broker)?;
        let session = match &caller.authority {
            Authority::Proven(session) => Some(session),
            _ => None,
        };
        let limits = session.map(|session| session.limits.permissions);
        let limits = limits.filter(|limits| *limits != Permissions::ALL);
        Ok(v1::WhoAmIResponse {
            principal: caller.principal(),
            team: caller.team.as_deref().unwrap_or_default().to_owned(),
            application: caller.application.to_string(),
            authenticated: session.is_some(),
            admin: session.is_none_or(|session| session.is_admin),
            expire_time: session.and_then(|session| session.ends).map(proto_time),
            permissions: limits.map(named).unwrap_or_default(),
            authentication_required: self.is_protected(),
        })
    }
}
