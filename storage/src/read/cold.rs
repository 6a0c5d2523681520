//! Reads that go to files.

use super::group::{read_group, read_payload};
use super::locate::{Window, find_run, next_run};
use super::{Bounds, ReadHint, ReadRequest, ReadSlice, bounds, check};
use crate::disk::BLOCK;
use crate::engine::Engine;
use crate::entry::StoredBatch;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Frame, FrameKind, RUN_SPAN};
use crate::position::{Offset, StreamId, Timestamp};

/// Reads from files, verifying every checksum.
pub(crate) fn read_cold(engine: &Engine, request: &ReadRequest) -> Result<ReadSlice> {
    let Bounds { start, durable_end } = bounds(engine, request.stream)?;
    let compacted_to = {
        let stream = engine.state.stream(request.stream)?;
        let view = stream.view();
        check(request, Bounds { start, durable_end }, &view)?;
        view.compacted_to
    };
    let mut reading = Reading {
        engine,
        request,
        compacted_to,
        next: request.from,
        bytes: 0,
        slice: ReadSlice { start, durable_end, ..ReadSlice::default() },
    };
    let mut hint = request.hint.filter(|hint| hint.offset == request.from);
    while reading.next < durable_end {
        let hinted = hint.take().and_then(|hint| from_hint(engine, hint));
        let is_hinted = hinted.is_some();
        let before = reading.next;
        let window = match hinted {
            Some(window) => Some(window),
            None => match find_run(engine, request.stream, |run| run.base_offset <= before) {
                Ok(found) => found.map(|(window, _)| window),
                Err(error) => return reading.finish(error),
            },
        };
        let outcome = window.map_or(Ok(false), |window| reading.read(&window));
        match outcome {
            Ok(true) => return Ok(reading.slice),
            Ok(false) if reading.next > before || is_hinted => {}
            Ok(false) => match next_run(engine, request.stream, before) {
                // A hole that compaction left.
                Some(after) if after <= compacted_to => reading.next = after,
                _ => {
                    let error = lost(engine, request.stream, before, durable_end);
                    return reading.finish(error);
                }
            },
            Err(error) => {
                let error = with_next(engine, request.stream, error, reading.next, durable_end);
                return reading.finish(error);
            }
        }
    }
    Ok(reading.slice)
}

/// A read under way.
struct Reading<'a> {
    engine: &'a Engine,
    request: &'a ReadRequest,
    /// Before this offset a gap is no damage.
    compacted_to: Offset,
    /// The first offset still wanted.
    next: Offset,
    /// Payload read so far.
    bytes: usize,
    slice: ReadSlice,
}

impl Reading<'_> {
    /// What was read before the damage is answered; the damage is met again by the next read.
    fn finish(self, error: Error) -> Result<ReadSlice> {
        if self.slice.batches.is_empty() { Err(error) } else { Ok(self.slice) }
    }

    /// Reads the groups of one run; answers whether enough was read.
    fn read(&mut self, window: &Window) -> Result<bool> {
        let (stream, max_bytes) = (self.request.stream, self.request.max_bytes);
        let mut position = window.position;
        let begun = self.next;
        let mut damage = None;
        while position < window.end && self.next < self.slice.durable_end {
            let (header, frames) = match read_group(self.engine, &window.file, position) {
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
            if !frames.iter().any(|frame| frame.stream == stream) {
                window.file.note_walked(u64::from(header.length));
            }
            for frame in &frames {
                if !wanted(frame, stream, self.next) {
                    continue;
                }
                let length = frame.payload_bytes as usize;
                let is_hole = frame.base_offset <= self.compacted_to && damage.is_none();
                let is_gap = frame.base_offset > self.next && !is_hole;
                if is_gap && self.slice.batches.is_empty() {
                    return Err(Error::new(
                        ErrorKind::Corrupt { next_readable: frame.base_offset },
                        format!(
                            "offset {} of stream {stream} is in no file; reading can go on at {}",
                            self.next, frame.base_offset
                        ),
                    ));
                }
                let is_over = !self.slice.batches.is_empty() && self.bytes + length > max_bytes;
                if is_over || is_gap || frame.end() > self.slice.durable_end {
                    self.slice.hint = Some(self.hint(window, position));
                    return Ok(true);
                }
                let payload = read_payload(self.engine, &window.file, position, frame)?;
                self.bytes += length;
                self.next = frame.end();
                self.slice.batches.push(frame.batch(payload));
            }
            position += u64::from(header.length);
            if self.bytes >= max_bytes && !self.slice.batches.is_empty() {
                self.slice.hint = Some(self.hint(window, position));
                return Ok(true);
            }
        }
        match damage {
            Some(error) if self.next == begun && self.next < self.slice.durable_end => Err(error),
            _ => Ok(false),
        }
    }

    fn hint(&self, window: &Window, position: u64) -> ReadHint {
        ReadHint { file: window.file.key, position, offset: self.next }
    }
}

fn wanted(frame: &Frame, stream: StreamId, next: Offset) -> bool {
    frame.kind == FrameKind::Batch && frame.stream == stream && frame.end() > next
}

/// A hint is worth one run: if the batch is not there, the search decides.
fn from_hint(engine: &Engine, hint: ReadHint) -> Option<Window> {
    let file = engine.files.readable(hint.file)?;
    (hint.position < file.groups_end).then(|| Window {
        position: hint.position,
        end: file.groups_end.min(hint.position + RUN_SPAN),
        file,
    })
}

fn missing(id: StreamId, offset: Offset) -> Error {
    Error::new(
        ErrorKind::Corrupt { next_readable: offset.plus(1) },
        format!("offset {offset} of stream {id} is in no file"),
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

/// The offset of the first record appended at or after `time`, or the durable end.
pub(crate) fn offset_at_time(engine: &Engine, id: StreamId, time: Timestamp) -> Result<Offset> {
    let Bounds { start, durable_end } = bounds(engine, id)?;
    let found = find_run(engine, id, |run| run.append_time < time)?;
    let mut from = start.max(found.map_or(start, |(_, run)| run.base_offset));
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
