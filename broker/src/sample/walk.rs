//! Records of several partitions in order of their append, from the newest back or from the oldest on.
//!
//! ```text
//!  partition 0   ··············[ loaded ]│      each lane loads some batches at its end, about
//!  partition 1   ·········[ loaded ]│            256 KiB; the next record is the newest (oldest)
//!  partition 2   ···················[ ]│         among those at the ends
//!                unread ◄────────────┘
//! ```
//!
//! The log is read forward only. To go back, a lane reads from an offset that is a guess by the size
//! of the records before; offsets may have holes. At least one batch is read each time.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use meshlog_proto::v1;
use meshlog_storage::{
    ErrorKind, Offset, ReadRequest, ReadSlice, StoredBatch, StreamId, Timestamp,
};
use prost::Message as _;
use tokio::sync::oneshot;

use crate::broker::Broker;
use crate::catalogue::ProductHandle;
use crate::error::{Error, Reason, Result};
use crate::record::{explain, no_answer, stored_records};

/// Bytes a lane loads at a time.
const LOAD_BYTES: usize = 256 << 10;
/// A lane that meets this much before its end has guessed wrong, and guesses again.
const MAX_LOAD_BYTES: usize = 1 << 20;
/// Most offsets a lane goes back at a time.
const MAX_STEP: u64 = 8_192;
/// Bytes of batches kept by all lanes; beyond, lanes that are not at their turn load again later.
const MAX_KEPT: usize = 16 << 20;

/// Which end comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    NewestFirst,
    OldestFirst,
}

/// One record and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) partition: u32,
    pub(crate) offset: Offset,
    pub(crate) append_time: Timestamp,
    /// The schema id of the stored frame.
    pub(crate) schema: u32,
    /// Number of the application that appended it.
    pub(crate) application: u32,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    /// The record as an entry of an encoded batch.
    entry: Bytes,
}

impl Found {
    /// The record, decoded. Its bytes are its own: it keeps no batch in memory.
    pub(super) fn record(&self) -> Result<v1::Record> {
        let entry = Bytes::copy_from_slice(&self.entry);
        let batch = v1::RecordBatch::decode(entry).ok();
        batch.and_then(|batch| batch.records.into_iter().next()).ok_or_else(|| {
            Error::new(
                Reason::Internal,
                format!(
                    "the record at offset {} of partition {} cannot be read; report this",
                    self.offset, self.partition
                ),
            )
        })
    }
}

/// A range of one partition.
#[derive(Debug)]
pub(crate) struct Lane {
    partition: u32,
    stream: StreamId,
    /// What is neither told nor loaded.
    low: Offset,
    high: Offset,
    loaded: VecDeque<Found>,
    /// Bytes of the batches of what is loaded.
    kept: usize,
    /// Append time of the next record; `None`: not known yet, or there is none.
    head: Option<Timestamp>,
    /// Offsets to go back next time.
    step: u64,
}

impl Lane {
    /// The records of a partition from `low` up to, not including, `high`.
    pub(crate) fn new(product: &ProductHandle, partition: u32, low: Offset, high: Offset) -> Self {
        Self {
            partition,
            stream: product.streams[partition as usize],
            low,
            high,
            loaded: VecDeque::new(),
            kept: 0,
            head: None,
            step: 1,
        }
    }

    fn is_unread(&self) -> bool {
        self.low < self.high
    }
}

/// The walk over all lanes.
pub(crate) struct Walk {
    broker: Broker,
    product: Arc<ProductHandle>,
    lanes: Vec<Lane>,
    direction: Direction,
    looked_at: usize,
}

impl Walk {
    pub(crate) fn new(
        broker: &Broker,
        product: &Arc<ProductHandle>,
        lanes: Vec<Lane>,
        direction: Direction,
    ) -> Self {
        let (broker, product) = (broker.clone(), Arc::clone(product));
        Self { broker, product, lanes, direction, looked_at: 0 }
    }

    /// Bytes of batches read so far.
    pub(crate) fn looked_at(&self) -> usize {
        self.looked_at
    }

    /// Whether the next record takes another read.
    pub(crate) fn must_load(&self) -> bool {
        self.lanes.iter().any(|lane| lane.head.is_none() && lane.is_unread())
    }

    /// The schema version of a record, as clients count.
    pub(crate) fn schema_version(&self, found: &Found) -> u32 {
        self.broker.catalogue().schema_of(found.schema).unwrap_or_default()
    }

    /// Whether every record was told.
    pub(super) fn is_done(&self) -> bool {
        self.lanes.iter().all(|lane| lane.loaded.is_empty() && !lane.is_unread())
    }

