//! `POST /v1/products/{name}/records`.
//!
//! | Content-Type | Body |
//! |---|---|
//! | `application/json` | `{"records":[{"key":…,"value":…,"headers":[…],"event_time":…}]}`: envelopes |
//! | `application/x-ndjson` | one JSON value per line, or with `?format=envelope` one envelope per line |
//! | `application/cloudevents+json`, `application/cloudevents-batch+json` | one CloudEvent, an array of them |
//! | any other, or `?format=value` | the value of one record; with `ce-specversion`, of a CloudEvent in binary mode |
//!
//! A request is one batch: all of its records or none. With `Meshlog-Producer` it is one sequence of
//! that producer. With `Idempotency-Key` it is the only sequence of a producer whose id is made of
//! the key and the caller; [`keyed`] says what that guarantees.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Response};
use meshlog_proto::{server_v1, v1};
use prost::Message as _;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::route::Call;
use super::transcode::json_response;
use super::{Http, cloud_event, media, message};
use crate::caller::Caller;
use crate::error::{Error, Reason, Result};
use crate::record::envelope::{self, Envelope};
use crate::record::limits::MAX_REQUEST_BYTES;

/// One body: the largest batch as base64 with its names.
const MAX_BODY_BYTES: usize = MAX_REQUEST_BYTES * 3 / 2;
/// Makes a retry safe without a producer.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Longest idempotency key.
const MAX_KEY_BYTES: usize = 256;
/// 16 random bytes as 32 hexadecimal digits, also with dashes as a UUID.
const PRODUCER: &str = "meshlog-producer";
/// 0 if it is left out.
const EPOCH: &str = "meshlog-producer-epoch";
/// Counts the requests of the producer to this product, from 0.
const SEQUENCE: &str = "meshlog-producer-sequence";

/// Answers one append.
pub(super) async fn answer(call: Call) -> Result<Response<Body>> {
    let Call { http, caller, path, query, headers, body, reader: _ } = call;
    let mut request = server_v1::AppendRequest {
        product: path.into_iter().next().unwrap_or_default(),
        ..Default::default()
    };
    let mut format = None;
    let mut key = None;
    for (name, value) in query {
        match name.as_str() {
            "product_id" => request.product_id = value,
            "partition" => request.partition = Some(number(&name, &value)?),
            "schema_version" => request.schema_version = number(&name, &value)?,
            "expected_offset" => request.expected_offset = Some(number(&name, &value)?),
            "durability" => request.durability = durability(&value)?.into(),
            "format" => format = Some(value),
            "key" => key = Some(Bytes::from(value)),
            _ => return Err(unknown(&name)),
        }
    }
    let form = Form::of(&headers, format.as_deref())?;
    let producer = producer_of(&headers)?;
    let idempotency = idempotency_key(&headers)?;
    if producer.is_some() && idempotency.is_some() {
        return Err(invalid(
            IDEMPOTENCY_KEY,
            "a producer makes retries safe already; leave out one of the two",
        ));
    }
    let body = Call::bytes(body, MAX_BODY_BYTES).await?;
    let records = records(form, &headers, body, key)?;
    request.batch = vec![v1::RecordBatch { records }.encode_to_vec().into()];
    request.producer = producer;
    let appended = match idempotency {
        Some(key) => keyed(&http, &caller, request, key).await?,
        None => http.broker.append(&caller, request).await?,
    };
    let described = message::descriptor("AppendResponse");
    Ok(json_response(message::decode(described, &appended.encode_to_vec())?))
}

