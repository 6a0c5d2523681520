//! One append: all records of a request or none.
//!
//! ```text
//! resolve ─► application id ─► room ─► split (walk, limits, schema) ─► Storage::append ─► ack
//!                                        └─ bad records: refused, told of, or into the quarantine
//! └──────── may wait ─────────────┘  └── no await: once begun, it is submitted whole ──┘
//! ```
//!
//! A caller that goes away before the room is given leaves nothing; one that goes away afterwards
//! leaves the whole batch. Requests submitted one after the other enter the log in that order.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use meshlog_proto::{server_v1, v1};
use meshlog_storage::{
    Appended, Batch, Durability, Entry, Offset, Permit, ProducerStamp, StreamId,
};
use prost::Message as _;
use tokio::sync::oneshot;

use super::batch::records;
use super::limits::{MAX_LISTED_RECORDS, MAX_REQUEST_BYTES};
use super::partitioner::murmur2;
use super::quarantine::{Origin, nonconformity};
use super::split::{Part, Routing, Split, split};
use crate::access::Rpc;
use crate::broker::Broker;
use crate::caller::Caller;
use crate::catalogue::ProductHandle;
use crate::error::{Applied, Error, Reason, Result};
use crate::lineage::{Counter, Direction};
use crate::schema::{Handling, split_frame};
use crate::time::proto_time;

impl Broker {
    /// Appends one batch: all of its records or none. Answers when they are as durable as the
    /// request and the product ask for.
    ///
    /// With a producer, a repeated request answers with the first outcome and `duplicate`.
    ///
    /// # Errors
    /// [`Error::applied`] tells whether a failed append may nevertheless be in the log.
    pub async fn append(
        &self,
        caller: &Caller,
        request: server_v1::AppendRequest,
    ) -> Result<v1::AppendResponse> {
        let began = Instant::now();
        let result = match self.submit(caller, request).await {
            Ok(submitted) => submitted.outcome().await,
            Err(error) => Err(error),
        };
        self.metrics().append_times.add(began.elapsed());
        result
    }

    /// Hands an append to storage and returns before it is acknowledged.
    pub(super) async fn submit(
        &self,
        caller: &Caller,
        request: server_v1::AppendRequest,
    ) -> Result<Submitted> {
        let submitted = self.submit_checked(caller, request).await;
        if let Err(error) = &submitted {
            self.metrics().rejected(error.reason());
        }
        submitted
    }

    async fn submit_checked(
        &self,
        caller: &Caller,
        mut request: server_v1::AppendRequest,
    ) -> Result<Submitted> {
        self.refuse_if_closing()?;
        let bytes = request.encoded_len();
        if bytes > MAX_REQUEST_BYTES {
            return Err(Error::new(
                Reason::TooLarge,
                format!(
                    "the request has {bytes} bytes, more than the {MAX_REQUEST_BYTES} allowed; \
                     send several smaller ones"
                ),
            )
            .with("limit", MAX_REQUEST_BYTES));
        }
        let product = self.catalogue().resolve_for(
            caller,
            Rpc::Append,
            &request.product,
            &request.product_id,
        )?;
        product.check_appendable()?;
        let (batch, occurrences) = (request.batch.pop(), request.batch.len());
        let (Some(batch), 0) = (batch, occurrences) else {
            return Err(Error::new(
                Reason::BatchMalformed,
                "the field `batch` must occur exactly once; put all records into one batch",
            )
            .with("product", &product.name));
        };
        let notices = self.catalogue().notices(&product, &request.product);
        let routing = self.route(&request, &product)?;
        let producer = producer_stamp(request.producer.as_ref(), product.number)?;
        let durability = durability_of(request.durability, product.minimum_durability)?;
        let application = self.catalogue().application_id(&caller.application).await?;
        self.count_stored(&product, batch.len()).await?;
        let permit = self.room(product.number, batch.len()).await?;

        // From here to `Storage::append` nothing waits.
        let named = match product.is_framed() {
            true => named_version(&batch, &product),
            false => None,
        };
        let schema = product.schema_of_values(request.schema_version, named)?;
        let handling = match schema.handling {
            // Whoever compares and sets wants all of it or nothing.
            Handling::Quarantine
                if request.expected_offset.is_some() || product.quarantine().is_none() =>
            {
                Handling::Refuse
            }
            handling => handling,
        };
        let cut = split(&batch, routing, schema.validator(), handling)
            .map_err(|error| error.with("product", &product.name))?;
        let schema_version = schema.version;
        let faults = Faults::of(&cut, handling, &product);
        let bytes = batch.len() as u64;
        let quarantined = match faults.as_ref().and_then(|faults| faults.quarantined.as_ref()) {
            None => Vec::new(),
            Some(_) => {
                let producer = request.producer.as_ref();
                let origin = Origin { product: &product, caller, producer, schema_version };
                origin.batches(&batch, &cut.bad)
            }
        };
        drop(batch);
        let Split { parts, record_partitions, .. } = cut;
        let streams = streams_of(&parts, &product.streams);
        let counter = product.traffic.counter(Direction::Append, caller, schema_version);
        let mut expected_offset = request.expected_offset.map(Offset);
        let quarantine = product.quarantine_stream();
        let quarantined = quarantined.into_iter().filter_map(|part| {
            Some(Batch {
                stream: quarantine?,
                payload: vec![part.payload],
                count: part.count,
                schema: schema.storage_id,
                application,
                expected_offset: None,
            })
        });
        let batches = parts
            .into_iter()
            .map(|part| Batch {
                stream: product.streams[part.partition as usize],
                payload: vec![part.payload],
                count: part.count,
                schema: schema.storage_id,
                application,
                // Later parts follow the first within the same entry.
                expected_offset: expected_offset.take(),
            })
            .chain(quarantined)
            .collect();
        let (sender, outcome) = oneshot::channel();
        let entry = Entry { controls: Vec::new(), batches, producer, durability, permit };
        self.storage().append(entry, move |result| {
            // The caller may have gone away; the records stay.
            let _gone = sender.send(result);
        });
        let broker = self.clone();
        Ok(Submitted {
            outcome,
            broker,
            product,
            counter,
            bytes,
            streams,
            record_partitions,
            schema_version,
            notices,
            faults,
        })
    }

