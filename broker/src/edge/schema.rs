//! The schema service over gRPC.

use meshlog_proto::v1::{self, schema_service_server::SchemaService};
use tonic::{Request, Response, Status};

use super::convert::caller_of;
use super::status::status_of;
use crate::broker::Broker;

/// The schema service of one server.
#[derive(Clone)]
pub(super) struct Schemas {
    broker: Broker,
}

impl Schemas {
    /// Of this broker.
    pub(super) fn new(broker: Broker) -> Self {
        Self { broker }
    }
}

#[tonic::async_trait]
impl SchemaService for Schemas {
    async fn add_schema_version(
        &self,
        request: Request<v1::AddSchemaVersionRequest>,
    ) -> Result<Response<v1::AddSchemaVersionResponse>, Status> {
        let caller = caller_of(&request);
        let answer =
            self.broker.catalogue().add_schema_version(&caller, request.into_inner()).await;
        answer.map(Response::new).map_err(|error| status_of(&error))
    }

    async fn get_schema_version(
        &self,
        request: Request<v1::GetSchemaVersionRequest>,
    ) -> Result<Response<v1::GetSchemaVersionResponse>, Status> {
        let answer = self.broker.catalogue().get_schema_version(request.into_inner());
        answer.map(Response::new).map_err(|error| status_of(&error))
    }

    async fn list_schema_versions(
        &self,
        request: Request<v1::ListSchemaVersionsRequest>,
    ) -> Result<Response<v1::ListSchemaVersionsResponse>, Status> {
        let answer = self.broker.catalogue().list_schema_versions(request.into_inner());
        answer.map(Response::new).map_err(|error| status_of(&error))
    }
}
