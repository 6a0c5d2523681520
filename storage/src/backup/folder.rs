//! A backup in a folder: one file each, named by what it is, and the manifest that makes a backup
//! of them.
//!
//! A newer backup adds the files that are not there yet, then replaces the manifest, then removes
//! what the manifest no longer lists. Each file is synced before it gets its name, and all names
//! before the manifest gets its own, so a crash at any moment leaves the old backup whole or the
//! new one. What an interrupted backup brought is kept and used by the next.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::manifest::{BackupManifest, MANIFEST_NAME, StoredBackupFile};
use super::name::is_id;
use crate::checkpoint::{io_error, write_whole};
use crate::disk::{Disk, DiskFile, OpenMode, read_all};
use crate::error::{Error, ErrorKind, Result};
use crate::position::Offset;
use crate::sabotage::barrier;

const READ_BYTES: usize = 1 << 20;
const UNFINISHED: &str = "unfinished";

/// A folder with a backup in it, or one that gets its first. Locked while this is there.
pub struct BackupFolder {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    manifest: Option<BackupManifest>,
    /// Files that are whole by their names, and what they are.
    whole: BTreeMap<String, (u64, [u8; 32])>,
    _lock: Box<dyn Send + Sync>,
}

impl fmt::Debug for BackupFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupFolder").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl BackupFolder {
    /// A folder to back up into; it is made if it is not there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Locked`] if another backup goes on in it, [`ErrorKind::Format`] if it holds
    /// anything but a backup, [`ErrorKind::Corrupt`] if its manifest is damaged,
    /// [`ErrorKind::Io`].
    pub fn open(directory: &Path, disk: Arc<dyn Disk>) -> Result<Self> {
        let lock = lock(disk.as_ref(), directory)?;
        let names = list(disk.as_ref(), directory)?;
        let is_ours = |name: &&String| *name == MANIFEST_NAME || is_id(name) || is_unfinished(name);
        if let Some(foreign) = names.iter().find(|name| !is_ours(name)) {
            return Err(Error::new(
                ErrorKind::Format,
                format!(
                    "{} holds {foreign}, which is no part of a backup: give an empty or a new \
                     directory, or one with a backup in it",
                    directory.display()
                ),
            ));
        }
        let manifest = match names.iter().any(|name| name == MANIFEST_NAME) {
            true => Some(read_manifest(disk.as_ref(), directory)?),
            false => None,
        };
        let mut folder = Self {
            disk,
            directory: directory.to_owned(),
            manifest,
            whole: BTreeMap::new(),
            _lock: lock,
        };
        folder.find_whole(&names)?;
        Ok(folder)
    }

    /// A backup to read from.
    ///
    /// # Errors
    ///
    /// As [`BackupFolder::open`]; [`ErrorKind::Format`] if there is none.
    pub fn existing(directory: &Path, disk: Arc<dyn Disk>) -> Result<Self> {
        let names = list(disk.as_ref(), directory)?;
        if !names.iter().any(|name| name == MANIFEST_NAME) {
            return Err(Error::new(
                ErrorKind::Format,
                format!(
                    "{} holds no {MANIFEST_NAME}: it is no backup, or the first one was never \
                     finished",
                    directory.display()
                ),
            ));
        }
        let lock = lock(disk.as_ref(), directory)?;
        let manifest = Some(read_manifest(disk.as_ref(), directory)?);
        let directory = directory.to_owned();
        Ok(Self { disk, directory, manifest, whole: BTreeMap::new(), _lock: lock })
    }

    /// What the backup in it holds, if there is one.
    #[must_use]
    pub fn manifest(&self) -> Option<&BackupManifest> {
        self.manifest.as_ref()
    }

    /// The files that need not be fetched, by id.
    pub fn have(&self) -> impl Iterator<Item = &str> {
        self.whole.keys().map(String::as_str)
    }

    /// Length and checksum of a file that is there.
    #[must_use]
    pub fn held(&self, id: &str) -> Option<(u64, [u8; 32])> {
        self.whole.get(id).copied()
    }

    /// Begins a file. It is there once [`BackupWriter::finish`] returned.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`], [`ErrorKind::DiskFull`].
    pub fn create(&self, id: &str) -> Result<BackupWriter> {
        assert!(is_id(id), "an id was checked when it came in");
        let to = self.directory.join(id);
        let from = to.with_extension(UNFINISHED);
        BackupWriter::create(Arc::clone(&self.disk), from, Some(to))
    }

    /// Makes this the backup in the folder; answers how many files of older ones went.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] if a file of the manifest is not there, [`ErrorKind::Io`]; the
    /// backup before is whole then.
    pub fn commit(mut self, manifest: &BackupManifest) -> Result<usize> {
        manifest.check()?;
        let disk = self.disk.as_ref();
        for StoredBackupFile { file, .. } in &manifest.files {
            let path = self.directory.join(&file.id);
            let opened = disk.open(&path, OpenMode::Existing).and_then(|opened| opened.size());
            if !opened.is_ok_and(|size| size == file.bytes) {
                return Err(not_whole(&path, "it is missing or has another length"));
            }
        }
        let synced =
            barrier("the sync of a backup's names", || disk.sync_directory(&self.directory));
        synced.map_err(|error| io_error("sync", &self.directory, error))?;
        let text = manifest.encode()?;
        let path = self.directory.join(MANIFEST_NAME);
        write_whole(disk, &self.directory, &path, text.as_bytes())?;

        let kept: BTreeSet<&str> = manifest.files.iter().map(|f| f.file.id.as_str()).collect();
        let mut removed = 0;
        for name in list(disk, &self.directory)? {
            if name != MANIFEST_NAME && !kept.contains(name.as_str()) {
                match disk.remove(&self.directory.join(&name)) {
                    Ok(()) => removed += 1,
                    // The next backup tries again.
                    Err(error) => tracing::warn!(%error, name, "a file of an older backup stays"),
                }
            }
        }
        self.manifest = Some(manifest.clone());
        Ok(removed)
    }

    /// A file of the backup in the folder, to be read once.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] if it is missing or has another length, [`ErrorKind::Io`].
    pub fn read(&self, stored: &StoredBackupFile) -> Result<impl io::Read + use<>> {
        let path = self.directory.join(&stored.file.id);
        let file = match self.disk.open(&path, OpenMode::Existing) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(not_whole(&path, "it is missing"));
            }
            Err(error) => return Err(io_error("open", &path, error)),
        };
        Ok(Reading { file, position: 0 })
    }

    /// Files that a manifest or their name says to be whole; removes what was never finished.
    fn find_whole(&mut self, names: &[String]) -> Result<()> {
        let listed: BTreeMap<String, (u64, [u8; 32])> = self
            .manifest
            .iter()
            .flat_map(|manifest| &manifest.files)
            .map(|stored| (stored.file.id.clone(), (stored.file.bytes, stored.sha256)))
            .collect();
        for name in names.iter().filter(|name| *name != MANIFEST_NAME) {
            let path = self.directory.join(name);
            if is_unfinished(name) {
                let removed = self.disk.remove(&path);
                removed.map_err(|error| io_error("remove", &path, error))?;
                continue;
            }
            let opened = self.disk.open(&path, OpenMode::Existing);
            let file = opened.map_err(|error| io_error("open", &path, error))?;
            let size = file.size().map_err(|error| io_error("read", &path, error))?;
            let sum = match listed.get(name) {
                Some((bytes, _)) if *bytes != size => continue,
                Some((_, sha256)) => *sha256,
                // Brought by a backup that was interrupted; only this disk knows what it is.
                None => {
                    let mut hash = Sha256::new();
                    let mut reading = Reading { file, position: 0 };
                    copy(&mut reading, |bytes| {
                        hash.update(bytes);
                        Ok(())
                    })
                    .map_err(|error| io_error("read", &path, error))?;
                    hash.finalize().into()
                }
            };
            self.whole.insert(name.clone(), (size, sum));
        }
        Ok(())
    }
}

