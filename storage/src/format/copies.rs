//! Headers that are kept twice, each copy in a block of its own.

use bytes::BufMut;

use super::source::Malformed;
use crate::disk::BLOCK;

/// The bytes that one copy begins with.
pub(super) fn begin(magic: [u8; 8], version: u16) -> Vec<u8> {
    let mut copy = Vec::with_capacity(BLOCK);
    copy.put_slice(&magic);
    copy.put_u16_le(version);
    // Reserved.
    copy.put_u16_le(0);
    copy.put_u32_le(0);
    copy
}

/// Ends a copy with the checksum of what is in it; gives both copies.
pub(super) fn finish(mut copy: Vec<u8>) -> Vec<u8> {
    let crc = crc32fast::hash(&copy);
    copy.put_u32_le(crc);
    copy.resize(BLOCK, 0);
    copy.repeat(2)
}

/// The first copy that is whole; both say the same.
pub(super) fn first_whole<T>(
    bytes: &[u8],
    decode_copy: impl Fn(&[u8]) -> Result<T, Malformed>,
) -> Result<T, Malformed> {
    let mut outcome = Err(Malformed("cut short"));
    for copy in bytes.chunks(BLOCK).take(2) {
        outcome = decode_copy(copy);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}
