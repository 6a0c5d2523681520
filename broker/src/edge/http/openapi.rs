//! `GET /openapi.json`: what the routes are, as OpenAPI 3.1. `docs/openapi.json` is what is served;
//! a test writes it anew from the table of routes and the comments of the `.proto` files.

use axum::body::Body;
use http::Response;

use super::route::Call;
use super::transcode::json_response;
use crate::error::Result;

/// The document.
const DOCUMENT: &str = include_str!("../../../../docs/openapi.json");

/// Answers with the document.
pub(super) async fn answer(_call: Call) -> Result<Response<Body>> {
    Ok(json_response(DOCUMENT.as_bytes().to_vec()))
}

#[cfg(test)]
mod tests;
