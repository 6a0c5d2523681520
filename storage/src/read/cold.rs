//! Reads that go to files.

use std::sync::Arc;

use super::group::{read_group, read_payload};
use super::{Bounds, ReadHint, ReadRequest, ReadSlice, bounds, check};
use crate::disk::BLOCK;
use crate::engine::Engine;
use crate::entry::StoredBatch;
use crate::error::{Error, ErrorKind, Result};
use crate::files::ReadableFile;
use crate::format::{Frame, FrameKind, RUN_SPAN, Run};
use crate::position::{FileSequence, Offset, StreamId, Timestamp};
use crate::stream::run_for;

/// A place to read groups from, and the end of the run: the next batch begins before it.
struct Window {
    file: Arc<ReadableFile>,
    position: u64,
    end: u64,
}

/// Reads from files, verifying every checksum.
pub(crate) fn read_cold(engine: &Engine, request: &ReadRequest) -> Result<ReadSlice> {
    let Bounds { start, durable_end } = bounds(engine, request.stream)?;
    check(request, Bounds { start, durable_end }, &engine.state.stream(request.stream)?.view())?;
    let mut slice = ReadSlice { start, durable_end, ..ReadSlice::default() };
    let mut next = request.from;
    let mut bytes = 0;
    let mut hint = request.hint.filter(|hint| hint.offset == next);
    while next < durable_end {
        let hinted = hint.take().and_then(|hint| from_hint(engine, hint));
        let is_hinted = hinted.is_some();
        let window = match hinted.map_or_else(|| locate(engine, request.stream, next), Ok) {
            Ok(window) => window,
            Err(error) => return finish(slice, error),
        };
        let before = next;
        let outcome = read_window(engine, request, &window, &mut next, &mut bytes, &mut slice);
        match outcome {
            Ok(true) => return Ok(slice),
            Ok(false) if next > before || is_hinted => {}
            Ok(false) => {
                let error = lost(engine, request.stream, next, durable_end);
                return finish(slice, error);
            }
            Err(error) => {
                return finish(slice, with_next(engine, request.stream, error, next, durable_end));
            }
        }
    }
    Ok(slice)
}

/// What was read before the damage is answered; the damage is met again by the next read.
fn finish(slice: ReadSlice, error: Error) -> Result<ReadSlice> {
    if slice.batches.is_empty() { Err(error) } else { Ok(slice) }
}

/// Reads the groups of one run; answers whether enough was read.
fn read_window(
    engine: &Engine,
    request: &ReadRequest,
    window: &Window,
    next: &mut Offset,
    bytes: &mut usize,
    slice: &mut ReadSlice,
) -> Result<bool> {
    let mut position = window.position;
    let begun = *next;
    let mut damage = None;
    while position < window.end && *next < slice.durable_end {
        let (header, frames) = match read_group(engine, &window.file, position) {
            Ok((header, _)) if header.is_seal => break,
            Ok(group) => group,
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt { .. }) => {
                // The next whole group says whether what is wanted was in the damaged one.
                damage = Some(error);
                position += BLOCK as u64;
                continue;
            }
            Err(error) => return Err(error),
        };
        for frame in &frames {
            if !wanted(frame, request.stream, *next) {
                continue;
            }
            let length = frame.payload_bytes as usize;
            let is_gap = frame.base_offset > *next;
            if is_gap && slice.batches.is_empty() {
                return Err(Error::new(
                    ErrorKind::Corrupt { next_readable: frame.base_offset },
                    format!(
                        "offset {next} of stream {} is in no journal file; reading can go on at {}",
                        request.stream, frame.base_offset
                    ),
                ));
            }
            let is_over = !slice.batches.is_empty() && *bytes + length > request.max_bytes;
            if is_over || is_gap || frame.end() > slice.durable_end {
                slice.hint =
                    Some(ReadHint { sequence: window.file.sequence, position, offset: *next });
                return Ok(true);
            }
            let payload = read_payload(engine, &window.file, position, frame)?;
            *bytes += length;
            *next = frame.end();
            slice.batches.push(frame.batch(payload));
        }
        position += u64::from(header.length);
        if *bytes >= request.max_bytes && !slice.batches.is_empty() {
            slice.hint = Some(ReadHint { sequence: window.file.sequence, position, offset: *next });
            return Ok(true);
        }
    }
    match damage {
        Some(error) if *next == begun && *next < slice.durable_end => Err(error),
        _ => Ok(false),
    }
}

fn wanted(frame: &Frame, stream: StreamId, next: Offset) -> bool {
    frame.kind == FrameKind::Batch && frame.stream == stream && frame.end() > next
}

/// A hint is worth one run: if the batch is not there, the search decides.
fn from_hint(engine: &Engine, hint: ReadHint) -> Option<Window> {
    let file = engine.files.readable(hint.sequence)?;
    (hint.position < file.groups_end).then(|| Window {
        position: hint.position,
        end: file.groups_end.min(hint.position + RUN_SPAN),
        file,
    })
}

/// Finds the run that holds an offset.
fn locate(engine: &Engine, id: StreamId, offset: Offset) -> Result<Window> {
    let stream = engine.state.stream(id)?;
    let (active, last_file, active_file) = {
        let view = stream.view();
        (view.active_run(offset), view.last_file, view.active_file)
    };
    if let (Some(run), Some(sequence)) = (active, active_file) {
        return window(engine, sequence, run);
    }
    let last = last_file.ok_or_else(|| missing(id, offset))?;
    let (sequence, run) = bisect(engine, id, offset, last)?;
    window(engine, sequence, run)
}

