//! Which partition a key belongs to: as Kafka's default partitioner chooses it, so that data that
//! moves between the two keeps its partitions.
//!
//! Source: `org.apache.kafka.common.utils.Utils.murmur2` and `toPositive`; MurmurHash2 by Austin
//! Appleby with the seed 0x9747b28c.

/// The partition of a key among `partitions`, which must not be 0.
#[must_use]
pub fn partition_of(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions
}

/// Kafka's murmur2, whose Java `int` is this `u32` reinterpreted.
#[must_use]
pub fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    let length = data.len() as u32;
    let mut hash = SEED ^ length;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (index, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Kafka's `UtilsTest.testMurmur2`.
    #[test]
    fn hashes_equal_those_of_kafka() {
        let vectors: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, hash) in vectors {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "of {key:?}");
        }
    }

    #[test]
    fn a_negative_hash_is_made_positive_by_its_sign_bit_as_kafka_does() {
        // toPositive(-973932308) = 1173551340
        assert_eq!(murmur2(b"21") & 0x7fff_ffff, 1_173_551_340);
        assert_eq!(partition_of(b"21", 12), 1_173_551_340 % 12);
    }

    #[test]
    fn every_key_of_a_product_with_one_partition_goes_there() {
        assert_eq!(partition_of(b"", 1), 0);
        assert_eq!(partition_of(b"anything", 1), 0);
    }
}
