//! What all connections of a server share: the memory budget, the number of calls, the quotas.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::answers::{EXPECTED, Held, Load};
use super::body::LOOK_AGAIN;
use super::cut::Cut;
use super::memory::{Memory, overloaded};
use super::quotas::{Quotas, Use};
use crate::broker::Broker;
use crate::caller::Caller;
use crate::error::Result;

/// Beyond half of all calls a connection may have a sixty-fourth of them.
const SHARE: usize = 64;

/// The limits of one server.
#[derive(Debug)]
pub(super) struct Limits {
    /// Memory for what is on its way.
    pub(super) memory: Arc<Memory>,
    /// How long a request may take to arrive.
    pub(super) request_time: Duration,
    /// How long a message of a stream waits for memory.
    pub(super) patience: Duration,
    quotas: Quotas,
    calls: AtomicUsize,
    max_calls: usize,
}

/// A call under way; over when dropped.
#[derive(Debug)]
pub(super) struct Call {
    limits: Arc<Limits>,
    load: Arc<Load>,
    /// What its bytes count against.
    pub(super) used: Option<Arc<Use>>,
}

impl Limits {
    /// Of this broker.
    pub(super) fn new(broker: &Broker) -> Arc<Self> {
        let config = broker.config();
        Arc::new(Self {
            memory: Arc::clone(broker.edge_memory()),
            request_time: config.edge.request_timeout.into(),
            patience: config.appends.admission_wait.into(),
            quotas: Quotas::new(config.quotas.clone()),
            calls: AtomicUsize::new(0),
            max_calls: config.edge.max_calls as usize,
        })
    }

    /// Takes a call of a connection.
    ///
    /// # Errors
    /// `OVERLOADED`, `QUOTA_EXCEEDED`.
    pub(super) fn call(self: &Arc<Self>, caller: &Caller, load: &Arc<Load>) -> Result<Call> {
        let all = self.calls.fetch_add(1, Ordering::Relaxed);
        let own = load.calls.fetch_add(1, Ordering::Relaxed);
        let mut call = Call { limits: Arc::clone(self), load: Arc::clone(load), used: None };
        let is_greedy = all >= self.max_calls / 2 && own >= (self.max_calls / SHARE).max(1);
        if all >= self.max_calls || is_greedy {
            return Err(overloaded());
        }
        self.quotas.connection(&caller.principal, &load.members)?;
        call.used = self.quotas.call(&caller.principal)?;
        Ok(call)
    }
}

impl Limits {
    /// Waits for room for a large answer, as long as messages wait.
    pub(super) async fn room_for_answer(&self, load: &Arc<Load>) -> Option<Held> {
        let until = Instant::now() + self.patience;
        let reader = self.memory.answers.reader(Cut::of_task(), Arc::clone(load));
        loop {
            if let Some(held) = reader.expect(EXPECTED) {
                return Some(held);
            }
            if Instant::now() >= until {
                return None;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

impl Call {
    /// What its connection has under way.
    pub(super) fn load(&self) -> &Arc<Load> {
        &self.load
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.limits.calls.fetch_sub(1, Ordering::Relaxed);
        if self.load.calls.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.load.unread.ends();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_bounded_and_one_connection_leaves_room_for_others() {
        let mut config = crate::config::Config::default();
        config.edge.max_calls = 128;
        let limits = Limits::new(&Broker::open(config).unwrap());
        let (greedy, other) = (Arc::default(), Arc::default());
        let caller = Caller::default();
        let mut open = Vec::new();
        while let Ok(call) = limits.call(&caller, &greedy) {
            open.push(call);
        }
        assert_eq!(open.len(), 64, "half of them");
        open.push(limits.call(&caller, &other).unwrap());
        assert!(limits.call(&caller, &greedy).is_err());
        open.clear();
        assert!(limits.call(&caller, &greedy).is_ok());
        assert_eq!(limits.calls.load(Ordering::Relaxed), 0);
    }
}
