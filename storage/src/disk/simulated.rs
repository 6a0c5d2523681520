//! A disk for tests that keeps apart what is written and what is synced, and loses power when
//! told to.
//!
//! Unsynced bytes are kept per sector of 512 bytes, unsynced names per directory entry; a crash
//! keeps any subset of both. It is stricter than most file systems: the sync of a file does not
//! sync its name, a grown size may survive without its bytes (which read as zero), and a write
//! cut by the crash may leave any subset of its sectors. A failed sync forgets which sectors were
//! dirty, as Linux does: the bytes read back well, a second sync succeeds, and they are gone after
//! a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::random::SeededRandom;
use super::{Disk, DiskFile, OpenMode};

const SECTOR: usize = 512;

/// What a crash keeps of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPlan {
    /// Nothing.
    KeepNothing,
    /// Everything.
    KeepAll,
    /// Each sector and each name by a coin from this seed.
    Random(u64),
}

/// The disk. Clones are handles of the same one.
#[derive(Clone)]
pub struct SimulatedDisk {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Clone, Default)]
struct Inner {
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of names since the last directory sync, in order.
    name_changes: Vec<NameChange>,
    capacity: u64,
    locked: bool,
    calls: u64,
    crash_at: Option<u64>,
    crash_seed: u64,
    crashed: bool,
    failures: BTreeMap<u64, io::ErrorKind>,
}

#[derive(Clone, Default)]
struct Inode {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    /// The size is not synced.
    size_dirty: bool,
}

#[derive(Clone)]
enum NameChange {
    Set(PathBuf, u64),
    Remove(PathBuf),
    /// An entry names a file, whatever else survives: the file goes with it.
    Rename(PathBuf, PathBuf, u64),
}

impl SimulatedDisk {
    /// An empty disk that holds this many bytes.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self { inner: Arc::new(Mutex::new(Inner { capacity, ..Inner::default() })) }
    }

    /// Calls so far that change something: writes, syncs, allocations, and changes of names.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.inner.lock().calls
    }

    /// Loses power during this call; it and all later ones fail. `seed` decides which sectors of
    /// a write that is cut arrive.
    pub fn crash_at(&self, call: u64, seed: u64) {
        let mut inner = self.inner.lock();
        inner.crash_at = Some(call);
        inner.crash_seed = seed;
    }

    /// Loses power now: all later calls fail.
    pub fn cut_power(&self) {
        self.inner.lock().crashed = true;
    }

    /// Lets this call fail, once.
    pub fn fail_at(&self, call: u64, kind: io::ErrorKind) {
        self.inner.lock().failures.insert(call, kind);
    }

    /// Bytes taken by files.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.inner.lock().used()
    }

    /// Changes the space there is.
    pub fn set_capacity(&self, capacity: u64) {
        self.inner.lock().capacity = capacity;
    }

    /// The process that has the directory open dies: its lock is gone, what it wrote stays.
    pub fn kill(&self) {
        self.inner.lock().locked = false;
    }

    /// True once power is lost.
    #[must_use]
    pub fn has_crashed(&self) -> bool {
        self.inner.lock().crashed
    }

    /// The disk as the next start finds it. This one stays as it is.
    #[must_use]
    pub fn after_crash(&self, plan: CrashPlan) -> Self {
        let before = self.inner.lock();
        let coin = SeededRandom::new(match plan {
            CrashPlan::Random(seed) => seed,
            _ => 0,
        });
        let keeps = || match plan {
            CrashPlan::KeepNothing => false,
            CrashPlan::KeepAll => true,
            CrashPlan::Random(_) => coin.next_u64() & 1 == 0,
        };
        let mut after = Inner {
            next_inode: before.next_inode,
            capacity: before.capacity,
            names: before.durable_names.clone(),
            ..Inner::default()
        };
        for change in &before.name_changes {
            if keeps() {
                change.apply(&mut after.names);
            }
        }
        for (number, inode) in &before.inodes {
            if !after.names.values().any(|named| named == number) {
                continue;
            }
            let mut bytes = inode.durable.clone();
            if inode.size_dirty && keeps() {
                bytes.resize(inode.bytes.len(), 0);
            }
            for sector in &inode.dirty {
                if keeps() {
                    let start = sector * SECTOR;
                    let end = (start + SECTOR).min(inode.bytes.len());
                    if bytes.len() < end {
                        bytes.resize(end, 0);
                    }
                    bytes[start..end].copy_from_slice(&inode.bytes[start..end]);
                }
            }
            let survived = Inode { durable: bytes.clone(), bytes, ..Inode::default() };
            after.inodes.insert(*number, survived);
        }
        after.durable_names = after.names.clone();
        Self { inner: Arc::new(Mutex::new(after)) }
    }

    /// A checksum of all names and bytes, to tell images apart.
    #[must_use]
    pub fn image(&self) -> u64 {
        let inner = self.inner.lock();
        let mut hashers = [crc32fast::Hasher::new(), crc32fast::Hasher::new_with_initial(1)];
        for (path, number) in &inner.names {
            for hasher in &mut hashers {
                hasher.update(path.as_os_str().as_encoded_bytes());
                hasher.update(&inner.inodes[number].bytes);
            }
        }
        let [low, high] = hashers.map(crc32fast::Hasher::finalize);
        u64::from(high) << 32 | u64::from(low)
    }

    /// Changes bytes behind everybody's back, as rot does.
    pub fn rot(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = self.inner.lock();
        let number = inner.names.get(path).copied();
        if let Some(inode) = number.and_then(|number| inner.inodes.get_mut(&number)) {
            change(&mut inode.bytes);
            inode.durable = inode.bytes.clone();
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Set(path, inode) => drop(names.insert(path.clone(), *inode)),
            Self::Remove(path) => drop(names.remove(path)),
            Self::Rename(from, to, inode) => {
                if names.get(from) == Some(inode) {
                    names.remove(from);
                }
                names.insert(to.clone(), *inode);
            }
        }
    }
}

