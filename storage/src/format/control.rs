//! What control frames say. The stream stands in the frame itself.

use bytes::{BufMut, Bytes};

use super::checkpoint::SegmentRecord;
use super::frame::{Frame, FrameKind};
use super::policy;
use super::source::{Malformed, Source};
use crate::position::{FileKey, FileSequence, Offset, StreamId};
use crate::retention::Policy;

/// A change other than records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ControlRecord {
    CreateStream,
    DeleteStream,
    /// The start offset is at least this, because somebody asked.
    Trim(Offset),
    /// The start offset is at least this, because of age or size.
    Retention(Offset),
    /// These offsets are damaged.
    Quarantine(Offset, Offset),
    /// The outputs hold what is alive of what the inputs held.
    Merged(MergedRecord),
    /// Lower epochs of this producer are fenced.
    EpochChange {
        scope: u64,
        producer: [u8; 16],
        epoch: u32,
    },
    /// The newest value of a key.
    SetState {
        key: Bytes,
        value: Option<Bytes>,
    },
    /// How long records of the stream stay.
    SetPolicy(Policy),
}

/// A finished merge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MergedRecord {
    pub(crate) merge: u64,
    /// In the order of their keys.
    pub(crate) inputs: Vec<FileKey>,
    pub(crate) outputs: Vec<SegmentRecord>,
    /// Streams of which superseded records were left out, and up to where.
    pub(crate) compacted: Vec<(StreamId, Offset)>,
}

impl ControlRecord {
    pub(crate) fn kind(&self) -> FrameKind {
        match self {
            Self::CreateStream => FrameKind::CreateStream,
            Self::DeleteStream => FrameKind::DeleteStream,
            Self::Trim(_) => FrameKind::Trim,
            Self::Retention(_) => FrameKind::Retention,
            Self::Quarantine(..) => FrameKind::Quarantine,
            Self::Merged(_) => FrameKind::Merged,
            Self::EpochChange { .. } => FrameKind::EpochChange,
            Self::SetState { .. } => FrameKind::SetState,
            Self::SetPolicy(_) => FrameKind::SetPolicy,
        }
    }

    pub(crate) fn encode(&self, out: &mut impl BufMut) {
        match self {
            Self::CreateStream | Self::DeleteStream => {}
            Self::Trim(start) | Self::Retention(start) => out.put_u64_le(start.0),
            Self::Quarantine(first, end) => {
                out.put_u64_le(first.0);
                out.put_u64_le(end.0);
            }
            Self::Merged(merged) => {
                out.put_u64_le(merged.merge);
                out.put_u32_le(merged.inputs.len() as u32);
                for key in &merged.inputs {
                    out.put_u64_le(key.rank.0);
                    out.put_u64_le(key.merge);
                    out.put_u32_le(key.part);
                }
                out.put_u32_le(merged.outputs.len() as u32);
                merged.outputs.iter().for_each(|output| output.encode(out));
                out.put_u32_le(merged.compacted.len() as u32);
                for (stream, offset) in &merged.compacted {
                    out.put_u64_le(stream.0);
                    out.put_u64_le(offset.0);
                }
            }
            Self::SetPolicy(policy) => policy::encode(policy, out),
            Self::EpochChange { scope, producer, epoch } => {
                out.put_u64_le(*scope);
                out.put_slice(producer);
                out.put_u32_le(*epoch);
            }
            Self::SetState { key, value } => {
                out.put_u32_le(key.len() as u32);
                out.put_slice(key);
                match value {
                    None => out.put_u8(0),
                    Some(value) => {
                        out.put_u8(1);
                        out.put_u32_le(value.len() as u32);
                        out.put_slice(value);
                    }
                }
            }
        }
    }

    pub(crate) fn decode(frame: &Frame, payload: &[u8]) -> Result<Self, Malformed> {
        let mut source = Source(payload);
        let record = match frame.kind {
            FrameKind::Batch => return Err(Malformed("a batch is not a control record")),
            FrameKind::CreateStream => Self::CreateStream,
            FrameKind::DeleteStream => Self::DeleteStream,
            FrameKind::Trim => Self::Trim(Offset(source.u64()?)),
            FrameKind::Retention => Self::Retention(Offset(source.u64()?)),
            FrameKind::Quarantine => Self::Quarantine(Offset(source.u64()?), Offset(source.u64()?)),
            FrameKind::Merged => {
                let mut merged = MergedRecord { merge: source.u64()?, ..MergedRecord::default() };
                for _ in 0..source.count(20)? {
                    merged.inputs.push(FileKey {
                        rank: FileSequence(source.u64()?),
                        merge: source.u64()?,
                        part: source.u32()?,
                    });
                }
                for _ in 0..source.count(SegmentRecord::BYTES)? {
                    merged.outputs.push(SegmentRecord::decode(&mut source)?);
                }
                for _ in 0..source.count(16)? {
                    merged.compacted.push((StreamId(source.u64()?), Offset(source.u64()?)));
                }
                Self::Merged(merged)
            }
            FrameKind::SetPolicy => Self::SetPolicy(policy::decode(&mut source)?),
            FrameKind::EpochChange => Self::EpochChange {
                scope: source.u64()?,
                producer: source.array()?,
                epoch: source.u32()?,
            },
            FrameKind::SetState => {
                let key = Bytes::copy_from_slice(source.sized()?);
                let value = match source.u8()? {
                    0 => None,
                    1 => Some(Bytes::copy_from_slice(source.sized()?)),
                    _ => return Err(Malformed("neither a value nor its absence")),
                };
                Self::SetState { key, value }
            }
        };
        source.end()?;
        Ok(record)
    }
}
