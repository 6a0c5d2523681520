//! Readers at the tail, which take from each record how long ago it was due.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use meshlog_client::{Client, Consumer, Durability};
use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    figures::Latency,
    payload::{Payload, Stamp},
};
use crate::exit::{Exit, Failure, Result};

/// How long readers may take to come, and for what is left when the last record is appended.
const PATIENCE: Duration = Duration::from_secs(60);

/// Readers that are there.
pub(super) struct Watching {
    client: Client,
    readers: JoinSet<Result<Seen>>,
    products: Vec<String>,
    per_product: u64,
    partitions: u32,
    payload: Payload,
    begun: Instant,
}

/// What one reader saw.
struct Seen {
    records: u64,
    bytes: u64,
    latency: Latency,
}

/// What all readers saw.
pub(super) struct Delivered {
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// From when a record was due to when a reader had it.
    pub(super) latency: Latency,
    pub(super) elapsed: Duration,
    pub(super) readers: u64,
}

impl Watching {
    /// Starts so many readers of each of the products, which are empty, and returns when all are there.
    pub(super) async fn start(
        client: &Client,
        products: &[String],
        per_product: usize,
        partitions: u32,
        size: usize,
        epoch: Instant,
    ) -> Result<Self> {
        let payload = Payload::new(size, Some(epoch));
        let ready = Arc::new(Semaphore::new(0));
        let mut readers = JoinSet::new();
        for product in products {
            let mark = payload.mark(Stamp::First)?;
            let catalog = client.catalog();
            catalog.append_once(product, Some(0), &mark, Durability::Synced).await?;
            for _ in 0..per_product {
                let consumer = client.consumer(product).build();
                readers.spawn(watch(consumer, partitions, epoch, ready.clone()));
            }
        }
        let count = products.len() * per_product;
        let there = ready.acquire_many(u32::try_from(count).unwrap_or(u32::MAX));
        tokio::select! {
            there = tokio::time::timeout(PATIENCE, there) => {
                if there.is_err() {
                    return Err(late("have not come", ready.available_permits(), count));
                }
            }
            Some(ended) = readers.join_next() => {
                ended.map_err(|error| Failure::new(Exit::Error, error.to_string()))??;
            }
        }
        Ok(Self {
            client: client.clone(),
            readers,
            products: products.to_vec(),
            per_product: per_product as u64,
            partitions,
            payload,
            begun: Instant::now(),
        })
    }

    /// Waits until every reader has everything: so many records of each product.
    pub(super) async fn finish(mut self, of_product: &[u64]) -> Result<Delivered> {
        let catalog = self.client.catalog();
        let mark = self.payload.mark(Stamp::Last)?;
        for product in &self.products {
            for partition in 0..self.partitions {
                catalog.append_once(product, Some(partition), &mark, Durability::Synced).await?;
            }
        }
        let count = self.readers.len();
        let mut all = Delivered {
            records: 0,
            bytes: 0,
            latency: Latency::default(),
            elapsed: Duration::ZERO,
            readers: 0,
        };
        let until = tokio::time::Instant::now() + PATIENCE;
        while let Some(ended) = tokio::time::timeout_at(until, self.readers.join_next())
            .await
            .map_err(|_| late("have not received everything", all.readers as usize, count))?
        {
            let seen = ended.map_err(|error| Failure::new(Exit::Error, error.to_string()))??;
            all.records += seen.records;
            all.bytes += seen.bytes;
            all.latency.add(&seen.latency);
            all.readers += 1;
        }
        all.elapsed = self.begun.elapsed();
        let expected = of_product.iter().sum::<u64>() * self.per_product;
        if all.records != expected {
            return Err(Failure::new(
                Exit::Corruption,
                format!(
                    "{} readers received {} records together where {expected} were acknowledged; \
                     this must not happen: please report it, with the versions of both sides",
                    all.readers, all.records
                ),
            ));
        }
        Ok(all)
    }
}

fn late(what: &str, there: usize, count: usize) -> Failure {
    let seconds = PATIENCE.as_secs();
    let message = format!(
        "{} of {count} readers {what} within {seconds} s; try fewer readers, or a lower --rate",
        count.saturating_sub(there)
    );
    Failure::new(Exit::Unavailable, message)
}

async fn watch(
    mut consumer: Consumer,
    partitions: u32,
    epoch: Instant,
    ready: Arc<Semaphore>,
) -> Result<Seen> {
    let mut seen = Seen { records: 0, bytes: 0, latency: Latency::default() };
    let mut ended = 0;
    while ended < partitions {
        let Some(batch) = consumer.next().await? else { break };
        let now = epoch.elapsed();
        for record in batch.records() {
            let value = record?.record.value.unwrap_or_default();
            match Stamp::of(&value) {
                Some(Stamp::Due(due)) => {
                    seen.records += 1;
                    seen.bytes += value.len() as u64;
                    seen.latency.record(now.saturating_sub(due));
                }
                Some(Stamp::First) => ready.add_permits(1),
                Some(Stamp::Last) => ended += 1,
                None => {}
            }
        }
    }
    Ok(seen)
}
