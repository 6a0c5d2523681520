//! Merging: what is alive of several files goes into new ones, and the old ones go.
//!
//! ```text
//!  rank 4          rank 5          rank 6               rank 6
//!  ┌────────────┐ ┌────────────┐ ┌────────────┐         ┌─────────────┐ ┌──────────────┐
//!  │ a·b·a·c·a  │ │ b·a·dead   │ │ dead·c·b   │  ──►    │ a a a a     │ │ b b b  c c   │
//!  └────────────┘ └────────────┘ └────────────┘         └─────────────┘ └──────────────┘
//!    journal files, in the order of appending           a's own segment   the others'
//! ```
//!
//! A sealed journal file is read in place, so nothing has to be merged; it is, when more than half
//! of a file is dead, when many small files stand in a row, and when readers walk over much that
//! is not theirs. A merge takes whole ranks in a row and its outputs stand at the last of them, so
//! that for every stream a later file still holds later offsets. A file of such a row that is
//! good as it is stays, unless an earlier input holds one of its streams.
//!
//! Order: write the outputs, sync them, sync the directory, append *merged*, and with its sync
//! the table of files changes at once for every reader. The inputs are reused or removed when two
//! checkpoints no longer name them and no reader holds them. So a crash at any point leaves either
//! the inputs or the outputs; what an unfinished merge left is removed by the next start. An error
//! abandons the outputs and never touches an input. A damaged input is never merged: a merge that
//! meets one is given up, the range is quarantined, and the file stays.

mod copy;
mod erase;
mod plan;
mod segment;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::engine::Engine;
use crate::error::{Applied, Error, ErrorKind, Result};
use crate::format::{ControlRecord, MergedRecord};
use crate::position::{FileKey, Offset, StreamId};
use copy::{Copying, Progress};
pub use erase::Erased;
pub(crate) use erase::Told;
use erase::{Erasing, Next};
use plan::{Estimate, Plan};

/// Between two looks at all files.
const SPACING: Duration = Duration::from_secs(10);
/// Steps of looking at files that were looked at before, between two plans: with very many files
/// not all of them each time.
const LOOKS_MAX: usize = 16;
/// After an error, or without space.
const BACK_OFF: Duration = Duration::from_secs(60);
/// While appends are busy a merge takes this much longer.
const BUSY_FACTOR: u32 = 4;

/// The only one who merges.
#[derive(Default)]
pub(crate) struct Merger {
    /// Held for a whole step.
    inner: Mutex<Inner>,
    signal: Mutex<Signal>,
    changed: Condvar,
    /// Asked for, and not begun.
    requests: Mutex<VecDeque<(Vec<StreamId>, Told)>>,
    /// What went wrong last, for others, who do not wait for a step.
    note: Mutex<Option<String>>,
    /// Bytes that merges would free, as far as that is known, for others too.
    debt: AtomicU64,
}

struct Signal {
    stopping: bool,
    /// Something changed that may make a merge worth while.
    changed: bool,
}

impl Default for Signal {
    /// At the start nobody knows what is there.
    fn default() -> Self {
        Self { stopping: false, changed: true }
    }
}

#[derive(Default)]
struct Inner {
    work: Work,
    estimates: BTreeMap<FileKey, Estimate>,
    /// Steps of looking at files since the last plan.
    looks: usize,
    /// So much waits for merges that they take all the time they need.
    is_urgent: bool,
    /// Counts changes that make estimates old.
    epoch: u64,
    /// Inputs found damaged.
    damaged: BTreeSet<FileKey>,
    /// The request to erase that is under way; merges are its own meanwhile.
    erasing: Option<Erasing>,
    wants_plan: bool,
    next_plan: Duration,
    appended: u64,
}

#[derive(Default)]
enum Work {
    #[default]
    Nothing,
    Copying(Box<Copying>),
    /// The control record is on its way.
    Publishing(Box<Copying>, Outcome),
}

type Outcome = Arc<Mutex<Option<Result<()>>>>;

impl Merger {
    /// Records went, a file was finished, or readers walk far: a merge may be worth while.
    pub(crate) fn wake(&self) {
        self.signal.lock().changed = true;
        self.changed.notify_one();
    }

    /// Erases what is dead of these streams now, and tells when it is done.
    pub(crate) fn erase(&self, streams: Vec<StreamId>, told: Told) {
        self.requests.lock().push_back((streams, told));
        self.wake();
    }

    /// Ends [`Merger::run`].
    pub(crate) fn stop(&self) {
        self.signal.lock().stopping = true;
        self.changed.notify_one();
    }

