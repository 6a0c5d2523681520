//! How many bytes of appends wait for room.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A bounded number of bytes.
#[derive(Debug, Default)]
pub(crate) struct Waiting(AtomicUsize);

/// A place among those who wait; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    waiting: &'a Waiting,
    bytes: usize,
}

impl Waiting {
    /// A place for `bytes`, unless more than `limit` would wait then. One request larger than the
    /// limit may still wait alone.
    pub(crate) fn enter(&self, bytes: usize, limit: usize) -> Option<Place<'_>> {
        let entered = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
            (now == 0 || now + bytes <= limit).then_some(now + bytes)
        });
        entered.is_ok().then(|| Place { waiting: self, bytes })
    }
}

impl Waiting {
    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_that_wait_are_bounded_and_come_back() {
        let waiting = Waiting::default();
        let first = waiting.enter(200, 100).expect("alone, whatever its size");
        assert!(waiting.enter(1, 100).is_none());
        drop(first);
        let _second = waiting.enter(60, 100).unwrap();
        let third = waiting.enter(40, 100).unwrap();
        assert!(waiting.enter(1, 100).is_none());
        drop(third);
        assert!(waiting.enter(1, 100).is_some());
    }
}
