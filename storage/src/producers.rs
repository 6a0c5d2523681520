//! What is known of producers: the outcomes of their latest entries, so that a retry answers
//! with the first outcome.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::entry::{AppendedRange, ProducerStamp};
use crate::format::{ProducerRecord, RecentRecord};
use crate::position::Lsn;

/// Outcomes kept per producer.
pub(crate) const WINDOW_ENTRIES: usize = 1024;
/// Outcomes kept of all producers together; beyond it the least recently used keep
/// [`IDLE_WINDOW_ENTRIES`] each.
const TOTAL_ENTRIES: usize = 256 * 1024;
const IDLE_WINDOW_ENTRIES: usize = 4;
/// Producers known at once; beyond it the least recently used is forgotten and must come back
/// with a new epoch.
const PRODUCERS_MAX: usize = 256 * 1024;

pub(crate) type ProducerKey = (u64, [u8; 16]);

/// The key under which a stamp's sequence is counted.
pub(crate) fn key(stamp: &ProducerStamp) -> ProducerKey {
    (stamp.scope, stamp.id)
}

/// The outcome of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) lsn: Lsn,
    pub(crate) ranges: Vec<AppendedRange>,
}

/// What is durable of every producer.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    windows: HashMap<ProducerKey, Window>,
    by_use: BTreeMap<u64, ProducerKey>,
    uses: u64,
    outcomes: usize,
}

#[derive(Debug)]
struct Window {
    epoch: u32,
    next_sequence: u64,
    recent: VecDeque<Outcome>,
    used: u64,
}

impl Producers {
    /// The epoch in force and the sequence that comes next.
    pub(crate) fn position(&self, key: &ProducerKey) -> Option<(u32, u64)> {
        self.windows.get(key).map(|window| (window.epoch, window.next_sequence))
    }

    /// The outcome of a sequence that was appended before, if it is still known.
    pub(crate) fn outcome(&self, stamp: &ProducerStamp) -> Option<&Outcome> {
        let window = self.windows.get(&key(stamp))?;
        let back = usize::try_from(window.next_sequence.checked_sub(stamp.sequence)?).ok()?;
        let index = window.recent.len().checked_sub(back)?;
        if window.epoch == stamp.epoch { window.recent.get(index) } else { None }
    }

    /// Keeps the outcome of a durable entry.
    pub(crate) fn record(&mut self, stamp: &ProducerStamp, outcome: Outcome) {
        self.uses += 1;
        let used = self.uses;
        let window = self.windows.entry(key(stamp)).or_insert_with(|| Window {
            epoch: stamp.epoch,
            next_sequence: 0,
            recent: VecDeque::new(),
            used,
        });
        self.by_use.remove(&window.used);
        self.by_use.insert(used, key(stamp));
        window.used = used;
        if window.epoch != stamp.epoch {
            self.outcomes -= window.recent.len();
            window.recent.clear();
            window.epoch = stamp.epoch;
        }
        window.next_sequence = stamp.sequence + 1;
        window.recent.push_back(outcome);
        self.outcomes += 1;
        if window.recent.len() > WINDOW_ENTRIES {
            window.recent.pop_front();
            self.outcomes -= 1;
        }
        self.shrink();
    }

    fn shrink(&mut self) {
        if self.outcomes > TOTAL_ENTRIES {
            for key in self.by_use.values() {
                let Some(window) = self.windows.get_mut(key) else { continue };
                let surplus = window.recent.len().saturating_sub(IDLE_WINDOW_ENTRIES);
                window.recent.drain(..surplus);
                window.recent.shrink_to_fit();
                self.outcomes -= surplus;
                if self.outcomes <= TOTAL_ENTRIES / 4 * 3 {
                    break;
                }
            }
        }
        while self.windows.len() > PRODUCERS_MAX {
            let Some((_, key)) = self.by_use.pop_first() else { break };
            if let Some(window) = self.windows.remove(&key) {
                self.outcomes -= window.recent.len();
            }
        }
    }

    /// Every known producer's position.
    pub(crate) fn positions(&self) -> impl Iterator<Item = (ProducerKey, u32, u64)> {
        self.windows.iter().map(|(key, window)| (*key, window.epoch, window.next_sequence))
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
                            .ranges
                            .iter()
                            .map(|r| (r.stream, r.first_offset, r.count, r.append_time))
                            .collect(),
                    })
                    .collect(),
            })
            .collect()
    }

    /// From a checkpoint.
    pub(crate) fn from_records(records: Vec<ProducerRecord>) -> Self {
        let mut producers = Self::default();
        for record in records {
            producers.uses += 1;
            let used = producers.uses;
            let recent: VecDeque<Outcome> = record
                .recent
                .into_iter()
                .map(|recent| Outcome {
                    lsn: recent.lsn,
                    ranges: recent
                        .ranges
                        .into_iter()
                        .map(|(stream, first_offset, count, append_time)| AppendedRange {
                            stream,
                            first_offset,
                            count,
                            append_time,
                        })
                        .collect(),
                })
                .collect();
            producers.outcomes += recent.len();
            producers.by_use.insert(used, (record.scope, record.id));
            producers.windows.insert(
                (record.scope, record.id),
                Window { epoch: record.epoch, next_sequence: record.next_sequence, recent, used },
            );
        }
        producers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(sequence: u64) -> ProducerStamp {
        ProducerStamp { scope: 1, id: [7; 16], epoch: 0, sequence }
    }

    #[test]
    fn the_window_holds_the_last_thousand_outcomes() {
        let mut producers = Producers::default();
        for sequence in 0..2000 {
            producers.record(&stamp(sequence), Outcome { lsn: Lsn(sequence), ranges: vec![] });
        }
        assert_eq!(producers.outcome(&stamp(1999)).map(|o| o.lsn), Some(Lsn(1999)));
        assert_eq!(producers.outcome(&stamp(976)).map(|o| o.lsn), Some(Lsn(976)));
        assert_eq!(producers.outcome(&stamp(975)), None);
        assert_eq!(producers.outcome(&stamp(2000)), None);
        let again = Producers::from_records(producers.records());
        assert_eq!(again.outcome(&stamp(976)), producers.outcome(&stamp(976)));
        assert_eq!(again.position(&key(&stamp(0))), Some((0, 2000)));
    }
}
