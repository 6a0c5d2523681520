//! How fast all backups together read.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// So many bytes a second; 0: no limit.
#[derive(Debug)]
pub(super) struct Rate {
    bytes_per_second: u64,
    /// When what was taken so far is paid for.
    paid: Mutex<Option<Instant>>,
}

impl Rate {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, paid: Mutex::new(None) }
    }

    /// Waits until so many bytes may be read.
    pub(super) async fn take(&self, bytes: u64) {
        let begin = self.turn(bytes, Instant::now());
        tokio::time::sleep_until(begin).await;
    }

    /// When so many bytes may be read.
    fn turn(&self, bytes: u64, now: Instant) -> Instant {
        let nanos = bytes.saturating_mul(1_000_000_000).checked_div(self.bytes_per_second);
        let Some(cost) = nanos.map(Duration::from_nanos) else { return now };
        let mut paid = self.paid.lock();
        let begin = paid.map_or(now, |paid| paid.max(now));
        *paid = Some(begin + cost);
        begin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_take_share_one_rate() {
        let rate = Rate::new(10 << 20);
        let now = Instant::now();
        let last = (0..20).map(|_| rate.turn(1 << 20, now)).last().unwrap();
        // The last one is not waited for.
        assert_eq!(last - now, Duration::from_millis(1900));
    }

    #[test]
    fn nobody_pays_for_a_pause_and_zero_is_no_limit() {
        let rate = Rate::new(1 << 20);
        let now = Instant::now();
        rate.turn(1 << 20, now);
        let later = now + Duration::from_secs(60);
        assert_eq!(rate.turn(1 << 20, later), later);
        let rate = Rate::new(0);
        assert!((0..100).all(|_| rate.turn(u64::MAX, now) == now));
    }
}
