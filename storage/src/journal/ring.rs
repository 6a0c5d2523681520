//! The ring: the groups written last stay in memory, and with them the newest batches of every
//! stream. Subscribers at the tail all share one copy.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::position::Offset;
use crate::stream::Stream;

/// Memory of one batch beside its payload, roughly.
const BATCH_BYTES: usize = 192;

/// Which batches are in memory, oldest group first.
#[derive(Default)]
pub(crate) struct Ring {
    capacity: usize,
    bytes: usize,
    groups: VecDeque<RingGroup>,
}

/// Its memory, and its batches.
type RingGroup = (usize, Vec<(Arc<Stream>, Offset)>);

impl Ring {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, ..Self::default() }
    }

    /// Takes a group in whose batches its streams hold already; gives up the oldest ones.
    pub(crate) fn push(&mut self, bytes: usize, batches: Vec<(Arc<Stream>, Offset)>) {
        if batches.is_empty() {
            return;
        }
        let bytes = bytes + batches.len() * BATCH_BYTES;
        self.bytes += bytes;
        self.groups.push_back((bytes, batches));
        while self.bytes > self.capacity
            && let Some((bytes, batches)) = self.groups.pop_front()
        {
            self.bytes -= bytes;
            for (stream, base_offset) in batches {
                stream.view().forget_oldest(base_offset);
            }
        }
    }
}
