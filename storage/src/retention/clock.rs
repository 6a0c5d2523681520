//! When the wall clock may decide over records.
//!
//! A clock that jumps ahead would delete everything at once. So age waits after a jump, and after a
//! start with a clock that does not fit what the log says, until the clock has run steadily for
//! an hour: long enough for somebody to set it right. How far off it was is a part of every
//! checkpoint until then, and the times of the groups after a checkpoint are compared when they
//! are replayed; so what a wrong clock wrote into the log vouches for nothing, and a restart makes
//! nobody forget.

use std::time::Duration;

use crate::position::Timestamp;
use crate::sabotage::skips;

/// A clock behaves if it does nothing worse for this long.
const STEADY: Duration = Duration::from_secs(3600);
/// Clocks are set back by this much without harm.
const TOLERANCE: Duration = Duration::from_secs(10);

/// How far a clock was off: so much ahead, or behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Doubt(Duration);

impl Doubt {
    /// A clock that was set back tells nothing of what is old.
    pub(crate) const BEHIND: Self = Self(Duration::MAX);
    /// Farther ahead than anything is kept.
    const FAR: Self = Self(Duration::from_secs(u32::MAX as u64 - 1));

    /// Of a clock that says one thing where another was expected.
    pub(crate) fn between(expected: Timestamp, wall: Timestamp) -> Self {
        let is_behind = between(wall, expected) > TOLERANCE;
        if is_behind { Self::BEHIND } else { Self(between(expected, wall)) }
    }

    /// In whole seconds, as checkpoints keep it.
    pub(crate) fn seconds(self) -> u32 {
        u32::try_from(self.0.as_secs()).unwrap_or(u32::MAX)
    }

    /// As a checkpoint kept it.
    pub(crate) fn from_seconds(seconds: u32) -> Self {
        match Duration::from_secs(u64::from(seconds)) {
            _ if seconds == u32::MAX => Self::BEHIND,
            none if seconds == 0 => Self(none),
            far if Self(far) >= Self::FAR => Self::FAR,
            // What was cut off is not to be missed.
            least => Self(least + Duration::from_secs(1)),
        }
    }
}

/// Compares the wall clock with the log and with the time that passes.
#[derive(Debug)]
pub(crate) struct ClockGuard {
    /// Both clocks as they were seen last.
    last: (Timestamp, Duration),
    /// How far off the clock was within the last hour of running, and until when that counts.
    doubt: Doubt,
    until: Duration,
    /// What it did then.
    verb: &'static str,
    /// The shortest age that any stream is limited to, once somebody asked.
    shortest: Option<Duration>,
    /// What was told already.
    told: Doubt,
}

impl ClockGuard {
    /// Both clocks when the log was opened, the newest time it named, zero if it was empty, and
    /// how far off the clock was before.
    pub(crate) fn new(
        wall: Timestamp,
        elapsed: Duration,
        newest: Timestamp,
        before: Doubt,
    ) -> Self {
        // Nobody can tell a wrong clock from a long rest; where it matters, age waits.
        let now =
            if newest == Timestamp(0) { Doubt::default() } else { Doubt::between(newest, wall) };
        let is_new = now >= before;
        Self {
            last: (wall, elapsed),
            doubt: now.max(before),
            until: elapsed + STEADY,
            verb: if is_new { "was, at the last start," } else { "was, before the last start," },
            shortest: None,
            told: Doubt::default(),
        }
    }

    /// Looks at both clocks.
    pub(crate) fn observe(&mut self, wall: Timestamp, elapsed: Duration) {
        let (before, at) = self.last;
        let expected = add(before, elapsed.saturating_sub(at));
        self.last = (wall, elapsed);
        let mut jump = Doubt::between(expected, wall);
        if STEADY < jump.0 && jump < Doubt::FAR {
            // Nobody rests while running: no limit is so long that this were harmless.
            jump = Doubt::FAR;
        }
        if self.until <= elapsed {
            self.doubt = Doubt::default();
        }
        let matters = jump >= self.doubt || self.shortest.is_some_and(|least| least < jump.0);
        if TOLERANCE < jump.0 && matters {
            self.doubt = jump.max(self.doubt);
            (self.until, self.verb) = (elapsed + STEADY, "jumped");
        }
    }

    /// Sets the shortest age that any stream is limited to.
    pub(crate) fn limit(&mut self, shortest: Duration) {
        self.shortest = Some(shortest);
        if !self.is_trusted() && self.told != self.doubt {
            let why = self.why();
            tracing::warn!(%why, "records do not go by age until the clock ran steadily for an hour");
            self.told = self.doubt;
        }
    }

    /// How far off the clock was within the last hour of running.
    pub(crate) fn doubt(&self) -> Doubt {
        self.doubt
    }

    fn is_trusted(&self) -> bool {
        let fits = |shortest| self.doubt < Doubt::FAR && self.doubt.0 <= shortest;
        self.shortest.is_some_and(fits) || skips("the distrust of a clock that jumped")
    }

