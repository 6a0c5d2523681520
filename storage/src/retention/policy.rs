//! The limits of a stream.

use std::time::Duration;

/// How long records of a stream stay. A batch goes when one of the limits no longer wants it;
/// nothing is limited by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Since they were appended, by the broker's clock.
    pub max_age: Option<Duration>,
    /// Payload bytes: the newest ones are kept.
    pub max_bytes: Option<u64>,
    /// Offsets: the newest ones are kept, whether or not compaction left a record there.
    pub max_count: Option<u64>,
    /// Keep the newest record of each key, and those without a key.
    pub compact: Option<Compaction>,
}

impl Policy {
    /// The ages after which something goes.
    pub(crate) fn ages(&self) -> impl Iterator<Item = Duration> {
        let tombstones = self.compact.map(|compaction| compaction.tombstone_min_age);
        self.max_age.into_iter().chain(tombstones)
    }
}

/// How superseded records go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// A record with a key and no value stays at least this long, so that readers learn of it.
    pub tombstone_min_age: Duration,
}
