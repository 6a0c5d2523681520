//! What a storage holds, seen through its handle, and whether that is a given log.

use std::collections::BTreeMap;

use bytes::Bytes;
use meshlog_storage::{Bounds, ErrorKind, Offset, ReadRequest, Storage, StoredBatch, StreamId};
use parking_lot::Mutex;
use std::sync::Arc;

use super::reference::{Log, Now, Piece, Stream};
use crate::support::lines_of;

/// Everything readable.
#[derive(Debug, PartialEq)]
pub(crate) struct Observed {
    pub(crate) streams: BTreeMap<StreamId, (Bounds, Vec<StoredBatch>)>,
    pub(crate) state: BTreeMap<Bytes, Bytes>,
}

impl Observed {
    /// Reads everything, so many bytes at once.
    pub(crate) fn of(storage: &Storage, max_bytes: usize) -> Self {
        let streams = storage.streams().into_iter().map(|id| {
            let bounds = storage.bounds(id).unwrap();
            let batches = read_from(storage, id, bounds.start, max_bytes)
                .unwrap_or_else(|error| panic!("stream {id} cannot be read: {error}"));
            (id, (bounds, batches))
        });
        Self { streams: streams.collect(), state: storage.state().into_iter().collect() }
    }

    /// Whether this is that log, with no more gone than trims, limits and compaction allow.
    pub(crate) fn is(&self, log: &Log, every: &Log, now: Now) -> Result<(), String> {
        if self.state != log.state {
            return Err(format!("the state is {:?}, not {:?}", self.state, log.state));
        }
        let ids: Vec<_> = self.streams.keys().collect();
        if !ids.iter().eq(&log.streams.keys().collect::<Vec<_>>()) {
            let expected: Vec<_> = log.streams.keys().collect();
            return Err(format!("the streams are {ids:?}, not {expected:?}"));
        }
        for (id, (bounds, batches)) in &self.streams {
            let stream = &log.streams[id];
            let every = every.streams.get(id).unwrap_or(stream);
            is_stream(*bounds, batches, stream, every, now)
                .map_err(|why| format!("stream {id}: {why}"))?;
        }
        Ok(())
    }
}

fn is_stream(
    bounds: Bounds,
    batches: &[StoredBatch],
    stream: &Stream,
    every: &Stream,
    now: Now,
) -> Result<(), String> {
    let (start, end) = (bounds.start.0, bounds.durable_end.0);
    if end != stream.end {
        return Err(format!("it ends at {end}, not {}", stream.end));
    }
    let highest = stream.highest_start(every, now);
    if start < stream.trimmed || start > highest {
        return Err(format!("it starts at {start}, not within {}..={highest}", stream.trimmed));
    }
    if !batches.is_sorted_by_key(|batch| batch.append_time) {
        return Err("append times fall".to_owned());
    }
    if every.was_ever_compacted() {
        return has_newest_records(start, batches, stream, every, now);
    }
    let expected: Vec<&Piece> = stream.pieces.iter().filter(|piece| piece.end() > start).collect();
    if expected.len() != batches.len() {
        return Err(format!("{} batches are there of {}", batches.len(), expected.len()));
    }
    for (piece, batch) in expected.into_iter().zip(batches) {
        is_piece(batch, piece)?;
        if !batch.offset_deltas.is_empty() {
            return Err(format!("offset {} has deltas without compaction", batch.base_offset));
        }
        if (batch.base_offset.0, batch.count) != (piece.base, piece.count)
            || batch.payload != piece.payload
        {
            return Err(format!("offset {} holds other bytes", piece.base));
        }
    }
    Ok(())
}

fn is_piece(batch: &StoredBatch, piece: &Piece) -> Result<(), String> {
    let is_it = batch.producer == piece.producer
        && (batch.schema, batch.application) == (1, 2)
        && batch.broker_time == piece.wall
        && batch.append_time >= piece.wall;
    if is_it { Ok(()) } else { Err(format!("offset {} holds other facts", batch.base_offset)) }
}

/// Every record that is there is the one that was appended, and what is not may be gone.
fn has_newest_records(
    start: u64,
    batches: &[StoredBatch],
    stream: &Stream,
    every: &Stream,
    now: Now,
) -> Result<(), String> {
    let mut found = BTreeMap::new();
    for batch in batches {
        let lines: Vec<_> = lines_of(&batch.payload).collect();
        if lines.len() != batch.count as usize {
            return Err(format!("the batch at {} miscounts", batch.base_offset));
        }
        for (index, line) in lines.into_iter().enumerate() {
            let delta = match batch.offset_deltas.is_empty() {
                true => index as u64,
                false => u64::from(batch.offset_deltas[index]),
            };
            if found.insert(batch.base_offset.0 + delta, (line, batch)).is_some() {
                return Err(format!("offset {} is there twice", batch.base_offset.0 + delta));
            }
        }
    }
    for (offset, line, piece) in stream.records() {
        match found.remove(&offset) {
            Some((is, batch)) if is == line => is_piece(batch, piece)?,
            Some(_) => return Err(format!("offset {offset} holds another record")),
            None if offset < start || stream.may_lack(offset, every, now) => {}
            None => return Err(format!("offset {offset} is gone, though nothing is newer")),
        }
    }
    match found.keys().next() {
        None => Ok(()),
        Some(offset) => Err(format!("offset {offset} was never appended")),
    }
}

/// Everything from an offset on, so many bytes at once.
pub(crate) fn read_from(
    storage: &Storage,
    stream: StreamId,
    from: Offset,
    max_bytes: usize,
) -> Result<Vec<StoredBatch>, meshlog_storage::Error> {
    let mut batches: Vec<StoredBatch> = Vec::new();
    let (mut next, mut hint) = (from, None);
    loop {
        let slice = read(storage, ReadRequest { stream, from: next, max_bytes, hint })?;
        if slice.batches.is_empty() {
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

/// What one read gives.
pub(crate) fn read_some(
    storage: &Storage,
    stream: StreamId,
    from: Offset,
) -> Result<Vec<StoredBatch>, meshlog_storage::Error> {
    let request = ReadRequest { stream, from, max_bytes: 1 << 20, hint: None };
    read(storage, request).map(|slice| slice.batches)
}

/// One read; one that the disk failed is asked for again.
fn read(
    storage: &Storage,
    request: ReadRequest,
) -> Result<meshlog_storage::ReadSlice, meshlog_storage::Error> {
    for _ in 0..3 {
        let late = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&late);
        let now = storage.read(request, move |result| *slot.lock() = Some(result));
        let outcome = now.unwrap_or_else(|| {
            storage.drive_reads();
            late.lock().take().expect("driving a storage answers reads")
        });
        match outcome {
            Err(error) if *error.kind() == ErrorKind::Io => {}
            outcome => return outcome,
        }
    }
    panic!("a read failed three times, though the disk failed once");
}
