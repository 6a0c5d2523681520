//! Between storage's time and protobuf's.

use std::time::Duration;

use meshlog_storage::Timestamp;

use crate::error::{Error, Reason, Result};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A broker time as protobuf writes it.
pub(crate) fn proto_time(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: (time.0 / NANOS_PER_SECOND) as i64,
        nanos: (time.0 % NANOS_PER_SECOND) as i32,
    }
}

/// A time from a request; one before 1970 is 1970, one after 2554 is the last there is.
pub(crate) fn storage_time(time: &prost_types::Timestamp) -> Timestamp {
    let seconds = u64::try_from(time.seconds).unwrap_or(0);
    let nanos = u64::try_from(time.nanos).unwrap_or(0);
    Timestamp(seconds.saturating_mul(NANOS_PER_SECOND).saturating_add(nanos))
}

const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(10);
const HEARTBEATS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(60);

/// How often a stream says that it is there, as its request wants it: 1 s to 60 s, or 10 s.
pub(crate) fn heartbeat(asked: Option<&prost_types::Duration>) -> Result<Duration> {
    duration_within(asked, "heartbeat_interval", DEFAULT_HEARTBEAT, HEARTBEATS)
}

/// A duration from a request, which must lie within bounds if it is there.
pub(crate) fn duration_within(
    duration: Option<&prost_types::Duration>,
    field: &'static str,
    default: Duration,
    bounds: std::ops::RangeInclusive<Duration>,
) -> Result<Duration> {
    let Some(duration) = duration else { return Ok(default) };
    match Duration::try_from(*duration) {
        Ok(duration) if bounds.contains(&duration) => Ok(duration),
        _ => Err(Error::new(
            Reason::InvalidArgument,
            format!("`{field}` must lie between {:?} and {:?}", bounds.start(), bounds.end()),
        )
        .with("field", field)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_the_round_trip_and_odd_ones_are_clamped() {
        let time = Timestamp(1_700_000_000_123_456_789);
        assert_eq!(storage_time(&proto_time(time)), time);
        assert_eq!(storage_time(&prost_types::Timestamp { seconds: -1, nanos: 0 }), Timestamp(0));
        let far = prost_types::Timestamp { seconds: i64::MAX, nanos: 0 };
        assert_eq!(storage_time(&far), Timestamp(u64::MAX));
    }
}
