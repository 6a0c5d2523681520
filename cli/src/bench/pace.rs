//! When the next append is due.
//!
//! Without a rate, whoever is free takes the next one at once. With a rate, appends are due at fixed times whether or not
//! earlier ones were answered, and a latency counts from that time: a broker that stalls is charged for everything that
//! had to wait behind the stall.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use super::plan::Plan;

/// One append that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// Counted from 0.
    pub(super) number: u64,
    /// Number of its first record, counted from 0.
    pub(super) first: u64,
    /// Records in it.
    pub(super) records: u32,
    /// When it should be sent.
    pub(super) due: Instant,
}

/// Hands out turns until all records are, or until the time is over.
pub(super) struct Pace {
    next: AtomicU64,
    /// Appends in all, if bounded.
    appends: Option<u64>,
    records: Option<u64>,
    batch: u32,
    begun: Instant,
    deadline: Option<Instant>,
    clock: Option<Clock>,
}

/// Gives a permit for each append that has become due.
struct Clock {
    due: Arc<Semaphore>,
    appends_per_second: f64,
    /// The thread ends when this is gone.
    _running: mpsc::Sender<()>,
}

impl Pace {
    /// Begins now.
    pub(super) fn start(plan: &Plan) -> Self {
        let begun = Instant::now();
        let deadline = plan.duration.map(|duration| begun + duration);
        let appends = plan.records.map(|records| records.div_ceil(u64::from(plan.batch)));
        let clock = plan.rate.map(|rate| {
            let appends_per_second = rate / f64::from(plan.batch);
            let due = Arc::new(Semaphore::new(0));
            let (running, stopped) = mpsc::channel();
            let ticking = Ticking {
                due: due.clone(),
                appends_per_second,
                appends,
                workers: plan.in_flight,
                begun,
                deadline,
            };
            // A timer of the runtime rounds to milliseconds; a thread that waits does not.
            std::thread::spawn(move || ticking.run(&stopped));
            Clock { due, appends_per_second, _running: running }
        });
        Self {
            next: AtomicU64::new(0),
            appends,
            records: plan.records,
            batch: plan.batch,
            begun,
            deadline,
            clock,
        }
    }

    /// The next turn, once it is due; none when it is over.
    pub(super) async fn turn(&self) -> Option<Turn> {
        match &self.clock {
            Some(clock) => clock.due.acquire().await.ok()?.forget(),
            None if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                return None;
            }
            None => {}
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if self.appends.is_some_and(|appends| number >= appends) {
            return None;
        }
        let first = number * u64::from(self.batch);
        let left = self.records.map_or(u64::MAX, |records| records - first);
        let due = match &self.clock {
            Some(clock) => {
                self.begun + Duration::from_secs_f64(number as f64 / clock.appends_per_second)
            }
            None => Instant::now(),
        };
        let records = u32::try_from(left).map_or(self.batch, |left| left.min(self.batch));
        Some(Turn { number, first, records, due })
    }

    /// Records that were due and never sent, because earlier ones were not answered in time.
    pub(super) fn unsent(&self) -> u64 {
        let Some(clock) = &self.clock else { return 0 };
        let taken = self.next.load(Ordering::Relaxed);
        if self.appends.is_some_and(|appends| taken >= appends) {
            return 0;
        }
        clock.due.available_permits() as u64 * u64::from(self.batch)
    }
}

/// The thread behind a [`Clock`].
struct Ticking {
    due: Arc<Semaphore>,
    appends_per_second: f64,
    appends: Option<u64>,
    workers: usize,
    begun: Instant,
    deadline: Option<Instant>,
}

impl Ticking {
    fn run(self, stopped: &mpsc::Receiver<()>) {
        let mut granted = 0_u64;
        loop {
            let now = Instant::now();
            if self.deadline.is_some_and(|deadline| now >= deadline) {
                // Nobody takes what is left; it is counted.
                self.due.close();
                return;
            }
            let passed = now.duration_since(self.begun).as_secs_f64();
            let due = (passed * self.appends_per_second) as u64 + 1;
            let due = self.appends.map_or(due, |appends| due.min(appends));
            self.due.add_permits(usize::try_from(due - granted).unwrap_or(0));
            granted = due;
            if self.appends == Some(granted) {
                // Each worker finds that there is nothing left.
                self.due.add_permits(self.workers);
                return;
            }
            let next =
                self.begun + Duration::from_secs_f64(granted as f64 / self.appends_per_second);
            let until = self.deadline.map_or(next, |deadline| deadline.min(next));
            let wait = until.saturating_duration_since(Instant::now());
            if stopped.recv_timeout(wait) != Err(mpsc::RecvTimeoutError::Timeout) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(records: Option<u64>, rate: Option<f64>, duration: Option<Duration>) -> Plan {
        Plan { records, rate, duration, batch: 10, in_flight: 2, ..Plan::for_tests() }
    }

    #[tokio::test]
    async fn the_last_append_has_the_records_that_are_left() {
        let pace = Pace::start(&plan(Some(25), None, None));
        let mut turns = Vec::new();
        while let Some(turn) = pace.turn().await {
            turns.push((turn.number, turn.first, turn.records));
        }
        assert_eq!(turns, [(0, 0, 10), (1, 10, 10), (2, 20, 5)]);
        assert_eq!(pace.unsent(), 0);
    }

    #[tokio::test]
    async fn with_a_rate_a_turn_is_due_at_its_time_however_late_it_is_taken() {
        let pace = Pace::start(&plan(Some(30), Some(1000.0), None));
        let first = pace.turn().await.unwrap();
        // Ten records at a thousand a second: the second append is due 10 ms after the first.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let second = pace.turn().await.unwrap();
        assert_eq!(second.due - first.due, Duration::from_millis(10));
        assert!(second.due.elapsed() >= Duration::from_millis(40));
        assert!(pace.turn().await.is_some());
        assert!(pace.turn().await.is_none());
    }

    #[tokio::test]
    async fn what_was_due_and_nobody_took_is_counted() {
        let pace = Pace::start(&plan(None, Some(10_000.0), Some(Duration::from_millis(100))));
        let taken = pace.turn().await.unwrap();
        assert_eq!(taken.number, 0);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(pace.turn().await.is_none(), "the time is over");
        // About a thousand records were due; a loaded machine may grant the last of them late.
        assert!((100..=1000).contains(&pace.unsent()), "{}", pace.unsent());
    }

    #[tokio::test]
    async fn without_a_rate_the_time_ends_it() {
        let pace = Pace::start(&plan(None, None, Some(Duration::from_millis(20))));
        assert!(pace.turn().await.is_some());
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert!(pace.turn().await.is_none());
    }
}
