//! Reading one file of a point in time, and checking what is read: a backup of damaged bytes must
//! not look like one of good ones.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::pins::Pins;
use crate::disk::{BLOCK, DiskFile};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::files::{Place, ReadableFile};
use crate::format::{FILE_HEADER_BYTES, FileHeader, SegmentHeader};
use crate::position::Lsn;
use crate::recovery::Scanner;

const WINDOW: usize = 1 << 20;
/// Damaged places of one file that are told apart.
const DAMAGE_MAX: usize = 100;

/// Reads one file of a [`super::BackupPoint`] from its beginning to its end.
pub struct BackupReader {
    pins: Arc<Pins>,
    source: Source,
    position: u64,
    end: u64,
    hash: Sha256,
    damage: Vec<String>,
}

impl fmt::Debug for BackupReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupReader").field("position", &self.position).finish_non_exhaustive()
    }
}

/// What a whole file was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadBack {
    /// Of its bytes.
    pub sha256: [u8; 32],
    /// What is damaged in it, one sentence each. Its bytes were read all the same.
    pub damage: Vec<String>,
}

enum Source {
    Memory(Bytes),
    File(Box<FileSource>),
}

struct FileSource {
    engine: Arc<Engine>,
    index: usize,
    file: Arc<ReadableFile>,
    handle: Arc<dyn DiskFile>,
    scanner: Scanner,
    is_header_checked: bool,
    /// Groups before it were checked.
    checked: u64,
}

impl BackupReader {
    /// A file that is in memory.
    pub(super) fn memory(pins: Arc<Pins>, bytes: Bytes) -> Result<Self> {
        pins.file(0)?;
        let end = bytes.len() as u64;
        Ok(Self::new(pins, Source::Memory(bytes), end))
    }

    /// The first `end` bytes of a pinned file.
    pub(super) fn file(
        engine: &Arc<Engine>,
        pins: Arc<Pins>,
        index: usize,
        end: u64,
    ) -> Result<Self> {
        let file = pins.file(index)?.ok_or_else(Error::closed)?;
        let handle = engine.files.handle(file.place)?;
        let scanner = Scanner::with_window(Arc::clone(&handle), file.salt, file.number(), WINDOW);
        let checked = FILE_HEADER_BYTES as u64;
        let engine = Arc::clone(engine);
        let source =
            FileSource { engine, index, file, handle, scanner, is_header_checked: false, checked };
        Ok(Self::new(pins, Source::File(Box::new(source)), end))
    }

    fn new(pins: Arc<Pins>, source: Source, end: u64) -> Self {
        Self { pins, source, position: 0, end, hash: Sha256::new(), damage: Vec::new() }
    }

    /// The next bytes, at most so many; `None` at the end.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::Closed`] if the storage was closed, or that with which the pins were let
    /// go. Damage is no error: the bytes are given as they are, and those that the disk does not give as zeros.
    pub fn next(&mut self, bytes_max: usize) -> Result<Option<Bytes>> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let length = left.min(bytes_max);
        if length == 0 {
            return Ok(None);
        }
        let bytes = match &mut self.source {
            Source::Memory(bytes) => {
                let start = bytes.len() - left;
                bytes.slice(start..start + length)
            }
            Source::File(source) => {
                self.pins.file(source.index)?;
                source.check(self.position + length as u64, &mut self.damage)?;
                source.read(self.position, length, &mut self.damage)?
            }
        };
        self.hash.update(&bytes);
        self.position += length as u64;
        Ok(Some(bytes))
    }

    /// What the file was, after [`BackupReader::next`] answered `None`; lets go of it.
    #[must_use]
    pub fn finish(self) -> ReadBack {
        if let Source::File(source) = &self.source {
            self.pins.release(source.index);
        }
        ReadBack { sha256: self.hash.finalize().into(), damage: self.damage }
    }
}

impl FileSource {
    /// Bytes as they are; those that the disk does not give are zeros, and damage.
    fn read(&self, position: u64, length: usize, damage: &mut Vec<String>) -> Result<Bytes> {
        let mut bytes = vec![0; length];
        if !matches!(self.handle.read_at(position, &mut bytes), Ok(read) if read == length) {
            for (index, block) in bytes.chunks_mut(BLOCK).enumerate() {
                let at = position + (index * BLOCK) as u64;
                let wanted = block.len();
                match self.handle.read_at(at, block) {
                    Ok(read) if read == wanted => {}
                    outcome => {
                        block.fill(0);
                        let why = outcome.map_or_else(|e| e.to_string(), |_| "cut short".into());
                        self.add(damage, at, at + wanted as u64, &why);
                    }
                }
            }
        }
        // A closed storage has no lock: another process may have used the file again meanwhile.
        if self.engine.is_stopping() {
            return Err(Error::closed());
        }
        Ok(bytes.into())
    }

    /// Checks the groups that begin before `until`.
    fn check(&mut self, until: u64, damage: &mut Vec<String>) -> Result<()> {
        let end = self.file.groups_end;
        if !self.is_header_checked {
            self.is_header_checked = true;
            self.check_header(damage)?;
        }
        while self.checked < until.min(end) {
            let at = self.checked;
            // What the disk does not give was said to be damaged; where it goes on is not known.
            self.checked = end;
            let why = match self.scanner.group(at, end) {
                Ok(Ok(group)) => {
                    self.checked = at + u64::from(group.header.length);
                    let mut is_whole = true;
                    for frame in &group.frames {
                        let payload = self.scanner.payload(&group, frame);
                        is_whole &= payload.is_ok_and(|p| crc32fast::hash(p) == frame.payload_crc);
                    }
                    if is_whole {
                        continue;
                    }
                    "the checksum of a batch differs".to_owned()
                }
                Ok(Err(why)) => {
                    if let Ok(Some(newer)) = self.scanner.find_newer(at, end, Lsn(0)) {
                        self.checked = newer.position;
                    }
                    why.0.to_owned()
                }
                Err(error) => error.to_string(),
            };
            self.add(damage, at, self.checked, &why);
        }
        Ok(())
    }

    /// Both copies of the header: one of them is enough.
    fn check_header(&mut self, damage: &mut Vec<String>) -> Result<()> {
        let header = self.read(0, FILE_HEADER_BYTES, damage)?;
        let is_ours = match self.file.place {
            Place::Slot(_) => FileHeader::decode(&header).is_ok_and(|h| h.salt == self.file.salt),
            Place::Segment { .. } => {
                SegmentHeader::decode(&header).is_ok_and(|h| h.0.salt == self.file.salt)
            }
        };
        if !is_ours {
            self.add(damage, 0, FILE_HEADER_BYTES as u64, "no copy of its header is whole");
        }
        Ok(())
    }

    fn add(&self, damage: &mut Vec<String>, from: u64, to: u64, why: &str) {
        if damage.len() < DAMAGE_MAX {
            let path = self.file.place.path(&self.engine.options.directory);
            damage.push(format!("{} is damaged from {from} to {to}: {why}", path.display()));
        }
    }
}
