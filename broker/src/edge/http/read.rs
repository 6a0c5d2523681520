//! `GET /v1/products/{name}/records`: one read.
//!
//! | Accept | Answer |
//! |---|---|
//! | `application/json`, any | `{"product_id":…,"records":[…],"next":"0:42","partitions":[…],"notices":[…]}` |
//! | `application/x-ndjson` | one envelope per line |
//! | `application/cloudevents-batch+json` | an array of CloudEvents |
//! | `application/cloudevents+json` | one CloudEvent; 204 if there is none yet |
//! | any, with `?format=cloudevents-binary` | one CloudEvent in binary mode; 204 if there is none yet |
//! | `text/event-stream` | a tail (`tail.rs`) |
//!
//! Every answer but that of a tail says in `Meshlog-Next` where the next one goes on; give it as
//! `from`.

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use meshlog_proto::{server_v1, v1};
use prost::Message as _;
use serde_json::value::RawValue;

use super::append::{invalid, number, unknown};
use super::cloud_event::Event;
use super::route::Call;
use super::transcode::json_response;
use super::{media, message, position, tail};
use crate::access::Rpc;
use crate::broker::Broker;
use crate::caller::Caller;
use crate::config::Span;
use crate::error::{Error, Reason, Result};
use crate::record::envelope::{self, Position};

/// Where the next read goes on.
const NEXT: &str = "meshlog-next";
/// Batches of one answer, in bytes, if the caller does not say; as JSON they grow.
const DEFAULT_BYTES: u32 = 256 << 10;
/// Batches of one answer, in bytes.
const MAX_BYTES: u32 = 1 << 20;
/// Records of one answer, if the caller does not say.
const DEFAULT_RECORDS: usize = 1_000;
/// Records of one answer: with [`MAX_BYTES`] an answer stays below 8 MiB.
const MAX_RECORDS: usize = 10_000;

/// What the query asks for.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) product: String,
    pub(super) product_id: String,
    pub(super) from: String,
    pub(super) partitions: Vec<u32>,
    pub(super) heartbeat: Option<prost_types::Duration>,
    pub(super) stop_at_end: bool,
    max_bytes: u32,
    max_records: Option<usize>,
    max_wait: Option<prost_types::Duration>,
    binary_event: bool,
}

impl Asked {
    fn of(path: Vec<String>, query: Vec<(String, String)>) -> Result<Self> {
        let mut asked = Self {
            product: path.into_iter().next().unwrap_or_default(),
            max_bytes: DEFAULT_BYTES,
            ..Self::default()
        };
        for (name, value) in query {
            match name.as_str() {
                "product_id" => asked.product_id = value,
                "from" => asked.from = value,
                "partition" => asked.partitions.push(number(&name, &value)?),
                "max_bytes" => asked.max_bytes = number(&name, &value)?,
                "max_records" => asked.max_records = Some(number(&name, &value)?),
                "max_wait" => asked.max_wait = Some(duration(&name, &value)?),
                "heartbeat" => asked.heartbeat = Some(duration(&name, &value)?),
                "stop_at_end" => asked.stop_at_end = boolean(&name, &value)?,
                "format" if value == "cloudevents-binary" => asked.binary_event = true,
                "format" => {
                    return Err(invalid(&name, "it can be `cloudevents-binary`, or left out"));
                }
                _ => return Err(unknown(&name)),
            }
        }
        if asked.max_bytes == 0 || asked.max_records == Some(0) {
            return Err(invalid("max_records", "an answer has at least one record and one byte"));
        }
        Ok(asked)
    }

    /// Where to start, in the partitions that there are.
    pub(super) fn start(
        &self,
        broker: &Broker,
        caller: &Caller,
        rpc: Rpc,
        from: &str,
    ) -> Result<v1::Start> {
        let product =
            broker.catalogue().resolve_for(caller, rpc, &self.product, &self.product_id)?;
        position::start(from, &self.partitions, product.streams.len())
    }
}

fn duration(name: &str, text: &str) -> Result<prost_types::Duration> {
    let span: Span = text.parse().map_err(|why: String| invalid(name, &why))?;
    let duration = std::time::Duration::from(span).try_into();
    duration.map_err(|_| invalid(name, "that is longer than can be said"))
}

