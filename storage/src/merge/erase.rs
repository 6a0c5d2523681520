//! Erasing: what is deleted or trimmed goes from every file of the directory, and one is told when.
//!
//! ```text
//!  free slots ─► zeros      file being written ─► finished early      files given back ─► removed
//!     └► every finished file with dead bytes of the streams ─► merged without them
//!           └► checkpoints, until the files they were in are gone
//!                 └► what an earlier life left behind the footers of the others ─► zeros
//! ```
//!
//! It is work of the merger, step by step, and nobody waits for it. Nothing of it is remembered: a
//! restart in between leaves a directory as whole as any, and erasing must be asked for again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::plan::{Plan, choose_erasure};
use crate::checkpoint::io_error;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{ReadableFile, StoredFile};
use crate::format::{FILE_HEADER_BYTES, Footer, GROUP_HEADER_BYTES, GroupHeader};
use crate::journal::write_zeros;
use crate::position::{FileKey, Offset, StreamId};
use crate::sabotage::barrier;

/// Between two checkpoints on the way, and two looks at files that readers hold.
const SPACING: Duration = Duration::from_secs(1);

/// What was erased.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Bytes written again without what was erased.
    pub rewritten_bytes: u64,
    /// Bytes of free and half-used files that were overwritten with zeros.
    pub zeroed_bytes: u64,
    /// Batches with trimmed records in front of readable ones, which the codec could not split:
    /// those records are still there.
    pub unsplit_batches: u64,
    /// Files that were set aside because they are damaged; nobody knows what is in them.
    pub set_aside: Vec<String>,
}

/// Who is told.
pub(crate) type Told = Box<dyn FnOnce(Result<Erased>) + Send>;

/// Which bytes of the streams are to go.
#[derive(Clone, Debug, Default)]
pub(crate) struct Condemned {
    /// Records before these offsets; all of a stream that is deleted.
    streams: BTreeMap<StreamId, Option<Offset>>,
    /// What later merges wrote is clean.
    last_merge: u64,
}

/// One request under way.
pub(crate) struct Erasing {
    condemned: Condemned,
    told: Told,
    stage: Stage,
    not_before: Duration,
    /// Files that hold, or may hold, what is to go, and are in no table any more.
    leaving: BTreeSet<FileKey>,
    /// Journal files behind whose groups something of an earlier life may stand.
    half_used: BTreeSet<FileKey>,
    erased: Erased,
}

enum Stage {
    Begin,
    Pool,
    Rewrite,
    GiveBack,
    Tails(Vec<(StoredFile, Arc<ReadableFile>)>),
}

/// What comes next.
pub(super) enum Next {
    /// This merge.
    Merge(Box<Plan>),
    /// Another step, so much later.
    Step(Duration),
    /// Nothing more.
    Done,
}

impl Condemned {
    /// What is dead of these streams now.
    fn now(engine: &Engine, streams: &[StreamId]) -> Self {
        let start = |id: &StreamId| {
            let stream = engine.state.stream(*id).ok();
            (*id, stream.map(|stream| stream.view().start))
        };
        let last_merge = engine.state.folded().last_merge;
        Self { streams: streams.iter().map(start).collect(), last_merge }
    }

    /// Whether a batch, or a file, of a stream that begins here holds something that is to go.
    pub(crate) fn holds(&self, stream: StreamId, first: Offset) -> bool {
        self.streams.get(&stream).is_some_and(|start| start.is_none_or(|start| first < start))
    }

    /// Whether a file holds something that is to go.
    pub(crate) fn is_in(&self, key: FileKey, footer: &Footer) -> bool {
        let mut entries = footer.streams.iter();
        key.merge <= self.last_merge
            && entries.any(|entry| self.holds(entry.stream, entry.runs[0].base_offset))
    }

    /// The first offset of a batch's stream that stays, if the batch begins before it.
    pub(crate) fn start_within(&self, stream: StreamId, first: Offset) -> Option<Offset> {
        let start = (*self.streams.get(&stream)?)?;
        (first < start).then_some(start)
    }
}

