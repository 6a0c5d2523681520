//! History, then live, without a gap.
//!
//! A subscription is a cursor per partition and nothing else: no task, no queue. It reads when its
//! consumer asks for the next message, so a slow consumer holds at most one message and, while it
//! catches up from files, one slice read ahead; the log is the buffer. At the durable end it sleeps until the committing thread wakes it or a heartbeat is
//! due; an idle subscription causes no other work.

use std::sync::Arc;
use std::time::Duration;

use meshlog_proto::{server_v1, v1};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cursor::Cursors;
use super::read::read_bytes;
use super::wakeup::Watch;
use crate::access::{Recheck, Rpc};
use crate::broker::Broker;
use crate::caller::Caller;
use crate::catalogue::ProductHandle;
use crate::error::{Error, Result};
use crate::lineage::OpenReader;
use crate::metrics::Open;
use crate::time;

/// Positions listed in the error that ends a subscription at shutdown; more would not fit into
/// the trailers every client accepts. The last message has them all.
const MAX_LISTED_POSITIONS: usize = 64;

impl Broker {
    /// Follows a product from a start position. The caller's application counts as a live reader as
    /// long as the subscription is open.
    pub async fn subscribe(
        &self,
        caller: &Caller,
        request: v1::SubscribeRequest,
    ) -> Result<Subscription> {
        self.refuse_if_closing()?;
        let heartbeat = time::heartbeat(request.heartbeat_interval.as_ref())?;
        let product = self.catalogue().resolve_for(
            caller,
            Rpc::Subscribe,
            &request.product,
            &request.product_id,
        )?;
        let notices = Notices::new(self, &product, request.product);
        let mut cursors =
            Cursors::resolve(self, product, &request.partitions, request.start, 0).await?;
        cursors.read_ahead();
        if request.stop_at_end {
            cursors.stop_at_end();
        }
        let watch = cursors.watch();
        let product_id = &cursors.product().id;
        let access = Recheck::new(self.catalogue(), caller, Rpc::Subscribe, Some(product_id));
        let reader = cursors.product().traffic.open(caller);
        Ok(Subscription {
            access,
            _open: Open::begin(self.metrics(), |metrics| &metrics.subscriptions),
            reader,
            cursors,
            notices,
            watch,
            heartbeat,
            max_bytes: read_bytes(request.max_bytes),
            phase: Phase::Opening,
            closing: self.closing().clone(),
            stop: CancellationToken::new(),
        })
    }
}

/// An open subscription. Dropping it ends it.
#[derive(Debug)]
pub struct Subscription {
    access: Recheck,
    _open: Open,
    reader: OpenReader,
    cursors: Cursors,
    notices: Notices,
    watch: Watch,
    heartbeat: Duration,
    max_bytes: usize,
    phase: Phase,
    closing: CancellationToken,
    stop: CancellationToken,
}

/// What the subscriber has been told about the product beside its records.
#[derive(Debug)]
struct Notices {
    broker: Broker,
    product_id: Arc<str>,
    /// The name that was used.
    asked: String,
    told: Vec<v1::Notice>,
    /// Of the catalogue; looked at when there is a message anyway, so that a change of the
    /// catalogue wakes no subscription.
    changes: watch::Receiver<u64>,
}

impl Notices {
    fn new(broker: &Broker, product: &ProductHandle, asked: String) -> Self {
        let mut changes = broker.catalogue().changes();
        changes.mark_changed();
        let product_id = Arc::clone(&product.id);
        Self { broker: broker.clone(), product_id, asked, told: Vec::new(), changes }
    }

    /// What has not been told yet. Costs one look at a number unless the catalogue has changed.
    fn fresh(&mut self) -> Vec<v1::Notice> {
        if !self.changes.has_changed().unwrap_or(false) {
            return Vec::new();
        }
        self.changes.mark_unchanged();
        let catalogue = self.broker.catalogue();
        let Some(product) = catalogue.find(&self.product_id) else { return Vec::new() };
        let notices = catalogue.notices(&product, &self.asked);
        if notices == self.told {
            return Vec::new();
        }
        self.told.clone_from(&notices);
        notices
    }
}

#[derive(Debug)]
enum Phase {
    /// The resolved positions are to be told.
    Opening,
    Following,
    /// The last positions were told; the error follows.
    Leaving(Error),
    Ended,
}

impl Subscription {
    /// The same subscription, which also ends, with `SHUTTING_DOWN`, when `stop` is cancelled.
    #[cfg(feature = "edge")]
    pub(crate) fn until(mut self, stop: CancellationToken) -> Self {
        self.stop = stop;
        self
    }

    /// The next message: first the resolved positions of all partitions, then batches, or a
    /// heartbeat with all positions when nothing came for the heartbeat interval. `None` at the
    /// end of a subscription that stops there.
    ///
    /// # Errors
    /// The subscription is over, for instance because the product was deleted, retention overtook
    /// it or the broker shuts down; nothing follows.
    pub async fn next(&mut self) -> Option<Result<server_v1::SubscribeResponse>> {
        match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Opening => {
                self.phase = Phase::Following;
                Some(Ok(self.positions()))
            }
            Phase::Following => match self.follow().await {
                Ok(Some(response)) => {
                    if !matches!(self.phase, Phase::Leaving(_)) {
                        self.phase = Phase::Following;
                    }
                    Some(Ok(response))
                }
                Ok(None) => None,
                Err(error) => Some(Err(error)),
            },
            Phase::Leaving(error) => Some(Err(error)),
            Phase::Ended => None,
        }
    }

    async fn follow(&mut self) -> Result<Option<server_v1::SubscribeResponse>> {
        let due = Instant::now() + self.heartbeat;
        let mut is_due = false;
        loop {
            if self.stop.is_cancelled() || self.closing.is_cancelled() {
                return Ok(Some(self.leave()));
            }
            self.access.check()?;
            if self.cursors.is_finished() {
                return Ok(None);
            }
            let batches = self.cursors.fill(self.max_bytes).await?;
            if !batches.is_empty() {
                self.cursors.count(&mut self.reader, &batches);
                return Ok(Some(server_v1::SubscribeResponse {
                    product_id: self.cursors.product_id(),
                    batches,
                    partitions: self.cursors.moved_states(),
                    notices: self.notices.fresh(),
                }));
            }
            if is_due {
                return Ok(Some(self.positions()));
            }
            tokio::select! {
                () = self.watch.advanced() => {}
                () = self.access.due() => {}
                // One more look: a heartbeat must not hide that there is something to tell.
                () = tokio::time::sleep_until(due) => is_due = true,
                () = self.stop.cancelled() => {}
                () = self.closing.cancelled() => {}
            }
        }
    }

    fn positions(&mut self) -> server_v1::SubscribeResponse {
        server_v1::SubscribeResponse {
            product_id: self.cursors.product_id(),
            batches: Vec::new(),
            partitions: self.cursors.states(),
            notices: self.notices.fresh(),
        }
    }

    /// The last message says where to resume; the error after it says why it was the last.
    fn leave(&mut self) -> server_v1::SubscribeResponse {
        let last = self.positions();
        let mut error = Error::shutting_down();
        if last.partitions.len() <= MAX_LISTED_POSITIONS {
            let positions: Vec<String> = last
                .partitions
                .iter()
                .map(|state| format!("{}:{}", state.partition, state.next_offset))
                .collect();
            error = error.with("resume", positions.join(","));
        }
        self.phase = Phase::Leaving(error);
        last
    }
}
