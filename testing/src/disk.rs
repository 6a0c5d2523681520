//! A disk that fails when it is told to.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use meshlog_storage::disk::{Disk, DiskFile, OpenMode, Space};
use parking_lot::{Condvar, Mutex};

/// The disk of one broker, whatever it is on: a directory, the simulated disk, or memory.
///
/// A failed write or sync of the journal is final, as on a real disk: the append under way is
/// answered `JOURNAL_FAILED` with `applied: unknown`, later ones with `applied: no`, reads go on, and
/// [`TestBroker::restart`](crate::TestBroker::restart) recovers what is there.
#[derive(Clone, Debug)]
pub struct TestDisk {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    fails_write: bool,
    fails_sync: bool,
    is_full: bool,
    sync_delay: Duration,
    /// Syncs that wait since an earlier round stop waiting.
    round: u64,
}

impl TestDisk {
    pub(crate) fn new() -> Self {
        Self { shared: Arc::default() }
    }

    /// Lets the next sync fail that would make an append, or a change of the catalogue, durable.
    /// What it carried is written, so a restart finds it; after a
    /// [`crash`](crate::TestBroker::crash) it is gone.
    pub fn fail_next_sync(&self) {
        self.shared.state.lock().fails_sync = true;
    }

    /// Lets the next write of an append, or of a change of the catalogue, fail. Nothing of it is
    /// written.
    pub fn fail_next_write(&self) {
        self.shared.state.lock().fails_write = true;
    }

    /// No more space, until [`TestDisk::free`]. As on a real disk the broker goes on within the
    /// files that it has, so append until `DISK_FULL` comes: after less than a megabyte, if not much
    /// was appended before.
    pub fn fill(&self) {
        self.shared.state.lock().is_full = true;
    }

    /// There is space again; the broker notices within a second or two.
    pub fn free(&self) {
        self.shared.state.lock().is_full = false;
    }

    /// Every sync takes this much longer, from now on; zero ends it, also for those that wait.
    pub fn delay_syncs(&self, by: Duration) {
        self.shared.state.lock().sync_delay = by;
        self.release();
    }

    /// As it was at the start.
    pub(crate) fn reset(&self) {
        self.free();
        self.calm();
    }

    /// Neither slow nor about to fail.
    pub(crate) fn calm(&self) {
        let mut state = self.shared.state.lock();
        *state = State { is_full: state.is_full, round: state.round, ..State::default() };
        drop(state);
        self.release();
    }

    /// Ends the wait of the syncs under way.
    fn release(&self) {
        self.shared.state.lock().round += 1;
        self.shared.changed.notify_all();
    }

    /// The same disk, disturbed by this hand.
    pub(crate) fn over(&self, disk: Arc<dyn Disk>) -> Arc<dyn Disk> {
        Arc::new(DisturbedDisk { disk, shared: Arc::clone(&self.shared) })
    }
}

impl Shared {
    fn check_space(&self) -> io::Result<()> {
        match self.state.lock().is_full {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }

    fn wait(&self) {
        let mut state = self.state.lock();
        let round = state.round;
        let until = Instant::now() + state.sync_delay;
        while state.round == round && !self.changed.wait_until(&mut state, until).timed_out() {}
    }
}

struct DisturbedDisk {
    disk: Arc<dyn Disk>,
    shared: Arc<Shared>,
}

struct DisturbedFile {
    file: Arc<dyn DiskFile>,
    shared: Arc<Shared>,
    /// Entries were written since the last sync.
    carries_entries: AtomicBool,
}

impl Disk for DisturbedDisk {
    fn lock(&self, directory: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.disk.lock(directory)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.disk.list(directory)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, mode)?;
        let shared = Arc::clone(&self.shared);
        Ok(Arc::new(DisturbedFile { file, shared, carries_entries: AtomicBool::new(false) }))
    }

    fn space(&self, directory: &Path) -> io::Result<Option<Space>> {
        let space = self.disk.space(directory)?;
        let is_full = self.shared.check_space().is_err();
        Ok(space.map(|space| Space { free: if is_full { 0 } else { space.free }, ..space }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.disk.sync_directory(directory)
    }

    fn is_memory(&self) -> bool {
        self.disk.is_memory()
    }
}

impl DiskFile for DisturbedFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        if size > self.file.size()? {
            self.shared.check_space()?;
        }
        self.file.allocate(size)
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        if position + bytes.len() as u64 > self.file.size()? {
            self.shared.check_space()?;
        }
        if has_entries(bytes) {
            if std::mem::take(&mut self.shared.state.lock().fails_write) {
                return Err(io::Error::other("a failed write, as the test asked"));
            }
            self.carries_entries.store(true, Ordering::SeqCst);
        }
        self.file.write_at(position, bytes)
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(position, buffer)
    }

    fn sync(&self) -> io::Result<()> {
        self.shared.wait();
        if self.carries_entries.swap(false, Ordering::SeqCst)
            && std::mem::take(&mut self.shared.state.lock().fails_sync)
        {
            return Err(io::Error::other("a failed sync, as the test asked"));
        }
        self.file.sync()
    }
}

/// True for a group of the journal with entries in it (storage/FORMAT.md): not for the empty ones
/// that prove others durable, checkpoints, and files that are made ready.
fn has_entries(bytes: &[u8]) -> bool {
    let entries = bytes.get(28..32).and_then(|field| field.try_into().ok());
    bytes.starts_with(b"MLGR") && entries.map(u32::from_le_bytes).is_some_and(|entries| entries > 0)
}
