//! A disk for tests that keeps apart what is written and what is synced, loses power when told
//! to, and fails in all the ways disks do.
//!
//! Unsynced bytes are kept per sector of 512 bytes, unsynced names per directory entry; a crash
//! keeps any subset of both. It is stricter than most file systems: the sync of a file does not
//! sync its name, a grown size may survive without its bytes (which read as zero), and a write
//! cut by the crash may leave any subset of its sectors. A failed sync forgets which sectors were
//! dirty, as Linux does: the bytes read back well, a second sync succeeds, and they are gone after
//! a crash. A write that does not fit is cut short before it fails.
//!
//! Calls that change something are counted, and so are reads: a [`Fault`] or a crash happens at a
//! number. Nothing else decides, so the same work makes the same calls ([`SimulatedDisk::trace`]).
//! A disk that [records](SimulatedDisk::record) keeps what was there before each call, so one run
//! is enough to crash at every one of them; images share the pages in which they do not differ.

mod fault;
mod file;
mod pages;
mod recording;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::clock::ManualClock;
use super::{Disk, DiskFile, OpenMode};
pub use fault::{CrashPlan, Fault};
use file::SimulatedFile;
pub use recording::Moment;
use state::{Extent, Operation, State};

const SECTOR: usize = 512;

/// The disk. Clones are handles of the same one.
#[derive(Clone)]
pub struct SimulatedDisk {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    state: State,
    locked: bool,
    calls: u64,
    reads: u64,
    crash_at: Option<(u64, u64)>,
    crashed: bool,
    faults: BTreeMap<u64, Fault>,
    read_faults: BTreeMap<u64, Fault>,
    clock: Option<Arc<ManualClock>>,
    recording: Option<Vec<Moment>>,
    trace: Option<String>,
}

impl SimulatedDisk {
    /// An empty disk that holds this many bytes.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self::holding(State::new(capacity))
    }

    fn holding(state: State) -> Self {
        Self { inner: Arc::new(Mutex::new(Inner { state, ..Inner::default() })) }
    }

    /// Lets slow calls take time by this clock.
    #[must_use]
    pub fn with_clock(self, clock: Arc<ManualClock>) -> Self {
        self.inner.lock().clock = Some(clock);
        self
    }

    /// Calls so far that change something: writes, syncs, allocations, and changes of names.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.inner.lock().calls
    }

    /// Reads so far.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.inner.lock().reads
    }

    /// Loses power during this call; it and all later ones fail. `seed` decides which sectors of
    /// a write that is cut arrive.
    pub fn crash_at(&self, call: u64, seed: u64) {
        self.inner.lock().crash_at = Some((call, seed));
    }

    /// Loses power now: all later calls fail.
    pub fn cut_power(&self) {
        self.inner.lock().crashed = true;
    }

    /// Lets this call fail, once.
    pub fn fail_at(&self, call: u64, kind: io::ErrorKind) {
        self.fault_at(call, Fault::Error(kind));
    }

    /// Lets something go wrong in this call, once.
    pub fn fault_at(&self, call: u64, fault: Fault) {
        self.inner.lock().faults.insert(call, fault);
    }

    /// Lets something go wrong in this read, once.
    pub fn fault_at_read(&self, read: u64, fault: Fault) {
        self.inner.lock().read_faults.insert(read, fault);
    }

    /// True once every fault asked for has happened.
    #[must_use]
    pub fn is_past_faults(&self) -> bool {
        let inner = self.inner.lock();
        inner.faults.is_empty() && inner.read_faults.is_empty()
    }

    /// Bytes taken by files.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.inner.lock().state.used()
    }

    /// Changes the space there is.
    pub fn set_capacity(&self, capacity: u64) {
        self.inner.lock().state.capacity = capacity;
    }

    /// The process that has the directory open dies: its lock is gone, what it wrote stays.
    pub fn kill(&self) {
        self.inner.lock().locked = false;
    }

    /// The process dies; what it wrote stays, synced or not. This is the disk as the next process
    /// has it; for the old one every call fails from here on.
    #[must_use]
    pub fn outlives_process(&self) -> Self {
        let mut inner = self.inner.lock();
        let dead = Inner { crashed: true, calls: inner.calls, ..Inner::default() };
        let alive = Inner { locked: false, ..std::mem::replace(&mut *inner, dead) };
        Self { inner: Arc::new(Mutex::new(alive)) }
    }

    /// True once power is lost.
    #[must_use]
    pub fn has_crashed(&self) -> bool {
        self.inner.lock().crashed
    }

    /// The disk as the next start finds it. This one stays as it is.
    #[must_use]
    pub fn after_crash(&self, plan: CrashPlan) -> Self {
        Self::holding(self.inner.lock().state.after_crash(plan))
    }

    /// A hash of all names and bytes, to tell images apart.
    #[must_use]
    pub fn image(&self) -> u64 {
        self.inner.lock().state.image()
    }

    /// From now on keeps what is there before each call.
    pub fn record(&self) {
        self.inner.lock().recording = Some(Vec::new());
    }

    /// What was recorded, one moment per call; recording ends.
    #[must_use]
    pub fn recorded(&self) -> Vec<Moment> {
        self.inner.lock().recording.take().unwrap_or_default()
    }

    /// From now on writes down every call and every read.
    pub fn keep_trace(&self) {
        self.inner.lock().trace = Some(String::new());
    }

    /// The calls and reads so far, one line each.
    #[must_use]
    pub fn trace(&self) -> String {
        self.inner.lock().trace.clone().unwrap_or_default()
    }

    /// Changes bytes behind everybody's back, as rot does.
    pub fn rot(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        self.inner.lock().state.rot(path, change);
    }

    /// From now on this sector of a file cannot be read, until it is written.
    pub fn spoil(&self, path: &Path, sector: usize) {
        self.inner.lock().state.spoil(path, sector);
    }

    /// Two files take each other's name behind everybody's back.
    pub fn swap(&self, one: &Path, other: &Path) {
        self.inner.lock().state.swap(one, other);
    }

    /// A file is gone behind everybody's back.
    pub fn lose(&self, path: &Path) {
        self.inner.lock().state.lose(path);
    }
}

