//! A disk in memory: capped, nothing survives the process.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::{Disk, DiskFile, OpenMode};

/// Files as vectors. Space is counted by what is written, not by what is allocated.
#[derive(Clone)]
pub struct MemoryDisk {
    shared: Arc<Shared>,
}

struct Shared {
    capacity: u64,
    used: AtomicU64,
    locked: AtomicBool,
    files: Mutex<HashMap<PathBuf, Arc<MemoryFile>>>,
}

struct MemoryFile {
    disk: std::sync::Weak<Shared>,
    content: RwLock<Content>,
}

#[derive(Default)]
struct Content {
    /// Bytes written; what is allocated beyond reads as zero and takes no memory.
    bytes: Vec<u8>,
    size: u64,
}

impl MemoryDisk {
    /// A disk that holds at most this many bytes.
    #[must_use]
    pub fn with_capacity(capacity: u64) -> Self {
        Self {
            shared: Arc::new(Shared {
                capacity,
                used: AtomicU64::new(0),
                locked: AtomicBool::new(false),
                files: Mutex::default(),
            }),
        }
    }
}

struct Lock(Arc<Shared>);

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.locked.store(false, Ordering::SeqCst);
    }
}

impl Disk for MemoryDisk {
    fn lock(&self, _directory: &Path) -> io::Result<Box<dyn Send + Sync>> {
        if self.shared.locked.swap(true, Ordering::SeqCst) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Lock(Arc::clone(&self.shared))))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let files = self.shared.files.lock();
        let inside = files.keys().filter(|path| path.parent() == Some(directory));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut files = self.shared.files.lock();
        match (files.get(path), mode) {
            (Some(file), OpenMode::Existing) => Ok(Arc::clone(file) as Arc<dyn DiskFile>),
            (Some(_), OpenMode::CreateNew) => Err(io::ErrorKind::AlreadyExists.into()),
            (None, OpenMode::Existing) => Err(io::ErrorKind::NotFound.into()),
            (None, OpenMode::CreateNew) => {
                let file = Arc::new(MemoryFile {
                    disk: Arc::downgrade(&self.shared),
                    content: RwLock::default(),
                });
                files.insert(path.to_owned(), Arc::clone(&file));
                Ok(file)
            }
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.shared.files.lock();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.shared.files.lock().remove(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(())
    }

    fn sync_directory(&self, _directory: &Path) -> io::Result<()> {
        Ok(())
    }

    fn is_memory(&self) -> bool {
        true
    }
}

impl DiskFile for MemoryFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.content.read().size)
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        let mut content = self.content.write();
        let more = size.saturating_sub(content.size);
        if let Some(disk) = self.disk.upgrade() {
            let used = disk.used.fetch_add(more, Ordering::SeqCst) + more;
            if used > disk.capacity {
                disk.used.fetch_sub(more, Ordering::SeqCst);
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        content.size += more;
        Ok(())
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.allocate(position + bytes.len() as u64)?;
        let start = usize::try_from(position).map_err(io::Error::other)?;
        let mut content = self.content.write();
        if content.bytes.len() < start {
            content.bytes.resize(start, 0);
        }
        let overlap = (content.bytes.len() - start).min(bytes.len());
        content.bytes[start..start + overlap].copy_from_slice(&bytes[..overlap]);
        content.bytes.extend_from_slice(&bytes[overlap..]);
        Ok(())
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let content = self.content.read();
        let available = content.size.saturating_sub(position);
        let wanted = buffer.len().min(usize::try_from(available).unwrap_or(usize::MAX));
        let start = usize::try_from(position).map_err(io::Error::other)?.min(content.bytes.len());
        let written = (content.bytes.len() - start).min(wanted);
        buffer[..written].copy_from_slice(&content.bytes[start..start + written]);
        buffer[written..wanted].fill(0);
        Ok(wanted)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        if let Some(disk) = self.disk.upgrade() {
            disk.used.fetch_sub(self.content.get_mut().size, Ordering::SeqCst);
        }
    }
}
