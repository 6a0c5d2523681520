//! The record service over gRPC.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use meshlog_proto::server_v1::{self, record_service_server::RecordService};
use meshlog_proto::v1;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::call::{explain, panicked};
use super::convert::{append_result, caller_of};
use super::messages::Later;
use super::status::status_of;
use crate::broker::Broker;
use crate::error::{Error, Reason, Result};
use crate::record::{AppendStream, Subscription};

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The record service of one server.
#[derive(Clone)]
pub(super) struct Records {
    broker: Broker,
    drain: CancellationToken,
}

impl Records {
    /// Of this broker; streams end when `drain` is cancelled.
    pub(super) fn new(broker: Broker, drain: CancellationToken) -> Self {
        Self { broker, drain }
    }
}

#[tonic::async_trait]
impl RecordService for Records {
    async fn append(
        &self,
        request: Request<server_v1::AppendRequest>,
    ) -> Result<Response<v1::AppendResponse>, Status> {
        let caller = caller_of(&request);
        let appended = self.broker.append(&caller, request.into_inner()).await;
        appended.map(Response::new).map_err(|error| status_of(&error))
    }

    type AppendStreamStream = Responses<v1::AppendStreamResponse>;

    async fn append_stream(
        &self,
        request: Request<Streaming<server_v1::AppendStreamRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        let caller = caller_of(&request);
        let requests = request.into_inner().map(|item| item.map_err(|status| broken(&status)));
        let results = self.broker.append_stream_until(caller, requests, self.drain.clone());
        Ok(Response::new(Box::pin(append_responses(results))))
    }

    async fn read(
        &self,
        request: Request<v1::ReadRequest>,
    ) -> Result<Response<server_v1::ReadResponse>, Status> {
        let caller = caller_of(&request);
        tokio::select! {
            read = self.broker.read(&caller, request.into_inner()) => {
                read.map(Response::new).map_err(|error| status_of(&error))
            }
            // A long poll must not hold up the drain.
            () = self.drain.cancelled() => Err(status_of(&Error::shutting_down())),
        }
    }

    type SubscribeStream = Responses<server_v1::SubscribeResponse>;

    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let caller = caller_of(&request);
        let subscription = self.broker.subscribe(&caller, request.into_inner()).await;
        let subscription = subscription.map_err(|error| status_of(&error))?;
        let messages = subscribe_responses(subscription.until(self.drain.clone()));
        // They become the body beside tonic, see there.
        let mut response = Response::new(Box::pin(stream::empty()) as Self::SubscribeStream);
        response.extensions_mut().insert(Later::new(messages));
        Ok(response)
    }

    async fn list_quarantined(
        &self,
        request: Request<v1::ListQuarantinedRequest>,
    ) -> Result<Response<v1::ListQuarantinedResponse>, Status> {
        let caller = caller_of(&request);
        let listed = self.broker.list_quarantined(&caller, request.into_inner()).await;
        listed.map(Response::new).map_err(|error| status_of(&error))
    }

    async fn redrive_quarantined(
        &self,
        request: Request<v1::RedriveQuarantinedRequest>,
    ) -> Result<Response<v1::RedriveQuarantinedResponse>, Status> {
        let caller = caller_of(&request);
        let redriven = self.broker.redrive_quarantined(&caller, request.into_inner()).await;
        redriven.map(Response::new).map_err(|error| status_of(&error))
    }

    async fn list_offsets(
        &self,
        request: Request<v1::ListOffsetsRequest>,
    ) -> Result<Response<v1::ListOffsetsResponse>, Status> {
        let caller = caller_of(&request);
        let offsets = self.broker.list_offsets(&caller, request.into_inner()).await;
        offsets.map(Response::new).map_err(|error| status_of(&error))
    }
}

/// Requests that end in an error: too large, unreadable, or the client is gone.
fn broken(status: &Status) -> Error {
    match status.code() {
        tonic::Code::OutOfRange | tonic::Code::ResourceExhausted | tonic::Code::Internal => {
            explain(status)
        }
        _ => Error::new(
            Reason::InvalidArgument,
            format!("the stream of requests broke off: {}", status.message()),
        ),
    }
}

fn append_responses(
    results: AppendStream,
) -> impl Stream<Item = Result<v1::AppendStreamResponse, Status>> + Send {
    stream::unfold(Some(results), |results| async move {
        let mut results = results?;
        let item = match AssertUnwindSafe(results.next()).catch_unwind().await {
            Ok(None) => return None,
            Ok(Some(Ok(outcomes))) => {
                let results = outcomes.into_iter().map(append_result).collect();
                Ok(v1::AppendStreamResponse { results })
            }
            Ok(Some(Err(error))) => Err(status_of(&error)),
            Err(_) => Err(status_of(&panicked("RecordService/AppendStream"))),
        };
        let going_on = item.is_ok().then_some(results);
        Some((item, going_on))
    })
}

fn subscribe_responses(
    subscription: Subscription,
) -> impl Stream<Item = Result<server_v1::SubscribeResponse, Status>> + Send {
    stream::unfold(Some(subscription), |subscription| async move {
        let mut subscription = subscription?;
        let item = match AssertUnwindSafe(subscription.next()).catch_unwind().await {
            Ok(None) => return None,
            Ok(Some(message)) => message.map_err(|error| status_of(&error)),
            Err(_) => Err(status_of(&panicked("RecordService/Subscribe"))),
        };
        let going_on = item.is_ok().then_some(subscription);
        Some((item, going_on))
    })
}
