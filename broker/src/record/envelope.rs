//! The envelope: one record with its position, key and headers as one line of JSON. `consume -o
//! jsonl` writes it, `produce --format envelope` reads it, HTTP does both, and nothing is lost
//! between the two.
//!
//! ```text
//! {"partition":0,"offset":7,"append_time":"2026-11-20T12:00:00.123Z","key":"N14228","value":{"delay":2},"headers":[]}
//! ```
//!
//! | Bytes | In the line |
//! |---|---|
//! | a JSON value on one line | `value` verbatim, not serialised again: numbers and spaces stay as they are |
//! | other UTF-8 | `value` a string, `"value_encoding":"text"` |
//! | anything else | `value` a string, `"value_encoding":"base64"` |
//! | no value (tombstone) | `"value":null` |
//!
//! The four letters `null` as a value are text, so that `"value":null` is always a tombstone. Keys
//! and header values are strings; `key_encoding` and a header's `encoding` are there only for
//! `base64`. `event_time` is there only if it is known. Reading ignores `partition`, `offset` and
//! `append_time`: they are the broker's to give.

use std::borrow::Cow;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use meshlog_proto::v1::{Header, Record};
use prost_types::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::time::proto_time;

/// Where a record lies.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    /// The partition.
    pub partition: u32,
    /// The offset in it.
    pub offset: u64,
    /// When the broker appended it.
    pub append_time: Timestamp,
}

#[derive(Serialize)]
struct Written<'a> {
    partition: u32,
    offset: u64,
    #[serde(serialize_with = "as_text")]
    append_time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text_if_known")]
    event_time: Option<Timestamp>,
    key: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_encoding: Option<Encoding>,
    value: Option<Value<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_encoding: Option<Encoding>,
    headers: Vec<WrittenHeader<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Value<'a> {
    Verbatim(&'a RawValue),
    Text(Cow<'a, str>),
}

#[derive(Serialize)]
struct WrittenHeader<'a> {
    name: &'a str,
    value: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<Encoding>,
}

/// An envelope as it was read; [`Envelope::record`] makes it a record.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "positions are accepted and left to the broker")]
pub struct Envelope<'a> {
    partition: Option<u32>,
    offset: Option<u64>,
    append_time: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event_time: Option<Cow<'a, str>>,
    key: Option<String>,
    key_encoding: Option<Encoding>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    value_encoding: Option<Encoding>,
    #[serde(default)]
    headers: Vec<ReadHeader>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadHeader {
    name: String,
    value: String,
    encoding: Option<Encoding>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    Text,
    Base64,
}

impl Encoding {
    fn if_binary(self) -> Option<Self> {
        (self == Self::Base64).then_some(self)
    }
}

/// Appends one record to `out` as one line, without the line feed.
pub fn write(out: &mut Vec<u8>, position: Position, record: &Record) {
    let (value, value_encoding) = match record.value.as_deref() {
        None => (None, None),
        Some(bytes) => match verbatim(bytes) {
            Some(raw) => (Some(Value::Verbatim(raw)), None),
            None => {
                let (text, encoding) = text(bytes);
                (Some(Value::Text(text)), Some(encoding))
            }
        },
    };
    let key = record.key.as_deref().map(text);
    let line = Written {
        partition: position.partition,
        offset: position.offset,
        append_time: position.append_time,
        event_time: event_time(record),
        key_encoding: key.as_ref().and_then(|(_, encoding)| encoding.if_binary()),
        key: key.map(|(text, _)| text),
        value,
        value_encoding,
        headers: record.headers.iter().map(written_header).collect(),
    };
    serde_json::to_writer(&mut *out, &line)
        .expect("a line holds only strings, numbers and valid JSON, and memory takes every write");
}

/// Reads what [`write()`] wrote; an error is a sentence without the line number.
///
/// # Errors
/// A sentence that says what is wrong with the line.
pub fn read(line: &[u8]) -> Result<Record, String> {
    let line: Envelope<'_> = serde_json::from_slice(line).map_err(|error| {
        format!("not an envelope as `consume -o jsonl` writes it: {}", json_error(&error))
    })?;
    line.record()
}

