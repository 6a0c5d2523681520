//! The checkpoint: everything the journal said up to one group, so that older files need not be
//! replayed.

use bytes::{BufMut, Bytes};

use super::file_header::PreviousFile;
use super::footer::{Footer, FooterStream};
use super::policy;
use super::source::{Malformed, Source};
use crate::position::{FileSequence, Lsn, Offset, StreamId, Timestamp};
use crate::retention::Policy;
use crate::sabotage::skips;

const MAGIC: [u8; 8] = *b"MESHLOGC";
const VERSION: u32 = 2;
/// Knows no bytes, no policies and no merged files.
const VERSION_1: u32 = 1;

/// The state after the group `lsn`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) lsn: Lsn,
    /// The file that holds the next group, and where in it.
    pub(crate) sequence: FileSequence,
    pub(crate) position: u64,
    pub(crate) wall_time: Timestamp,
    /// How far off the clock was within the last hour, in seconds; all ones: behind.
    pub(crate) clock_doubt: u32,
    pub(crate) next_stream: u64,
    /// Merges begun so far, at least.
    pub(crate) last_merge: u64,
    pub(crate) streams: Vec<StreamRecord>,
    /// Of the streams that have one.
    pub(crate) policies: Vec<(StreamId, Policy)>,
    /// The footer of the file being written, so far.
    pub(crate) active: Vec<FooterStream>,
    pub(crate) producers: Vec<ProducerRecord>,
    /// Cells of the table of forgotten producers that are not 0.
    pub(crate) forgotten: Vec<(u32, u32)>,
    pub(crate) state: Vec<(Bytes, Bytes)>,
    /// Finished files that hold live records, by sequence.
    pub(crate) files: Vec<FileRecord>,
    /// What merges wrote and holds live records.
    pub(crate) segments: Vec<SegmentRecord>,
    pub(crate) quarantine: Vec<QuarantineRecord>,
    /// What was found damaged, one sentence each.
    pub(crate) damage: Vec<String>,
}

/// One stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamRecord {
    pub(crate) stream: StreamId,
    pub(crate) start: Offset,
    pub(crate) end: Offset,
    pub(crate) last_time: Timestamp,
    /// No finished file after this one holds it.
    pub(crate) last_file: Option<FileSequence>,
    /// Payload bytes appended to it.
    pub(crate) bytes: u64,
    /// Records before this offset may be missing because newer ones have their keys.
    pub(crate) compacted_to: Offset,
}

/// One producer in one scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProducerRecord {
    pub(crate) scope: u64,
    pub(crate) id: [u8; 16],
    pub(crate) epoch: u32,
    pub(crate) next_sequence: u64,
    /// The outcomes of the sequences just before `next_sequence`, oldest first.
    pub(crate) recent: Vec<RecentRecord>,
}

/// The outcome of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecentRecord {
    pub(crate) lsn: Lsn,
    pub(crate) ranges: Vec<(StreamId, Offset, u32, Timestamp)>,
}

/// One finished file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileRecord {
    pub(crate) sequence: FileSequence,
    pub(crate) slot: u32,
    pub(crate) salt: [u8; 16],
    pub(crate) size: u64,
    pub(crate) base_lsn: Lsn,
    pub(crate) last_lsn: Lsn,
    /// One past its last group, the seal not counted.
    pub(crate) end: u64,
    /// Where its seal begins, if it has one: at `end`.
    pub(crate) seal: Option<u64>,
    pub(crate) previous: Option<PreviousFile>,
}

/// One file that a merge wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentRecord {
    pub(crate) merge: u64,
    pub(crate) part: u32,
    /// It stands for records of the journal files from this one ...
    pub(crate) first_rank: FileSequence,
    /// ... to this one, and is searched in its place.
    pub(crate) rank: FileSequence,
    pub(crate) salt: [u8; 16],
    pub(crate) size: u64,
    /// One past its last group: where its seal begins.
    pub(crate) end: u64,
    /// The lowest and the highest stream in it.
    pub(crate) streams: (StreamId, StreamId),
}

/// Damaged offsets of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QuarantineRecord {
    pub(crate) stream: StreamId,
    pub(crate) first: Offset,
    pub(crate) end: Offset,
}

