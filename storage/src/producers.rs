//! What is known of producers: the outcomes of their latest entries, so that a retry answers
//! with the first outcome.
//!
//! A producer that is used keeps its last 1,024 outcomes. All of them together keep at most twice
//! as many outcomes as producers may be known; beyond that the least recently used keep one each,
//! and the others of the last 1,024 are looked up in the log.
//! Beyond the number of producers itself the least recently used is forgotten, all but its epoch,
//! and must come back with a higher one.

mod forgotten;
mod lookup;

use std::collections::{BTreeMap, VecDeque};

use crate::entry::{AppendedRange, ProducerStamp};
use crate::error::{Applied, Error, ErrorKind};
use crate::format::{ProducerRecord, RecentRecord};
use crate::options::Options;
use crate::position::{Lsn, Offset, StreamId};
use forgotten::Forgotten;
pub(crate) use lookup::Lookup;

/// Outcomes kept per producer.
pub(crate) const WINDOW_ENTRIES: usize = 1024;
/// Outcomes that the least recently used keep. With this many each, all together have half of what
/// there may be, so thinning them out happens rarely.
const IDLE_WINDOW_ENTRIES: usize = 1;

pub(crate) type ProducerKey = (u64, [u8; 16]);

/// The key under which a stamp's sequence is counted.
pub(crate) fn key(stamp: &ProducerStamp) -> ProducerKey {
    (stamp.scope, stamp.id)
}

/// The answer to a retry whose outcome nobody knows.
pub(crate) fn sequence_too_old(stamp: &ProducerStamp) -> Error {
    Error::new(
        ErrorKind::SequenceTooOld,
        format!(
            "sequence {} was used long ago and its outcome is no longer known: look for the \
             records before appending them again",
            stamp.sequence
        ),
    )
    .with_applied(Applied::Unknown)
}

/// The outcome of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) lsn: Lsn,
    ranges: Ranges,
}

/// Nearly always one, which then needs no memory of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ranges {
    One(AppendedRange),
    Many(Box<[AppendedRange]>),
}

impl Outcome {
    pub(crate) fn new(lsn: Lsn, ranges: Vec<AppendedRange>) -> Self {
        let ranges = match ranges.as_slice() {
            [range] => Ranges::One(*range),
            _ => Ranges::Many(ranges.into()),
        };
        Self { lsn, ranges }
    }

    /// One per batch, in the order of the entry.
    pub(crate) fn ranges(&self) -> &[AppendedRange] {
        match &self.ranges {
            Ranges::One(range) => std::slice::from_ref(range),
            Ranges::Many(ranges) => ranges,
        }
    }
}

/// What is durable of every producer.
#[derive(Debug)]
pub(crate) struct Producers {
    /// A table of hashes would leave half of its room free, just when there are many.
    windows: BTreeMap<ProducerKey, Window>,
    by_use: BTreeMap<u64, ProducerKey>,
    forgotten: Forgotten,
    uses: u64,
    outcomes: usize,
    most: usize,
}

#[derive(Debug)]
struct Window {
    epoch: u32,
    next_sequence: u64,
    recent: Recent,
    used: u64,
}

/// Outcomes, the oldest first. One, which is what an idle producer has, needs no memory of its own.
#[derive(Debug)]
enum Recent {
    One(Outcome),
    Many(VecDeque<Outcome>),
}

