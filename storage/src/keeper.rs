//! Housekeeping beside the committer: the next file made ready, checkpoints, files nobody needs
//! given back, the reserve.
//!
//! Checkpoints are due 10 s after the first change or after 1 GiB, at most one a second, none
//! while nothing changes.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::checkpoint::{self, Kept};
use crate::disk::OpenMode;
use crate::engine::Engine;
use crate::format::FileRecord;
use crate::journal::{Slot, Slots, slot_path};
use crate::position::Offset;

const CHECKPOINT_AGE: Duration = Duration::from_secs(10);
const CHECKPOINT_BYTES: u64 = 1 << 30;
const CHECKPOINT_SPACING: Duration = Duration::from_secs(1);
const SPACE_RETRY: Duration = Duration::from_secs(1);
/// Groups of at least this size gain little from overwriting written blocks.
const LARGE_GROUP: u64 = 512 << 10;
/// Free slots kept, the reserve included.
const FREE_SLOTS: usize = 3;

/// What is to be done, and how far it is.
#[derive(Default)]
pub(crate) struct Keeper {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    stopping: bool,
    prepared: Option<Slot>,
    wants_file: bool,
    next_bytes: u64,
    recent_group_bytes: u64,
    dirty_since: Option<Duration>,
    newly_dirty: bool,
    bytes_since: u64,
    last_checkpoint: Option<Duration>,
    kept: Kept,
    retiring: Vec<Retiring>,
    space_retry: Option<Duration>,
}

/// A file nobody needs, until no kept checkpoint names it.
struct Retiring {
    file: FileRecord,
    checkpoints: u32,
}

impl Keeper {
    pub(crate) fn new(next_bytes: u64, kept: Kept) -> Self {
        let inner = Inner { next_bytes, kept, ..Inner::default() };
        Self { inner: Mutex::new(inner), changed: Condvar::new() }
    }

    /// A group was written; a marker changes nothing that a checkpoint must keep.
    pub(crate) fn note_written(&self, bytes: u64, is_marker: bool) {
        if is_marker {
            return;
        }
        let mut inner = self.inner.lock();
        inner.recent_group_bytes = (inner.recent_group_bytes * 7 + bytes) / 8;
        inner.bytes_since += bytes;
        let first = inner.dirty_since.is_none() && !inner.newly_dirty;
        inner.newly_dirty |= first;
        if first || inner.bytes_since >= CHECKPOINT_BYTES {
            self.changed.notify_one();
        }
    }

    /// How full the file being written is.
    pub(crate) fn file_filled(&self, position: u64, size: u64) {
        if position < size / 4 {
            return;
        }
        let mut inner = self.inner.lock();
        if inner.prepared.is_none() && !inner.wants_file {
            inner.wants_file = true;
            self.changed.notify_one();
        }
    }

    /// The size of the next file.
    pub(crate) fn set_next_bytes(&self, bytes: u64) {
        self.inner.lock().next_bytes = bytes;
    }

    /// The file made ready, if it is large enough.
    pub(crate) fn take_prepared(&self, needed: u64) -> Option<Slot> {
        let mut inner = self.inner.lock();
        inner.wants_file = false;
        if inner.prepared.as_ref().is_some_and(|slot| slot.size >= needed) {
            return inner.prepared.take();
        }
        None
    }

    /// Something else than a write changed.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Ends [`Keeper::run`].
    pub(crate) fn stop(&self) {
        self.inner.lock().stopping = true;
        self.changed.notify_one();
    }

    /// The thread's loop: waits until something is due, without waking up in between.
    pub(crate) fn run(&self, engine: &Engine) {
        let is_memory = engine.parts.disk.is_memory();
        loop {
            let due = self.step(engine);
            let mut inner = self.inner.lock();
            if inner.stopping {
                return;
            }
            if is_memory {
                // Woken once per file, to give back those whose streams are all deleted.
                self.changed.wait(&mut inner);
                continue;
            }
            if inner.newly_dirty || (inner.wants_file && inner.prepared.is_none()) {
                continue;
            }
            match due {
                Some(wait) => drop(self.changed.wait_for(&mut inner, wait)),
                None => self.changed.wait(&mut inner),
            }
            if inner.stopping {
                return;
            }
        }
    }

