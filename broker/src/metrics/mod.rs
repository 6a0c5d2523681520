//! Figures for those who watch the broker: `docs/metrics.md` lists each.
//!
//! ```text
//!  appends, reads, calls ──► Metrics (atomic counters, no lock) ──┐
//!  storage, catalogue, disk ── read when somebody asks ───────────┴► page: text of Prometheus
//! ```
//!
//! The counters belong to one broker; nothing is registered anywhere in the process, so a program
//! that embeds brokers decides by itself what becomes of [`Broker::metrics_page`]. Labels have few
//! values, known in advance: calls, codes, reasons. What is there per product is on a page of its
//! own, [`Broker::product_metrics_page`], with a cap.

#[cfg(feature = "edge")]
pub(crate) mod call;
mod page;
mod products;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use meshlog_storage::Durations;

use crate::broker::Broker;
use crate::caller::Caller;
use crate::error::{Error, Reason, Result};

/// What a page of metrics is, for the header `content-type`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the broker counts by itself.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    published_records: AtomicU64,
    published_bytes: AtomicU64,
    fetched_records: AtomicU64,
    fetched_bytes: AtomicU64,
    /// From a single append to its answer.
    pub(crate) append_times: Durations,
    schema_rejections: AtomicU64,
    rule_failures: AtomicU64,
    rules_over_budget: AtomicU64,
    key_mismatches: AtomicU64,
    tombstones: AtomicU64,
    overloads: AtomicU64,
    warned_records: AtomicU64,
    quarantined_records: AtomicU64,
    /// Open now.
    pub(crate) subscriptions: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) streams: AtomicU64,
    /// Connections closed at once because there were too many.
    pub(crate) refused_connections: AtomicU64,
    #[cfg(feature = "edge")]
    pub(crate) calls: call::Calls,
}

impl Metrics {
    /// Records were appended and acknowledged.
    pub(crate) fn published(&self, records: u64, bytes: u64) {
        self.published_records.fetch_add(records, Relaxed);
        self.published_bytes.fetch_add(bytes, Relaxed);
    }

    /// Records were handed to a reader.
    pub(crate) fn fetched(&self, records: u64, bytes: u64) {
        self.fetched_records.fetch_add(records, Relaxed);
        self.fetched_bytes.fetch_add(bytes, Relaxed);
    }

    /// Records do not conform, and were appended or quarantined.
    pub(crate) fn nonconforming(&self, records: u32, are_quarantined: bool) {
        let counter = match are_quarantined {
            true => &self.quarantined_records,
            false => &self.warned_records,
        };
        counter.fetch_add(u64::from(records), Relaxed);
    }

    /// An append was refused.
    pub(crate) fn rejected(&self, reason: Reason) {
        let counter = match reason {
            Reason::SchemaRejected => &self.schema_rejections,
            Reason::RuleFailed => &self.rule_failures,
            Reason::RuleOverBudget => &self.rules_over_budget,
            Reason::KeyMismatch => &self.key_mismatches,
            Reason::TombstoneNotAllowed => &self.tombstones,
            Reason::Overloaded => &self.overloads,
            _ => return,
        };
        counter.fetch_add(1, Relaxed);
    }
}

/// Something that is counted as long as it is not dropped.
pub(crate) struct Open {
    metrics: Arc<Metrics>,
    gauge: fn(&Metrics) -> &AtomicU64,
}

impl Open {
    /// One more.
    pub(crate) fn begin(metrics: &Arc<Metrics>, gauge: fn(&Metrics) -> &AtomicU64) -> Self {
        gauge(metrics).fetch_add(1, Relaxed);
        Self { metrics: Arc::clone(metrics), gauge }
    }
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").finish_non_exhaustive()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        (self.gauge)(&self.metrics).fetch_sub(1, Relaxed);
    }
}

impl Broker {
    /// What `/metrics` answers: the figures of this broker in the text format of Prometheus
    /// ([`CONTENT_TYPE`]).
    #[must_use]
    pub fn metrics_page(&self) -> String {
        writer::text(|page| page::write(self, page))
    }

    /// What `/metrics/products` answers: figures of each product that the caller may see and of each
    /// of its cursors, of at most [`crate::config::MetricsConfig::max_products`] each.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` if there are products and the caller may see none of them.
    pub fn product_metrics_page(&self, caller: &Caller) -> Result<String> {
        let most = self.config().metrics.max_products as usize;
        let (handles, left_out) = self.catalogue().first_products(caller, most);
        if handles.is_empty() && left_out == 0 && self.catalogue().product_count() > 0 {
            return Err(Error::new(
                Reason::PermissionDenied,
                "you may see no product, so there are no figures for you; ask an owner for access \
                 (`meshlog access request`)",
            ));
        }
        Ok(writer::text(|page| products::write(self, caller, page, &handles, left_out)))
    }
}
