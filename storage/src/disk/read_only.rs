//! The operating system's files, for reading only: what looks at a directory through this disk
//! cannot change it.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::os::{LOCK_NAME, OsDisk, read_fully};
use super::{Disk, DiskFile, OpenMode};

/// The operating system's disk, where every call that would change something is refused.
///
/// Also serves directories on media that cannot be written, and files of another owner.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOnlyDisk;

struct ReadOnlyFile(File);

fn refused<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "opened for reading only"))
}

impl Disk for ReadOnlyDisk {
    /// Locks a directory that a process has opened before. One that nobody ever opened has no
    /// file to lock, and making one would change it.
    fn lock(&self, directory: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let file = match File::open(directory.join(LOCK_NAME)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Box::new(())),
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        OsDisk::default().list(directory)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        match mode {
            OpenMode::Existing => Ok(Arc::new(ReadOnlyFile(File::open(path)?))),
            OpenMode::CreateNew => refused(),
        }
    }

    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _path: &Path) -> io::Result<()> {
        refused()
    }

    fn sync_directory(&self, _directory: &Path) -> io::Result<()> {
        refused()
    }
}

impl DiskFile for ReadOnlyFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn allocate(&self, _size: u64) -> io::Result<()> {
        refused()
    }

    fn write_at(&self, _position: u64, _bytes: &[u8]) -> io::Result<()> {
        refused()
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        read_fully(&self.0, position, buffer)
    }

    fn sync(&self) -> io::Result<()> {
        refused()
    }
}
