//! Settings are data; the parts that touch the world are arguments.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Clock, Disk, MemoryDisk, OsDisk, Random, SystemClock, SystemRandom};
use crate::error::Result;
use crate::position::StreamId;

/// How storage uses memory and disk.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data directory; only its name for a disk in memory.
    pub directory: PathBuf,
    /// Bytes of entries under way between admission and acknowledgement. Default 48 MiB.
    pub in_flight_bytes: usize,
    /// A group is closed when it holds this many bytes. Default 8 MiB.
    pub group_bytes: usize,
    /// Recently written groups kept in memory for readers. Default 64 MiB.
    pub ring_bytes: usize,
    /// Chunks of files kept in memory for readers. Default 16 MiB.
    pub chunk_cache_bytes: usize,
    /// Footers of sealed files kept in memory. Default 32 MiB.
    pub index_bytes: usize,
    /// Size of the first journal file; later ones double with load. Default 4 MiB.
    pub file_bytes_min: u64,
    /// Largest journal file. Default 128 MiB.
    pub file_bytes_max: u64,
    /// Producers remembered at once, in at most 256 bytes each while idle, with twice as many outcomes of
    /// their appends; the least recently used beyond that come back with a new epoch. Default 262,144.
    pub producers_max: usize,
    /// Bytes a second that a merge reads and writes; a quarter of it while appends are busy, and
    /// more, without a limit in the end, as what waits for merges grows. 0: nothing is merged but
    /// to erase. Default 64 MiB.
    pub merge_bytes_per_second: u64,
    /// Batches that a merge holds in memory to sort them. Default 32 MiB.
    pub merge_memory_bytes: usize,
    /// A stream with this much in a merge gets files of its own. Default 4 MiB.
    pub segment_bytes_min: u64,
    /// A stream is compacted when this much of it was not, and half as much as the rest. Default
    /// 4 MiB.
    pub compaction_bytes_min: u64,
}

impl Default for Options {
    fn default() -> Self {
        const MIB: usize = 1 << 20;
        Self {
            directory: PathBuf::new(),
            in_flight_bytes: 48 * MIB,
            group_bytes: 8 * MIB,
            ring_bytes: 64 * MIB,
            chunk_cache_bytes: 16 * MIB,
            index_bytes: 32 * MIB,
            file_bytes_min: 4 << 20,
            file_bytes_max: 128 << 20,
            producers_max: 256 << 10,
            merge_bytes_per_second: 64 << 20,
            merge_memory_bytes: 32 * MIB,
            segment_bytes_min: 4 << 20,
            compaction_bytes_min: 4 << 20,
        }
    }
}

/// What storage must be told about payloads; the broker supplies it.
pub trait BatchCodec: Send + Sync {
    /// Checks the encoding and counts the records.
    fn count(&self, payload: &[u8]) -> Result<u32>;

    /// The key of each record, `None` for one without; in order.
    fn keys(&self, payload: &Bytes) -> Result<Vec<Option<RecordKey>>>;

    /// The payload with only the records whose index is in `keep` (rising).
    fn retain(&self, payload: &Bytes, keep: &[u32]) -> Result<Bytes>;
}

/// What compaction must know of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordKey {
    /// Records with the same key supersede one another.
    pub key: Bytes,
    /// It only says that the key is gone.
    pub is_tombstone: bool,
}

/// Is told, from the committing thread, which streams have new readable records. Must not block.
pub trait Observer: Send + Sync {
    /// The durable end of each of these streams has risen, or the stream is gone.
    fn advanced(&self, streams: &[StreamId]);
}

/// An observer of nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn advanced(&self, _streams: &[StreamId]) {}
}

/// The parts that touch the world.
#[derive(Clone)]
pub struct Components {
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Salts.
    pub random: Arc<dyn Random>,
    /// Payload knowledge.
    pub codec: Arc<dyn BatchCodec>,
    /// Who is told of new records.
    pub observer: Arc<dyn Observer>,
}

/// Bytes that a storage in memory may hold.
const MEMORY_CAPACITY: u64 = 1 << 30;

impl Components {
    /// The machine's disk, clock and randomness.
    #[must_use]
    pub fn on_disk(codec: Arc<dyn BatchCodec>, observer: Arc<dyn Observer>) -> Self {
        Self {
            disk: Arc::new(OsDisk::default()),
            clock: Arc::new(SystemClock::default()),
            random: Arc::new(SystemRandom),
            codec,
            observer,
        }
    }

    /// A disk in memory of at most 1 GiB: acknowledges [`crate::Durability::Memory`].
    #[must_use]
    pub fn in_memory(codec: Arc<dyn BatchCodec>, observer: Arc<dyn Observer>) -> Self {
        let disk = Arc::new(MemoryDisk::with_capacity(MEMORY_CAPACITY));
        Self { disk, ..Self::on_disk(codec, observer) }
    }
}
