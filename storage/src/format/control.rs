//! What control frames say. The stream stands in the frame itself.

use bytes::{BufMut, Bytes};

use super::frame::{Frame, FrameKind};
use super::source::{Malformed, Source};
use crate::position::{FileSequence, Offset};

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
    /// The output files hold what the input files held.
    Merged {
        merge: u64,
        inputs: Vec<FileSequence>,
        outputs: Vec<FileSequence>,
    },
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
}

impl ControlRecord {
    pub(crate) fn kind(&self) -> FrameKind {
        match self {
            Self::CreateStream => FrameKind::CreateStream,
            Self::DeleteStream => FrameKind::DeleteStream,
            Self::Trim(_) => FrameKind::Trim,
            Self::Retention(_) => FrameKind::Retention,
            Self::Quarantine(..) => FrameKind::Quarantine,
            Self::Merged { .. } => FrameKind::Merged,
            Self::EpochChange { .. } => FrameKind::EpochChange,
            Self::SetState { .. } => FrameKind::SetState,
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
            Self::Merged { merge, inputs, outputs } => {
                out.put_u64_le(*merge);
                for files in [inputs, outputs] {
                    out.put_u32_le(files.len() as u32);
                    files.iter().for_each(|file| out.put_u64_le(file.0));
                }
            }
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
                let merge = source.u64()?;
                let mut lists = [Vec::new(), Vec::new()];
                for list in &mut lists {
                    for _ in 0..source.count(8)? {
                        list.push(FileSequence(source.u64()?));
                    }
                }
                let [inputs, outputs] = lists;
                Self::Merged { merge, inputs, outputs }
            }
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