impl Recent {
    fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(outcomes) => outcomes.len(),
        }
    }

    fn get(&self, index: usize) -> Option<&Outcome> {
        match self {
            Self::One(outcome) => Some(outcome).filter(|_| index == 0),
            Self::Many(outcomes) => outcomes.get(index),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Outcome> {
        let (first, second) = match self {
            Self::One(outcome) => (std::slice::from_ref(outcome), &[][..]),
            Self::Many(outcomes) => outcomes.as_slices(),
        };
        first.iter().chain(second)
    }

    /// Adds the newest.
    fn push(&mut self, outcome: Outcome) {
        match self {
            Self::One(first) => {
                *self = Self::Many(VecDeque::from([first.clone(), outcome]));
            }
            Self::Many(outcomes) => outcomes.push_back(outcome),
        }
    }

    /// Gives up so many, the oldest first.
    fn give_up(&mut self, count: usize) {
        let Self::Many(outcomes) = self else { return };
        outcomes.drain(..count);
        match outcomes.pop_front() {
            Some(last) if outcomes.is_empty() => *self = Self::One(last),
            Some(first) => outcomes.push_front(first),
            None => {}
        }
    }
}

impl FromIterator<Outcome> for Recent {
    fn from_iter<T: IntoIterator<Item = Outcome>>(outcomes: T) -> Self {
        let mut outcomes: VecDeque<Outcome> = outcomes.into_iter().collect();
        match outcomes.pop_front() {
            Some(only) if outcomes.is_empty() => Self::One(only),
            Some(first) => {
                outcomes.push_front(first);
                Self::Many(outcomes)
            }
            None => Self::Many(outcomes),
        }
    }
}

/// Of a storage with default options.
impl Default for Producers {
    fn default() -> Self {
        Self::new(Options::default().producers_max)
    }
}

impl Producers {
    /// Knows at most this many.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            windows: BTreeMap::new(),
            by_use: BTreeMap::new(),
            forgotten: Forgotten::default(),
            uses: 0,
            outcomes: 0,
            most: most.max(1),
        }
    }

    /// The lowest epoch in which a producer that is not known may begin.
    pub(crate) fn lowest_epoch(&self, key: &ProducerKey) -> u32 {
        self.forgotten.lowest_epoch(key)
    }

    /// Nothing is certain any more of producers that are not known.
    pub(crate) fn distrust_unknown(&mut self) {
        let highest = self.windows.values().map(|window| window.epoch).max().unwrap_or_default();
        self.forgotten.note_all(highest);
    }

    /// The outcome of a sequence that was appended before, if it is still known.
    pub(crate) fn outcome(&self, stamp: &ProducerStamp) -> Option<&Outcome> {
        let window = self.windows.get(&key(stamp))?;
        let back = usize::try_from(window.next_sequence.checked_sub(stamp.sequence)?).ok()?;
        let index = window.recent.len().checked_sub(back)?;
        if window.epoch == stamp.epoch { window.recent.get(index) } else { None }
    }

    /// For an outcome that is not known but should be, where later entries of the producer begin,
    /// as far as that is known.
    pub(crate) fn given_up(&self, stamp: &ProducerStamp) -> Option<Vec<(StreamId, Offset)>> {
        let window = self.windows.get(&key(stamp)).filter(|window| window.epoch == stamp.epoch)?;
        let back = window.next_sequence.checked_sub(stamp.sequence)?;
        let oldest = window.recent.get(0).map_or(&[][..], Outcome::ranges);
        let before = oldest.iter().map(|range| (range.stream, range.first_offset)).collect();
        (back <= WINDOW_ENTRIES as u64).then_some(before)
    }

    /// Keeps the outcome of a durable entry.
    pub(crate) fn record(&mut self, stamp: &ProducerStamp, outcome: Outcome) {
        self.uses += 1;
        let used = self.uses;
        let (epoch, next_sequence) = (stamp.epoch, stamp.sequence + 1);
        match self.windows.get_mut(&key(stamp)) {
            Some(window) if window.epoch == epoch => {
                self.by_use.remove(&window.used);
                (window.next_sequence, window.used) = (next_sequence, used);
                window.recent.push(outcome);
                if window.recent.len() > WINDOW_ENTRIES {
                    window.recent.give_up(1);
                } else {
                    self.outcomes += 1;
                }
            }
            _ => {
                let recent = Recent::One(outcome);
                let window = Window { epoch, next_sequence, recent, used };
                if let Some(before) = self.windows.insert(key(stamp), window) {
                    self.by_use.remove(&before.used);
                    self.outcomes -= before.recent.len();
                }
                self.outcomes += 1;
            }
        }
        self.by_use.insert(used, key(stamp));
        self.shrink();
    }

    fn shrink(&mut self) {
        while self.windows.len() > self.most {
            let Some((_, key)) = self.by_use.pop_first() else { break };
            if let Some(window) = self.windows.remove(&key) {
                self.outcomes -= window.recent.len();
                self.forgotten.note(&key, window.epoch);
            }
        }
        let outcomes_max = 2 * self.most.max(WINDOW_ENTRIES);
        if self.outcomes > outcomes_max {
            for key in self.by_use.values() {
                let Some(window) = self.windows.get_mut(key) else { continue };
                let surplus = window.recent.len().saturating_sub(IDLE_WINDOW_ENTRIES);
                window.recent.give_up(surplus);
                self.outcomes -= surplus;
                if self.outcomes <= outcomes_max / 4 * 3 {
                    break;
                }
            }
        }
    }

    /// The epoch and the next sequence of a producer, if it is known.
    pub(crate) fn position(&self, key: &ProducerKey) -> Option<(u32, u64)> {
        self.windows.get(key).map(|window| (window.epoch, window.next_sequence))
    }

    /// For a checkpoint, least recently used first.
    pub(crate) fn records(&self) -> Vec<ProducerRecord> {
        let windows = self.by_use.values().filter_map(|key| Some((key, self.windows.get(key)?)));
        windows
            .map(|((scope, id), window)| ProducerRecord {
                scope: *scope,
                id: *id,
                epoch: window.epoch,
                next_sequence: window.next_sequence,
                recent: window
                    .recent
                    .iter()
                    .map(|outcome| RecentRecord {
                        lsn: outcome.lsn,
                        ranges: outcome
                            .ranges()
                            .iter()
                            .map(|r| (r.stream, r.first_offset, r.count, r.append_time))
                            .collect(),
                    })
                    .collect(),
            })
            .collect()
    }

    /// For a checkpoint: see [`Producers::lowest_epoch`].
    pub(crate) fn forgotten(&self) -> Vec<(u32, u32)> {
        self.forgotten.records()
    }

    /// From a checkpoint.
    pub(crate) fn restore(&mut self, records: Vec<ProducerRecord>, forgotten: &[(u32, u32)]) {
        self.forgotten.restore(forgotten);
        for record in records {
            self.uses += 1;
            let used = self.uses;
            let recent: Recent = record
                .recent
                .into_iter()
                .map(|recent| {
                    let ranges = recent.ranges.into_iter();
                    let ranges = ranges.map(|(stream, first_offset, count, append_time)| {
                        AppendedRange { stream, first_offset, count, append_time }
                    });
                    Outcome::new(recent.lsn, ranges.collect())
                })
                .collect();
            self.outcomes += recent.len();
            self.by_use.insert(used, (record.scope, record.id));
            self.windows.insert(
                (record.scope, record.id),
                Window { epoch: record.epoch, next_sequence: record.next_sequence, recent, used },
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Timestamp;

    fn stamp(id: u8, sequence: u64) -> ProducerStamp {
        ProducerStamp { scope: 1, id: [id; 16], epoch: 0, sequence }
    }

    fn outcome(number: u64) -> Outcome {
        let range = AppendedRange {
            stream: StreamId(1),
            first_offset: Offset(number),
            count: 1,
            append_time: Timestamp(number),
        };
        Outcome::new(Lsn(number), vec![range])
    }

    #[test]
    fn the_window_holds_the_last_thousand_outcomes() {
        let mut producers = Producers::new(4096);
        for sequence in 0..2000 {
            producers.record(&stamp(7, sequence), outcome(sequence));
        }
        assert_eq!(producers.outcome(&stamp(7, 1999)).map(|o| o.lsn), Some(Lsn(1999)));
        assert_eq!(producers.outcome(&stamp(7, 976)).map(|o| o.lsn), Some(Lsn(976)));
        assert_eq!(producers.outcome(&stamp(7, 975)), None);
        assert_eq!(producers.outcome(&stamp(7, 2000)), None);
        let mut again = Producers::new(4096);
        again.restore(producers.records(), &producers.forgotten());
        assert_eq!(again.outcome(&stamp(7, 976)), producers.outcome(&stamp(7, 976)));
        assert_eq!(again.position(&(1, [7; 16])), Some((0, 2000)));
    }

    #[test]
    fn the_least_recently_used_is_forgotten_but_for_its_epoch() {
        let mut producers = Producers::new(3);
        for id in 0..3 {
            producers.record(&stamp(id, 0), outcome(0));
        }
        producers.record(&stamp(0, 1), outcome(1));
        producers.record(&stamp(9, 0), outcome(0));
        let knows = |id| producers.position(&key(&stamp(id, 0))).is_some();
        assert!(knows(0) && knows(2));
        assert!(!knows(1));
        assert_eq!(producers.lowest_epoch(&key(&stamp(1, 0))), 1);
        assert_eq!(producers.lowest_epoch(&key(&stamp(77, 0))), 0);
    }

    /// It went through all producers at every append once each had kept as few as it may.
    #[test]
    fn outcomes_are_bounded_together_and_thinned_out_rarely() {
        let mut producers = Producers::new(2000);
        for round in 0..8 {
            for id in 0..2000_u64 {
                let mut of_id = stamp(0, round);
                of_id.id[..8].copy_from_slice(&id.to_le_bytes());
                producers.record(&of_id, outcome(round));
                assert!(producers.outcomes <= 4000);
            }
        }
        let kept: usize = producers.windows.values().map(|window| window.recent.len()).sum();
        assert_eq!(kept, producers.outcomes);
        assert!(kept >= 2000, "one each at least");
    }

    #[test]
    fn what_is_given_up_goes_from_the_oldest_on() {
        let mut recent: Recent = (0..5).map(outcome).collect();
        recent.give_up(3);
        assert_eq!(recent.iter().map(|o| o.lsn.0).collect::<Vec<_>>(), [3, 4]);
        recent.give_up(1);
        assert!(matches!(recent, Recent::One(_)) && recent.get(0) == Some(&outcome(4)));
        recent.push(outcome(5));
        assert_eq!((recent.len(), recent.get(1)), (2, Some(&outcome(5))));
    }
}
