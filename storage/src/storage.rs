//! The handle: open, append, read, close.

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::admission::Permit;
use crate::backup::BackupPoint;
use crate::checkpoint::io_error;
use crate::disk::Space;
use crate::durations::DurationCounts;
use crate::engine::Engine;
use crate::entry::{Appended, Entry};
use crate::error::{Error, ErrorKind, Result};
use crate::journal::Refusal;
use crate::keeper;
use crate::merge::{self, Erased};
use crate::options::{Components, Options};
use crate::position::{Offset, StreamId, Timestamp};
use crate::read::{self, Bounds, Job, ReadRequest, ReadSlice};
use crate::recovery;
use crate::retention::{self, Explanation};
use crate::sabotage::skips;

/// After this long without an append one empty group proves the last one durable.
const MARKER_DELAY: Duration = Duration::from_millis(100);
/// Times the committer lets others run before it takes a group that is not full: on a busy
/// machine the group grows, on an idle one it costs microseconds.
const YIELDS: usize = 4;
const READER_THREADS: usize = 2;

/// How the storage is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Why appends are refused and what to do, if they are.
    pub appends_refused: Option<String>,
    /// What was found damaged, one sentence each.
    pub damage: Vec<String>,
    /// What somebody should know and nobody needs to be woken for, one sentence each.
    pub notes: Vec<String>,
}

/// Counts since the storage was opened, and how much there is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Syncs on the way to acknowledgements: one per group.
    pub syncs: u64,
    /// Groups written.
    pub groups: u64,
    /// Entries written.
    pub entries: u64,
    /// Bytes written to journal files.
    pub bytes: u64,
    /// Merges finished.
    pub merges: u64,
    /// Bytes that merges wrote.
    pub merged_bytes: u64,
    /// How long the syncs took that acknowledgements wait for.
    pub sync_times: DurationCounts,
    /// How long the recovery took when it was opened.
    pub recovery: Duration,
    /// Bytes of entries between admission and acknowledgement.
    pub admitted_bytes: u64,
    /// Entries that wait for admission.
    pub admission_waiters: u64,
    /// Finished files with records.
    pub segments: u64,
    /// Bytes that files with records take, the one being written included.
    pub log_bytes: u64,
    /// Bytes that merges would free, as far as files were looked at.
    pub merge_debt_bytes: u64,
    /// Streams there are.
    pub streams: u64,
}

/// The log engine: a cheap handle, clone it freely.
///
/// The directory stays open until [`Storage::close`], or until the last handle is gone.
#[derive(Clone)]
pub struct Storage {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Arc<Engine>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    lock: Mutex<Option<Box<dyn Send + Sync>>>,
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").field("directory", &self.shared.engine.options.directory).finish()
    }
}

impl Storage {
    /// Opens a directory, recovering what it holds; everything durable is readable afterwards.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Locked`], [`ErrorKind::Format`], [`ErrorKind::Corrupt`] if the journal
    /// cannot be understood at all, [`ErrorKind::DiskFull`], [`ErrorKind::Io`].
    pub fn open(options: Options, parts: Components) -> Result<Self> {
        let storage = Self::open_without_threads(options, parts)?;
        storage.start_threads()?;
        Ok(storage)
    }

