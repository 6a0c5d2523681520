//! A policy, as control records and checkpoints hold it.

use std::time::Duration;

use bytes::BufMut;

use super::source::{Malformed, Source};
use crate::retention::{Compaction, Policy};

/// Bytes of an encoded policy.
pub(crate) const BYTES: usize = 33;

const HAS_AGE: u8 = 1;
const HAS_BYTES: u8 = 2;
const HAS_COUNT: u8 = 4;
const HAS_COMPACTION: u8 = 8;

pub(crate) fn encode(policy: &Policy, out: &mut impl BufMut) {
    let nanos = |age: Duration| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
    let compaction = policy.compact.map(|compaction| compaction.tombstone_min_age);
    let fields = [
        (HAS_AGE, policy.max_age.map(nanos)),
        (HAS_BYTES, policy.max_bytes),
        (HAS_COUNT, policy.max_count),
        (HAS_COMPACTION, compaction.map(nanos)),
    ];
    let set = fields.iter().filter(|(_, value)| value.is_some());
    out.put_u8(set.fold(0, |flags, (flag, _)| flags | flag));
    fields.iter().for_each(|(_, value)| out.put_u64_le(value.unwrap_or(0)));
}

pub(crate) fn decode(source: &mut Source<'_>) -> Result<Policy, Malformed> {
    let flags = source.u8()?;
    if flags & !(HAS_AGE | HAS_BYTES | HAS_COUNT | HAS_COMPACTION) != 0 {
        return Err(Malformed("a limit that this version does not know"));
    }
    let mut field = |flag| {
        let value = source.u64()?;
        Ok((flags & flag != 0).then_some(value))
    };
    Ok(Policy {
        max_age: field(HAS_AGE)?.map(Duration::from_nanos),
        max_bytes: field(HAS_BYTES)?,
        max_count: field(HAS_COUNT)?,
        compact: field(HAS_COMPACTION)?
            .map(|nanos| Compaction { tombstone_min_age: Duration::from_nanos(nanos) }),
    })
}
