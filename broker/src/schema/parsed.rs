//! A schema after parsing.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use meshlog_proto::v1::{SchemaFormat, SchemaSource};
use prost::Message as _;

use super::json_schema::JsonSchema;
use super::validator::{self, Validator};
use super::{Field, FieldPath, Fingerprint, MAX_TEXT_BYTES, Malformed, avro, opaque, protobuf};

/// One schema: the words of its author, and its name by content. Small: what checks values is compiled
/// when it is needed, once, however many products share the schema.
pub struct Schema {
    source: Bytes,
    format: SchemaFormat,
    digest: Fingerprint,
    fingerprint: Fingerprint,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema")
            .field("format", &self.format)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

impl Schema {
    /// Parses and checks everything, up to compiling the validator once.
    ///
    /// # Errors
    /// Says where the text is wrong, and what is.
    pub fn parse(source: &SchemaSource) -> Result<Self, Malformed> {
        let fingerprint = fingerprint(source)?;
        let source = Bytes::from(source.encode_to_vec());
        Ok(Self::stored(source, fingerprint))
    }

    /// The digest that [`Schema::parse`] of this source would have.
    #[must_use]
    pub fn digest_of(source: &SchemaSource) -> Fingerprint {
        Fingerprint::of(&[&source.encode_to_vec()])
    }

    /// From an encoded [`SchemaSource`] that was parsed before, without looking into it again.
    #[must_use]
    pub fn stored(source: Bytes, fingerprint: Fingerprint) -> Self {
        let format = SchemaSource::decode(source.clone())
            .map_or(SchemaFormat::Unspecified, |source| source.format());
        let digest = Fingerprint::of(&[&source]);
        Self { source, format, digest, fingerprint }
    }

    /// The source, encoded.
    #[must_use]
    pub fn encoded(&self) -> &Bytes {
        &self.source
    }

    /// The source as its author wrote it.
    #[must_use]
    pub fn source(&self) -> SchemaSource {
        SchemaSource::decode(self.source.clone()).unwrap_or_default()
    }

    /// The language.
    #[must_use]
    pub fn format(&self) -> SchemaFormat {
        self.format
    }

    /// The name of exactly this text, under which it is stored.
    #[must_use]
    pub fn digest(&self) -> Fingerprint {
        self.digest
    }

    /// The name of the canonical form: equal for schemas that mean the same on the wire.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Whether the two say the same, documentation included. Layout does not count.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        if self.digest == other.digest {
            return true;
        }
        if self.fingerprint != other.fingerprint || self.format != other.format {
            return false;
        }
        let (left, right) = (self.source(), other.source());
        match self.format {
            SchemaFormat::JsonSchema => true,
            // The canonical form leaves out defaults, aliases and documentation.
            SchemaFormat::Avro => avro::same_text(&left.text, &right.text),
            SchemaFormat::Protobuf => left.text.trim() == right.text.trim(),
            SchemaFormat::Opaque => left.reason.trim() == right.reason.trim(),
            SchemaFormat::Unspecified => false,
        }
    }

    /// The fields, flattened; none for an OPAQUE schema.
    ///
    /// # Errors
    /// Only if a later version of the broker no longer accepts the text.
    pub fn fields(&self) -> Result<Vec<Field>, Malformed> {
        let source = self.source();
        match self.format {
            SchemaFormat::JsonSchema => Ok(JsonSchema::parse(&source.text)?.fields()),
            SchemaFormat::Avro => avro::fields(&source.text),
            SchemaFormat::Protobuf => protobuf::fields(&source.text, &source.message_name),
            SchemaFormat::Opaque | SchemaFormat::Unspecified => Ok(Vec::new()),
        }
    }

    /// Whether every value has this field, as a string or an integer; if not, why not.
    pub(crate) fn check_key_field(&self, path: &FieldPath) -> Result<(), String> {
        match self.format {
            SchemaFormat::JsonSchema => JsonSchema::parse(&self.source().text)
                .map_err(|malformed| malformed.to_string())?
                .check_key_field(path),
            _ => Err("a key rule needs a JSON Schema".to_owned()),
        }
    }

    /// What checks values; `None` for a format without rules. Compiled by the first call.
    ///
    /// # Errors
    /// Only if a later version of the broker no longer accepts the text.
    pub(crate) fn validator(&self) -> Result<Option<Arc<Validator>>, Malformed> {
        validator::of(self)
    }
}

fn fingerprint(source: &SchemaSource) -> Result<Fingerprint, Malformed> {
    let text = &source.text;
    if text.len() > MAX_TEXT_BYTES {
        return Err(Malformed::whole(format!(
            "the text has {} bytes; at most {MAX_TEXT_BYTES} are allowed",
            text.len()
        )));
    }
    let unused = |field: &str, value: &str| match value {
        "" => Ok(()),
        _ => Err(Malformed::new(field, format!("`{field}` has no meaning for this format"))),
    };
    let format = source.format();
    if format != SchemaFormat::Opaque {
        unused("media_type", &source.media_type)?;
        unused("reason", &source.reason)?;
    }
    if format != SchemaFormat::Protobuf {
        unused("message_name", &source.message_name)?;
    }
    match format {
        SchemaFormat::JsonSchema => {
            let schema = JsonSchema::parse(text)?;
            let canonical = schema.canonical();
            schema.validator()?;
            Ok(Fingerprint::of(&[b"JSON_SCHEMA", canonical.as_bytes()]))
        }
        SchemaFormat::Avro => Ok(Fingerprint::of(&[b"AVRO", avro::canonical(text)?.as_bytes()])),
        SchemaFormat::Protobuf => {
            let (descriptor, message) = protobuf::canonical(text, &source.message_name)?;
            Ok(Fingerprint::of(&[b"PROTOBUF", &descriptor, message.as_bytes()]))
        }
        SchemaFormat::Opaque => {
            unused("text", text)?;
            let canonical = opaque::canonical(&source.media_type, &source.reason)?;
            Ok(Fingerprint::of(&[b"OPAQUE", canonical.as_bytes()]))
        }
        SchemaFormat::Unspecified => Err(Malformed::new(
            "format",
            "say which language it is: JSON_SCHEMA, AVRO, PROTOBUF or OPAQUE",
        )),
    }
}
