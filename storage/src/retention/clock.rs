//! When the wall clock may decide over records.
//!
//! A clock that jumps ahead would delete everything at once. So age waits after a jump, and after a
//! start with a clock that does not fit what the log says, until the clock has run steadily for
//! an hour: long enough for somebody to set it right.

use std::time::Duration;

use crate::position::Timestamp;
use crate::sabotage::skips;

/// A clock behaves if it does nothing worse for this long.
const STEADY: Duration = Duration::from_secs(3600);
/// Clocks are set back by this much without harm.
const TOLERANCE: Duration = Duration::from_secs(10);

/// Compares the wall clock with the log and with the time that passes.
#[derive(Debug)]
pub(crate) struct ClockGuard {
    /// Both clocks as they were seen last.
    last: (Timestamp, Duration),
    /// The newest time that the log named when it was opened, and both clocks then, until they
    /// are compared.
    opened: Option<(Timestamp, Timestamp, Duration)>,
    /// Until then, and why.
    distrusted: Option<(Duration, String)>,
}

impl ClockGuard {
    /// Both clocks when the log was opened, and the newest time it named; zero if it was empty.
    pub(crate) fn new(wall: Timestamp, elapsed: Duration, newest: Timestamp) -> Self {
        let opened = (newest != Timestamp(0)).then_some((newest, wall, elapsed));
        Self { last: (wall, elapsed), opened, distrusted: None }
    }

    /// Looks at both clocks. `shortest` is the shortest age that any stream is limited to.
    pub(crate) fn observe(&mut self, wall: Timestamp, elapsed: Duration, shortest: Duration) {
        if let Some((newest, wall, elapsed)) = self.opened.take() {
            // Nobody can tell a wrong clock from a long rest; where it matters, age waits.
            self.compare(newest, wall, elapsed, shortest, "was, at the last start,");
        }
        let (before, at) = self.last;
        let expected = add(before, elapsed.saturating_sub(at));
        self.compare(expected, wall, elapsed, shortest.min(STEADY), "jumped");
        self.last = (wall, elapsed);
        if self.distrusted.as_ref().is_some_and(|(until, _)| *until <= elapsed) {
            self.distrusted = None;
        }
    }

    fn compare(
        &mut self,
        expected: Timestamp,
        wall: Timestamp,
        elapsed: Duration,
        most: Duration,
        verb: &str,
    ) {
        let (ahead, behind) = (between(expected, wall), between(wall, expected));
        let why = if behind > TOLERANCE {
            format!("the clock {verb} {} s behind", behind.as_secs())
        } else if ahead > most {
            format!("the clock {verb} {} s ahead of what was expected", ahead.as_secs())
        } else {
            return;
        };
        tracing::warn!(%why, "records do not go by age until the clock ran steadily for an hour");
        self.distrusted = Some((elapsed + STEADY, why));
    }

    /// The wall time by which records may go, if the clock is trusted.
    pub(crate) fn trusted(&self) -> Option<Timestamp> {
        let is_trusted = self.distrusted.is_none() || skips("the distrust of a clock that jumped");
        is_trusted.then_some(self.last.0)
    }

    /// Why age waits, if it does.
    pub(crate) fn note(&self) -> Option<String> {
        let (_, why) = self.distrusted.as_ref()?;
        Some(format!(
            "{why}: no record goes by age until the clock has run steadily for an hour; check the \
             clock of the machine"
        ))
    }
}

/// Time from one to the other, zero if it is not later.
pub(crate) fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::from_nanos(to.0.saturating_sub(from.0))
}

/// This much later.
pub(crate) fn add(time: Timestamp, by: Duration) -> Timestamp {
    Timestamp(time.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn at(seconds: u64) -> Timestamp {
        Timestamp((1_000 * DAY + seconds) * 1_000_000_000)
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn opened(newest: u64, now: u64) -> ClockGuard {
        ClockGuard::new(at(now), secs(0), at(newest))
    }

    #[test]
    fn a_steady_clock_is_trusted_from_the_start() {
        let mut guard = opened(0, 0);
        for second in (0..2 * DAY).step_by(10) {
            guard.observe(at(second), secs(second), secs(60));
            assert_eq!(guard.trusted(), Some(at(second)));
        }
    }

    #[test]
    fn a_jump_ahead_is_distrusted_for_an_hour_of_steady_running() {
        let mut guard = opened(0, 0);
        guard.observe(at(2 * DAY), secs(10), secs(7 * DAY));
        assert_eq!(guard.trusted(), None);
        assert!(guard.note().unwrap().contains("ahead"));
        guard.observe(at(2 * DAY + 3590), secs(3600), secs(7 * DAY));
        assert_eq!(guard.trusted(), None);
        guard.observe(at(2 * DAY + 3600), secs(3610), secs(7 * DAY));
        assert_eq!(guard.trusted(), Some(at(2 * DAY + 3600)));
        assert_eq!(guard.note(), None);
    }

    #[test]
    fn a_second_jump_begins_the_hour_anew() {
        let mut guard = opened(0, 0);
        guard.observe(at(DAY), secs(0), secs(60));
        guard.observe(at(0), secs(3000), secs(60));
        guard.observe(at(600), secs(3600), secs(60));
        assert_eq!(guard.trusted(), None);
        guard.observe(at(3600), secs(6600), secs(60));
        assert_eq!(guard.trusted(), Some(at(3600)));
    }

    #[test]
    fn a_start_behind_the_log_or_far_ahead_of_it_is_distrusted() {
        let trusts = |mut guard: ClockGuard| {
            let now = guard.last.0;
            guard.observe(now, secs(0), secs(DAY));
            guard.trusted().is_some()
        };
        assert!(!trusts(opened(60, 0)));
        assert!(!trusts(opened(0, DAY + 1)));
        assert!(trusts(opened(0, DAY - 1)));
        assert!(trusts(ClockGuard::new(at(0), secs(0), Timestamp(0))), "an empty log says nothing");
    }

    #[test]
    fn an_hour_after_the_start_a_late_first_look_finds_a_steady_clock() {
        let mut guard = opened(0, 9 * DAY);
        guard.observe(at(9 * DAY + 4000), secs(4000), secs(DAY));
        assert!(guard.trusted().is_some());
    }
}
