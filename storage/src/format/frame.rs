//! Frames: the table at the end of a group that says what its payloads are.

use bytes::{BufMut, Bytes};

use super::group::GroupHeader;
use super::source::{Malformed, Source};
use crate::entry::{ProducerStamp, StoredBatch};
use crate::position::{Offset, StreamId, Timestamp};

/// Bytes of an encoded frame without offset deltas.
pub(crate) const FRAME_BYTES: usize = 104;

const FLAG_ENTRY_START: u8 = 1;
const FLAG_PRODUCER: u8 = 2;

/// What a payload is. Numbers are on disk: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FrameKind {
    /// Records.
    Batch = 1,
    CreateStream = 2,
    DeleteStream = 3,
    Trim = 4,
    Retention = 5,
    Quarantine = 6,
    Merged = 7,
    EpochChange = 8,
    SetState = 9,
    SetPolicy = 10,
}

impl FrameKind {
    fn from_number(number: u8) -> Result<Self, Malformed> {
        Ok(match number {
            1 => Self::Batch,
            2 => Self::CreateStream,
            3 => Self::DeleteStream,
            4 => Self::Trim,
            5 => Self::Retention,
            6 => Self::Quarantine,
            7 => Self::Merged,
            8 => Self::EpochChange,
            9 => Self::SetState,
            10 => Self::SetPolicy,
            _ => return Err(Malformed("unknown frame kind")),
        })
    }
}

/// One row of the frame table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: FrameKind,
    /// The first frame of its entry.
    pub(crate) starts_entry: bool,
    /// Unsalted, so that a batch can be copied elsewhere with its checksum.
    pub(crate) payload_crc: u32,
    /// From the start of the group.
    pub(crate) payload_offset: u32,
    pub(crate) payload_bytes: u32,
    pub(crate) stream: StreamId,
    pub(crate) base_offset: Offset,
    pub(crate) count: u32,
    pub(crate) schema: u32,
    pub(crate) application: u32,
    pub(crate) append_time: Timestamp,
    pub(crate) broker_time: Timestamp,
    pub(crate) producer: Option<ProducerStamp>,
    /// Empty: dense. Otherwise one per record, rising.
    pub(crate) offset_deltas: Vec<u32>,
}

impl Frame {
    /// A frame without records.
    pub(crate) fn control(kind: FrameKind, stream: StreamId, time: Timestamp) -> Self {
        Self {
            kind,
            starts_entry: false,
            payload_crc: 0,
            payload_offset: 0,
            payload_bytes: 0,
            stream,
            base_offset: Offset(0),
            count: 0,
            schema: 0,
            application: 0,
            append_time: time,
            broker_time: time,
            producer: None,
            offset_deltas: Vec::new(),
        }
    }

    /// The batch it describes.
    pub(crate) fn batch(&self, payload: Bytes) -> StoredBatch {
        StoredBatch {
            stream: self.stream,
            base_offset: self.base_offset,
            count: self.count,
            offset_deltas: self.offset_deltas.clone(),
            append_time: self.append_time,
            broker_time: self.broker_time,
            schema: self.schema,
            application: self.application,
            producer: self.producer,
            payload,
        }
    }

    /// The offset of each record.
    pub(crate) fn offsets(&self) -> impl Iterator<Item = Offset> {
        let delta = |index: u32| self.offset_deltas.get(index as usize).copied().unwrap_or(index);
        (0..self.count).map(move |index| self.base_offset.plus(delta(index)))
    }

    /// One past the offset of the last record.
    pub(crate) fn end(&self) -> Offset {
        match self.offset_deltas.last() {
            Some(last) => self.base_offset.plus(*last).plus(1),
            None => self.base_offset.plus(self.count),
        }
    }

    pub(crate) fn encoded_bytes(&self) -> usize {
        FRAME_BYTES + 4 * self.offset_deltas.len()
    }

    pub(crate) fn encode(&self, out: &mut impl BufMut) {
        let stamp =
            self.producer.unwrap_or(ProducerStamp { scope: 0, id: [0; 16], epoch: 0, sequence: 0 });
        let mut flags = 0;
        if self.starts_entry {
            flags |= FLAG_ENTRY_START;
        }
        if self.producer.is_some() {
            flags |= FLAG_PRODUCER;
        }
        out.put_u8(self.kind as u8);
        out.put_u8(flags);
        // Reserved: encryption key, compression, batch by reference.
        out.put_u16_le(0);
        out.put_u32_le(self.payload_crc);
        out.put_u32_le(self.payload_offset);
        out.put_u32_le(self.payload_bytes);
        out.put_u64_le(self.stream.0);
        out.put_u64_le(self.base_offset.0);
        out.put_u32_le(self.count);
        out.put_u32_le(self.schema);
        out.put_u32_le(self.application);
        out.put_u32_le(self.offset_deltas.len() as u32);
        out.put_u64_le(self.append_time.0);
        out.put_u64_le(self.broker_time.0);
        out.put_u64_le(stamp.scope);
        out.put_slice(&stamp.id);
        out.put_u64_le(stamp.sequence);
        out.put_u32_le(stamp.epoch);
        out.put_u32_le(0);
        for delta in &self.offset_deltas {
            out.put_u32_le(*delta);
        }
    }

