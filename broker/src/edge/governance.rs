//! The governance service over gRPC.

use meshlog_proto::v1::{self, governance_service_server::GovernanceService};
use tonic::{Request, Response, Status};

use super::by_catalogue::by_catalogue;
use super::convert::caller_of;
use super::status::status_of;
use crate::broker::Broker;

/// The governance service of one server.
#[derive(Clone)]
pub(super) struct Governance {
    broker: Broker,
}

impl Governance {
    /// Of this broker.
    pub(super) fn new(broker: Broker) -> Self {
        Self { broker }
    }
}

by_catalogue! {
    impl GovernanceService for Governance
    changes {
        create_key(CreateKeyRequest) -> CreateKeyResponse;
        revoke_key(RevokeKeyRequest) -> RevokeKeyResponse;
        request_access(RequestAccessRequest) -> RequestAccessResponse;
        approve_access(ApproveAccessRequest) -> ApproveAccessResponse;
        deny_access(DenyAccessRequest) -> DenyAccessResponse;
        create_grant(CreateGrantRequest) -> CreateGrantResponse;
        revoke_grant(RevokeGrantRequest) -> RevokeGrantResponse;
    }
    reads {
        who_am_i(WhoAmIRequest) -> WhoAmIResponse;
        list_keys(ListKeysRequest) -> ListKeysResponse;
        list_access_requests(ListAccessRequestsRequest) -> ListAccessRequestsResponse;
        list_grants(ListGrantsRequest) -> ListGrantsResponse;
        check_access(CheckAccessRequest) -> CheckAccessResponse;
    }
    others {
        async fn list_audit(
            &self,
            request: Request<v1::ListAuditRequest>,
        ) -> Result<Response<v1::ListAuditResponse>, Status> {
            let caller = caller_of(&request);
            let answer = self.broker.list_audit(&caller, request.into_inner()).await;
            answer.map(Response::new).map_err(|error| status_of(&error))
        }

        async fn verify_audit(
            &self,
            request: Request<v1::VerifyAuditRequest>,
        ) -> Result<Response<v1::VerifyAuditResponse>, Status> {
            let caller = caller_of(&request);
            let answer = self.broker.verify_audit(&caller, request.into_inner()).await;
            answer.map(Response::new).map_err(|error| status_of(&error))
        }
    }
}
