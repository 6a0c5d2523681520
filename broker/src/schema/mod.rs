//! Schemas: what a person writes, parsed, named by their content, and turned into checks.
//!
//! ```text
//! SchemaSource ──parse──► Schema { source, fingerprint } ──validator──► Validator ─┐
//!                            │                     (compiled once, kept while used) ├─► RecordCheck
//!                            └─fields──► Vec<Field>     KeyRule, framing of product ┘   (RecordValidator)
//! ```
//!
//! All four formats are parsed and versioned, and values of three are checked on append:
//!
//! | Format | Canonical form, the base of the fingerprint | What conforms |
//! |---|---|---|
//! | JSON Schema | the JSON text without white space, object members sorted by name | one JSON text that the schema takes, only declared properties |
//! | Avro | Parsing Canonical Form of the Avro specification | one value in binary encoding, nothing after it |
//! | Protobuf | the encoded descriptor without comments and file name, declarations sorted | one message, only declared fields |
//! | OPAQUE | the media type | anything |
//!
//! A schema is untrusted input: text, depth and the number of fields are bounded, references stay
//! inside the document, regular expressions run in linear time, and a chain of references that
//! would never end is refused before anything follows it. So are values: nesting is bounded, and the
//! time and memory that a check takes by the length of the value.

mod avro;
mod avro_check;
mod avro_input;
mod compatibility;
mod fault;
mod field;
mod fingerprint;
mod frame;
mod json_schema;
mod json_text;
mod key_rule;
mod malformed;
mod opaque;
mod parsed;
mod protobuf;
mod protobuf_check;
mod protobuf_text;
mod record_check;
mod validator;

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
pub use record_check::{Broken, Handling, RecordValidator, Rejection};

pub(crate) use avro_input::AvroInput;
pub(crate) use compatibility::Trial;
pub(crate) use frame::{Frame, split_frame};
pub(crate) use json_text::read as read_json;
pub(crate) use key_rule::FieldPath;
pub(crate) use protobuf::{
    compiled as protobuf_compiled, message as protobuf_message, text_of as protobuf_text_of,
    top_messages as protobuf_top_messages,
};
pub(crate) use protobuf_check::after_indexes;
pub(crate) use record_check::{RecordCheck, shown};

/// Longest schema text.
pub const MAX_TEXT_BYTES: usize = 256 << 10;

/// Deepest nesting of a schema.
pub const MAX_DEPTH: usize = 64;

/// Most rows of a field table; fields beyond it can be used but neither listed nor tagged.
pub const MAX_FIELDS: usize = 4096;