/// A file being written.
pub struct BackupWriter {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// The name it gets once it is synced.
    finished: Option<PathBuf>,
    file: Arc<dyn DiskFile>,
    position: u64,
    hash: Sha256,
}

impl fmt::Debug for BackupWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupWriter").field("path", &self.path).finish_non_exhaustive()
    }
}

impl BackupWriter {
    pub(super) fn create(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        finished: Option<PathBuf>,
    ) -> Result<Self> {
        if finished.is_some() {
            match disk.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("remove", &path, error));
                }
                _ => {}
            }
        }
        let opened = disk.open(&path, OpenMode::CreateNew);
        let file = opened.map_err(|error| io_error("create", &path, error))?;
        Ok(Self { disk, path, finished, file, position: 0, hash: Sha256::new() })
    }

    /// Adds bytes at the end.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::DiskFull`], [`ErrorKind::Io`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_at(self.position, bytes).map_err(|error| write_error(&self.path, error))?;
        self.hash.update(bytes);
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Syncs it, and gives it its name; answers length and SHA-256.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::DiskFull`], [`ErrorKind::Io`].
    pub fn finish(self) -> Result<(u64, [u8; 32])> {
        barrier("the sync of a backup's file", || self.file.sync())
            .map_err(|error| write_error(&self.path, error))?;
        if let Some(finished) = &self.finished {
            let renamed = self.disk.rename(&self.path, finished);
            renamed.map_err(|error| io_error("rename", &self.path, error))?;
        }
        Ok((self.position, self.hash.finalize().into()))
    }
}

struct Reading {
    file: Arc<dyn DiskFile>,
    position: u64,
}

impl io::Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(self.position, buffer)?;
        self.position += read as u64;
        Ok(read)
    }
}

/// Hands all bytes of a source on, a megabyte at a time.
pub(super) fn copy<E: From<io::Error>>(
    source: &mut dyn io::Read,
    mut to: impl FnMut(&[u8]) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => to(&buffer[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The error of a write, which may be that there is no space.
pub(super) fn write_error(path: &Path, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::StorageFull {
        let message =
            format!("there is no space for {}: free some, then try again", path.display());
        return Error::new(ErrorKind::DiskFull, message).caused_by(error);
    }
    io_error("write", path, error)
}

pub(super) fn not_whole(path: &Path, why: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt { next_readable: Offset(0) },
        format!("{} of the backup is not whole ({why}): use another backup", path.display()),
    )
}

pub(super) fn list(disk: &dyn Disk, directory: &Path) -> Result<Vec<String>> {
    disk.list(directory).map_err(|error| io_error("list", directory, error))
}

pub(super) fn lock(disk: &dyn Disk, directory: &Path) -> Result<Box<dyn Send + Sync>> {
    disk.lock(directory).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Error::new(
            ErrorKind::Locked,
            format!("{} is in use by another process: wait until it ends", directory.display()),
        ),
        _ => io_error("lock", directory, error),
    })
}

/// A file or a manifest that was being written.
fn is_unfinished(name: &str) -> bool {
    let stem = name.strip_suffix(UNFINISHED).and_then(|name| name.strip_suffix('.'));
    stem.is_some_and(|stem| is_id(stem) || MANIFEST_NAME.strip_suffix(".backup") == Some(stem))
}

fn read_manifest(disk: &dyn Disk, directory: &Path) -> Result<BackupManifest> {
    let path = directory.join(MANIFEST_NAME);
    let bytes = disk.open(&path, OpenMode::Existing).and_then(|file| read_all(file.as_ref()));
    BackupManifest::decode(&bytes.map_err(|error| io_error("read", &path, error))?)
}
