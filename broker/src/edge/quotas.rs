//! What one principal may use: calls a second, bytes a second, connections.
//!
//! Each is a bucket that holds ten seconds' worth. A call takes one from it, its bytes are taken as
//! they arrive; one that finds a bucket empty is told when to come back, a stream that has emptied it
//! is read more slowly.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::config::QuotaConfig;
use crate::error::{Error, Reason, Result};

/// Seconds' worth that a bucket holds.
const BURST: f64 = 10.0;

/// Principals whose use is remembered. Beyond it those go whose buckets are full, who lose nothing.
const PRINCIPALS: usize = 10_000;

/// The use of all principals.
#[derive(Debug)]
pub(super) struct Quotas {
    config: QuotaConfig,
    uses: Mutex<HashMap<Arc<str>, Arc<Use>>>,
    /// Connections of each principal. At most as many as there are connections.
    connections: Arc<Mutex<HashMap<Arc<str>, u32>>>,
}

/// A connection of a principal; over when dropped.
#[derive(Debug)]
pub(super) struct Member {
    principal: Arc<str>,
    connections: Arc<Mutex<HashMap<Arc<str>, u32>>>,
}

/// Who has made calls on one connection, as far as that is counted.
#[derive(Debug, Default)]
pub(super) struct Members(Mutex<Vec<Member>>);

/// Principals of one connection that are counted; a proxy may have more.
const MEMBERS: usize = 16;

/// Whoever has too many connections comes back after this time: one may have ended.
const CONNECTION_WAIT: Duration = Duration::from_secs(1);

/// The use of one principal.
#[derive(Debug)]
pub(super) struct Use {
    calls: Bucket,
    bytes: Bucket,
}

#[derive(Debug)]
struct Bucket {
    /// A second; zero is no limit.
    rate: f64,
    level: Mutex<(f64, Instant)>,
}

impl Quotas {
    /// With these settings.
    pub(super) fn new(config: QuotaConfig) -> Self {
        Self { config, uses: Mutex::default(), connections: Arc::default() }
    }

    /// Counts the connection on which a principal makes a call.
    ///
    /// # Errors
    /// `QUOTA_EXCEEDED` if it has too many others.
    pub(super) fn connection(&self, principal: &Arc<str>, members: &Members) -> Result<()> {
        let limit = self.config.connections;
        if limit == 0 {
            return Ok(());
        }
        let mut members = members.0.lock();
        if members.len() >= MEMBERS || members.iter().any(|member| member.principal == *principal) {
            return Ok(());
        }
        let mut connections = self.connections.lock();
        let count = connections.entry(Arc::clone(principal)).or_default();
        if *count >= limit {
            return Err(exceeded("connections", limit, CONNECTION_WAIT));
        }
        *count += 1;
        let (principal, connections) = (Arc::clone(principal), Arc::clone(&self.connections));
        members.push(Member { principal, connections });
        Ok(())
    }

    /// Takes a call; then its bytes are to be taken from what this gives, if there is a limit.
    ///
    /// # Errors
    /// `QUOTA_EXCEEDED`, with the time after which there is room again.
    pub(super) fn call(&self, principal: &Arc<str>) -> Result<Option<Arc<Use>>> {
        if self.config.requests_per_second == 0 && self.config.bytes_per_second.0 == 0 {
            return Ok(None);
        }
        let now = Instant::now();
        let found = self.of(principal, now);
        let limit = self.config.requests_per_second;
        found.calls.look(1.0, now).map_err(|wait| exceeded("requests_per_second", limit, wait))?;
        let limit = self.config.bytes_per_second;
        found.bytes.look(0.0, now).map_err(|wait| exceeded("bytes_per_second", limit, wait))?;
        found.calls.take(1.0, now);
        Ok(Some(found))
    }

    fn of(&self, principal: &Arc<str>, now: Instant) -> Arc<Use> {
        let mut uses = self.uses.lock();
        if let Some(found) = uses.get(principal) {
            return Arc::clone(found);
        }
        if uses.len() >= PRINCIPALS {
            uses.retain(|_, found| !(found.calls.is_full(now) && found.bytes.is_full(now)));
        }
        // Should all of them be busy, the strangers share one.
        let name = if uses.len() < PRINCIPALS { Arc::clone(principal) } else { Arc::from("") };
        let found = uses.entry(name).or_insert_with(|| {
            Arc::new(Use {
                calls: Bucket::new(f64::from(self.config.requests_per_second), now),
                bytes: Bucket::new(self.config.bytes_per_second.0 as f64, now),
            })
        });
        Arc::clone(found)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut connections = self.connections.lock();
        if let Some(count) = connections.get_mut(&self.principal) {
            *count -= 1;
            if *count == 0 {
                connections.remove(&self.principal);
            }
        }
    }
}

