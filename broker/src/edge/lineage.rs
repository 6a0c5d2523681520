//! The lineage service over gRPC.

use meshlog_proto::v1::{self, lineage_service_server::LineageService};
use tonic::{Request, Response, Status};

use super::convert::caller_of;
use super::status::status_of;
use crate::broker::Broker;

/// The lineage service of one server.
#[derive(Clone)]
pub(super) struct Lineage {
    broker: Broker,
}

impl Lineage {
    /// Of this broker.
    pub(super) fn new(broker: Broker) -> Self {
        Self { broker }
    }
}

#[tonic::async_trait]
impl LineageService for Lineage {
    async fn get_lineage(
        &self,
        request: Request<v1::GetLineageRequest>,
    ) -> Result<Response<v1::GetLineageResponse>, Status> {
        let caller = caller_of(&request);
        let answer = self.broker.catalogue().get_lineage(&caller, request.into_inner());
        answer.map(Response::new).map_err(|error| status_of(&error))
    }

    async fn get_impact(
        &self,
        request: Request<v1::GetImpactRequest>,
    ) -> Result<Response<v1::GetImpactResponse>, Status> {
        let caller = caller_of(&request);
        let answer = self.broker.catalogue().get_impact(&caller, request.into_inner());
        answer.map(Response::new).map_err(|error| status_of(&error))
    }
}
