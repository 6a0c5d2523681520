//! Builders and checks for the tests of the engine.

use std::sync::Arc;

use bytes::Bytes;
use meshlog_storage::disk::{ManualClock, SeededRandom, SimulatedDisk};
use meshlog_storage::{
    Batch, BatchCodec, Components, Control, Entry, Error, NoObserver, Offset, Options,
    ProducerStamp, ReadRequest, RecordKey, Result, Storage, StoredBatch, StreamId, Timestamp,
};
use parking_lot::Mutex;

/// Payloads in these tests are lines; a record is one line. `@key value` has a key, `@key` alone
/// is a tombstone.
pub(crate) struct Lines;

impl BatchCodec for Lines {
    fn count(&self, payload: &[u8]) -> Result<u32> {
        Ok(payload.iter().filter(|byte| **byte == b'\n').count() as u32)
    }

    fn keys(&self, payload: &Bytes) -> Result<Vec<Option<RecordKey>>> {
        let key = |line: &[u8]| {
            let rest = line.strip_prefix(b"@")?;
            let end = rest.iter().position(|byte| *byte == b' ');
            let key = Bytes::copy_from_slice(&rest[..end.unwrap_or(rest.len())]);
            Some(RecordKey { key, is_tombstone: end.is_none() })
        };
        Ok(lines_of(payload).map(key).collect())
    }

    fn retain(&self, payload: &Bytes, keep: &[u32]) -> Result<Bytes> {
        let kept = (0_u32..).zip(lines_of(payload)).filter(|(index, _)| keep.contains(index));
        Ok(kept.flat_map(|(_, line)| line.iter().copied().chain([b'\n'])).collect())
    }
}

/// The lines of a payload, without their ends.
pub(crate) fn lines_of(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    payload.split_inclusive(|byte| *byte == b'\n').map(|line| &line[..line.len() - 1])
}

/// A disk, a clock and a storage on them that moves only when told to.
pub(crate) struct Machine {
    pub(crate) disk: SimulatedDisk,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) random: Arc<SeededRandom>,
    pub(crate) options: Options,
}

impl Machine {
    pub(crate) fn new(seed: u64) -> Self {
        let options = Options {
            directory: "data".into(),
            group_bytes: 32 << 10,
            ring_bytes: 64 << 10,
            chunk_cache_bytes: 64 << 10,
            file_bytes_min: 64 << 10,
            file_bytes_max: 256 << 10,
            merge_memory_bytes: 48 << 10,
            segment_bytes_min: 32 << 10,
            compaction_bytes_min: 0,
            // These tests move their clock little.
            merge_bytes_per_second: u64::MAX,
            ..Options::default()
        };
        Self {
            disk: SimulatedDisk::new(64 << 20),
            clock: Arc::new(ManualClock::starting_at(Timestamp(1_700_000_000_000_000_000))),
            random: Arc::new(SeededRandom::new(seed)),
            options,
        }
    }

    pub(crate) fn parts(&self) -> Components {
        Components {
            disk: Arc::new(self.disk.clone()),
            clock: Arc::clone(&self.clock) as _,
            random: Arc::clone(&self.random) as _,
            codec: Arc::new(Lines),
            observer: Arc::new(NoObserver),
        }
    }

    pub(crate) fn open(&self) -> Result<Storage> {
        Storage::open_without_threads(self.options.clone(), self.parts())
    }
}

/// A batch of `count` lines of about `length` bytes that name the stream and themselves.
pub(crate) fn lines(stream: StreamId, tag: u64, count: u32, length: usize) -> Batch {
    let mut payload = String::new();
    for index in 0..count {
        let line = format!("{stream} {tag} {index} ");
        payload.push_str(&line);
        payload.extend(std::iter::repeat_n('x', length.saturating_sub(line.len() + 1)));
        payload.push('\n');
    }
    Batch {
        stream,
        payload: vec![payload.into()],
        count,
        schema: 1,
        application: 2,
        expected_offset: None,
    }
}

pub(crate) fn stamp(id: u8, sequence: u64) -> ProducerStamp {
    ProducerStamp { scope: 9, id: [id; 16], epoch: 0, sequence }
}

pub(crate) fn entry(batches: Vec<Batch>) -> Entry {
    Entry { batches, ..Entry::default() }
}

/// Where the outcome of an append arrives.
pub(crate) type Outcome = Arc<Mutex<Option<Result<meshlog_storage::Appended>>>>;

pub(crate) fn submit(storage: &Storage, entry: Entry) -> Outcome {
    let outcome = Outcome::default();
    let slot = Arc::clone(&outcome);
    storage.append(entry, move |result| *slot.lock() = Some(result));
    outcome
}

/// Appends on a storage without threads.
pub(crate) fn append(storage: &Storage, entry: Entry) -> Result<meshlog_storage::Appended> {
    let outcome = submit(storage, entry);
    storage.drive();
    outcome.lock().take().expect("driving a storage answers what waits")
}

pub(crate) fn create(storage: &Storage) -> StreamId {
    let stream = storage.allocate_stream();
    let controls = vec![Control::CreateStream(stream)];
    append(storage, Entry { controls, ..Entry::default() }).expect("a stream can be created");
    stream
}

/// One read, answered by driving the storage.
pub(crate) fn read(storage: &Storage, request: ReadRequest) -> Result<meshlog_storage::ReadSlice> {
    let late = Arc::new(Mutex::new(None));
    let slot = Arc::clone(&late);
    if let Some(now) = storage.read(request, move |result| *slot.lock() = Some(result)) {
        return now;
    }
    storage.drive();
    late.lock().take().expect("driving a storage answers reads")
}

/// Everything from an offset, in small steps.
pub(crate) fn read_all(
    storage: &Storage,
    stream: StreamId,
    from: Offset,
) -> Result<Vec<StoredBatch>, Error> {
    let batches = read_compacted(storage, stream, from)?;
    let mut next = from;
    for batch in &batches {
        assert!(batch.base_offset <= next, "batches follow one another");
        next = batch.end();
    }
    Ok(batches)
}

/// As [`read_all`], of a stream that may have holes.
pub(crate) fn read_compacted(
    storage: &Storage,
    stream: StreamId,
    from: Offset,
) -> Result<Vec<StoredBatch>, Error> {
    let mut batches: Vec<StoredBatch> = Vec::new();
    let mut next = from;
    let mut hint = None;
    loop {
        let slice = read(storage, ReadRequest { stream, from: next, max_bytes: 3000, hint })?;
        if slice.batches.is_empty() {
            assert_eq!(next, slice.durable_end);
            return Ok(batches);
        }
        for batch in &slice.batches {
            assert!(batch.end() > next, "a read goes forward");
            next = batch.end();
        }
        hint = slice.hint;
        batches.extend(slice.batches);
    }
}
