//! The operating system's files.
//!
//! Journal writes are aligned and, where the file system takes it, go past the page cache
//! (`O_DIRECT`); everything else is buffered. Both are followed by `fdatasync`. On macOS a sync
//! is `F_FULLFSYNC`, which the standard library issues for `sync_data`.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::whole::{read_whole, write_whole};
use super::{BLOCK, Disk, DiskFile, OpenMode, Space};

/// Whether aligned writes go past the page cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteMode {
    /// Past it, where the file system takes that.
    #[default]
    Direct,
    /// Through it.
    Buffered,
}

/// The operating system's disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk {
    /// For aligned writes.
    pub write_mode: WriteMode,
}

pub(super) const LOCK_NAME: &str = "meshlog.lock";

impl Disk for OsDisk {
    fn lock(&self, directory: &Path) -> io::Result<Box<dyn Send + Sync>> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(directory.join(LOCK_NAME))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let name = entry?.file_name();
            match name.to_str() {
                Some(LOCK_NAME) | None => {}
                Some(name) => names.push(name.to_owned()),
            }
        }
        Ok(names)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let writable = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(mode == OpenMode::CreateNew)
            .mode(0o600)
            .open(path);
        let buffered = match writable {
            // The kernel made it read-only under our feet: what is there can still be read.
            Err(error)
                if error.kind() == io::ErrorKind::ReadOnlyFilesystem
                    && mode == OpenMode::Existing =>
            {
                File::open(path)?
            }
            outcome => outcome?,
        };
        let direct = OnceLock::new();
        if self.write_mode == WriteMode::Buffered {
            drop(direct.set(None));
        }
        let path = path.to_owned();
        Ok(Arc::new(OsFile { buffered, path, direct, refused_direct: AtomicBool::new(false) }))
    }

    fn space(&self, directory: &Path) -> io::Result<Option<Space>> {
        let stat = rustix::fs::statvfs(directory)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Some(Space { total: bytes(stat.f_blocks), free: bytes(stat.f_bavail) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }
}

#[cfg(target_os = "linux")]
fn open_direct(path: &Path) -> Option<File> {
    let flag = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).ok()?;
    OpenOptions::new().write(true).custom_flags(flag).open(path).ok()
}

#[cfg(not(target_os = "linux"))]
fn open_direct(_path: &Path) -> Option<File> {
    None
}

struct OsFile {
    buffered: File,
    path: PathBuf,
    /// The same file, past the page cache, from the first aligned write on: most files are only
    /// read. Absent where opening it so is refused.
    direct: OnceLock<Option<File>>,
    /// Set when a direct write was refused for its alignment: some file systems open but
    /// do not write.
    refused_direct: AtomicBool,
}

impl OsFile {
    fn direct(&self) -> Option<&File> {
        let open = || open_direct(&self.path).filter(|direct| is_same(direct, &self.buffered));
        self.direct.get_or_init(open).as_ref()
    }
}

/// False if the name was given to another file since.
fn is_same(one: &File, other: &File) -> bool {
    let identity = |file: &File| file.metadata().ok().map(|data| (data.dev(), data.ino()));
    identity(one).is_some_and(|found| identity(other) == Some(found))
}

impl DiskFile for OsFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.buffered.metadata()?.len())
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        if self.size()? >= size {
            return Ok(());
        }
        allocate(&self.buffered, size)
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        if is_aligned(position, bytes)
            && !self.refused_direct.load(Ordering::Relaxed)
            && let Some(direct) = self.direct()
        {
            match write_whole(position, bytes, |at, part| direct.write_at(part, at)) {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.refused_direct.store(true, Ordering::Relaxed);
                }
                outcome => return outcome,
            }
        }
        write_whole(position, bytes, |at, part| self.buffered.write_at(part, at))
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        read_fully(&self.buffered, position, buffer)
    }

    fn sync(&self) -> io::Result<()> {
        self.buffered.sync_data()
    }
}

/// Reads up to the buffer's length; fewer bytes only at the end of the file.
pub(super) fn read_fully(file: &File, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
    read_whole(position, buffer, |at, part| file.read_at(part, at))
}

fn is_aligned(position: u64, bytes: &[u8]) -> bool {
    position.is_multiple_of(BLOCK as u64)
        && bytes.len().is_multiple_of(BLOCK)
        && bytes.as_ptr().addr().is_multiple_of(BLOCK)
}

#[cfg(target_os = "linux")]
fn allocate(file: &File, size: u64) -> io::Result<()> {
    let from = file.metadata()?.len();
    let flags = rustix::fs::FallocateFlags::empty();
    match rustix::io::retry_on_intr(|| rustix::fs::fallocate(file, flags, from, size - from)) {
        Err(rustix::io::Errno::OPNOTSUPP) => write_zeros(file, from, size),
        outcome => Ok(outcome?),
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(file: &File, size: u64) -> io::Result<()> {
    write_zeros(file, file.metadata()?.len(), size)
}

fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; 1 << 20];
    let mut position = from;
    while position < to {
        let length = zeros.len().min(usize::try_from(to - position).unwrap_or(usize::MAX));
        file.write_all_at(&zeros[..length], position)?;
        position += length as u64;
    }
    Ok(())
}
