//! The broker's clock in a test's hand.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use meshlog_storage::Timestamp;
use meshlog_storage::disk::{Clock, SystemClock};
use parking_lot::Mutex;

/// The clock of one broker. It runs like the machine's until it is told otherwise.
///
/// Everything that is stored takes its time from here: append times of records, times of catalogue
/// changes. What waits does not: heartbeats, long polls, time limits of calls and the client's own
/// clock are real time. The append time within a partition never goes back, whatever this clock
/// says.
#[derive(Clone, Debug)]
pub struct TestClock {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    machine: SystemClock,
    told: Mutex<Told>,
    /// Does what is due; of the broker that runs.
    wake: Mutex<Option<Wake>>,
}

type Wake = Arc<dyn Fn() + Send + Sync>;

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("told", &self.told).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Told {
    ahead: Duration,
    /// All advances together; never taken back.
    leapt: Duration,
    stopped: Option<Timestamp>,
}

impl TestClock {
    pub(crate) fn new() -> Self {
        Self { shared: Arc::default() }
    }

    /// What the broker takes the time for.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(Clock::now(self).0)
    }

    /// Goes on by this much at once. What is due then happens a moment later: records go whose
    /// retention is over. Wait for it as for anything that others do.
    pub fn advance(&self, by: Duration) {
        let mut told = self.shared.told.lock();
        told.ahead += by;
        told.leapt += by;
        if let Some(stopped) = &mut told.stopped {
            *stopped = later(*stopped, by);
        }
        drop(told);
        let wake = self.shared.wake.lock().clone();
        if let Some(wake) = wake {
            wake();
        }
    }

    /// Is called after every advance, instead of what was before.
    pub(crate) fn wakes(&self, wake: Option<Wake>) {
        *self.shared.wake.lock() = wake;
    }

    /// Stands still at this time; only [`TestClock::advance`] moves it on. Times before 1970 are
    /// 1970.
    pub fn stop_at(&self, time: SystemTime) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.shared.told.lock().stopped = Some(later(Timestamp(0), since));
    }

    /// Runs with the machine's clock again.
    pub fn reset(&self) {
        let mut told = self.shared.told.lock();
        *told = Told { leapt: told.leapt, ..Told::default() };
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let told = self.shared.told.lock();
        told.stopped.unwrap_or_else(|| later(self.shared.machine.now(), told.ahead))
    }

    fn monotonic(&self) -> Duration {
        self.shared.machine.monotonic() + self.shared.told.lock().leapt
    }
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
    Timestamp(time.0.saturating_add(by))
}
