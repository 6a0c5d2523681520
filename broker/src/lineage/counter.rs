//! The traffic of one application in one schema version, one way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use meshlog_proto::v1;

use super::{NOT_COUNTED, OTHERS, SHARED, timestamp};
use crate::Caller;

/// An application and the team it works for: a node of the graph.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Who {
    pub(crate) application: Arc<str>,
    /// None if nobody proved it.
    pub(crate) team: Option<Arc<str>>,
}

impl From<&Caller> for Who {
    fn from(caller: &Caller) -> Self {
        Self { application: Arc::clone(&caller.application), team: caller.team.clone() }
    }
}

impl Who {
    pub(super) fn others() -> Self {
        Self { application: Arc::from(OTHERS), team: None }
    }

    pub(super) fn not_counted() -> Self {
        Self { application: Arc::from(NOT_COUNTED), team: None }
    }

    /// Whether it stands for applications that have no edge of their own.
    pub(super) fn is_remainder(&self) -> bool {
        matches!(&*self.application, OTHERS | NOT_COUNTED)
    }

    /// Whether what it reads and what it appends need not belong together.
    pub(super) fn is_shared(&self) -> bool {
        SHARED.contains(&&*self.application)
    }

    pub(super) fn team(&self) -> &str {
        self.team.as_deref().unwrap_or_default()
    }

    pub(super) fn message(&self) -> v1::LineageApplication {
        v1::LineageApplication {
            name: self.application.to_string(),
            team: self.team().to_owned(),
            shared: self.is_shared(),
        }
    }
}

/// Counts what one application appends to, or reads of, one product in one schema version.
#[derive(Debug)]
pub(crate) struct Counter {
    pub(super) who: Who,
    /// 0: all versions before those that are counted apart.
    pub(super) schema_version: u32,
    records: AtomicU64,
    bytes: AtomicU64,
    first: AtomicU64,
    last: AtomicU64,
}

/// What a counter says at one moment. Times are nanoseconds since 1970; 0: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) first: u64,
    pub(super) last: u64,
}

impl Count {
    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        let first = match (self.first, other.first) {
            (0, first) | (first, 0) => first,
            (one, other) => one.min(other),
        };
        Self {
            records: self.records.saturating_add(other.records),
            bytes: self.bytes.saturating_add(other.bytes),
            first,
            last: self.last.max(other.last),
        }
    }

    pub(super) fn message(self, schema_version: u32) -> v1::LineageVersion {
        v1::LineageVersion {
            schema_version,
            records: self.records,
            bytes: self.bytes,
            first_time: timestamp(self.first),
            last_time: timestamp(self.last),
        }
    }
}

impl Counter {
    pub(super) fn new(who: Who, schema_version: u32, count: Count) -> Self {
        Self {
            who,
            schema_version,
            records: count.records.into(),
            bytes: count.bytes.into(),
            first: count.first.into(),
            last: count.last.into(),
        }
    }

    /// Records went this way just now.
    pub(super) fn add(&self, records: u64, bytes: u64, now: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.last.fetch_max(now, Ordering::Relaxed);
        if self.first.load(Ordering::Relaxed) == 0 {
            // Somebody else may have been first.
            let _set = self.first.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Takes over what another one counted.
    pub(super) fn absorb(&self, count: Count) {
        self.records.fetch_add(count.records, Ordering::Relaxed);
        self.bytes.fetch_add(count.bytes, Ordering::Relaxed);
        self.last.fetch_max(count.last, Ordering::Relaxed);
        if count.first > 0 {
            let before = self.first.load(Ordering::Relaxed);
            if before == 0 || count.first < before {
                self.first.store(count.first, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn count(&self) -> Count {
        Count {
            records: self.records.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            first: self.first.load(Ordering::Relaxed),
            last: self.last.load(Ordering::Relaxed),
        }
    }
}
