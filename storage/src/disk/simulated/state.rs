//! What is on the disk, and how each call changes it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::SECTOR;
use super::fault::CrashPlan;
use super::pages::{PAGE, Pages, SECTORS};
use crate::disk::random::SeededRandom;

/// Files and names, as they read and as they would be found after a loss of power. Clones share
/// everything that neither of them changes.
#[derive(Clone, Default)]
pub(super) struct State {
    inodes: BTreeMap<u64, Arc<Inode>>,
    next_inode: u64,
    names: Arc<BTreeMap<PathBuf, u64>>,
    durable_names: Arc<BTreeMap<PathBuf, u64>>,
    /// Changes of names since the last directory sync, in order.
    name_changes: Vec<NameChange>,
    pub(super) capacity: u64,
}

#[derive(Clone, Default)]
struct Inode {
    bytes: Pages,
    durable: Pages,
    /// Sectors not synced: a bit each, by page.
    dirty: BTreeMap<usize, u8>,
    /// The size is not synced.
    size_dirty: bool,
    /// Sectors that cannot be read.
    bad: BTreeSet<usize>,
}

#[derive(Clone)]
enum NameChange {
    Set(PathBuf, u64),
    Remove(PathBuf),
    /// An entry names a file, whatever else survives: the file goes with it.
    Rename(PathBuf, PathBuf, u64),
}

/// A call that changes something.
#[derive(Clone)]
pub(super) enum Operation<'a> {
    Create(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    SyncDirectory,
    Allocate(u64, u64),
    Write(u64, u64, Cow<'a, [u8]>),
    Sync(u64),
}

/// How much of a call happens.
#[derive(Clone, Copy)]
pub(super) enum Extent {
    Whole,
    /// The first half of a write.
    Half,
    /// Power goes meanwhile: of a write any sectors, by this seed.
    Cut(u64),
    /// All but one sector of a write, by this seed.
    ButOne(u64),
    /// All of a write, and one sector of it elsewhere as well, by this seed.
    Misdirected(u64),
}

impl Operation<'_> {
    pub(super) fn into_owned(self) -> Operation<'static> {
        match self {
            Self::Create(path) => Operation::Create(path),
            Self::Rename(from, to) => Operation::Rename(from, to),
            Self::Remove(path) => Operation::Remove(path),
            Self::SyncDirectory => Operation::SyncDirectory,
            Self::Allocate(inode, size) => Operation::Allocate(inode, size),
            Self::Write(inode, position, bytes) => {
                Operation::Write(inode, position, Cow::Owned(bytes.into_owned()))
            }
            Self::Sync(inode) => Operation::Sync(inode),
        }
    }
}

