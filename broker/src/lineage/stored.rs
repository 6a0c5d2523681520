//! Edges in the storage state. `FORMAT.md` describes it; the golden bytes in the tests pin it.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use super::copy::{Copy, MAX_COPIES};
use super::counter::Count;
use super::traffic::Flow;
use super::{Direction, Traffic, Who};
use crate::error::{Error, Reason, Result};

/// What stands under the key of a product's edges.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StoredTraffic {
    #[prost(message, repeated, tag = "1")]
    appended: Vec<StoredFlow>,
    #[prost(message, repeated, tag = "2")]
    read: Vec<StoredFlow>,
    #[prost(message, repeated, tag = "3")]
    copies: Vec<StoredCopy>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct StoredFlow {
    #[prost(string, tag = "1")]
    application: String,
    #[prost(string, tag = "2")]
    team: String,
    #[prost(message, repeated, tag = "3")]
    counts: Vec<StoredCount>,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
struct StoredCount {
    #[prost(uint32, tag = "1")]
    schema_version: u32,
    #[prost(uint64, tag = "2")]
    records: u64,
    #[prost(uint64, tag = "3")]
    bytes: u64,
    #[prost(uint64, tag = "4")]
    first: u64,
    #[prost(uint64, tag = "5")]
    last: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredCopy {
    #[prost(string, tag = "1")]
    source: String,
    #[prost(string, tag = "2")]
    application: String,
    #[prost(string, tag = "3")]
    team: String,
    #[prost(double, tag = "4")]
    percent: f64,
    #[prost(uint32, tag = "5")]
    records: u32,
    #[prost(message, repeated, tag = "6")]
    fields: Vec<StoredField>,
    #[prost(uint64, tag = "7")]
    time: u64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct StoredField {
    #[prost(string, tag = "1")]
    source: String,
    #[prost(string, tag = "2")]
    copy: String,
}

/// The key of a product's edges.
pub(crate) fn key(product_id: &str) -> Bytes {
    Bytes::from(format!("lineage/{product_id}"))
}

/// The product's id; `None` for keys of other parts of the broker.
pub(crate) fn parse(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key).ok()?.strip_prefix("lineage/")
}

impl StoredTraffic {
    /// The value under `key`.
    pub(crate) fn decode_value(key: &[u8], value: &Bytes) -> Result<Self> {
        Self::decode(value.clone()).map_err(|error| {
            let key = String::from_utf8_lossy(key).into_owned();
            Error::new(
                Reason::DataLoss,
                format!("the lineage `{key}` cannot be read: {error}; restore it from a backup"),
            )
            .with("key", key)
        })
    }
}

fn who(application: &str, team: &str) -> Who {
    let team = (!team.is_empty()).then(|| Arc::from(team));
    Who { application: Arc::from(application), team }
}

impl From<Flow> for StoredFlow {
    fn from(flow: Flow) -> Self {
        let count = |(schema_version, count): &(u32, Count)| StoredCount {
            schema_version: *schema_version,
            records: count.records,
            bytes: count.bytes,
            first: count.first,
            last: count.last,
        };
        Self {
            application: flow.who.application.to_string(),
            team: flow.who.team().to_owned(),
            counts: flow.versions.iter().rev().map(count).collect(),
        }
    }
}

impl From<&Copy> for StoredCopy {
    fn from(copy: &Copy) -> Self {
        let field = |(source, copy): &(String, String)| StoredField {
            source: source.clone(),
            copy: copy.clone(),
        };
        Self {
            source: copy.source.to_string(),
            application: copy.who.application.to_string(),
            team: copy.who.team().to_owned(),
            percent: copy.percent,
            records: copy.records,
            fields: copy.fields.iter().map(field).collect(),
            time: copy.time,
        }
    }
}

impl Traffic {
    /// As it is stored. Whatever changes from here on is a change again.
    pub(super) fn snapshot(&self) -> StoredTraffic {
        self.begin_to_write();
        self.mark_stored();
        let flows = |direction| self.flows(direction).into_iter().map(Into::into).collect();
        StoredTraffic {
            appended: flows(Direction::Append),
            read: flows(Direction::Read),
            copies: self.copies.lock().iter().map(Into::into).collect(),
        }
    }

    /// Goes on where the stored edges end.
    pub(crate) fn restore(&self, stored: StoredTraffic) {
        self.mark_stored();
        for (direction, flows) in
            [(Direction::Append, stored.appended), (Direction::Read, stored.read)]
        {
            for flow in flows {
                let who = who(&flow.application, &flow.team);
                for count in flow.counts {
                    let StoredCount { schema_version, records, bytes, first, last } = count;
                    let count = Count { records, bytes, first, last };
                    self.put(direction, who.clone(), schema_version, count);
                }
            }
        }
        let copy = |copy: StoredCopy| Copy {
            source: Arc::from(copy.source),
            who: who(&copy.application, &copy.team),
            percent: copy.percent,
            records: copy.records,
            fields: copy.fields.into_iter().map(|field| (field.source, field.copy)).collect(),
            time: copy.time,
        };
        *self.copies.lock() = stored.copies.into_iter().take(MAX_COPIES).map(copy).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Caller;

    #[test]
    fn the_stored_form_is_the_one_that_format_md_describes() {
        let traffic = Arc::new(Traffic::default());
        let stored = StoredTraffic {
            appended: vec![StoredFlow {
                application: "app".to_owned(),
                team: "ops".to_owned(),
                counts: vec![StoredCount {
                    schema_version: 2,
                    records: 300,
                    bytes: 7,
                    first: 5,
                    last: 9,
                }],
            }],
            read: vec![StoredFlow {
                application: "r".to_owned(),
                counts: vec![StoredCount { records: 1, ..StoredCount::default() }],
                ..StoredFlow::default()
            }],
            copies: vec![StoredCopy {
                source: "01A".to_owned(),
                application: "app".to_owned(),
                team: "ops".to_owned(),
                percent: 99.5,
                records: 200,
                fields: vec![StoredField { source: "a".to_owned(), copy: "b".to_owned() }],
                time: 9,
            }],
        };
        let golden = b"\x0a\x17\x0a\x03app\x12\x03ops\x1a\x0b\x08\x02\x10\xac\x02\x18\x07\x20\x05\x28\x09\
            \x12\x07\x0a\x01r\x1a\x02\x10\x01\
            \x1a\x25\x0a\x0301A\x12\x03app\x1a\x03ops\x21\x00\x00\x00\x00\x00\xe0\x58\x40\x28\xc8\x01\
            \x32\x06\x0a\x01a\x12\x01b\x38\x09";
        assert_eq!(stored.encode_to_vec(), golden);
        assert_eq!(key("01ABC"), &b"lineage/01ABC"[..]);
        assert_eq!(parse(b"lineage/01ABC"), Some("01ABC"));
        traffic.restore(StoredTraffic::decode(&golden[..]).unwrap());
        assert_eq!(traffic.snapshot(), stored);
        traffic.delivered(&Caller::new("r"), 1, 1, 0);
        assert_eq!(traffic.records_read(), 2);
    }
}
