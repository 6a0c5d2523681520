//! The records of the audit log, in order, a slice at a time.

use bytes::Bytes;
use meshlog_proto::v1;
use meshlog_storage::{Bounds, Offset, ReadHint, ReadRequest, StreamId};
use prost::Message as _;
use serde::Deserialize;
use tokio::sync::oneshot;

use super::chain::HASH_HEADER;
use crate::broker::Broker;
use crate::catalogue::AUDIT_PRODUCT;
use crate::error::{Error, Reason, Result};
use crate::record::no_answer;

/// Bytes read at a time.
const SLICE_BYTES: usize = 1 << 20;

/// A record as it is stored.
pub(super) struct Stored {
    pub(super) offset: u64,
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    pub(super) event_time: u64,
    /// What stands in the header for its hash.
    pub(super) hash: Option<String>,
}

/// What is looked at in a value; the rest is passed on as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Told {
    pub(super) sequence: u64,
    pub(super) time: String,
    pub(super) principal: String,
    pub(super) application: String,
    pub(super) action: String,
    pub(super) kind: String,
    pub(super) name: String,
}

/// Reads the log from an offset on.
pub(super) struct Reading<'a> {
    broker: &'a Broker,
    stream: StreamId,
    next: Offset,
    bounds: Bounds,
    hint: Option<ReadHint>,
}

impl<'a> Reading<'a> {
    /// From this offset, or from where the log begins; to where it ends now.
    pub(super) fn begin(broker: &'a Broker, from: Offset) -> Result<Self> {
        let product = broker.catalogue().resolve(AUDIT_PRODUCT, "")?;
        let stream = product.streams[0];
        let bounds = broker.storage().bounds(stream)?;
        Ok(Self { broker, stream, next: from.max(bounds.start), bounds, hint: None })
    }

    /// Where the log begins and ends.
    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The next records; none: this is the end. Also the bytes that were read.
    pub(super) async fn slice(&mut self) -> Result<(Vec<Stored>, usize)> {
        if self.next >= self.bounds.durable_end {
            return Ok((Vec::new(), 0));
        }
        let (stream, from, hint) = (self.stream, self.next, self.hint);
        let request = ReadRequest { stream, from, max_bytes: SLICE_BYTES, hint };
        let (sender, receiver) = oneshot::channel();
        let now = self.broker.storage().read(request, move |result| {
            // Whoever asked may have gone away.
            let _gone = sender.send(result);
        });
        let slice = match now {
            Some(now) => now,
            None => receiver.await.unwrap_or_else(|_| Err(no_answer())),
        }?;
        self.hint = slice.hint;
        let (mut records, mut bytes) = (Vec::new(), 0);
        for batch in slice.batches {
            if batch.base_offset >= self.bounds.durable_end {
                break;
            }
            bytes += batch.payload.len();
            self.next = batch.end();
            let decoded = v1::RecordBatch::decode(batch.payload).map_err(|error| {
                Error::new(
                    Reason::DataLoss,
                    format!(
                        "{AUDIT_PRODUCT} at offset {} is unreadable: {error}",
                        batch.base_offset
                    ),
                )
            })?;
            for (offset, record) in (batch.base_offset.0..).zip(decoded.records) {
                if offset < from.0 {
                    continue;
                }
                let hash = record.headers.iter().find(|header| header.name == HASH_HEADER);
                records.push(Stored {
                    offset,
                    hash: hash.map(|hash| String::from_utf8_lossy(&hash.value).into_owned()),
                    key: record.key.unwrap_or_default(),
                    value: record.value.unwrap_or_default(),
                    event_time: record.event_time_unix_nano,
                });
            }
        }
        Ok((records, bytes))
    }
}