impl State {
    pub(super) fn new(capacity: u64) -> Self {
        Self { capacity, ..Self::default() }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &PathBuf> {
        self.names.keys()
    }

    pub(super) fn find(&self, path: &Path) -> Option<u64> {
        self.names.get(path).copied()
    }

    /// Bytes taken by files.
    pub(super) fn used(&self) -> u64 {
        self.names.values().map(|number| self.size(*number)).sum()
    }

    pub(super) fn size(&self, inode: u64) -> u64 {
        self.inodes.get(&inode).map_or(0, |inode| inode.bytes.len() as u64)
    }

    /// Makes a call happen; answers how many bytes of a write were taken, or the new file.
    pub(super) fn apply(&mut self, operation: &Operation<'_>, extent: Extent) -> io::Result<u64> {
        match operation {
            Operation::Create(path) => {
                self.next_inode += 1;
                self.inodes.insert(self.next_inode, Arc::default());
                self.change_name(NameChange::Set(path.clone(), self.next_inode));
                Ok(self.next_inode)
            }
            Operation::Rename(from, to) => {
                let inode = self.find(from).ok_or(io::ErrorKind::NotFound)?;
                self.change_name(NameChange::Rename(from.clone(), to.clone(), inode));
                Ok(0)
            }
            Operation::Remove(path) => {
                self.find(path).ok_or(io::ErrorKind::NotFound)?;
                self.change_name(NameChange::Remove(path.clone()));
                Ok(0)
            }
            Operation::SyncDirectory => {
                if matches!(extent, Extent::Whole) {
                    self.durable_names = Arc::clone(&self.names);
                    self.name_changes.clear();
                }
                Ok(0)
            }
            Operation::Allocate(inode, size) => {
                if self.used() + size.saturating_sub(self.size(*inode)) > self.capacity {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                let size = usize::try_from(*size).map_err(io::Error::other)?;
                let inode = self.inode(*inode)?;
                if inode.bytes.len() < size {
                    inode.bytes.grow(size);
                    inode.size_dirty = true;
                }
                Ok(0)
            }
            Operation::Write(inode, position, bytes) => {
                self.write(*inode, *position, bytes, extent)
            }
            Operation::Sync(inode) => {
                if matches!(extent, Extent::Whole) {
                    self.inode(*inode)?.sync();
                }
                Ok(0)
            }
        }
    }

    /// Takes as much as there is space for.
    fn write(
        &mut self,
        number: u64,
        position: u64,
        bytes: &[u8],
        extent: Extent,
    ) -> io::Result<u64> {
        let start = usize::try_from(position).map_err(io::Error::other)?;
        let length = match extent {
            Extent::Half => (bytes.len() / 2).next_multiple_of(SECTOR).min(bytes.len()),
            _ => bytes.len(),
        };
        let (size, used, capacity) = (self.size(number), self.used(), self.capacity);
        let room = size.max(position) + capacity.saturating_sub(used);
        let grows = (start + length) as u64 > size;
        let length = if grows && used + (start + length) as u64 - size > capacity {
            let fits = room.min(size + capacity.saturating_sub(used)).saturating_sub(position);
            usize::try_from(fits).unwrap_or(0).min(length) / SECTOR * SECTOR
        } else {
            length
        };
        if length == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let inode = self.inode(number)?;
        let end = start + length;
        if inode.bytes.len() < end {
            inode.bytes.grow(end);
            inode.size_dirty = true;
        }
        let sectors = (start / SECTOR)..end.div_ceil(SECTOR);
        let chosen = |seed: u64| {
            sectors.start + (SeededRandom::new(seed).next_u64() % sectors.len() as u64) as usize
        };
        let coin = match extent {
            Extent::Cut(seed) => Some(SeededRandom::new(seed)),
            _ => None,
        };
        let spared = match extent {
            Extent::ButOne(seed) => Some(chosen(seed)),
            _ => None,
        };
        for sector in sectors.clone() {
            let from = (sector * SECTOR).max(start);
            let until = (sector * SECTOR + SECTOR).min(end);
            let arrives = coin.as_ref().is_none_or(|coin| coin.next_u64() & 1 == 0);
            if arrives && spared != Some(sector) {
                inode.put(from, &bytes[from - start..until - start]);
            }
        }
        if let Extent::Misdirected(seed) = extent {
            let sector = chosen(seed);
            let from = (sector * SECTOR).max(start);
            let until = (sector * SECTOR + SECTOR).min(end);
            let part = &bytes[from - start..until - start];
            let places = inode.bytes.len().saturating_sub(part.len()) / SECTOR;
            if places > 0 {
                let place = SeededRandom::new(seed ^ 1).next_u64() as usize % places;
                inode.put(place * SECTOR, part);
            }
        }
        Ok(length as u64)
    }

    /// A sync failed: nobody knows any more what was not synced.
    pub(super) fn forget_dirty(&mut self, inode: u64) {
        if let Ok(inode) = self.inode(inode) {
            inode.dirty.clear();
        }
    }

    pub(super) fn read(&self, inode: u64, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let inode = self.inodes.get(&inode).ok_or(io::ErrorKind::NotFound)?;
        let size = inode.bytes.len();
        let start = usize::try_from(position).unwrap_or(usize::MAX).min(size);
        let length = buffer.len().min(size - start);
        let sectors = start / SECTOR..(start + length).div_ceil(SECTOR);
        if length > 0 && inode.bad.range(sectors).next().is_some() {
            return Err(io::Error::other("a sector cannot be read"));
        }
        inode.bytes.read(start, &mut buffer[..length]);
        Ok(length)
    }

    /// The disk as the next start finds it.
    pub(super) fn after_crash(&self, plan: CrashPlan) -> Self {
        let coin = Coin::new(plan);
        let mut names = BTreeMap::clone(&self.durable_names);
        let kept = coin.of(self.name_changes.len());
        for (change, _) in self.name_changes.iter().zip(kept).filter(|(_, kept)| *kept) {
            change.apply(&mut names);
        }
        let named: BTreeSet<u64> = names.values().copied().collect();
        let survivors = self.inodes.iter().filter(|(number, _)| named.contains(number));
        let inodes = survivors.map(|(number, inode)| (*number, inode.after_crash(&coin))).collect();
        let names = Arc::new(names);
        Self {
            inodes,
            next_inode: self.next_inode,
            names: Arc::clone(&names),
            durable_names: names,
            name_changes: Vec::new(),
            capacity: self.capacity,
        }
    }

    /// A hash of all names and bytes.
    pub(super) fn image(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (path, number) in self.names.iter() {
            hasher.write(path.as_os_str().as_encoded_bytes());
            if let Some(inode) = self.inodes.get(number) {
                inode.bytes.hash(&mut hasher);
            }
        }
        hasher.finish()
    }

    /// Changes bytes behind everybody's back.
    pub(super) fn rot(&mut self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let Some(number) = self.find(path) else { return };
        if let Ok(inode) = self.inode(number) {
            let mut bytes = inode.bytes.to_vec();
            change(&mut bytes);
            inode.bytes = bytes.into();
            inode.durable = inode.bytes.clone();
            inode.dirty.clear();
            inode.size_dirty = false;
        }
    }

    /// This sector of the file cannot be read any more.
    pub(super) fn spoil(&mut self, path: &Path, sector: usize) {
        if let Some(number) = self.find(path)
            && let Ok(inode) = self.inode(number)
        {
            inode.bad.insert(sector);
        }
    }

    /// Two files take each other's name, for good.
    pub(super) fn swap(&mut self, one: &Path, other: &Path) {
        for names in [&mut self.names, &mut self.durable_names] {
            let names = Arc::make_mut(names);
            if let (Some(first), Some(second)) = (names.remove(one), names.remove(other)) {
                names.insert(one.to_owned(), second);
                names.insert(other.to_owned(), first);
            }
        }
    }

    /// A name is gone, for good.
    pub(super) fn lose(&mut self, path: &Path) {
        Arc::make_mut(&mut self.names).remove(path);
        Arc::make_mut(&mut self.durable_names).remove(path);
    }

    fn inode(&mut self, number: u64) -> io::Result<&mut Inode> {
        let inode = self.inodes.get_mut(&number).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::make_mut(inode))
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(Arc::make_mut(&mut self.names));
        self.name_changes.push(change);
    }
}

impl Inode {
    /// Within the size.
    fn put(&mut self, position: usize, bytes: &[u8]) {
        self.bytes.write(position, bytes);
        for sector in position / SECTOR..(position + bytes.len()).div_ceil(SECTOR) {
            *self.dirty.entry(sector / SECTORS).or_default() |= 1 << (sector % SECTORS);
            // Writing makes a bad sector good.
            self.bad.remove(&sector);
        }
    }

