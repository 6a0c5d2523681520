//! HTTP with JSON, beside gRPC on the same port.
//!
//! ```text
//! request ─ browser (Host, Origin) ─ route ─┬─ transcode: a unary RPC, its messages as JSON
//!                                           ├─ append, read, tail: records as JSON, NDJSON,
//!                                           │  CloudEvents or server-sent events
//!                                           ├─ registry: schemas as clients of Confluent ask for them
//!                                           └─ health, openapi
//! ```
//!
//! Handlers are conversions: they call the same methods of [`crate::Broker`] as gRPC does, with the
//! caller that was established for the call. `table.rs` lists every route.

mod append;
mod browser;
mod cloud_event;
mod health;
mod media;
mod message;
mod openapi;
mod position;
mod problem;
mod read;
mod registry;
mod route;
mod table;
mod tail;
mod transcode;

use std::sync::Arc;

use axum::Router;
use tokio_util::sync::CancellationToken;

pub(super) use browser::{guard, refusal};
pub(super) use problem::response as problem;
pub(super) use registry::PREFIX as REGISTRY;

use axum::body::Body;
use http::Response;

use crate::broker::Broker;
use crate::error::{Error, Reason};

/// An error before a route was asked, in the form that those who call this path read.
pub(super) fn problem_at(path: &str, error: &Error) -> Response<Body> {
    match path.starts_with(REGISTRY) {
        true => registry::refused(error),
        false => problem(error),
    }
}

/// What the routes of one server share.
pub(super) struct Http {
    broker: Broker,
    /// Cancelled when the server takes no new work.
    drain: CancellationToken,
}

/// The routes of this broker; streams end when `drain` is cancelled.
pub(super) fn router(broker: Broker, drain: CancellationToken) -> Router {
    route::router(table::routes(), Arc::new(Http { broker, drain }))
}

/// A message that cannot be decoded although this program encoded it.
fn undecodable(error: &prost::DecodeError) -> Error {
    Error::new(Reason::Internal, format!("a request cannot be read again: {error}"))
}

#[cfg(test)]
mod tests;
