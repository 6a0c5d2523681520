//! CloudEvents 1.0 as records and back.
//!
//! A record holds an event as the Kafka protocol binding does in binary mode, so that what one
//! protocol wrote another reads:
//!
//! | Event | Record |
//! |---|---|
//! | an attribute, also an extension | the header `ce_<name>`, as text |
//! | `datacontenttype` | the header `content-type` |
//! | data | the value, verbatim; none: no value if there is a key (a tombstone), else an empty one |
//! | `time` | also the event time |
//! | the extension `partitionkey` | also the key |
//!
//! A record that no CloudEvent made is read as one too: `id` is `<partition>-<offset>`, `source` is
//! `/v1/products/<product>`, `type` is `meshlog.record`, `time` the event time or else that of the
//! append, `partitionkey` the key if it is text.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use meshlog_proto::v1::{Header, Record};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::value::RawValue;

use super::media;
use crate::record::envelope::{self, Position};

/// What the name of a header of a record begins with.
const PREFIX: &str = "ce_";
/// Where the type of the data stands.
const CONTENT_TYPE: &str = "content-type";
const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

/// A record of an event in JSON; an error is a sentence.
pub(super) fn from_json(event: &[u8]) -> Result<Record, String> {
    let fields: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(event)
        .map_err(|error| format!("no CloudEvent: {}", envelope::json_error(&error)))?;
    let mut attributes = BTreeMap::new();
    let (mut data, mut base64) = (None, None);
    for (name, value) in fields {
        match &*name {
            "data" => data = Some(value),
            "data_base64" => base64 = Some(value),
            _ if value.get() == "null" => {}
            _ => {
                let text = match value.get().as_bytes()[0] {
                    b'"' => serde_json::from_str(value.get()).map_err(|error| error.to_string())?,
                    b'{' | b'[' => return Err(format!("`{name}` is no string, number or boolean")),
                    _ => value.get().to_owned(),
                };
                attributes.insert(name.into_owned(), text);
            }
        }
    }
    let value = match (data, base64) {
        (Some(_), Some(_)) => return Err("it has both `data` and `data_base64`".to_owned()),
        (None, None) => None,
        (None, Some(base64)) => {
            let text: String = serde_json::from_str(base64.get())
                .map_err(|_| "`data_base64` is no string".to_owned())?;
            let bytes = BASE64_STANDARD.decode(text);
            Some(bytes.map_err(|error| format!("`data_base64` is not base64: {error}"))?.into())
        }
        (Some(data), None) => {
            let kind = attributes.get("datacontenttype").map_or(media::JSON, String::as_str);
            match serde_json::from_str::<String>(data.get()) {
                Ok(text) if !media::is_json(kind) => Some(text.into()),
                _ => Some(Bytes::copy_from_slice(data.get().as_bytes())),
            }
        }
    };
    record(attributes, value)
}

/// A record of an event in binary mode: attributes are the headers `ce-*`, the body is the data.
pub(super) fn from_headers(headers: &HeaderMap, body: Bytes) -> Result<Record, String> {
    let mut attributes = BTreeMap::new();
    for (name, value) in headers {
        let name = match name.as_str() {
            "content-type" => "datacontenttype",
            other => match other.strip_prefix("ce-") {
                Some(name) => name,
                None => continue,
            },
        };
        let text = decoded(value).ok_or_else(|| format!("the header of `{name}` is not text"))?;
        if attributes.insert(name.to_owned(), text).is_some() {
            return Err(format!("`{name}` occurs twice"));
        }
    }
    record(attributes, (!body.is_empty()).then_some(body))
}

fn record(attributes: BTreeMap<String, String>, value: Option<Bytes>) -> Result<Record, String> {
    for name in REQUIRED {
        match attributes.get(name).map_or("", String::as_str) {
            "" => return Err(format!("the event has no `{name}`")),
            version if name == "specversion" && version != "1.0" => {
                return Err(format!("`specversion` is {version}; 1.0 is understood"));
            }
            _ => {}
        }
    }
    let mut record = Record { value, ..Record::default() };
    for (name, text) in attributes {
        match name.as_str() {
            "datacontenttype" => {
                let value = text.into();
                record.headers.push(Header { name: CONTENT_TYPE.to_owned(), value });
                continue;
            }
            "time" => {
                let nanos = envelope::nanos_of(&text);
                record.event_time_unix_nano =
                    nanos.map_err(|what| format!("`time` {text} {what}"))?;
            }
            "partitionkey" => record.key = Some(text.clone().into()),
            _ => {}
        }
        if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
            return Err(format!("`{name}` is no name of an attribute; use a to z and 0 to 9"));
        }
        record.headers.push(Header { name: format!("{PREFIX}{name}"), value: text.into() });
    }
    if record.key.is_none() {
        record.value.get_or_insert_default();
    }
    Ok(record)
}