impl Erasing {
    pub(crate) fn new(engine: &Engine, streams: &[StreamId], told: Told) -> Self {
        Self {
            condemned: Condemned::now(engine, streams),
            told,
            stage: Stage::Begin,
            not_before: Duration::ZERO,
            leaving: BTreeSet::new(),
            half_used: BTreeSet::new(),
            erased: Erased::default(),
        }
    }

    /// How long until the next step is due.
    pub(super) fn due(&self, now: Duration) -> Duration {
        self.not_before.saturating_sub(now)
    }

    /// A merge of it is durable.
    pub(super) fn merged(&mut self, bytes: u64, unsplit_batches: u64) {
        self.erased.rewritten_bytes += bytes;
        self.erased.unsplit_batches += unsplit_batches;
    }

    /// Tells the outcome.
    pub(super) fn tell(self, engine: &Engine, outcome: Result<()>) {
        engine.slots.lock().set_erasing(false);
        let Self { told, erased, .. } = self;
        told(outcome.map(|()| erased));
    }

    /// Does one piece of work.
    pub(super) fn step(
        &mut self,
        engine: &Engine,
        damaged: &BTreeSet<FileKey>,
        now: Duration,
    ) -> Result<Next> {
        let wait = |this: &mut Self, wait| {
            this.not_before = now + wait;
            Ok(Next::Step(wait))
        };
        match &mut self.stage {
            Stage::Begin => {
                // From now on no slot comes back with what is to go.
                engine.slots.lock().set_erasing(true);
                self.leaving = engine.keeper.retiring_keys();
                self.stage = Stage::Pool;
                Ok(Next::Step(Duration::ZERO))
            }
            Stage::Pool => {
                if let Some(bytes) = self.zero_slot(engine)? {
                    self.erased.zeroed_bytes += bytes;
                    return wait(self, pace(engine, bytes));
                }
                let condemned = &self.condemned;
                let is_condemned = |stream, first| condemned.holds(stream, first);
                if engine.committer.lock().roll_to_erase(engine, is_condemned)? {
                    self.stage = Stage::Rewrite;
                }
                Ok(Next::Step(Duration::ZERO))
            }
            Stage::Rewrite => {
                if let Some(plan) = choose_erasure(engine, &self.condemned, damaged)? {
                    self.leaving.extend(plan.inputs.iter().map(|file| file.key));
                    return Ok(Next::Merge(Box::new(plan)));
                }
                // What holds nothing else is given back without a merge.
                for (file, readable) in engine.files.all() {
                    let footer = engine.footers.load(engine, &readable)?;
                    if self.condemned.is_in(file.key(), &footer) {
                        self.leaving.insert(file.key());
                    } else if let StoredFile::Journal(_) = file {
                        self.half_used.insert(file.key());
                    }
                }
                // Also what left the table since this began, be it before this look or after.
                self.leaving.extend(engine.keeper.retiring_keys());
                self.stage = Stage::GiveBack;
                Ok(Next::Step(Duration::ZERO))
            }
            Stage::GiveBack => {
                engine.keeper.give_back_now(engine)?;
                let retiring = engine.keeper.retiring_keys();
                let is_there = |key: &FileKey| engine.files.readable(*key).is_some();
                let mut leaving = self.leaving.iter();
                let mut half_used = self.half_used.iter();
                if leaving.any(|key| retiring.contains(key) || is_there(key))
                    || half_used.any(|key| retiring.contains(key))
                {
                    return wait(self, SPACING);
                }
                let mut files = engine.files.all();
                files.retain(|(file, _)| matches!(file, StoredFile::Journal(_)));
                self.stage = Stage::Tails(files);
                Ok(Next::Step(Duration::ZERO))
            }
            Stage::Tails(files) => {
                let Some((file, readable)) = files.pop() else {
                    return self.end(engine, now);
                };
                // Whoever copies the file now would copy what is left of an earlier life.
                if readable.is_held_beside(2) {
                    files.insert(0, (file, readable));
                    return wait(self, SPACING);
                }
                let bytes = zero_tail(engine, &file, &readable)?;
                self.erased.zeroed_bytes += bytes;
                wait(self, pace(engine, bytes))
            }
        }
    }

