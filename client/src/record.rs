//! Records as users see them, and their protobuf encoding.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes, BytesMut};
use meshlog_proto::v1;
use prost::encoding::{encode_varint, encoded_len_varint};

/// The header in which a record says which trace it is part of.
const TRACE_PARENT: &str = "traceparent";

/// One record.
///
/// ```
/// use meshlog_client::Record;
///
/// let record = Record::new(r#"{"delay":4}"#).key("UA1545").header("origin", "tower");
/// let deletion = Record::tombstone("UA1545");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Chooses the partition and says what the record is about. Optional.
    pub key: Option<Bytes>,
    /// The payload. A key without a value is a tombstone.
    pub value: Option<Bytes>,
    /// At most 64; order and duplicates are kept.
    pub headers: Vec<Header>,
    /// When it happened, in nanoseconds since 1970 UTC; 0 means unknown.
    pub event_time_unix_nano: u64,
}

/// A name and a value beside the record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// At most 256 bytes.
    pub name: String,
    /// Any bytes.
    pub value: Bytes,
}

impl Record {
    /// A record with this value and no key.
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    /// Says that what `key` stands for is gone.
    pub fn tombstone(key: impl Into<Bytes>) -> Self {
        Self { key: Some(key.into()), ..Self::default() }
    }

    /// The same record with this key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same record with one more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push(Header { name: name.into(), value: value.into() });
        self
    }

    /// The same record as part of a trace: `parent` is a `traceparent` of W3C Trace Context, for
    /// instance that of the span in which the record is made. One that it has already goes.
    #[must_use]
    pub fn trace_parent(mut self, parent: impl Into<Bytes>) -> Self {
        self.headers.retain(|header| header.name != TRACE_PARENT);
        self.header(TRACE_PARENT, parent)
    }

    /// The trace it is part of, as its producer wrote it; nothing if that is no text.
    #[must_use]
    pub fn find_trace_parent(&self) -> Option<&str> {
        let header = self.headers.iter().find(|header| header.name == TRACE_PARENT)?;
        std::str::from_utf8(&header.value).ok()
    }

    /// The same record with the time at which it happened. Times before 1970 count as unknown.
    #[must_use]
    pub fn event_time(mut self, time: SystemTime) -> Self {
        let nanos = time.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_nanos());
        self.event_time_unix_nano = u64::try_from(nanos).unwrap_or(0);
        self
    }

    /// When it happened, if known.
    #[must_use]
    pub fn time(&self) -> Option<SystemTime> {
        (self.event_time_unix_nano != 0)
            .then(|| UNIX_EPOCH + Duration::from_nanos(self.event_time_unix_nano))
    }

    /// A view that can be appended without copying the record first.
    #[must_use]
    pub fn as_view(&self) -> RecordRef<'_> {
        RecordRef {
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: &self.headers,
            event_time_unix_nano: self.event_time_unix_nano,
        }
    }
}

impl From<v1::Record> for Record {
    fn from(record: v1::Record) -> Self {
        let header = |header: v1::Header| Header { name: header.name, value: header.value };
        Self {
            key: record.key,
            value: record.value,
            headers: record.headers.into_iter().map(header).collect(),
            event_time_unix_nano: record.event_time_unix_nano,
        }
    }
}

/// A borrowed record: what a producer needs to encode one. Made from `&Record`, or from the bytes
/// of a value.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecordRef<'a> {
    /// As [`Record::key`].
    pub key: Option<&'a [u8]>,
    /// As [`Record::value`].
    pub value: Option<&'a [u8]>,
    /// As [`Record::headers`].
    pub headers: &'a [Header],
    /// As [`Record::event_time_unix_nano`].
    pub event_time_unix_nano: u64,
}

impl<'a> From<&'a Record> for RecordRef<'a> {
    fn from(record: &'a Record) -> Self {
        record.as_view()
    }
}

impl<'a> From<&'a [u8]> for RecordRef<'a> {
    fn from(value: &'a [u8]) -> Self {
        Self { value: Some(value), ..Self::default() }
    }
}

impl<'a> From<&'a str> for RecordRef<'a> {
    fn from(value: &'a str) -> Self {
        value.as_bytes().into()
    }
}

