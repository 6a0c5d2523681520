//! The encoded `RecordBatch`, walked without decoding it.
//!
//! ```text
//! RecordBatch = ( 0A len Record )+                       nothing else at this level
//! Record      = ( 0A len key | 12 len value | 1A len Header | 21 8 bytes time | unknown )*
//! Header      = ( 0A len name (UTF-8) | 12 len value | unknown )*
//! ```
//!
//! What this walk accepts, every protobuf implementation can decode, and any subset of the
//! `0A len Record` entries is again a batch: the server cuts, splits and compacts by copying
//! entries. Unknown fields inside a record or header are checked for their wire format and kept.
//! As protobuf demands, the last occurrence of a repeated key or value wins.
//!
//! The walk allocates nothing and copies nothing.

use std::fmt;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use meshlog_storage::RecordKey;

use super::limits::{
    MAX_ADDED_BYTES, MAX_ADDED_HEADERS, MAX_HEADER_NAME_BYTES, MAX_HEADERS, MAX_RECORD_BYTES,
    MAX_REQUEST_BYTES,
};
use super::wire::{Field, Reader, WireError};
use crate::error::{Error, Reason};

/// One record of an encoded batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; a key without a value is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Where its whole entry, with tag and length, lies in the batch.
    pub entry: Range<usize>,
}

/// Why a batch cannot be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchError {
    /// Index of the record at fault, or of the one that would follow.
    pub record: u32,
    /// Byte position in the batch.
    pub position: usize,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The bytes are not the encoding of a batch.
    Malformed(&'static str),
    /// There is no record.
    Empty,
    /// The record has this many bytes.
    RecordTooLarge(usize),
    /// The record has too many headers.
    TooManyHeaders,
    /// A header name has this many bytes.
    HeaderNameTooLong(usize),
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { record, position, fault } = self;
        match fault {
            Fault::Malformed(what) => {
                write!(f, "record {record}: {what} at byte {position} of the batch")
            }
            Fault::Empty => {
                f.write_str("the batch has no records; send one to 4 MiB worth of them")
            }
            Fault::RecordTooLarge(bytes) => write!(
                f,
                "record {record} has {bytes} bytes, more than the {MAX_RECORD_BYTES} allowed; \
                 store the payload elsewhere and append a reference"
            ),
            Fault::TooManyHeaders => {
                write!(f, "record {record} has more than the {MAX_HEADERS} headers allowed")
            }
            Fault::HeaderNameTooLong(bytes) => write!(
                f,
                "record {record} has a header name of {bytes} bytes, more than the \
                 {MAX_HEADER_NAME_BYTES} allowed"
            ),
        }
    }
}

impl From<BatchError> for Error {
    fn from(error: BatchError) -> Self {
        let reason = match error.fault {
            Fault::Malformed(_) | Fault::Empty => Reason::BatchMalformed,
            Fault::RecordTooLarge(_) | Fault::TooManyHeaders | Fault::HeaderNameTooLong(_) => {
                Reason::TooLarge
            }
        };
        let broker = Error::new(reason, error.to_string());
        match error.fault {
            Fault::Empty => broker,
            Fault::Malformed(_) => {
                broker.with("record", error.record).with("position", error.position)
            }
            Fault::RecordTooLarge(_) => {
                broker.with("record", error.record).with("limit", MAX_RECORD_BYTES)
            }
            Fault::TooManyHeaders => broker.with("record", error.record).with("limit", MAX_HEADERS),
            Fault::HeaderNameTooLong(_) => {
                broker.with("record", error.record).with("limit", MAX_HEADER_NAME_BYTES)
            }
        }
    }
}

/// The records of an encoded batch, in order. After an error it ends.
///
/// An empty batch yields [`Fault::Empty`], so whoever walks to the end without an error has seen
/// at least one record.
pub fn records(batch: &[u8]) -> Records<'_> {
    Records { reader: Reader::new(batch), next: 0, failed: false, bounds: APPENDED }
}

/// The records of a stored batch: to those the broker may have added headers.
pub fn stored_records(batch: &[u8]) -> Records<'_> {
    Records { bounds: STORED, ..records(batch) }
}

/// How large a record may be, and how many headers it may have.
type Bounds = (usize, u32);

const APPENDED: Bounds = (MAX_RECORD_BYTES, MAX_HEADERS);
const STORED: Bounds = (MAX_RECORD_BYTES + MAX_ADDED_BYTES, MAX_HEADERS + MAX_ADDED_HEADERS);

