//! Schemas: what a person writes, parsed, named by their content, and turned into checks.
//!
//! ```text
//! SchemaSource ──parse──► Schema { source, fingerprint } ──validator──► JsonValidator ─┐
//!                            │                              (compiled once, on demand)  ├─► RecordCheck
//!                            └─fields──► Vec<Field>          KeyRule of the product ────┘   (RecordValidator)
//! ```
//!
//! All four formats are parsed and versioned. Values are checked against JSON Schema only; for
//! Avro and Protobuf there is no check yet, and a product says so (enforcement `OFF`).
//!
//! | Format | Canonical form, the base of the fingerprint |
//! |---|---|
//! | JSON Schema | the JSON text without white space, object members sorted by name |
//! | Avro | Parsing Canonical Form of the Avro specification |
//! | Protobuf | the encoded descriptor without comments and file name, declarations sorted |
//! | OPAQUE | the media type |
//!
//! A schema is untrusted input: text, depth and the number of fields are bounded, references stay
//! inside the document, regular expressions run in linear time, and a chain of references that
//! would never end is refused before anything follows it.

mod avro;
mod avro_input;
mod compatibility;
mod field;
mod fingerprint;
mod json_schema;
mod json_text;
mod key_rule;
mod malformed;
mod opaque;
mod parsed;
mod protobuf;
mod record_check;

#[cfg(test)]
mod tests;

pub use compatibility::{
    Comparison, Difference, Direction, MAX_DIFFERENCES, Mode, Profile, Terms, TooComplex, Weight,
    can_read, keeps,
};
pub use field::Field;
pub use fingerprint::Fingerprint;
pub use malformed::Malformed;
pub use parsed::Schema;
pub use record_check::{RecordValidator, Rejection};

pub(crate) use avro_input::AvroInput;
pub(crate) use compatibility::Trial;
pub(crate) use json_text::read as read_json;
pub(crate) use key_rule::FieldPath;
pub(crate) use protobuf::message as protobuf_message;
pub(crate) use record_check::RecordCheck;

/// Longest schema text.
pub const MAX_TEXT_BYTES: usize = 256 << 10;

/// Deepest nesting of a schema.
pub const MAX_DEPTH: usize = 64;

/// Most rows of a field table; fields beyond it can be used but neither listed nor tagged.
pub const MAX_FIELDS: usize = 4096;
