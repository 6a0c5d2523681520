//! What clients send.

use http::header;
use meshlog_proto::v1::SchemaFormat;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::{media, route};
use super::{MEDIA_TYPE, Refusal};
use crate::error::{Error, Reason};

/// A schema is at most 256 KiB; as JSON text inside JSON it grows.
const MAX_BODY_BYTES: usize = 1 << 20;

/// A schema. Other members are of no consequence: a version or an id that a client hopes for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SchemaBody {
    #[serde(default)]
    pub(super) schema: String,
    schema_type: Option<String>,
    references: Option<Vec<serde::de::IgnoredAny>>,
    metadata: Option<serde_json::Value>,
    rule_set: Option<serde_json::Value>,
}

impl SchemaBody {
    /// The language it is written in.
    pub(super) fn format(&self) -> Result<SchemaFormat, Refusal> {
        match self.schema_type.as_deref().unwrap_or("AVRO") {
            "AVRO" | "" => Ok(SchemaFormat::Avro),
            "JSON" => Ok(SchemaFormat::JsonSchema),
            "PROTOBUF" => Ok(SchemaFormat::Protobuf),
            _ => Err(Refusal::invalid(42201, "the `schemaType` must be AVRO, JSON or PROTOBUF")),
        }
    }

    /// Refuses what would be lost.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        if self.references.as_ref().is_some_and(|references| !references.is_empty()) {
            return Err(Refusal::invalid(
                42201,
                "references to other schemas are not supported; send one schema that holds everything",
            ));
        }
        for (name, there) in [("metadata", &self.metadata), ("ruleSet", &self.rule_set)] {
            if there.as_ref().is_some_and(|value| !value.is_null()) {
                let what = format!(
                    "`{name}` is not kept here; what a product has beside its schema is set with \
                     `meshlog product update`"
                );
                return Err(Refusal::invalid(42201, what));
            }
        }
        Ok(())
    }
}

/// A setting.
#[derive(Deserialize)]
pub(super) struct ConfigBody {
    compatibility: Option<String>,
    #[serde(rename = "compatibilityLevel")]
    level: Option<String>,
    #[serde(flatten)]
    others: serde_json::Map<String, serde_json::Value>,
}

impl ConfigBody {
    /// The level; nothing else can be set here. Schemas are compared in a normal form anyway.
    pub(super) fn level(self) -> Result<String, Refusal> {
        let other = self.others.iter().find(|(name, set)| *name != "normalize" && !set.is_null());
        match other {
            Some((name, _)) => Err(Refusal::invalid(
                422,
                format!("`{name}` cannot be set here; only `compatibility` can"),
            )),
            None => Ok(self.compatibility.or(self.level).unwrap_or_default()),
        }
    }
}

/// The body of a call.
pub(super) async fn read<T: DeserializeOwned>(
    headers: &http::HeaderMap,
    body: axum::body::Body,
) -> Result<T, Refusal> {
    let kind = media::content_type(headers);
    if !media::is_json(&kind) {
        let error = Error::new(
            Reason::MediaTypeUnsupported,
            format!(
                "the body is `{kind}`; send JSON with `{}: {MEDIA_TYPE}`",
                header::CONTENT_TYPE
            ),
        );
        return Err(error.with("media_type", kind).into());
    }
    let bytes = route::Call::bytes(body, MAX_BODY_BYTES).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::invalid(422, format!("the body cannot be read: {error}")))
}
