//! The footer: where each stream stands in one finished file. An aid for finding, never
//! evidence: it can be made again by reading the file's frame tables.

use bytes::BufMut;

use super::source::{Malformed, Source};
use crate::position::{FileSequence, Offset, StreamId, Timestamp};

/// What version 2 begins with. In version 1 the number of the next file stands there, which never
/// gets this large.
const MAGIC: u64 = u64::from_le_bytes(*b"MESHLOGF");

/// Groups that begin within this many bytes share a run.
pub(crate) const RUN_SPAN: u64 = 1 << 20;

/// A place from which to look for a stream's batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Of the first batch in the run.
    pub(crate) base_offset: Offset,
    /// Of the first batch in the run.
    pub(crate) append_time: Timestamp,
    /// Where the group of that batch begins.
    pub(crate) position: u64,
    /// Payload bytes of the stream before that batch, whether they still exist or not. 0 in files
    /// of version 1, which did not count: everything in them is older than what was counted.
    pub(crate) bytes: u64,
}

/// One stream in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FooterStream {
    pub(crate) stream: StreamId,
    /// One past the last offset in this file.
    pub(crate) end: Offset,
    /// Payload bytes of the stream up to there, counted as in [`Run::bytes`].
    pub(crate) bytes: u64,
    /// At least one, by offset.
    pub(crate) runs: Vec<Run>,
}

/// Where every stream stands in a file, by stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Footer {
    /// What follows this file, if it was sealed by a roll.
    pub(crate) next: Option<FileSequence>,
    pub(crate) streams: Vec<FooterStream>,
}

const STREAM_BYTES: usize = 28;
const RUN_BYTES: usize = 32;
const RUN_BYTES_V1: usize = 24;

impl FooterStream {
    /// Payload bytes of the stream in this file.
    pub(crate) fn bytes_inside(&self) -> u64 {
        self.bytes - self.runs[0].bytes
    }
}

impl Footer {
    /// An upper bound on the encoded length with one more run for each of `more` batches.
    pub(crate) fn encoded_bound(streams: usize, runs: usize, more: usize) -> usize {
        24 + (streams + more) * STREAM_BYTES + (runs + more) * RUN_BYTES
    }

    pub(crate) fn encode(&self, out: &mut impl BufMut) {
        out.put_u64_le(MAGIC);
        out.put_u64_le(self.next.map_or(0, |next| next.0));
        out.put_u32_le(self.streams.len() as u32);
        for stream in &self.streams {
            out.put_u64_le(stream.stream.0);
            out.put_u64_le(stream.end.0);
            out.put_u64_le(stream.bytes);
            out.put_u32_le(stream.runs.len() as u32);
            for run in &stream.runs {
                out.put_u64_le(run.base_offset.0);
                out.put_u64_le(run.append_time.0);
                out.put_u64_le(run.position);
                out.put_u64_le(run.bytes);
            }
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut source = Source(bytes);
        let first = source.u64()?;
        let counts_bytes = first == MAGIC;
        let next = if counts_bytes { source.u64()? } else { first };
        let next = Some(FileSequence(next)).filter(|next| next.0 != 0);
        let count = source.count(STREAM_BYTES)?;
        let mut streams = Vec::with_capacity(count);
        for _ in 0..count {
            let stream = StreamId(source.u64()?);
            // Version 1 named the file before that holds the stream; nobody needs it.
            let (end, bytes) = if counts_bytes {
                (Offset(source.u64()?), source.u64()?)
            } else {
                source.u64()?;
                (Offset(source.u64()?), 0)
            };
            let run_count = source.count(if counts_bytes { RUN_BYTES } else { RUN_BYTES_V1 })?;
            let mut runs = Vec::with_capacity(run_count);
            for _ in 0..run_count {
                runs.push(Run {
                    base_offset: Offset(source.u64()?),
                    append_time: Timestamp(source.u64()?),
                    position: source.u64()?,
                    bytes: if counts_bytes { source.u64()? } else { 0 },
                });
            }
            let Some(last) = runs.last() else { return Err(Malformed("a stream without a run")) };
            if !runs.is_sorted_by_key(|run| run.bytes) || bytes < last.bytes {
                return Err(Malformed("bytes of a stream are out of order"));
            }
            streams.push(FooterStream { stream, end, bytes, runs });
        }
        source.end()?;
        if !streams.is_sorted_by(|a, b| a.stream < b.stream) {
            return Err(Malformed("streams are out of order"));
        }
        Ok(Self { next, streams })
    }

    /// The stream's part of the file.
    pub(crate) fn find(&self, stream: StreamId) -> Option<&FooterStream> {
        let index = self.streams.binary_search_by_key(&stream, |entry| entry.stream).ok()?;
        Some(&self.streams[index])
    }

    /// Roughly the memory it takes.
    pub(crate) fn memory(&self) -> usize {
        let runs: usize = self.streams.iter().map(|stream| stream.runs.len()).sum();
        self.streams.len() * 64 + runs * RUN_BYTES
    }
}
