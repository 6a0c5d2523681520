//! Readers that read products from their beginning to their end, as often as there is time for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use meshlog_client::Client;
use tokio::task::JoinSet;

use super::live::Live;
use crate::exit::{Exit, Failure, Result};

/// What was read.
#[derive(Default)]
pub(super) struct Read {
    pub(super) records: u64,
    /// Of encoded records.
    pub(super) bytes: u64,
    pub(super) elapsed: Duration,
    /// How often a product was read from its beginning to its end.
    pub(super) passes: u64,
}

/// When readers stop.
#[derive(Clone)]
pub(super) enum Until {
    /// At the end.
    Once,
    /// At the first end after this time.
    Time(Instant),
    /// As soon as somebody says so.
    Told(Arc<AtomicBool>),
}

/// Reads each product with so many readers, all at once.
pub(super) async fn read(
    client: &Client,
    products: &[String],
    per_product: usize,
    until: &Until,
    live: &Live,
) -> Result<Read> {
    let begun = Instant::now();
    let _phase = live.phase("records read");
    let mut readers = JoinSet::new();
    for product in products {
        for _ in 0..per_product {
            readers.spawn(again(client.clone(), product.clone(), until.clone(), live.clone()));
        }
    }
    let mut all = Read::default();
    while let Some(reader) = readers.join_next().await {
        let read = reader.map_err(|error| Failure::new(Exit::Error, error.to_string()))??;
        all.records += read.records;
        all.bytes += read.bytes;
        all.passes += read.passes;
    }
    all.elapsed = begun.elapsed();
    Ok(all)
}

async fn again(client: Client, product: String, until: Until, live: Live) -> Result<Read> {
    let mut read = Read::default();
    loop {
        let mut consumer = client.consumer(&product).stop_at_end(true).build();
        while let Some(batch) = consumer.next().await? {
            // Every record is decoded, as a program that reads them would.
            let mut records = 0;
            for record in batch.records() {
                record?;
                records += 1;
            }
            read.records += records;
            read.bytes += batch.bytes().len() as u64;
            live.count(records, batch.bytes().len() as u64);
            if matches!(&until, Until::Told(told) if told.load(Ordering::Relaxed)) {
                return Ok(read);
            }
        }
        read.passes += 1;
        match &until {
            Until::Once => return Ok(read),
            Until::Time(time) if Instant::now() >= *time => return Ok(read),
            Until::Told(told) if told.load(Ordering::Relaxed) => return Ok(read),
            _ => {}
        }
    }
}
