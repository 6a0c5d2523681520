//! The header of a journal file, kept twice in blocks of their own.

use bytes::BufMut;

use super::copies;
use super::source::{Malformed, Source};
use crate::disk::BLOCK;
use crate::position::{FileSequence, Lsn, Timestamp};
use crate::sabotage::skips;

/// Where groups begin: after both copies.
pub(crate) const FILE_HEADER_BYTES: usize = 2 * BLOCK;

const MAGIC: [u8; 8] = *b"MESHLOGJ";
const VERSION: u16 = 1;

/// The file before this one and where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PreviousFile {
    pub(crate) sequence: FileSequence,
    /// One past its last group. A seal may follow there; nothing else does that belongs to the
    /// journal.
    pub(crate) end: u64,
}

/// Says which life of the file this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) sequence: FileSequence,
    /// Random; every checksum of the file's structure is bound to it.
    pub(crate) salt: [u8; 16],
    /// The LSN of the first group.
    pub(crate) base_lsn: Lsn,
    pub(crate) previous: Option<PreviousFile>,
    /// Bytes taken for the file.
    pub(crate) size: u64,
    pub(crate) wall_time: Timestamp,
}

impl FileHeader {
    /// Both copies.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut copy = copies::begin(MAGIC, VERSION);
        copy.put_u64_le(self.sequence.0);
        copy.put_slice(&self.salt);
        copy.put_u64_le(self.base_lsn.0);
        copy.put_u64_le(self.previous.map_or(0, |previous| previous.sequence.0));
        copy.put_u64_le(self.previous.map_or(0, |previous| previous.end));
        copy.put_u64_le(self.size);
        copy.put_u64_le(self.wall_time.0);
        copies::finish(copy)
    }

    /// The first copy that is whole; both say the same.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        copies::first_whole(bytes, Self::decode_copy)
    }

    /// One copy, in a block of its own.
    pub(crate) fn decode_copy(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut source = Source(bytes);
        if source.array()? != MAGIC {
            return Err(Malformed("not a journal file"));
        }
        if source.u16()? != VERSION {
            return Err(Malformed("another version of the journal file"));
        }
        if source.u16()? != 0 || source.u32()? != 0 {
            return Err(Malformed("reserved bits are set"));
        }
        let sequence = FileSequence(source.u64()?);
        let salt = source.array()?;
        let base_lsn = Lsn(source.u64()?);
        let previous = PreviousFile { sequence: FileSequence(source.u64()?), end: source.u64()? };
        let size = source.u64()?;
        let wall_time = Timestamp(source.u64()?);
        let covered = bytes.len() - source.0.len();
        if crc32fast::hash(&bytes[..covered]) != source.u32()?
            && !skips("the checksum of a file header")
        {
            return Err(Malformed("header checksum differs"));
        }
        let previous = (previous.sequence != FileSequence(0)).then_some(previous);
        Ok(Self { sequence, salt, base_lsn, previous, size, wall_time })
    }
}
