//! Who has a place: connections are bounded by their number, by that of their address, and by the
//! memory that they cost. Whoever has said nothing yet gives way to whoever comes.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::memory::{CONNECTION, Memory, TLS, units};

/// The places of one server.
#[derive(Clone)]
pub(super) struct Places {
    number: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    /// What one connection costs, in units of memory.
    cost: u32,
}

/// The place of a connection, and the memory for it.
pub(super) struct Place(#[expect(dead_code, reason = "held")] [OwnedSemaphorePermit; 2]);

impl Places {
    /// So many at most, of this memory.
    pub(super) fn new(number: u32, memory: &Memory, is_encrypted: bool) -> Self {
        let bytes = CONNECTION + if is_encrypted { TLS } else { 0 };
        Self {
            number: Arc::new(Semaphore::new(number as usize)),
            memory: Arc::clone(&memory.connections),
            cost: units(bytes),
        }
    }

    /// A place, if there is one now.
    pub(super) fn try_take(&self) -> Option<Place> {
        let number = Arc::clone(&self.number).try_acquire_owned().ok()?;
        let memory = Arc::clone(&self.memory).try_acquire_many_owned(self.cost).ok()?;
        Some(Place([number, memory]))
    }

    /// A place, as soon as there is one.
    pub(super) async fn take(&self) -> Option<Place> {
        let number = Arc::clone(&self.number).acquire_owned().await.ok()?;
        let memory = Arc::clone(&self.memory).acquire_many_owned(self.cost).await.ok()?;
        Some(Place([number, memory]))
    }
}

/// Connections that have made no request yet, oldest first.
#[derive(Default)]
pub(super) struct Silent(VecDeque<(Arc<AtomicBool>, CancellationToken)>);

impl Silent {
    /// One more: whether it has made a request, and what ends it.
    pub(super) fn enter(&mut self) -> (Arc<AtomicBool>, CancellationToken) {
        if self.0.len() == self.0.capacity() {
            self.0.retain(|(requested, _)| is_silent(requested));
        }
        let entry = (Arc::default(), CancellationToken::new());
        self.0.push_back(entry.clone());
        entry
    }

    /// Ends the one that has been silent for longest, if there is one.
    pub(super) fn one_goes(&mut self) -> bool {
        while let Some((requested, end)) = self.0.pop_front() {
            if is_silent(&requested) {
                end.cancel();
                return true;
            }
        }
        false
    }
}

/// Whether a connection is still there and has made no request.
fn is_silent(requested: &Arc<AtomicBool>) -> bool {
    Arc::strong_count(requested) > 1 && !requested.load(Ordering::Relaxed)
}

/// How many connections each address has.
pub(super) struct Addresses {
    limit: usize,
    /// At most as many as there are connections.
    counts: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection of an address.
pub(super) struct Origin {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    /// So many of one address.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, counts: Mutex::default() }
    }

    /// One more, if it may have one.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Origin> {
        let mut counts = self.counts.lock();
        let count = counts.entry(address).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(Origin { addresses: Arc::clone(self), address })
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let mut counts = self.addresses.counts.lock();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}