    /// The wall time by which records may go, if the clock is trusted.
    pub(crate) fn trusted(&self) -> Option<Timestamp> {
        (self.shortest.is_some() && self.is_trusted()).then_some(self.last.0)
    }

    /// Why age waits, if it does.
    pub(crate) fn note(&self) -> Option<String> {
        (self.shortest.is_some() && !self.is_trusted()).then(|| {
            format!(
                "{}: no record goes by age until the clock has run steadily for an hour; check the \
                 clock of the machine",
                self.why()
            )
        })
    }

    fn why(&self) -> String {
        let verb = self.verb;
        if self.doubt == Doubt::BEHIND {
            format!("the clock {verb} behind what the log says")
        } else if self.doubt == Doubt::FAR {
            format!("the clock {verb} more than an hour ahead")
        } else {
            format!("the clock {verb} {} s ahead of what was expected", self.doubt.0.as_secs())
        }
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
        ClockGuard::new(at(now), secs(0), at(newest), Doubt::default())
    }

    impl ClockGuard {
        fn look(&mut self, wall: Timestamp, elapsed: Duration, shortest: Duration) {
            self.limit(shortest);
            self.observe(wall, elapsed);
            self.limit(shortest);
        }
    }

    #[test]
    fn a_steady_clock_is_trusted_from_the_start() {
        let mut guard = opened(0, 0);
        for second in (0..2 * DAY).step_by(10) {
            guard.look(at(second), secs(second), secs(60));
            assert_eq!(guard.trusted(), Some(at(second)));
        }
    }

    #[test]
    fn a_jump_ahead_is_distrusted_for_an_hour_of_steady_running() {
        let mut guard = opened(0, 0);
        guard.look(at(2 * DAY), secs(10), secs(7 * DAY));
        assert_eq!(guard.trusted(), None);
        assert!(guard.note().unwrap().contains("ahead"));
        guard.look(at(2 * DAY + 3590), secs(3600), secs(7 * DAY));
        assert_eq!(guard.trusted(), None);
        guard.look(at(2 * DAY + 3600), secs(3610), secs(7 * DAY));
        assert_eq!(guard.trusted(), Some(at(2 * DAY + 3600)));
        assert_eq!(guard.note(), None);
    }

    #[test]
    fn a_second_jump_begins_the_hour_anew() {
        let mut guard = opened(0, 0);
        guard.look(at(DAY), secs(0), secs(60));
        guard.look(at(0), secs(3000), secs(60));
        guard.look(at(600), secs(3600), secs(60));
        assert_eq!(guard.trusted(), None);
        guard.look(at(3600), secs(6600), secs(60));
        assert_eq!(guard.trusted(), Some(at(3600)));
    }

    #[test]
    fn a_start_behind_the_log_or_far_ahead_of_it_is_distrusted() {
        let trusts = |mut guard: ClockGuard| {
            let now = guard.last.0;
            guard.look(now, secs(0), secs(DAY));
            guard.trusted().is_some()
        };
        assert!(!trusts(opened(60, 0)));
        assert!(!trusts(opened(0, DAY + 1)));
        assert!(trusts(opened(0, DAY - 1)));
        assert!(
            trusts(ClockGuard::new(at(0), secs(0), Timestamp(0), Doubt::default())),
            "an empty log"
        );
    }

    #[test]
    fn an_hour_after_the_start_a_late_first_look_finds_a_steady_clock() {
        let mut guard = opened(0, 9 * DAY);
        guard.look(at(9 * DAY + 4000), secs(4000), secs(DAY));
        assert!(guard.trusted().is_some());
    }

    #[test]
    fn a_doubt_outlives_a_restart_and_an_hour_of_running_ends_it() {
        let mut guard = opened(0, 0);
        guard.look(at(2 * DAY), secs(10), secs(7 * DAY));
        let kept = Doubt::from_seconds(guard.doubt().seconds());
        assert_eq!(kept, guard.doubt());
        let mut guard = ClockGuard::new(at(2 * DAY + 60), secs(0), at(2 * DAY + 50), kept);
        guard.look(at(2 * DAY + 60), secs(0), secs(7 * DAY));
        assert!(guard.note().unwrap().contains("before the last start"));
        guard.look(at(2 * DAY + 3700), secs(3640), secs(7 * DAY));
        assert!(guard.trusted().is_some());
        assert_eq!(guard.doubt().seconds(), 0);
    }

    #[test]
    fn a_doubt_is_kept_in_seconds_and_never_made_smaller() {
        for doubt in [secs(0), Duration::from_millis(1500), secs(DAY), Duration::MAX].map(Doubt) {
            assert!(Doubt::from_seconds(doubt.seconds()) >= doubt, "{doubt:?}");
        }
        assert_eq!(Doubt::from_seconds(Doubt::BEHIND.seconds()), Doubt::BEHIND);
        assert_eq!(Doubt::from_seconds(Doubt::FAR.seconds()), Doubt::FAR);
    }
}
