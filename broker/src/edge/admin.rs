//! The admin service over gRPC.

use meshlog_proto::v1::{self, admin_service_server::AdminService};
use tonic::{Request, Response, Status};

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
}
