//! The governance service over gRPC.

use meshlog_proto::v1::{self, governance_service_server::GovernanceService};
use tonic::{Request, Response, Status};

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

#[tonic::async_trait]
impl GovernanceService for Governance {
    async fn list_audit(
        &self,
        request: Request<v1::ListAuditRequest>,
    ) -> Result<Response<v1::ListAuditResponse>, Status> {
        let answer = self.broker.list_audit(request.into_inner()).await;
        answer.map(Response::new).map_err(|error| status_of(&error))
    }

    async fn verify_audit(
        &self,
        request: Request<v1::VerifyAuditRequest>,
    ) -> Result<Response<v1::VerifyAuditResponse>, Status> {
        let answer = self.broker.verify_audit(request.into_inner()).await;
        answer.map(Response::new).map_err(|error| status_of(&error))
    }
}