    fn route(
        &self,
        request: &server_v1::AppendRequest,
        product: &ProductHandle,
    ) -> Result<Routing> {
        let partitions = product.streams.len() as u32;
        match request.partition {
            Some(partition) if partition < partitions => Ok(Routing::To(partition)),
            Some(partition) => Err(unknown_partition(product, partition)),
            None if partitions == 1 => Ok(Routing::To(0)),
            None if request.expected_offset.is_some() => Err(Error::new(
                Reason::InvalidArgument,
                format!(
                    "`expected_offset` needs `partition`, because {} has {partitions} partitions",
                    product.name
                ),
            )
            .with("field", "expected_offset")),
            None => Ok(Routing::ByKey {
                partitions,
                sticky: self.sticky_partition(request, partitions),
            }),
        }
    }

    /// The partition of the records of a batch that have no key: a retry of the same sequence
    /// finds the same one, other batches take turns.
    fn sticky_partition(&self, request: &server_v1::AppendRequest, partitions: u32) -> u32 {
        let turn = match &request.producer {
            Some(producer) => murmur2(&producer.id).wrapping_add(producer.sequence as u32),
            None => self.turn().fetch_add(1, Ordering::Relaxed),
        };
        turn % partitions
    }

    /// Room in storage for this many bytes of this product.
    ///
    /// Requests that wait for room hold their bytes already, so they are bounded too: in bytes,
    /// and in time, after which the client is told to come back.
    pub(super) async fn room(&self, class: u64, bytes: usize) -> Result<Option<Permit>> {
        let (sender, receiver) = oneshot::channel();
        let ready = move |permit| {
            // A caller that has gone away returns the room by dropping the permit.
            let _gone = sender.send(permit);
        };
        if let Some(permit) = self.storage().admit(class, bytes, ready) {
            return Ok(Some(permit));
        }
        let appends = &self.config().appends;
        let Some(_waiting) = self.waiting().enter(class, bytes, appends.waiting.as_usize()) else {
            return Err(overloaded());
        };
        match tokio::time::timeout(appends.admission_wait.into(), receiver).await {
            Ok(Ok(permit)) => Ok(Some(permit)),
            Ok(Err(_)) => Err(Error::shutting_down()),
            Err(_) => Err(overloaded()),
        }
    }
}

