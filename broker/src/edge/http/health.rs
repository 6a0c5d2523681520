//! `/livez` and `/readyz`, as load balancers and Kubernetes ask them. Whoever asks in gRPC gets the
//! same from `grpc.health.v1`: not ready means that the record service is not serving.

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::json;

use super::route::Call;
use super::transcode::json_response;
use crate::error::Result;

/// The process answers.
pub(super) async fn live(_call: Call) -> Result<Response<Body>> {
    Ok(json_response(json!({"status": "live"}).to_string().into_bytes()))
}

/// Whether records are taken: the log was recovered (before that nobody listens), the disk has room,
/// the journal did not fail, and the server is not shutting down.
pub(super) async fn ready(call: Call) -> Result<Response<Body>> {
    let reasons = call.http.broker.why_not_ready(call.http.drain.is_cancelled());
    let (status, word) = match reasons.is_empty() {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    let body = json!({"status": word, "reasons": reasons});
    let mut response = json_response(body.to_string().into_bytes());
    *response.status_mut() = status;
    Ok(response)
}
