//! The journal files that hold readable records: the one being written and the finished ones.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::{Error, ErrorKind, Result};
use crate::format::FileRecord;
use crate::journal::slot_path;
use crate::position::FileSequence;

/// Open handles kept for readers.
const HANDLES_MAX: usize = 512;

/// What a reader must know of a file. While somebody holds it, its slot is not recycled.
#[derive(Debug)]
pub(crate) struct ReadableFile {
    pub(crate) sequence: FileSequence,
    pub(crate) slot: u32,
    pub(crate) salt: [u8; 16],
    /// One past the last group with records.
    pub(crate) groups_end: u64,
    /// Nothing may be read from here on: the durable end of the file being written, or the size
    /// of a finished one.
    pub(crate) end: u64,
}

/// All journal files, for readers.
pub(crate) struct Files {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    table: RwLock<Table>,
    handles: Mutex<Handles>,
}

#[derive(Default)]
struct Table {
    finished: BTreeMap<FileSequence, (FileRecord, Arc<ReadableFile>)>,
    active: Option<ReadableFile>,
}

#[derive(Default)]
struct Handles {
    open: BTreeMap<u32, Arc<dyn DiskFile>>,
    order: VecDeque<u32>,
}

impl Files {
    pub(crate) fn new(disk: Arc<dyn Disk>, directory: PathBuf) -> Self {
        Self { disk, directory, table: RwLock::default(), handles: Mutex::default() }
    }

    /// The file being written changes; the one before it is in the table already.
    pub(crate) fn begin(&self, sequence: FileSequence, slot: u32, salt: [u8; 16], end: u64) {
        let groups_end = end;
        self.table.write().active = Some(ReadableFile { sequence, slot, salt, groups_end, end });
    }

    /// More of the file being written is durable.
    pub(crate) fn advance(&self, end: u64) {
        if let Some(active) = &mut self.table.write().active {
            assert!(active.end <= end, "a journal file only grows");
            active.end = end;
            active.groups_end = end;
        }
    }

    /// A file is finished.
    pub(crate) fn finish(&self, record: FileRecord) {
        let file = ReadableFile {
            sequence: record.sequence,
            slot: record.slot,
            salt: record.salt,
            groups_end: record.end,
            // The seal lies behind the last group.
            end: record.size,
        };
        let mut table = self.table.write();
        table.finished.insert(record.sequence, (record, Arc::new(file)));
    }

    /// Takes a finished file out if no reader holds it.
    pub(crate) fn remove(&self, sequence: FileSequence) -> Option<FileRecord> {
        let mut table = self.table.write();
        let (_, file) = table.finished.get(&sequence)?;
        if Arc::strong_count(file) > 1 {
            return None;
        }
        let (record, _) = table.finished.remove(&sequence)?;
        let mut handles = self.handles.lock();
        handles.open.remove(&record.slot);
        handles.order.retain(|slot| *slot != record.slot);
        Some(record)
    }

    /// The file of this sequence, held for reading.
    pub(crate) fn readable(&self, sequence: FileSequence) -> Option<Arc<ReadableFile>> {
        let table = self.table.read();
        if let Some((_, file)) = table.finished.get(&sequence) {
            return Some(Arc::clone(file));
        }
        let active = table.active.as_ref().filter(|active| active.sequence == sequence)?;
        Some(Arc::new(ReadableFile { ..*active }))
    }

    /// The record of a finished file.
    pub(crate) fn record(&self, sequence: FileSequence) -> Option<FileRecord> {
        self.table.read().finished.get(&sequence).map(|(record, _)| *record)
    }

    /// Finished files, oldest first.
    pub(crate) fn records(&self) -> Vec<FileRecord> {
        self.table.read().finished.values().map(|(record, _)| *record).collect()
    }

    /// The newest finished file not after this one.
    pub(crate) fn finished_at_or_before(&self, sequence: FileSequence) -> Option<FileSequence> {
        self.table.read().finished.range(..=sequence).next_back().map(|(sequence, _)| *sequence)
    }

    /// Sequences of finished files from `first` to `last`, both included.
    pub(crate) fn finished_between(
        &self,
        first: FileSequence,
        last: FileSequence,
    ) -> Vec<FileSequence> {
        self.table.read().finished.range(first..=last).map(|(sequence, _)| *sequence).collect()
    }

    /// The oldest finished file.
    pub(crate) fn oldest(&self) -> Option<FileSequence> {
        self.table.read().finished.keys().next().copied()
    }

    /// An open handle of a slot.
    pub(crate) fn handle(&self, slot: u32) -> Result<Arc<dyn DiskFile>> {
        let mut handles = self.handles.lock();
        if let Some(file) = handles.open.get(&slot) {
            return Ok(Arc::clone(file));
        }
        let path = slot_path(&self.directory, slot);
        let file = self.disk.open(&path, OpenMode::Existing).map_err(|error| {
            Error::new(ErrorKind::Io, format!("cannot open {} to read it", path.display()))
                .caused_by(error)
        })?;
        handles.open.insert(slot, Arc::clone(&file));
        handles.order.push_back(slot);
        if handles.order.len() > HANDLES_MAX
            && let Some(oldest) = handles.order.pop_front()
        {
            handles.open.remove(&oldest);
        }
        Ok(file)
    }
}
