//! Room for appends, in bytes.
//!
//! At most `capacity` bytes of entries are under way between admission and acknowledgement.
//! While others wait, one admission class (the broker's is the product) holds at most a quarter;
//! a class that is alone may hold everything. Waiters are served in order of arrival, except
//! that one whose class is over its quarter lets others pass.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

/// Room for one entry; returned when dropped.
pub struct Permit {
    admission: Arc<Admission>,
    class: u64,
    bytes: usize,
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("class", &self.class).field("bytes", &self.bytes).finish()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.release(self.class, self.bytes);
    }
}

type Ready = Box<dyn FnOnce(Permit) + Send>;

struct Waiter {
    class: u64,
    bytes: usize,
    ready: Ready,
}

#[derive(Default)]
struct Ledger {
    used: usize,
    held: HashMap<u64, usize>,
    waiters: VecDeque<Waiter>,
}

/// The bound on bytes under way.
pub(crate) struct Admission {
    capacity: usize,
    ledger: Mutex<Ledger>,
}

impl Admission {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { capacity, ledger: Mutex::default() })
    }

    /// Gives room now, or keeps `ready` to be called with it later, from another thread.
    pub(crate) fn admit(
        self: &Arc<Self>,
        class: u64,
        bytes: usize,
        ready: impl FnOnce(Permit) + Send + 'static,
    ) -> Option<Permit> {
        // One entry larger than everything still gets through, alone.
        let bytes = bytes.min(self.capacity);
        let mut ledger = self.ledger.lock();
        if ledger.waiters.is_empty() && ledger.used + bytes <= self.capacity {
            ledger.take(class, bytes);
            return Some(Permit { admission: Arc::clone(self), class, bytes });
        }
        ledger.waiters.push_back(Waiter { class, bytes, ready: Box::new(ready) });
        drop(ledger);
        self.wake();
        None
    }

    /// Bytes under way, and entries that wait for room.
    pub(crate) fn load(&self) -> (usize, usize) {
        let ledger = self.ledger.lock();
        (ledger.used, ledger.waiters.len())
    }

    fn release(self: &Arc<Self>, class: u64, bytes: usize) {
        let mut ledger = self.ledger.lock();
        ledger.used -= bytes;
        if let Some(held) = ledger.held.get_mut(&class) {
            *held -= bytes;
            if *held == 0 {
                ledger.held.remove(&class);
            }
        }
        drop(ledger);
        self.wake();
    }

    fn wake(self: &Arc<Self>) {
        loop {
            let mut ledger = self.ledger.lock();
            let Some(index) = ledger.next_admissible(self.capacity) else { return };
            let Some(waiter) = ledger.waiters.remove(index) else { return };
            ledger.take(waiter.class, waiter.bytes);
            drop(ledger);
            let permit =
                Permit { admission: Arc::clone(self), class: waiter.class, bytes: waiter.bytes };
            (waiter.ready)(permit);
        }
    }
}

impl Ledger {
    fn take(&mut self, class: u64, bytes: usize) {
        self.used += bytes;
        *self.held.entry(class).or_default() += bytes;
    }

    fn next_admissible(&self, capacity: usize) -> Option<usize> {
        let room = capacity - self.used;
        let quarter = capacity / 4;
        let mut over_quarter = None;
        for (index, waiter) in self.waiters.iter().enumerate() {
            let held = self.held.get(&waiter.class).copied().unwrap_or(0);
            if held > 0 && held + waiter.bytes > quarter {
                over_quarter = over_quarter.or((waiter.bytes <= room).then_some(index));
                continue;
            }
            // The first in line that is within its share; it waits for room rather than
            // being overtaken by smaller ones for ever.
            return (waiter.bytes <= room).then_some(index);
        }
        // Everybody who waits is over their share: nobody is starved by going on.
        over_quarter
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_class_holds_at_most_a_quarter_while_another_waits() {
        let admission = Admission::new(100);
        let greedy: Vec<_> = (0..10).filter_map(|_| admission.admit(1, 10, drop)).collect();
        assert_eq!(greedy.len(), 10, "a class that is alone may hold everything");
        let admitted = Arc::new(Mutex::new(Vec::new()));
        for class in [1, 1, 2] {
            let admitted = Arc::clone(&admitted);
            let none =
                admission.admit(class, 10, move |permit| admitted.lock().push((class, permit)));
            assert!(none.is_none());
        }
        drop(greedy.into_iter().next());
        let classes: Vec<u64> = admitted.lock().iter().map(|(class, _)| *class).collect();
        assert_eq!(classes[0], 2, "the class with nothing under way goes first");
        drop(std::mem::take(&mut *admitted.lock()));
    }

    #[test]
    fn room_comes_back_when_a_waiter_is_gone() {
        let admission = Admission::new(10);
        let first = admission.admit(1, 10, drop);
        let calls = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&calls);
        assert!(
            admission
                .admit(2, 10, move |permit| {
                    seen.fetch_add(1, Ordering::SeqCst);
                    drop(permit);
                })
                .is_none()
        );
        drop(first);
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        assert!(admission.admit(3, 10, drop).is_some());
    }
}