    /// Done, unless a slot was on its way between two hands when the free ones were overwritten.
    fn end(&mut self, engine: &Engine, now: Duration) -> Result<Next> {
        if let Some(bytes) = self.zero_slot(engine)? {
            self.erased.zeroed_bytes += bytes;
            self.not_before = now + pace(engine, bytes);
        } else if engine.committer.lock().file.slot.is_blank {
            self.erased.set_aside = set_aside(engine)?;
            // Removed names must not come back with a crash.
            let directory = &engine.options.directory;
            barrier("the sync of erased names", || engine.parts.disk.sync_directory(directory))
                .map_err(|error| io_error("sync", directory, error))?;
            return Ok(Next::Done);
        }
        self.stage = Stage::Pool;
        Ok(Next::Step(Duration::ZERO))
    }

    /// Overwrites one free slot that held a file once; `None`: there is none.
    fn zero_slot(&mut self, engine: &Engine) -> Result<Option<u64>> {
        let prepared = engine.keeper.take_used();
        let is_prepared = prepared.is_some();
        let directory = &engine.options.directory;
        let used = match prepared {
            Some(slot) => Some(slot),
            None => engine
                .slots
                .lock()
                .take_used()
                .map_err(|error| io_error("open a free file in", directory, error))?,
        };
        let Some(mut slot) = used else { return Ok(None) };
        let bytes = slot.size;
        let outcome = slot.zero();
        if is_prepared {
            engine.keeper.put_prepared(slot);
        } else {
            engine.slots.lock().put(slot);
        }
        outcome.map_err(|error| io_error("overwrite a free file in", directory, error))?;
        Ok(Some(bytes))
    }
}

/// Overwrites what stands behind the groups and the seal of a finished journal file.
fn zero_tail(engine: &Engine, file: &StoredFile, readable: &ReadableFile) -> Result<u64> {
    let path = file.place().path(&engine.options.directory);
    let failed = |error| io_error("overwrite the end of", &path, error);
    let handle = engine.files.handle(file.place())?;
    let mut from = file.groups_end();
    if let Some(seal) = readable.seal {
        let mut header = [0; GROUP_HEADER_BYTES];
        handle.read_at(seal, &mut header).map_err(failed)?;
        // A seal that cannot be read serves nobody.
        if let Ok(header) = GroupHeader::decode(&readable.salt, readable.number(), &header)
            && header.is_seal
        {
            from = seal + u64::from(header.length);
        }
    }
    let size = handle.size().map_err(failed)?;
    assert!(from >= file.groups_end().max(FILE_HEADER_BYTES as u64), "only what follows is zeroed");
    if from >= size {
        return Ok(0);
    }
    write_zeros(handle.as_ref(), from, size).map_err(failed)?;
    barrier("the sync of an erased end", || handle.sync()).map_err(failed)?;
    Ok(size - from)
}

fn set_aside(engine: &Engine) -> Result<Vec<String>> {
    let directory = &engine.options.directory;
    let names = engine.parts.disk.list(directory);
    let mut names = names.map_err(|error| io_error("list", directory, error))?;
    names.retain(|name| name.ends_with(".corrupt"));
    names.sort();
    Ok(names)
}

/// How long so many bytes may take.
fn pace(engine: &Engine, bytes: u64) -> Duration {
    // Who never merges has set no rate for this.
    let nanos =
        bytes.saturating_mul(1_000_000_000).checked_div(engine.options.merge_bytes_per_second);
    Duration::from_nanos(nanos.unwrap_or_default())
}

/// A file that must be rewritten cannot be read.
pub(super) fn cannot_rewrite(key: FileKey, cause: &Error) -> Error {
    Error::new(
        ErrorKind::Corrupt { next_readable: Offset(0) },
        format!(
            "{key} is damaged, so what is to be erased from it stays: back up what can be read, \
             restore it elsewhere and destroy this directory ({cause})"
        ),
    )
}
