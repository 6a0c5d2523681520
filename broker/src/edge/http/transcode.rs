//! A route that stands for a unary RPC: its request is put together from the path, the query and
//! the body, its response is written as JSON.

use axum::body::Body;
use http::{HeaderValue, Response, header};
use serde_json::{Map, Value};

use super::message;
use super::route::{Call, Rpc};
use crate::error::{Error, Reason, Result};

/// One body with a message: a schema is at most 256 KiB, and texts of a product are less.
const MAX_BODY_BYTES: usize = 1 << 20;

/// As the whole web writes a search, and the field that it is.
const QUERY: (&str, &str) = ("q", "query");

/// Answers one call.
pub(super) async fn answer(rpc: &Rpc, call: Call) -> Result<Response<Body>> {
    let asked = message::descriptor(rpc.request);
    let mut json = Map::new();
    if rpc.has_body {
        json = body_of(&call.headers, Call::bytes(call.body, MAX_BODY_BYTES).await?)?;
    }
    for (field, value) in rpc.path_fields.iter().zip(&call.path) {
        message::put(&mut json, &asked, field, value)?;
    }
    for (field, value) in &call.query {
        let field = if field == QUERY.0 { QUERY.1 } else { field };
        message::put(&mut json, &asked, field, value)?;
    }
    let request = message::encode(asked, Value::Object(json))?;
    let response = (rpc.call)(call.http, call.caller, request).await?;
    Ok(json_response(message::decode(message::descriptor(rpc.response), &response)?))
}

fn body_of(headers: &http::HeaderMap, bytes: bytes::Bytes) -> Result<Map<String, Value>> {
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(Error::new(
            Reason::MediaTypeUnsupported,
            format!("the body is `{kind}`; send JSON with `Content-Type: application/json`"),
        )
        .with("media_type", kind));
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(json)) => Ok(json),
        Ok(_) => Err(Error::new(Reason::InvalidArgument, "the body must be a JSON object")),
        Err(error) => {
            Err(Error::new(Reason::InvalidArgument, format!("the body is not JSON: {error}")))
        }
    }
}

/// An answer of JSON.
pub(super) fn json_response(json: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(json));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