    /// As [`Storage::open`], but nothing happens by itself: appends wait for
    /// [`Storage::drive`]. For simulations, which must replay exactly.
    pub fn open_without_threads(options: Options, parts: Components) -> Result<Self> {
        let directory = options.directory.clone();
        let lock = if skips("the lock of the directory") {
            Ok(Box::new(()) as _)
        } else {
            parts.disk.lock(&directory)
        };
        let lock = lock.map_err(|error| {
            if error.kind() == std::io::ErrorKind::WouldBlock {
                Error::new(
                    ErrorKind::Locked,
                    format!(
                        "{} is open in another process: stop that one, or give another directory",
                        directory.display()
                    ),
                )
            } else {
                io_error("lock", &directory, error)
            }
        })?;
        let begins = parts.clock.monotonic();
        let (recovered, is_fresh) = recovery::recover(&options, &parts)?;
        let took = parts.clock.monotonic().saturating_sub(begins);
        let engine = Arc::new(Engine::new(options, parts, recovered, took));
        if !is_fresh && !engine.parts.disk.is_memory() {
            engine.keeper.begin(&engine);
        }
        let shared = Shared { engine, threads: Mutex::default(), lock: Mutex::new(Some(lock)) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Asks for room for `bytes` of entry. Returns it, or calls `ready` with it later from
    /// another thread. `class` shares room fairly; the broker's class is the product.
    pub fn admit(
        &self,
        class: u64,
        bytes: usize,
        ready: impl FnOnce(Permit) + Send + 'static,
    ) -> Option<Permit> {
        self.shared.engine.admission.admit(class, bytes, ready)
    }

    /// A stream id never used before. It takes effect with [`crate::Control::CreateStream`].
    #[must_use]
    pub fn allocate_stream(&self) -> StreamId {
        let mut reservation = self.shared.engine.reservation.lock();
        reservation.next_stream += 1;
        StreamId(reservation.next_stream)
    }

    /// Appends an entry. `done` is called exactly once, from the committing thread, from this one
    /// if the entry is refused, or from a reader thread if it is a retry whose outcome only the
    /// log knows; it must not block.
    ///
    /// Entries are applied in the order of these calls. The payloads are copied before the call
    /// returns.
    ///
    /// # Errors
    ///
    /// Given to `done`; [`Error::applied`] says whether the entry may be in the log all the same.
    pub fn append(&self, entry: Entry, done: impl FnOnce(Result<Appended>) + Send + 'static) {
        self.shared.engine.append(entry, Box::new(done));
    }

    /// Appends an entry and waits for the outcome. Never call it on an async worker.
    ///
    /// # Errors
    ///
    /// As [`Storage::append`].
    pub fn append_and_wait(&self, entry: Entry) -> Result<Appended> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.append(entry, move |result| drop(sender.send(result)));
        receiver.recv().unwrap_or_else(|_| Err(Error::closed()))
    }

    /// Reads from memory if it can; otherwise returns `None` and calls `done` from a reader
    /// thread. What comes from a file has its checksum verified.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownStream`], [`ErrorKind::OffsetOutOfRange`], [`ErrorKind::Corrupt`] for
    /// exactly the damaged range, [`ErrorKind::Io`].
    pub fn read(
        &self,
        request: ReadRequest,
        done: impl FnOnce(Result<ReadSlice>) + Send + 'static,
    ) -> Option<Result<ReadSlice>> {
        let engine = &self.shared.engine;
        let hot = read::read_hot(engine, &request);
        if hot.is_none() {
            engine.reads.push(Box::new(move |engine| done(read::read_cold(engine, &request))));
        }
        hot
    }

    /// The offset of the first record appended at or after `time`, or the durable end. `done` is
    /// called from a reader thread.
    ///
    /// # Errors
    ///
    /// As [`Storage::read`].
    pub fn offset_at_time(
        &self,
        stream: StreamId,
        time: Timestamp,
        done: impl FnOnce(Result<Offset>) + Send + 'static,
    ) {
        let job: Job = Box::new(move |engine| done(read::offset_at_time(engine, stream, time)));
        self.shared.engine.reads.push(job);
    }

    /// Why the oldest record of a stream is still here, and what holds the bytes of those that are
    /// gone. `done` is called from a reader thread.
    ///
    /// # Errors
    ///
    /// As [`Storage::read`].
    pub fn explain(
        &self,
        stream: StreamId,
        done: impl FnOnce(Result<Explanation>) + Send + 'static,
    ) {
        let job: Job = Box::new(move |engine| done(retention::explain(engine, stream)));
        self.shared.engine.reads.push(job);
    }

    /// Payload bytes of a stream in all files, with those that were deleted and wait for a merge.
    /// `done` is called from a reader thread.
    ///
    /// # Errors
    ///
    /// As [`Storage::read`].
    pub fn stored_bytes(&self, stream: StreamId, done: impl FnOnce(Result<u64>) + Send + 'static) {
        let job: Job = Box::new(move |engine| done(retention::stored_bytes(engine, stream)));
        self.shared.engine.reads.push(job);
    }

    /// Erases what was deleted, or trimmed away, of these streams before this call. Once `done` is
    /// told, no byte of those records is in any file of the directory: shared files were written
    /// again without them, and what waits to be written was overwritten with zeros. Also without
    /// erasing the bytes go in time; this is for those who must know that they are gone.
    ///
    /// It goes on in the background at the pace of a merge, is not remembered over a restart, and
    /// waits for readers that hold a file.
    ///
    /// What it cannot do: make a drive forget. A solid-state drive writes elsewhere what it is told
    /// to overwrite, and so do file systems that copy on write or keep snapshots; blocks of removed
    /// files stay readable to who reads the device. Backups, replicas and memory hold what they
    /// hold. Against those helps an encrypted disk whose key is destroyed.
    ///
    /// # Errors
    ///
    /// Given to `done`: [`ErrorKind::Corrupt`] if a file that holds some of it is damaged and must
    /// therefore stay, [`ErrorKind::DiskFull`], [`ErrorKind::Io`], [`ErrorKind::Closed`].
    pub fn erase(
        &self,
        streams: Vec<StreamId>,
        done: impl FnOnce(Result<Erased>) + Send + 'static,
    ) {
        self.shared.engine.merger.erase(streams, Box::new(done));
    }

    /// The readable range of a stream.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownStream`].
    pub fn bounds(&self, stream: StreamId) -> Result<Bounds> {
        read::bounds(&self.shared.engine, stream)
    }

    /// The newest durable value of every key set by [`crate::Control::SetState`], by key.
    #[must_use]
    pub fn state(&self) -> Vec<(Bytes, Bytes)> {
        let folded = self.shared.engine.state.folded();
        folded.values.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Wall time, by the clock it was opened with.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.shared.engine.parts.clock.now()
    }

    /// Room on the disk of the data directory, if it tells.
    #[must_use]
    pub fn space(&self) -> Option<Space> {
        let engine = &self.shared.engine;
        engine.parts.disk.space(&engine.options.directory).ok().flatten()
    }

    /// Looks now at what the clock makes due, instead of in some seconds. For clocks that are set
    /// by hand.
    pub fn wake(&self) {
        self.shared.engine.keeper.wake();
        self.shared.engine.merger.wake();
    }

    /// The streams that exist, by id.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamId> {
        let streams = self.shared.engine.state.streams();
        let mut ids: Vec<StreamId> = streams.iter().map(|stream| stream.id).collect();
        ids.sort_unstable();
        ids
    }