/// An append under an idempotency key: sent again with the same key by the same caller to the same
/// product, it answers with the first outcome and `duplicate`, also after a restart of the broker.
///
/// The key is a producer of one request, in the epoch 0. When the broker has had so many producers
/// that it forgot some, it may take a new one for one that it forgot, and names the epoch in which
/// it may begin: that one is used then. So a key is safe for as long as fewer than 262,144 other
/// producers and keys have appended since; a retry after that may be stored twice.
async fn keyed(
    http: &Http,
    caller: &Caller,
    mut request: server_v1::AppendRequest,
    key: &[u8],
) -> Result<v1::AppendResponse> {
    /// Each raises the epoch; a second is needed only if another retry came between.
    const TRIES: u32 = 4;
    let id = producer_id(caller, key);
    let mut epoch = 0;
    let mut tries = 0;
    loop {
        request.producer = Some(v1::Producer { id: id.clone(), epoch, sequence: 0 });
        let error = match http.broker.append(caller, request.clone()).await {
            Ok(appended) => return Ok(appended),
            Err(error) => error,
        };
        tries += 1;
        let asks_for = match error.reason() {
            Reason::ProducerUnknown | Reason::ProducerFenced => error.metadata().get("epoch"),
            _ => None,
        };
        match asks_for.and_then(|epoch| epoch.parse().ok()) {
            Some(higher) if higher > epoch && tries < TRIES => epoch = higher,
            _ => return Err(error),
        }
    }
}

/// The producer that an idempotency key of this caller is.
pub(super) fn producer_id(caller: &Caller, key: &[u8]) -> Bytes {
    let hash = Sha256::new()
        .chain_update(b"meshlog idempotency key\0")
        .chain_update(caller.principal.as_bytes())
        .chain_update(b"\0")
        .chain_update(key)
        .finalize();
    Bytes::copy_from_slice(&hash[..16])
}

/// How the body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `{"records":[…]}`.
    Envelopes,
    /// One value per line.
    Lines,
    /// One envelope per line.
    EnvelopeLines,
    /// One value of JSON.
    JsonValue,
    /// One value of any kind.
    Value,
    CloudEvent,
    CloudEvents,
    BinaryCloudEvent,
}

impl Form {
    fn of(headers: &HeaderMap, format: Option<&str>) -> Result<Self> {
        let kind = media::content_type(headers);
        match (kind.as_str(), format) {
            (media::CLOUD_EVENT, None) => Ok(Self::CloudEvent),
            (media::CLOUD_EVENTS, None) => Ok(Self::CloudEvents),
            (_, None) if headers.contains_key("ce-specversion") => Ok(Self::BinaryCloudEvent),
            (media::NDJSON, None) => Ok(Self::Lines),
            (media::NDJSON, Some("envelope")) => Ok(Self::EnvelopeLines),
            (media::JSON, None) => Ok(Self::Envelopes),
            ("application/x-www-form-urlencoded" | "multipart/form-data" | "", None) => {
                Err(Error::new(
                    Reason::MediaTypeUnsupported,
                    format!(
                        "the body is `{kind}`, which curl and forms say when nobody else does; send \
                         `Content-Type: application/json` with {{\"records\":[…]}}, or the media \
                         type of the value"
                    ),
                )
                .with("media_type", kind))
            }
            (kind, Some("value")) if media::is_json(kind) => Ok(Self::JsonValue),
            (_, None | Some("value")) => Ok(Self::Value),
            (_, Some(other)) => Err(invalid(
                "format",
                &format!(
                    "`{other}` is unknown; `value` takes the body as one value, `envelope` reads \
                     lines as an answer writes them"
                ),
            )),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelopes<'a> {
    #[serde(borrow)]
    records: Vec<Envelope<'a>>,
}

fn records(
    form: Form,
    headers: &HeaderMap,
    body: Bytes,
    key: Option<Bytes>,
) -> Result<Vec<v1::Record>> {
    let of_value = |value: Bytes, key| v1::Record { key, value: Some(value), ..Default::default() };
    if key.is_some() && !matches!(form, Form::JsonValue | Form::Value) {
        return Err(invalid("key", "only a record whose value is the whole body takes it"));
    }
    match form {
        Form::Envelopes => {
            let envelopes: Envelopes<'_> = serde_json::from_slice(&body).map_err(|error| {
                malformed(format!(
                    "the body is not {{\"records\":[…]}}: {error}; with `?format=value` it is one \
                     value"
                ))
            })?;
            let records = envelopes.records.into_iter().enumerate();
            records
                .map(|(index, envelope)| envelope.record().map_err(|why| bad_record(index, &why)))
                .collect()
        }
        Form::Lines => lines(&body)
            .map(|(index, line)| {
                let value = json_value(line).map_err(|why| bad_record(index, &why))?;
                Ok(of_value(body.slice_ref(value), None))
            })
            .collect(),
        Form::EnvelopeLines => lines(&body)
            .map(|(index, line)| envelope::read(line).map_err(|why| bad_record(index, &why)))
            .collect(),
        Form::JsonValue => {
            let value = json_value(&body).map_err(|why| bad_record(0, &why))?;
            Ok(vec![of_value(body.slice_ref(value), key)])
        }
        Form::Value => Ok(vec![of_value(body, key)]),
        Form::CloudEvent => {
            Ok(vec![cloud_event::from_json(&body).map_err(|why| bad_record(0, &why))?])
        }
        Form::CloudEvents => {
            let events: Vec<&RawValue> = serde_json::from_slice(&body)
                .map_err(|error| malformed(format!("the body is no JSON array: {error}")))?;
            let events = events.into_iter().enumerate();
            events
                .map(|(index, event)| {
                    let event = cloud_event::from_json(event.get().as_bytes());
                    event.map_err(|why| bad_record(index, &why))
                })
                .collect()
        }
        Form::BinaryCloudEvent => {
            let event = cloud_event::from_headers(headers, body);
            Ok(vec![event.map_err(|why| bad_record(0, &why))?])
        }
    }
}

