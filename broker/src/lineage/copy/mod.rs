//! Products that are copies of other products: found by their values.
//!
//! ```text
//!  an interval has passed ─► products that were appended to ─► pairs: an application reads the one,
//!                                                              appends to the other
//!  pair ─► newest records of both, from the log ─► a hash per record ─► the same on both sides?
//!                                    (budget: 1 % of a core)            ≥ 95 % both ways: a copy
//! ```
//!
//! The records are read from the log, not looked at when they are appended: an append costs nothing
//! more, and what was there before anybody asked is compared too. The hash of a record is that of
//! its scalar values as a multiset, so names, nesting and format do not matter (`row.rs`).
//!
//! Both ways, so that what is filtered is no copy: of the records the application appended, nearly
//! all are in the source; and of the records of the source, between the oldest and the newest of
//! those, nearly all are in the copy.
//!
//! Of a large product only the newest records are compared: [`ROWS`] of the copy, twice as many of
//! the source. A copy that is made in another order, of more records than that, is not noticed.

mod compare;
mod look;
mod row;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::AbortHandle;

use super::{Direction, Who, now};
use crate::broker::Broker;
use crate::catalogue::ProductHandle;
use compare::Verdict;
use look::Looked;

/// Copies remembered per product.
pub(super) const MAX_COPIES: usize = 10;
/// Records of a copy that are compared at most; of its source, twice as many.
const ROWS: usize = 10_000;
/// Pairs that wait; beyond, they come again with the next traffic.
const MAX_WAITING: usize = 10_000;
/// Comparing takes this share of a core at most, in the long run …
const SHARE: f64 = 0.01;
/// … and so much at once.
const BURST: Duration = Duration::from_secs(1);

/// A product is a copy of another one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Copy {
    /// Id of the other one.
    pub(super) source: Arc<str>,
    /// Who makes the copy.
    pub(super) who: Who,
    /// Of the records looked at, those that both sides have.
    pub(super) percent: f64,
    /// Records of the copy that were looked at.
    pub(super) records: u32,
    /// Paths of the source and of the copy.
    pub(super) fields: Vec<(String, String)>,
    /// When, in nanoseconds since 1970.
    pub(super) time: u64,
}

/// An application that reads one product and appends to another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Pair {
    source: Arc<str>,
    who: Who,
    copy: Arc<str>,
}

/// What is compared next, and how much may be.
#[derive(Debug, Default)]
pub(crate) struct CopyWatch(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    pairs: BTreeSet<Pair>,
    /// Records that the application had appended when the pair was last compared.
    compared: HashMap<Pair, u64>,
    worker: Option<AbortHandle>,
}

impl Broker {
    /// Compares, in the background, what may have become copies with the traffic of these products.
    pub(super) fn look_for_copies(&self, changed: &[Arc<str>]) {
        let index = self.catalogue().index();
        let mut waiting = self.copy_watch().0.lock();
        for id in changed {
            let Some(product) = self.catalogue().find(id) else { continue };
            for flow in product.traffic.flows(Direction::Append) {
                for source in index.touched(&flow.who).reads {
                    let pair = Pair { source, who: flow.who.clone(), copy: Arc::clone(id) };
                    let before = waiting.compared.get(&pair).copied().unwrap_or_default();
                    // A tenth more records may say something else.
                    let is_due = flow.total.records > before.saturating_add(before / 10);
                    if pair.source != pair.copy && is_due && waiting.pairs.len() < MAX_WAITING {
                        waiting.pairs.insert(pair);
                    }
                }
            }
        }
        if !waiting.pairs.is_empty()
            && waiting.worker.as_ref().is_none_or(AbortHandle::is_finished)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (broker, closing) = (self.downgrade(), self.closing().clone());
            let work = async move {
                let begun = Instant::now();
                let mut spent = Duration::ZERO;
                while let Some(broker) = broker.upgrade()
                    && let Some(pair) = broker.copy_watch().next()
                {
                    spent += broker.compare(pair).await;
                    drop(broker);
                    let due = spent.saturating_sub(BURST).div_f64(SHARE);
                    tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
                }
            };
            let worker = runtime.spawn(async move {
                tokio::select! {
                    () = work => {}
                    () = closing.cancelled() => {}
                }
            });
            waiting.worker = Some(worker.abort_handle());
        }
    }

    /// Compares one pair and keeps what came out; says what it took.
    async fn compare(&self, pair: Pair) -> Duration {
        let catalogue = self.catalogue();
        let (Some(source), Some(copy)) = (catalogue.find(&pair.source), catalogue.find(&pair.copy))
        else {
            return Duration::ZERO;
        };
        let application = catalogue.application_number(&pair.who.application);
        let (verdict, spent) = match look::look(self, &source, &copy, application).await {
            Ok(Looked { verdict, spent }) => (verdict, spent),
            Err(error) => {
                // Retention or a deletion came in between; the next traffic asks again.
                tracing::debug!(source = &*source.name, copy = &*copy.name, %error, "not compared");
                return Duration::ZERO;
            }
        };
        self.keep_verdict(&pair, &copy, verdict);
        spent
    }

    fn keep_verdict(&self, pair: &Pair, copy: &ProductHandle, verdict: Verdict) {
        let found = match verdict {
            // Too little to say anything: what was said before stands.
            Verdict::Unclear => return,
            Verdict::Different => None,
            Verdict::Same { percent, records, fields } => Some(Copy {
                source: Arc::clone(&pair.source),
                who: pair.who.clone(),
                percent,
                records,
                fields,
                time: now(),
            }),
        };
        let mut copies = copy.traffic.copies.lock();
        let before = copies.len();
        copies.retain(|known| (&known.source, &known.who) != (&pair.source, &pair.who));
        let has_changed = found.is_some() || copies.len() != before;
        if copies.len() < MAX_COPIES {
            copies.extend(found);
        }
        drop(copies);
        if has_changed {
            self.traffic_changed(copy);
        }
        let appended = copy.traffic.flows(Direction::Append).into_iter();
        let appended = appended.filter(|flow| flow.who == pair.who).map(|flow| flow.total.records);
        let mut waiting = self.copy_watch().0.lock();
        if waiting.compared.len() >= MAX_WAITING {
            waiting.compared.clear();
        }
        waiting.compared.insert(pair.clone(), appended.sum());
    }
}

impl CopyWatch {
    fn next(&self) -> Option<Pair> {
        self.0.lock().pairs.pop_first()
    }
}
