//! Reading: from memory at once, from files by reader threads.
//!
//! ```text
//!  read(stream, offset)
//!    ├─ in the ring ────────────────► answer now
//!    └─ older ─► queue ─► reader thread
//!                 locate: run of the file being written, else bisect footers
//!                 read groups from there (≤ 1 MiB to the batch), verify checksums, answer
//! ```

mod chunks;
mod cold;
pub(crate) mod footers;
mod group;
mod locate;
mod queue;
mod slabs;

pub(crate) use chunks::ChunkCache;
pub(crate) use cold::{offset_at_time, read_cold};
pub(crate) use footers::Footers;
pub(crate) use group::read_group;
pub(crate) use locate::{Window, find_run, next_run};
pub(crate) use queue::{Job, ReadQueue};

use crate::engine::Engine;
use crate::entry::StoredBatch;
use crate::error::{Error, ErrorKind, Result};
use crate::position::{FileKey, Offset, StreamId};
use crate::stream::View;

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
pub struct ReadHint {
    pub(crate) file: FileKey,
    pub(crate) position: u64,
    pub(crate) offset: Offset,
}

/// What was read: batches in order, dense from the offset asked for. In a stream that is compacted
/// there are holes: what follows an offset that is gone comes in its place.
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

/// The readable range of a stream.
pub(crate) fn bounds(engine: &Engine, stream: StreamId) -> Result<Bounds> {
    let durable = engine.durable();
    let stream = engine.state.stream(stream)?;
    let view = stream.view();
    Ok(Bounds { start: view.start, durable_end: view.durable_end(durable) })
}

/// Reads what is in memory; `None` if a file must be read.
pub(crate) fn read_hot(engine: &Engine, request: &ReadRequest) -> Option<Result<ReadSlice>> {
    // Loaded before the view: what it publishes is in the view by then.
    let durable = engine.durable();
    let stream = match engine.state.stream(request.stream) {
        Ok(stream) => stream,
        Err(error) => return Some(Err(error)),
    };
    let view = stream.view();
    let bounds = Bounds { start: view.start, durable_end: view.durable_end(durable) };
    if let Err(error) = check(request, bounds, &view) {
        return Some(Err(error));
    }
    let mut slice =
        ReadSlice { start: bounds.start, durable_end: bounds.durable_end, ..ReadSlice::default() };
    if request.from == bounds.durable_end {
        return Some(Ok(slice));
    }
    let mut bytes = 0;
    for batch in view.recent_from(request.from)? {
        let is_over = !slice.batches.is_empty() && bytes + batch.payload.len() > request.max_bytes;
        if is_over || batch.end() > bounds.durable_end {
            break;
        }
        bytes += batch.payload.len();
        slice.batches.push(batch.clone());
    }
    Some(Ok(slice))
}

fn check(request: &ReadRequest, bounds: Bounds, view: &View) -> Result<()> {
    let Bounds { start, durable_end } = bounds;
    let from = request.from;
    if from < start || from > durable_end {
        return Err(Error::new(
            ErrorKind::OffsetOutOfRange { start, durable_end },
            format!("offset {from} is outside of {start} to {durable_end}"),
        ));
    }
    match view.damaged_until(from) {
        Some(next_readable) => Err(Error::new(
            ErrorKind::Corrupt { next_readable },
            format!("offset {from} is damaged; reading can go on at {next_readable}"),
        )),
        None => Ok(()),
    }
}
