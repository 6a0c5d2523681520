//! The audit log: one record per change of the catalogue, in the internal product `meshlog.audit`.
//!
//! A record is a batch of the same entry as the change it tells of: both are there or neither is.
//! Its key is what was changed (`product/ops.flights`), its value the JSON that [`SCHEMA`]
//! describes, of at most 64 KiB: longer texts are cut and marked.

use bytes::Bytes;
use meshlog_proto::v1::{self, Classification, ProductState, SchemaFormat, SchemaSource};
use meshlog_storage::{Batch, Control, Entry, Storage, StreamId};
use prost::Message as _;
use serde_json::{Map, Value};
use ulid::Ulid;

use super::facts::Difference;
use super::name::MESHLOG;
use super::stored::{Counters, Key, StoredProduct, StoredSchema, StoredVersion};
use super::view::View;
use crate::Caller;
use crate::error::{Error, Reason, Result};
use crate::schema::Schema;

/// The name of the product.
pub(super) const PRODUCT: &str = "meshlog.audit";

/// Longest value of a record.
const MAX_VALUE_BYTES: usize = 64 << 10;
/// Longest text in a record, and longest where the record would grow too large.
const TEXT_BYTES: [usize; 3] = [4096, 512, 64];

/// What a record looks like.
pub(super) const SCHEMA: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "title": "A change of the catalogue",
  "type": "object",
  "required": ["time", "principal", "application", "action", "kind", "name", "changes"],
  "properties": {
    "time": {"type": "string", "format": "date-time", "description": "When it was made."},
    "principal": {"type": "string", "description": "Who made it."},
    "application": {"type": "string", "description": "With which program."},
    "action": {"type": "string", "description": "The call, as update_product."},
    "kind": {"enum": ["product", "domain", "team", "tag_key"], "description": "What was changed."},
    "name": {"type": "string", "description": "Its name after the change, or its last one."},
    "id": {"type": "string", "description": "Of a product."},
    "etag_before": {"type": "string", "description": "Absent: it is new."},
    "etag_after": {"type": "string", "description": "Absent: it is gone."},
    "changes": {
      "type": "array",
      "description": "Each value that is different now, by path.",
      "items": {
        "type": "object",
        "required": ["path"],
        "properties": {
          "path": {"type": "string"},
          "before": {"description": "Absent: it was not set."},
          "after": {"description": "Absent: it is not set any more."}
        }
      }
    },
    "changes_left_out": {"type": "integer", "minimum": 1, "description": "More than a record holds."}
  }
}"#;

/// What kind of thing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Product,
    Domain,
    Team,
    TagKey,
}

impl Kind {
    fn text(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::Domain => "domain",
            Self::Team => "team",
            Self::TagKey => "tag_key",
        }
    }
}

/// One change, as the audit log tells it.
pub(super) struct Act {
    action: &'static str,
    kind: Kind,
    name: String,
    id: String,
    etag_before: String,
    gone: bool,
    kept: bool,
    changes: Vec<Difference>,
}

impl Act {
    /// `action` is the name of the call in snake case.
    pub(super) fn new(action: &'static str, kind: Kind, name: &str) -> Self {
        Self {
            action,
            kind,
            name: name.to_owned(),
            id: String::new(),
            etag_before: String::new(),
            gone: false,
            kept: false,
            changes: Vec::new(),
        }
    }

    /// Of the product with this id.
    pub(super) fn id(self, id: &str) -> Self {
        Self { id: id.to_owned(), ..self }
    }

    /// It existed before, with this etag.
    pub(super) fn etag_before(self, etag: &str) -> Self {
        Self { etag_before: etag.to_owned(), ..self }
    }

    /// It exists no more.
    pub(super) fn gone(self) -> Self {
        Self { gone: true, ..self }
    }

    /// What is said about it is as before, its etag too: something that it holds has changed.
    pub(super) fn kept(self) -> Self {
        Self { kept: true, ..self }
    }

    /// With what is different now.
    pub(super) fn changes(mut self, changes: Vec<Difference>) -> Self {
        self.changes.extend(changes);
        self
    }

