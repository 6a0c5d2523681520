//! Appends of a run: as many tasks as appends may be under way, each taking the next turn when its last one is answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use meshlog_client::{Catalog, Client, Durability, EncodedBatch, Producer};
use tokio::task::JoinSet;

use super::{figures::Latency, live::Live, pace::Pace, payload::Payload, plan::Plan};
use crate::exit::{Exit, Failure, Result};

/// With more products than this, appends are single calls over shared connections; up to it, each product has a
/// producer, which has a connection of its own.
pub(super) const PRODUCERS_MAX: usize = 128;

/// What was appended.
pub(super) struct Appended {
    pub(super) records: u64,
    /// Of values.
    pub(super) bytes: u64,
    pub(super) appends: u64,
    pub(super) elapsed: Duration,
    /// From when each append was due to its answer.
    pub(super) latency: Latency,
    /// Records that were due and not sent.
    pub(super) unsent: u64,
    /// Appends sent again because the broker had no room for them, where no producer does that itself.
    pub(super) retries: u64,
    /// Records of each product.
    pub(super) of_product: Vec<u64>,
    /// Whether each product had a producer.
    pub(super) streams: bool,
}

/// How appends reach one product.
enum Lane {
    Producer(Producer),
    Calls { catalog: Catalog, product: String, durability: Durability },
}

struct Shared {
    pace: Pace,
    payload: Payload,
    lanes: Vec<Lane>,
    records: Vec<AtomicU64>,
    retries: AtomicU64,
    size: u64,
    live: Live,
}

/// Appends to the products in turn, as the plan says: with `streams` through a producer for each, else in single calls.
/// With an epoch, values carry the time they were due.
pub(super) async fn append(
    clients: &[Client],
    products: &[String],
    plan: &Plan,
    epoch: Option<Instant>,
    streams: bool,
    live: &Live,
) -> Result<Appended> {
    let lanes = products.iter().enumerate().map(|(number, product)| {
        let client = &clients[number % clients.len()];
        Ok(if streams {
            Lane::Producer(client.producer(product).durability(plan.ack).build()?)
        } else {
            let (catalog, product) = (client.catalog(), product.clone());
            Lane::Calls { catalog, product, durability: plan.ack }
        })
    });
    let lanes = lanes.collect::<Result<Vec<_>>>()?;
    let _phase = live.phase("records acknowledged");
    let begun = Instant::now();
    let shared = Arc::new(Shared {
        payload: Payload::new(plan.size, epoch),
        records: products.iter().map(|_| AtomicU64::new(0)).collect(),
        lanes,
        retries: AtomicU64::new(0),
        size: plan.size as u64,
        live: live.clone(),
        pace: Pace::start(plan),
    });
    let mut workers = JoinSet::new();
    for _ in 0..plan.in_flight {
        workers.spawn(shared.clone().work());
    }
    let mut latency = Latency::default();
    while let Some(worker) = workers.join_next().await {
        let part = worker.map_err(|error| Failure::new(Exit::Error, error.to_string()))??;
        latency.add(&part);
    }
    let elapsed = begun.elapsed();
    let of_product: Vec<u64> =
        shared.records.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    let records = of_product.iter().sum();
    Ok(Appended {
        records,
        bytes: records * shared.size,
        appends: latency.count(),
        elapsed,
        latency,
        unsent: shared.pace.unsent(),
        retries: shared.retries.load(Ordering::Relaxed),
        of_product,
        streams,
    })
}

impl Shared {
    async fn work(self: Arc<Self>) -> Result<Latency> {
        let mut latency = Latency::default();
        while let Some(turn) = self.pace.turn().await {
            let lane = (turn.number % self.lanes.len() as u64) as usize;
            let batch = self.payload.batch(&turn)?;
            self.lanes[lane].append(batch, &self.retries).await?;
            latency.record(turn.due.elapsed());
            let records = u64::from(turn.records);
            self.records[lane].fetch_add(records, Ordering::Relaxed);
            self.live.count(records, records * self.size);
        }
        Ok(latency)
    }
}

impl Lane {
    async fn append(&self, batch: EncodedBatch, retries: &AtomicU64) -> Result<()> {
        match self {
            Self::Producer(producer) => {
                producer.enqueue_batch(batch).await?.await?;
            }
            Self::Calls { catalog, product, durability } => loop {
                match catalog.append_once(product, None, &batch, *durability).await {
                    Ok(_) => break,
                    // It was not appended; what waits counts in the latency of this append.
                    Err(error) if error.reason() == "OVERLOADED" => {
                        retries.fetch_add(1, Ordering::Relaxed);
                        let wait = error.retry_after().unwrap_or(Duration::from_millis(10));
                        tokio::time::sleep(wait).await;
                    }
                    Err(error) => return Err(error.into()),
                }
            },
        }
        Ok(())
    }
}