impl Envelope<'_> {
    /// The record.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn record(self) -> Result<Record, String> {
        let value = match (self.value, self.value_encoding) {
            (None, _) => None,
            (Some(raw), None) => Some(Bytes::copy_from_slice(raw.get().as_bytes())),
            (Some(raw), Some(encoding)) => {
                let text: String = serde_json::from_str(raw.get())
                    .map_err(|_| "`value` is not a string although `value_encoding` is set")?;
                Some(bytes(text, encoding, "value")?)
            }
        };
        let key = match self.key {
            None => None,
            Some(key) => Some(bytes(key, self.key_encoding.unwrap_or(Encoding::Text), "key")?),
        };
        let mut headers = Vec::with_capacity(self.headers.len());
        for header in self.headers {
            let encoding = header.encoding.unwrap_or(Encoding::Text);
            let value = bytes(header.value, encoding, &header.name)?;
            headers.push(Header { name: header.name, value });
        }
        if key.is_none() && value.is_none() {
            return Err("it has neither `key` nor `value`".into());
        }
        let event_time_unix_nano = match self.event_time {
            None => 0,
            Some(time) => nanos_of(&time).map_err(|what| format!("`event_time` {time} {what}"))?,
        };
        Ok(Record { key, value, headers, event_time_unix_nano })
    }
}

/// What a JSON parser found, with its column but without a line: every input here is one line.
#[must_use]
pub fn json_error(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => format!("{} (column {})", &text[..end], error.column()),
        None => text,
    }
}

/// The nanoseconds since 1970 of a time in RFC 3339; an error says what is wrong with it.
pub(crate) fn nanos_of(time: &str) -> Result<u64, &'static str> {
    let time: Timestamp = time.parse().map_err(|_| "is no time as RFC 3339 writes it")?;
    let nanos = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    if nanos < 0 {
        return Err("is before 1970");
    }
    u64::try_from(nanos).map_err(|_| "is after 2554")
}

/// When it happened, if that is known.
pub(crate) fn event_time(record: &Record) -> Option<Timestamp> {
    let nanos = record.event_time_unix_nano;
    (nanos != 0).then(|| proto_time(meshlog_storage::Timestamp(nanos)))
}

/// The bytes as JSON, if they can stand in a line as they are.
pub(crate) fn verbatim(bytes: &[u8]) -> Option<&RawValue> {
    let (first, last) = (bytes.first()?, bytes.last()?);
    if first.is_ascii_whitespace() || last.is_ascii_whitespace() || bytes == b"null" {
        return None;
    }
    if bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return None;
    }
    serde_json::from_slice(bytes).ok()
}

fn text(bytes: &[u8]) -> (Cow<'_, str>, Encoding) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Cow::Borrowed(text), Encoding::Text),
        Err(_) => (Cow::Owned(BASE64_STANDARD.encode(bytes)), Encoding::Base64),
    }
}

fn bytes(text: String, encoding: Encoding, what: &str) -> Result<Bytes, String> {
    match encoding {
        Encoding::Text => Ok(text.into()),
        Encoding::Base64 => match BASE64_STANDARD.decode(&text) {
            Ok(bytes) => Ok(bytes.into()),
            Err(error) => Err(format!("`{what}` is not base64: {error}")),
        },
    }
}

fn as_text<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

fn as_text_if_known<S: Serializer>(
    time: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(time),
        None => serializer.serialize_none(),
    }
}

