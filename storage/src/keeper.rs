//! Housekeeping beside the committer: the next file made ready, checkpoints, files nobody needs
//! given back, the reserve.
//!
//! Checkpoints are due 10 s after the first change or after 1 GiB, at most one a second, none
//! while nothing changes. Files in which nothing is alive any more go with the second checkpoint
//! after that. So where they pile up checkpoints come sooner: once they are as much as a file,
//! and more than one a second once they are a quarter of the directory. Then only what writing
//! one takes keeps them apart.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::checkpoint::{self, Kept, MERGE_RESERVE, RESERVE};
use crate::engine::Engine;
use crate::error::{Error, Result, lacks_space};
use crate::files::{Place, ReadableFile, StoredFile};
use crate::journal::{Slot, SlotOnDisk};
use crate::position::{FileKey, Lsn, Offset, StreamId};
use crate::retention::{Holder, Waiting};
use crate::sabotage::skips;

const CHECKPOINT_AGE: Duration = Duration::from_secs(10);
const CHECKPOINT_BYTES: u64 = 1 << 30;
const CHECKPOINT_SPACING: Duration = Duration::from_secs(1);
const SPACE_RETRY: Duration = Duration::from_secs(1);
/// Checkpoints, and looks for dead files, take at most this part of the time.
const SHARE: u32 = 10;
/// So many dead files, and this part of all files, are worth a checkpoint at once.
const HURRY_FILES: u64 = 4;
const HURRY_SHARE: u64 = 4;
/// Groups of at least this size gain little from overwriting written blocks.
const LARGE_GROUP: u64 = 512 << 10;
/// Files looked at for the first time before one checkpoint.
const LOOKS: usize = 256;
/// Checkpoints after which nothing kept names a file any more.
const NEEDED: u32 = 2;
/// Free slots kept, the reserve included.
const FREE_SLOTS: usize = 3;

/// What is to be done, and how far it is.
#[derive(Default)]
pub(crate) struct Keeper {
    inner: Mutex<Inner>,
    changed: Condvar,
    /// Held while a checkpoint is written.
    writing: Mutex<()>,
}

#[derive(Default)]
struct Inner {
    stopping: bool,
    woken: bool,
    prepared: Option<Slot>,
    wants_file: bool,
    next_bytes: u64,
    recent_group_bytes: u64,
    dirty_since: Option<Duration>,
    newly_dirty: bool,
    bytes_since: u64,
    last_checkpoint: Option<Duration>,
    /// After the last checkpoint there is no other before then.
    rest_until: Duration,
    /// Files may have died since they were looked at.
    has_freed: bool,
    /// They are not looked at again before then.
    look_after: Duration,
    kept: Kept,
    retiring: Vec<Retiring>,
    space_retry: Option<Duration>,
}

/// A file nobody needs, until no kept checkpoint names it and no reader holds it.
pub(crate) struct Retiring {
    pub(crate) file: StoredFile,
    pub(crate) readable: Option<Arc<ReadableFile>>,
    /// The state after this group does not name it.
    pub(crate) gone: Lsn,
    /// Checkpoints written since.
    pub(crate) checkpoints: u32,
}

impl Retiring {
    fn is_held(&self) -> bool {
        self.readable.as_ref().is_some_and(ReadableFile::is_held)
    }
}

impl Inner {
    /// Bytes of files that only wait for checkpoints.
    fn dead_bytes(&self) -> u64 {
        let waiting = self.retiring.iter().filter(|file| file.checkpoints < NEEDED);
        waiting.map(|waiting| waiting.file.size()).sum()
    }
}

