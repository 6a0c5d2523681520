//! What the audit log tells: one record per change of the catalogue, and of what else must be
//! answerable, in the internal product `meshlog.audit`.
//!
//! A record is a batch of the same entry as the change it tells of: both are there or neither is.
//! Its key is what was changed (`product/ops.flights`), its value the JSON that [`SCHEMA`]
//! describes, of at most 64 KiB: longer texts are cut and marked. Each value holds the hash of the
//! one before ([`crate::audit`]); the newest place in that chain is written in the same entry, so a
//! crash leaves the two together.

use std::borrow::Cow;

use bytes::Bytes;
use meshlog_proto::v1::{self, Classification, ProductState, SchemaFormat, SchemaSource};
use meshlog_storage::{Batch, Control, Entry, Storage, StreamId};
use prost::Message as _;
use serde_json::{Map, Value};
use ulid::Ulid;

use super::facts::Difference;
use super::name::MESHLOG;
use super::stored::{Chain, Counters, Key, StoredProduct, StoredSchema, StoredVersion};
use super::view::View;
use crate::Caller;
use crate::audit::HASH_HEADER;
use crate::error::{Error, Reason, Result};
use crate::schema::Schema;

/// The name of the product.
pub(crate) const PRODUCT: &str = "meshlog.audit";

/// Longest value of a record.
const MAX_VALUE_BYTES: usize = 64 << 10;
/// Longest text in a record, and longest where the record would grow too large.
const TEXT_BYTES: [usize; 3] = [4096, 512, 64];

/// What a record looks like.
pub(super) const SCHEMA: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "title": "A change, or a call that was refused",
  "type": "object",
  "required": ["sequence", "previous", "time", "principal", "application", "action", "kind", "name", "changes"],
  "properties": {
    "sequence": {"type": "integer", "minimum": 1, "description": "Number in the chain, without gaps."},
    "previous": {"type": "string", "description": "SHA-256 of the value of the record before, in hexadecimal; zeros: it is the first."},
    "time": {"type": "string", "format": "date-time", "description": "When it was made."},
    "principal": {"type": "string", "description": "Who made it."},
    "application": {"type": "string", "description": "With which program."},
    "action": {"type": "string", "description": "The call, as update_product."},
    "kind": {"type": "string", "description": "What was changed: product, domain, team, tag_key and so on; denial, authentication: nothing, the call was refused."},
    "name": {"type": "string", "description": "Its name after the change, or its last one; what a refused call was about."},
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
    "changes_left_out": {"type": "integer", "minimum": 1, "description": "More than a record holds."},
    "reason": {"type": "string", "description": "Why a call was refused."},
    "count": {"type": "integer", "minimum": 1, "description": "Refused calls that this record tells of together."},
    "until_time": {"type": "string", "format": "date-time", "description": "When the last of them came."},
    "actions": {"type": "object", "description": "How many of them were which call.", "additionalProperties": {"type": "integer"}}
  }
}"#;

/// What kind of thing was changed, or why nothing was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Product,
    Domain,
    Team,
    TagKey,
    ApiKey,
    Grant,
    AccessRequest,
    /// Of the broker as a whole: a backup taken, bytes erased.
    Broker,
    /// A call by somebody who may not make it.
    Denial,
    /// A call by somebody who could not prove who it is.
    Authentication,
}

impl Kind {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::Domain => "domain",
            Self::Team => "team",
            Self::TagKey => "tag_key",
            Self::ApiKey => "key",
            Self::Grant => "grant",
            Self::AccessRequest => "access_request",
            Self::Broker => "broker",
            Self::Denial => "denial",
            Self::Authentication => "authentication",
        }
    }
}

/// One change, as the audit log tells it.
#[derive(Debug)]
pub(crate) struct Act {
    action: Cow<'static, str>,
    kind: Kind,
    name: String,
    id: String,
    etag_before: String,
    gone: bool,
    kept: bool,
    changes: Vec<Difference>,
    /// What else is said, under names of [`SCHEMA`].
    also: Vec<(&'static str, Value)>,
}

/// An act with who did it and when.
pub(crate) struct Told<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) act: &'a Act,
    pub(crate) time: prost_types::Timestamp,
}

impl Act {
    /// `action` is the name of the call in snake case.
    pub(crate) fn new(action: impl Into<Cow<'static, str>>, kind: Kind, name: &str) -> Self {
        Self {
            action: action.into(),
            kind,
            name: name.to_owned(),
            id: String::new(),
            etag_before: String::new(),
            gone: false,
            kept: false,
            changes: Vec::new(),
            also: Vec::new(),
        }
    }