    /// Does what is due; answers how long until something else is.
    pub(crate) fn step(&self, engine: &Engine) -> Option<Duration> {
        if engine.parts.disk.is_memory() {
            self.release_in_memory(engine);
            // Nothing is kept back here, so the next append finds out whether there is room.
            engine.accept_data();
            return None;
        }
        let retry = self.keep_space(engine);
        self.prepare_file(engine);
        let checkpoint = self.checkpoint_if_due(engine);
        match (retry, checkpoint) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn keep_space(&self, engine: &Engine) -> Option<Duration> {
        let now = engine.parts.clock.monotonic();
        let (size, retry_at, checkpoint_bytes) = {
            let inner = self.inner.lock();
            (inner.next_bytes, inner.space_retry, inner.kept.reserve_bytes())
        };
        if let Some(at) = retry_at
            && now < at
        {
            return Some(at - now);
        }
        let size = size.min(engine.options.file_bytes_max);
        let (disk, directory) = (engine.parts.disk.as_ref(), &engine.options.directory);
        let for_checkpoints = || checkpoint::keep_reserve(disk, directory, checkpoint_bytes);
        let outcome = for_checkpoints()
            .or_else(|error| {
                // Slots kept for the next files may be what fills the disk.
                let gave_way = error.kind() == std::io::ErrorKind::StorageFull
                    && engine.slots.lock().give_up_surplus()?;
                if gave_way { for_checkpoints() } else { Err(error) }
            })
            .and_then(|()| engine.slots.lock().keep_reserve(size));
        let mut inner = self.inner.lock();
        match outcome {
            Ok(()) => {
                inner.space_retry = None;
                drop(inner);
                engine.accept_data();
                None
            }
            Err(error) => {
                if engine.lacks_space() {
                    tracing::debug!(%error, "there is no space for the reserve yet");
                } else {
                    tracing::warn!(%error, "there is no space for the reserve");
                }
                inner.space_retry = Some(now + SPACE_RETRY);
                Some(SPACE_RETRY)
            }
        }
    }

    fn prepare_file(&self, engine: &Engine) {
        let (size, is_small) = {
            let mut inner = self.inner.lock();
            if !inner.wants_file || inner.prepared.is_some() {
                return;
            }
            inner.wants_file = false;
            (inner.next_bytes, inner.recent_group_bytes < LARGE_GROUP)
        };
        let taken = engine.slots.lock().take(size);
        let prepared = taken.and_then(|mut slot| {
            if is_small {
                slot.write_blocks()?;
            }
            Ok(slot)
        });
        match prepared {
            Ok(slot) => self.inner.lock().prepared = Some(slot),
            // The committer meets the same when it needs the file, and answers for it.
            Err(error) => tracing::warn!(%error, "the next journal file could not be made ready"),
        }
    }

    fn checkpoint_if_due(&self, engine: &Engine) -> Option<Duration> {
        let now = engine.parts.clock.monotonic();
        {
            let mut inner = self.inner.lock();
            if inner.newly_dirty {
                inner.newly_dirty = false;
                inner.dirty_since.get_or_insert(now);
            }
            let since = match (inner.dirty_since, inner.retiring.is_empty()) {
                (Some(since), _) => since,
                (None, false) => inner.last_checkpoint.unwrap_or_default(),
                (None, true) => return None,
            };
            let by_age = since + CHECKPOINT_AGE;
            let by_bytes =
                if inner.bytes_since >= CHECKPOINT_BYTES { Duration::ZERO } else { by_age };
            let spaced = inner.last_checkpoint.map_or(Duration::ZERO, |at| at + CHECKPOINT_SPACING);
            let due = by_age.min(by_bytes).max(spaced);
            if now < due {
                return Some(due - now);
            }
            inner.dirty_since = None;
            inner.bytes_since = 0;
            inner.last_checkpoint = Some(now);
        }
        self.checkpoint(engine);
        let has_retiring = !self.inner.lock().retiring.is_empty();
        has_retiring.then_some(CHECKPOINT_AGE)
    }

    /// Writes a checkpoint now, and gives back what no kept checkpoint needs any more.
    pub(crate) fn checkpoint(&self, engine: &Engine) {
        self.retire(engine);
        let mut kept = self.inner.lock().kept.clone();
        match checkpoint::write(engine, &mut kept) {
            Ok(()) => {}
            Err(error) => {
                // The file is abandoned; the journal still holds everything it would say.
                tracing::error!(%error, "a checkpoint could not be written");
                return;
            }
        }
        let ready = {
            let mut inner = self.inner.lock();
            inner.kept = kept;
            inner.retiring.iter_mut().for_each(|retiring| retiring.checkpoints += 1);
            let (ready, rest) =
                std::mem::take(&mut inner.retiring).into_iter().partition(|r| r.checkpoints >= 2);
            inner.retiring = rest;
            ready
        };
        give_back(engine, ready);
        let mut reservation = engine.reservation.lock();
        reservation.forget_producers(&engine.state.folded().producers);
        reservation.shrink();
        drop(reservation);
        engine.chunks.shrink();
    }

    /// Takes finished files without live records out of the table.
    fn retire(&self, engine: &Engine) {
        for record in engine.files.records() {
            if self.is_dead(engine, &record)
                && let Some(file) = engine.files.remove(record.sequence)
            {
                engine.footers.forget(record.sequence);
                self.inner.lock().retiring.push(Retiring { file, checkpoints: 0 });
            }
        }
    }

    fn is_dead(&self, engine: &Engine, record: &FileRecord) -> bool {
        let witness = engine.footers.witness(record.sequence);
        let is_live =
            |id, end: Offset| engine.state.stream(id).is_ok_and(|stream| stream.view().start < end);
        if let Some((id, end)) = witness
            && is_live(id, end)
        {
            return false;
        }
        match engine.footers.load(engine, record.sequence) {
            Ok(footer) => {
                let live = footer.streams.iter().find(|entry| is_live(entry.stream, entry.end));
                match live {
                    Some(entry) => {
                        engine.footers.set_witness(record.sequence, entry.stream, entry.end);
                        false
                    }
                    None => true,
                }
            }
            // A file that cannot be understood is never given up.
            Err(error) => {
                tracing::warn!(%error, sequence = %record.sequence, "a footer cannot be read");
                false
            }
        }
    }

    fn release_in_memory(&self, engine: &Engine) {
        self.retire(engine);
        let ready = std::mem::take(&mut self.inner.lock().retiring);
        give_back(engine, ready);
    }
}

fn give_back(engine: &Engine, ready: Vec<Retiring>) {
    for retiring in ready {
        let FileRecord { slot: number, size, sequence, .. } = retiring.file;
        let path = slot_path(&engine.options.directory, number);
        let footer = checkpoint::sidecar_path(&engine.options.directory, sequence);
        // Present only for files that a crash left without a seal.
        drop(engine.parts.disk.remove(&footer));
        let outcome = engine.parts.disk.open(&path, OpenMode::Existing).and_then(|file| {
            let slot = Slot { number, size, file, is_written: true };
            let mut slots: parking_lot::MutexGuard<'_, Slots> = engine.slots.lock();
            slots.give_back(slot, FREE_SLOTS)
        });
        if let Err(error) = outcome {
            tracing::warn!(%error, path = %path.display(), "a journal file could not be reused");
        }
        engine.chunks.forget(sequence);
    }
}

/// The keeper's thread holds the engine.
pub(crate) fn run(engine: &Arc<Engine>) {
    engine.keeper.run(engine);
}
