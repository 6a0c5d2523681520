//! All services of the port: ours, health and reflection.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use meshlog_proto::server_v1::record_service_server::RecordServiceServer;
use meshlog_proto::v1::admin_service_server::AdminServiceServer;
use meshlog_proto::v1::catalog_service_server::CatalogServiceServer;
use meshlog_proto::v1::governance_service_server::GovernanceServiceServer;
use meshlog_proto::v1::lineage_service_server::LineageServiceServer;
use meshlog_proto::v1::schema_service_server::SchemaServiceServer;
use meshlog_proto::v1::subscription_service_server::SubscriptionServiceServer;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::admin::Admin;
use super::catalog::Catalog;
use super::governance::Governance;
use super::lineage::Lineage;
use super::record::Records;
use super::schema::Schemas;
use super::subscription::Subscriptions;
use super::watched::watch;
use crate::broker::Broker;
use crate::error::{Error, Reason, Result};
use crate::metrics::CONTENT_TYPE;
use crate::record::limits::MAX_REQUEST_BYTES;

/// Room for the frame around a request of the largest size, and for a request that is a little too
/// large to be refused with the product's name instead of being cut off.
const DECODE_SLACK: usize = 64 << 10;

/// Every service of one server.
pub(super) struct Services {
    router: Router,
    health: HealthReporter,
}

/// The room on the disk: not serving while appends are refused for lack of it, and while it is
/// foretold to be full within a day.
const DISK: &str = "meshlog.disk";

/// What health is told about; the empty name is the whole server.
const NAMES: [&str; 8] = [
    "",
    DISK,
    <RecordServiceServer<Records> as NamedService>::NAME,
    <CatalogServiceServer<Catalog> as NamedService>::NAME,
    <SchemaServiceServer<Schemas> as NamedService>::NAME,
    <SubscriptionServiceServer<Subscriptions> as NamedService>::NAME,
    <LineageServiceServer<Lineage> as NamedService>::NAME,
    <AdminServiceServer<Admin> as NamedService>::NAME,
    <GovernanceServiceServer<Governance> as NamedService>::NAME,
];

impl Services {
    /// Of this broker; streams end when `drain` is cancelled.
    pub(super) async fn new(broker: &Broker, drain: &CancellationToken) -> Result<Self> {
        let records = Records::new(broker.clone(), drain.clone());
        let (health, health_service) = tonic_health::server::health_reporter();
        let grpc = Routes::new(
            RecordServiceServer::new(records)
                .max_decoding_message_size(MAX_REQUEST_BYTES + DECODE_SLACK),
        )
        .add_service(CatalogServiceServer::new(Catalog::new(broker.clone(), drain.clone())))
        .add_service(SchemaServiceServer::new(Schemas::new(broker.clone())))
        .add_service(SubscriptionServiceServer::new(Subscriptions::new(broker.clone())))
        .add_service(LineageServiceServer::new(Lineage::new(broker.clone())))
        .add_service(AdminServiceServer::new(Admin::new(broker.clone(), drain.clone())))
        .add_service(GovernanceServiceServer::new(Governance::new(broker.clone())))
        .add_service(health_service)
        // Many tools still ask for the older of the two.
        .add_service(reflection().build_v1().map_err(|error| undescribed(&error))?)
        .add_service(reflection().build_v1alpha().map_err(|error| undescribed(&error))?);
        // Routes of other protocols are merged here; `with_state` makes the router ready to run.
        let router = grpc
            .into_axum_router()
            .merge(metrics_routes(broker))
            .layer(from_fn_with_state(Arc::clone(broker.metrics()), watch))
            .with_state(());
        let services = Self { router, health };
        services.tell(ServingStatus::Serving).await;
        Ok(services)
    }

    /// Routes calls of every protocol to the services.
    pub(super) fn router(&self) -> Router {
        self.router.clone()
    }

    /// From now on health checks say that this server takes no new work.
    pub(super) async fn not_serving(&self) {
        self.tell(ServingStatus::NotServing).await;
    }

    /// From now on health checks say that records are not taken; everything else goes on.
    pub(super) async fn records_not_serving(&self) {
        let name = <RecordServiceServer<Records> as NamedService>::NAME;
        self.health.set_service_status(name, ServingStatus::NotServing).await;
    }

    /// Tells whether appends are refused for lack of room, and whether room is getting short.
    pub(super) async fn disk(&self, is_full: bool, is_short: bool) {
        let status =
            |is_bad| if is_bad { ServingStatus::NotServing } else { ServingStatus::Serving };
        let name = <RecordServiceServer<Records> as NamedService>::NAME;
        self.health.set_service_status(name, status(is_full)).await;
        self.health.set_service_status(DISK, status(is_full || is_short)).await;
    }

    async fn tell(&self, status: ServingStatus) {
        for name in NAMES {
            self.health.set_service_status(name, status).await;
        }
    }
}

/// What those who watch the broker read.
fn metrics_routes(broker: &Broker) -> Router {
    let page = |text: String| ([(http::header::CONTENT_TYPE, CONTENT_TYPE)], text);
    let whole = broker.clone();
    let mut router = Router::new()
        .route("/metrics", get(move || std::future::ready(page(whole.metrics_page()))));
    if broker.config().metrics.per_product {
        let broker = broker.clone();
        let products = move || std::future::ready(page(broker.product_metrics_page()));
        router = router.route("/metrics/products", get(products));
    }
    router
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(meshlog_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

fn undescribed(error: &tonic_reflection::server::Error) -> Error {
    Error::new(Reason::Internal, format!("the services cannot be described: {error}"))
}
