//! The subscription service over gRPC.

use meshlog_proto::v1::{self, subscription_service_server::SubscriptionService};
use tonic::{Request, Response, Status};

use super::convert::caller_of;
use super::status::status_of;
use crate::broker::Broker;

/// The subscription service of one server.
#[derive(Clone)]
pub(super) struct Subscriptions {
    broker: Broker,
}

impl Subscriptions {
    /// Of this broker.
    pub(super) fn new(broker: Broker) -> Self {
        Self { broker }
    }
}

#[tonic::async_trait]
impl SubscriptionService for Subscriptions {
    async fn commit_offsets(
        &self,
        request: Request<v1::CommitOffsetsRequest>,
    ) -> Result<Response<v1::CommitOffsetsResponse>, Status> {
        let caller = caller_of(&request);
        let answer = self.broker.commit_offsets(&caller, request.into_inner()).await;
        answer.map(Response::new).map_err(|error| status_of(&error))
    }

    async fn get_offsets(
        &self,
        request: Request<v1::GetOffsetsRequest>,
    ) -> Result<Response<v1::GetOffsetsResponse>, Status> {
        let caller = caller_of(&request);
        let answer = self.broker.get_offsets(&caller, request.into_inner());
        answer.map(Response::new).map_err(|error| status_of(&error))
    }

    async fn list_cursors(
        &self,
        request: Request<v1::ListCursorsRequest>,
    ) -> Result<Response<v1::ListCursorsResponse>, Status> {
        let caller = caller_of(&request);
        let answer = self.broker.list_cursors(&caller, request.into_inner());
        answer.map(Response::new).map_err(|error| status_of(&error))
    }

    async fn delete_cursor(
        &self,
        request: Request<v1::DeleteCursorRequest>,
    ) -> Result<Response<v1::DeleteCursorResponse>, Status> {
        let caller = caller_of(&request);
        let answer = self.broker.delete_cursor(&caller, request.into_inner()).await;
        answer.map(Response::new).map_err(|error| status_of(&error))
    }
}