fn boolean(name: &str, text: &str) -> Result<bool> {
    match text {
        "" | "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(invalid(name, "write true or false")),
    }
}

/// How an answer is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Lines,
    CloudEvents,
    CloudEvent,
    BinaryCloudEvent,
}

/// Answers one read, or begins a tail.
pub(super) async fn answer(call: Call) -> Result<Response<Body>> {
    let Call { http, caller, path, query, headers, reader, body: _ } = call;
    let asked = Asked::of(path, query)?;
    let offered =
        [media::EVENT_STREAM, media::NDJSON, media::CLOUD_EVENTS, media::CLOUD_EVENT, media::JSON];
    let form = match media::accepted(&headers, &offered) {
        _ if asked.binary_event => Form::BinaryCloudEvent,
        Some(media::EVENT_STREAM) => {
            return tail::answer(http, &caller, asked, &headers, reader).await;
        }
        Some(media::NDJSON) => Form::Lines,
        Some(media::CLOUD_EVENTS) => Form::CloudEvents,
        Some(media::CLOUD_EVENT) => Form::CloudEvent,
        _ => Form::Json,
    };
    let limit = match form {
        Form::CloudEvent | Form::BinaryCloudEvent => 1,
        _ => asked.max_records.unwrap_or(DEFAULT_RECORDS).min(MAX_RECORDS),
    };
    let request = v1::ReadRequest {
        start: Some(asked.start(&http.broker, &caller, Rpc::Read, &asked.from)?),
        product: asked.product.clone(),
        product_id: asked.product_id,
        partitions: asked.partitions,
        max_bytes: asked.max_bytes.min(MAX_BYTES),
        max_wait: asked.max_wait,
    };
    let response = tokio::select! {
        read = http.broker.read(&caller, request) => read?,
        // A long poll must not hold up the drain.
        () = http.drain.cancelled() => return Err(Error::shutting_down()),
    };
    let found = Found::of(response, limit)?;
    if form != Form::Json && found.next.len() > position::MAX_CURSOR_PARTITIONS {
        return Err(too_many_partitions(found.next.len()));
    }
    let mut response = found.write(form, &asked.product)?;
    if found.next.len() <= position::MAX_CURSOR_PARTITIONS {
        let cursor = HeaderValue::try_from(position::cursor(&found.next));
        let cursor = cursor.expect("a cursor has digits, colons and commas only");
        response.headers_mut().insert(NEXT, cursor);
    }
    Ok(response)
}

/// Records of one answer, and where the next one goes on.
struct Found {
    response: server_v1::ReadResponse,
    records: Vec<(Position, v1::Record)>,
    next: Vec<v1::Position>,
}

impl Found {
    fn of(mut response: server_v1::ReadResponse, limit: usize) -> Result<Self> {
        let states = response.partitions.iter();
        let mut next: Vec<v1::Position> = states
            .map(|state| v1::Position { partition: state.partition, offset: state.next_offset })
            .collect();
        let mut records = Vec::new();
        let mut cut = Vec::new();
        for batch in std::mem::take(&mut response.batches) {
            for (position, record) in records_of(batch)? {
                if records.len() < limit {
                    records.push((position, record));
                } else if !cut.contains(&position.partition) {
                    // The first record of its partition that is left for the next answer.
                    cut.push(position.partition);
                    let of_it = next.iter_mut().find(|one| one.partition == position.partition);
                    if let Some(one) = of_it {
                        one.offset = position.offset;
                    }
                }
            }
        }
        Ok(Self { response, records, next })
    }

