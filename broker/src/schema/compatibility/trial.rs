//! A schema tried on values that were written under another one.

use meshlog_proto::v1::SchemaFormat;
use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage as _};

use super::avro;
use crate::schema::json_schema::JsonSchema;
use crate::schema::record_check::{MAX_VALUE_DEPTH, shown};
use crate::schema::{Broken, Rejection, Schema, json_text};

/// Reads values of one schema with another one.
pub(crate) enum Trial {
    /// Nothing is known of the values, so all can be read.
    Anything,
    /// The reader's schema, by the words of its text.
    Json(Box<jsonschema::Validator>),
    /// Resolution of the two schemas.
    Avro(Box<avro::Resolver>),
    /// The reader's message.
    Protobuf(MessageDescriptor),
    /// The formats differ, or a text is not accepted any more.
    Nothing(&'static str),
}

impl Trial {
    /// Of a pair of schemas.
    pub(crate) fn new(reader: &Schema, writer: &Schema) -> Self {
        if reader.format() != writer.format() {
            return Self::Nothing("a value of the new format");
        }
        let (r, w) = (reader.source(), writer.source());
        let trial = match reader.format() {
            SchemaFormat::JsonSchema => JsonSchema::parse(&r.text)
                .and_then(|schema| schema.compile())
                .ok()
                .map(|validator| Self::Json(Box::new(validator))),
            SchemaFormat::Avro => {
                let types = crate::schema::avro::types;
                let pair = types(&r.text).zip(types(&w.text));
                pair.map(|(r, w)| Self::Avro(Box::new(avro::Resolver::new(r, w))))
            }
            SchemaFormat::Protobuf => crate::schema::protobuf_message(&r).map(Self::Protobuf),
            SchemaFormat::Opaque | SchemaFormat::Unspecified => Some(Self::Anything),
        };
        trial.unwrap_or(Self::Nothing("a schema that this version of the broker accepts"))
    }

    /// Whether a value can be read.
    ///
    /// # Errors
    /// With the first thing that cannot.
    pub(crate) fn read(&self, value: &[u8]) -> Result<(), Rejection> {
        let refused = |path: String, expected: String, found: String| Rejection {
            path,
            expected,
            found: shown(&found),
            broken: Broken::Schema,
        };
        match self {
            Self::Anything => Ok(()),
            Self::Nothing(expected) => {
                Err(refused(String::new(), (*expected).to_owned(), "another".to_owned()))
            }
            Self::Json(validator) => {
                let json = json_text::read(value, MAX_VALUE_DEPTH).map_err(|error| {
                    refused(String::new(), "JSON".to_owned(), error.to_string())
                })?;
                match validator.iter_errors(&json).next() {
                    None => Ok(()),
                    Some(error) => Err(refused(
                        error.instance_path().to_string(),
                        crate::schema::json_schema::expected(&error),
                        error.instance().to_string(),
                    )),
                }
            }
            Self::Avro(resolver) => resolver.read(value),
            Self::Protobuf(message) => {
                let read = DynamicMessage::decode(message.clone(), value);
                let message = read.map_err(|error| {
                    let expected = format!("a message {}", message.full_name());
                    refused(String::new(), expected, error.to_string())
                })?;
                let missing = message
                    .descriptor()
                    .fields()
                    .find(|field| field.is_required() && !message.has_field(field));
                match missing {
                    None => Ok(()),
                    Some(field) => Err(refused(
                        field.name().to_owned(),
                        "a required field".to_owned(),
                        "no such field".to_owned(),
                    )),
                }
            }
        }
    }
}
