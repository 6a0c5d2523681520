//! Lineage: who appends to a product, who reads it, and what is made of what. Counted where records
//! are handed over; also the base of the guard against pulling a product from under its readers, and
//! of the rank of search results.
//!
//! ```text
//! append acknowledged ─► Counter ┐                       each interval, and at close,
//! read answered ───────► Counter ┼─► Traffic ─► Ledger ─► one key of the storage state per product
//! subscription ─► open ─► Counter┘      │         │      that changed (FORMAT.md)
//!                            a new edge ▼         └────► CopyWatch: are two products the same?
//!                                     Index ─► graph, impact, inputs
//! ```
//!
//! - An edge is a counter per direction, application, team and schema version. The sums that
//!   [`meshlog_proto::v1::ProductUse`] shows are sums of edges; nothing is counted twice.
//! - A message costs some atomic additions: the counter is looked up once per append, and once per
//!   subscription and schema version, under a lock of its product alone.
//! - What the broker reads for itself, samples, profiles and comparisons, is no use.
//! - After a crash the edges are those of at most an interval before. How many records were appended
//!   is never lost: the log knows, and what no edge counts goes to [`NOT_COUNTED`].
//! - The index and the graph are views of the traffic: whoever opens the same state has the same.
//!
//! Lock order: counters of one direction of a product, then who follows it, then the index.

pub(crate) mod copy;
mod counter;
mod graph;
mod impact;
mod index;
mod inputs;
mod ledger;
mod stored;
mod traffic;

#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) use counter::{Counter, Who};
pub(crate) use index::Index;
pub(crate) use ledger::Ledger;
pub(crate) use stored::{StoredTraffic, key, parse};
pub use traffic::{OpenReader, Traffic};

/// Whoever read within this time reads live; an edge is alive this long after its last traffic.
const LIVE: Duration = Duration::from_secs(24 * 60 * 60);
/// Applications remembered per product and direction; beyond, the one that was seen longest ago is
/// forgotten, and its counts go to [`OTHERS`].
const MAX_APPLICATIONS: usize = 100;
/// Schema versions counted apart per application; what was before them is version 0.
const MAX_VERSIONS: usize = 8;
/// Stands for all applications that are not remembered.
const OTHERS: &str = "(others)";
/// Stands for whoever appended what a crash left uncounted.
const NOT_COUNTED: &str = "(not counted)";
/// Names that many programs go by: what they read and what they append need not belong together.
const SHARED: [&str; 4] = [OTHERS, NOT_COUNTED, "meshlog-cli", crate::Caller::ANONYMOUS];

/// Which way records go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    /// From an application into a product.
    Append,
    /// From a product to an application.
    Read,
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Whoever read after this reads live.
fn live_since() -> u64 {
    now().saturating_sub(LIVE.as_nanos() as u64)
}

/// `None` for 0, which is never.
fn timestamp(nanos: u64) -> Option<prost_types::Timestamp> {
    (nanos > 0).then(|| prost_types::Timestamp::from(UNIX_EPOCH + Duration::from_nanos(nanos)))
}
