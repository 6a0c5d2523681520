//! The routes as a caller sees them, without a connection.

mod browser;
mod catalogue;
mod grpc_web;
mod identity;
mod records;
mod registry;
mod tail;

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use meshlog_proto::v1;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::edge::call::Calls;
use crate::edge::limits::Limits;
use crate::edge::services::Services;
use crate::{Broker, Caller, Config};

/// Everything that one port answers.
pub(super) struct Port {
    pub(super) broker: Broker,
    pub(super) drain: CancellationToken,
    calls: Calls,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    #[track_caller]
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body of a call that succeeded.
    #[track_caller]
    pub(super) fn ok(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        self.json()
    }

    /// Status and reason of a call that failed.
    #[track_caller]
    pub(super) fn refused(&self) -> (u16, String) {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16());
        assert_eq!(self.headers["meshlog-reason"], *problem["reason"].as_str().unwrap());
        (self.status.as_u16(), problem["reason"].as_str().unwrap().to_owned())
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Port {
    pub(super) async fn open() -> Self {
        Self::open_with(Config::default()).await
    }

    pub(super) async fn open_with(config: Config) -> Self {
        let broker = Broker::open(config).unwrap();
        let drain = CancellationToken::new();
        let router = Services::new(&broker, &drain).await.unwrap().router();
        let calls = Calls::new(broker.clone(), router, Limits::new(&broker));
        Self { broker, drain, calls }
    }

    /// With a product in `sandbox` that takes anything.
    pub(super) async fn with_product(name: &str, partitions: u32) -> Self {
        let port = Self::open().await;
        port.create(name, partitions).await;
        port
    }

    pub(super) async fn create(&self, name: &str, partitions: u32) {
        let product = v1::Product { name: name.to_owned(), partitions, ..Default::default() };
        let request = v1::CreateProductRequest { product: Some(product), ..Default::default() };
        self.broker.catalogue().create_product(&Caller::new("test"), request).await.unwrap();
    }

    /// One call; the body of its answer is still to be read.
    pub(super) async fn begin(
        &self,
        call: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> http::Response<Body> {
        let (method, path) = call.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.into()).unwrap();
        self.calls.clone().answer(Arc::default(), request).await
    }

    /// One call to its end.
    pub(super) async fn call(
        &self,
        call: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let (parts, body) = self.begin(call, headers, body).await.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.call(&format!("GET {path}"), &[], "").await
    }

    pub(super) async fn send(&self, call: &str, json: Value) -> Answer {
        self.call(call, &[("content-type", "application/json")], json.to_string()).await
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_that_says_where_to_look() {
    let port = Port::open().await;
    assert_eq!(port.get("/v2/anything").await.refused(), (404, "ROUTE_NOT_FOUND".to_owned()));
    let wrong = port.call("PUT /v1/products/ops.a", &[], "").await;
    assert_eq!(wrong.refused(), (405, "METHOD_NOT_ALLOWED".to_owned()));
    let allowed = wrong.header("allow");
    assert!(allowed.contains("GET") && allowed.contains("PATCH"), "{allowed}");
    let grpc = [("content-type", "application/grpc")];
    let unknown = port.call("POST /meshlog.v1.None/Nothing", &grpc, "").await;
    assert_eq!(unknown.header("grpc-status"), "12");
}

#[tokio::test]
async fn the_document_is_served() {
    let port = Port::open().await;
    assert_eq!(port.get("/openapi.json").await.ok()["openapi"], "3.1.0");
}

#[tokio::test]
async fn a_server_that_drains_is_alive_and_not_ready() {
    let port = Port::open().await;
    assert_eq!(port.get("/readyz").await.ok()["status"], "ready");
    port.drain.cancel();
    assert_eq!(port.get("/livez").await.ok()["status"], "live");
    let answer = port.get("/readyz").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let reasons = answer.json()["reasons"].to_string();
    assert!(reasons.contains("shutting down"), "{reasons}");
}
