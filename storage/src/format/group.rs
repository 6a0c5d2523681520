//! The group header, and checksums bound to one place in one file.

use bytes::BufMut;

use super::source::{Malformed, Source};
use crate::disk::BLOCK;
use crate::position::{FileSequence, Lsn, Timestamp};
use crate::sabotage::skips;

/// Bytes of an encoded group header.
pub(crate) const GROUP_HEADER_BYTES: usize = 64;

const MAGIC: u32 = u32::from_le_bytes(*b"MLGR");
const FLAG_SEAL: u16 = 1;

/// Describes the group that follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    /// The last group of its file, whose body names the next file and holds the footer.
    pub(crate) is_seal: bool,
    pub(crate) sequence: FileSequence,
    pub(crate) lsn: Lsn,
    /// From the header to the end of the padding; a multiple of the block.
    pub(crate) length: u32,
    pub(crate) entries: u32,
    pub(crate) frames: u32,
    /// From the start of the group.
    pub(crate) table_offset: u32,
    pub(crate) table_bytes: u32,
    /// Salted.
    pub(crate) table_crc: u32,
    /// Rows of the table after the frames: where streams of earlier groups stood.
    pub(crate) ends: u32,
    /// So many groups before this one have no stream that the ends do not name; 0, in versions 1
    /// and 2: nobody knows.
    pub(crate) reach: u16,
    /// When the group was closed.
    pub(crate) wall_time: Timestamp,
}

/// Checksums that hold only for one file and one place in it: CRC-32 (IEEE) continued from the
/// checksum of salt, file sequence and `place`, which is the LSN for groups.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Salted {
    seed: u32,
}

impl Salted {
    pub(crate) fn new(salt: &[u8; 16], sequence: FileSequence, place: u64) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(if skips("the salt") { &[0; 16] } else { salt });
        hasher.update(&sequence.0.to_le_bytes());
        hasher.update(&place.to_le_bytes());
        Self { seed: hasher.finalize() }
    }

    pub(crate) fn crc(self, bytes: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.seed);
        hasher.update(bytes);
        hasher.finalize()
    }
}

/// The next multiple of the block.
pub(crate) fn round_up(length: usize) -> usize {
    length.next_multiple_of(BLOCK)
}

impl GroupHeader {
    pub(crate) fn encode(&self, salted: Salted, out: &mut impl BufMut) {
        let mut bytes = Vec::with_capacity(GROUP_HEADER_BYTES);
        bytes.put_u32_le(MAGIC);
        bytes.put_u16_le(if self.is_seal { FLAG_SEAL } else { 0 });
        bytes.put_u16_le(self.reach);
        bytes.put_u64_le(self.sequence.0);
        bytes.put_u64_le(self.lsn.0);
        bytes.put_u32_le(self.length);
        bytes.put_u32_le(self.entries);
        bytes.put_u32_le(self.frames);
        bytes.put_u32_le(self.table_offset);
        bytes.put_u32_le(self.table_bytes);
        bytes.put_u32_le(self.table_crc);
        bytes.put_u64_le(self.wall_time.0);
        bytes.put_u32_le(self.ends);
        let crc = salted.crc(&bytes);
        bytes.put_u32_le(crc);
        debug_assert_eq!(bytes.len(), GROUP_HEADER_BYTES);
        out.put_slice(&bytes);
    }

    /// Decodes the header expected in this file. The LSN is the caller's to compare: the
    /// checksum is bound to the one the header itself names.
    pub(crate) fn decode(
        salt: &[u8; 16],
        sequence: FileSequence,
        bytes: &[u8],
    ) -> Result<Self, Malformed> {
        let bytes = bytes.get(..GROUP_HEADER_BYTES).ok_or(Malformed("cut short"))?;
        let mut source = Source(bytes);
        if source.u32()? != MAGIC {
            return Err(Malformed("not a group"));
        }
        let flags = source.u16()?;
        let reach = source.u16()?;
        let header = Self {
            is_seal: flags & FLAG_SEAL != 0,
            sequence: FileSequence(source.u64()?),
            lsn: Lsn(source.u64()?),
            length: source.u32()?,
            entries: source.u32()?,
            frames: source.u32()?,
            table_offset: source.u32()?,
            table_bytes: source.u32()?,
            table_crc: source.u32()?,
            wall_time: Timestamp(source.u64()?),
            ends: source.u32()?,
            reach,
        };
        let crc = source.u32()?;
        if header.sequence != sequence {
            return Err(Malformed("of another file"));
        }
        let salted = Salted::new(salt, sequence, header.lsn.0);
        if salted.crc(&bytes[..GROUP_HEADER_BYTES - 4]) != crc
            && !skips("the checksum of a group's header")
        {
            return Err(Malformed("header checksum differs"));
        }
        if flags & !FLAG_SEAL != 0 {
            return Err(Malformed("reserved bits are set"));
        }
        let table_end = header.table_offset.checked_add(header.table_bytes);
        let fits = table_end.is_some_and(|end| end <= header.length)
            && header.table_offset as usize >= GROUP_HEADER_BYTES
            && (header.length as usize).is_multiple_of(BLOCK)
            && header.length > 0;
        if !fits {
            return Err(Malformed("lengths do not fit"));
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> GroupHeader {
        GroupHeader {
            is_seal: false,
            sequence: FileSequence(3),
            lsn: Lsn(7),
            length: 8192,
            entries: 1,
            frames: 2,
            table_offset: 100,
            table_bytes: 208,
            table_crc: 5,
            ends: 0,
            reach: 3,
            wall_time: Timestamp(9),
        }
    }

    #[test]
    fn a_header_passes_only_in_its_own_life_of_the_file() {
        let salt = [1; 16];
        let mut bytes = Vec::new();
        header().encode(Salted::new(&salt, FileSequence(3), 7), &mut bytes);
        assert_eq!(GroupHeader::decode(&salt, FileSequence(3), &bytes), Ok(header()));
        assert!(GroupHeader::decode(&[2; 16], FileSequence(3), &bytes).is_err());
        assert!(GroupHeader::decode(&salt, FileSequence(4), &bytes).is_err());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let salt = [1; 16];
        let mut bytes = Vec::new();
        header().encode(Salted::new(&salt, FileSequence(3), 7), &mut bytes);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(GroupHeader::decode(&salt, FileSequence(3), &flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn zeros_are_not_a_group() {
        assert!(GroupHeader::decode(&[0; 16], FileSequence(0), &[0; BLOCK]).is_err());
    }
}
