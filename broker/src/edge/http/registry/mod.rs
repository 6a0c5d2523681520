//! A part of the REST interface of Confluent's Schema Registry, for serializers and tools that know no
//! other: `docs/guide/schema-registry.md` says which.
//!
//! ```text
//! subject `<product>-value` | `<product>-key`   one side of a product (`subject.rs`)
//! version                                       a schema version of the product
//! id                                            SchemaVersion.schema_id, what the framing CONFLUENT carries
//! compatibilityLevel                            settings.compatibility (`level.rs`)
//! error                                         {"error_code":40401,"message":"…"} (`refusal.rs`)
//! ```
//!
//! It stands under a path of its own: at the root of the port, words like `/config` and `/mode` would
//! be those of one guest, and serializers take an address with a path. Like all routes these are
//! conversions: every call is one of the catalogue's, with its row in the table of permissions and its
//! record in the audit log. A product is never made here, because it needs more than a schema.

mod body;
mod level;
mod read;
mod refusal;
mod subject;
mod write;

use axum::body::Body;
use http::{HeaderName, HeaderValue, Response, header};
use serde::Serialize;

pub(super) use read::{
    config, id, id_schema, id_subjects, id_versions, mode, root, subject_config, subject_mode,
    subjects, types, version, version_schema, versions,
};
pub(super) use refusal::{Refusal, response as refused};
pub(super) use write::{check, check_all, look_up, register, set_config};

use super::media;
use super::route::Call;
use crate::error::{Error, Reason, Result};

/// Before the paths of all routes.
pub(in crate::edge) const PREFIX: &str = "/schema-registry";

/// What every client of Confluent sends and takes.
pub(super) const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// The same without a version.
const UNVERSIONED: &str = "application/vnd.schemaregistry+json";

/// What a call is answered with.
pub(super) struct Reply {
    json: Vec<u8>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Reply {
    fn of(answer: &impl Serialize) -> Result<Self, Refusal> {
        let json = serde_json::to_vec(answer).map_err(|error| {
            Error::new(Reason::Internal, format!("an answer cannot be written as JSON: {error}"))
        })?;
        Ok(Self { json, header: None })
    }
}

/// Answers a call in the media type that it accepts, errors in the form that clients of Confluent read.
pub(super) async fn answer<F>(call: Call, answer: impl FnOnce(Call) -> F) -> Result<Response<Body>>
where
    F: Future<Output = Result<Reply, Refusal>>,
{
    let offered = [MEDIA_TYPE, UNVERSIONED, media::JSON];
    let kind = media::accepted(&call.headers, &offered).unwrap_or(MEDIA_TYPE);
    let mut response = match answer(call).await {
        Ok(reply) => {
            let mut response = Response::new(Body::from(reply.json));
            if let Some((name, value)) = reply.header {
                response.headers_mut().insert(name, value);
            }
            response
        }
        Err(refusal) => refusal.response(),
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

/// Whether a parameter is there and true. Python writes it with a capital letter.
fn is_set(query: &[(String, String)], name: &str) -> bool {
    parameter(query, name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// The value of a parameter. Those that mean nothing here are taken and left alone.
fn parameter<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = query.iter().find(|(one, _)| one == name);
    found.map(|(_, value)| value.as_str())
}
