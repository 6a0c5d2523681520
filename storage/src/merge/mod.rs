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
//! is not theirs. It goes slowly beside appends, and the faster the more waits for it (`pace`), so
//! that the directory follows what is retained at any load. Files in which nothing is alive are
//! not merged: they are given back as they are. A merge takes whole ranks in a row and its outputs stand at the last of them, so
//! that for every stream a later file still holds later offsets. A file of such a row that is
//! good as it is stays, unless an earlier input holds one of its streams.
//!
//! Order: write the outputs, sync them, sync the directory, append *merged*, and with its sync
//! the table of files changes at once for every reader. The inputs are reused or removed when two
//! checkpoints no longer name them and no reader holds them. So a crash at any point leaves either
//! the inputs or the outputs; what an unfinished merge left is removed by the next start. An error
//! abandons the outputs and never touches an input. A damaged input is never merged: a merge that
//! meets one is given up, the range is quarantined, and the file stays.

mod compact;
mod copy;
mod erase;
mod pace;
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
use compact::Compactions;
use copy::{Copying, Progress};
pub use erase::Erased;
pub(crate) use erase::Told;
use erase::{Erasing, Next};
use pace::{Debt, Pace};
use plan::{Estimate, Plan};

/// Between two looks at all files, but for busy times.
const SPACING: Duration = Duration::from_secs(10);
/// After so many finished files it is time to look as well.
const ROLLS: u32 = 2;
/// Looking takes at most this part of the time.
const LOOKING_SHARE: u32 = 10;
/// Steps of looking at files that were looked at before, between two plans: with very many files
/// not all of them each time.
const LOOKS_MAX: usize = 16;
/// After an error, or without space.
const BACK_OFF: Duration = Duration::from_secs(60);

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
    /// Files finished since the last look at all of them.
    rolls: u32,
}

impl Default for Signal {
    /// At the start nobody knows what is there.
    fn default() -> Self {
        Self { stopping: false, changed: true, rolls: 0 }
    }
}

#[derive(Default)]
struct Inner {
    work: Work,
    estimates: BTreeMap<FileKey, Estimate>,
    /// Steps of looking at files since the last plan.
    looks: usize,
    /// What waits for merges, and for which epoch that is known.
    debt: Debt,
    debt_epoch: u64,
    pace: Pace,
    /// Of two plans that are worth while, not always the same kind comes first.
    has_compacted: bool,
    compactions: Compactions,
    /// Counts changes that make estimates old.
    epoch: u64,
    /// Inputs found damaged.
    damaged: BTreeSet<FileKey>,
    /// The request to erase that is under way; merges are its own meanwhile.
    erasing: Option<Erasing>,
    wants_plan: bool,
    next_plan: Duration,
    /// What the present plan's looks have taken.
    looking: Duration,
    /// Not before then, also if much is appended.
    rest_until: Duration,
    appended: u64,
    is_busy: bool,
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

    /// A file was finished.
    pub(crate) fn note_rolled(&self) {
        self.signal.lock().rolls += 1;
        self.wake();
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
        let rolls = {
            let mut signal = self.signal.lock();
            if std::mem::take(&mut signal.changed) {
                inner.epoch += 1;
                inner.wants_plan = true;
            }
            signal.rolls
        };
        let now = engine.parts.clock.monotonic();
        match std::mem::take(&mut inner.work) {
            Work::Nothing => {
                if let Some(wait) = self.erase_step(engine, &mut inner, now) {
                    return Some(wait);
                }
                if !inner.wants_plan {
                    return None;
                }
                let is_rolled = rolls >= ROLLS && inner.looks == 0;
                let next = if is_rolled { inner.rest_until } else { inner.next_plan };
                if now < next {
                    return Some(next - now);
                }
                self.signal.lock().rolls = 0;
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
                        (inner.next_plan, inner.rest_until) = (now, now);
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
        if engine.has_failed() || engine.options.merge_bytes_per_second == 0 {
            return None;
        }
        let clock = engine.parts.clock.as_ref();
        let unseen = plan::estimate(engine, &mut inner.estimates, inner.epoch);
        inner.looking += clock.monotonic() - now;
        if unseen.unknown > 0 || (unseen.old > 0 && inner.looks < LOOKS_MAX) {
            inner.looks += 1;
            return Some(Duration::ZERO);
        }
        inner.looks = 0;
        let found = choose(engine, inner);
        self.debt.store(inner.debt.waste, Ordering::Relaxed);
        inner.looking += clock.monotonic() - now;
        inner.wants_plan = unseen.old > 0;
        let looking = std::mem::take(&mut inner.looking);
        inner.rest_until = now + looking * LOOKING_SHARE;
        inner.next_plan = now + SPACING.max(looking * LOOKING_SHARE);
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
        if inner.debt_epoch != inner.epoch {
            // A merge under load lasts long enough for its rate to be wrong.
            plan::estimate(engine, &mut inner.estimates, inner.epoch);
            inner.look_at_debt(engine);
        }
        let wait = inner.wait(engine, copying.frees_space(), now);
        if !wait.is_zero() {
            inner.work = Work::Copying(copying);
            return Some(wait);
        }
        match copying.step(engine) {
            Ok(Progress::More(bytes)) => {
                let appended = engine.counters.bytes();
                let before = std::mem::replace(&mut inner.appended, appended);
                inner.is_busy = appended - before > bytes;
                inner.pace.charge(bytes);
                let wait = inner.wait(engine, copying.frees_space(), now);
                inner.work = Work::Copying(copying);
                Some(wait)
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
        inner.rest_until = inner.next_plan;
    }
}

impl Inner {
    fn look_at_debt(&mut self, engine: &Engine) {
        let overdue = self.compactions.overdue(engine);
        self.debt = plan::debt(engine, &self.estimates, overdue);
        self.debt_epoch = self.epoch;
    }

    /// How long until a merge may go on.
    fn wait(&mut self, engine: &Engine, frees_space: bool, now: Duration) -> Duration {
        let rate = self.debt.rate(engine.options.merge_bytes_per_second, self.is_busy);
        // Without space appends wait for what is freed.
        let is_urgent = engine.lacks_space() && frees_space;
        self.pace.wait(rate.filter(|_| !is_urgent), now)
    }
}

/// The next merge, if one is worth while.
fn choose(engine: &Engine, inner: &mut Inner) -> Option<Plan> {
    inner.look_at_debt(engine);
    let Inner { estimates, damaged, compactions, has_compacted, .. } = inner;
    let mut compact = || compact::choose_compaction(engine, estimates, damaged, compactions);
    let merge = || plan::choose(engine, estimates, damaged);
    let found = if *has_compacted { merge().or_else(compact) } else { compact().or_else(merge) }?;
    *has_compacted = !found.compacting.is_empty();
    Some(found)
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
