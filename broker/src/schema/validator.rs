//! What checks the values of one schema, and where such checks are kept.
//!
//! Compiling takes up to some milliseconds, so what is compiled is kept, by the digest of the schema,
//! for all products that share it. What is kept is bounded: beyond [`MAX_KEPT_BYTES`] of schema text,
//! what was not used for longest goes, and is compiled again when it is used again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};

use meshlog_proto::v1::{SchemaFormat, SchemaSource};
use parking_lot::RwLock;

use super::avro_check::AvroCheck;
use super::json_schema::{JsonSchema, JsonValidator};
use super::protobuf_check::ProtobufCheck;
use super::{Fingerprint, Malformed, Schema, avro, protobuf};

/// Text of the schemas whose checks are kept; some thousand schemas of a usual length.
const MAX_KEPT_BYTES: usize = 16 << 20;
/// What a check takes beside what its text lets expect.
const ENTRY_BYTES: usize = 1 << 10;

/// Checks values against one schema.
pub(crate) enum Validator {
    Json(JsonValidator),
    Avro(AvroCheck),
    Protobuf(ProtobufCheck),
}

impl Validator {
    /// `None` for a format without rules.
    pub(super) fn compile(source: &SchemaSource) -> Result<Option<Self>, Malformed> {
        let refused = || Malformed::whole("this version of the broker cannot read the schema");
        Ok(match source.format() {
            SchemaFormat::JsonSchema => {
                Some(Self::Json(JsonSchema::parse(&source.text)?.validator()?))
            }
            SchemaFormat::Avro => {
                let types = avro::types(&source.text).ok_or_else(refused)?;
                Some(Self::Avro(AvroCheck::new(types)))
            }
            SchemaFormat::Protobuf => {
                let message = protobuf::message(source).ok_or_else(refused)?;
                Some(Self::Protobuf(ProtobufCheck::new(&message)))
            }
            SchemaFormat::Opaque | SchemaFormat::Unspecified => None,
        })
    }
}

/// Those of this process.
static KEPT: LazyLock<Kept> = LazyLock::new(|| Kept::new(MAX_KEPT_BYTES));

/// The check of a schema that has one; compiled, if it is not kept.
pub(super) fn of(schema: &Schema) -> Result<Option<Arc<Validator>>, Malformed> {
    match schema.format() {
        SchemaFormat::JsonSchema | SchemaFormat::Avro | SchemaFormat::Protobuf => {
            KEPT.of(schema.digest(), schema.encoded().len(), || {
                Validator::compile(&schema.source())
            })
        }
        SchemaFormat::Opaque | SchemaFormat::Unspecified => Ok(None),
    }
}

struct Kept {
    most_bytes: usize,
    /// Compiled so far: the time by which uses are told apart.
    compiled: AtomicU64,
    entries: RwLock<HashMap<Fingerprint, Entry>>,
}

struct Entry {
    validator: Arc<Validator>,
    bytes: usize,
    /// When it was last used.
    used: AtomicU64,
}

impl Kept {
    fn new(most_bytes: usize) -> Self {
        Self { most_bytes, compiled: AtomicU64::new(0), entries: RwLock::default() }
    }

    fn of(
        &self,
        digest: Fingerprint,
        bytes: usize,
        compile: impl FnOnce() -> Result<Option<Validator>, Malformed>,
    ) -> Result<Option<Arc<Validator>>, Malformed> {
        if let Some(entry) = self.entries.read().get(&digest) {
            // Written only when it changes: all appends of a schema look here.
            let now = self.compiled.load(Relaxed);
            if entry.used.load(Relaxed) != now {
                entry.used.store(now, Relaxed);
            }
            return Ok(Some(Arc::clone(&entry.validator)));
        }
        let Some(compiled) = compile()? else { return Ok(None) };
        let validator = Arc::new(compiled);
        let bytes = bytes + ENTRY_BYTES;
        let mut entries = self.entries.write();
        let mut held: usize = entries.values().map(|entry| entry.bytes).sum();
        while held + bytes > self.most_bytes {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.used.load(Relaxed));
            let Some(oldest) = oldest.map(|(digest, _)| *digest) else { break };
            held -= entries.remove(&oldest).map_or(0, |entry| entry.bytes);
        }
        let used = AtomicU64::new(self.compiled.fetch_add(1, Relaxed));
        let entry = Entry { validator: Arc::clone(&validator), bytes, used };
        entries.insert(digest, entry);
        Ok(Some(validator))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn source() -> SchemaSource {
        SchemaSource {
            format: SchemaFormat::Avro.into(),
            text: r#""int""#.to_owned(),
            ..SchemaSource::default()
        }
    }

    #[test]
    fn a_check_is_compiled_once_while_there_is_room_and_what_is_not_used_goes_first() {
        let kept = Kept::new(4 * (1_000 + ENTRY_BYTES));
        let compiled = Cell::new(0);
        let use_one = |number: u8| {
            let digest = Fingerprint::from([number; 32]);
            let compile = || {
                compiled.set(compiled.get() + 1);
                Validator::compile(&source())
            };
            kept.of(digest, 1_000, compile).unwrap().unwrap();
        };
        (0..4).for_each(use_one);
        (0..4).for_each(use_one);
        assert_eq!(compiled.get(), 4);
        // There is room for four: one goes.
        use_one(4);
        assert_eq!((compiled.get(), kept.entries.read().len()), (5, 4));
        for number in 5..50 {
            use_one(4);
            use_one(number);
            assert!(kept.entries.read().len() <= 4);
        }
        assert_eq!(compiled.get(), 50, "what is used all the time stays");
    }
}