    /// The next record; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Found>> {
        for at in 0..self.lanes.len() {
            if self.lanes[at].head.is_none() && self.lanes[at].is_unread() {
                self.load(at).await?;
            }
        }
        let heads = self.lanes.iter().enumerate().filter_map(|(at, lane)| Some((lane.head?, at)));
        let next = match self.direction {
            Direction::NewestFirst => heads.max(),
            Direction::OldestFirst => heads.min(),
        };
        let Some((_, at)) = next else { return Ok(None) };
        if self.lanes[at].loaded.is_empty() {
            self.load(at).await?;
        }
        let lane = &mut self.lanes[at];
        let found = match self.direction {
            Direction::NewestFirst => lane.loaded.pop_back(),
            Direction::OldestFirst => lane.loaded.pop_front(),
        };
        lane.head = next_time(lane, self.direction);
        if lane.loaded.is_empty() {
            lane.kept = 0;
        }
        match found {
            Some(found) => Ok(Some(found)),
            // Retention took what was there.
            None => Box::pin(self.next()).await,
        }
    }

    /// Loads the end of a lane.
    async fn load(&mut self, at: usize) -> Result<()> {
        while self.lanes[at].loaded.is_empty() && self.lanes[at].is_unread() {
            match self.direction {
                Direction::NewestFirst => self.load_back(at).await?,
                Direction::OldestFirst => self.load_on(at).await?,
            }
            // Reads from memory answer at once; others want to run too.
            tokio::task::yield_now().await;
        }
        self.lanes[at].head = next_time(&self.lanes[at], self.direction);
        let kept: usize = self.lanes.iter().map(|lane| lane.kept).sum();
        if kept > MAX_KEPT {
            for (other, lane) in self.lanes.iter_mut().enumerate() {
                if other != at {
                    put_back(lane, self.direction);
                }
            }
        }
        Ok(())
    }

    async fn load_back(&mut self, at: usize) -> Result<()> {
        let (low, high, step) = (self.lanes[at].low, self.lanes[at].high, self.lanes[at].step);
        let from = Offset(high.0.saturating_sub(step)).max(low);
        let (mut batches, mut bytes, mut next): (Vec<StoredBatch>, _, _) = (Vec::new(), 0, from);
        let is_whole = loop {
            let Some(slice) = self.read(at, next, MAX_LOAD_BYTES).await? else { return Ok(()) };
            let Some(last) = slice.batches.last() else { break true };
            next = last.end();
            bytes += slice.batches.iter().map(|batch| batch.payload.len()).sum::<usize>();
            batches.extend(slice.batches);
            if next >= high {
                break true;
            }
            if bytes > MAX_LOAD_BYTES && step > 1 {
                break false;
            }
        };
        self.looked_at += bytes;
        let lane = &mut self.lanes[at];
        if !is_whole {
            lane.step = (step / 8).max(1);
            return Ok(());
        }
        batches.retain(|batch| batch.base_offset < high);
        lane.high = batches.first().map_or(from, |first| first.base_offset.min(from)).max(low);
        let span = (high.0 - lane.high.0).max(1);
        let each = (bytes as u64 / span).max(1);
        lane.step = (LOAD_BYTES as u64 / each).clamp(1, (span * 8).min(MAX_STEP));
        take(lane, &batches, low, high)
    }

    async fn load_on(&mut self, at: usize) -> Result<()> {
        let (low, high) = (self.lanes[at].low, self.lanes[at].high);
        let Some(slice) = self.read(at, low, LOAD_BYTES).await? else { return Ok(()) };
        self.looked_at += slice.batches.iter().map(|batch| batch.payload.len()).sum::<usize>();
        let lane = &mut self.lanes[at];
        lane.low = slice.batches.last().map_or(high, StoredBatch::end).min(high);
        take(lane, &slice.batches, low, high)
    }

    /// `None`: retention has taken the beginning, and the lane begins later now.
    async fn read(
        &mut self,
        at: usize,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Option<ReadSlice>> {
        let lane = &mut self.lanes[at];
        let request = ReadRequest { stream: lane.stream, from, max_bytes, hint: None };
        let (sender, receiver) = oneshot::channel();
        let now = self.broker.storage().read(request, move |result| {
            // The caller may have gone away.
            let _gone = sender.send(result);
        });
        let result = match now {
            Some(result) => result,
            None => receiver.await.unwrap_or_else(|_| Err(no_answer())),
        };
        match result {
            Ok(slice) => Ok(Some(slice)),
            Err(error) => match error.kind() {
                ErrorKind::OffsetOutOfRange { start, .. } if *start > from => {
                    lane.low = lane.low.max(*start);
                    lane.high = lane.high.max(lane.low);
                    Ok(None)
                }
                _ => Err(explain(&self.product, lane.partition, Some(from), &error)),
            },
        }
    }
}

/// Keeps the records of some batches that lie within the range.
fn take(lane: &mut Lane, batches: &[StoredBatch], low: Offset, high: Offset) -> Result<()> {
    for batch in batches {
        for (index, record) in (0..batch.count).zip(stored_records(&batch.payload)) {
            let delta = batch.offset_deltas.get(index as usize).copied().unwrap_or(index);
            let offset = batch.base_offset.plus(delta);
            let record = record.map_err(|error| {
                Error::new(
                    Reason::Internal,
                    format!(
                        "a stored batch of partition {} at offset {} cannot be read: {error}",
                        lane.partition, batch.base_offset
                    ),
                )
            })?;
            if low <= offset && offset < high {
                lane.loaded.push_back(Found {
                    partition: lane.partition,
                    offset,
                    append_time: batch.append_time,
                    schema: batch.schema,
                    application: batch.application,
                    key: record.key.map(|key| batch.payload.slice_ref(key)),
                    value: record.value.map(|value| batch.payload.slice_ref(value)),
                    entry: batch.payload.slice(record.entry),
                });
            }
        }
        lane.kept += batch.payload.len();
    }
    Ok(())
}

fn next_time(lane: &Lane, direction: Direction) -> Option<Timestamp> {
    let next = match direction {
        Direction::NewestFirst => lane.loaded.back(),
        Direction::OldestFirst => lane.loaded.front(),
    };
    next.map(|found| found.append_time)
}

/// Gives the memory back; the records are loaded again when it is their turn.
fn put_back(lane: &mut Lane, direction: Direction) {
    match direction {
        Direction::NewestFirst => {
            if let Some(last) = lane.loaded.back() {
                lane.high = last.offset.plus(1);
            }
        }
        Direction::OldestFirst => {
            if let Some(first) = lane.loaded.front() {
                lane.low = first.offset;
            }
        }
    }
    lane.loaded = VecDeque::new();
    lane.kept = 0;
}