enum Call {
    /// Do it.
    Whole,
    /// Power goes while it is done.
    Cut,
}

impl Inner {
    /// Counts a call; decides whether it happens.
    fn begin(&mut self) -> io::Result<Call> {
        if self.crashed {
            return Err(io::Error::other("power is lost"));
        }
        self.calls += 1;
        if self.crash_at == Some(self.calls) {
            self.crashed = true;
            return Ok(Call::Cut);
        }
        match self.failures.remove(&self.calls) {
            Some(kind) => Err(kind.into()),
            None => Ok(Call::Whole),
        }
    }

    fn used(&self) -> u64 {
        self.names.values().map(|number| self.inodes[number].bytes.len() as u64).sum()
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
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
        let inside = inner.names.keys().filter(|path| path.parent() == Some(directory));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.inner.lock();
        let number = match (inner.names.get(path).copied(), mode) {
            (Some(number), OpenMode::Existing) => number,
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (None, OpenMode::Existing) => return Err(io::ErrorKind::NotFound.into()),
            (None, OpenMode::CreateNew) => {
                let call = inner.begin()?;
                inner.next_inode += 1;
                let number = inner.next_inode;
                inner.inodes.insert(number, Inode::default());
                inner.change_name(NameChange::Set(path.to_owned(), number));
                if matches!(call, Call::Cut) {
                    return power_lost();
                }
                number
            }
        };
        Ok(Arc::new(SimulatedFile { disk: Arc::clone(&self.inner), number }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.inner.lock();
        let call = inner.begin()?;
        let Some(inode) = inner.names.get(from).copied() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        inner.change_name(NameChange::Rename(from.to_owned(), to.to_owned(), inode));
        if matches!(call, Call::Cut) { power_lost() } else { Ok(()) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner.lock();
        if !inner.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let call = inner.begin()?;
        inner.change_name(NameChange::Remove(path.to_owned()));
        if matches!(call, Call::Cut) { power_lost() } else { Ok(()) }
    }

    fn sync_directory(&self, _directory: &Path) -> io::Result<()> {
        let mut inner = self.inner.lock();
        match inner.begin()? {
            Call::Whole => {
                inner.durable_names = inner.names.clone();
                inner.name_changes.clear();
                Ok(())
            }
            Call::Cut => power_lost(),
        }
    }
}

struct SimulatedFile {
    disk: Arc<Mutex<Inner>>,
    number: u64,
}

impl SimulatedFile {
    fn with<T>(&self, work: impl FnOnce(&mut Inode) -> T) -> io::Result<T> {
        let mut inner = self.disk.lock();
        inner.inodes.get_mut(&self.number).map(work).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl DiskFile for SimulatedFile {
    fn size(&self) -> io::Result<u64> {
        self.with(|inode| inode.bytes.len() as u64)
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        let mut inner = self.disk.lock();
        let call = inner.begin()?;
        let now = inner.inodes.get(&self.number).map_or(0, |inode| inode.bytes.len() as u64);
        if inner.used() + size.saturating_sub(now) > inner.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let size = usize::try_from(size).map_err(io::Error::other)?;
        if let Some(inode) = inner.inodes.get_mut(&self.number)
            && inode.bytes.len() < size
        {
            inode.bytes.resize(size, 0);
            inode.size_dirty = true;
        }
        if matches!(call, Call::Cut) { power_lost() } else { Ok(()) }
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.disk.lock();
        let call = inner.begin()?;
        let start = usize::try_from(position).map_err(io::Error::other)?;
        let end = start + bytes.len();
        let now = inner.inodes.get(&self.number).map_or(0, |inode| inode.bytes.len());
        let grows = end.saturating_sub(now) as u64;
        if grows > 0 && inner.used() + grows > inner.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let coin = SeededRandom::new(inner.crash_seed ^ inner.calls);
        let Some(inode) = inner.inodes.get_mut(&self.number) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if inode.bytes.len() < end {
            inode.bytes.resize(end, 0);
            inode.size_dirty = true;
        }
        let mut at = start;
        while at < end {
            let sector = at / SECTOR;
            let until = ((sector + 1) * SECTOR).min(end);
            let arrives = matches!(call, Call::Whole) || coin.next_u64() & 1 == 0;
            if arrives {
                inode.bytes[at..until].copy_from_slice(&bytes[at - start..until - start]);
                inode.dirty.insert(sector);
            }
            at = until;
        }
        if matches!(call, Call::Cut) { power_lost() } else { Ok(()) }
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.with(|inode| {
            let start = usize::try_from(position).unwrap_or(usize::MAX).min(inode.bytes.len());
            let length = buffer.len().min(inode.bytes.len() - start);
            buffer[..length].copy_from_slice(&inode.bytes[start..start + length]);
            length
        })
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.disk.lock();
        let outcome = inner.begin();
        let Some(inode) = inner.inodes.get_mut(&self.number) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        match outcome {
            Ok(Call::Cut) => power_lost(),
            Ok(Call::Whole) => {
                inode.durable.resize(inode.bytes.len(), 0);
                for sector in std::mem::take(&mut inode.dirty) {
                    let start = sector * SECTOR;
                    let end = (start + SECTOR).min(inode.bytes.len());
                    inode.durable[start..end].copy_from_slice(&inode.bytes[start..end]);
                }
                inode.size_dirty = false;
                Ok(())
            }
            Err(error) => {
                inode.dirty.clear();
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(disk: &SimulatedDisk, name: &str, mode: OpenMode) -> Arc<dyn DiskFile> {
        disk.open(&Path::new("d").join(name), mode).unwrap()
    }

    #[test]
    fn a_crash_takes_what_was_not_synced() {
        let disk = SimulatedDisk::new(1 << 20);
        let a = file(&disk, "a", OpenMode::CreateNew);
        a.write_at(0, &[1; 1024]).unwrap();
        a.sync().unwrap();
        disk.sync_directory(Path::new("d")).unwrap();
        a.write_at(0, &[2; 1024]).unwrap();
        file(&disk, "b", OpenMode::CreateNew);

        let after = disk.after_crash(CrashPlan::KeepNothing);
        let mut bytes = [0; 1024];
        file(&after, "a", OpenMode::Existing).read_at(0, &mut bytes).unwrap();
        assert_eq!(bytes, [1; 1024]);
        assert!(after.open(Path::new("d/b"), OpenMode::Existing).is_err());

        let images: BTreeSet<u64> =
            (0..64).map(|seed| disk.after_crash(CrashPlan::Random(seed)).image()).collect();
        assert_eq!(images.len(), 8, "two sectors and one name: every subset occurs");
    }

    #[test]
    fn after_a_failed_sync_a_second_one_succeeds_and_the_bytes_are_gone() {
        let disk = SimulatedDisk::new(1 << 20);
        let a = file(&disk, "a", OpenMode::CreateNew);
        disk.sync_directory(Path::new("d")).unwrap();
        a.write_at(0, &[1; 512]).unwrap();
        disk.fail_at(disk.calls() + 1, io::ErrorKind::Other);
        assert!(a.sync().is_err());
        a.sync().unwrap();
        let after = disk.after_crash(CrashPlan::KeepAll);
        let mut bytes = [9; 512];
        file(&after, "a", OpenMode::Existing).read_at(0, &mut bytes).unwrap();
        assert_eq!(bytes, [0; 512]);
    }
}