    fn sync(&mut self) {
        self.durable.grow(self.bytes.len());
        for (page, sectors) in std::mem::take(&mut self.dirty) {
            self.durable.take_sectors(&self.bytes, page, sectors);
        }
        self.size_dirty = false;
    }

    fn after_crash(self: &Arc<Self>, coin: &Coin) -> Arc<Self> {
        let mut bytes = self.durable.clone();
        if self.size_dirty && coin.of(1).next() == Some(true) {
            bytes.grow(self.bytes.len());
        }
        let dirty: Vec<(usize, u8)> = self
            .dirty
            .iter()
            .flat_map(|(page, sectors)| (0..SECTORS).map(move |n| (*page, sectors & 1 << n)))
            .filter(|(_, sector)| *sector != 0)
            .collect();
        for ((page, sector), _) in dirty.iter().zip(coin.of(dirty.len())).filter(|(_, kept)| *kept)
        {
            bytes.take_sectors(&self.bytes, *page, *sector);
        }
        Arc::new(Self { durable: bytes.clone(), bytes, bad: self.bad.clone(), ..Self::default() })
    }
}

/// Decides what survives.
struct Coin {
    plan: CrashPlan,
    random: SeededRandom,
}

impl Coin {
    fn new(plan: CrashPlan) -> Self {
        let seed = match plan {
            CrashPlan::Random(seed) | CrashPlan::InOrder(seed) => seed,
            CrashPlan::KeepNothing | CrashPlan::KeepAll => 0,
        };
        Self { plan, random: SeededRandom::new(seed) }
    }

    /// Which of so many survive.
    fn of(&self, count: usize) -> impl Iterator<Item = bool> + '_ {
        let first = match self.plan {
            CrashPlan::KeepNothing => 0,
            CrashPlan::KeepAll | CrashPlan::Random(_) => count,
            CrashPlan::InOrder(_) => (self.random.next_u64() % (count as u64 + 1)) as usize,
        };
        let tosses = matches!(self.plan, CrashPlan::Random(_));
        (0..count).map(move |index| index < first && (!tosses || self.random.next_u64() & 1 == 0))
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

const _: () = assert!(PAGE == SECTOR * 8, "a byte says which sectors of a page are dirty");
