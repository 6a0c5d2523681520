//! A backup as one file: a tar archive, compressed with zstd, whose last member is the manifest.
//!
//! Reading takes an archive from anywhere: members that are not plain files with a name of ours
//! are refused before a byte of them is looked at, so nothing is ever written outside of the
//! directory that is restored into.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use meshlog_broker::backup::{BackupFile, BackupManifest, MANIFEST_NAME, StoredBackupFile};
use sha2::{Digest as _, Sha256};
use zstd::stream::{read::Decoder, write::Encoder};

use super::failure;
use crate::exit::{Exit, Failure, Result};

/// Tar's unit: members begin and end at one.
const BLOCK: u64 = 512;
/// Much faster than any disk, and half the size for text.
const LEVEL: i32 = 1;
/// Longest manifest that is read into memory.
const MANIFEST_BYTES_MAX: u64 = 96 << 20;
/// What may follow the last member: tar fills up its last record.
const TRAILER_BYTES_MAX: usize = 1 << 20;

/// A file being written beside its final name.
pub(super) struct ArchiveWriter {
    path: PathBuf,
    unfinished: PathBuf,
    packed: Option<Encoder<'static, BufWriter<File>>>,
    time: u64,
    left: u64,
    hash: Sha256,
    length: u64,
}

impl ArchiveWriter {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".unfinished");
        let unfinished = PathBuf::from(unfinished);
        // It holds everything that is in the data directory, and is for the same eyes.
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&unfinished).map_err(|error| unwritable(path, &error))?;
        let mut packed = Encoder::new(BufWriter::with_capacity(1 << 20, file), LEVEL)
            .map_err(|error| unwritable(path, &error))?;
        packed.include_checksum(true).map_err(|error| unwritable(path, &error))?;
        Ok(Self {
            path: path.to_owned(),
            unfinished,
            packed: Some(packed),
            time: 0,
            left: 0,
            hash: Sha256::new(),
            length: 0,
        })
    }

    /// When the backup was taken, in seconds since 1970; the members' time.
    pub(super) fn set_time(&mut self, seconds: u64) {
        self.time = seconds;
    }

    pub(super) fn begin(&mut self, file: &BackupFile) -> Result<()> {
        self.begin_member(&file.name, file.bytes)
    }

    fn begin_member(&mut self, name: &str, bytes: u64) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_path(name).map_err(|error| unwritable(&self.path, &error))?;
        header.set_size(bytes);
        header.set_mode(0o600);
        header.set_mtime(self.time);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        (self.left, self.length, self.hash) = (bytes, bytes, Sha256::new());
        self.put(header.as_bytes())
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        assert!(bytes.len() as u64 <= self.left, "who writes knows how long the member is");
        self.left -= bytes.len() as u64;
        self.hash.update(bytes);
        self.put(bytes)
    }

    pub(super) fn end(&mut self) -> Result<(u64, [u8; 32])> {
        if self.left > 0 {
            return Err(protocol("a file is shorter than it was said to be"));
        }
        let padding = (BLOCK - self.length % BLOCK) % BLOCK;
        self.put(&[0; BLOCK as usize][..padding as usize])?;
        Ok((self.length, std::mem::take(&mut self.hash).finalize().into()))
    }

    /// Adds the manifest, syncs the file and gives it its name.
    pub(super) fn commit(mut self, manifest: &BackupManifest) -> Result<()> {
        let text = manifest.encode().map_err(failure)?;
        self.begin_member(MANIFEST_NAME, text.len() as u64)?;
        self.write(text.as_bytes())?;
        self.end()?;
        self.put(&[0; 2 * BLOCK as usize])?;
        let Some(packed) = self.packed.take() else { return Ok(()) };
        let finished = packed.finish().and_then(|file| {
            let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
            std::fs::rename(&self.unfinished, &self.path)?;
            let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
        });
        finished.map_err(|error| unwritable(&self.path, &error))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(packed) = &mut self.packed else { return Ok(()) };
        packed.write_all(bytes).map_err(|error| unwritable(&self.path, &error))
    }
}

impl Drop for ArchiveWriter {
    fn drop(&mut self) {
        if self.packed.take().is_some() {
            // It is of no use, and the next backup would write over it.
            let _ = std::fs::remove_file(&self.unfinished);
        }
    }
}

/// An archive being read.
pub(crate) struct ArchiveReader {
    path: PathBuf,
    archive: tar::Archive<Decoder<'static, BufReader<File>>>,
}

/// One member of an archive.
pub(crate) enum Member<'a> {
    /// A file under this name, to be read to its end.
    File(&'a str, &'a mut dyn Read),
    /// The last one.
    Manifest(BackupManifest),
}