    /// With what is different in something that was changed along with it.
    pub(super) fn along(mut self, prefix: &str, changes: Vec<Difference>) -> Self {
        let named = changes
            .into_iter()
            .map(|change| Difference { path: format!("{prefix}.{}", change.path), ..change });
        self.changes.extend(named);
        self
    }

    /// The value of the record.
    fn value(&self, caller: &Caller, etag_after: &str, time: &prost_types::Timestamp) -> Vec<u8> {
        let mut text = Vec::new();
        for most in TEXT_BYTES {
            text = self.encode(caller, etag_after, time, most, self.changes.len());
            if text.len() <= MAX_VALUE_BYTES {
                return text;
            }
        }
        let mut kept = self.changes.len();
        while text.len() > MAX_VALUE_BYTES && kept > 0 {
            kept /= 2;
            text = self.encode(caller, etag_after, time, 64, kept);
        }
        text
    }

    fn encode(
        &self,
        caller: &Caller,
        etag_after: &str,
        time: &prost_types::Timestamp,
        most: usize,
        kept: usize,
    ) -> Vec<u8> {
        let mut record = Map::new();
        record.insert("time".to_owned(), time.to_string().into());
        record.insert("principal".to_owned(), caller.principal().into());
        record.insert("application".to_owned(), (*caller.application).into());
        record.insert("action".to_owned(), self.action.into());
        record.insert("kind".to_owned(), self.kind.text().into());
        record.insert("name".to_owned(), self.name.as_str().into());
        let etag_after = match (self.gone, self.kept) {
            (true, _) => "",
            (_, true) => &self.etag_before,
            _ => etag_after,
        };
        for (name, text) in
            [("id", &*self.id), ("etag_before", &*self.etag_before), ("etag_after", etag_after)]
        {
            if !text.is_empty() {
                record.insert(name.to_owned(), text.into());
            }
        }
        let changes = self.changes.iter().take(kept).map(|change| {
            let mut one = Map::new();
            one.insert("path".to_owned(), cut_text(&change.path, most.max(512)).into());
            let sides = [("before", &change.before), ("after", &change.after)];
            for (name, value) in sides {
                if let Some(value) = value {
                    one.insert(name.to_owned(), cut(value, most));
                }
            }
            Value::Object(one)
        });
        record.insert("changes".to_owned(), changes.collect());
        let left_out = self.changes.len() - kept;
        if left_out > 0 {
            record.insert("changes_left_out".to_owned(), left_out.into());
        }
        Value::Object(record).to_string().into_bytes()
    }
}

/// A value whose texts, and which as a whole, are not longer than `most`.
fn cut(value: &Value, most: usize) -> Value {
    match value {
        Value::String(text) => cut_text(text, most).into(),
        Value::Array(_) | Value::Object(_) => {
            let text = value.to_string();
            match text.len() > most {
                true => cut_text(&text, most).into(),
                false => value.clone(),
            }
        }
        other => other.clone(),
    }
}

fn cut_text(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let mut end = most;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}… (cut, {} bytes)", &text[..end], text.len())
}

/// Where records go.
#[derive(Clone, Copy, Debug)]
pub(super) struct AuditLog {
    stream: StreamId,
    schema: u32,
}

impl AuditLog {
    /// Of the product in this view, if it exists already.
    pub(super) fn find(view: &View) -> Option<Self> {
        let handle = view.products.get(PRODUCT)?;
        Some(Self { stream: *handle.streams.first()?, schema: handle.current().storage_id })
    }

