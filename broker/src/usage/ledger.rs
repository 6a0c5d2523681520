//! Writes the counts of the products that were used.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meshlog_proto::server_v1;
use meshlog_storage::{Control, Entry};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::{OpenReader, key};
use crate::broker::Broker;
use crate::catalogue::ProductHandle;

/// Counts are written this long after the first of them changed.
const INTERVAL: Duration = Duration::from_secs(60);

/// Entries of counts under way at a time; one has at most about 16 KiB.
const UNDER_WAY: usize = 256;

/// The products whose counts have changed since they were written.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    changed: Vec<Arc<str>>,
    timer: Option<AbortHandle>,
}

impl Broker {
    /// Records of a product were appended and acknowledged.
    pub(crate) fn count_appended(&self, product: &ProductHandle, records: u64) {
        product.usage.appended(records);
        self.usage_changed(product);
    }

    /// Records were delivered once to an application.
    pub(crate) fn count_read(
        &self,
        product: &ProductHandle,
        application: &str,
        batches: &[server_v1::StoredBatch],
    ) {
        if !batches.is_empty() {
            self.metrics().fetched(records_in(batches), bytes_of(batches));
            product.usage.delivered(application, records_in(batches));
            self.usage_changed(product);
        }
    }

    /// Records were delivered on a subscription.
    pub(crate) fn count_delivered(
        &self,
        product: &ProductHandle,
        reader: &OpenReader,
        batches: &[server_v1::StoredBatch],
    ) {
        reader.delivered(records_in(batches));
        self.metrics().fetched(records_in(batches), bytes_of(batches));
        self.usage_changed(product);
    }

    fn usage_changed(&self, product: &ProductHandle) {
        // A broker in memory has nowhere to keep them.
        if !product.usage.begins_to_change() || self.config().data_dir.is_none() {
            return;
        }
        let mut pages = self.ledger().0.lock();
        pages.changed.push(Arc::clone(&product.id));
        // A timer may have gone with its runtime.
        if pages.timer.as_ref().is_none_or(AbortHandle::is_finished)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (broker, closing) = (self.downgrade(), self.closing().clone());
            let timer = runtime.spawn(async move {
                tokio::select! {
                    () = tokio::time::sleep(INTERVAL) => {}
                    // Closing writes them.
                    () = closing.cancelled() => return,
                }
                if let Some(broker) = broker.upgrade() {
                    broker.write_usage().await;
                }
            });
            pages.timer = Some(timer.abort_handle());
        }
    }

    /// Writes the counts that have changed; failing is logged, and they are written with the next.
    pub(crate) async fn write_usage(&self) {
        let changed = {
            let mut pages = self.ledger().0.lock();
            pages.timer = None;
            std::mem::take(&mut pages.changed)
        };
        for some in changed.chunks(UNDER_WAY) {
            let mut answers = Vec::with_capacity(some.len());
            for id in some {
                answers.extend(self.submit_usage(id).await);
            }
            for (product, answer) in answers {
                if let Ok(Err(error)) = answer.await {
                    tracing::warn!(product = &*product.name, %error, "its counts of use were not written");
                    if product.usage.begins_to_change() {
                        self.ledger().0.lock().changed.push(Arc::clone(&product.id));
                    }
                }
            }
        }
    }

    async fn submit_usage(
        &self,
        product_id: &str,
    ) -> Option<(Arc<ProductHandle>, oneshot::Receiver<meshlog_storage::Result<()>>)> {
        let present = self.catalogue().keep_id(product_id).await;
        let product = self.catalogue().find(product_id)?;
        let value = Bytes::from(product.usage.snapshot().encode_to_vec());
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

fn bytes_of(batches: &[server_v1::StoredBatch]) -> usize {
    batches.iter().map(|batch| batch.batch.len()).sum()
}

fn records_in(batches: &[server_v1::StoredBatch]) -> u64 {
    batches.iter().map(|batch| u64::from(batch.count.saturating_sub(batch.skip))).sum()
}
