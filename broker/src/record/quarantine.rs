//! Records that a product did not take, on their way into the product attached to it.
//!
//! ```text
//! Record as it came ─► the same bytes, with headers of the broker behind those of the producer ─► <name>$quarantine
//! ```
//!
//! | Header | What |
//! |---|---|
//! | `meshlog-quarantine-product` | name of the product |
//! | `meshlog-quarantine-partition` | where the record would have gone |
//! | `meshlog-quarantine-schema-version` | what it was checked against |
//! | `meshlog-quarantine-reason` | as in errors, for instance `SCHEMA_REJECTED` |
//! | `meshlog-quarantine-path`, `-expected`, `-found` | what is wrong, and where |
//! | `meshlog-quarantine-record` | its index in the request |
//! | `meshlog-quarantine-application`, `-principal` | who appended it |
//! | `meshlog-quarantine-producer` | id, epoch and sequence, if there was one |
//!
//! They come last, so one that a producer made up is told apart: of two with one name the last counts,
//! and redriving takes away as many as were added.

use bytes::{BufMut as _, Bytes, BytesMut};
use meshlog_proto::v1;
use prost::Message as _;

use super::limits::{MAX_BATCH_BYTES, MAX_BATCH_RECORDS};
use super::split::{Bad, Part, clip};
use super::wire::{Field, Reader};
use crate::caller::Caller;
use crate::catalogue::ProductHandle;
use crate::schema::Rejection;

/// What the names of all headers that the broker adds begin with.
pub(super) const PREFIX: &str = "meshlog-quarantine-";

/// Where records come from.
pub(super) struct Origin<'a> {
    pub(super) product: &'a ProductHandle,
    pub(super) caller: &'a Caller,
    pub(super) producer: Option<&'a v1::Producer>,
    pub(super) schema_version: u32,
}

impl Origin<'_> {
    /// The batches to store; each record of `bad` is one of `request`.
    #[cold]
    pub(super) fn batches(&self, request: &Bytes, bad: &[Bad]) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        let (mut payload, mut count) = (BytesMut::new(), 0);
        for bad in bad {
            let body = match Reader::new(&request[bad.entry.clone()]).field() {
                Ok((1, Field::Bytes(body))) => body,
                // The walk that found the record has read it so.
                _ => continue,
            };
            let added = v1::Record { headers: self.headers(bad), ..v1::Record::default() };
            let length = body.len() + added.encoded_len();
            if count == MAX_BATCH_RECORDS || payload.len() + length + 6 > MAX_BATCH_BYTES {
                parts.push(Part { partition: 0, payload: payload.split().freeze(), count });
                count = 0;
            }
            payload.put_u8(0x0a);
            prost::encoding::encode_varint(length as u64, &mut payload);
            payload.put_slice(body);
            payload.put_slice(&added.encode_to_vec());
            count += 1;
        }
        parts.push(Part { partition: 0, payload: payload.freeze(), count });
        parts.retain(|part| part.count > 0);
        parts
    }

    fn headers(&self, bad: &Bad) -> Vec<v1::Header> {
        let Rejection { path, expected, found, broken } = &bad.rejection;
        let producer = self.producer.map(|producer| {
            let id: String = producer.id.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{id} {} {}", producer.epoch, producer.sequence)
        });
        let headers = [
            ("product", Some(self.product.name.to_string())),
            ("partition", Some(bad.partition.to_string())),
            ("schema-version", Some(self.schema_version.to_string())),
            ("reason", Some(broken.reason().text().to_owned())),
            ("path", Some(clip(path))),
            ("expected", Some(clip(expected))),
            ("found", Some(clip(found))),
            ("record", Some(bad.index.to_string())),
            ("application", Some(clip(&self.caller.application))),
            ("principal", Some(clip(&self.caller.principal()))),
            ("producer", producer),
        ];
        let given = headers.into_iter().filter_map(|(name, value)| Some((name, value?)));
        given
            .map(|(name, value)| v1::Header {
                name: format!("{PREFIX}{name}"),
                value: Bytes::from(value),
            })
            .collect()
    }
}

/// As answers tell of it.
pub(super) fn nonconformity(bad: &Bad) -> v1::Nonconformity {
    let Rejection { path, expected, found, broken } = &bad.rejection;
    v1::Nonconformity {
        record: bad.index,
        reason: broken.reason().text().to_owned(),
        path: clip(path),
        expected: clip(expected),
        found: clip(found),
    }
}