    fn write(&self, form: Form, product: &str) -> Result<Response<Body>> {
        let event = |(position, record): &'_ (Position, v1::Record)| -> Vec<u8> {
            serde_json::to_vec(&Event::of(product, *position, record))
                .expect("an event holds only strings and valid JSON")
        };
        let (kind, body) = match form {
            Form::Json => (media::JSON, self.json()?),
            Form::Lines => {
                let mut lines = Vec::new();
                for (position, record) in &self.records {
                    envelope::write(&mut lines, *position, record);
                    lines.push(b'\n');
                }
                (media::NDJSON, lines)
            }
            Form::CloudEvents => {
                let mut events = vec![b'['];
                for (index, one) in self.records.iter().enumerate() {
                    events.extend_from_slice(if index == 0 { b"" } else { b"," });
                    events.extend_from_slice(&event(one));
                }
                events.push(b']');
                (media::CLOUD_EVENTS, events)
            }
            Form::CloudEvent => match self.records.first() {
                Some(one) => (media::CLOUD_EVENT, event(one)),
                None => return Ok(nothing()),
            },
            Form::BinaryCloudEvent => match self.records.first() {
                Some((position, record)) => {
                    let headers = Event::of(product, *position, record).headers();
                    return Ok(binary(headers, record));
                }
                None => return Ok(nothing()),
            },
        };
        let mut response = json_response(body);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        Ok(response)
    }

    fn json(&self) -> Result<Vec<u8>> {
        let mut json = Vec::new();
        let text = |json: &mut Vec<u8>, text: &str| {
            serde_json::to_writer(json, text).expect("text is written into memory");
        };
        json.extend_from_slice(b"{\"product_id\":");
        text(&mut json, &self.response.product_id);
        json.extend_from_slice(b",\"records\":[");
        for (index, (position, record)) in self.records.iter().enumerate() {
            json.extend_from_slice(if index == 0 { b"\n" } else { b",\n" });
            envelope::write(&mut json, *position, record);
        }
        json.extend_from_slice(b"],\"next\":");
        text(&mut json, &position::cursor(&self.next));
        let states = messages("PartitionState", &self.response.partitions)?;
        let notices = messages("Notice", &self.response.notices)?;
        for (name, values) in [("partitions", states), ("notices", notices)] {
            json.extend_from_slice(format!(",\"{name}\":").as_bytes());
            let values = serde_json::to_vec(&values).expect("raw values are valid JSON");
            json.extend_from_slice(&values);
        }
        json.push(b'}');
        Ok(json)
    }
}

fn messages<M: prost::Message>(name: &str, messages: &[M]) -> Result<Vec<Box<RawValue>>> {
    let descriptor = message::descriptor(name);
    let one = |message: &M| {
        let json = message::decode(descriptor.clone(), &message.encode_to_vec())?;
        serde_json::from_slice(&json)
            .map_err(|error| Error::new(Reason::Internal, format!("{name} is no JSON: {error}")))
    };
    messages.iter().map(one).collect()
}

/// The records of a stored batch from the position asked for on, each with its place.
pub(super) fn records_of(
    batch: server_v1::StoredBatch,
) -> Result<impl Iterator<Item = (Position, v1::Record)>> {
    let records = v1::RecordBatch::decode(batch.batch)
        .map_err(|error| {
            Error::new(
                Reason::DataLoss,
                format!("the batch at offset {} cannot be read: {error}", batch.base_offset),
            )
            .with("offset", batch.base_offset)
        })?
        .records;
    let (partition, base) = (batch.partition, batch.base_offset);
    let append_time = batch.append_time.unwrap_or_default();
    let deltas = batch.offset_deltas;
    let records = records.into_iter().enumerate().skip(batch.skip as usize);
    Ok(records.map(move |(index, record)| {
        let delta = deltas.get(index).map_or(index as u64, |delta| u64::from(*delta));
        (Position { partition, offset: base + delta, append_time }, record)
    }))
}

fn nothing() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn binary(headers: HeaderMap, record: &v1::Record) -> Response<Body> {
    let mut response = Response::new(Body::from(record.value.clone().unwrap_or_default()));
    *response.headers_mut() = headers;
    response
}

/// A position of so many partitions is too long for a header.
pub(super) fn too_many_partitions(partitions: usize) -> Error {
    let most = position::MAX_CURSOR_PARTITIONS;
    invalid(
        "partition",
        &format!(
            "the position of {partitions} partitions is too long for this form; name at most {most} \
             partitions, or ask for application/json"
        ),
    )
}