    /// How the storage is doing.
    #[must_use]
    pub fn health(&self) -> Health {
        let engine = &self.shared.engine;
        let appends_refused = match &engine.reservation.lock().refusal {
            Some(Refusal::All(error) | Refusal::Data(error)) => Some(error.to_string()),
            None => None,
        };
        Health {
            appends_refused,
            damage: engine.state.folded().damage.clone(),
            notes: [engine.retention.note(), engine.merger.note()]
                .into_iter()
                .flatten()
                .chain(engine.backups.notes(&engine.files, engine.parts.clock.monotonic()))
                .collect(),
        }
    }

    /// Counts since the storage was opened.
    #[must_use]
    pub fn stats(&self) -> Stats {
        use std::sync::atomic::Ordering::Relaxed;
        let counters = &self.shared.engine.counters;
        let groups = counters.groups.load(Relaxed);
        let engine = &self.shared.engine;
        let (admitted, waiters) = engine.admission.load();
        let (segments, log_bytes) = engine.files.load();
        Stats {
            syncs: groups,
            groups,
            entries: counters.entries.load(Relaxed),
            bytes: counters.bytes(),
            merges: counters.merges.load(Relaxed),
            merged_bytes: counters.merged_bytes.load(Relaxed),
            sync_times: counters.sync_times.counts(),
            recovery: engine.recovery,
            admitted_bytes: admitted as u64,
            admission_waiters: waiters as u64,
            segments: segments as u64,
            log_bytes,
            merge_debt_bytes: engine.merger.debt(),
            streams: engine.state.streams().len() as u64,
        }
    }