fn written_header(header: &Header) -> WrittenHeader<'_> {
    let (value, encoding) = text(&header.value);
    WrittenHeader { name: &header.name, value, encoding: encoding.if_binary() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(record: &Record) -> String {
        let position = Position { partition: 1, offset: 7, append_time: Timestamp::default() };
        let mut out = Vec::new();
        write(&mut out, position, record);
        String::from_utf8(out).unwrap()
    }

    fn valued(value: &[u8]) -> Record {
        Record { value: Some(value.to_vec().into()), ..Record::default() }
    }

    fn value_of(value: &[u8]) -> String {
        let line = line(&valued(value));
        let start = line.find("\"value\":").unwrap();
        line[start..line.find(",\"headers\"").unwrap()].to_owned()
    }

    #[test]
    fn a_line_has_position_key_value_and_headers() {
        let headers = vec![Header { name: "origin".to_owned(), value: "tower".into() }];
        let record = Record { key: Some("N14228".into()), headers, ..valued(br#"{"delay":2}"#) };
        assert_eq!(
            line(&record),
            concat!(
                r#"{"partition":1,"offset":7,"append_time":"1970-01-01T00:00:00Z","key":"N14228","#,
                r#""value":{"delay":2},"headers":[{"name":"origin","value":"tower"}]}"#
            )
        );
    }

    #[test]
    fn json_stays_as_it_was_written() {
        assert_eq!(value_of(br#"{"a": 1.50, "a":1e400}"#), r#""value":{"a": 1.50, "a":1e400}"#);
        assert_eq!(value_of(b"10.357019999999999"), r#""value":10.357019999999999"#);
        assert_eq!(value_of(br#""UA""#), r#""value":"UA""#);
    }

    #[test]
    fn what_is_not_json_says_how_it_is_written() {
        assert_eq!(value_of(b"UA"), r#""value":"UA","value_encoding":"text""#);
        assert_eq!(value_of(b""), r#""value":"","value_encoding":"text""#);
        assert_eq!(value_of(b"null"), r#""value":"null","value_encoding":"text""#);
        assert_eq!(value_of(b"{\n}"), r#""value":"{\n}","value_encoding":"text""#);
        assert_eq!(value_of(&[0xff, 0]), r#""value":"/wA=","value_encoding":"base64""#);
        assert!(
            line(&Record { key: Some("k".into()), ..Record::default() })
                .contains(r#""key":"k","value":null,"headers""#)
        );
    }

    #[test]
    fn a_line_that_is_no_envelope_is_refused_with_its_reason() {
        let cases: [(&str, &str); 6] = [
            ("{", "not an envelope"),
            (r#"{"value":1,"colour":2}"#, "unknown field `colour`"),
            (r#"{"offset":1}"#, "neither `key` nor `value`"),
            (r#"{"value":1,"value_encoding":"base64"}"#, "is not a string"),
            (r#"{"value":"%","value_encoding":"base64"}"#, "`value` is not base64"),
            (r#"{"value":1,"event_time":"1969-01-01T00:00:00Z"}"#, "before 1970"),
        ];
        for (line, reason) in cases {
            let error = read(line.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{line}: {error}");
        }
    }

    fn bytes_like_in_life() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            "\\PC{0,20}".prop_map(String::into_bytes),
            r#"[ \n]?(null|true|-?[0-9]{1,20}(\.[0-9]{1,5})?|"a"|\{"a": ?[1-9]\}|\[\n?\])[ \r]?"#
                .prop_map(String::into_bytes),
        ]
    }

    proptest! {
        #[test]
        fn nothing_is_lost_between_write_and_read(
            key in proptest::option::of(bytes_like_in_life()),
            value in proptest::option::of(bytes_like_in_life()),
            headers in proptest::collection::vec(("\\PC{0,9}", bytes_like_in_life()), 0..3),
            event_time_unix_nano in prop_oneof![Just(0), 1..u64::MAX / 4],
        ) {
            prop_assume!(key.is_some() || value.is_some());
            let record = Record {
                key: key.map(Bytes::from),
                value: value.map(Bytes::from),
                headers: headers
                    .into_iter()
                    .map(|(name, value)| Header { name, value: value.into() })
                    .collect(),
                event_time_unix_nano,
            };
            let line = line(&record);
            prop_assert_eq!(line.matches('\n').count(), 0);
            prop_assert_eq!(read(line.as_bytes()), Ok(record));
        }
    }
}
