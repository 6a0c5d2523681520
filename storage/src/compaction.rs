//! Compaction: of the records with one key only the newest stays.
//!
//! It happens while a merge copies. First the keys of the part not compacted yet are read into a
//! map: key → offset of its newest record there. Then everything from the stream's start on is
//! copied, and a record goes if the map knows a newer one. The map is bounded; what does not fit is
//! left to the next merge. A record without a key stays, so does the newest record of the stream,
//! and a tombstone until it is old enough: by then nothing older of its key is left.
//!
//! Keys are compared by hashes of 128 bits with a seed that is drawn anew for every merge, so
//! nobody can prepare keys that collide.

use std::collections::HashMap;

use crate::position::{Offset, StreamId, Timestamp};

/// A map with this many keys takes 64 MiB at most.
const KEYS_MAX: usize = (1 << 20) / 8 * 7;

/// One stream that a merge compacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Compacting {
    /// Before this offset it is compacted already.
    pub(crate) from: Offset,
    /// Up to here it will be: what the map knows.
    pub(crate) to: Offset,
    /// Tombstones appended at or before this time go.
    pub(crate) tombstones: Option<Timestamp>,
}

/// The newest offset of each key.
pub(crate) struct KeyMap {
    seed: [u64; 2],
    newest: HashMap<u128, Offset>,
    keys_max: usize,
}

impl KeyMap {
    pub(crate) fn new(seed: [u8; 16]) -> Self {
        let seed = u128::from_le_bytes(seed);
        Self {
            seed: [seed as u64, (seed >> 64) as u64],
            newest: HashMap::new(),
            keys_max: KEYS_MAX,
        }
    }

    /// Whether so many more keys fit.
    pub(crate) fn has_room(&self, keys: usize) -> bool {
        self.newest.len() + keys <= self.keys_max
    }

    /// A record with this key is there; offsets come rising.
    pub(crate) fn note(&mut self, stream: StreamId, key: &[u8], offset: Offset) {
        let hash = hash(self.seed, stream, key);
        self.newest.insert(hash, offset);
    }

    /// True if a newer record has the key.
    pub(crate) fn supersedes(&self, stream: StreamId, key: &[u8], offset: Offset) -> bool {
        self.newest.get(&hash(self.seed, stream, key)).is_some_and(|newest| *newest > offset)
    }
}

/// SipHash-2-4 with 128 bits of output (Aumasson and Bernstein), of the stream and the key.
fn hash(seed: [u64; 2], stream: StreamId, key: &[u8]) -> u128 {
    let mut message = Vec::with_capacity(8 + key.len());
    message.extend_from_slice(&stream.0.to_le_bytes());
    message.extend_from_slice(key);
    siphash(seed, &message)
}

fn siphash(seed: [u64; 2], message: &[u8]) -> u128 {
    let mut v = [
        seed[0] ^ 0x736f_6d65_7073_6575,
        seed[1] ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        seed[0] ^ 0x6c79_6765_6e65_7261,
        seed[1] ^ 0x7465_6462_7974_6573,
    ];
    let (words, rest) = message.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    last[7] = message.len() as u8;
    for word in words.iter().chain([&last]) {
        let word = u64::from_le_bytes(*word);
        v[3] ^= word;
        rounds(&mut v, 2);
        v[0] ^= word;
    }
    v[2] ^= 0xee;
    rounds(&mut v, 4);
    let low = v[0] ^ v[1] ^ v[2] ^ v[3];
    v[1] ^= 0xdd;
    rounds(&mut v, 4);
    let high = v[0] ^ v[1] ^ v[2] ^ v[3];
    u128::from(high) << 64 | u128::from(low)
}

fn rounds(v: &mut [u64; 4], count: usize) {
    for _ in 0..count {
        v[0] = v[0].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[2] = v[2].rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first vectors of the authors' own list: key 00 01 … 0f, messages of 0 and 1 byte.
    #[test]
    fn the_hash_is_the_published_one() {
        let seed = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let bytes = |message: &[u8]| siphash(seed, message).to_le_bytes();
        assert_eq!(
            bytes(&[]),
            [
                0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55,
                0x02, 0x93
            ]
        );
        assert_eq!(
            bytes(&[0]),
            [
                0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11, 0x9b, 0x22,
                0xfc, 0x45
            ]
        );
    }

    #[test]
    fn only_a_newer_record_of_the_same_stream_and_key_supersedes() {
        let mut map = KeyMap::new([7; 16]);
        map.note(StreamId(1), b"k", Offset(5));
        assert!(map.supersedes(StreamId(1), b"k", Offset(4)));
        assert!(!map.supersedes(StreamId(1), b"k", Offset(5)));
        assert!(!map.supersedes(StreamId(2), b"k", Offset(4)));
        assert!(!map.supersedes(StreamId(1), b"kk", Offset(4)));
    }

    #[test]
    fn a_full_map_says_so() {
        let mut map = KeyMap { keys_max: 2, ..KeyMap::new([0; 16]) };
        map.note(StreamId(1), b"a", Offset(0));
        assert!(map.has_room(1) && !map.has_room(2));
    }
}