/// A record as an event.
pub(super) struct Event<'a> {
    /// Without `datacontenttype`, in the order of the record.
    attributes: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    kind: Option<Cow<'a, str>>,
    data: Option<&'a [u8]>,
}

impl<'a> Event<'a> {
    /// Of a record of this product.
    pub(super) fn of(product: &str, position: Position, record: &'a Record) -> Self {
        let mut attributes: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::new();
        let mut kind = None;
        for Header { name, value } in &record.headers {
            if name == CONTENT_TYPE {
                kind = Some(String::from_utf8_lossy(value));
            } else if let Some(name) = name.strip_prefix(PREFIX)
                && !attributes.iter().any(|(there, _)| there == name)
            {
                attributes.push((name.into(), String::from_utf8_lossy(value)));
            }
        }
        let has = |attributes: &[(Cow<'_, str>, Cow<'_, str>)], name| {
            attributes.iter().any(|(there, _)| there == name)
        };
        let data = record.value.as_deref();
        if !has(&attributes, "specversion") {
            let Position { partition, offset, append_time } = position;
            let time = envelope::event_time(record).unwrap_or(append_time);
            attributes = vec![
                ("specversion".into(), "1.0".into()),
                ("id".into(), format!("{partition}-{offset}").into()),
                ("source".into(), format!("/v1/products/{product}").into()),
                ("type".into(), "meshlog.record".into()),
                ("time".into(), time.to_string().into()),
            ];
            kind = kind.or_else(|| data.map(guessed));
        }
        if !has(&attributes, "partitionkey")
            && let Some(Ok(key)) = record.key.as_deref().map(std::str::from_utf8)
        {
            attributes.push(("partitionkey".into(), key.into()));
        }
        Self { attributes, kind, data }
    }

    /// As an answer in binary mode: its headers; the body is the value of the record.
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, text) in &self.attributes {
            let name = HeaderName::try_from(format!("ce-{name}"));
            // A name that HTTP does not know was written by another protocol.
            if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(encoded(text))) {
                headers.insert(name, value);
            }
        }
        if let Some(Ok(kind)) = self.kind.as_deref().map(HeaderValue::try_from) {
            headers.insert(header::CONTENT_TYPE, kind);
        }
        headers
    }
}

impl Serialize for Event<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, text) in &self.attributes {
            map.serialize_entry(name, text)?;
        }
        if let Some(kind) = &self.kind {
            map.serialize_entry("datacontenttype", kind)?;
        }
        if let Some(data) = self.data {
            let is_json = self.kind.as_deref().is_none_or(media::is_json);
            let raw: Option<&RawValue> =
                is_json.then(|| serde_json::from_slice(data).ok()).flatten();
            match (raw, std::str::from_utf8(data)) {
                (Some(raw), _) => map.serialize_entry("data", raw)?,
                (None, Ok(text)) if !is_json => map.serialize_entry("data", text)?,
                _ => map.serialize_entry("data_base64", &BASE64_STANDARD.encode(data))?,
            }
        }
        map.end()
    }
}

fn guessed(data: &[u8]) -> Cow<'static, str> {
    match (serde_json::from_slice::<&RawValue>(data), std::str::from_utf8(data)) {
        (Ok(_), _) => media::JSON.into(),
        (_, Ok(_)) => "text/plain".into(),
        _ => "application/octet-stream".into(),
    }
}

/// The value of a header as text: percent-decoded, quotes around it taken off.
fn decoded(value: &HeaderValue) -> Option<String> {
    let text = value.to_str().ok()?;
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, after @ ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                bytes.push((digit(*high)? * 16 + digit(*low)?) as u8);
                rest = after;
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8(bytes).ok()
}

/// Text as the value of a header: everything but printable ASCII, and space, `"` and `%`, encoded.
fn encoded(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'"' | b'%' => _ = write!(value, "%{byte:02X}"),
            b'!'..=b'~' => value.push(char::from(byte)),
            _ => _ = write!(value, "%{byte:02X}"),
        }
    }
    value
}

#[cfg(test)]
mod tests;