/// An append that is in storage's hands.
#[derive(Debug)]
pub(super) struct Submitted {
    outcome: oneshot::Receiver<meshlog_storage::Result<Appended>>,
    broker: Broker,
    product: Arc<ProductHandle>,
    /// Counts it, once it is acknowledged.
    counter: Arc<Counter>,
    /// Of the records.
    bytes: u64,
    /// The partition and stream of each part.
    streams: Vec<(u32, StreamId)>,
    record_partitions: Vec<u32>,
    schema_version: u32,
    notices: Vec<v1::Notice>,
    /// Of an append that was not all good.
    faults: Option<Box<Faults>>,
}

/// What is told of records that do not conform and were not refused for it.
#[derive(Debug, Default)]
struct Faults {
    nonconformities: Vec<v1::Nonconformity>,
    records: u32,
    quarantined: Option<v1::Quarantined>,
}

impl Faults {
    fn of(cut: &Split, handling: Handling, product: &ProductHandle) -> Option<Box<Self>> {
        if cut.bad_records == 0 {
            return None;
        }
        let first = cut.bad.iter().take(MAX_LISTED_RECORDS);
        let quarantine = product.quarantine().filter(|_| handling == Handling::Quarantine);
        Some(Box::new(Self {
            nonconformities: first.map(nonconformity).collect(),
            records: cut.bad_records,
            quarantined: quarantine.map(|quarantine| v1::Quarantined {
                product: quarantine.name.to_string(),
                records: cut.bad.iter().map(|bad| bad.index).collect(),
                first_offset: 0,
            }),
        }))
    }
}

impl Submitted {
    /// Waits for the acknowledgement.
    pub(super) async fn outcome(mut self) -> Result<v1::AppendResponse> {
        let result = (&mut self.outcome).await;
        self.answer(result.unwrap_or_else(|_| Err(vanished())))
    }

    /// The acknowledgement, if it is there.
    pub(super) fn outcome_now(mut self) -> Result<Result<v1::AppendResponse>, Self> {
        match self.outcome.try_recv() {
            Ok(result) => Ok(self.answer(result)),
            Err(oneshot::error::TryRecvError::Empty) => Err(self),
            Err(oneshot::error::TryRecvError::Closed) => Ok(self.answer(Err(vanished()))),
        }
    }

    fn answer(mut self, result: meshlog_storage::Result<Appended>) -> Result<v1::AppendResponse> {
        let mut appended = result.map_err(|error| self.explain(&error))?;
        if let Some(quarantine) = self.product.quarantine_stream() {
            let first = appended.ranges.iter().find(|range| range.stream == quarantine);
            let told = self.faults.as_mut().and_then(|faults| faults.quarantined.as_mut());
            if let (Some(first), Some(told)) = (first, told) {
                told.first_offset = first.first_offset.0;
            }
            appended.ranges.retain(|range| range.stream != quarantine);
        }
        if !appended.duplicate {
            if let Some(faults) = &self.faults {
                let are_quarantined = faults.quarantined.is_some();
                self.broker.metrics().nonconforming(faults.records, are_quarantined);
            }
            let records = appended.ranges.iter().map(|range| u64::from(range.count)).sum();
            self.broker.count_appended(&self.product, &self.counter, records, self.bytes);
            self.broker.metrics().published(records, self.bytes);
        }
        let mut ranges: Vec<v1::AppendedRange> = Vec::with_capacity(1);
        for (index, range) in appended.ranges.iter().enumerate() {
            let partition = match self.streams.get(index) {
                Some((partition, stream)) if *stream == range.stream => *partition,
                // A duplicate may be remembered in fewer ranges than it was cut into.
                _ => self.partition_of(range.stream)?,
            };
            match ranges.last_mut() {
                Some(last)
                    if last.partition == partition
                        && last.first_offset + u64::from(last.count) == range.first_offset.0 =>
                {
                    last.count += range.count;
                }
                _ => ranges.push(v1::AppendedRange {
                    partition,
                    first_offset: range.first_offset.0,
                    count: range.count,
                    append_time: Some(proto_time(range.append_time)),
                }),
            }
        }
        let faults = self.faults.take().map(|faults| *faults).unwrap_or_default();
        Ok(v1::AppendResponse {
            ranges,
            record_partitions: self.record_partitions,
            product_id: self.product.id.to_string(),
            schema_version: self.schema_version,
            durability: match appended.durability {
                Durability::Written => v1::Durability::Written,
                Durability::Synced => v1::Durability::Synced,
                Durability::Memory => v1::Durability::Memory,
            }
            .into(),
            duplicate: appended.duplicate,
            notices: self.notices,
            nonconformities: faults.nonconformities,
            nonconforming_records: faults.records,
            quarantined: faults.quarantined,
        })
    }