    /// Refuses what was asked for and will not be done; the thread has ended.
    pub(crate) fn refuse_rest(&self, engine: &Engine) {
        let error = engine.refusal_error();
        // Whoever is told may drop the last handle: then this is inside of a step.
        if let Some(mut inner) = self.inner.try_lock() {
            end_erasing(engine, &mut inner, Err(error.clone()));
        }
        let requests = std::mem::take(&mut *self.requests.lock());
        requests.into_iter().for_each(|(_, told)| told(Err(error.clone())));
    }

    /// What went wrong last, if merging does not go on.
    pub(crate) fn note(&self) -> Option<String> {
        self.note.lock().clone()
    }

    /// Bytes that merges would free, as far as files were looked at.
    pub(crate) fn debt(&self) -> u64 {
        self.debt.load(Ordering::Relaxed)
    }

    /// The thread's loop.
    pub(crate) fn run(&self, engine: &Engine) {
        loop {
            let due = self.step(engine);
            let mut signal = self.signal.lock();
            if signal.stopping {
                return;
            }
            match due {
                Some(wait) if wait.is_zero() => {}
                Some(wait) => drop(self.changed.wait_for(&mut signal, wait)),
                None if signal.changed => {}
                None => self.changed.wait(&mut signal),
            }
            if signal.stopping {
                return;
            }
        }
    }

    /// Does one piece of work; answers how long until the next is due.
    pub(crate) fn step(&self, engine: &Engine) -> Option<Duration> {
        let mut inner = self.inner.lock();
        if std::mem::take(&mut self.signal.lock().changed) {
            inner.epoch += 1;
            inner.wants_plan = true;
        }
        let now = engine.parts.clock.monotonic();
        match std::mem::take(&mut inner.work) {
            Work::Nothing => {
                if let Some(wait) = self.erase_step(engine, &mut inner, now) {
                    return Some(wait);
                }
                if !inner.wants_plan {
                    return None;
                }
                if now < inner.next_plan {
                    return Some(inner.next_plan - now);
                }
                self.plan(engine, &mut inner, now)
            }
            Work::Copying(copying) => self.copy(engine, &mut inner, copying, now),
            Work::Publishing(copying, outcome) => {
                let Some(result) = outcome.lock().take() else {
                    inner.work = Work::Publishing(copying, Arc::clone(&outcome));
                    return Some(Duration::from_millis(10));
                };
                match result {
                    Ok(()) => {
                        *self.note.lock() = None;
                        engine.counters.merged(copying.bytes_written());
                        if let Some(erasing) = &mut inner.erasing {
                            erasing.merged(copying.bytes_written(), copying.unsplit_batches());
                        }
                        inner.wants_plan = true;
                        inner.next_plan = now;
                        // The inputs are in no table any more; a checkpoint lets them go.
                        engine.keeper.note_finished();
                    }
                    // It may be in the journal: the next start decides.
                    Err(error) if error.applied() == Applied::Unknown => {
                        end_erasing(engine, &mut inner, Err(error));
                    }
                    Err(error) => self.give_up(engine, &mut inner, *copying, &error, now),
                }
                Some(Duration::ZERO)
            }
        }
    }

    /// Does a piece of what is to be erased, if something is.
    fn erase_step(&self, engine: &Engine, inner: &mut Inner, now: Duration) -> Option<Duration> {
        if inner.erasing.is_none() {
            let (streams, told) = self.requests.lock().pop_front()?;
            inner.erasing = Some(Erasing::new(engine, &streams, told));
        }
        if engine.has_failed() {
            end_erasing(engine, inner, Err(engine.refusal_error()));
            return Some(Duration::ZERO);
        }
        let Inner { erasing, damaged, .. } = &mut *inner;
        let erasing = erasing.as_mut()?;
        let due = erasing.due(now);
        if !due.is_zero() {
            return Some(due);
        }
        match erasing.step(engine, damaged, now) {
            Ok(Next::Merge(plan)) => begin(engine, inner, *plan),
            Ok(Next::Step(wait)) => return Some(wait),
            Ok(Next::Done) => end_erasing(engine, inner, Ok(())),
            Err(error) => end_erasing(engine, inner, Err(error)),
        }
        Some(Duration::ZERO)
    }

    fn plan(&self, engine: &Engine, inner: &mut Inner, now: Duration) -> Option<Duration> {
        if engine.has_failed() {
            return None;
        }
        let Inner { estimates, epoch, damaged, looks, is_urgent, .. } = &mut *inner;
        let unseen = plan::estimate(engine, estimates, *epoch);
        if unseen.unknown > 0 || (unseen.old > 0 && *looks < LOOKS_MAX) {
            *looks += 1;
            return Some(Duration::ZERO);
        }
        *looks = 0;
        *is_urgent = plan::is_urgent(engine, estimates);
        self.debt.store(plan::debt(estimates), Ordering::Relaxed);
        let found = plan::choose_compaction(engine, estimates, damaged)
            .or_else(|| plan::choose(engine, estimates, damaged));
        inner.wants_plan = unseen.old > 0;
        inner.next_plan = now + SPACING;
        begin(engine, inner, found?);
        Some(Duration::ZERO)
    }

