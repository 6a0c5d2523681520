//! Which streams to compact.
//!
//! To know how much of a stream is to gain, the footers of all files must be looked at. That is
//! done for all streams in one pass, and only for those that have grown since the last one by what
//! was missing then: what a pass costs was appended before.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::plan::{Estimate, Plan, Rank, alive, plan, ranks};
use crate::compaction::Compacting;
use crate::engine::Engine;
use crate::position::{FileKey, FileSequence, Offset, StreamId, Timestamp};
use crate::retention::Compaction;

/// To compact a stream, so many times the largest file is rewritten that holds others.
const OTHERS_FACTOR: u64 = 2;
/// Beside appends, a file of which more than so many times the gain would be rewritten waits,
const COST_FACTOR: u64 = 4;
/// for so long: much of it may be gone by then.
const YOUNG: Duration = Duration::from_secs(60);

/// What is known of streams that are compacted.
#[derive(Debug, Default)]
pub(crate) struct Compactions {
    known: HashMap<StreamId, Known>,
}

/// A stream as the last pass saw it.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// It has not changed in finished files while these stay.
    start: Offset,
    compacted_to: Offset,
    last_file: Option<FileSequence>,
    /// All of its bytes so far, and how many of them wait to be compacted.
    bytes: u64,
    dirty: u64,
    /// With so many it is worth while.
    enough: u64,
}

/// A stream that a pass looks at.
struct Candidate {
    compaction: Compaction,
    start: Offset,
    compacted_to: Offset,
    last_file: Option<FileSequence>,
    bytes: u64,
    row: Option<Row>,
    /// Nothing later belongs to the row.
    is_closed: bool,
    /// Bytes of others since the row's beginning.
    others: u64,
    /// All that waits, in the row or later.
    dirty: u64,
}

/// The ranks in a row that hold a stream from its start on.
#[derive(Clone, Copy)]
struct Row {
    first: usize,
    end: usize,
    /// One past the stream's last offset in them.
    to: Offset,
    dirty: u64,
    clean: u64,
}

impl Compactions {
    /// Bytes of streams that are overdue.
    pub(crate) fn overdue(&self, engine: &Engine) -> u64 {
        let overdue = |(id, known): (&StreamId, &Known)| {
            let stream = engine.state.stream(*id).ok()?;
            let view = stream.view();
            let dirty = known.dirty + view.bytes.saturating_sub(known.bytes);
            // Of one that was compacted since nothing is known yet.
            let is_same = view.compacted_to == known.compacted_to;
            is_same.then(|| dirty.saturating_sub(known.enough))
        };
        self.known.iter().filter_map(overdue).sum()
    }

    /// Streams of which something may be worth while.
    fn candidates(&mut self, engine: &Engine) -> BTreeMap<StreamId, Candidate> {
        let mut candidates = BTreeMap::new();
        let mut compacted = BTreeSet::new();
        for stream in engine.state.streams() {
            let view = stream.view();
            let Some(compaction) = view.policy.compact else { continue };
            compacted.insert(stream.id);
            let is_seen = self.known.get(&stream.id).is_some_and(|known| {
                let grown = known.dirty + view.bytes.saturating_sub(known.bytes);
                let is_same = known.start == view.start && known.compacted_to == view.compacted_to;
                is_same && (grown < known.enough || known.last_file == view.last_file)
            });
            if !is_seen && view.last_file.is_some() {
                candidates.insert(
                    stream.id,
                    Candidate {
                        compaction,
                        start: view.start,
                        compacted_to: view.compacted_to,
                        last_file: view.last_file,
                        bytes: view.bytes,
                        row: None,
                        is_closed: false,
                        others: 0,
                        dirty: 0,
                    },
                );
            }
        }
        self.known.retain(|id, _| compacted.contains(id));
        candidates
    }
}

