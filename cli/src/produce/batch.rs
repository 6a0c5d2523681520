//! Lines on their way to the broker, batch by batch.

use meshlog_client::{BatchDelivery, Record};
use tokio::time::Instant;

/// A batch is closed at this size or this number of records.
const BATCH_BYTES: usize = 256 << 10;
const BATCH_RECORDS: usize = 10_000;

/// Records that are sent together, with the lines they come from.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) lines: Vec<u64>,
    pub(super) records: Vec<Record>,
    pub(super) bytes: usize,
    /// When the first record came.
    pub(super) opened: Option<Instant>,
}

impl Batch {
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.len() >= BATCH_RECORDS
    }

    pub(super) fn push(&mut self, line: u64, record: Record) {
        self.opened.get_or_insert_with(Instant::now);
        let part = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
        self.bytes += part(&record.key) + part(&record.value) + 16;
        self.lines.push(line);
        self.records.push(record);
    }

    /// The records at these places, and the rest, both in order.
    pub(super) fn partition(self, chosen: impl Fn(usize) -> bool) -> (Self, Self) {
        let (mut yes, mut no) = (Self::default(), Self::default());
        for (index, (line, record)) in self.lines.into_iter().zip(self.records).enumerate() {
            if chosen(index) { &mut yes } else { &mut no }.push(line, record);
        }
        (yes, no)
    }
}

/// A batch on its way.
pub(super) struct Sent {
    pub(super) batch: Batch,
    pub(super) delivery: BatchDelivery,
}
