//! The changes of products that happened last, for those who watch the catalogue.
//!
//! A ring with one entry per changed product. The number of an entry is its revision; a watcher
//! holds nothing but the revision up to which it has been told. One that has fallen behind the
//! oldest entry begins anew, so nothing is kept for slow ones.
//!
//! Revisions begin at the time of opening, in microseconds: those of an earlier run of the broker,
//! or of another broker, lie outside the ring and are never mistaken for ours.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Most changes remembered.
pub(super) const MAX_CHANGES: usize = 16_384;

/// One product that changed.
#[derive(Clone, Debug)]
pub(super) struct Changed {
    pub(super) id: Arc<str>,
    /// Its name after the change, or its last one.
    pub(super) name: Arc<str>,
    /// Its name before, if the change was a move.
    pub(super) before: Option<Arc<str>>,
    /// Whether it was not there before, or not for everybody to know.
    pub(super) was_hidden: bool,
}

/// The last changes, oldest first.
#[derive(Debug, Default)]
pub(super) struct Recent {
    changes: VecDeque<Changed>,
    /// The revision before the oldest change in the ring.
    floor: u64,
}

impl Recent {
    /// Nothing has changed since now.
    pub(super) fn begin() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { changes: VecDeque::new(), floor: u64::try_from(since.as_micros()).unwrap_or(0) }
    }

    /// The number of the last change.
    pub(super) fn revision(&self) -> u64 {
        self.floor + self.changes.len() as u64
    }

    pub(super) fn note(&mut self, changed: Changed) {
        if self.changes.len() == MAX_CHANGES {
            self.changes.pop_front();
            self.floor += 1;
        }
        self.changes.push_back(changed);
    }

    /// The changes after a revision, oldest first; `None` if the ring does not reach back to it,
    /// or it is not one of ours.
    pub(super) fn after(&self, revision: u64) -> Option<impl Iterator<Item = &Changed>> {
        let known = self.floor..=self.revision();
        known
            .contains(&revision)
            .then(|| self.changes.iter().skip((revision - self.floor) as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_that_has_gone_on_says_so_instead_of_leaving_changes_out() {
        let mut recent = Recent::begin();
        let first = recent.revision();
        let name: Arc<str> = Arc::from("ops.a");
        for number in 0..MAX_CHANGES + 2 {
            let id = Arc::from(number.to_string());
            let name = Arc::clone(&name);
            recent.note(Changed { id, name, before: None, was_hidden: false });
        }
        assert!(recent.after(first).is_none());
        assert!(recent.after(first + 1).is_none());
        let oldest = recent.after(first + 2).unwrap().next().unwrap();
        assert_eq!(&*oldest.id, "2");
        assert_eq!(recent.after(recent.revision()).unwrap().count(), 0);
        assert!(recent.after(recent.revision() + 1).is_none(), "of another run");
    }
}
