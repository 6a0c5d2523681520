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
        let nanos = bytes.saturating_mul(1_000_000_000).checked_div(self.bytes_per_second);
        let Some(cost) = nanos.map(Duration::from_nanos) else { return };
        let begin = {
            let mut paid = self.paid.lock();
            let now = Instant::now();
            let begin = paid.map_or(now, |paid| paid.max(now));
            *paid = Some(begin + cost);
            begin
        };
        tokio::time::sleep_until(begin).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_who_take_share_one_rate() {
        let rate = Rate::new(10 << 20);
        let begun = Instant::now();
        let take = async || {
            for _ in 0..10 {
                rate.take(1 << 20).await;
            }
        };
        tokio::join!(take(), take());
        // The last one is not waited for.
        let expected = Duration::from_millis(1900);
        let took = begun.elapsed();
        assert!(took >= expected && took < expected + Duration::from_millis(50), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_pays_for_a_pause_and_zero_is_no_limit() {
        let rate = Rate::new(1 << 20);
        rate.take(1 << 20).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let begun = Instant::now();
        rate.take(1 << 20).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        let rate = Rate::new(0);
        for _ in 0..100 {
            rate.take(u64::MAX).await;
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