/// The merge that compacts the stream with most to gain, if one has enough, and the others that are
/// in the same files.
pub(crate) fn choose_compaction(
    engine: &Engine,
    estimates: &BTreeMap<FileKey, Estimate>,
    damaged: &BTreeSet<FileKey>,
    compactions: &mut Compactions,
) -> Option<Plan> {
    let mut candidates = compactions.candidates(engine);
    if candidates.is_empty() {
        return None;
    }
    let ranks = ranks(engine, estimates, damaged);
    let now = (!engine.is_idle()).then(|| engine.parts.clock.monotonic());
    for (index, rank) in ranks.iter().enumerate() {
        look(engine, index, rank, now, &mut candidates);
    }
    let mut best: Option<Row> = None;
    let mut worth = Vec::new();
    for (id, candidate) in &candidates {
        let row = candidate.row.filter(|row| row.dirty > 0);
        let clean = candidate.row.map_or(0, |row| row.clean);
        let enough = engine.options.compaction_bytes_min.max(clean / 2).max(1);
        let Candidate { start, compacted_to, last_file, bytes, dirty, .. } = *candidate;
        let is_worth = row.is_some_and(|row| row.dirty >= enough);
        if let Some(row) = row.filter(|_| is_worth) {
            worth.push((*id, row));
            best = best.filter(|best| best.dirty >= row.dirty).or(Some(row));
        }
        // What is put off, or not chosen, is looked at again.
        if !is_worth && dirty < enough {
            let known = Known { start, compacted_to, last_file, bytes, dirty, enough };
            compactions.known.insert(*id, known);
        }
    }
    let best = best?;
    let trusted = engine.retention.trusted_time();
    let compacting = worth.into_iter().filter_map(|(id, row)| {
        // Of the streams in these files also those with less to gain.
        let is_inside = best.first <= row.first && row.end <= best.end;
        let candidate = candidates.get(&id).filter(|_| is_inside)?;
        let tombstones = trusted.and_then(|now| {
            let age = u64::try_from(candidate.compaction.tombstone_min_age.as_nanos()).ok()?;
            now.0.checked_sub(age).map(Timestamp)
        });
        Some((id, Compacting { from: candidate.compacted_to, to: row.to, tombstones }))
    });
    plan(engine, &ranks[best.first..best.end], estimates, compacting.collect())
}

/// Looks at one rank for all streams at once. `now` is given beside appends.
fn look(
    engine: &Engine,
    index: usize,
    rank: &Rank,
    now: Option<Duration>,
    candidates: &mut BTreeMap<StreamId, Candidate>,
) {
    let mut held: HashMap<StreamId, (u64, u64, Offset)> = HashMap::new();
    let mut is_damaged = rank.is_damaged;
    for (_, file) in &rank.files {
        let Ok(footer) = engine.footers.load(engine, file) else {
            is_damaged = true;
            continue;
        };
        // Whichever are fewer are gone through.
        let entries: Vec<_> = if candidates.len() < footer.streams.len() {
            candidates.keys().filter_map(|id| footer.find(*id)).collect()
        } else {
            footer.streams.iter().filter(|e| candidates.contains_key(&e.stream)).collect()
        };
        for entry in entries {
            let candidate = &candidates[&entry.stream];
            if entry.end <= candidate.start {
                continue;
            }
            let (live, _) = alive(engine, entry);
            let is_dirty = entry.end > candidate.compacted_to;
            let (dirty, clean) = if is_dirty { (live, 0) } else { (0, live) };
            let (all_dirty, all_clean, _) =
                held.get(&entry.stream).copied().unwrap_or((0, 0, Offset(0)));
            held.insert(entry.stream, (all_dirty + dirty, all_clean + clean, entry.end));
        }
    }
    let is_young = now.is_some_and(|now| now.saturating_sub(rank.since) < YOUNG);
    let all_dirty: u64 = held.values().map(|(dirty, ..)| dirty).sum();
    let is_dear = is_young && rank.live > (1 + COST_FACTOR) * all_dirty;
    for (id, candidate) in candidates {
        let held = held.get(id).copied();
        candidate.dirty += held.map_or(0, |(dirty, ..)| dirty);
        if candidate.is_closed || (candidate.row.is_none() && held.is_none()) {
            continue;
        }
        candidate.others += rank.live;
        // What stands between is rewritten as well; beyond a limit the rest waits.
        let is_too_much = candidate.others > OTHERS_FACTOR * engine.options.file_bytes_max
            && candidate.row.is_some_and(|row| row.dirty > 0);
        let is_put_off = is_dear && held.is_some_and(|(dirty, ..)| dirty > 0);
        if is_damaged || is_too_much || is_put_off {
            candidate.is_closed = true;
            continue;
        }
        let start = candidate.start;
        let row = candidate.row.get_or_insert(Row {
            first: index,
            end: index,
            to: start,
            dirty: 0,
            clean: 0,
        });
        if let Some((dirty, clean, to)) = held {
            row.dirty += dirty;
            row.clean += clean;
            (row.to, row.end) = (to, index + 1);
        }
    }
}
