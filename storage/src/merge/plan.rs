//! Which files to merge.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::erase::{Condemned, cannot_rewrite};
use super::pace::Debt;
use crate::compaction::Compacting;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{ReadableFile, StoredFile};
use crate::format::{FILE_HEADER_BYTES, Footer, FooterStream};
use crate::position::{FileKey, FileSequence, StreamId};
use crate::stream::last_run;

/// Files whose footers are looked at in one step.
const LOOKS: usize = 64;
/// So many small files in a row are made one.
const SMALL_FILES: usize = 8;
/// Streams with segments of their own in one merge, at most.
const OWN_MAX: usize = 64;
/// Readers walked over so many times a file's length without finding anything in it.
const WALKS: u64 = 8;
/// Waste of so many of the largest files, and of this part of what is alive, may wait for merges.
const ALLOWED_FILES: u64 = 2;
const ALLOWED_SHARE: u64 = 8;

/// How much of a file is alive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Estimate {
    epoch: u64,
    /// When it was looked at first.
    pub(super) since: Duration,
    /// Bytes that what is alive takes, nearly.
    live: u64,
    /// Bytes that a merge would free.
    waste: u64,
    /// Bytes of the file, as far as the waste is a part of them.
    whole: u64,
}

/// What one merge does.
pub(crate) struct Plan {
    /// In the order of their keys.
    pub(crate) inputs: Vec<Arc<ReadableFile>>,
    pub(crate) first_rank: FileSequence,
    pub(crate) rank: FileSequence,
    /// Streams that get segments of their own.
    pub(crate) own: HashSet<StreamId>,
    /// Fewer bytes are taken afterwards.
    pub(crate) frees_space: bool,
    /// Streams of which superseded records are left out.
    pub(crate) compacting: BTreeMap<StreamId, Compacting>,
    /// What must not be copied though it is in a batch that is.
    pub(crate) condemned: Condemned,
}

/// What is still to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unseen {
    /// Files of which nothing is known.
    pub(crate) unknown: usize,
    /// Files of which something was known before records went.
    pub(crate) old: usize,
}

/// Looks at some files: those never looked at first, then those looked at longest ago, the oldest
/// file first, for there records go.
pub(crate) fn estimate(
    engine: &Engine,
    estimates: &mut BTreeMap<FileKey, Estimate>,
    epoch: u64,
) -> Unseen {
    let files = engine.files.all();
    let known: BTreeSet<FileKey> = files.iter().map(|(file, _)| file.key()).collect();
    estimates.retain(|key, _| known.contains(key));
    let mut waiting: Vec<_> = files
        .iter()
        .filter_map(|(file, readable)| {
            let seen = estimates.get(&file.key()).map(|known| known.epoch);
            (seen != Some(epoch)).then_some((seen, file.key(), file, readable))
        })
        .collect();
    waiting.sort_unstable_by_key(|(seen, key, ..)| (*seen, *key));
    let now = engine.parts.clock.monotonic();
    for (_, key, file, readable) in waiting.iter().take(LOOKS) {
        let since = estimates.get(key).map_or(now, |known| known.since);
        let estimate = match engine.footers.load(engine, readable) {
            Ok(footer) => {
                Estimate { since, ..Estimate::of(engine, file, readable, &footer, epoch) }
            }
            // What cannot be read is not merged.
            Err(error) => {
                tracing::debug!(%error, %key, "a footer cannot be read");
                let whole = readable.end;
                Estimate { epoch, since, live: whole, waste: 0, whole }
            }
        };
        estimates.insert(*key, estimate);
    }
    let rest = waiting.iter().skip(LOOKS);
    let unknown = rest.clone().filter(|(seen, ..)| seen.is_none()).count();
    Unseen { unknown, old: rest.count() - unknown }
}

/// What waits for merges; `overdue` bytes wait for compaction.
pub(crate) fn debt(engine: &Engine, estimates: &BTreeMap<FileKey, Estimate>, overdue: u64) -> Debt {
    // Files without anything alive are given back without a merge.
    let shared = estimates.values().filter(|known| known.live > 0);
    let (mut live, mut waste) = (0, overdue);
    for known in shared {
        live += known.live;
        waste += if known.is_wasteful(2) { known.waste } else { 0 };
    }
    let allowed = live / ALLOWED_SHARE + ALLOWED_FILES * engine.options.file_bytes_max;
    Debt { waste, allowed }
}

