//! When the disk will be full, if things go on as they did in the last hour.
//!
//! Free space is what every program on the disk leaves, so the forecast also counts what others
//! write. It is looked at once a minute while a server runs, and whenever somebody asks.

use std::collections::VecDeque;
use std::time::Duration;

use meshlog_proto::v1;
use meshlog_storage::Timestamp;
use meshlog_storage::disk::Space;
use parking_lot::Mutex;

use crate::broker::Broker;
use crate::time::proto_time;

/// How often a server looks.
#[cfg(feature = "edge")]
pub(crate) const LOOK: Duration = Duration::from_secs(60);
/// How often health is told whether appends are refused.
#[cfg(feature = "edge")]
pub(crate) const CHECK: Duration = Duration::from_secs(2);
/// What was seen longer ago does not count.
const WINDOW: Duration = Duration::from_secs(3600);
/// Before this long a rate means nothing.
const LEAST: Duration = Duration::from_secs(120);
/// Two looks that are nearer are one.
const NEAR: Duration = Duration::from_secs(30);
/// A disk that fills this soon is worth a warning.
const SOON: Duration = Duration::from_secs(24 * 3600);
/// So is one with less than this part of it free, a twentieth, if that is less than so many bytes.
const LITTLE: (u64, u64) = (20, 2 << 30);
/// Farther ahead nothing is foretold.
const HORIZON: Duration = Duration::from_secs(10 * 365 * 86_400);

/// What was seen of the disk.
#[derive(Debug, Default)]
pub(crate) struct Forecast(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// Oldest first, at most as many as the window has of [`NEAR`].
    free: VecDeque<(Timestamp, u64)>,
    /// The log has been told.
    #[cfg(feature = "edge")]
    warned: bool,
}

impl Forecast {
    /// The disk is like this now.
    fn look(&self, now: Timestamp, space: Space) -> v1::DiskSpace {
        let mut seen = self.0.lock();
        // A clock that goes back begins anew.
        if seen.free.back().is_some_and(|(last, _)| *last > now) {
            seen.free.clear();
        }
        if seen.free.back().is_none_or(|(last, _)| between(*last, now) >= NEAR) {
            seen.free.push_back((now, space.free));
        }
        while seen.free.front().is_some_and(|(first, _)| between(*first, now) > WINDOW)
            && seen.free.len() > 1
        {
            seen.free.pop_front();
        }
        let (first, free) = seen.free.front().copied().unwrap_or((now, space.free));
        let observed = between(first, now);
        let mut message = v1::DiskSpace {
            total_bytes: space.total,
            free_bytes: space.free,
            fill_rate: 0,
            full_time: None,
            observed: observed.try_into().ok(),
        };
        if observed >= LEAST {
            message.fill_rate = free.saturating_sub(space.free) / observed.as_secs().max(1);
        }
        let left = space.free.checked_div(message.fill_rate).map(Duration::from_secs);
        if let Some(left) = left.filter(|left| *left <= HORIZON) {
            let nanos = u64::try_from(left.as_nanos()).unwrap_or(u64::MAX);
            message.full_time = Some(proto_time(Timestamp(now.0.saturating_add(nanos))));
        }
        message
    }

    /// Whether the log is to be told now: once, until the danger is over.
    #[cfg(feature = "edge")]
    fn is_new(&self, warning: Option<&String>) -> bool {
        let mut seen = self.0.lock();
        std::mem::replace(&mut seen.warned, warning.is_some()) != warning.is_some()
            && warning.is_some()
    }
}

/// What to be told about it, if there is something.
fn warning(space: &v1::DiskSpace) -> Option<String> {
    let mib = |bytes: u64| bytes >> 20;
    let left = space.free_bytes.checked_div(space.fill_rate).map(Duration::from_secs);
    let what = match left {
        Some(left) if left < SOON => format!(
            "the disk has {} MiB left and will be full in about {} at the present rate",
            mib(space.free_bytes),
            spoken(left)
        ),
        _ if space.free_bytes < LITTLE.1.min(space.total_bytes / LITTLE.0) => format!(
            "the disk has {} MiB left of {} MiB",
            mib(space.free_bytes),
            mib(space.total_bytes)
        ),
        _ => return None,
    };
    Some(format!(
        "{what}; make room, or keep less: `meshlog product update NAME --retention-age 30d`, \
         `meshlog product trim`"
    ))
}

