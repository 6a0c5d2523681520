//! The admin service over gRPC.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use futures_util::{FutureExt as _, Stream, stream};
use meshlog_proto::v1::{self, admin_service_server::AdminService};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::call::panicked;
use super::convert::caller_of;
use super::status::status_of;
use crate::backup::Backup;
use crate::broker::Broker;

/// The admin service of one server.
#[derive(Clone)]
pub(super) struct Admin {
    broker: Broker,
    drain: CancellationToken,
}

impl Admin {
    /// Of this broker; backups end when `drain` is cancelled.
    pub(super) fn new(broker: Broker, drain: CancellationToken) -> Self {
        Self { broker, drain }
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

    type BackupStream = Pin<Box<dyn Stream<Item = Result<v1::BackupResponse, Status>> + Send>>;

    async fn backup(
        &self,
        request: Request<v1::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let caller = caller_of(&request);
        let backup = self.broker.backup(&caller, request.into_inner()).await;
        let backup = backup.map_err(|error| status_of(&error))?.until(self.drain.clone());
        Ok(Response::new(Box::pin(backup_responses(backup))))
    }

    async fn trim_product(
        &self,
        request: Request<v1::TrimProductRequest>,
    ) -> Result<Response<v1::TrimProductResponse>, Status> {
        let caller = caller_of(&request);
        let answer = self.broker.trim_product(&caller, request.into_inner()).await;
        answer.map(Response::new).map_err(|error| status_of(&error))
    }

    async fn erase_deleted_records(
        &self,
        request: Request<v1::EraseDeletedRecordsRequest>,
    ) -> Result<Response<v1::EraseDeletedRecordsResponse>, Status> {
        let caller = caller_of(&request);
        let answer = self.broker.erase_deleted_records(&caller, request.into_inner()).await;
        answer.map(Response::new).map_err(|error| status_of(&error))
    }

    async fn explain_retention(
        &self,
        request: Request<v1::ExplainRetentionRequest>,
    ) -> Result<Response<v1::ExplainRetentionResponse>, Status> {
        let caller = caller_of(&request);
        let answer = self.broker.explain_retention(&caller, request.into_inner()).await;
        answer.map(Response::new).map_err(|error| status_of(&error))
    }
}

fn backup_responses(
    backup: Backup,
) -> impl Stream<Item = Result<v1::BackupResponse, Status>> + Send {
    stream::unfold(Some(backup), |backup| async move {
        let mut backup = backup?;
        let item = match AssertUnwindSafe(backup.next()).catch_unwind().await {
            Ok(None) => return None,
            Ok(Some(message)) => message.map_err(|error| status_of(&error)),
            Err(_) => Err(status_of(&panicked("AdminService/Backup"))),
        };
        let going_on = item.is_ok().then_some(backup);
        Some((item, going_on))
    })
}
