//! The first batch that a limit still wants.

use std::ops::ControlFlow;

use crate::engine::Engine;
use crate::error::Result;
use crate::format::{FrameKind, Run};
use crate::position::{FileSequence, Offset, StreamId, Timestamp};
use crate::read::{Window, find_run, next_run, read_group};
use crate::stream::Stream;

/// Where a limit cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// What was appended at or before this time goes.
    Time(Timestamp),
    /// Batches that end at or before this position in the stream's bytes go.
    Bytes(u64),
    /// Batches that end at or before this offset go.
    Count(Offset),
}

/// A batch, as limits see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) base_offset: Offset,
    pub(crate) end: Offset,
    pub(crate) append_time: Timestamp,
    /// Payload bytes of the stream before it and after it.
    pub(crate) bytes: (u64, u64),
    /// Those before its run.
    run_bytes: u64,
}

impl Seen {
    /// Payload bytes of the stream before it, as far as they were counted: version 1 did not, and
    /// what is in its files is in runs before the first byte.
    pub(crate) fn counted_before(&self) -> u64 {
        if self.run_bytes == 0 { 0 } else { self.bytes.0 }
    }
}

impl Cut {
    fn is_before(&self, run: &Run) -> bool {
        match self {
            Self::Time(time) => run.append_time <= *time,
            Self::Bytes(position) => run.bytes <= *position,
            Self::Count(offset) => run.base_offset <= *offset,
        }
    }

    fn drops(&self, batch: &Seen) -> bool {
        match self {
            Self::Time(time) => batch.append_time <= *time,
            Self::Bytes(position) => batch.bytes.1 <= *position,
            Self::Count(offset) => batch.end <= *offset,
        }
    }
}

/// The offset of the first batch that is still wanted; `None`: the limit wants all.
pub(crate) fn first_kept(engine: &Engine, stream: &Stream, cut: Cut) -> Result<Option<Offset>> {
    let id = stream.id;
    let Some((window, run)) = find_run(engine, id, |run| cut.is_before(run))? else {
        return Ok(None);
    };
    let mut kept = None;
    walk(engine, stream, &window, &run, &mut |batch| {
        if cut.drops(&batch) {
            return ControlFlow::Continue(());
        }
        kept = Some(batch.base_offset);
        ControlFlow::Break(())
    })?;
    let durable_end = stream.view().durable_end(engine.durable());
    let after = kept.or_else(|| next_run(engine, id, run.base_offset)).unwrap_or(durable_end);
    Ok(Some(after.min(durable_end)))
}

/// The batch that holds an offset or follows it.
pub(crate) fn batch_at(engine: &Engine, stream: &Stream, offset: Offset) -> Result<Option<Seen>> {
    let id = stream.id;
    let mut from = offset;
    // The second time in the next run: the first one ended in a hole.
    for _ in 0..2 {
        if let Some((window, run)) = find_run(engine, id, |run| run.base_offset <= from)? {
            let mut found = None;
            walk(engine, stream, &window, &run, &mut |batch| {
                if batch.end <= offset {
                    return ControlFlow::Continue(());
                }
                found = Some(batch);
                ControlFlow::Break(())
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        let Some(after) = next_run(engine, id, from) else { break };
        from = after;
    }
    Ok(None)
}

/// Where the newest `wanted` bytes begin, in the stream's own count; `None`: there are no more.
pub(crate) fn bytes_cut(engine: &Engine, stream: &Stream, wanted: u64) -> Result<Option<Cut>> {
    let (total, active, compacted_to, start) = {
        let view = stream.view();
        (view.bytes, view.active.first().map(|run| run.bytes), view.compacted_to, view.start)
    };
    if compacted_to <= start {
        return Ok(total.checked_sub(wanted).map(Cut::Bytes));
    }
    // Compaction left bytes out: what exists is counted, file by file.
    let mut missing = wanted;
    let newest = active.map(|before| (before, total));
    let mut files = engine.files.holding(stream.id, FileSequence(u64::MAX));
    let mut next = newest;
    loop {
        if let Some((before, after)) = next.take() {
            let inside = after - before;
            if missing <= inside {
                return Ok(Some(Cut::Bytes(after - missing)));
            }
            missing -= inside;
        }
        let Some(file) = files.pop() else { return Ok(None) };
        let footer = engine.footers.load(engine, &file)?;
        next =
            footer.find(stream.id).map(|entry| (entry.bytes - entry.bytes_inside(), entry.bytes));
    }
}

/// Shows the batches of one run, from memory if they are there.
fn walk(
    engine: &Engine,
    stream: &Stream,
    window: &Window,
    run: &Run,
    visit: &mut dyn FnMut(Seen) -> ControlFlow<()>,
) -> Result<()> {
    let mut bytes = run.bytes;
    let mut seen = |base_offset, end, append_time, length: u64| {
        let before = bytes;
        bytes += length;
        Seen { base_offset, end, append_time, bytes: (before, bytes), run_bytes: run.bytes }
    };
    {
        let view = stream.view();
        if let Some(batches) = view.recent_from(run.base_offset) {
            for batch in batches {
                let length = batch.payload.len() as u64;
                let seen = seen(batch.base_offset, batch.end(), batch.append_time, length);
                if visit(seen).is_break() {
                    break;
                }
            }
            return Ok(());
        }
    }
    let mut position = window.position;
    while position < window.end {
        let (header, frames) = read_group(engine, &window.file, position)?;
        if header.is_seal {
            break;
        }
        let of_stream = |frame: &&crate::format::Frame| {
            frame.kind == FrameKind::Batch
                && frame.stream == stream.id
                && frame.base_offset >= run.base_offset
        };
        for frame in frames.iter().filter(of_stream) {
            let length = u64::from(frame.payload_bytes);
            let seen = seen(frame.base_offset, frame.end(), frame.append_time, length);
            if visit(seen).is_break() {
                return Ok(());
            }
        }
        position += u64::from(header.length);
    }
    Ok(())
}

/// The cuts of every limit of a policy; age only with a clock that is trusted.
pub(crate) fn age_cut(max_age: std::time::Duration, now: Timestamp) -> Option<Cut> {
    let nanos = u64::try_from(max_age.as_nanos()).ok()?;
    now.0.checked_sub(nanos).map(|cut| Cut::Time(Timestamp(cut)))
}

/// What a limit by count cuts.
pub(crate) fn count_cut(max_count: u64, end: Offset) -> Option<Cut> {
    end.0.checked_sub(max_count).map(|cut| Cut::Count(Offset(cut)))
}

/// For error messages and explanations of one stream.
pub(crate) fn oldest(engine: &Engine, id: StreamId) -> Result<Option<Seen>> {
    let stream = engine.state.stream(id)?;
    let (start, end) = {
        let view = stream.view();
        (view.start, view.durable_end(engine.durable()))
    };
    if start >= end { Ok(None) } else { batch_at(engine, &stream, start) }
}
