//! How many bytes of appends wait for room.

use std::collections::HashMap;

use parking_lot::Mutex;

/// A bounded number of bytes. One class (the product) may be half of them, so that a flood of one
/// leaves others a place to wait.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Mutex<Ledger>);

#[derive(Debug, Default)]
struct Ledger {
    all: usize,
    /// Only classes that wait, so no more than requests do.
    of: HashMap<u64, usize>,
}

/// A place among those who wait; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    waiting: &'a Waiting,
    class: u64,
    bytes: usize,
}

impl Waiting {
    /// A place for `bytes`, unless more than `limit` would wait then, or more than half of it of
    /// this class. One request of a class may always wait if it is the first, unless all is taken.
    pub(crate) fn enter(&self, class: u64, bytes: usize, limit: usize) -> Option<Place<'_>> {
        let mut ledger = self.0.lock();
        let own = ledger.of.get(&class).copied().unwrap_or_default();
        let has_room = ledger.all == 0 || ledger.all + bytes <= limit;
        let is_fair = own == 0 || own + bytes <= limit / 2;
        if !(has_room && is_fair) {
            return None;
        }
        ledger.all += bytes;
        *ledger.of.entry(class).or_default() += bytes;
        Some(Place { waiting: self, class, bytes })
    }
}

impl Waiting {
    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.0.lock().all
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut ledger = self.waiting.0.lock();
        ledger.all -= self.bytes;
        if let Some(own) = ledger.of.get_mut(&self.class) {
            *own -= self.bytes;
            if *own == 0 {
                ledger.of.remove(&self.class);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_that_wait_are_bounded_and_come_back() {
        let waiting = Waiting::default();
        let first = waiting.enter(1, 200, 100).expect("alone, whatever its size");
        assert!(waiting.enter(2, 1, 100).is_none());
        drop(first);
        let _second = waiting.enter(1, 60, 100).unwrap();
        let third = waiting.enter(2, 40, 100).unwrap();
        assert!(waiting.enter(3, 1, 100).is_none());
        drop(third);
        assert!(waiting.enter(3, 1, 100).is_some());
    }

    #[test]
    fn a_flood_of_one_product_leaves_others_a_place_to_wait() {
        let waiting = Waiting::default();
        let mut flood = Vec::new();
        while let Some(place) = waiting.enter(1, 10, 100) {
            flood.push(place);
        }
        assert_eq!(flood.len(), 5);
        assert!(waiting.enter(2, 10, 100).is_some());
        drop(flood);
        assert!(waiting.0.lock().of.is_empty(), "nobody is remembered");
    }
}
