//! Media types that records are written in.

use http::{HeaderMap, header};

/// `{"records":[…]}`, and messages.
pub(super) const JSON: &str = "application/json";
/// One JSON value per line.
pub(super) const NDJSON: &str = "application/x-ndjson";
/// Server-sent events.
pub(super) const EVENT_STREAM: &str = "text/event-stream";
/// One CloudEvent in structured mode.
pub(super) const CLOUD_EVENT: &str = "application/cloudevents+json";
/// A JSON array of CloudEvents.
pub(super) const CLOUD_EVENTS: &str = "application/cloudevents-batch+json";

/// The media type of the body without its parameters, in lower case; empty if none is named.
pub(super) fn content_type(headers: &HeaderMap) -> String {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    bare(kind.unwrap_or_default())
}

/// The first of these that the caller accepts; none if it names none of them.
pub(super) fn accepted(headers: &HeaderMap, offered: &[&'static str]) -> Option<&'static str> {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|accept| accept.to_str().ok())
        .flat_map(|accept| accept.split(','))
        .find_map(|one| offered.iter().find(|kind| bare(one) == **kind).copied())
}

/// Whether values of this type are JSON.
pub(super) fn is_json(kind: &str) -> bool {
    let kind = bare(kind);
    kind == JSON || kind == "text/json" || kind.ends_with("+json")
}

fn bare(kind: &str) -> String {
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
