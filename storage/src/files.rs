//! The files that hold readable records: the journal file being written, the finished ones, and
//! the segments that merges made of them.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FileRecord, SegmentRecord};
use crate::journal::slot_path;
use crate::position::{FileKey, FileSequence, StreamId};

/// Open handles kept for readers.
const HANDLES_MAX: usize = 512;

/// Where a file lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Slot(u32),
    Segment { merge: u64, part: u32 },
}

impl Place {
    pub(crate) fn path(self, directory: &Path) -> PathBuf {
        match self {
            Self::Slot(number) => slot_path(directory, number),
            Self::Segment { merge, part } => directory.join(format!("segment-{merge:016}-{part}")),
        }
    }

    /// The segment of this name.
    pub(crate) fn segment(name: &str) -> Option<Self> {
        let (merge, part) = name.strip_prefix("segment-")?.split_once('-')?;
        let place = Self::Segment { merge: merge.parse().ok()?, part: part.parse().ok()? };
        (merge.len() == 16).then_some(place)
    }
}

/// What is durably known of a finished file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoredFile {
    Journal(FileRecord),
    Segment(SegmentRecord),
}

impl StoredFile {
    pub(crate) fn key(&self) -> FileKey {
        match self {
            Self::Journal(record) => FileKey::journal(record.sequence),
            Self::Segment(record) => {
                FileKey { rank: record.rank, merge: record.merge, part: record.part }
            }
        }
    }

    pub(crate) fn place(&self) -> Place {
        match self {
            Self::Journal(record) => Place::Slot(record.slot),
            Self::Segment(record) => Place::Segment { merge: record.merge, part: record.part },
        }
    }

    /// The number that its groups carry.
    pub(crate) fn number(&self) -> FileSequence {
        match self {
            Self::Journal(record) => record.sequence,
            Self::Segment(record) => FileSequence(record.merge),
        }
    }

    /// The first journal file whose records may be in it.
    pub(crate) fn first_rank(&self) -> FileSequence {
        match self {
            Self::Journal(record) => record.sequence,
            Self::Segment(record) => record.first_rank,
        }
    }

    pub(crate) fn salt(&self) -> [u8; 16] {
        match self {
            Self::Journal(record) => record.salt,
            Self::Segment(record) => record.salt,
        }
    }

    /// One past the last group with records.
    pub(crate) fn groups_end(&self) -> u64 {
        match self {
            Self::Journal(record) => record.end,
            Self::Segment(record) => record.end,
        }
    }

    /// Bytes taken on disk.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Journal(record) => record.size,
            Self::Segment(record) => record.size,
        }
    }
}

/// What a reader must know of a file. While somebody holds it, it is neither reused nor removed.
#[derive(Debug)]
pub(crate) struct ReadableFile {
    pub(crate) key: FileKey,
    pub(crate) place: Place,
    pub(crate) salt: [u8; 16],
    /// The first journal file whose records may be in it.
    pub(crate) first_rank: FileSequence,
    /// One past the last group with records.
    pub(crate) groups_end: u64,
    /// Nothing may be read from here on: the durable end of the file being written, or the size
    /// of a finished one.
    pub(crate) end: u64,
    /// Where its seal begins.
    pub(crate) seal: Option<u64>,
    /// The lowest and the highest stream in it, where that is known without its footer.
    streams: Option<(StreamId, StreamId)>,
    /// Bytes of groups that readers walked over since it was opened.
    walked: AtomicU64,
    /// Shared with those who hold it since it was being written.
    held: Arc<()>,
}

impl ReadableFile {
    fn finished(file: &StoredFile, held: Arc<()>) -> Self {
        let (key, place, size) = (file.key(), file.place(), file.size());
        let (seal, streams) = match file {
            StoredFile::Journal(record) => (record.seal, None),
            StoredFile::Segment(record) => (Some(record.end), Some(record.streams)),
        };
        let (salt, first_rank, groups_end) = (file.salt(), file.first_rank(), file.groups_end());
        let walked = AtomicU64::new(0);
        Self { key, place, salt, first_rank, groups_end, end: size, seal, streams, walked, held }
    }

    /// True if somebody else than the caller holds it, in whichever life of it.
    pub(crate) fn is_held(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1 || Arc::strong_count(&self.held) > 1
    }

    /// The number that its groups carry.
    pub(crate) fn number(&self) -> FileSequence {
        match self.place {
            Place::Slot(_) => self.key.rank,
            Place::Segment { merge, .. } => FileSequence(merge),
        }
    }

    /// False if the stream cannot be in it.
    pub(crate) fn may_hold(&self, stream: StreamId) -> bool {
        self.streams.is_none_or(|(low, high)| low <= stream && stream <= high)
    }

    /// As [`ReadableFile::is_held`], beside so many who are known, the caller counted.
    pub(crate) fn is_held_beside(self: &Arc<Self>, known: usize) -> bool {
        Arc::strong_count(self) > known || Arc::strong_count(&self.held) > 1
    }

    /// Readers went over this much of it.
    pub(crate) fn note_walked(&self, bytes: u64) {
        self.walked.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn walked(&self) -> u64 {
        self.walked.load(Ordering::Relaxed)
    }
}

/// All files of records, for readers.
pub(crate) struct Files {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    table: RwLock<Table>,
    handles: Mutex<Handles>,
}

type Finished = (StoredFile, Arc<ReadableFile>);

#[derive(Default)]
struct Table {
    finished: BTreeMap<FileKey, Finished>,
    active: Option<ActiveFile>,
}

struct ActiveFile {
    sequence: FileSequence,
    slot: u32,
    salt: [u8; 16],
    end: u64,
    held: Arc<()>,
}

#[derive(Default)]
struct Handles {
    open: BTreeMap<Place, Arc<dyn DiskFile>>,
    order: VecDeque<Place>,
}

impl Files {
    pub(crate) fn new(disk: Arc<dyn Disk>, directory: PathBuf) -> Self {
        Self { disk, directory, table: RwLock::default(), handles: Mutex::default() }
    }