impl Checkpoint {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_slice(&MAGIC);
        out.put_u32_le(VERSION);
        out.put_u32_le(self.clock_doubt);
        for number in [
            self.lsn.0,
            self.sequence.0,
            self.position,
            self.wall_time.0,
            self.next_stream,
            self.last_merge,
        ] {
            out.put_u64_le(number);
        }
        out.put_u32_le(self.streams.len() as u32);
        for stream in &self.streams {
            let last_file = stream.last_file.map_or(0, |file| file.0);
            for number in [
                stream.stream.0,
                stream.start.0,
                stream.end.0,
                stream.last_time.0,
                last_file,
                stream.bytes,
                stream.compacted_to.0,
            ] {
                out.put_u64_le(number);
            }
        }
        out.put_u32_le(self.policies.len() as u32);
        for (stream, policy) in &self.policies {
            out.put_u64_le(stream.0);
            policy::encode(policy, &mut out);
        }
        let mut active = Vec::new();
        Footer { next: None, streams: self.active.clone() }.encode(&mut active);
        put_sized(&mut out, &active);
        out.put_u32_le(self.producers.len() as u32);
        for producer in &self.producers {
            out.put_u64_le(producer.scope);
            out.put_slice(&producer.id);
            out.put_u32_le(producer.epoch);
            out.put_u64_le(producer.next_sequence);
            out.put_u32_le(producer.recent.len() as u32);
            for recent in &producer.recent {
                out.put_u64_le(recent.lsn.0);
                out.put_u32_le(recent.ranges.len() as u32);
                for (stream, first, count, time) in &recent.ranges {
                    out.put_u64_le(stream.0);
                    out.put_u64_le(first.0);
                    out.put_u32_le(*count);
                    out.put_u64_le(time.0);
                }
            }
        }
        out.put_u32_le(self.state.len() as u32);
        for (key, value) in &self.state {
            put_sized(&mut out, key);
            put_sized(&mut out, value);
        }
        out.put_u32_le(self.files.len() as u32);
        for file in &self.files {
            out.put_u64_le(file.sequence.0);
            out.put_u32_le(file.slot);
            out.put_slice(&file.salt);
            let previous = file.previous.map_or((0, 0), |p| (p.sequence.0, p.end));
            for number in [
                file.size,
                file.base_lsn.0,
                file.last_lsn.0,
                file.end,
                file.seal.unwrap_or(0),
                previous.0,
                previous.1,
            ] {
                out.put_u64_le(number);
            }
        }
        out.put_u32_le(self.segments.len() as u32);
        self.segments.iter().for_each(|segment| segment.encode(&mut out));
        out.put_u32_le(self.quarantine.len() as u32);
        for range in &self.quarantine {
            out.put_u64_le(range.stream.0);
            out.put_u64_le(range.first.0);
            out.put_u64_le(range.end.0);
        }
        out.put_u32_le(self.damage.len() as u32);
        for sentence in &self.damage {
            put_sized(&mut out, sentence.as_bytes());
        }
        if !self.forgotten.is_empty() {
            out.put_u32_le(self.forgotten.len() as u32);
            for (cell, lowest) in &self.forgotten {
                out.put_u32_le(*cell);
                out.put_u32_le(*lowest);
            }
        }
        let crc = crc32fast::hash(&out);
        out.put_u32_le(crc);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or(Malformed("cut short"))?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc)
            && !skips("the checksum of a checkpoint")
        {
            return Err(Malformed("checksum differs"));
        }
        let mut source = Source(body);
        if source.array()? != MAGIC {
            return Err(Malformed("not a checkpoint"));
        }
        let version = source.u32()?;
        if ![VERSION_1, VERSION].contains(&version) {
            return Err(Malformed("another version of the checkpoint"));
        }
        let is_first = version == VERSION_1;
        let mut checkpoint = Self {
            clock_doubt: source.u32()?,
            lsn: Lsn(source.u64()?),
            sequence: FileSequence(source.u64()?),
            position: source.u64()?,
            wall_time: Timestamp(source.u64()?),
            next_stream: source.u64()?,
            last_merge: if is_first { 0 } else { source.u64()? },
            ..Self::default()
        };
        for _ in 0..source.count(if is_first { 40 } else { 56 })? {
            checkpoint.streams.push(StreamRecord {
                stream: StreamId(source.u64()?),
                start: Offset(source.u64()?),
                end: Offset(source.u64()?),
                last_time: Timestamp(source.u64()?),
                last_file: Some(FileSequence(source.u64()?)).filter(|file| file.0 != 0),
                bytes: if is_first { 0 } else { source.u64()? },
                compacted_to: Offset(if is_first { 0 } else { source.u64()? }),
            });
        }
        let policies = if is_first { 0 } else { source.count(8 + policy::BYTES)? };
        for _ in 0..policies {
            let stream = StreamId(source.u64()?);
            checkpoint.policies.push((stream, policy::decode(&mut source)?));
        }
        checkpoint.active = Footer::decode(source.sized()?)?.streams;
        for _ in 0..source.count(40)? {
            let mut producer = ProducerRecord {
                scope: source.u64()?,
                id: source.array()?,
                epoch: source.u32()?,
                next_sequence: source.u64()?,
                recent: Vec::new(),
            };
            for _ in 0..source.count(12)? {
                let mut recent = RecentRecord { lsn: Lsn(source.u64()?), ranges: Vec::new() };
                for _ in 0..source.count(28)? {
                    recent.ranges.push((
                        StreamId(source.u64()?),
                        Offset(source.u64()?),
                        source.u32()?,
                        Timestamp(source.u64()?),
                    ));
                }
                producer.recent.push(recent);
            }
            checkpoint.producers.push(producer);
        }
        for _ in 0..source.count(8)? {
            let key = Bytes::copy_from_slice(source.sized()?);
            checkpoint.state.push((key, Bytes::copy_from_slice(source.sized()?)));
        }
        for _ in 0..source.count(84)? {
            checkpoint.files.push(FileRecord {
                sequence: FileSequence(source.u64()?),
                slot: source.u32()?,
                salt: source.array()?,
                size: source.u64()?,
                base_lsn: Lsn(source.u64()?),
                last_lsn: Lsn(source.u64()?),
                end: source.u64()?,
                seal: Some(source.u64()?).filter(|seal| *seal != 0),
                previous: {
                    let previous =
                        PreviousFile { sequence: FileSequence(source.u64()?), end: source.u64()? };
                    Some(previous).filter(|previous| previous.sequence.0 != 0)
                },
            });
        }
        let segments = if is_first { 0 } else { source.count(SegmentRecord::BYTES)? };
        for _ in 0..segments {
            checkpoint.segments.push(SegmentRecord::decode(&mut source)?);
        }
        for _ in 0..source.count(24)? {
            checkpoint.quarantine.push(QuarantineRecord {
                stream: StreamId(source.u64()?),
                first: Offset(source.u64()?),
                end: Offset(source.u64()?),
            });
        }
        for _ in 0..source.count(4)? {
            checkpoint.damage.push(String::from_utf8_lossy(source.sized()?).into_owned());
        }
        if !source.0.is_empty() {
            for _ in 0..source.count(8)? {
                checkpoint.forgotten.push((source.u32()?, source.u32()?));
            }
        }
        source.end()?;
        Ok(checkpoint)
    }
}

impl SegmentRecord {
    /// Bytes of an encoded record.
    pub(crate) const BYTES: usize = 76;

    pub(crate) fn encode(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.merge);
        out.put_u32_le(self.part);
        out.put_u64_le(self.first_rank.0);
        out.put_u64_le(self.rank.0);
        out.put_slice(&self.salt);
        for number in [self.size, self.end, self.streams.0.0, self.streams.1.0] {
            out.put_u64_le(number);
        }
    }

    pub(crate) fn decode(source: &mut Source<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            merge: source.u64()?,
            part: source.u32()?,
            first_rank: FileSequence(source.u64()?),
            rank: FileSequence(source.u64()?),
            salt: source.array()?,
            size: source.u64()?,
            end: source.u64()?,
            streams: (StreamId(source.u64()?), StreamId(source.u64()?)),
        })
    }
}

fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32_le(bytes.len() as u32);
    out.put_slice(bytes);
}