    /// With one more thing that is said, under its name in the schema of the audit log.
    pub(crate) fn also(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.also.push((name, value.into()));
        self
    }

    /// What is said under a name.
    #[cfg(test)]
    pub(crate) fn said(&self, name: &str) -> Option<&Value> {
        self.also.iter().find(|(said, _)| *said == name).map(|(_, value)| value)
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

    /// The value of the record that comes after `chain`.
    fn value(&self, told: &Told<'_>, etag_after: &str, chain: &Chain) -> Vec<u8> {
        let mut text = Vec::new();
        for most in TEXT_BYTES {
            text = self.encode(told, etag_after, chain, most, self.changes.len());
            if text.len() <= MAX_VALUE_BYTES {
                return text;
            }
        }
        let mut kept = self.changes.len();
        while text.len() > MAX_VALUE_BYTES && kept > 0 {
            kept /= 2;
            text = self.encode(told, etag_after, chain, 64, kept);
        }
        text
    }

    fn encode(
        &self,
        told: &Told<'_>,
        etag_after: &str,
        chain: &Chain,
        most: usize,
        kept: usize,
    ) -> Vec<u8> {
        let before = chain.link();
        let mut record = Map::new();
        record.insert("sequence".to_owned(), before.next_sequence().into());
        record.insert("previous".to_owned(), before.hash.to_string().into());
        record.insert("time".to_owned(), told.time.to_string().into());
        record.insert("principal".to_owned(), told.caller.principal().into());
        record.insert("application".to_owned(), (*told.caller.application).into());
        record.insert("action".to_owned(), (*self.action).into());
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
        for (name, value) in &self.also {
            record.insert((*name).to_owned(), value.clone());
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
    pub(super) fn create(storage: &Storage, counters: Counters) -> Result<()> {
        Self::create_with(storage, counters, SCHEMA)
    }

    fn create_with(storage: &Storage, mut counters: Counters, text: &str) -> Result<()> {
        let schema = parsed(text)?;
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
                          before, written in the same step as the change itself; and every call \
                          that was refused to somebody. `meshlog audit verify` proves that nothing \
                          of it was changed."
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
        let version = version_of(&schema, 1, &counters, create_time);
        let id = product.id.clone();
        let stored = StoredProduct {
            quarantine: None,
            product: Some(product),
            // Clients' products count from 1.
            number: 0,
            streams: vec![stream.0],
            versions: vec![version],
        };
        let mut controls = vec![Control::CreateStream(stream)];
        controls.extend(keys(&schema, &id, &stored, &counters));
        storage.append_and_wait(Entry { controls, ..Entry::default() })?;
        Ok(())
    }

    /// Gives the product of an older broker the schema of today's records, in one entry. Says
    /// whether there was something to do.
    ///
    /// # Errors
    /// Those of the engine.
    pub(super) fn renew(storage: &Storage, view: &View) -> Result<bool> {
        let schema = parsed(SCHEMA)?;
        let Some(handle) = view.products.get(PRODUCT) else { return Ok(false) };
        if handle.current().value.digest() == schema.digest() {
            return Ok(false);
        }
        let mut counters = view.counters;
        counters.changes += 1;
        counters.schema_versions += 1;
        let create_time = Some(crate::time::proto_time(storage.now()));
        let mut stored = handle.stored()?;
        let number = handle.current().number + 1;
        stored.versions.push(version_of(&schema, number, &counters, create_time));
        let controls = keys(&schema, &handle.id, &stored, &counters).into();
        storage.append_and_wait(Entry { controls, ..Entry::default() })?;
        Ok(true)
    }

    /// The records of some acts, which come after `chain`, for the entry of what they tell of; and
    /// where the chain stands then.
    pub(super) fn batch(
        &self,
        told: &[Told<'_>],
        etag_after: &str,
        mut chain: Chain,
    ) -> (Batch, Chain) {
        let mut records = Vec::with_capacity(told.len());
        for told in told {
            let value = told.act.value(told, etag_after, &chain);
            chain.follow(&value);
            let hash = v1::Header {
                name: HASH_HEADER.to_owned(),
                value: Bytes::from(chain.link().hash.to_string()),
            };
            records.push(v1::Record {
                key: Some(Bytes::from(format!("{}/{}", told.act.kind.text(), told.act.name))),
                value: Some(Bytes::from(value)),
                headers: vec![hash],
                event_time_unix_nano: crate::time::storage_time(&told.time).0,
            });
        }
        let count = records.len() as u32;
        let batch = Batch {
            stream: self.stream,
            payload: vec![Bytes::from(v1::RecordBatch { records }.encode_to_vec())],
            count,
            schema: self.schema,
            application: 0,
            expected_offset: None,
        };
        (batch, chain)
    }

    /// The one partition.
    pub(super) fn stream(&self) -> StreamId {
        self.stream
    }
}

fn parsed(text: &str) -> Result<Schema> {
    let source = SchemaSource {
        format: SchemaFormat::JsonSchema.into(),
        text: text.to_owned(),
        ..Default::default()
    };
    Schema::parse(&source).map_err(|malformed| {
        Error::new(Reason::Internal, format!("the schema of {PRODUCT}: {malformed}"))
    })
}

/// The schema as a version of the product, with the newest storage id of `counters`.
fn version_of(
    schema: &Schema,
    number: u32,
    counters: &Counters,
    create_time: Option<prost_types::Timestamp>,
) -> StoredVersion {
    StoredVersion {
        version: number,
        storage_id: counters.schema_versions,
        value: Bytes::copy_from_slice(schema.digest().as_bytes()),
        key: Bytes::new(),
        create_time,
        created_by: MESHLOG.to_owned(),
        closed: false,
    }
}

/// What makes the product and its newest schema durable.
fn keys(schema: &Schema, id: &str, stored: &StoredProduct, counters: &Counters) -> [Control; 3] {
    let set = |key: Key<'_>, value: Vec<u8>| Control::SetState {
        key: key.bytes(),
        value: Some(Bytes::from(value)),
    };
    let stored_schema = StoredSchema {
        fingerprint: Bytes::copy_from_slice(schema.fingerprint().as_bytes()),
        source: schema.encoded().clone(),
    };
    [
        set(Key::Schema(&schema.digest().to_string()), stored_schema.encode_to_vec()),
        set(Key::Product(id), stored.encode_to_vec()),
        set(Key::Counters, counters.encode_to_vec()),
    ]
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
        let (caller, chain) = (Caller::new("tests"), Chain::default());
        let value = |act: &Act| act.value(&Told { caller: &caller, act, time }, "2", &chain);
        let text = String::from_utf8(value(&act)).unwrap();
        assert!(text.len() < 8 << 10 && text.contains("… (cut, 65536 bytes)"), "{}", text.len());

        let many = (0..2_000).map(|number| long(format!("{number}{}", "p".repeat(400)), 300));
        let act = Act::new("update_product", Kind::Product, "ops.a").changes(many.collect());
        let value = value(&act);
        assert!(value.len() <= MAX_VALUE_BYTES);
        let value: Value = serde_json::from_slice(&value).unwrap();
        let kept = value["changes"].as_array().unwrap().len();
        assert!(kept > 10);
        assert_eq!(value["changes_left_out"], 2_000 - kept);
    }

    /// A directory of a broker whose audit log had no chain: the product gets the schema of today,
    /// the chain begins with the next change, and what was there before stays.
    #[tokio::test]
    async fn the_log_of_an_older_broker_goes_on_with_a_chain() {
        let old = r#"{"type": "object"}"#;
        let storage = super::super::tests::storage();
        AuditLog::create_with(&storage, Counters::default(), old).unwrap();
        let product = storage.streams()[0];
        let plain = v1::RecordBatch { records: vec![v1::Record::default()] };
        let batch = Batch {
            stream: product,
            payload: vec![Bytes::from(plain.encode_to_vec())],
            count: 1,
            schema: 1,
            application: 0,
            expected_offset: None,
        };
        storage.append_and_wait(Entry { batches: vec![batch], ..Entry::default() }).unwrap();
        for _ in 0..2 {
            let catalogue = super::super::Catalogue::open(&storage).unwrap();
            let handle = catalogue.resolve(PRODUCT, "").unwrap();
            assert_eq!(handle.current().number, 2, "once");
        }
        let catalogue = super::super::Catalogue::open(&storage).unwrap();
        let request = super::super::tests::team("ops");
        catalogue.create_team(&Default::default(), request).await.unwrap();
        let chain = catalogue.audit_chain();
        assert_eq!((chain.sequence, chain.first_offset), (1, 1));
    }
}
