//! D and F: what the disk does when every write is synced before the next one starts.

use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::ValueEnum;
use memmap2::MmapMut;
use rustix::{
    fs::{FallocateFlags, OFlags, fallocate, fdatasync},
    io::{ReadWriteFlags, pwritev2},
};

use crate::{MIB, load::thread_cpu};

/// How a write is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WriteMode {
    /// Through the page cache, then fdatasync.
    Buffered,
    /// Through the page cache with `RWF_DSYNC`: one call, syncs this range only.
    Dsync,
    /// Past the page cache with `O_DIRECT`, then fdatasync.
    Direct,
}

impl WriteMode {
    /// All modes.
    pub const ALL: [Self; 3] = [Self::Buffered, Self::Dsync, Self::Direct];

    /// The mode in a table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Buffered => "buffered + fdatasync",
            Self::Dsync => "RWF_DSYNC",
            Self::Direct => "O_DIRECT + fdatasync",
        }
    }
}

/// What the file's blocks have been through before they are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Preparation {
    /// Nothing: every write makes the file longer.
    Extend,
    /// Allocated at full length, never written: every write converts an extent.
    Fallocate,
    /// Zeros written and synced just before.
    PreWritten,
    /// Written in an earlier life of the file, and overwritten round after round.
    Recycled,
}

impl Preparation {
    /// All preparations.
    pub const ALL: [Self; 4] = [Self::Extend, Self::Fallocate, Self::PreWritten, Self::Recycled];

    /// The preparation in a table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Extend => "extend",
            Self::Fallocate => "fallocate",
            Self::PreWritten => "pre-written",
            Self::Recycled => "recycled",
        }
    }
}

/// Page-aligned memory to write from, filled with bytes that do not compress.
#[derive(Debug)]
pub struct Pattern(MmapMut);

impl Pattern {
    /// Allocates and fills `len` bytes.
    ///
    /// # Errors
    /// When the memory cannot be mapped.
    pub fn new(len: usize) -> io::Result<Self> {
        let mut memory = MmapMut::map_anon(len)?;
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        for word in memory.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        Ok(Self(memory))
    }

    /// The first `len` bytes.
    #[must_use]
    pub fn bytes(&self, len: usize) -> &[u8] {
        &self.0[..len]
    }
}

/// A file written as the journal writes: forward, aligned, each write durable before the next.
///
/// Removed from the directory when dropped.
#[derive(Debug)]
pub struct JournalFile {
    file: File,
    path: PathBuf,
    mode: WriteMode,
    preparation: Preparation,
    capacity: u64,
    at: u64,
}

impl JournalFile {
    /// Creates and prepares a file of `capacity` bytes under a name that must be free.
    ///
    /// # Errors
    /// When the file cannot be created, or the file system refuses the mode (`O_DIRECT` gives `InvalidInput`).
    pub fn create(
        path: PathBuf,
        mode: WriteMode,
        preparation: Preparation,
        capacity: u64,
    ) -> io::Result<Self> {
        let file = open(&path, mode)?;
        let journal = Self { file, path, mode, preparation, capacity, at: 0 };
        match preparation {
            Preparation::Extend => {}
            Preparation::Fallocate => {
                fallocate(&journal.file, FallocateFlags::empty(), 0, capacity)?;
            }
            Preparation::PreWritten => journal.fill(&MmapMut::map_anon(FILL)?)?,
            Preparation::Recycled => {
                journal.fill(&MmapMut::map_anon(FILL)?)?;
                journal.fill(Pattern::new(FILL)?.bytes(FILL))?;
            }
        }
        journal.file.sync_all()?;
        sync_directory(&journal.path)?;
        Ok(journal)
    }

