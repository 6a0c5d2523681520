//! How fast a merge goes: slowly beside appends, and the faster the more waits for it.
//!
//! ```text
//!  rate
//!   │                     ╱   no limit: waste may not pile up,
//!   │                   ╱     whatever appends pay for it
//!   │              __,-'
//!   │ ______,,--'''
//!   └──────────────────────── debt
//!     nothing      what is allowed
//! ```
//!
//! At any load there is a debt at which merges free as fast as records go: there it stays.

use std::time::Duration;

/// While appends are busy a merge that nothing waits for takes this much longer.
const BUSY_FACTOR: u64 = 4;

/// What waits for merges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Debt {
    /// Bytes that merges would free.
    pub(crate) waste: u64,
    /// With so much, merges take all the time they need.
    pub(crate) allowed: u64,
}

impl Debt {
    /// Bytes a second that may be read and written; `None`: as many as can be.
    pub(crate) fn rate(self, base: u64, is_busy: bool) -> Option<u64> {
        let left = self.allowed.checked_sub(self.waste).filter(|left| *left > 0)?;
        let base = if is_busy { base / BUSY_FACTOR } else { base };
        let rate = u128::from(base.max(1)) * u128::from(self.allowed) / u128::from(left);
        Some(u64::try_from(rate).unwrap_or(u64::MAX))
    }
}

/// What was read and written faster than its rate allows.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    owed: u64,
    at: Duration,
}

impl Pace {
    /// So many bytes were read or written.
    pub(crate) fn charge(&mut self, bytes: u64) {
        self.owed = self.owed.saturating_add(bytes);
    }

    /// How long until it may go on, at this rate from the last look on.
    pub(crate) fn wait(&mut self, rate: Option<u64>, now: Duration) -> Duration {
        const SECOND: u128 = 1_000_000_000;
        let elapsed = now.saturating_sub(self.at);
        self.at = now;
        let Some(rate) = rate.map(|rate| u128::from(rate.max(1))) else {
            self.owed = 0;
            return Duration::ZERO;
        };
        let paid = u64::try_from(rate * elapsed.as_nanos() / SECOND).unwrap_or(u64::MAX);
        self.owed = self.owed.saturating_sub(paid);
        let nanos = (u128::from(self.owed) * SECOND).div_ceil(rate);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_merge_keeps_its_rate_gives_way_to_appends_and_hurries_as_waste_piles_up() {
        let debt = |waste| Debt { waste, allowed: 100 };
        assert_eq!(debt(0).rate(64 * MIB, false), Some(64 * MIB));
        assert_eq!(debt(0).rate(64 * MIB, true), Some(16 * MIB));
        assert_eq!(debt(50).rate(64 * MIB, true), Some(32 * MIB));
        assert_eq!(debt(99).rate(64 * MIB, true), Some(1600 * MIB));
        assert_eq!(debt(100).rate(64 * MIB, true), None);
        assert_eq!(Debt::default().rate(64 * MIB, true), None, "nothing is allowed");
        assert_eq!(debt(0).rate(0, true), Some(1), "never divided by zero");
    }

    #[test]
    fn what_was_moved_is_waited_for_and_less_once_the_rate_rises() {
        let mut pace = Pace::default();
        let second = Duration::from_secs(1);
        assert_eq!(pace.wait(Some(MIB), second), Duration::ZERO);
        pace.charge(8 * MIB);
        assert_eq!(pace.wait(Some(MIB), second), 8 * second);
        assert_eq!(pace.wait(Some(MIB), 2 * second), 7 * second);
        assert_eq!(pace.wait(Some(2 * MIB), 3 * second), 5 * second / 2);
        assert_eq!(pace.wait(Some(2 * MIB), 6 * second), Duration::ZERO);
        pace.charge(8 * MIB);
        assert_eq!(pace.wait(None, 6 * second), Duration::ZERO);
        assert_eq!(pace.wait(Some(MIB), 6 * second), Duration::ZERO, "hurrying leaves no debt");
    }
}
