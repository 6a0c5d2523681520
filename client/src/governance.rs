//! Keys, grants and requests for access.

use meshlog_proto::v1;

use crate::{
    Result,
    calls::{every_page, members},
    transport::Connection,
};

/// Who may do what on a broker: keys, grants, requests for access. Messages are those of the contract
/// ([`crate::proto`]); every change is durable before it is answered.
///
/// Errors are the broker's, as `docs/errors.md` lists them, or `CONNECTION_LOST`.
#[derive(Clone)]
pub struct Governance {
    connection: Connection,
}

impl std::fmt::Debug for Governance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Governance").finish_non_exhaustive()
    }
}

macro_rules! calls {
    ($($(#[$doc:meta])* $method:ident($request:ident) -> $response:ident;)*) => {
        impl Governance {
            $($(#[$doc])*
            ///
            /// # Errors
            /// As the broker says.
            pub async fn $method(&self, request: v1::$request) -> Result<v1::$response> {
                self.connection.$method(request).await
            })*
        }
    };
}

calls! {
    /// Makes a key. The answer alone has its secret.
    create_key(CreateKeyRequest) -> CreateKeyResponse;
    /// Grants what was asked for.
    approve_access(ApproveAccessRequest) -> ApproveAccessResponse;
    /// What somebody may do with something, and why.
    check_access(CheckAccessRequest) -> CheckAccessResponse;
}

members! {
    Governance {
        /// Ends a key.
        revoke_key(RevokeKeyRequest) -> key: ApiKey;
        /// Asks the owner of a product for access to it.
        request_access(RequestAccessRequest) -> request: AccessRequest;
        /// Refuses what was asked for.
        deny_access(DenyAccessRequest) -> request: AccessRequest;
        /// Gives a team permissions.
        create_grant(CreateGrantRequest) -> grant: Grant;
        /// Takes a grant back.
        revoke_grant(RevokeGrantRequest) -> grant: Grant;
    }
}

macro_rules! lists {
    ($($(#[$doc:meta])* $method:ident($request:ident) -> $answer:ident: $message:ident;)*) => {
        impl Governance {
            $($(#[$doc])*
            ///
            /// # Errors
            /// As the broker says.
            pub async fn $method(&self, request: v1::$request) -> Result<Vec<v1::$message>> {
                every_page!(self.connection, $method(request) -> $answer)
            })*
        }
    };
}

lists! {
    /// Keys by id, without their secrets.
    list_keys(ListKeysRequest) -> keys: ApiKey;
    /// Requests for access, newest first.
    list_access_requests(ListAccessRequestsRequest) -> requests: AccessRequest;
    /// Grants by id.
    list_grants(ListGrantsRequest) -> grants: Grant;
}

impl Governance {
    pub(crate) fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// Who this client is to the broker.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn who_am_i(&self) -> Result<v1::WhoAmIResponse> {
        self.connection.who_am_i(v1::WhoAmIRequest {}).await
    }
}
