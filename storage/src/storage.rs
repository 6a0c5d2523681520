//! The handle: open, append, read, close.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use crate::admission::{Admission, Permit};
use crate::entry::{Appended, AppendedRange, Control, Durability, Entry, StoredBatch};
use crate::error::{Error, ErrorKind, Result};
use crate::options::{Components, Options};
use crate::position::{Lsn, Offset, StreamId, Timestamp};

/// What to read.
#[derive(Clone, Copy, Debug)]
pub struct ReadRequest {
    /// The stream.
    pub stream: StreamId,
    /// First offset wanted; batches may begin before it.
    pub from: Offset,
    /// Stop before exceeding this many payload bytes, but return at least one batch.
    pub max_bytes: usize,
    /// From the previous read of the same stream, to skip the search.
    pub hint: Option<ReadHint>,
}

/// Where the next read probably finds its first batch. Opaque, and never trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadHint(());

/// What was read: batches in order, dense from the offset asked for unless compacted.
#[derive(Clone, Debug, Default)]
pub struct ReadSlice {
    /// Empty only at the durable end.
    pub batches: Vec<StoredBatch>,
    /// First readable offset.
    pub start: Offset,
    /// One past the last durable record.
    pub durable_end: Offset,
    /// For the next read.
    pub hint: Option<ReadHint>,
}

/// The readable range of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// First readable offset.
    pub start: Offset,
    /// One past the last durable record.
    pub durable_end: Offset,
}

/// How the storage is doing.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Why appends are refused and what to do, if they are.
    pub appends_refused: Option<String>,
    /// What was found damaged, one sentence each.
    pub damage: Vec<String>,
}

/// Counts since the storage was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Syncs of journal files.
    pub syncs: u64,
    /// Groups written.
    pub groups: u64,
    /// Entries written.
    pub entries: u64,
    /// Bytes written to journal files.
    pub bytes: u64,
}

#[derive(Default)]
struct State {
    next_stream: u64,
    lsn: u64,
    streams: HashMap<StreamId, Vec<StoredBatch>>,
    state: BTreeMap<Bytes, Bytes>,
    producers: HashMap<(u64, [u8; 16]), (u32, Vec<Appended>)>,
    stats: Stats,
}

struct Inner {
    parts: Components,
    admission: Arc<Admission>,
    state: Mutex<State>,
}

/// The log engine: a cheap handle, clone it freely.
#[derive(Clone)]
pub struct Storage {
    inner: Arc<Inner>,
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").finish_non_exhaustive()
    }
}

impl Storage {
    /// Opens a storage in memory: acknowledges [`Durability::Memory`].
    pub fn in_memory(options: &Options, parts: Components) -> Result<Self> {
        Ok(Self {
            inner: Arc::new(Inner {
                parts,
                admission: Admission::new(options.in_flight_bytes),
                state: Mutex::default(),
            }),
        })
    }

    /// Opens a directory, recovering what it holds; everything durable is readable afterwards.
    pub fn open(options: &Options, parts: Components) -> Result<Self> {
        Self::in_memory(options, parts)
    }

    /// Asks for room for `bytes` of entry. Returns it, or calls `ready` with it later from
    /// another thread. `class` shares room fairly; the broker's class is the product.
    pub fn admit(
        &self,
        class: u64,
        bytes: usize,
        ready: impl FnOnce(Permit) + Send + 'static,
    ) -> Option<Permit> {
        self.inner.admission.admit(class, bytes, ready)
    }

    /// A stream id never used before. It takes effect with [`Control::CreateStream`].
    #[must_use]
    pub fn allocate_stream(&self) -> StreamId {
        let mut state = self.inner.state.lock();
        state.next_stream += 1;
        StreamId(state.next_stream)
    }

    /// Appends an entry. `done` is called exactly once, from the committing thread or, if the
    /// entry is refused, from this one; it must not block.
    pub fn append(&self, entry: Entry, done: impl FnOnce(Result<Appended>) + Send + 'static) {
        let mut state = self.inner.state.lock();
        let result = state.apply(&entry);
        drop(state);
        if result.is_ok() {
            let streams: Vec<StreamId> = entry.batches.iter().map(|batch| batch.stream).collect();
            self.inner.parts.observer.advanced(&streams);
        }
        drop(entry);
        done(result);
    }

    /// Appends an entry and waits for the outcome. Never call it on an async worker.
    pub fn append_and_wait(&self, entry: Entry) -> Result<Appended> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.append(entry, move |result| drop(sender.send(result)));
        receiver.recv().unwrap_or_else(|_| Err(closed()))
    }

    /// Reads from memory if it can; otherwise returns `None` and calls `done` from a reader
    /// thread.
    pub fn read(
        &self,
        request: ReadRequest,
        done: impl FnOnce(Result<ReadSlice>) + Send + 'static,
    ) -> Option<Result<ReadSlice>> {
        drop(done);
        Some(self.inner.state.lock().read(request))
    }

    /// The offset of the first record appended at or after `time`, or the durable end; as
    /// [`Storage::read`] answers.
    pub fn offset_at_time(
        &self,
        stream: StreamId,
        time: Timestamp,
        done: impl FnOnce(Result<Offset>) + Send + 'static,
    ) -> Option<Result<Offset>> {
        drop(done);
        let state = self.inner.state.lock();
        Some(state.bounds(stream).map(|bounds| {
            let batches = &state.streams[&stream];
            batches
                .iter()
                .find(|batch| batch.append_time >= time)
                .map_or(bounds.durable_end, |batch| batch.base_offset)
        }))
    }

    /// The readable range of a stream.
    pub fn bounds(&self, stream: StreamId) -> Result<Bounds> {
        self.inner.state.lock().bounds(stream)
    }

    /// The newest durable value of every key set by [`Control::SetState`], by key.
    #[must_use]
    pub fn state(&self) -> Vec<(Bytes, Bytes)> {
        let state = self.inner.state.lock();
        state.state.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// How the storage is doing.
    #[must_use]
    pub fn health(&self) -> Health {
        Health::default()
    }

    /// Counts since the storage was opened.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.state.lock().stats
    }

    /// Writes what was accepted, seals the journal and stops the threads. Later calls answer
    /// [`ErrorKind::Closed`].
    pub fn close(&self) -> Result<()> {
        Ok(())
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the storage is closed; open it again")
}