/// Lines with something in them, each with the index of its record.
fn lines(body: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    body.split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty())
        .enumerate()
}

fn json_value(text: &[u8]) -> Result<&[u8], String> {
    let value: &RawValue = serde_json::from_slice(text)
        .map_err(|error| format!("not JSON: {}", envelope::json_error(&error)))?;
    Ok(value.get().as_bytes())
}

fn producer_of(headers: &HeaderMap) -> Result<Option<v1::Producer>> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let Some(id) = text(PRODUCER) else {
        if let Some(alone) = [EPOCH, SEQUENCE].into_iter().find(|name| text(*name).is_some()) {
            return Err(invalid(alone, "it says nothing without `Meshlog-Producer`"));
        }
        return Ok(None);
    };
    let Some(id) = hexadecimal(id) else {
        return Err(invalid(PRODUCER, "write 16 random bytes as 32 hexadecimal digits"));
    };
    let Some(sequence) = text(SEQUENCE) else {
        return Err(invalid(SEQUENCE, "count the requests of the producer, from 0"));
    };
    Ok(Some(v1::Producer {
        id,
        epoch: text(EPOCH).map_or(Ok(0), |epoch| number(EPOCH, epoch))?,
        sequence: number(SEQUENCE, sequence)?,
    }))
}

fn hexadecimal(text: &str) -> Option<Bytes> {
    let digits: Vec<u32> =
        text.chars().filter(|c| *c != '-').map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let bytes = digits.chunks_exact(2).map(|pair| (pair[0] * 16 + pair[1]) as u8);
    (digits.len() == 32).then(|| bytes.collect())
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&[u8]>> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    match key.as_bytes() {
        key if (1..=MAX_KEY_BYTES).contains(&key.len()) => Ok(Some(key)),
        _ => Err(invalid(IDEMPOTENCY_KEY, "a key has 1 to 256 bytes; a random UUID is a good one")),
    }
}

fn durability(text: &str) -> Result<v1::Durability> {
    match text {
        "synced" => Ok(v1::Durability::Synced),
        "written" => Ok(v1::Durability::Written),
        _ => Err(invalid("durability", "write synced (the default) or written")),
    }
}

/// A number among the parameters.
pub(super) fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T> {
    text.parse().map_err(|_| {
        let message = format!("`{name}` is `{text}`, which is no number that it can be");
        Error::new(Reason::InvalidArgument, message).with("field", name)
    })
}

/// A parameter that there is not.
pub(super) fn unknown(name: &str) -> Error {
    let message =
        format!("there is no parameter `{name}`; GET /openapi.json lists those there are");
    Error::new(Reason::InvalidArgument, message).with("field", name)
}

/// A parameter or header that cannot be so.
pub(super) fn invalid(name: &str, why: &str) -> Error {
    Error::new(Reason::InvalidArgument, format!("`{name}`: {why}")).with("field", name)
}

fn malformed(message: String) -> Error {
    Error::new(Reason::BatchMalformed, message)
}

fn bad_record(index: usize, why: &str) -> Error {
    malformed(format!("record {index}: {why}")).with("record", index)
}