impl Use {
    /// Takes bytes that arrived; for how long a stream should rest if they were too many.
    pub(super) fn bytes(&self, count: usize) -> Option<Duration> {
        let now = Instant::now();
        self.bytes.take(count as f64, now);
        self.bytes.look(0.0, now).err()
    }
}

impl Bucket {
    fn new(rate: f64, now: Instant) -> Self {
        Self { rate, level: Mutex::new((rate * BURST, now)) }
    }

    fn level(&self, now: Instant) -> f64 {
        let (level, at) = *self.level.lock();
        (level + now.saturating_duration_since(at).as_secs_f64() * self.rate).min(self.rate * BURST)
    }

    fn is_full(&self, now: Instant) -> bool {
        self.rate == 0.0 || self.level(now) >= self.rate * BURST
    }

    /// The time until there is so much in it, if there is less.
    fn look(&self, least: f64, now: Instant) -> Result<(), Duration> {
        let lacking = least - self.level(now);
        match self.rate == 0.0 || lacking <= 0.0 {
            true => Ok(()),
            false => Err(Duration::from_secs_f64((lacking / self.rate).clamp(0.001, 3_600.0))),
        }
    }

    fn take(&self, count: f64, now: Instant) {
        if self.rate > 0.0 {
            let level = self.level(now) - count;
            *self.level.lock() = (level, now);
        }
    }
}

fn exceeded(quota: &'static str, limit: impl std::fmt::Display, wait: Duration) -> Error {
    Error::new(
        Reason::QuotaExceeded,
        format!(
            "the quota of {limit} {} is used up; try again after the delay given, or ask for a \
             larger one",
            quota.replace('_', " ")
        ),
    )
    .with("quota", quota)
    .with("limit", limit)
    .with("retry_after_ms", wait.as_millis().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ByteSize;

    #[test]
    fn a_principal_has_its_rate_with_bursts_and_others_have_theirs() {
        let config = QuotaConfig { requests_per_second: 2, ..QuotaConfig::default() };
        let quotas = Quotas::new(config);
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        for _ in 0..20 {
            quotas.call(&one).unwrap();
        }
        let refused = quotas.call(&one).unwrap_err();
        assert_eq!(refused.reason(), Reason::QuotaExceeded);
        assert_eq!(refused.metadata()["quota"], "requests_per_second");
        assert!(refused.metadata()["retry_after_ms"].parse::<u64>().unwrap() >= 1);
        quotas.call(&other).unwrap();
    }

    #[test]
    fn bytes_beyond_the_rate_are_paid_back_before_more_come() {
        let bytes_per_second = ByteSize(1_000);
        let quotas = Quotas::new(QuotaConfig { bytes_per_second, ..QuotaConfig::default() });
        let name: Arc<str> = "one".into();
        let used = quotas.call(&name).unwrap().unwrap();
        assert!(used.bytes(9_000).is_none());
        let rest = used.bytes(3_000).expect("2,000 too many");
        assert!(rest > Duration::from_millis(1_800) && rest <= Duration::from_secs(2), "{rest:?}");
        assert!(quotas.call(&name).is_err());
    }

    #[test]
    fn a_principal_has_so_many_connections_and_a_place_comes_back() {
        let quotas = Quotas::new(QuotaConfig { connections: 2, ..QuotaConfig::default() });
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        let mut open: Vec<Members> = (0..2).map(|_| Members::default()).collect();
        for connection in &open {
            quotas.connection(&one, connection).unwrap();
            quotas.connection(&one, connection).expect("a second call on it");
        }
        let third = Members::default();
        let refused = quotas.connection(&one, &third).unwrap_err();
        assert_eq!(refused.reason(), Reason::QuotaExceeded);
        assert_eq!(refused.metadata()["quota"], "connections");
        quotas.connection(&other, &third).expect("others have their own");
        open.pop();
        quotas.connection(&one, &third).expect("a place came back");
        drop((open, third));
        assert!(quotas.connections.lock().is_empty(), "nobody is remembered");
    }

    #[test]
    fn without_quotas_nobody_is_remembered() {
        let quotas = Quotas::new(QuotaConfig::default());
        assert!(quotas.call(&"one".into()).unwrap().is_none());
        assert!(quotas.uses.lock().is_empty());
    }
}
