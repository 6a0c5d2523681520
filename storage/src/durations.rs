//! How long something took, counted so cheaply that the commit path can do it.
//!
//! A duration is added to one of a few counters, from 50 µs to 10 s; nothing is locked and nothing
//! allocated. Whoever wants to know takes the counts as they are at that moment.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the counters; what took longer is counted in one more.
pub const DURATION_BOUNDS: [Duration; 16] = [
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(10),
];

/// Counters by duration.
#[derive(Debug, Default)]
pub struct Durations {
    counts: [AtomicU64; DURATION_BOUNDS.len() + 1],
    nanos: AtomicU64,
}

/// What [`Durations`] had counted at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DurationCounts {
    /// Of each bound those at or below it and above the one before; last those above all.
    pub counts: [u64; DURATION_BOUNDS.len() + 1],
    /// All together.
    pub sum: Duration,
}

impl Durations {
    /// Something took this long.
    pub fn add(&self, took: Duration) {
        let at = DURATION_BOUNDS.partition_point(|bound| *bound < took);
        self.counts[at].fetch_add(1, Relaxed);
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> DurationCounts {
        DurationCounts {
            counts: std::array::from_fn(|at| self.counts[at].load(Relaxed)),
            sum: Duration::from_nanos(self.nanos.load(Relaxed)),
        }
    }
}

impl DurationCounts {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_at_the_first_bound_that_is_not_below_it() {
        let durations = Durations::default();
        for micros in [0, 50, 51, 100, 9_999_999, 10_000_000, 10_000_001] {
            durations.add(Duration::from_micros(micros));
        }
        let counts = durations.counts();
        assert_eq!((counts.counts[0], counts.counts[1]), (2, 2));
        assert_eq!((counts.counts[15], counts.counts[16]), (2, 1));
        assert_eq!(counts.count(), 7);
        assert_eq!(counts.sum, Duration::from_micros(30_000_201));
    }
}