// The field tags of meshlog.v1.Record and meshlog.v1.Header: number << 3 | wire type.
const KEY: u8 = 1 << 3 | 2;
const VALUE: u8 = 2 << 3 | 2;
const HEADER: u8 = 3 << 3 | 2;
const EVENT_TIME: u8 = 4 << 3 | 1;
const HEADER_NAME: u8 = 1 << 3 | 2;
const HEADER_VALUE: u8 = 2 << 3 | 2;

impl RecordRef<'_> {
    /// Length of the encoding, in bytes.
    pub(crate) fn encoded_len(&self) -> usize {
        self.key.map_or(0, field_len)
            + self.value.map_or(0, field_len)
            + self.headers.iter().map(|header| delimited_len(header_len(header))).sum::<usize>()
            + if self.event_time_unix_nano == 0 { 0 } else { 1 + size_of::<u64>() }
    }

    /// Appends the protobuf encoding, exactly `encoded_len` bytes.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        if let Some(key) = self.key {
            put_field(out, KEY, key);
        }
        if let Some(value) = self.value {
            put_field(out, VALUE, value);
        }
        for header in self.headers {
            out.put_u8(HEADER);
            encode_varint(header_len(header) as u64, out);
            // proto3 leaves empty fields out.
            if !header.name.is_empty() {
                put_field(out, HEADER_NAME, header.name.as_bytes());
            }
            if !header.value.is_empty() {
                put_field(out, HEADER_VALUE, &header.value);
            }
        }
        if self.event_time_unix_nano != 0 {
            out.put_u8(EVENT_TIME);
            out.put_u64_le(self.event_time_unix_nano);
        }
    }
}

fn header_len(header: &Header) -> usize {
    let optional = |bytes: &[u8]| if bytes.is_empty() { 0 } else { field_len(bytes) };
    optional(header.name.as_bytes()) + optional(&header.value)
}

fn field_len(bytes: &[u8]) -> usize {
    delimited_len(bytes.len())
}

/// Length of a length-delimited field with a one-byte tag.
pub(crate) fn delimited_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

fn put_field(out: &mut BytesMut, tag: u8, bytes: &[u8]) {
    out.put_u8(tag);
    encode_varint(bytes.len() as u64, out);
    out.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message;

    fn to_wire(record: &Record) -> v1::Record {
        v1::Record {
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record
                .headers
                .iter()
                .map(|h| v1::Header { name: h.name.clone(), value: h.value.clone() })
                .collect(),
            event_time_unix_nano: record.event_time_unix_nano,
        }
    }

    proptest! {
        #[test]
        fn the_encoding_is_the_one_of_the_contract(
            key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
            value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20_000)),
            headers in proptest::collection::vec((".{0,20}", proptest::collection::vec(any::<u8>(), 0..200)), 0..4),
            event_time_unix_nano in prop_oneof![Just(0), any::<u64>()],
        ) {
            let record = Record {
                key: key.map(Bytes::from),
                value: value.map(Bytes::from),
                headers: headers.into_iter().map(|(name, value)| Header { name, value: value.into() }).collect(),
                event_time_unix_nano,
            };
            let mut encoded = BytesMut::new();
            record.as_view().encode(&mut encoded);
            prop_assert_eq!(encoded.len(), record.as_view().encoded_len());
            prop_assert_eq!(&encoded[..], &to_wire(&record).encode_to_vec()[..]);
            prop_assert_eq!(Record::from(v1::Record::decode(encoded.freeze()).unwrap()), record);
        }
    }

    #[test]
    fn an_empty_value_is_not_an_absent_one() {
        let mut encoded = BytesMut::new();
        Record::new("").as_view().encode(&mut encoded);
        assert_eq!(&encoded[..], [VALUE, 0]);
        assert_eq!(Record::tombstone("k").as_view().encoded_len(), 3);
    }

    #[test]
    fn event_times_keep_their_nanoseconds() {
        let time = UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789);
        assert_eq!(Record::new("v").event_time(time).time(), Some(time));
        assert_eq!(Record::new("v").time(), None);
    }
}
