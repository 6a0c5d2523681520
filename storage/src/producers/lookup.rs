//! The outcome of an entry that memory has given up, told from the log.
//!
//! A retry says itself to which streams its entry went. In each of them the batch that carries its
//! stamp is looked for, from the newest outcome that is still known backwards. It is not found if
//! retention took it, if compaction changed it, or if it is too far back.

use crate::admission::Permit;
use crate::engine::Engine;
use crate::entry::{Appended, AppendedRange, Durability, ProducerStamp};
use crate::error::Result;
use crate::format::{Frame, FrameKind};
use crate::journal::Done;
use crate::position::{Lsn, Offset, StreamId};
use crate::producers::sequence_too_old;
use crate::read::{find_run, read_group};

/// Bytes of groups looked through for one retry, at most.
const BYTES_MAX: u64 = 16 << 20;

/// A retry whose outcome is to be told from the log.
pub(crate) struct Lookup {
    pub(crate) done: Done,
    pub(crate) stamp: ProducerStamp,
    /// One per batch of the retry, in its order.
    pub(crate) streams: Vec<StreamId>,
    /// The batches of later entries begin here, where that is known.
    pub(crate) before: Vec<(StreamId, Offset)>,
    pub(crate) durability: Durability,
    /// Bounds how many are under way.
    pub(crate) _permit: Option<Permit>,
}

impl Lookup {
    /// Reads, and answers.
    pub(crate) fn answer(self, engine: &Engine) {
        let outcome = match self.ranges(engine) {
            Ok(Some((lsn, ranges))) => {
                Ok(Appended { lsn, ranges, durability: self.durability, duplicate: true })
            }
            Ok(None) => Err(sequence_too_old(&self.stamp)),
            Err(error) => Err(match error.source_error() {
                Some(source) => sequence_too_old(&self.stamp).caused_by(source),
                None => sequence_too_old(&self.stamp),
            }),
        };
        (self.done)(outcome);
    }

    fn ranges(&self, engine: &Engine) -> Result<Option<(Lsn, Vec<AppendedRange>)>> {
        let mut budget = BYTES_MAX;
        let mut found: Vec<(StreamId, Vec<AppendedRange>)> = Vec::new();
        let mut newest = Lsn(0);
        for stream in &self.streams {
            if found.iter().any(|(known, _)| known == stream) {
                continue;
            }
            let Some((lsn, ranges)) = self.in_stream(engine, *stream, &mut budget)? else {
                return Ok(None);
            };
            newest = newest.max(lsn);
            found.push((*stream, ranges));
        }
        let mut in_order = Vec::with_capacity(self.streams.len());
        for stream in &self.streams {
            let ranges = found.iter_mut().find(|(known, _)| known == stream);
            match ranges {
                Some((_, ranges)) if !ranges.is_empty() => in_order.push(ranges.remove(0)),
                // It is another entry than the first attempt's.
                _ => return Ok(None),
            }
        }
        let is_whole = found.iter().all(|(_, ranges)| ranges.is_empty());
        Ok(is_whole.then_some((newest, in_order)))
    }

    /// What carries the stamp in one stream, going back run by run.
    fn in_stream(
        &self,
        engine: &Engine,
        stream: StreamId,
        budget: &mut u64,
    ) -> Result<Option<(Lsn, Vec<AppendedRange>)>> {
        let (start, end, compacted_to) = {
            let known = engine.state.stream(stream)?;
            let view = known.view();
            (view.start, view.end(), view.compacted_to)
        };
        let hint = self.before.iter().find(|(known, _)| *known == stream);
        let mut bound = hint.map_or(end, |(_, offset)| *offset);
        while bound > start && bound > compacted_to {
            let Some((window, run)) = find_run(engine, stream, |run| run.base_offset < bound)?
            else {
                return Ok(None);
            };
            if run.base_offset >= bound {
                return Ok(None);
            }
            let (mut position, mut newest, mut ranges) = (window.position, Lsn(0), Vec::new());
            while position < window.end {
                let (header, frames) = read_group(engine, &window.file, position)?;
                if header.is_seal {
                    break;
                }
                for frame in frames.iter().filter(|frame| self.is_carried_by(frame, stream)) {
                    newest = newest.max(header.lsn);
                    ranges.push(AppendedRange {
                        stream,
                        first_offset: frame.base_offset,
                        count: frame.count,
                        append_time: frame.append_time,
                    });
                }
                let length = u64::from(header.length);
                position += length;
                let Some(rest) = budget.checked_sub(length) else { return Ok(None) };
                *budget = rest;
            }
            let is_there = ranges.iter().all(|range| range.first_offset >= start.max(compacted_to));
            if !ranges.is_empty() {
                return Ok(is_there.then_some((newest, ranges)));
            }
            bound = run.base_offset;
        }
        Ok(None)
    }

    fn is_carried_by(&self, frame: &Frame, stream: StreamId) -> bool {
        frame.kind == FrameKind::Batch
            && frame.stream == stream
            && frame.producer == Some(self.stamp)
    }
}
