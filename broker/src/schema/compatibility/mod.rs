//! Whether values written under one schema can be read with another.
//!
//! ```text
//!   Schema (reader) ─┐                     ┌─ avro: resolution rules on resolved types
//!                    ├─ can_read ──────────┼─ protobuf: descriptors, profile WIRE or WIRE_JSON
//!   Schema (writer) ─┘                     └─ json_schema: set inclusion, with a counterexample
//!                          │
//!                      Comparison: every difference with path, both sides, rule and hint
//! ```
//!
//! `can_read` knows no versions and no modes: which pairs must hold, [`Mode`] says. *Compatible* is a
//! promise: no value that conforms to the writer's schema is unreadable for the reader. What cannot be
//! proved is refused, and said to be unproven.
//!
//! Schemas are untrusted: a comparison has a budget of steps and of depth, and beyond it is
//! [`TooComplex`].

mod avro;
mod budget;
mod difference;
mod json_schema;
mod mode;
mod protobuf;
mod trial;

#[cfg(test)]
mod tests;

use meshlog_proto::v1::SchemaFormat;

pub(in crate::schema) use avro::{
    Primitive as AvroPrimitive, RecordField as AvroRecordField, Shape as AvroShape,
    Types as AvroTypes,
};
pub use budget::TooComplex;
pub use difference::{Comparison, Difference, MAX_DIFFERENCES, Weight};
pub use mode::{Direction, Mode};
pub use protobuf::Profile;
pub(crate) use trial::Trial;

use super::{Schema, avro as avro_text};

/// What a comparison is told beside the two schemas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// What readers of Protobuf rely on.
    pub profile: Profile,
    /// Whether the broker refuses undeclared properties when values are written (JSON Schema with
    /// enforcement): then only declared ones need to be readable.
    pub writes_are_checked: bool,
}

/// Whether `reader` reads everything that is written under `writer`.
///
/// # Errors
/// [`TooComplex`] if that cannot be found out within bounds.
pub fn can_read(reader: &Schema, writer: &Schema, terms: Terms) -> Result<Comparison, TooComplex> {
    if reader.digest() == writer.digest() {
        return Ok(Comparison::default());
    }
    let (r, w) = (reader.source(), writer.source());
    match (reader.format(), writer.format()) {
        (SchemaFormat::Avro, SchemaFormat::Avro) => {
            match (avro_text::types(&r.text), avro_text::types(&w.text)) {
                (Some(r), Some(w)) => avro::compare(&r, &w),
                _ => Ok(unreadable()),
            }
        }
        (SchemaFormat::Protobuf, SchemaFormat::Protobuf) => {
            match (super::protobuf_message(&r), super::protobuf_message(&w)) {
                (Some(r), Some(w)) => protobuf::compare(&r, &w, terms.profile),
                _ => Ok(unreadable()),
            }
        }
        (SchemaFormat::JsonSchema, SchemaFormat::JsonSchema) => {
            json_schema::compare(&r.text, &w.text, terms.writes_are_checked)
        }
        (SchemaFormat::Opaque, SchemaFormat::Opaque) => Ok(opaque(&r.media_type, &w.media_type)),
        (a, b) => {
            let mut comparison = Comparison::default();
            comparison.push(Difference::breaking(
                "",
                "FORMAT_CHANGED",
                a.as_str_name().trim_start_matches("SCHEMA_FORMAT_"),
                b.as_str_name().trim_start_matches("SCHEMA_FORMAT_"),
                "another schema language is another product: create a successor",
            ));
            Ok(comparison)
        }
    }
}

/// What the newer schema must still say of the older one, whoever reads what: numbers of Protobuf are
/// never used again.
///
/// # Errors
/// [`TooComplex`] if that cannot be found out within bounds.
pub fn keeps(new: &Schema, old: &Schema, terms: Terms) -> Result<Comparison, TooComplex> {
    if new.format() != SchemaFormat::Protobuf || old.format() != SchemaFormat::Protobuf {
        return Ok(Comparison::default());
    }
    match (super::protobuf_message(&new.source()), super::protobuf_message(&old.source())) {
        (Some(new), Some(old)) => protobuf::keeps(&new, &old, terms.profile),
        _ => Ok(unreadable()),
    }
}

fn opaque(reader: &str, writer: &str) -> Comparison {
    let mut comparison = Comparison::default();
    if reader != writer {
        comparison.push(Difference::breaking(
            "",
            "OPAQUE_MEDIA_TYPE",
            reader,
            writer,
            "values of another media type are another product: create a successor",
        ));
    }
    comparison
}

/// A text that was accepted once and is not any more.
fn unreadable() -> Comparison {
    let mut comparison = Comparison::default();
    let difference = Difference::breaking(
        "",
        "SCHEMA_UNREADABLE",
        "",
        "",
        "one of the two schemas is not accepted any more by this version of the broker",
    );
    comparison.push(difference.weighing(Weight::Unproven));
    comparison
}