impl Estimate {
    fn of(
        engine: &Engine,
        file: &StoredFile,
        readable: &ReadableFile,
        footer: &Footer,
        epoch: u64,
    ) -> Self {
        let (mut live, mut all) = (0_u64, 0_u64);
        for entry in &footer.streams {
            let (part, whole) = alive(engine, entry);
            live += part;
            all += whole;
        }
        let groups = readable.groups_end - FILE_HEADER_BYTES as u64;
        let share = |part: u64| {
            let scaled = u128::from(groups) * u128::from(part) / u128::from(all.max(1));
            u64::try_from(scaled).unwrap_or(groups)
        };
        let live = share(live);
        // The rest of a journal file's slot is waste as well.
        let whole = match file {
            StoredFile::Journal(record) => record.size,
            StoredFile::Segment(_) => groups,
        };
        let since = Duration::ZERO;
        Self { epoch, since, live, waste: whole.saturating_sub(live), whole }
    }

    fn is_wasteful(&self, share: u64) -> bool {
        self.waste * share > self.whole
    }
}

/// Payload bytes of a stream in a file that are alive, and all of them. In files of version 1,
/// which counted none, offsets stand for bytes.
pub(super) fn alive(engine: &Engine, entry: &FooterStream) -> (u64, u64) {
    let base = entry.runs[0].base_offset;
    let is_counted = entry.bytes_inside() > 0;
    let all = if is_counted { entry.bytes_inside() } else { entry.end.0 - base.0 };
    let Ok(stream) = engine.state.stream(entry.stream) else { return (0, all) };
    let start = stream.view().start;
    let live = if start >= entry.end {
        0
    } else if start <= base {
        all
    } else if is_counted {
        let before = last_run(&entry.runs, |run| run.base_offset <= start);
        entry.bytes - before.map_or(entry.runs[0].bytes, |run| run.bytes)
    } else {
        entry.end.0 - start.0
    };
    (live, all)
}

/// A rank: its files and what is known of them.
#[derive(Default)]
pub(super) struct Rank {
    pub(super) files: Vec<(StoredFile, Arc<ReadableFile>)>,
    pub(super) live: u64,
    waste: u64,
    is_wasteful: bool,
    is_walked: bool,
    pub(super) is_damaged: bool,
    /// When its newest file was looked at first.
    pub(super) since: Duration,
}

/// The merge that is most worth while, if one is.
pub(crate) fn choose(
    engine: &Engine,
    estimates: &BTreeMap<FileKey, Estimate>,
    damaged: &BTreeSet<FileKey>,
) -> Option<Plan> {
    let ranks = ranks(engine, estimates, damaged);
    let whole = engine.options.file_bytes_max;
    let small = small(engine);
    let is_mergeable =
        |rank: &Rank| !rank.is_damaged && (rank.is_wasteful || rank.is_walked || rank.live < small);
    let mut best: Option<(u64, usize, usize)> = None;
    let mut first = 0;
    while first < ranks.len() {
        let mut end = first;
        let (mut live, mut waste, mut is_needed) = (0, 0, false);
        while end < ranks.len()
            && is_mergeable(&ranks[end])
            && (end == first || live + ranks[end].live <= whole)
        {
            live += ranks[end].live;
            waste += ranks[end].waste;
            is_needed |= ranks[end].is_wasteful || ranks[end].is_walked;
            end += 1;
        }
        let is_worth = is_needed || end - first >= SMALL_FILES;
        if is_worth && best.is_none_or(|(most, ..)| waste > most) {
            best = Some((waste, first, end));
        }
        first = end.max(first + 1);
    }
    let (_, first, end) = best?;
    plan(engine, &ranks[first..end], estimates, BTreeMap::new())
}

/// The next merge that leaves out what is to be erased; `None`: no file holds anything else beside
/// it.
pub(crate) fn choose_erasure(
    engine: &Engine,
    condemned: &Condemned,
    damaged: &BTreeSet<FileKey>,
) -> Result<Option<Plan>> {
    let mut files = Vec::new();
    let (mut live, mut previous) = (0, None);
    for (file, readable) in engine.files.all() {
        let key = file.key();
        let footer =
            engine.footers.load(engine, &readable).map_err(|error| cannot_rewrite(key, &error))?;
        let here: u64 = footer.streams.iter().map(|entry| alive(engine, entry).0).sum();
        let is_needed = condemned.is_in(key, &footer) && here > 0;
        // Ranks in a row, as far as they fit one file; all files of a rank.
        let is_row = previous == Some(key.rank) || live + here <= engine.options.file_bytes_max;
        if !files.is_empty() && (!is_row || (!is_needed && previous != Some(key.rank))) {
            break;
        }
        if is_needed || !files.is_empty() {
            if is_needed && damaged.contains(&key) {
                let error = Error::new(ErrorKind::Io, "a merge found it damaged");
                return Err(cannot_rewrite(key, &error));
            }
            live += here;
            previous = Some(key.rank);
            files.push((file, readable, here, is_needed));
        }
    }
    let judge = |file: &StoredFile| {
        let known = files.iter().find(|(other, ..)| other.key() == file.key());
        known.map(|(_, _, live, is_needed)| (!is_needed, *live))
    };
    let all = files.iter().map(|(file, readable, ..)| (file, readable));
    let plan = plan_files(engine, all, &judge, BTreeMap::new());
    Ok(plan.map(|plan| Plan { condemned: condemned.clone(), ..plan }))
}