    pub(crate) fn decode(source: &mut Source<'_>) -> Result<Self, Malformed> {
        let kind = FrameKind::from_number(source.u8()?)?;
        let flags = source.u8()?;
        let features = source.u16()?;
        if features != 0 || flags & !(FLAG_ENTRY_START | FLAG_PRODUCER) != 0 {
            return Err(Malformed("reserved bits are set"));
        }
        let payload_crc = source.u32()?;
        let payload_offset = source.u32()?;
        let payload_bytes = source.u32()?;
        let stream = StreamId(source.u64()?);
        let base_offset = Offset(source.u64()?);
        let count = source.u32()?;
        let schema = source.u32()?;
        let application = source.u32()?;
        let delta_count = source.u32()? as usize;
        let append_time = Timestamp(source.u64()?);
        let broker_time = Timestamp(source.u64()?);
        let scope = source.u64()?;
        let id = source.array()?;
        let sequence = source.u64()?;
        let epoch = source.u32()?;
        let reserved = source.u32()?;
        if reserved != 0 {
            return Err(Malformed("reserved bits are set"));
        }
        if delta_count > source.0.len() / 4 {
            return Err(Malformed("a count exceeds the bytes that follow"));
        }
        let mut offset_deltas = Vec::with_capacity(delta_count);
        for _ in 0..delta_count {
            offset_deltas.push(source.u32()?);
        }
        let is_rising = offset_deltas.windows(2).all(|pair| pair[0] < pair[1]);
        if delta_count != 0 && (delta_count != count as usize || !is_rising) {
            return Err(Malformed("offset deltas do not fit the count"));
        }
        let records = offset_deltas.last().map_or(u64::from(count), |last| u64::from(*last) + 1);
        if base_offset.0.checked_add(records).is_none() {
            return Err(Malformed("its offsets are too high"));
        }
        Ok(Self {
            kind,
            starts_entry: flags & FLAG_ENTRY_START != 0,
            payload_crc,
            payload_offset,
            payload_bytes,
            stream,
            base_offset,
            count,
            schema,
            application,
            append_time,
            broker_time,
            producer: (flags & FLAG_PRODUCER != 0).then_some(ProducerStamp {
                scope,
                id,
                epoch,
                sequence,
            }),
            offset_deltas,
        })
    }
}

/// Where a stream stood after the last group that gave out offsets of it. Repeated in the groups
/// that follow, so that damage to a group does not hide which offsets it gave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamEnd {
    pub(crate) stream: StreamId,
    pub(crate) end: Offset,
}

impl StreamEnd {
    /// Bytes of an encoded row.
    pub(crate) const BYTES: usize = 16;

    pub(crate) fn encode(self, out: &mut impl BufMut) {
        out.put_u64_le(self.stream.0);
        out.put_u64_le(self.end.0);
    }
}

/// The table of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) frames: Vec<Frame>,
    pub(crate) ends: Vec<StreamEnd>,
}

impl Table {
    /// Decodes a table whose checksum was verified.
    pub(crate) fn decode(header: &GroupHeader, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut source = Source(bytes);
        let room = bytes.len() / FRAME_BYTES;
        let mut frames = Vec::with_capacity((header.frames as usize).min(room));
        for _ in 0..header.frames {
            let frame = Frame::decode(&mut source)?;
            let end = frame.payload_offset.checked_add(frame.payload_bytes);
            if end.is_none_or(|end| end > header.table_offset) {
                return Err(Malformed("a payload lies outside its group"));
            }
            frames.push(frame);
        }
        if source.0.len() != header.ends as usize * StreamEnd::BYTES {
            return Err(Malformed("the ends do not fit their count"));
        }
        let mut ends = Vec::with_capacity(header.ends as usize);
        for _ in 0..header.ends {
            ends.push(StreamEnd { stream: StreamId(source.u64()?), end: Offset(source.u64()?) });
        }
        Ok(Self { frames, ends })
    }

    pub(crate) fn encode(frames: &[Frame], ends: &[StreamEnd], out: &mut impl BufMut) {
        frames.iter().for_each(|frame| frame.encode(out));
        ends.iter().for_each(|end| end.encode(out));
    }
}