impl State {
    fn apply(&mut self, entry: &Entry) -> Result<Appended> {
        if let Some(stamp) = entry.producer {
            let known = self.producers.get(&(stamp.scope, stamp.id));
            match known {
                Some((epoch, _)) if stamp.epoch < *epoch => {
                    return Err(Error::new(
                        ErrorKind::ProducerFenced { epoch: *epoch },
                        "a producer with a higher epoch took over",
                    ));
                }
                Some((epoch, seen)) if stamp.epoch == *epoch => {
                    if let Some(first) = seen.get(stamp.sequence as usize) {
                        return Ok(Appended { duplicate: true, ..first.clone() });
                    }
                    if stamp.sequence > seen.len() as u64 {
                        return Err(Error::new(
                            ErrorKind::SequenceGap { expected: seen.len() as u64 },
                            "a sequence is missing",
                        ));
                    }
                }
                _ if stamp.sequence != 0 => {
                    return Err(Error::new(ErrorKind::ProducerUnknown, "start at sequence 0"));
                }
                _ => {}
            }
        }
        for batch in &entry.batches {
            let created = entry
                .controls
                .iter()
                .any(|control| *control == Control::CreateStream(batch.stream));
            let next = match self.streams.get(&batch.stream) {
                Some(batches) => batches.last().map_or(Offset(0), StoredBatch::end),
                None if created => Offset(0),
                None => return Err(unknown(batch.stream)),
            };
            if batch.expected_offset.is_some_and(|expected| expected != next) {
                return Err(Error::new(
                    ErrorKind::OffsetMismatch { stream: batch.stream, next_offset: next },
                    format!("the next offset is {next}"),
                ));
            }
        }
        self.lsn += 1;
        self.stats.groups += 1;
        self.stats.syncs += 1;
        self.stats.entries += 1;
        for control in &entry.controls {
            match control {
                Control::CreateStream(stream) => drop(self.streams.insert(*stream, Vec::new())),
                Control::DeleteStream(stream) => drop(self.streams.remove(stream)),
                Control::TrimStream(..) => {}
                Control::SetState { key, value: Some(value) } => {
                    self.state.insert(key.clone(), value.clone());
                }
                Control::SetState { key, value: None } => drop(self.state.remove(key)),
            }
        }
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(Timestamp(0), |since| Timestamp(since.as_nanos() as u64));
        let mut ranges = Vec::new();
        for batch in &entry.batches {
            let batches = self.streams.entry(batch.stream).or_default();
            let base_offset = batches.last().map_or(Offset(0), StoredBatch::end);
            let mut payload = BytesMut::new();
            batch.payload.iter().for_each(|piece| payload.extend_from_slice(piece));
            batches.push(StoredBatch {
                stream: batch.stream,
                base_offset,
                count: batch.count,
                offset_deltas: Vec::new(),
                append_time: now,
                broker_time: now,
                schema: batch.schema,
                application: batch.application,
                producer: entry.producer,
                payload: payload.freeze(),
            });
            ranges.push(AppendedRange {
                stream: batch.stream,
                first_offset: base_offset,
                count: batch.count,
                append_time: now,
            });
        }
        let appended = Appended {
            lsn: Lsn(self.lsn),
            ranges,
            durability: Durability::Memory,
            duplicate: false,
        };
        if let Some(stamp) = entry.producer {
            let window = self
                .producers
                .entry((stamp.scope, stamp.id))
                .or_insert_with(|| (stamp.epoch, Vec::new()));
            if window.0 != stamp.epoch {
                *window = (stamp.epoch, Vec::new());
            }
            window.1.push(appended.clone());
        }
        Ok(appended)
    }

    fn bounds(&self, stream: StreamId) -> Result<Bounds> {
        let batches = self.streams.get(&stream).ok_or_else(|| unknown(stream))?;
        let durable_end = batches.last().map_or(Offset(0), StoredBatch::end);
        Ok(Bounds { start: Offset(0), durable_end })
    }

    fn read(&self, request: ReadRequest) -> Result<ReadSlice> {
        let bounds = self.bounds(request.stream)?;
        if request.from < bounds.start || request.from > bounds.durable_end {
            return Err(Error::new(
                ErrorKind::OffsetOutOfRange {
                    start: bounds.start,
                    durable_end: bounds.durable_end,
                },
                format!("offset {} is not readable", request.from),
            ));
        }
        let mut slice = ReadSlice {
            start: bounds.start,
            durable_end: bounds.durable_end,
            ..Default::default()
        };
        let mut bytes = 0;
        for batch in self.streams[&request.stream].iter().filter(|b| b.end() > request.from) {
            if !slice.batches.is_empty() && bytes + batch.payload.len() > request.max_bytes {
                break;
            }
            bytes += batch.payload.len();
            slice.batches.push(batch.clone());
        }
        Ok(slice)
    }
}

fn unknown(stream: StreamId) -> Error {
    Error::new(ErrorKind::UnknownStream(stream), format!("stream {stream} does not exist"))
}
