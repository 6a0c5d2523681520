//! The admin service over gRPC.

use meshlog_proto::v1::{self, admin_service_server::AdminService};
use tonic::{Request, Response, Status};

use super::convert::caller_of;
use super::status::status_of;
use crate::broker::Broker;

/// The admin service of one server.
#[derive(Clone)]
pub(super) struct Admin {
    broker: Broker,
}

impl Admin {
    /// Of this broker.
    pub(super) fn new(broker: Broker) -> Self {
        Self { broker }
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn get_server_info(
        &self,
        _request: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::GetServerInfoResponse>, Status> {
        Ok(Response::new(self.broker.server_info()))
    }

    async fn trim_product(
        &self,
        request: Request<v1::TrimProductRequest>,
    ) -> Result<Response<v1::TrimProductResponse>, Status> {
        let caller = caller_of(request.metadata());
        let answer = self.broker.trim_product(&caller, request.into_inner()).await;
        answer.map(Response::new).map_err(|error| status_of(&error))
    }

    async fn erase_deleted_records(
        &self,
        request: Request<v1::EraseDeletedRecordsRequest>,
    ) -> Result<Response<v1::EraseDeletedRecordsResponse>, Status> {
        let answer = self.broker.erase_deleted_records(request.into_inner()).await;
        answer.map(Response::new).map_err(|error| status_of(&error))
    }

    async fn explain_retention(
        &self,
        request: Request<v1::ExplainRetentionRequest>,
    ) -> Result<Response<v1::ExplainRetentionResponse>, Status> {
        let answer = self.broker.explain_retention(request.into_inner()).await;
        answer.map(Response::new).map_err(|error| status_of(&error))
    }
}