pub(super) fn ranks(
    engine: &Engine,
    estimates: &BTreeMap<FileKey, Estimate>,
    damaged: &BTreeSet<FileKey>,
) -> Vec<Rank> {
    let mut ranks: BTreeMap<FileSequence, Rank> = BTreeMap::new();
    // Where nobody appends there is time to gain a quarter.
    let share = if engine.is_idle() { 4 } else { 2 };
    for (file, readable) in engine.files.all() {
        let known = estimates.get(&file.key());
        if known.is_some_and(|known| known.live == 0) {
            // Given back without a merge.
            continue;
        }
        let rank = ranks.entry(file.key().rank).or_default();
        match known {
            Some(known) => {
                rank.live += known.live;
                rank.waste += known.waste;
                rank.is_wasteful |= known.is_wasteful(share);
                rank.since = rank.since.max(known.since);
            }
            None => rank.is_damaged = true,
        }
        let is_journal = matches!(file, StoredFile::Journal(_));
        rank.is_walked |= is_journal && readable.walked() > WALKS * readable.groups_end;
        rank.is_damaged |= damaged.contains(&file.key());
        rank.files.push((file, readable));
    }
    ranks.into_values().collect()
}

/// A file with less alive is too small to stay alone.
fn small(engine: &Engine) -> u64 {
    engine.options.file_bytes_max / SMALL_FILES as u64
}

/// Leaves out of the merge what is good as it is.
pub(super) fn plan(
    engine: &Engine,
    ranks: &[Rank],
    estimates: &BTreeMap<FileKey, Estimate>,
    compacting: BTreeMap<StreamId, Compacting>,
) -> Option<Plan> {
    let small = small(engine);
    let judge = |file: &StoredFile| {
        let known = estimates.get(&file.key())?;
        let is_good =
            matches!(file, StoredFile::Segment(_)) && !known.is_wasteful(2) && known.live >= small;
        Some((is_good, known.live))
    };
    let files = ranks.iter().flat_map(|rank| &rank.files).map(|(file, readable)| (file, readable));
    plan_files(engine, files, &judge, compacting)
}

/// As [`plan`]; `judge` says of a file whether it is good as it is, and how much of it is alive.
fn plan_files<'a>(
    engine: &Engine,
    files: impl Iterator<Item = (&'a StoredFile, &'a Arc<ReadableFile>)>,
    judge: &dyn Fn(&StoredFile) -> Option<(bool, u64)>,
    compacting: BTreeMap<StreamId, Compacting>,
) -> Option<Plan> {
    let mut inputs: Vec<Arc<ReadableFile>> = Vec::new();
    let mut seen: HashSet<StreamId> = HashSet::new();
    let mut live: BTreeMap<StreamId, u64> = BTreeMap::new();
    let mut taken = (0, 0);
    for (file, readable) in files {
        let footer = engine.footers.load(engine, readable).ok()?;
        let (is_good, live_bytes) = judge(file)?;
        let is_good = is_good
            && !footer.streams.iter().any(|entry| {
                seen.contains(&entry.stream) || compacting.contains_key(&entry.stream)
            });
        if is_good {
            continue;
        }
        for entry in &footer.streams {
            seen.insert(entry.stream);
            *live.entry(entry.stream).or_default() += alive(engine, entry).0;
        }
        taken = (taken.0 + live_bytes, taken.1 + file.size());
        inputs.push(Arc::clone(readable));
    }
    let (first, last) = (inputs.first()?, inputs.last()?);
    let first_rank = inputs.iter().map(|file| file.first_rank).min().unwrap_or(first.first_rank);
    let mut largest: Vec<(u64, StreamId)> = live
        .into_iter()
        .map(|(stream, bytes)| (bytes, stream))
        .filter(|(bytes, _)| *bytes >= engine.options.segment_bytes_min)
        .collect();
    largest.sort_unstable_by(|a, b| b.cmp(a));
    Some(Plan {
        first_rank,
        rank: last.key.rank,
        own: largest.into_iter().take(OWN_MAX).map(|(_, stream)| stream).collect(),
        frees_space: taken.0 < taken.1 / 2,
        compacting,
        condemned: Condemned::default(),
        inputs,
    })
}