    /// The file being written changes; the one before it is in the table already.
    pub(crate) fn begin(&self, sequence: FileSequence, slot: u32, salt: [u8; 16], end: u64) {
        self.table.write().active =
            Some(ActiveFile { sequence, slot, salt, end, held: Arc::default() });
    }

    /// More of the file being written is durable.
    pub(crate) fn advance(&self, end: u64) {
        if let Some(active) = &mut self.table.write().active {
            assert!(active.end <= end, "a journal file only grows");
            active.end = end;
        }
    }

    /// A file is finished.
    pub(crate) fn finish(&self, file: StoredFile) {
        self.table.write().finish(file);
    }

    /// A merge is durable: its outputs take the place of its inputs, at once for every reader.
    /// Readers that hold an input go on reading it. Returns the inputs.
    pub(crate) fn merged(&self, inputs: &[FileKey], outputs: &[SegmentRecord]) -> Vec<Finished> {
        let mut table = self.table.write();
        let removed = inputs.iter().filter_map(|key| table.finished.remove(key)).collect();
        outputs.iter().for_each(|output| table.finish(StoredFile::Segment(*output)));
        removed
    }

    /// How many finished files there are, and bytes that they and the file being written take.
    pub(crate) fn load(&self) -> (usize, u64) {
        let table = self.table.read();
        let finished: u64 = table.finished.values().map(|(file, _)| file.size()).sum();
        let active = table.active.as_ref().map_or(0, |active| active.end);
        (table.finished.len(), finished + active)
    }

    /// Takes a finished file out of the table.
    pub(crate) fn remove(&self, key: FileKey) -> Option<Finished> {
        self.table.write().finished.remove(&key)
    }

    /// Closes the handle of a file that is given back.
    pub(crate) fn close(&self, place: Place) {
        let mut handles = self.handles.lock();
        handles.open.remove(&place);
        handles.order.retain(|open| *open != place);
    }

    /// The file of this key, held for reading.
    pub(crate) fn readable(&self, key: FileKey) -> Option<Arc<ReadableFile>> {
        let table = self.table.read();
        if let Some((_, file)) = table.finished.get(&key) {
            return Some(Arc::clone(file));
        }
        let active = table.active.as_ref();
        let active = active.filter(|active| FileKey::journal(active.sequence) == key)?;
        Some(Arc::new(ReadableFile {
            key,
            place: Place::Slot(active.slot),
            salt: active.salt,
            first_rank: active.sequence,
            groups_end: active.end,
            end: active.end,
            seal: None,
            streams: None,
            walked: AtomicU64::new(0),
            held: Arc::clone(&active.held),
        }))
    }

    /// True for a file that readers may still be sent to.
    pub(crate) fn holds(&self, key: FileKey) -> bool {
        let table = self.table.read();
        let active = table.active.as_ref().map(|active| FileKey::journal(active.sequence));
        active == Some(key) || table.finished.contains_key(&key)
    }

    /// Finished files that may hold records of a stream from journal files up to `last`, in the
    /// order of its offsets, all held for reading.
    pub(crate) fn holding(&self, stream: StreamId, last: FileSequence) -> Vec<Arc<ReadableFile>> {
        let table = self.table.read();
        let files = table.finished.values().map(|(_, file)| file);
        let may_hold = |file: &&Arc<ReadableFile>| file.first_rank <= last && file.may_hold(stream);
        files.filter(may_hold).cloned().collect()
    }

    /// All finished files, in the order of searching, held for reading.
    pub(crate) fn all(&self) -> Vec<Finished> {
        self.table.read().finished.values().cloned().collect()
    }

    /// Bytes that all finished files take.
    pub(crate) fn bytes(&self) -> u64 {
        self.table.read().finished.values().map(|(file, _)| file.size()).sum()
    }

    /// True if no file is finished yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.read().finished.is_empty()
    }

    /// An open handle of a file.
    pub(crate) fn handle(&self, place: Place) -> Result<Arc<dyn DiskFile>> {
        let mut handles = self.handles.lock();
        if let Some(file) = handles.open.get(&place) {
            return Ok(Arc::clone(file));
        }
        let path = place.path(&self.directory);
        let file = self.disk.open(&path, OpenMode::Existing).map_err(|error| {
            Error::new(ErrorKind::Io, format!("cannot open {} to read it", path.display()))
                .caused_by(error)
        })?;
        handles.open.insert(place, Arc::clone(&file));
        handles.order.push_back(place);
        if handles.order.len() > HANDLES_MAX
            && let Some(oldest) = handles.order.pop_front()
        {
            handles.open.remove(&oldest);
        }
        Ok(file)
    }
}

impl Table {
    fn finish(&mut self, file: StoredFile) {
        let active = self.active.as_ref();
        let active = active.filter(|active| FileKey::journal(active.sequence) == file.key());
        let held = active.map(|active| Arc::clone(&active.held)).unwrap_or_default();
        let readable = Arc::new(ReadableFile::finished(&file, held));
        self.finished.insert(readable.key, (file, readable));
    }
}
