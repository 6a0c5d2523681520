//! The way back: a data directory made of the files of a backup.
//!
//! ```text
//!  marker ─► the files, synced ─► checked against the manifest, grown to their size, synced
//!         ─► the whole directory verified ─► meshlog.format ─► the marker removed
//! ```
//!
//! A directory without `meshlog.format` is opened by nobody, and it comes last: a crash leaves a
//! data directory with everything in it or none at all. The marker tells what a crash left of a
//! restore from a directory that lost its format file, and only of the first anything is removed.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::folder::{BackupWriter, copy, list, lock, not_whole, write_error};
use super::manifest::{BackupManifest, StoredBackupFile};
use super::name::is_data_file;
use crate::checkpoint::{io_error, write_whole};
use crate::disk::{Disk, OpenMode};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{DirectoryFormat, FORMAT_FILE};
use crate::sabotage::barrier;
use crate::verify::{self, VerifyProgress, VerifyReport};

/// Present while a restore is under way. Its ending lets the next open of a finished directory
/// remove it, should a crash have left it.
pub(crate) const UNFINISHED_RESTORE: &str = "restore.unfinished";

/// A data directory that is being made. Dropped before [`Restore::finish`], it removes what it
/// wrote.
pub struct Restore {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    written: BTreeMap<String, (u64, [u8; 32])>,
    is_done: bool,
    _lock: Box<dyn Send + Sync>,
}

