//! What serializers of Confluent write before a value: the byte 0, and the number of its schema.
//!
//! Source: the wire format in the documentation of Confluent's Schema Registry. For Protobuf the
//! indexes of the message follow, which `protobuf_check.rs` reads.

use super::record_check::{Broken, Rejection};

/// Length of the prefix.
const PREFIX: usize = 5;

/// The schema id before a value, and what follows; `None`: it does not begin so.
pub(crate) fn split_frame(value: &[u8]) -> Option<(u32, &[u8])> {
    let (prefix, rest) = value.split_first_chunk::<PREFIX>()?;
    let [0, a, b, c, d] = *prefix else { return None };
    // The highest byte comes first.
    let id = [a, b, c, d].into_iter().fold(0, |id: u32, byte| id << 8 | u32::from(byte));
    Some((id, rest))
}

/// The prefix that every value of a request has.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// Of the version of the request.
    pub(crate) schema_id: u32,
    /// The version, as clients count.
    pub(crate) version: u32,
}

impl Frame {
    /// The value without the prefix.
    pub(super) fn strip<'a>(&self, value: &'a [u8]) -> Result<&'a [u8], Rejection> {
        match split_frame(value) {
            Some((id, rest)) if id == self.schema_id => Ok(rest),
            Some((id, _)) => Err(Rejection {
                path: String::new(),
                expected: format!(
                    "the schema id {} of version {}, which is that of the request",
                    self.schema_id, self.version
                ),
                found: format!("the schema id {id}"),
                broken: Broken::Version,
            }),
            None => Err(Rejection {
                path: String::new(),
                expected: "the byte 0 and a schema id of 4 bytes before the value".to_owned(),
                found: match value.first() {
                    _ if value.len() < PREFIX => format!("{} bytes", value.len()),
                    first => format!("the byte {}", first.copied().unwrap_or_default()),
                },
                broken: Broken::Schema,
            }),
        }
    }
}
