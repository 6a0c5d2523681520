//! Where a backup goes.

use std::path::Path;
use std::sync::Arc;

use meshlog_broker::backup::{
    BackupFile, BackupFolder, BackupManifest, BackupWriter, OsDisk, StoredBackupFile,
};

use super::archive::ArchiveWriter;
use super::failure;
use crate::exit::{Failure, Result};

const SUFFIX: &str = ".tar.zst";

/// A file or a directory that gets a backup.
pub(super) enum Target {
    Archive(Box<ArchiveWriter>),
    Folder(Box<BackupFolder>, Option<BackupWriter>),
}

impl Target {
    /// What `--to` names.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() || path.to_string_lossy().ends_with('/') {
            return Self::folder(path);
        }
        if name.ends_with(SUFFIX) {
            return Ok(Self::Archive(Box::new(ArchiveWriter::create(path)?)));
        }
        let is_other_archive =
            [".tar", ".zst", ".tgz", ".gz", ".zip"].iter().any(|suffix| name.ends_with(suffix));
        if is_other_archive || path.is_file() {
            return Err(Failure::usage(format!(
                "{} is neither a directory nor a file that ends in {SUFFIX}: name one of these",
                path.display()
            )));
        }
        Self::folder(path)
    }

    fn folder(path: &Path) -> Result<Self> {
        let folder = BackupFolder::open(path, Arc::new(OsDisk::default())).map_err(failure)?;
        Ok(Self::Folder(Box::new(folder), None))
    }

    /// Ids of the files that need not be sent.
    pub(super) fn have(&self, at_most: usize) -> Vec<String> {
        match self {
            Self::Archive(_) => Vec::new(),
            Self::Folder(folder, _) => folder.have().take(at_most).map(str::to_owned).collect(),
        }
    }

    /// A file that is there already.
    pub(super) fn held(&self, file: &BackupFile) -> Option<StoredBackupFile> {
        let Self::Folder(folder, _) = self else { return None };
        let (bytes, sha256) = folder.held(&file.id)?;
        Some(StoredBackupFile { file: BackupFile { bytes, ..file.clone() }, sha256 })
    }

    pub(super) fn set_time(&mut self, seconds: u64) {
        if let Self::Archive(archive) = self {
            archive.set_time(seconds);
        }
    }

    pub(super) fn begin(&mut self, file: &BackupFile) -> Result<()> {
        match self {
            Self::Archive(archive) => archive.begin(file),
            Self::Folder(folder, writer) => {
                *writer = Some(folder.create(&file.id).map_err(failure)?);
                Ok(())
            }
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Archive(archive) => archive.write(bytes),
            Self::Folder(_, Some(writer)) => writer.write(bytes).map_err(failure),
            Self::Folder(_, None) => Err(super::archive::protocol("bytes of no file")),
        }
    }

    /// Length and SHA-256 of the file that was begun.
    pub(super) fn end(&mut self) -> Result<(u64, [u8; 32])> {
        match self {
            Self::Archive(archive) => archive.end(),
            Self::Folder(_, writer) => match writer.take() {
                Some(writer) => writer.finish().map_err(failure),
                None => Err(super::archive::protocol("the end of no file")),
            },
        }
    }

    pub(super) fn commit(self, manifest: &BackupManifest) -> Result<()> {
        match self {
            Self::Archive(archive) => archive.commit(manifest),
            Self::Folder(folder, _) => folder.commit(manifest).map(drop).map_err(failure),
        }
    }
}
