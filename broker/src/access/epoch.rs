//! When decisions must be made anew.
//!
//! Every change of who may do what raises one number, the epoch; so does the moment at which a key or
//! a grant ends by itself. A decision is remembered together with its epoch, and an open stream looks
//! at the number again when it has changed. Nothing is locked on the way of a call.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use meshlog_storage::Timestamp;
use tokio::sync::watch;

/// How often an open stream looks at the clock while something is going to end by itself. The clock is
/// the storage's, so that nothing can be slept for exactly.
pub(crate) const LOOK: Duration = Duration::from_millis(250);

/// No key and no grant ends by itself.
const NEVER: u64 = u64::MAX;

/// The epoch, and whether calls must say who makes them.
#[derive(Debug)]
pub(crate) struct Epoch {
    number: AtomicU64,
    /// The next moment at which something ends by itself, in nanoseconds.
    next_end: AtomicU64,
    is_protected: AtomicBool,
    changed: watch::Sender<u64>,
}

impl Default for Epoch {
    fn default() -> Self {
        Self {
            number: AtomicU64::new(1),
            next_end: AtomicU64::new(NEVER),
            is_protected: AtomicBool::new(false),
            changed: watch::Sender::new(1),
        }
    }
}

impl Epoch {
    /// The epoch that decisions belong to. `None`: something has ended by itself, and
    /// [`Epoch::raise`] must come first.
    pub(crate) fn at(&self, now: Timestamp) -> Option<u64> {
        (now.0 < self.next_end.load(Ordering::Acquire)).then(|| self.number.load(Ordering::Acquire))
    }

    /// From now on decisions are made anew, until something ends by itself at `next_end`.
    pub(crate) fn raise(&self, is_protected: bool, next_end: Option<Timestamp>) {
        if is_protected {
            self.is_protected.store(true, Ordering::Release);
        }
        self.next_end.store(next_end.map_or(NEVER, |at| at.0), Ordering::Release);
        let number = self.number.fetch_add(1, Ordering::AcqRel) + 1;
        self.changed.send_replace(number);
    }

    /// Whether every call must say who makes it.
    pub(crate) fn is_protected(&self) -> bool {
        self.is_protected.load(Ordering::Acquire)
    }

    /// Is told when the epoch rises.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Whether something ends by itself, so that the clock must be looked at.
    pub(crate) fn has_end(&self) -> bool {
        self.next_end.load(Ordering::Acquire) != NEVER
    }
}