impl fmt::Debug for Restore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restore").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Restore {
    /// Begins in an empty directory, which is made if it is not there, or begins anew in one where
    /// a restore was interrupted.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Locked`], [`ErrorKind::Format`] if there is anything in it, [`ErrorKind::Io`].
    pub fn begin(directory: &Path, disk: Arc<dyn Disk>) -> Result<Self> {
        let lock = lock(disk.as_ref(), directory)?;
        let names = list(disk.as_ref(), directory)?;
        let has = |wanted: &str| names.iter().any(|name| name == wanted);
        let is_interrupted = has(UNFINISHED_RESTORE) && !has(FORMAT_FILE);
        let is_ours = |name: &&String| {
            let is_small = [UNFINISHED_RESTORE, "meshlog.unfinished"].contains(&name.as_str());
            is_interrupted && (is_data_file(name) || is_small)
        };
        if let Some(name) = names.iter().find(|name| !is_ours(name)) {
            return Err(Error::new(
                ErrorKind::Format,
                format!(
                    "{} is not empty: it holds {name}. Nothing is ever restored over something \
                     else; give a new or an empty directory",
                    directory.display()
                ),
            ));
        }
        for name in names.iter().filter(|name| *name != UNFINISHED_RESTORE) {
            let path = directory.join(name);
            disk.remove(&path).map_err(|error| io_error("remove", &path, error))?;
        }
        if !is_interrupted {
            let path = directory.join(UNFINISHED_RESTORE);
            let made = disk.open(&path, OpenMode::CreateNew);
            made.map_err(|error| write_error(&path, error))?;
        }
        let restore = Self {
            disk,
            directory: directory.to_owned(),
            written: BTreeMap::new(),
            is_done: false,
            _lock: lock,
        };
        restore.sync_directory()?;
        Ok(restore)
    }

    /// Adds a file under the name that the backup gives it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Format`] if that is not the name of a data file, or came before,
    /// [`ErrorKind::Corrupt`] if the source cannot be read to its end, [`ErrorKind::DiskFull`],
    /// [`ErrorKind::Io`].
    pub fn add(&mut self, name: &str, source: &mut dyn io::Read) -> Result<()> {
        if !is_data_file(name) || self.written.contains_key(name) {
            return Err(Error::new(
                ErrorKind::Format,
                format!(
                    "the backup holds {name:?}, which is no file of a data directory, or twice"
                ),
            ));
        }
        let path = self.directory.join(name);
        let mut writer = BackupWriter::create(Arc::clone(&self.disk), path, None)?;
        // From here on it is ours to remove.
        self.written.insert(name.to_owned(), (0, [0; 32]));
        let mut write_failed = None;
        let copied = copy(source, |bytes| {
            writer.write(bytes).map_err(|error| {
                write_failed = Some(error);
                io::Error::other("the copy cannot be written")
            })
        });
        if let Some(error) = write_failed {
            return Err(error);
        }
        copied.map_err(|error| {
            not_whole(Path::new(name), "it cannot be read to its end").caused_by(error)
        })?;
        self.written.insert(name.to_owned(), writer.finish()?);
        Ok(())
    }

    /// Checks that everything is there as the manifest says, verifies the whole directory, and
    /// makes it one that can be opened.
    ///
    /// What was damaged before it was backed up is in the report, and no error: everything else
    /// is served.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] if a file is missing, too many, or has another checksum;
    /// [`ErrorKind::DiskFull`], [`ErrorKind::Io`]. The directory is empty again then.
    pub fn finish(
        mut self,
        manifest: &BackupManifest,
        progress: &mut dyn FnMut(VerifyProgress),
    ) -> Result<VerifyReport> {
        manifest.check()?;
        for StoredBackupFile { file, sha256 } in &manifest.files {
            let path = Path::new(&file.name);
            match self.written.get(&file.name) {
                None => return Err(not_whole(path, "it is missing")),
                Some(written) if *written == (file.bytes, *sha256) => {}
                Some(_) => return Err(not_whole(path, "its checksum differs")),
            }
        }
        if self.written.len() > manifest.files.len() {
            let why = "the backup holds files that its manifest does not list";
            return Err(not_whole(&self.directory, why));
        }
        for stored in &manifest.files {
            self.grow(stored)?;
        }
        self.sync_directory()?;
        let mut report = VerifyReport::of(self.directory.clone());
        report.format_version = manifest.format_version;
        let report = verify::verify_files(&self.directory, self.disk.as_ref(), report, progress)?;
        let format = DirectoryFormat { version: manifest.format_version, ..Default::default() };
        let path = self.directory.join(FORMAT_FILE);
        let text = format.encode();
        write_whole(self.disk.as_ref(), &self.directory, &path, text.as_bytes())?;
        self.is_done = true;
        let marker = self.directory.join(UNFINISHED_RESTORE);
        if let Err(error) = self.remove(&marker).and_then(|()| self.sync_directory()) {
            tracing::debug!(%error, "the marker of the restore goes with the next open");
        }
        Ok(report)
    }

    /// A slot is longer than what it holds.
    fn grow(&self, stored: &StoredBackupFile) -> Result<()> {
        if stored.file.size == stored.file.bytes {
            return Ok(());
        }
        let path = self.directory.join(&stored.file.name);
        let file = self.disk.open(&path, OpenMode::Existing);
        let file = file.map_err(|error| io_error("open", &path, error))?;
        let sync = || barrier("the sync of a restored file", || file.sync());
        let grown = file.allocate(stored.file.size).and_then(|()| sync());
        grown.map_err(|error| write_error(&path, error))
    }

    /// Removes what was written: first what lets the directory be opened, last the marker, which
    /// says what the rest is.
    fn abandon(&self) -> Result<()> {
        let format = self.directory.join(FORMAT_FILE);
        self.remove(&format)?;
        self.remove(&format.with_extension("unfinished"))?;
        self.sync_directory()?;
        for name in self.written.keys() {
            self.remove(&self.directory.join(name))?;
        }
        self.sync_directory()?;
        self.remove(&self.directory.join(UNFINISHED_RESTORE))?;
        self.sync_directory()
    }

    fn remove(&self, path: &Path) -> Result<()> {
        match self.disk.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("remove", path, error))
            }
            _ => Ok(()),
        }
    }

    fn sync_directory(&self) -> Result<()> {
        barrier("the sync of restored names", || self.disk.sync_directory(&self.directory))
            .map_err(|error| io_error("sync", &self.directory, error))
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        if let Err(error) = self.abandon() {
            tracing::warn!(%error, "what an interrupted restore wrote stays");
        }
    }
}
