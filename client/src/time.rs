//! Between the wire's timestamps and the standard library's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

/// Absent or out of range: the epoch.
pub(crate) fn from_wire(timestamp: Option<Timestamp>) -> SystemTime {
    timestamp.and_then(|timestamp| SystemTime::try_from(timestamp).ok()).unwrap_or(UNIX_EPOCH)
}

pub(crate) fn to_wire(time: SystemTime) -> Timestamp {
    Timestamp::from(time)
}

/// Longer than the wire can say: the longest it can.
pub(crate) fn duration_to_wire(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration)
        .unwrap_or(prost_types::Duration { seconds: i64::MAX, nanos: 0 })
}