impl Keeper {
    pub(crate) fn new(next_bytes: u64, kept: Kept, retiring: Vec<Retiring>) -> Self {
        let inner = Inner { next_bytes, kept, retiring, ..Inner::default() };
        Self { inner: Mutex::new(inner), ..Self::default() }
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

    /// A file was finished though little was written: a checkpoint may find that nobody needs it.
    pub(crate) fn note_finished(&self) {
        self.inner.lock().newly_dirty = true;
        self.changed.notify_one();
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

    /// The file made ready, if it still holds what was in it.
    pub(crate) fn take_used(&self) -> Option<Slot> {
        let mut inner = self.inner.lock();
        let is_used = inner.prepared.as_ref().is_some_and(|slot| !slot.is_blank);
        if is_used { inner.prepared.take() } else { None }
    }

    /// Puts the file made ready back that was taken for a moment.
    pub(crate) fn put_prepared(&self, slot: Slot) {
        self.inner.lock().prepared = Some(slot);
    }

    /// Files nobody needs that are not given back yet.
    pub(crate) fn retiring_keys(&self) -> BTreeSet<FileKey> {
        self.inner.lock().retiring.iter().map(|retiring| retiring.file.key()).collect()
    }

    /// Gives back what nobody needs, with a checkpoint now that no longer names it.
    pub(crate) fn give_back_now(&self, engine: &Engine) -> Result<()> {
        if engine.parts.disk.is_memory() {
            self.release_in_memory(engine);
            return Ok(());
        }
        self.write_checkpoint(engine, usize::MAX)
    }

    /// A merge took these files out of the table.
    pub(crate) fn note_retired(&self, files: Vec<(StoredFile, Arc<ReadableFile>)>, gone: Lsn) {
        let retiring = files.into_iter().map(|(file, readable)| Retiring {
            file,
            readable: Some(readable),
            gone,
            checkpoints: 0,
        });
        self.inner.lock().retiring.extend(retiring);
        self.changed.notify_one();
    }

    /// Something else than a write changed: a file was finished, or records went.
    pub(crate) fn wake(&self) {
        let mut inner = self.inner.lock();
        (inner.woken, inner.has_freed) = (true, true);
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
            let wants_more = inner.newly_dirty || (inner.wants_file && inner.prepared.is_none());
            if std::mem::take(&mut inner.woken) || (wants_more && !is_memory) {
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
        let retention = engine.retention.step(engine);
        if engine.parts.disk.is_memory() {
            self.release_in_memory(engine);
            // Nothing is kept back here, so the next append finds out whether there is room.
            engine.accept_data();
            return retention;
        }
        let retry = self.keep_space(engine);
        self.prepare_file(engine);
        let look = self.look_for_dead(engine);
        let checkpoint = self.checkpoint_if_due(engine);
        [retention, retry, look, checkpoint].into_iter().flatten().min()
    }

    /// Takes files that died out of the table, so that the next checkpoints let them go.
    fn look_for_dead(&self, engine: &Engine) -> Option<Duration> {
        let now = engine.parts.clock.monotonic();
        {
            let mut inner = self.inner.lock();
            if !inner.has_freed {
                return None;
            }
            if now < inner.look_after {
                return Some(inner.look_after - now);
            }
            inner.has_freed = false;
        }
        // A checkpoint that is being written may name what is taken out of the table meanwhile.
        let _no_checkpoint = self.writing.lock();
        let knows_all = self.retire(engine, LOOKS);
        let took = engine.parts.clock.monotonic() - now;
        let mut inner = self.inner.lock();
        inner.has_freed |= !knows_all;
        inner.look_after = now + took * SHARE;
        (!knows_all).then_some(inner.look_after - now)
    }

    /// Files that hold records of a stream and that nobody needs any more.
    pub(crate) fn retiring(
        &self,
        engine: &Engine,
        stream: StreamId,
        name: &dyn Fn(&ReadableFile) -> String,
    ) -> Vec<Holder> {
        let files: Vec<_> = {
            let inner = self.inner.lock();
            let readable = inner.retiring.iter().filter_map(|file| file.readable.clone());
            readable.zip(inner.retiring.iter().map(Retiring::is_held)).collect()
        };
        let holder = |(file, is_held): (Arc<ReadableFile>, bool)| {
            let footer = engine.footers.load(engine, &file).ok()?;
            let bytes = footer.find(stream)?.bytes_inside();
            let waiting = if is_held { Waiting::Readers } else { Waiting::Checkpoint };
            Some(Holder { file: name(&file), bytes, other_streams: 0, waiting })
        };
        files.into_iter().filter_map(holder).collect()
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
        let for_checkpoints = || {
            checkpoint::keep_reserve(disk, directory, RESERVE, checkpoint_bytes)?;
            // A merge that makes room writes less than half of what it reads.
            let merge_bytes = if engine.files.is_empty() { 0 } else { size / 2 };
            checkpoint::keep_reserve(disk, directory, MERGE_RESERVE, merge_bytes)
        };
        let outcome = for_checkpoints()
            .or_else(|error| {
                // Slots kept for the next files may be what fills the disk.
                let gave_way = lacks_space(&error) && engine.slots.lock().give_up_surplus()?;
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
                inner.space_retry = Some(now + SPACE_RETRY);
                drop(inner);
                if lacks_space(&error) {
                    engine.backups.give_way(&engine.files);
                    // What is left is for control work, checkpoints and merges.
                    engine.refuse_data(Error::disk_full(error));
                } else {
                    tracing::warn!(%error, "the reserve could not be made");
                }
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
            let dead = inner.dead_bytes();
            let is_early = dead >= inner.next_bytes;
            let by_dead = if is_early { Duration::ZERO } else { by_age };
            let hurries = dead >= HURRY_FILES * inner.next_bytes
                && dead >= (engine.files.bytes() + dead) / HURRY_SHARE;
            let spacing = if hurries { Duration::ZERO } else { CHECKPOINT_SPACING };
            let spaced = inner.last_checkpoint.map_or(Duration::ZERO, |at| at + spacing);
            let due = by_age.min(by_bytes).min(by_dead).max(spaced).max(inner.rest_until);
            if now < due {
                return Some(due - now);
            }
            inner.dirty_since = None;
            inner.bytes_since = 0;
            inner.last_checkpoint = Some(now);
        }
        self.checkpoint(engine);
        let took = engine.parts.clock.monotonic() - now;
        let mut inner = self.inner.lock();
        inner.rest_until = now + took * SHARE;
        let wait = if inner.dead_bytes() > 0 { CHECKPOINT_SPACING } else { CHECKPOINT_AGE };
        (!inner.retiring.is_empty()).then_some(wait)
    }

    /// Writes the first checkpoint after recovery. What of the older files can be given back is
    /// found out later: that takes a look at each, and a start does not wait for it.
    pub(crate) fn begin(&self, engine: &Engine) {
        if let Err(error) = self.write_checkpoint(engine, 0) {
            tracing::error!(%error, "a checkpoint could not be written");
        }
    }

    /// Writes a checkpoint now, and gives back what no kept checkpoint needs any more.
    pub(crate) fn checkpoint(&self, engine: &Engine) {
        let looks = if engine.lacks_space() { usize::MAX } else { LOOKS };
        if let Err(error) = self.write_checkpoint(engine, looks) {
            // The file is abandoned; the journal still holds everything it would say.
            tracing::error!(%error, "a checkpoint could not be written");
        }
    }

    fn write_checkpoint(&self, engine: &Engine, looks: usize) -> Result<()> {
        let _one_at_a_time = self.writing.lock();
        if !self.retire(engine, looks) {
            self.note_finished();
        }
        let mut kept = self.inner.lock().kept.clone();
        let written = checkpoint::write(engine, &mut kept)?;
        let ready = {
            let mut inner = self.inner.lock();
            inner.kept = kept;
            for retiring in inner.retiring.iter_mut().filter(|file| file.gone <= written) {
                retiring.checkpoints += 1;
            }
            let spared = skips("the second checkpoint before a file is used again");
            let needed = if spared { 1 } else { NEEDED };
            let (ready, rest) = std::mem::take(&mut inner.retiring)
                .into_iter()
                .partition(|file| file.checkpoints >= needed && !file.is_held());
            inner.retiring = rest;
            ready
        };
        give_back(engine, ready);
        let mut reservation = engine.reservation.lock();
        reservation.forget_producers();
        reservation.shrink();
        drop(reservation);
        engine.chunks.shrink();
        Ok(())
    }

    /// Takes finished files without live records out of the table. Answers whether it knows of all
    /// of them: after a start thousands of footers may have to be read, and others wait for this
    /// thread.
    fn retire(&self, engine: &Engine, looks_max: usize) -> bool {
        let mut looks = 0;
        for (file, readable) in engine.files.all() {
            if !engine.footers.is_known(file.key()) {
                looks += 1;
                if looks > looks_max {
                    continue;
                }
            }
            // What is reserved later than this and folded meanwhile makes no file alive again.
            let gone = engine.durable();
            if self.is_dead(engine, &readable) && engine.files.remove(file.key()).is_some() {
                engine.footers.forget(file.key());
                let readable = Some(readable);
                self.inner.lock().retiring.push(Retiring { file, readable, gone, checkpoints: 0 });
            }
        }
        looks <= looks_max
    }

    fn is_dead(&self, engine: &Engine, file: &ReadableFile) -> bool {
        let witness = engine.footers.witness(file.key);
        let is_live =
            |id, end: Offset| engine.state.stream(id).is_ok_and(|stream| stream.view().start < end);
        if let Some((id, end)) = witness
            && is_live(id, end)
        {
            return false;
        }
        match engine.footers.load(engine, file) {
            Ok(footer) => {
                let live = footer.streams.iter().find(|entry| is_live(entry.stream, entry.end));
                match live {
                    Some(entry) => {
                        engine.footers.set_witness(file.key, entry.stream, entry.end);
                        false
                    }
                    None => true,
                }
            }
            // A file that cannot be understood is never given up.
            Err(error) => {
                tracing::warn!(%error, file = %file.key, "a footer cannot be read");
                false
            }
        }
    }

    fn release_in_memory(&self, engine: &Engine) {
        let _one_at_a_time = self.writing.lock();
        self.retire(engine, usize::MAX);
        let (ready, rest) = std::mem::take(&mut self.inner.lock().retiring)
            .into_iter()
            .partition(|file| !file.is_held());
        self.inner.lock().retiring.extend::<Vec<Retiring>>(rest);
        give_back(engine, ready);
    }
}

fn give_back(engine: &Engine, ready: Vec<Retiring>) {
    let disk = &engine.parts.disk;
    for Retiring { file, .. } in ready {
        let (key, place) = (file.key(), file.place());
        let path = place.path(&engine.options.directory);
        engine.footers.forget(key);
        engine.chunks.forget(key);
        engine.files.close(place);
        let outcome = match place {
            Place::Slot(number) => {
                let footer = checkpoint::sidecar_path(&engine.options.directory, key.rank);
                // Present only for files that a crash left without a seal.
                drop(disk.remove(&footer));
                let (size, is_written, is_blank) = (file.size(), true, false);
                let slot = SlotOnDisk { number, size, is_written, is_blank };
                engine.slots.lock().give_back(slot, FREE_SLOTS)
            }
            Place::Segment { .. } => disk.remove(&path),
        };
        if let Err(error) = outcome {
            tracing::warn!(%error, path = %path.display(), "a file could not be given back");
        }
    }
}

/// The keeper's thread holds the engine.
pub(crate) fn run(engine: &Arc<Engine>) {
    engine.keeper.run(engine);
}
