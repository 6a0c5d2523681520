//! The records that are appended: bytes that do not compress, and where somebody reads them again, the time they were due.

use std::time::{Duration, Instant};

use meshlog_client::{BatchBuilder, EncodedBatch};

use super::{pace::Turn, plan::STAMP};
use crate::exit::Result;

/// In front of a record that no reader counts: it says that the reader is there.
const FIRST: u64 = u64::MAX;
/// In front of the record behind the last one of a partition.
const LAST: u64 = u64::MAX - 1;

/// Makes batches of records whose values have one size.
pub(super) struct Payload {
    pool: Vec<u8>,
    size: usize,
    /// Times are counted from here; absent where values carry none.
    epoch: Option<Instant>,
}

/// What a reader learns from the front of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamp {
    /// The reader is there.
    First,
    /// It was due so long after the epoch.
    Due(Duration),
    /// Nothing follows in this partition.
    Last,
}

impl Stamp {
    /// That of a value.
    pub(super) fn of(value: &[u8]) -> Option<Self> {
        let bytes: [u8; STAMP] = value.get(..STAMP)?.try_into().ok()?;
        Some(match u64::from_le_bytes(bytes) {
            FIRST => Self::First,
            LAST => Self::Last,
            nanos => Self::Due(Duration::from_nanos(nanos)),
        })
    }

    fn bytes(self) -> [u8; STAMP] {
        let nanos = match self {
            Self::First => FIRST,
            Self::Last => LAST,
            Self::Due(after) => u64::try_from(after.as_nanos()).unwrap_or(LAST - 1),
        };
        nanos.to_le_bytes()
    }
}

impl Payload {
    /// Values of `size` bytes, with times counted from `epoch` if there is one.
    pub(super) fn new(size: usize, epoch: Option<Instant>) -> Self {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut pool = Vec::with_capacity(size * 2 + (1 << 20));
        while pool.len() < size * 2 + (1 << 20) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            pool.extend_from_slice(&state.to_le_bytes());
        }
        Self { pool, size, epoch }
    }

    /// The records of a turn.
    pub(super) fn batch(&self, turn: &Turn) -> Result<EncodedBatch> {
        let stamp =
            self.epoch.map(|epoch| Stamp::Due(turn.due.saturating_duration_since(epoch)).bytes());
        self.encode(turn.first, turn.records, stamp)
    }

    /// One record with a mark.
    pub(super) fn mark(&self, stamp: Stamp) -> Result<EncodedBatch> {
        self.encode(0, 1, Some(stamp.bytes()))
    }

    fn encode(&self, first: u64, records: u32, stamp: Option<[u8; STAMP]>) -> Result<EncodedBatch> {
        let capacity = records as usize * (self.size + 12);
        let mut builder = BatchBuilder::with_capacity(capacity);
        let mut stamped = Vec::new();
        for number in first..first + u64::from(records) {
            // Neighbours differ, and so do records some thousand apart.
            let places = (self.pool.len() - self.size) as u64;
            let at = (number.wrapping_mul(8191) % places) as usize;
            let value = &self.pool[at..at + self.size];
            match stamp {
                None => builder.push(value)?,
                Some(stamp) => {
                    stamped.clear();
                    stamped.extend_from_slice(&stamp);
                    stamped.extend_from_slice(&value[STAMP..]);
                    builder.push(stamped.as_slice())?;
                }
            }
        }
        Ok(builder.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_reads_back() {
        for stamp in [Stamp::First, Stamp::Last, Stamp::Due(Duration::from_micros(1234))] {
            assert_eq!(Stamp::of(&stamp.bytes()), Some(stamp));
        }
        assert_eq!(Stamp::of(b"short"), None);
    }

    #[test]
    fn values_have_their_size_and_differ() {
        let payload = Payload::new(100, None);
        let turn = Turn { number: 0, first: 0, records: 2, due: Instant::now() };
        let batch = payload.batch(&turn).unwrap();
        assert_eq!(batch.count(), 2);
        // Two records of 100 bytes with a tag and a length before the value and before the record.
        assert_eq!(batch.bytes().len(), 2 * 104);
        assert_ne!(batch.bytes()[4..104], batch.bytes()[108..]);
    }
}
