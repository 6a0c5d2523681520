//! Batches without an outcome, and the sequences they are sent under.
//!
//! ```text
//!  [ front ............ | ............ ] ◄── queue
//!    base   on the wire   not yet sent
//!  sequence of batch i = base + i, in the current epoch
//! ```
//!
//! Invariants:
//! - Only an acknowledged batch consumes its sequence: when any other leaves, the later ones move
//!   up by one.
//! - A sequence never stands for other records while the outcome of its first use is unknown: a
//!   batch that leaves like that takes the epoch with it.
//! - There are at most [`MOST`], fewer than the broker remembers, so that a retry is always
//!   recognised.

use std::collections::VecDeque;

use bytes::Bytes;
use meshlog_proto::v1;
use tokio::time::Instant;

use super::queue::Sealed;
use crate::error::Applied;

/// The broker remembers the last 1,024 sequences of a producer.
const MOST: usize = 512;

/// A batch without an outcome.
pub(super) struct Pending {
    pub(super) sealed: Sealed,
    pub(super) deadline: Instant,
    /// It was sent and the answer never came, or said that the outcome is unknown.
    pub(super) lost: bool,
    /// New epochs it caused.
    pub(super) epochs: u32,
}

impl Pending {
    pub(super) fn new(sealed: Sealed, deadline: Instant) -> Self {
        Self { sealed, deadline, lost: false, epochs: 0 }
    }

    /// What can be said of it if it fails now.
    pub(super) fn applied(&self) -> Applied {
        if self.lost { Applied::Unknown } else { Applied::No }
    }

    fn count(&self) -> u64 {
        u64::from(self.sealed.batch.count())
    }
}

pub(super) struct Window {
    id: Bytes,
    epoch: u32,
    /// The next epoch is not below this one.
    lowest_epoch: u32,
    /// Sequence of the first batch.
    base: u64,
    /// Offset that the first batch must get, if the producer owns its partition.
    expected_offset: Option<u64>,
    pending: VecDeque<Pending>,
}

impl Window {
    pub(super) fn new(id: [u8; 16], expected_offset: Option<u64>) -> Self {
        let id = Bytes::copy_from_slice(&id);
        Self { id, epoch: 0, lowest_epoch: 0, base: 0, expected_offset, pending: VecDeque::new() }
    }

    pub(super) fn push(&mut self, pending: Pending) {
        self.pending.push_back(pending);
    }

    /// The sequence and the expected offset under which batch `index` is sent now.
    pub(super) fn stamp(&self, index: usize) -> (v1::Producer, Option<u64>) {
        let sequence = self.base + index as u64;
        let producer = v1::Producer { id: self.id.clone(), epoch: self.epoch, sequence };
        let before = || self.pending.iter().take(index).map(Pending::count).sum::<u64>();
        (producer, self.expected_offset.map(|offset| offset + before()))
    }

    /// The first was appended: its sequence is used up.
    pub(super) fn pop_acknowledged(&mut self) -> Option<Pending> {
        let front = self.pending.pop_front()?;
        self.base += 1;
        if let Some(expected) = &mut self.expected_offset {
            *expected += front.count();
        }
        Some(front)
    }

    /// The first was not appended, or nobody knows; then the epoch must end.
    pub(super) fn pop_failed(&mut self) -> Option<Pending> {
        self.pending.pop_front()
    }

    /// The outcome of this batch is unknown.
    pub(super) fn mark_lost(&mut self, number: u64) {
        let pending = self.pending.iter_mut().find(|pending| pending.sealed.number == number);
        pending.into_iter().for_each(|pending| pending.lost = true);
    }

    /// Starts over with sequence 0 in an epoch that fences the one before. What is still here was
    /// not appended and now cannot be.
    pub(super) fn end_epoch(&mut self) {
        self.epoch = self.lowest_epoch.max(self.epoch + 1);
        self.base = 0;
        for pending in &mut self.pending {
            pending.lost = false;
        }
    }

    /// The broker takes no epoch below this one.
    pub(super) fn note_lowest_epoch(&mut self, epoch: u32) {
        self.lowest_epoch = epoch;
    }

    pub(super) fn front(&self) -> Option<&Pending> {
        self.pending.front()
    }

    pub(super) fn front_mut(&mut self) -> Option<&mut Pending> {
        self.pending.front_mut()
    }

    /// Batch `index`, which must exist.
    pub(super) fn get(&self, index: usize) -> &Pending {
        &self.pending[index]
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.pending.len() >= MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BatchBuilder;

    fn window(batches: u64, expected_offset: Option<u64>) -> Window {
        let mut window = Window::new([7; 16], expected_offset);
        for number in 0..batches {
            let mut builder = BatchBuilder::default();
            for _ in 0..=number {
                builder.push("v").unwrap();
            }
            let sealed = Sealed::unwatched(number, builder.finish());
            window.push(Pending::new(sealed, Instant::now()));
        }
        window
    }

    fn stamps(window: &Window) -> Vec<(u32, u64, Option<u64>)> {
        let stamp = |index| {
            let (producer, expected) = window.stamp(index);
            (producer.epoch, producer.sequence, expected)
        };
        (0..window.len()).map(stamp).collect()
    }

    #[test]
    fn batches_keep_their_sequences_when_those_before_them_are_acknowledged() {
        let mut window = window(3, Some(10));
        assert_eq!(stamps(&window), [(0, 0, Some(10)), (0, 1, Some(11)), (0, 2, Some(13))]);
        window.pop_acknowledged();
        assert_eq!(stamps(&window), [(0, 1, Some(11)), (0, 2, Some(13))]);
    }

    #[test]
    fn batches_move_up_when_one_before_them_is_refused() {
        let mut window = window(3, Some(10));
        window.pop_acknowledged();
        window.pop_failed();
        assert_eq!(stamps(&window), [(0, 1, Some(11))]);
    }

    #[test]
    fn a_new_epoch_starts_at_sequence_zero_and_forgets_doubts() {
        let mut window = window(3, None);
        window.pop_acknowledged();
        window.mark_lost(1);
        assert_eq!(window.front().unwrap().applied(), Applied::Unknown);
        window.end_epoch();
        assert_eq!(stamps(&window), [(1, 0, None), (1, 1, None)]);
        assert_eq!(window.front().unwrap().applied(), Applied::No);
    }
}
