//! The schema service over gRPC.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use futures_util::{FutureExt as _, Stream, stream};
use meshlog_proto::v1::{self, schema_service_server::SchemaService};
use tonic::{Request, Response, Status};

use super::call::panicked;
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

    type CheckCompatibilityStream =
        Pin<Box<dyn Stream<Item = Result<v1::CheckCompatibilityResponse, Status>> + Send>>;

    async fn check_compatibility(
        &self,
        request: Request<v1::CheckCompatibilityRequest>,
    ) -> Result<Response<Self::CheckCompatibilityStream>, Status> {
        let caller = caller_of(&request);
        let check = self.broker.check_compatibility(&caller, request.into_inner()).await;
        let check = check.map_err(|error| status_of(&error))?;
        let messages = stream::unfold(Some(check), |check| async move {
            let mut check = check?;
            let item = match AssertUnwindSafe(check.next()).catch_unwind().await {
                Ok(message) => message?.map_err(|error| status_of(&error)),
                Err(_) => Err(status_of(&panicked("SchemaService/CheckCompatibility"))),
            };
            let going_on = item.is_ok().then_some(check);
            Some((item, going_on))
        });
        Ok(Response::new(Box::pin(messages)))
    }

    async fn get_schema_version(
        &self,
        request: Request<v1::GetSchemaVersionRequest>,
    ) -> Result<Response<v1::GetSchemaVersionResponse>, Status> {
        let caller = caller_of(&request);
        let answer = self.broker.catalogue().get_schema_version(&caller, request.into_inner());
        answer.map(Response::new).map_err(|error| status_of(&error))
    }

    async fn list_schema_versions(
        &self,
        request: Request<v1::ListSchemaVersionsRequest>,
    ) -> Result<Response<v1::ListSchemaVersionsResponse>, Status> {
        let caller = caller_of(&request);
        let answer = self.broker.catalogue().list_schema_versions(&caller, request.into_inner());
        answer.map(Response::new).map_err(|error| status_of(&error))
    }
}