    fn partition_of(&self, stream: StreamId) -> Result<u32> {
        (0..)
            .zip(&self.product.streams)
            .find_map(|(partition, known)| (*known == stream).then_some(partition))
            .ok_or_else(|| {
                Error::new(
                    Reason::SequenceTooOld,
                    format!(
                        "this sequence was used for another product before {}; start a new epoch",
                        self.product.name
                    ),
                )
                .with_applied(Applied::Unknown)
            })
    }

    fn explain(&self, error: &meshlog_storage::Error) -> Error {
        let name = &self.product.name;
        let broker = match error.kind() {
            meshlog_storage::ErrorKind::UnknownStream(_) => deleted(name),
            meshlog_storage::ErrorKind::OffsetMismatch { next_offset, .. } => Error::new(
                Reason::OffsetMismatch,
                format!(
                    "the next offset of {name} is {next_offset}, not the one expected; read up to \
                     it and decide again"
                ),
            )
            .with("next_offset", next_offset),
            meshlog_storage::ErrorKind::JournalFailed => {
                self.broker.journal_failed().cancel();
                Error::from(error.clone())
            }
            _ => Error::from(error.clone()),
        };
        broker.with_applied(error.applied()).with("product", name)
    }
}

/// The version that the first value names whose schema id is of one.
pub(super) fn named_version(batch: &[u8], product: &ProductHandle) -> Option<u32> {
    let values = records(batch).map_while(Result::ok).filter_map(|record| record.value);
    let mut ids = values.filter_map(split_frame).map(|(id, _)| id);
    ids.find_map(|id| product.version_of_id(id))
}

/// The partition and stream of each part, to name the partitions in the answer.
fn streams_of(parts: &[Part], streams: &[StreamId]) -> Vec<(u32, StreamId)> {
    parts.iter().map(|part| (part.partition, streams[part.partition as usize])).collect()
}

fn producer_stamp(producer: Option<&v1::Producer>, scope: u64) -> Result<Option<ProducerStamp>> {
    let Some(producer) = producer else { return Ok(None) };
    let id = <[u8; 16]>::try_from(&producer.id[..]).map_err(|_| {
        Error::new(
            Reason::InvalidArgument,
            format!("a producer id has 16 random bytes, not {}", producer.id.len()),
        )
        .with("field", "producer.id")
    })?;
    Ok(Some(ProducerStamp { scope, id, epoch: producer.epoch, sequence: producer.sequence }))
}

/// What the request asks for, strengthened to the product's floor.
fn durability_of(wish: i32, floor: Option<Durability>) -> Result<Durability> {
    let wish = match v1::Durability::try_from(wish) {
        Ok(v1::Durability::Unspecified | v1::Durability::Synced) => Durability::Synced,
        Ok(v1::Durability::Written) => Durability::Written,
        Ok(v1::Durability::Memory) | Err(_) => {
            return Err(Error::new(
                Reason::InvalidArgument,
                "an append can ask for SYNCED (the default) or WRITTEN durability",
            )
            .with("field", "durability"));
        }
    };
    Ok(floor.map_or(wish, |floor| wish.max(floor)))
}

pub(crate) fn unknown_partition(product: &ProductHandle, partition: u32) -> Error {
    let partitions = product.streams.len();
    Error::new(
        Reason::PartitionNotFound,
        format!(
            "{} has no partition {partition}; its partitions are 0 to {}",
            product.name,
            partitions.saturating_sub(1)
        ),
    )
    .with("product", &product.name)
    .with("partition", partition)
    .with("partitions", partitions)
}

pub(super) fn deleted(product: &str) -> Error {
    Error::new(
        Reason::ProductNotFound,
        format!("the product {product} was deleted; list products to see what there is"),
    )
    .with("product", product)
}

fn overloaded() -> Error {
    const RETRY_AFTER: Duration = Duration::from_millis(250);
    Error::new(
        Reason::Overloaded,
        "more appends are under way than the broker has room for; try again after the delay given",
    )
    .with("retry_after_ms", RETRY_AFTER.as_millis())
}

/// Storage promises to answer every entry, so this is a defect; the entry may be in the log.
pub(super) fn vanished() -> meshlog_storage::Error {
    meshlog_storage::Error::new(
        meshlog_storage::ErrorKind::Io,
        "storage gave no answer to an append; retry it with the same producer sequence",
    )
    .with_applied(Applied::Unknown)
}

#[cfg(test)]
mod tests;