fn window(engine: &Engine, sequence: FileSequence, run: Run) -> Result<Window> {
    let file = engine.files.readable(sequence).ok_or_else(|| Error::missing_file(sequence))?;
    let end = file.groups_end.min(run.position + RUN_SPAN);
    Ok(Window { file, position: run.position, end })
}

/// The newest finished file whose first batch of the stream is not after the offset, and its run.
/// A probe that misses the stream goes down to the next file that holds it.
fn bisect(
    engine: &Engine,
    id: StreamId,
    offset: Offset,
    last: FileSequence,
) -> Result<(FileSequence, Run)> {
    let oldest = engine.files.oldest().ok_or_else(|| missing(id, offset))?;
    let files = engine.files.finished_between(oldest, last);
    let (mut low, mut high) = (0, files.len());
    let mut found = None;
    while low < high {
        let middle = low.midpoint(high);
        let mut holder = None;
        for index in (low..=middle).rev() {
            if let Some(entry) = engine.footers.load(engine, files[index])?.find(id) {
                holder = Some((index, run_for(&entry.runs, offset)));
                break;
            }
        }
        match holder {
            Some((index, Some(run))) => {
                found = Some((files[index], run));
                low = middle + 1;
            }
            Some((index, None)) => high = index,
            None => low = middle + 1,
        }
    }
    found.ok_or_else(|| missing(id, offset))
}

fn missing(id: StreamId, offset: Offset) -> Error {
    Error::new(
        ErrorKind::Corrupt { next_readable: offset.plus(1) },
        format!("offset {offset} of stream {id} is in no journal file"),
    )
}

/// A run does not hold what it should.
fn lost(engine: &Engine, id: StreamId, offset: Offset, durable_end: Offset) -> Error {
    let error = missing(id, offset);
    with_next(engine, id, error, offset, durable_end)
}

/// Says where reading can go on after damage that hides which offsets it hit: at the next run.
fn with_next(
    engine: &Engine,
    id: StreamId,
    error: Error,
    from: Offset,
    durable_end: Offset,
) -> Error {
    match error.kind() {
        ErrorKind::Corrupt { next_readable } if *next_readable > from => error,
        ErrorKind::Corrupt { .. } => {
            let next_readable = next_run(engine, id, from).unwrap_or(durable_end);
            Error::new(
                ErrorKind::Corrupt { next_readable },
                format!("{error}; reading can go on at {next_readable}"),
            )
        }
        _ => error,
    }
}

fn next_run(engine: &Engine, id: StreamId, from: Offset) -> Option<Offset> {
    let stream = engine.state.stream(id).ok()?;
    let (last, active, in_memory) = {
        let view = stream.view();
        let active: Vec<Offset> = view.active.iter().map(|run| run.base_offset).collect();
        (view.last_file, active, view.recent_oldest().map(|batch| batch.base_offset))
    };
    let mut after: Vec<Offset> = active;
    after.extend(in_memory);
    if let (Some(oldest), Some(last)) = (engine.files.oldest(), last) {
        for sequence in engine.files.finished_between(oldest, last) {
            if let Ok(footer) = engine.footers.load(engine, sequence)
                && let Some(entry) = footer.find(id)
            {
                after.extend(entry.runs.iter().map(|run| run.base_offset));
            }
        }
    }
    after.into_iter().filter(|offset| *offset > from).min()
}

/// The offset of the first record appended at or after `time`, or the durable end.
pub(crate) fn offset_at_time(engine: &Engine, id: StreamId, time: Timestamp) -> Result<Offset> {
    let Bounds { start, durable_end } = bounds(engine, id)?;
    let mut from = start.max(last_run_before(engine, id, time)?.unwrap_or(start));
    // At most one run to read: the next run begins at or after `time`.
    while from < durable_end {
        let request = ReadRequest { stream: id, from, max_bytes: 1 << 20, hint: None };
        let slice = match super::read_hot(engine, &request) {
            Some(slice) => slice?,
            None => read_cold(engine, &request)?,
        };
        let first = slice.batches.iter().find(|batch| batch.append_time >= time);
        if let Some(batch) = first {
            return Ok(batch.base_offset.max(start));
        }
        from = slice.batches.last().map_or(durable_end, StoredBatch::end);
    }
    Ok(durable_end)
}

/// Where the last run begins whose first batch is older than `time`.
fn last_run_before(engine: &Engine, id: StreamId, time: Timestamp) -> Result<Option<Offset>> {
    let stream = engine.state.stream(id)?;
    let before = |runs: &[Run]| {
        let index = runs.partition_point(|run| run.append_time < time);
        index.checked_sub(1).map(|index| runs[index].base_offset)
    };
    let mut file = {
        let view = stream.view();
        if let Some(offset) = before(&view.active) {
            return Ok(Some(offset));
        }
        view.last_file
    };
    while let Some(sequence) = file {
        let Some(sequence) = engine.files.finished_at_or_before(sequence) else { break };
        let footer = engine.footers.load(engine, sequence)?;
        file = match footer.find(id) {
            Some(entry) => {
                if let Some(offset) = before(&entry.runs) {
                    return Ok(Some(offset));
                }
                entry.previous
            }
            None => sequence.0.checked_sub(1).map(FileSequence),
        };
    }
    Ok(None)
}
