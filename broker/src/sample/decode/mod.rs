//! Values of all formats, told field by field.
//!
//! Values are untrusted where nothing checked them on append: depth, the number of items and memory
//! are bounded by the length of the value, and what cannot be read as a whole is not told at all.

mod avro;
mod json;
mod protobuf;

use meshlog_proto::v1::SchemaFormat;

use super::paths::{Paths, Place};
use super::profile::{Parts, Scalar};
use crate::schema::Schema;

/// Deepest nesting of a value.
const MAX_DEPTH: usize = 64;

/// Whoever values are told to, field by field.
pub(crate) trait Listener {
    /// A member of an object; `None`: do not tell it.
    fn member(&mut self, object: Place, name: &str) -> Option<Place>;
    /// The items of an array; `None`: do not tell them.
    fn items(&mut self, array: Place) -> Option<Place>;
    /// One more item follows.
    fn item(&mut self, items: Place);
    /// A value without parts.
    fn scalar(&mut self, place: Place, scalar: Scalar<'_>);
    /// A value with parts.
    fn parts(&mut self, place: Place, parts: Parts);
}

/// Reads the values of one schema version.
pub(crate) enum Decoder {
    Json,
    Avro(avro::Reader),
    Protobuf(prost_reflect::MessageDescriptor),
}

/// A value that can be read.
pub(crate) enum Value<'a> {
    Json(serde_json::Value),
    Avro(&'a avro::Reader, &'a [u8]),
    Protobuf(Box<prost_reflect::DynamicMessage>),
}

impl Decoder {
    /// `None`: the schema does not say how its values are to be read.
    pub(crate) fn new(schema: &Schema) -> Option<Self> {
        let source = schema.source();
        match schema.format() {
            SchemaFormat::JsonSchema => Some(Self::Json),
            SchemaFormat::Avro => avro::Reader::new(&source.text).map(Self::Avro),
            SchemaFormat::Protobuf => crate::schema::protobuf_message(&source).map(Self::Protobuf),
            SchemaFormat::Opaque => is_json(&source.media_type).then_some(Self::Json),
            SchemaFormat::Unspecified => None,
        }
    }

    /// `None`: it is not of this format.
    pub(crate) fn read<'a>(&'a self, bytes: &'a [u8]) -> Option<Value<'a>> {
        match self {
            Self::Json => crate::schema::read_json(bytes, MAX_DEPTH).ok().map(Value::Json),
            Self::Avro(reader) => reader.can_read(bytes).then_some(Value::Avro(reader, bytes)),
            Self::Protobuf(message) => {
                // Bounded in depth by the library.
                prost_reflect::DynamicMessage::decode(message.clone(), bytes)
                    .ok()
                    .map(|value| Value::Protobuf(Box::new(value)))
            }
        }
    }
}

impl Value<'_> {
    /// Tells every field.
    pub(crate) fn tell(&self, listener: &mut impl Listener) {
        match self {
            Self::Json(value) => json::tell(value, listener, Paths::RECORD),
            Self::Avro(reader, bytes) => reader.tell(bytes, listener),
            Self::Protobuf(message) => protobuf::tell(message, listener, Paths::RECORD),
        }
    }
}

/// Whether a media type is JSON: `application/json`, `application/cloudevents+json; charset=utf-8`.
fn is_json(media_type: &str) -> bool {
    let kind = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind.ends_with("/json") || kind.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_says_json_or_it_does_not() {
        for json in ["application/json", "text/JSON", "application/vnd.x+json; charset=utf-8"] {
            assert!(is_json(json), "{json}");
        }
        for other in ["", "json", "application/octet-stream", "application/jsonp", "text/csv"] {
            assert!(!is_json(other), "{other}");
        }
    }
}