    /// Does what the reader threads would do, and nothing else.
    pub fn drive_reads(&self) {
        let engine = &self.shared.engine;
        engine.reads.drain(engine);
    }

    /// Does what the threads would do: commits what waits, then what is due by the clock, then
    /// the reads.
    pub fn drive(&self) {
        let engine = &self.shared.engine;
        engine.commit_all();
        engine.keeper.step(engine);
        engine.merger.step(engine);
        engine.commit_all();
        engine.reads.drain(engine);
    }

    /// Does what 100 ms without an append would do.
    pub fn drive_idle(&self) {
        self.drive();
        self.shared.engine.mark();
    }

    /// Writes a checkpoint now, whatever is due.
    pub fn checkpoint(&self) {
        let engine = &self.shared.engine;
        if !engine.parts.disk.is_memory() {
            engine.keeper.checkpoint(engine);
        }
    }

    /// Takes a point in time to back up: everything acknowledged so far, and nothing reserved
    /// later. May wait for a sync. Appends and reads go on; its files stay until they are read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`].
    pub fn backup(&self) -> Result<BackupPoint> {
        BackupPoint::take(&self.shared.engine)
    }

    /// Writes what was accepted, seals the journal, stops the threads and unlocks the directory.
    /// Later calls answer [`ErrorKind::Closed`]; a second close does nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if the seal could not be written; nothing acknowledged is lost.
    pub fn close(&self) -> Result<()> {
        self.shared.close()
    }

    fn start_threads(&self) -> Result<()> {
        let spawn = |name: &str, work: fn(&Arc<Engine>)| {
            let engine = Arc::clone(&self.shared.engine);
            let thread = std::thread::Builder::new()
                .name(format!("meshlog-{name}"))
                .spawn(move || {
                    let _guard = AbortOnPanic;
                    work(&engine);
                })
                .map_err(|error| {
                    Error::new(ErrorKind::Io, "a thread cannot be started").caused_by(error)
                })?;
            self.shared.threads.lock().push(thread);
            Ok(())
        };
        spawn("commit", commit_loop)?;
        spawn("keeper", keeper::run)?;
        spawn("merge", merge::run)?;
        for _ in 0..READER_THREADS {
            spawn("read", |engine| engine.reads.run(engine))?;
        }
        Ok(())
    }
}

impl Shared {
    fn close(&self) -> Result<()> {
        let outcome = self.engine.close();
        self.engine.stop();
        let this = std::thread::current().id();
        for thread in self.threads.lock().drain(..) {
            // The last handle may be dropped by one of the threads, in a callback.
            if thread.thread().id() != this {
                drop(thread.join());
            }
        }
        self.engine.refuse_rest();
        self.engine.reads.drain(&self.engine);
        self.lock.lock().take();
        outcome
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.lock.lock().is_some()
            && let Err(error) = self.close()
        {
            tracing::error!(%error, "the storage was not closed cleanly");
        }
    }
}

/// A panic in one of the threads is a defect after which nothing can be promised: the process
/// ends rather than going on without it.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a thread of the storage panicked; the process ends");
            std::process::abort();
        }
    }
}

/// The committer's thread. Sleeps without waking while nothing is appended.
fn commit_loop(engine: &Arc<Engine>) {
    loop {
        let mut reservation = engine.reservation.lock();
        let mut wants_marker = !engine.is_proven();
        while !reservation.has_work() {
            if engine.is_stopping() {
                return;
            }
            if wants_marker {
                if engine.work.wait_for(&mut reservation, MARKER_DELAY).timed_out() {
                    drop(reservation);
                    engine.mark();
                    wants_marker = false;
                    reservation = engine.reservation.lock();
                }
            } else {
                engine.work.wait(&mut reservation);
            }
        }
        let is_full = reservation.has_full_group();
        drop(reservation);
        if !is_full {
            for _ in 0..YIELDS {
                std::thread::yield_now();
            }
        }
        engine.commit_all();
    }
}