impl ArchiveReader {
    /// Opens an archive; what is in it is found out while it is read.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| {
            Failure::new(Exit::Error, format!("{} cannot be opened: {error}", path.display()))
        })?;
        let unpacked = Decoder::new(file).map_err(|error| damaged(path, &error))?;
        Ok(Self { path: path.to_owned(), archive: tar::Archive::new(unpacked) })
    }

    /// Hands over every member in turn.
    pub(crate) fn for_each(
        mut self,
        mut visit: impl FnMut(Member<'_>) -> Result<()>,
    ) -> Result<()> {
        let path = self.path.clone();
        let mut has_manifest = false;
        // Raw: long names and other extensions of tar are members like others, and refused.
        let members = self.archive.entries().map_err(|error| damaged(&path, &error))?;
        for member in members.raw(true) {
            let mut member = member.map_err(|error| damaged(&path, &error))?;
            if has_manifest {
                return Err(damaged(&path, "something follows the manifest"));
            }
            let is_file = member.header().entry_type() == tar::EntryType::Regular;
            let name = String::from_utf8(member.path_bytes().into_owned());
            let Some(name) = name.ok().filter(|_| is_file) else {
                return Err(damaged(&path, "it holds something else than plain files"));
            };
            if name == MANIFEST_NAME {
                has_manifest = true;
                if member.size() > MANIFEST_BYTES_MAX {
                    return Err(damaged(&path, "its manifest is longer than any"));
                }
                let mut text = Vec::new();
                member.read_to_end(&mut text).map_err(|error| damaged(&path, &error))?;
                visit(Member::Manifest(BackupManifest::decode(&text).map_err(failure)?))?;
            } else {
                let bytes = member.size();
                let mut exact = Exact { inner: &mut member, left: bytes };
                visit(Member::File(&name, &mut exact))?;
            }
        }
        if !has_manifest {
            return Err(damaged(&path, "it is cut short: the manifest at its end is missing"));
        }
        // The checksum of the compression stands behind everything.
        let mut rest = Vec::new();
        let rest_read = self.archive.into_inner().take(TRAILER_BYTES_MAX as u64 + 1);
        let mut rest_read = rest_read;
        rest_read.read_to_end(&mut rest).map_err(|error| damaged(&path, &error))?;
        if rest.len() > TRAILER_BYTES_MAX || rest.iter().any(|byte| *byte != 0) {
            return Err(damaged(&path, "something follows its end"));
        }
        Ok(())
    }

    /// Reads everything and compares checksums; answers what it holds.
    pub(crate) fn check_all(self) -> Result<BackupManifest> {
        let path = self.path.clone();
        let mut sums = std::collections::BTreeMap::new();
        let mut manifest = None;
        self.for_each(|member| {
            match member {
                Member::File(name, source) => {
                    let sum = sum(source).map_err(|error| damaged(&path, &error))?;
                    if sums.insert(name.to_owned(), sum).is_some() {
                        return Err(damaged(&path, format_args!("it holds {name} twice")));
                    }
                }
                Member::Manifest(found) => manifest = Some(found),
            }
            Ok(())
        })?;
        let Some(manifest) = manifest else { return Err(super::no_backup(&path)) };
        for StoredBackupFile { file, sha256 } in &manifest.files {
            if sums.remove(&file.name) != Some((file.bytes, *sha256)) {
                return Err(not_as_listed(&file.name));
            }
        }
        match sums.pop_first() {
            None => Ok(manifest),
            Some((name, _)) => Err(not_as_listed(&name)),
        }
    }
}

/// A member whose end must be there.
struct Exact<'a> {
    inner: &'a mut dyn Read,
    left: u64,
}

impl Read for Exact<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if read == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}

/// Compares one file with what the manifest says of it.
pub(super) fn check(stored: &StoredBackupFile, source: &mut dyn Read) -> Result<()> {
    let sum = sum(source).map_err(|error| {
        let id = &stored.file.id;
        Failure::new(Exit::Corruption, format!("{id} cannot be read to its end: {error}"))
    })?;
    if sum == (stored.file.bytes, stored.sha256) {
        return Ok(());
    }
    Err(not_as_listed(&stored.file.name))
}

fn sum(source: &mut dyn Read) -> io::Result<(u64, [u8; 32])> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut length = 0;
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok((length, hash.finalize().into())),
            Ok(read) => {
                hash.update(&buffer[..read]);
                length += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn not_as_listed(name: &str) -> Failure {
    Failure::new(
        Exit::Corruption,
        format!("{name} in the backup is not what its manifest says: use another backup"),
    )
}

fn damaged(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::new(
        Exit::Corruption,
        format!("{} is not a whole backup ({why}): use another one", path.display()),
    )
}

/// A broker that does not keep to the contract.
pub(super) fn protocol(why: &str) -> Failure {
    Failure::new(
        Exit::Error,
        format!("the broker sent no backup as the contract describes it ({why}); report it"),
    )
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Error, format!("{} cannot be written: {error}", path.display()))
}
