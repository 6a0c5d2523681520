//! Everything that one port answers: our services, health and reflection in gRPC and gRPC-Web, and
//! the routes of HTTP.

use std::sync::Arc;

use axum::middleware::{from_fn_with_state, map_response};
use axum::routing::{any, get};
use axum::{Extension, Router};
use meshlog_proto::server_v1::record_service_server::RecordServiceServer;
use meshlog_proto::v1::admin_service_server::AdminServiceServer;
use meshlog_proto::v1::catalog_service_server::CatalogServiceServer;
use meshlog_proto::v1::governance_service_server::GovernanceServiceServer;
use meshlog_proto::v1::lineage_service_server::LineageServiceServer;
use meshlog_proto::v1::schema_service_server::SchemaServiceServer;
use meshlog_proto::v1::subscription_service_server::SubscriptionServiceServer;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tonic_web::GrpcWebLayer;

use super::admin::Admin;
use super::body::SLACK;
use super::catalog::Catalog;
use super::governance::Governance;
use super::lineage::Lineage;
use super::messages::streamed;
use super::record::Records;
use super::schema::Schemas;
use super::subscription::Subscriptions;
use super::watched::watch;
use super::{call, http};
use crate::broker::Broker;
use crate::caller::Caller;
use crate::error::{Error, Reason, Result};
use crate::metrics::CONTENT_TYPE;
use crate::record::limits::MAX_REQUEST_BYTES;

/// Every service of one server.
pub(super) struct Services {
    router: Router,
    health: HealthReporter,
}

/// The room on the disk: not serving while appends are refused for lack of it, and while it is
/// foretold to be full within a day.
const DISK: &str = "meshlog.disk";

/// What health is told about; the empty name is the whole server.
const NAMES: [&str; 9] = [
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

/// A service that takes compressed requests. What they become is as large as a request may be.
macro_rules! compressed {
    ($service:expr) => {
        $service
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd)
    };
}

impl Services {
    /// Of this broker; streams end when `drain` is cancelled.
    pub(super) async fn new(broker: &Broker, drain: &CancellationToken) -> Result<Self> {
        let records = Records::new(broker.clone(), drain.clone());
        let (health, health_service) = tonic_health::server::health_reporter();
        let grpc = Routes::new(
            compressed!(RecordServiceServer::new(records))
                .max_decoding_message_size(MAX_REQUEST_BYTES + SLACK),
        )
        .add_service(compressed!(CatalogServiceServer::new(Catalog::new(
            broker.clone(),
            drain.clone()
        ))))
        .add_service(compressed!(SchemaServiceServer::new(Schemas::new(broker.clone()))))
        .add_service(compressed!(SubscriptionServiceServer::new(Subscriptions::new(
            broker.clone()
        ))))
        .add_service(compressed!(LineageServiceServer::new(Lineage::new(broker.clone()))))
        .add_service(compressed!(AdminServiceServer::new(Admin::new(
            broker.clone(),
            drain.clone()
        ))))
        .add_service(compressed!(GovernanceServiceServer::new(Governance::new(broker.clone()))))
        .add_service(health_service)
        // Many tools still ask for the older of the two.
        .add_service(reflection().build_v1().map_err(|error| undescribed(&error))?)
        .add_service(reflection().build_v1alpha().map_err(|error| undescribed(&error))?);
        let watched = || from_fn_with_state(Arc::clone(broker.metrics()), watch);
        let grpc = grpc.into_axum_router();
        let grpc = grpc.layer(map_response(streamed)).layer(map_response(call::explained));
        // What is noted of a call is read from gRPC, before it becomes gRPC-Web.
        let grpc = grpc.layer(watched()).layer(GrpcWebLayer::new());
        let browsers = Arc::new(broker.config().http.clone());
        let router = http::router(broker.clone(), drain.clone())
            .merge(metrics_routes(broker))
            .layer(watched())
            .merge(grpc)
            .fallback(any(call::unknown))
            .layer(from_fn_with_state(browsers, http::guard))
            // Makes the router ready to run.
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

    /// Tells health checks whether appends are refused, and whether the disk is getting short of room.
    pub(super) async fn disk(&self, is_refusing: bool, is_short: bool) {
        let status =
            |is_bad| if is_bad { ServingStatus::NotServing } else { ServingStatus::Serving };
        let name = <RecordServiceServer<Records> as NamedService>::NAME;
        self.health.set_service_status(name, status(is_refusing)).await;
        self.health.set_service_status(DISK, status(is_refusing || is_short)).await;
    }

    async fn tell(&self, status: ServingStatus) {
        for name in NAMES {
            self.health.set_service_status(name, status).await;
        }
    }
}

/// What those who watch the broker read.
fn metrics_routes(broker: &Broker) -> Router {
    let page = |text: String| ([(::http::header::CONTENT_TYPE, CONTENT_TYPE)], text);
    let whole = broker.clone();
    let mut router = Router::new()
        .route("/metrics", get(move || std::future::ready(page(whole.metrics_page()))));
    if broker.config().metrics.per_product {
        let broker = broker.clone();
        let products = move |Extension(caller): Extension<Caller>| {
            let found = broker.product_metrics_page(&caller).map(page);
            std::future::ready(found.map_err(|error| http::problem(&error)))
        };
        router = router.route("/metrics/products", get(products));
    }
    router
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(meshlog_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // The details of errors, which answers carry without naming them in the contract.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}

fn undescribed(error: &tonic_reflection::server::Error) -> Error {
    Error::new(Reason::Internal, format!("the services cannot be described: {error}"))
}