    /// Creates the product, in one entry.
    ///
    /// # Errors
    /// Those of the engine.
    pub(super) fn create(storage: &Storage, mut counters: Counters) -> Result<()> {
        let schema = SchemaSource {
            format: SchemaFormat::JsonSchema.into(),
            text: SCHEMA.to_owned(),
            ..Default::default()
        };
        let schema = Schema::parse(&schema).map_err(|malformed| {
            Error::new(Reason::Internal, format!("the schema of {PRODUCT}: {malformed}"))
        })?;
        counters.changes += 1;
        counters.schema_versions += 1;
        let stream = storage.allocate_stream();
        let create_time = Some(crate::time::proto_time(storage.now()));
        let created_by = MESHLOG.to_owned();
        let product = v1::Product {
            name: PRODUCT.to_owned(),
            id: Ulid::generate().to_string(),
            etag: super::mutation::etag_of(counters.changes),
            owner: MESHLOG.to_owned(),
            description: "Every change of the catalogue: what, by whom, when, and what was there \
                          before. Written in the same step as the change itself."
                .to_owned(),
            classification: Classification::Restricted.into(),
            state: ProductState::Active.into(),
            kind: v1::ProductKind::SourceAligned.into(),
            partitions: 1,
            create_time,
            created_by: created_by.clone(),
            update_time: create_time,
            updated_by: created_by.clone(),
            ..Default::default()
        };
        let version = StoredVersion {
            version: 1,
            storage_id: counters.schema_versions,
            value: Bytes::copy_from_slice(schema.digest().as_bytes()),
            key: Bytes::new(),
            create_time,
            created_by,
        };
        let stored_schema = StoredSchema {
            fingerprint: Bytes::copy_from_slice(schema.fingerprint().as_bytes()),
            source: schema.encoded().clone(),
        };
        let id = product.id.clone();
        let stored = StoredProduct {
            product: Some(product),
            // Clients' products count from 1.
            number: 0,
            streams: vec![stream.0],
            versions: vec![version],
        };
        let set = |key: Key<'_>, value: Vec<u8>| Control::SetState {
            key: key.bytes(),
            value: Some(Bytes::from(value)),
        };
        let controls = vec![
            Control::CreateStream(stream),
            set(Key::Schema(&schema.digest().to_string()), stored_schema.encode_to_vec()),
            set(Key::Product(&id), stored.encode_to_vec()),
            set(Key::Counters, counters.encode_to_vec()),
        ];
        storage.append_and_wait(Entry { controls, ..Entry::default() })?;
        Ok(())
    }

    /// The record of a change, for the entry of that change.
    pub(super) fn batch(
        &self,
        caller: &Caller,
        act: &Act,
        etag_after: &str,
        time: prost_types::Timestamp,
    ) -> Batch {
        let record = v1::Record {
            key: Some(Bytes::from(format!("{}/{}", act.kind.text(), act.name))),
            value: Some(Bytes::from(act.value(caller, etag_after, &time))),
            event_time_unix_nano: crate::time::storage_time(&time).0,
            ..Default::default()
        };
        let batch = v1::RecordBatch { records: vec![record] };
        Batch {
            stream: self.stream,
            payload: vec![Bytes::from(batch.encode_to_vec())],
            count: 1,
            schema: self.schema,
            application: 0,
            expected_offset: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn long(path: String, bytes: usize) -> Difference {
        Difference { path, before: Some(json!("é".repeat(bytes / 2))), after: Some(json!(["x"])) }
    }

    #[test]
    fn a_record_is_bounded_and_says_what_was_cut() {
        let time = prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 };
        let act = Act::new("update_product", Kind::Product, "ops.a")
            .changes(vec![long("docs".to_owned(), 65_536)]);
        let value = act.value(&Caller::new("tests"), "2", &time);
        let text = String::from_utf8(value).unwrap();
        assert!(text.len() < 8 << 10 && text.contains("… (cut, 65536 bytes)"), "{}", text.len());

        let many = (0..2_000).map(|number| long(format!("{number}{}", "p".repeat(400)), 300));
        let act = Act::new("update_product", Kind::Product, "ops.a").changes(many.collect());
        let value = act.value(&Caller::new("tests"), "2", &time);
        assert!(value.len() <= MAX_VALUE_BYTES);
        let value: Value = serde_json::from_slice(&value).unwrap();
        let kept = value["changes"].as_array().unwrap().len();
        assert!(kept > 10);
        assert_eq!(value["changes_left_out"], 2_000 - kept);
    }
}
