//! Taking a point in time.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::manifest::BackupFile;
use super::name::hex;
use super::pins::{BackupPins, Pins};
use super::reader::BackupReader;
use crate::checkpoint::{checkpoint_name, snapshot};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{Place, ReadableFile, StoredFile};
use crate::format::{FORMAT_VERSION, GROUP_HEADER_BYTES, GroupHeader};
use crate::journal::Refusal;
use crate::position::{FileKey, Lsn, Timestamp};

/// A consistent point in time: its files stay as they are until they are read or this is dropped.
pub struct BackupPoint {
    engine: Arc<Engine>,
    lsn: Lsn,
    taken_at: Timestamp,
    damage: Vec<String>,
    checkpoint: Bytes,
    files: Vec<BackupFile>,
    pins: Arc<Pins>,
}

impl fmt::Debug for BackupPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupPoint").field("lsn", &self.lsn).finish_non_exhaustive()
    }
}

impl BackupPoint {
    /// The point after the last group that is durable now.
    pub(crate) fn take(engine: &Arc<Engine>) -> Result<Self> {
        let mut committer = engine.committer.lock();
        if let Some(Refusal::All(error)) = &engine.reservation.lock().refusal
            && *error.kind() == ErrorKind::Closed
        {
            return Err(error.clone());
        }
        // A sealed file is fetched once by backups to come. Little is not worth a file of its own,
        // and what cannot be sealed, because the journal failed, is taken as it is.
        let is_worthwhile = committer.file.position >= committer.file.slot.size / 4;
        if is_worthwhile && !engine.lacks_space() {
            committer.roll_early(engine);
        }
        // Pinned before the checkpoint is made: retention may take files out of the table
        // meanwhile, but none of those that the checkpoint then names.
        let finished = engine.files.all();
        let checkpoint = snapshot(engine);
        let writing = engine.files.readable(FileKey::journal(checkpoint.sequence));
        let slot_size = committer.file.slot.size;
        drop(committer);

        let encoded = Bytes::from(checkpoint.encode());
        let mut files = vec![BackupFile {
            name: checkpoint_name(1),
            id: format!("checkpoint-{:016}-{}", checkpoint.lsn, hex(&Sha256::digest(&encoded))),
            bytes: encoded.len() as u64,
            size: encoded.len() as u64,
        }];
        let mut pinned = vec![None];
        let journals = checkpoint.files.iter().map(|record| StoredFile::Journal(*record));
        let segments = checkpoint.segments.iter().map(|record| StoredFile::Segment(*record));
        let named: BTreeSet<FileKey> = journals.chain(segments).map(|file| file.key()).collect();
        for (stored, readable) in finished {
            if named.contains(&stored.key()) {
                let (name, id) = (name_of(&readable), id_of(&readable));
                let bytes = meaningful_bytes(engine, &readable);
                files.push(BackupFile { name, id, bytes, size: stored.size() });
                pinned.push(Some(readable));
            }
        }
        let Some(writing) = writing else { return Err(Error::closed()) };
        let bytes = writing.groups_end;
        assert_eq!(bytes, checkpoint.position, "nothing is committed while the lock is held");
        // It grows, so how much of it is there is a part of what it is.
        let id = format!("{}-to-{bytes}", id_of(&writing));
        files.push(BackupFile { name: name_of(&writing), id, bytes, size: slot_size });
        pinned.push(Some(writing));

        let pins = Arc::new(Pins::new(engine.parts.clock.monotonic(), pinned));
        engine.backups.add(&pins);
        Ok(Self {
            engine: Arc::clone(engine),
            lsn: checkpoint.lsn,
            taken_at: checkpoint.wall_time,
            damage: checkpoint.damage,
            checkpoint: encoded,
            files,
            pins,
        })
    }

    /// The last group in it.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// When it was taken, by the storage's clock.
    #[must_use]
    pub fn taken_at(&self) -> Timestamp {
        self.taken_at
    }

    /// Version of the format of its files.
    #[must_use]
    pub fn format_version(&self) -> u32 {
        FORMAT_VERSION
    }

    /// What the storage knows to be damaged, one sentence each.
    #[must_use]
    pub fn damage(&self) -> &[String] {
        &self.damage
    }

    /// Everything that is in it, in the order in which it is best read.
    #[must_use]
    pub fn files(&self) -> &[BackupFile] {
        &self.files
    }

    /// What keeps the files, for whoever must let them go.
    #[must_use]
    pub fn pins(&self) -> BackupPins {
        BackupPins { pins: Arc::downgrade(&self.pins) }
    }

    /// Nobody wants this file: it is let go.
    pub fn skip(&self, index: usize) {
        self.pins.release(index);
    }

    /// Begins to read one of the files, by its place in [`BackupPoint::files`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] if the storage was closed, that with which the pins were let go,
    /// [`ErrorKind::Io`].
    pub fn read(&self, index: usize) -> Result<BackupReader> {
        let pins = Arc::clone(&self.pins);
        if index == 0 {
            return BackupReader::memory(pins, self.checkpoint.clone());
        }
        BackupReader::file(&self.engine, pins, index, self.files[index].bytes)
    }
}

fn name_of(file: &ReadableFile) -> String {
    file.place.path(Path::new("")).to_string_lossy().into_owned()
}

/// Number and salt say which file it is, in whatever slot, and a finished file never changes.
fn id_of(file: &ReadableFile) -> String {
    let (number, salt) = (file.number(), hex(&file.salt));
    match file.place {
        Place::Slot(_) => format!("journal-{number:016}-{salt}"),
        Place::Segment { part, .. } => format!("segment-{number:016}-{part}-{salt}"),
    }
}

/// How much of a finished file means something: in a slot, the remains of an earlier life follow.
/// A footer that cannot be found is left out, as everything in it can be made again.
fn meaningful_bytes(engine: &Engine, file: &ReadableFile) -> u64 {
    let seal = match (file.place, file.seal) {
        (Place::Segment { .. }, _) => return file.end,
        (Place::Slot(_), None) => return file.groups_end,
        (Place::Slot(_), Some(seal)) => seal,
    };
    let mut bytes = [0; GROUP_HEADER_BYTES];
    let handle = engine.files.handle(file.place);
    let read = handle.map(|handle| handle.read_at(seal, &mut bytes));
    match GroupHeader::decode(&file.salt, file.number(), &bytes) {
        Ok(header) if matches!(read, Ok(Ok(GROUP_HEADER_BYTES))) && header.is_seal => {
            (seal + u64::from(header.length)).min(file.end)
        }
        _ => file.groups_end,
    }
}