    fn copy(
        &self,
        engine: &Engine,
        inner: &mut Inner,
        mut copying: Box<Copying>,
        now: Duration,
    ) -> Option<Duration> {
        if engine.has_failed() || (engine.lacks_space() && !copying.frees_space()) {
            let error = Error::new(ErrorKind::Io, "a merge was given up for lack of a journal");
            self.give_up(engine, inner, *copying, &error, now);
            return Some(BACK_OFF);
        }
        let frees_space = copying.frees_space();
        match copying.step(engine) {
            Ok(Progress::More(bytes)) => {
                inner.work = Work::Copying(copying);
                let appended = engine.counters.bytes();
                let is_busy = appended - std::mem::replace(&mut inner.appended, appended) > bytes;
                let is_urgent = inner.is_urgent || (engine.lacks_space() && frees_space);
                Some(pace(engine.options.merge_bytes_per_second, bytes, is_busy, is_urgent))
            }
            Ok(Progress::Done(record)) => {
                let outcome = Outcome::default();
                inner.work = Work::Publishing(copying, Arc::clone(&outcome));
                publish(engine, record, outcome);
                Some(Duration::ZERO)
            }
            Err(error) => {
                if let Some((key, quarantined)) = copying.damage() {
                    inner.damaged.insert(key);
                    quarantine(engine, quarantined);
                }
                self.give_up(engine, inner, *copying, &error, now);
                Some(BACK_OFF)
            }
        }
    }

    fn give_up(
        &self,
        engine: &Engine,
        inner: &mut Inner,
        copying: Copying,
        error: &Error,
        now: Duration,
    ) {
        tracing::warn!(%error, "a merge was given up; its inputs stay as they are");
        *self.note.lock() = Some(format!("a merge was given up and will be tried again: {error}"));
        let outcome = match copying.damage() {
            Some((key, _)) => Err(erase::cannot_rewrite(key, error)),
            None => Err(error.clone()),
        };
        copying.abandon(engine);
        end_erasing(engine, inner, outcome);
        inner.wants_plan = true;
        inner.next_plan = now + BACK_OFF;
    }
}

/// How long so many bytes may take.
fn pace(rate: u64, bytes: u64, is_busy: bool, is_urgent: bool) -> Duration {
    if is_urgent {
        // Slower, the disk would fill with what nobody can read.
        return Duration::ZERO;
    }
    let factor = if is_busy { BUSY_FACTOR } else { 1 };
    Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / rate.max(1)) * factor
}

fn begin(engine: &Engine, inner: &mut Inner, plan: Plan) {
    let merge = {
        let mut folded = engine.state.folded();
        folded.last_merge += 1;
        folded.last_merge
    };
    tracing::debug!(merge, inputs = plan.inputs.len(), "a merge begins");
    inner.work = Work::Copying(Box::new(Copying::new(engine, merge, plan)));
}

fn end_erasing(engine: &Engine, inner: &mut Inner, outcome: Result<()>) {
    if let Some(erasing) = inner.erasing.take() {
        erasing.tell(engine, outcome);
    }
}

/// Appends the record that makes the outputs count.
fn publish(engine: &Engine, record: MergedRecord, outcome: Outcome) {
    let records = vec![(StreamId(0), ControlRecord::Merged(record))];
    engine.append_records(
        records,
        Box::new(move |result| *outcome.lock() = Some(result.map(|_| ()))),
    );
}

/// Makes known for good what a merge found damaged.
fn quarantine(engine: &Engine, range: Option<(StreamId, Offset, Offset)>) {
    let Some((stream, first, end)) = range else { return };
    let is_known = engine
        .state
        .stream(stream)
        .is_ok_and(|stream| stream.view().damaged_until(first) == Some(end));
    if !is_known {
        let records = vec![(stream, ControlRecord::Quarantine(first, end))];
        engine.append_records(records, Box::new(|_| {}));
    }
}

/// The merger's thread holds the engine.
pub(crate) fn run(engine: &Arc<Engine>) {
    engine.merger.run(engine);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_keeps_its_rate_gives_way_to_appends_and_hurries_when_waste_piles_up() {
        let rate = 64 << 20;
        assert_eq!(pace(rate, 1 << 20, false, false), Duration::from_nanos(15_625_000));
        assert_eq!(pace(rate, 1 << 20, true, false), Duration::from_nanos(62_500_000));
        assert_eq!(pace(rate, 1 << 20, true, true), Duration::ZERO);
        assert_eq!(pace(0, 1, false, false), Duration::from_secs(1), "never divided by zero");
    }
}
