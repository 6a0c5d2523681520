//! An entry is what one append puts into the journal: batches of one or more streams and
//! control records, all durable and visible together or not at all.

use bytes::Bytes;

use crate::admission::Permit;
use crate::position::{Lsn, Offset, StreamId, Timestamp};
use crate::retention::Policy;

/// One atomic append.
#[derive(Debug, Default)]
pub struct Entry {
    /// Changes of streams and state, in order, before the batches.
    pub controls: Vec<Control>,
    /// Records. A stream may occur more than once; its batches then follow one another.
    pub batches: Vec<Batch>,
    /// Makes a retry of this entry answer with the first outcome.
    pub producer: Option<ProducerStamp>,
    /// What the acknowledgement must mean.
    pub durability: Durability,
    /// The room this entry takes; control work goes without.
    pub permit: Option<Permit>,
}

impl Entry {
    /// Whether it is control work, which goes on when the disk is full: it has controls, and
    /// batches at most to tell of them.
    pub(crate) fn is_control(&self) -> bool {
        !self.controls.is_empty()
    }
}

/// Records for one stream. Storage never looks inside.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Where to append.
    pub stream: StreamId,
    /// The bytes to store; several pieces are stored joined.
    pub payload: Vec<Bytes>,
    /// Number of records in the payload, at least one.
    pub count: u32,
    /// Opaque id of the schema the records were checked against.
    pub schema: u32,
    /// Opaque id of the application that appends.
    pub application: u32,
    /// If set, the stream's next offset must be this one.
    pub expected_offset: Option<Offset>,
}

/// A change that storage itself understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// The stream exists from here on, empty, at offset 0.
    CreateStream(StreamId),
    /// The stream and its records are gone.
    DeleteStream(StreamId),
    /// Records before this offset are gone.
    TrimStream(StreamId, Offset),
    /// From here on records of the stream stay this long. Replaces the policy it had.
    SetPolicy(StreamId, Policy),
    /// Newest value per key; absent: the key is gone. See [`crate::Storage::state`].
    SetState {
        /// The key.
        key: Bytes,
        /// The new value.
        value: Option<Bytes>,
    },
}

/// Identifies one append of one producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerStamp {
    /// Opaque; sequences are counted per (scope, producer).
    pub scope: u64,
    /// Chosen at random by the producer.
    pub id: [u8; 16],
    /// A higher epoch fences all lower ones.
    pub epoch: u32,
    /// Counts entries, from 0 in each epoch, without gaps.
    pub sequence: u64,
}

/// What an acknowledgement means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Written, not yet synced, not yet readable.
    Written,
    /// Synced to disk.
    #[default]
    Synced,
    /// The disk is memory.
    Memory,
}

/// The outcome of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The group that holds the entry.
    pub lsn: Lsn,
    /// One per batch, in the order of the entry.
    pub ranges: Vec<AppendedRange>,
    /// What this acknowledgement means.
    pub durability: Durability,
    /// True if an earlier attempt had appended it.
    pub duplicate: bool,
}

/// Where one batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendedRange {
    /// The stream.
    pub stream: StreamId,
    /// Offset of the first record.
    pub first_offset: Offset,
    /// Number of records, dense.
    pub count: u32,
    /// Never decreases within a stream.
    pub append_time: Timestamp,
}

/// A batch as read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBatch {
    /// The stream.
    pub stream: StreamId,
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Number of records.
    pub count: u32,
    /// Empty: dense. Otherwise one delta to `base_offset` per record, rising.
    pub offset_deltas: Vec<u32>,
    /// Never decreases within a stream.
    pub append_time: Timestamp,
    /// The clock as it was read, which may go back.
    pub broker_time: Timestamp,
    /// As appended.
    pub schema: u32,
    /// As appended.
    pub application: u32,
    /// As appended.
    pub producer: Option<ProducerStamp>,
    /// The bytes as appended; their checksum was verified if they came from a file.
    pub payload: Bytes,
}

impl StoredBatch {
    /// One past the offset of the last record.
    #[must_use]
    pub fn end(&self) -> Offset {
        match self.offset_deltas.last() {
            Some(last) => self.base_offset.plus(*last).plus(1),
            None => self.base_offset.plus(self.count),
        }
    }
}