    /// Writes the next `bytes` and makes them durable. A recycled file starts over at its end.
    ///
    /// # Errors
    /// When the write or the sync fails; `StorageFull` when a file that is not recycled is full.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.at + bytes.len() as u64 > self.capacity {
            if self.preparation != Preparation::Recycled {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.at = 0;
        }
        write_durably(&self.file, self.mode, bytes, self.at)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Appends writes of `size` bytes until `limit` has passed, or until a file that is not recycled is full.
    ///
    /// # Errors
    /// When a write or a sync fails.
    pub fn measure(
        &mut self,
        pattern: &Pattern,
        size: usize,
        limit: Duration,
    ) -> io::Result<DiskSample> {
        let bytes = pattern.bytes(size);
        let cpu = thread_cpu();
        let began = Instant::now();
        let mut writes = 0;
        while began.elapsed() < limit {
            match self.append(bytes) {
                Ok(()) => writes += 1,
                Err(error) if error.kind() == io::ErrorKind::StorageFull && writes > 0 => break,
                Err(error) => return Err(error),
            }
        }
        let elapsed = began.elapsed();
        Ok(DiskSample { writes, size, elapsed, cpu: thread_cpu().saturating_sub(cpu) })
    }

    fn fill(&self, bytes: &[u8]) -> io::Result<()> {
        for at in (0..self.capacity).step_by(bytes.len()) {
            let len = bytes.len().min(usize::try_from(self.capacity - at).unwrap_or(usize::MAX));
            write_all_at(&self.file, &bytes[..len], at, ReadWriteFlags::empty())?;
        }
        Ok(())
    }
}

impl Drop for JournalFile {
    /// Removes the file and waits for that to be on disk: with `discard`, freeing blocks would slow the next measurement.
    fn drop(&mut self) {
        let removed = std::fs::remove_file(&self.path);
        let _ = removed.and_then(|()| sync_directory(&self.path));
    }
}

/// One write size for some time.
#[derive(Clone, Copy, Debug)]
pub struct DiskSample {
    /// Durable writes made.
    pub writes: u64,
    /// Bytes of each.
    pub size: usize,
    /// Time they took together.
    pub elapsed: Duration,
    /// CPU time of the writing thread.
    pub cpu: Duration,
}

impl DiskSample {
    /// Durable writes per second: F, at 4 KiB.
    #[must_use]
    pub fn writes_per_second(&self) -> f64 {
        self.writes as f64 / self.elapsed.as_secs_f64()
    }

    /// Durable GB/s (10⁹ bytes): D, at this size.
    #[must_use]
    pub fn gigabytes_per_second(&self) -> f64 {
        self.writes_per_second() * self.size as f64 / 1e9
    }

    /// Microseconds of CPU in the writing thread for each write.
    #[must_use]
    pub fn cpu_micros_per_write(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.writes as f64
    }
}

/// Durable writes of `size` bytes to recycled blocks past the page cache, one after the other, for `limit`: D at the size
/// of a group, F at 4 KiB. The file of 256 MiB is called `name` and gone afterwards.
///
/// # Errors
/// When the file cannot be made or written, or the file system refuses `O_DIRECT`.
pub fn durable(dir: &Path, name: &str, size: usize, limit: Duration) -> io::Result<DiskSample> {
    let capacity = 256 * MIB as u64;
    let path = dir.join(name);
    let mut file = JournalFile::create(path, WriteMode::Direct, Preparation::Recycled, capacity)?;
    file.measure(&Pattern::new(size)?, size, limit)
}

/// Bytes per write while a file is being prepared.
const FILL: usize = 4 * MIB;

/// Opens a file for reading and writing in a mode, creating it where it is missing.
///
/// # Errors
/// When the file cannot be opened; `InvalidInput` when the file system refuses `O_DIRECT`.
pub fn open(path: &Path, mode: WriteMode) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    if mode == WriteMode::Direct {
        options.custom_flags(OFlags::DIRECT.bits().cast_signed());
    }
    options.open(path)
}

/// Writes all bytes at a position and returns once they are durable.
///
/// # Errors
/// When the write or the sync fails.
pub fn write_durably(file: &File, mode: WriteMode, bytes: &[u8], at: u64) -> io::Result<()> {
    match mode {
        WriteMode::Dsync => write_all_at(file, bytes, at, ReadWriteFlags::DSYNC),
        WriteMode::Buffered | WriteMode::Direct => {
            write_all_at(file, bytes, at, ReadWriteFlags::empty())?;
            Ok(fdatasync(file)?)
        }
    }
}

fn write_all_at(
    file: &File,
    mut bytes: &[u8],
    mut at: u64,
    flags: ReadWriteFlags,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = pwritev2(file, &[IoSlice::new(bytes)], at, flags)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
        at += written as u64;
    }
    Ok(())
}

/// Makes the creation or removal of a file durable.
fn sync_directory(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}
