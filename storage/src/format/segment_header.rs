//! The header of a file that a merge wrote, kept twice in blocks of their own.

use super::checkpoint::SegmentRecord;
use super::copies;
use super::source::{Malformed, Source};
use crate::disk::BLOCK;
use crate::sabotage::skips;

/// Where groups begin: after both copies.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 2 * BLOCK;

const MAGIC: [u8; 8] = *b"MESHLOGS";
const VERSION: u16 = 1;

/// Says which output of which merge a file is: the same as the control record says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader(pub(crate) SegmentRecord);

impl SegmentHeader {
    /// Both copies.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut copy = copies::begin(MAGIC, VERSION);
        self.0.encode(&mut copy);
        copies::finish(copy)
    }

    /// The first copy that is whole; both say the same.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        copies::first_whole(bytes, Self::decode_copy)
    }

    /// One copy.
    pub(crate) fn decode_copy(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut source = Source(bytes);
        if source.array()? != MAGIC {
            return Err(Malformed("not a segment"));
        }
        if source.u16()? != VERSION {
            return Err(Malformed("another version of the segment"));
        }
        if source.u16()? != 0 || source.u32()? != 0 {
            return Err(Malformed("reserved bits are set"));
        }
        let record = SegmentRecord::decode(&mut source)?;
        let covered = bytes.len() - source.0.len();
        if crc32fast::hash(&bytes[..covered]) != source.u32()?
            && !skips("the checksum of a segment header")
        {
            return Err(Malformed("header checksum differs"));
        }
        Ok(Self(record))
    }
}
