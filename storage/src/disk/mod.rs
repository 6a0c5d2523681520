//! The seams to the world: disk, clock and randomness. Only this folder touches any of them.
//!
//! [`OsDisk`] is the real one, [`ReadOnlyDisk`] the same without a way to change it, [`MemoryDisk`] keeps everything in the process,
//! [`SimulatedDisk`] keeps apart what is written and what is synced, and can lose power at any
//! call.

mod clock;
mod memory;
mod os;
mod random;
mod read_only;
mod simulated;
mod whole;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub use clock::{Clock, ManualClock, SystemClock};
pub use memory::MemoryDisk;
pub use os::{OsDisk, WriteMode};
pub use random::{Random, SeededRandom, SystemRandom};
pub use read_only::ReadOnlyDisk;
pub use simulated::{CrashPlan, Fault, Moment, SimulatedDisk};

/// Unit of alignment of journal writes, in bytes.
pub const BLOCK: usize = 4096;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// It must exist.
    Existing,
    /// It must not exist.
    CreateNew,
}

/// Room on a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Of everything on it together.
    pub total: u64,
    /// That this process can still take.
    pub free: u64,
}

/// A flat directory of files.
///
/// Nothing is durable before [`DiskFile::sync`] (bytes) and [`Disk::sync_directory`] (names).
pub trait Disk: Send + Sync {
    /// Makes the directory if needed and locks it until the guard is dropped. A second lock of
    /// the same directory answers [`io::ErrorKind::WouldBlock`].
    fn lock(&self, directory: &Path) -> io::Result<Box<dyn Send + Sync>>;

    /// The names of the files in the directory, in no order.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// Opens a file for reading and writing.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name, replacing what had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes creations, renames and removals durable.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;

    /// Room on the disk that holds the directory; `None`: it does not tell.
    fn space(&self, directory: &Path) -> io::Result<Option<Space>> {
        let _ = directory;
        Ok(None)
    }

    /// True if nothing survives the process.
    fn is_memory(&self) -> bool {
        false
    }
}

/// One open file.
pub trait DiskFile: Send + Sync {
    /// Length in bytes.
    fn size(&self) -> io::Result<u64>;

    /// Makes the file at least this long and takes the space for it, so that writing inside it
    /// never lacks space. The new bytes read as zero.
    fn allocate(&self, size: u64) -> io::Result<()>;

    /// Writes all bytes at a position.
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()>;

    /// Reads up to the buffer's length; fewer bytes only at the end of the file.
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Makes the bytes written so far durable. After an error nothing is known about them.
    fn sync(&self) -> io::Result<()>;
}

/// Reads a whole small file.
pub(crate) fn read_all(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let size = usize::try_from(file.size()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; size];
    let read = file.read_at(0, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}