impl Inner {
    /// Makes a call that changes something; answers as [`State::apply`] does.
    fn call(&mut self, operation: &Operation<'_>) -> io::Result<u64> {
        if self.crashed {
            return power_lost();
        }
        self.calls += 1;
        if let Some(recording) = &mut self.recording {
            recording.push(Moment::before(&self.state, operation));
        }
        let outcome = self.perform(operation);
        if self.trace.is_some() {
            let line = recording::line(operation, &outcome);
            self.note(&line);
        }
        outcome
    }

    fn perform(&mut self, operation: &Operation<'_>) -> io::Result<u64> {
        if let Some((call, seed)) = self.crash_at
            && call == self.calls
        {
            self.crashed = true;
            drop(self.state.apply(operation, Extent::Cut(seed ^ call)));
            return power_lost();
        }
        let is_write = matches!(operation, Operation::Write(..));
        match self.faults.remove(&self.calls) {
            None => self.state.apply(operation, Extent::Whole),
            Some(Fault::Short(kind)) if is_write => {
                self.faults.insert(self.calls + 1, Fault::Error(kind));
                self.state.apply(operation, Extent::Half)
            }
            Some(Fault::Partial) if is_write => self.state.apply(operation, Extent::Half),
            Some(Fault::Torn(kind, seed)) if is_write => {
                self.state.apply(operation, Extent::Cut(seed))?;
                Err(kind.into())
            }
            Some(Fault::Stale(seed)) if is_write => {
                self.state.apply(operation, Extent::ButOne(seed))
            }
            Some(Fault::Misdirected(seed)) if is_write => {
                self.state.apply(operation, Extent::Misdirected(seed))
            }
            Some(Fault::Interrupted) => Err(io::ErrorKind::Interrupted.into()),
            Some(Fault::Slow(by)) => {
                self.pass(by);
                self.state.apply(operation, Extent::Whole)
            }
            Some(Fault::Error(kind) | Fault::Short(kind) | Fault::Torn(kind, _)) => {
                if let Operation::Sync(inode) = operation {
                    self.state.forget_dirty(*inode);
                }
                Err(kind.into())
            }
            Some(Fault::Partial | Fault::Stale(_) | Fault::Misdirected(_) | Fault::Flipped(_)) => {
                self.state.apply(operation, Extent::Whole)
            }
        }
    }

    fn pass(&self, by: Duration) {
        if let Some(clock) = &self.clock {
            clock.advance(by);
        }
    }

    fn note(&mut self, line: &str) {
        if let Some(trace) = &mut self.trace {
            trace.push_str(line);
            trace.push('\n');
        }
    }
}

fn power_lost<T>() -> io::Result<T> {
    Err(io::Error::other("power is lost"))
}

struct Lock(Arc<Mutex<Inner>>);

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.lock().locked = false;
    }
}

impl Disk for SimulatedDisk {
    fn lock(&self, _directory: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let mut inner = self.inner.lock();
        if inner.locked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        inner.locked = true;
        Ok(Box::new(Lock(Arc::clone(&self.inner))))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let inner = self.inner.lock();
        let inside = inner.state.names().filter(|path| path.parent() == Some(directory));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.inner.lock();
        let number = match (inner.state.find(path), mode) {
            (Some(number), OpenMode::Existing) => number,
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (None, OpenMode::Existing) => return Err(io::ErrorKind::NotFound.into()),
            (None, OpenMode::CreateNew) => {
                file::again(|| inner.call(&Operation::Create(path.to_owned())))?
            }
        };
        Ok(Arc::new(SimulatedFile { disk: Arc::clone(&self.inner), number }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.inner.lock();
        let operation = Operation::Rename(from.to_owned(), to.to_owned());
        file::again(|| inner.call(&operation)).map(drop)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner.lock();
        if inner.state.find(path).is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        file::again(|| inner.call(&Operation::Remove(path.to_owned()))).map(drop)
    }

    fn sync_directory(&self, _directory: &Path) -> io::Result<()> {
        let mut inner = self.inner.lock();
        file::again(|| inner.call(&Operation::SyncDirectory)).map(drop)
    }
}