/// Walks an encoded batch; see [`records`].
#[derive(Debug)]
pub struct Records<'a> {
    reader: Reader<'a>,
    next: u32,
    failed: bool,
    bounds: Bounds,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordView<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || (self.reader.is_empty() && self.next > 0) {
            return None;
        }
        match self.entry() {
            Ok(record) => {
                self.next += 1;
                Some(Ok(record))
            }
            Err((position, fault)) => {
                self.failed = true;
                Some(Err(BatchError { record: self.next, position, fault }))
            }
        }
    }
}

type Step<T> = Result<T, (usize, Fault)>;
type KeyAndValue<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

impl<'a> Records<'a> {
    #[inline]
    fn entry(&mut self) -> Step<RecordView<'a>> {
        if self.reader.is_empty() {
            return Err((0, Fault::Empty));
        }
        let start = self.reader.position();
        let body = match self.reader.field().map_err(malformed)? {
            (1, Field::Bytes(body)) => body,
            _ => {
                return Err((start, Fault::Malformed("a field that is not a record")));
            }
        };
        let (most_bytes, most_headers) = self.bounds;
        if body.len() > most_bytes {
            return Err((start, Fault::RecordTooLarge(body.len())));
        }
        let entry = start..self.reader.position();
        let body = Reader::within(body, entry.end - body.len());
        let (key, value) = record(body, most_headers)?;
        Ok(RecordView { key, value, entry })
    }
}

#[inline]
fn record<'a>(mut reader: Reader<'a>, most_headers: u32) -> Step<KeyAndValue<'a>> {
    let (mut key, mut value, mut headers) = (None, None, 0);
    while !reader.is_empty() {
        let start = reader.position();
        match reader.field().map_err(malformed)? {
            (1, Field::Bytes(bytes)) => key = Some(bytes),
            (2, Field::Bytes(bytes)) => value = Some(bytes),
            (3, Field::Bytes(bytes)) => {
                headers += 1;
                if headers > most_headers {
                    return Err((start, Fault::TooManyHeaders));
                }
                header(Reader::within(bytes, reader.position() - bytes.len()))?;
            }
            (4, Field::Fixed64) => {}
            (1..=4, _) => return Err((start, Fault::Malformed("a field of the wrong wire type"))),
            _ => {}
        }
    }
    Ok((key, value))
}

fn header(mut reader: Reader<'_>) -> Step<()> {
    while !reader.is_empty() {
        let start = reader.position();
        match reader.field().map_err(malformed)? {
            (1, Field::Bytes(name)) => {
                if name.len() > MAX_HEADER_NAME_BYTES {
                    return Err((start, Fault::HeaderNameTooLong(name.len())));
                }
                if std::str::from_utf8(name).is_err() {
                    return Err((start, Fault::Malformed("a header name that is not UTF-8")));
                }
            }
            (2, Field::Bytes(_)) => {}
            (1..=2, _) => {
                return Err((start, Fault::Malformed("a header field of the wrong wire type")));
            }
            _ => {}
        }
    }
    Ok(())
}

fn malformed(error: WireError) -> (usize, Fault) {
    (error.position, Fault::Malformed(error.what))
}

/// What storage needs to know about payloads: that they are batches of this encoding.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecordBatchCodec;

impl meshlog_storage::BatchCodec for RecordBatchCodec {
    fn count(&self, payload: &[u8]) -> meshlog_storage::Result<u32> {
        let mut count = 0;
        for record in stored_records(payload) {
            record.map_err(unreadable)?;
            count += 1;
        }
        Ok(count)
    }

    fn keys(&self, payload: &Bytes) -> meshlog_storage::Result<Vec<Option<RecordKey>>> {
        stored_records(payload)
            .map(|record| {
                let record = record.map_err(unreadable)?;
                let is_tombstone = record.value.is_none();
                let key = record.key.map(|key| payload.slice_ref(key));
                Ok(key.map(|key| RecordKey { key, is_tombstone }))
            })
            .collect()
    }

    fn retain(&self, payload: &Bytes, keep: &[u32]) -> meshlog_storage::Result<Bytes> {
        let mut kept = BytesMut::with_capacity(payload.len().min(MAX_REQUEST_BYTES));
        let mut keep = keep.iter().copied().peekable();
        for (index, record) in (0_u32..).zip(stored_records(payload)) {
            let record = record.map_err(unreadable)?;
            if keep.next_if_eq(&index).is_some() {
                kept.extend_from_slice(&payload[record.entry]);
            }
        }
        Ok(kept.freeze())
    }
}

/// Storage hands over only what was accepted once, so this means damage.
fn unreadable(error: BatchError) -> meshlog_storage::Error {
    meshlog_storage::Error::new(
        meshlog_storage::ErrorKind::Format,
        format!("a stored batch cannot be read: {error}"),
    )
}

#[cfg(test)]
mod tests;
