//! Memory for what subscriptions have read and not told yet.
//!
//! Reading ahead is for speed alone: without room, a slice is read when its turn comes, and one that
//! was read is forgotten and read again. So many slow readers hold no more than a few quick ones.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of all subscriptions together.
const LIMIT: usize = 16 << 20;

/// What room is counted in.
const UNIT: usize = 1 << 10;

/// The room of one broker.
#[derive(Clone, Debug)]
pub(crate) struct AheadRoom(Arc<Semaphore>);

/// Some of it; given back when dropped.
pub(super) type Room = OwnedSemaphorePermit;

impl Default for AheadRoom {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LIMIT / UNIT)))
    }
}

impl AheadRoom {
    /// Room for so many bytes, if there is some.
    pub(super) fn take(&self, bytes: usize) -> Option<Room> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).ok()?;
        Arc::clone(&self.0).try_acquire_many_owned(units).ok()
    }
}