fn spoken(left: Duration) -> String {
    match left.as_secs() / 60 {
        minutes @ 0..120 => format!("{minutes} min"),
        minutes => format!("{} h", minutes / 60),
    }
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::from_nanos(to.0.saturating_sub(from.0))
}

impl Broker {
    /// Room on the disk and what is to be said about it.
    pub(crate) fn disk_space(&self) -> (Option<v1::DiskSpace>, Option<String>) {
        let Some(space) = self.storage().space() else { return (None, None) };
        let message = self.forecast().look(self.storage().now(), space);
        let warning = warning(&message);
        (Some(message), warning)
    }

    /// True while appends are refused, for lack of room or for good.
    #[cfg(feature = "edge")]
    pub(crate) fn is_full(&self) -> bool {
        self.storage().health().appends_refused.is_some()
    }

    /// Looks, and tells the log if the disk fills; answers whether it does.
    #[cfg(feature = "edge")]
    pub(crate) fn watch_space(&self) -> bool {
        let (_, warning) = self.disk_space();
        let is_short = warning.is_some();
        if self.forecast().is_new(warning.as_ref())
            && let Some(warning) = warning
        {
            tracing::warn!("{warning}");
        }
        is_short
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn at(minutes: u64) -> Timestamp {
        Timestamp((1_000_000 + minutes * 60) * 1_000_000_000)
    }

    fn space(free: u64) -> Space {
        Space { total: 100 * GIB, free }
    }

    #[test]
    fn a_disk_that_fills_evenly_is_full_when_the_rate_says() {
        let forecast = Forecast::default();
        assert_eq!(forecast.look(at(0), space(61 * GIB)).full_time, None, "nothing is known yet");
        let seen = (1..=60).map(|minute| forecast.look(at(minute), space((61 - minute) * GIB)));
        let last = seen.last().unwrap();
        assert_eq!(last.fill_rate, GIB / 60);
        let full = last.full_time.unwrap().seconds - proto_time(at(60)).seconds;
        assert!((59..=61).contains(&full), "{full}");
        let warning = warning(&last).unwrap();
        assert!(warning.contains("full in about 1 min"), "{warning}");
    }

    #[cfg(feature = "edge")]
    #[test]
    fn the_log_is_told_once_until_the_danger_is_over() {
        let (forecast, warning) = (Forecast::default(), "it fills".to_owned());
        assert!(forecast.is_new(Some(&warning)) && !forecast.is_new(Some(&warning)));
        assert!(!forecast.is_new(None) && !forecast.is_new(None));
        assert!(forecast.is_new(Some(&warning)), "again, after it was over");
    }

    #[test]
    fn only_the_last_hour_counts() {
        let forecast = Forecast::default();
        for minute in 0..=60 {
            forecast.look(at(minute), space((90 - minute) * GIB));
        }
        let quiet = (61..=130).map(|minute| forecast.look(at(minute), space(30 * GIB)));
        let last = quiet.last().unwrap();
        assert_eq!((last.fill_rate, last.full_time), (0, None));
        assert_eq!(warning(&last), None);
        assert!(forecast.0.lock().free.len() <= 122);
    }

    #[test]
    fn a_disk_with_little_left_is_worth_a_warning_whatever_the_rate() {
        let message = Forecast::default().look(at(0), space(GIB));
        assert!(warning(&message).unwrap().contains("1024 MiB left of 102400 MiB"));
        let message = Forecast::default().look(at(0), space(3 * GIB));
        assert_eq!(warning(&message), None);
    }

    #[test]
    fn a_clock_that_goes_back_foretells_nothing_wrong() {
        let forecast = Forecast::default();
        forecast.look(at(100), space(50 * GIB));
        let message = forecast.look(at(10), space(10 * GIB));
        assert_eq!((message.fill_rate, message.full_time), (0, None));
    }
}
