//! The envelope: one record with its position, key and headers as one line of JSON. `consume -o
//! jsonl` writes it, `produce --format envelope` reads it, and nothing is lost between the two.
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
use jiff::Timestamp;
use meshlog_client::{Header, Record};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Where a record lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    /// The partition.
    pub(crate) partition: u32,
    /// The offset in it.
    pub(crate) offset: u64,
    /// When the broker appended it.
    pub(crate) append_time: Timestamp,
}

#[derive(Serialize)]
struct Written<'a> {
    partition: u32,
    offset: u64,
    append_time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "positions are accepted and left to the broker")]
struct Read<'a> {
    partition: Option<u32>,
    offset: Option<u64>,
    append_time: Option<Timestamp>,
    event_time: Option<Timestamp>,
    key: Option<String>,
    key_encoding: Option<Encoding>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    value_encoding: Option<Encoding>,
    #[serde(default)]
    headers: Vec<ReadHeader>,
}

#[derive(Deserialize)]
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

/// Appends one record to `out` as one line, with the line feed.
pub(crate) fn write(out: &mut Vec<u8>, position: Position, record: &Record) {
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
    out.push(b'\n');
}

/// Reads what [`write()`] wrote; an error is a sentence without the line number.
pub(crate) fn read(line: &[u8]) -> Result<Record, String> {
    let line: Read<'_> = serde_json::from_slice(line).map_err(|error| {
        format!("not an envelope as `consume -o jsonl` writes it: {}", json_error(&error))
    })?;
    let value = match (line.value, line.value_encoding) {
        (None, _) => None,
        (Some(raw), None) => Some(Bytes::copy_from_slice(raw.get().as_bytes())),
        (Some(raw), Some(encoding)) => {
            let text: String = serde_json::from_str(raw.get())
                .map_err(|_| "`value` is not a string although `value_encoding` is set")?;
            Some(bytes(text, encoding, "value")?)
        }
    };
    let key = match line.key {
        None => None,
        Some(key) => Some(bytes(key, line.key_encoding.unwrap_or(Encoding::Text), "key")?),
    };
    let mut headers = Vec::with_capacity(line.headers.len());
    for header in line.headers {
        let encoding = header.encoding.unwrap_or(Encoding::Text);
        let value = bytes(header.value, encoding, &header.name)?;
        headers.push(Header { name: header.name, value });
    }
    if key.is_none() && value.is_none() {
        return Err("it has neither `key` nor `value`".into());
    }
    let event_time_unix_nano = match line.event_time {
        None => 0,
        Some(time) => u64::try_from(time.as_nanosecond())
            .map_err(|_| format!("`event_time` {time} is before 1970"))?,
    };
    Ok(Record { key, value, headers, event_time_unix_nano })
}

/// What a JSON parser found, with its column but without a line: every input here is one line.
pub(crate) fn json_error(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => format!("{} (column {})", &text[..end], error.column()),
        None => text,
    }
}

/// The bytes as JSON, if they can stand in a line as they are.
fn verbatim(bytes: &[u8]) -> Option<&RawValue> {
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

fn event_time(record: &Record) -> Option<Timestamp> {
    let nanos = record.event_time_unix_nano;
    (nanos != 0).then(|| Timestamp::from_nanosecond(nanos.into()).ok()).flatten()
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
        let position = Position { partition: 1, offset: 7, append_time: Timestamp::UNIX_EPOCH };
        let mut out = Vec::new();
        write(&mut out, position, record);
        String::from_utf8(out).unwrap()
    }

    fn value_of(value: &[u8]) -> String {
        let line = line(&Record::new(value.to_vec()));
        let start = line.find("\"value\":").unwrap();
        line[start..line.find(",\"headers\"").unwrap()].to_owned()
    }

    #[test]
    fn a_line_has_position_key_value_and_headers() {
        let record = Record::new(r#"{"delay":2}"#).key("N14228").header("origin", "tower");
        assert_eq!(
            line(&record),
            concat!(
                r#"{"partition":1,"offset":7,"append_time":"1970-01-01T00:00:00Z","key":"N14228","#,
                r#""value":{"delay":2},"headers":[{"name":"origin","value":"tower"}]}"#,
                "\n"
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
        assert!(line(&Record::tombstone("k")).contains(r#""key":"k","value":null,"headers""#));
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
            prop_assert_eq!(line.matches('\n').count(), 1);
            prop_assert_eq!(read(line.trim_end().as_bytes()), Ok(record));
        }
    }
}
