//! Writes the edges of the products whose traffic has changed.

use std::sync::Arc;

use bytes::Bytes;
use meshlog_proto::server_v1;
use meshlog_storage::{Control, Entry};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::{Counter, Direction, OpenReader, key, now};
use crate::broker::Broker;
use crate::caller::Caller;
use crate::catalogue::ProductHandle;

/// Entries of edges under way at a time; one has mostly less than a kilobyte, and at most some
/// hundred.
const UNDER_WAY: usize = 64;

/// The products whose traffic has changed since it was written.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    changed: Vec<Arc<str>>,
    timer: Option<AbortHandle>,
}

impl Broker {
    /// Records of a product were appended and acknowledged.
    pub(crate) fn count_appended(
        &self,
        product: &ProductHandle,
        counter: &Counter,
        records: u64,
        bytes: u64,
    ) {
        counter.add(records, bytes, now());
        self.traffic_changed(product);
    }

    /// Records were delivered once to a caller.
    pub(crate) fn count_read(
        &self,
        product: &ProductHandle,
        caller: &Caller,
        batches: &[server_v1::StoredBatch],
    ) {
        for run in of_one_version(batches) {
            let counter = product.traffic.counter(Direction::Read, caller, run[0].schema_version);
            counter.add(records_in(run), bytes_in(run), now());
        }
        if !batches.is_empty() {
            self.metrics().fetched(records_in(batches), bytes_in(batches));
            self.traffic_changed(product);
        }
    }

    /// Records were delivered on a subscription.
    pub(crate) fn count_delivered(
        &self,
        product: &ProductHandle,
        reader: &mut OpenReader,
        batches: &[server_v1::StoredBatch],
    ) {
        for run in of_one_version(batches) {
            reader.delivered(run[0].schema_version, records_in(run), bytes_in(run));
        }
        self.metrics().fetched(records_in(batches), bytes_in(batches));
        self.traffic_changed(product);
    }

    /// What is known of the traffic of a product has changed.
    pub(super) fn traffic_changed(&self, product: &ProductHandle) {
        if !product.traffic.begins_to_change() {
            return;
        }
        let mut pages = self.ledger().0.lock();
        pages.changed.push(Arc::clone(&product.id));
        // A timer may have gone with its runtime.
        if pages.timer.as_ref().is_none_or(AbortHandle::is_finished)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (broker, closing) = (self.downgrade(), self.closing().clone());
            let interval = self.config().lineage.interval.into();
            let timer = runtime.spawn(async move {
                tokio::select! {
                    () = tokio::time::sleep(interval) => {}
                    // Closing writes them.
                    () = closing.cancelled() => return,
                }
                if let Some(broker) = broker.upgrade() {
                    let changed = broker.write_traffic().await;
                    broker.look_for_copies(&changed);
                }
            });
            pages.timer = Some(timer.abort_handle());
        }
    }

    /// Writes the traffic that has changed, and says of which products. Failing is logged, and it is
    /// written with the next.
    pub(crate) async fn write_traffic(&self) -> Vec<Arc<str>> {
        let changed = {
            let mut pages = self.ledger().0.lock();
            pages.timer = None;
            std::mem::take(&mut pages.changed)
        };
        for some in changed.chunks(UNDER_WAY) {
            let mut answers = Vec::with_capacity(some.len());
            for id in some {
                answers.extend(self.submit_traffic(id).await);
            }
            for (product, answer) in answers {
                if let Ok(Err(error)) = answer.await {
                    tracing::warn!(product = &*product.name, %error, "its lineage was not written");
                    if product.traffic.begins_to_change() {
                        self.ledger().0.lock().changed.push(Arc::clone(&product.id));
                    }
                }
            }
        }
        changed
    }

    async fn submit_traffic(
        &self,
        product_id: &str,
    ) -> Option<(Arc<ProductHandle>, oneshot::Receiver<meshlog_storage::Result<()>>)> {
        // A broker in memory has nowhere to keep it.
        if self.config().data_dir.is_none() {
            self.catalogue().find(product_id)?.traffic.begin_to_write();
            return None;
        }
        let present = self.catalogue().keep_id(product_id).await;
        let product = self.catalogue().find(product_id)?;
        let value = Bytes::from(product.traffic.snapshot().encode_to_vec());
        let control = Control::SetState { key: key(product_id), value: Some(value) };
        let (answer, answered) = oneshot::channel();
        let entry = Entry { controls: vec![control], ..Entry::default() };
        self.storage().append(entry, move |result| {
            drop(present);
            drop(answer.send(result.map(drop)));
        });
        Some((product, answered))
    }
}

/// Batches in runs of the same schema version: mostly there is one.
fn of_one_version(
    batches: &[server_v1::StoredBatch],
) -> impl Iterator<Item = &[server_v1::StoredBatch]> {
    batches.chunk_by(|one, next| one.schema_version == next.schema_version)
}

fn records_in(batches: &[server_v1::StoredBatch]) -> u64 {
    batches.iter().map(|batch| u64::from(batch.count.saturating_sub(batch.skip))).sum()
}

fn bytes_in(batches: &[server_v1::StoredBatch]) -> u64 {
    batches.iter().map(|batch| batch.batch.len() as u64).sum()
}
