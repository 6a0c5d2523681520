//! Takes the newest records of both products from the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use meshlog_storage::{Offset, Timestamp};

use super::ROWS;
use super::compare::{Sample, Verdict, compare, same_fields};
use super::row::RowReader;
use crate::broker::Broker;
use crate::catalogue::ProductHandle;
use crate::error::{Error, Reason, Result};
use crate::record::{bounds_of, offset_at_time};
use crate::sample::{Direction, Found, Lane, Walk};

/// Bytes of batches read of one product at most.
const MAX_LOOKED_AT: usize = 32 << 20;
/// Records that are read on a thread of its own at a time.
const CHUNK: usize = 1_000;

/// What came out, and the time that reading values took.
pub(super) struct Looked {
    pub(super) verdict: Verdict,
    pub(super) spent: Duration,
}

/// Compares what the application with this number appended to `copy` with what it could read in
/// `source` before.
pub(super) async fn look(
    broker: &Broker,
    source: &Arc<ProductHandle>,
    copy: &Arc<ProductHandle>,
    application: u32,
) -> Result<Looked> {
    let mut spent = Duration::ZERO;
    let mut taking = Taking::new(copy);
    let mut walk =
        Walk::new(broker, copy, lanes(broker, copy, None).await?, Direction::NewestFirst);
    let of_application = |found: &Found| found.application == application;
    taking = take(&mut walk, taking, ROWS, of_application, &mut spent).await?;
    let Some((_, newest)) = taking.sample.rows.first() else {
        return Ok(Looked { verdict: Verdict::Unclear, spent });
    };
    // What came into the source later cannot have been copied yet.
    let until = Timestamp(newest.saturating_add(1));
    let lanes = lanes(broker, source, Some(until)).await?;
    let mut walk = Walk::new(broker, source, lanes, Direction::NewestFirst);
    let mut original = Taking::new(source);
    original.wanted = Some(taking.sample.detailed.keys().copied().collect());
    let original = take(&mut walk, original, 2 * ROWS, |_| true, &mut spent).await?;
    let begun = Instant::now();
    let verdict = blocking(move || {
        let verdict = compare(&original.sample, &taking.sample);
        let Verdict::Same { percent, records, .. } = verdict else { return verdict };
        let fields = same_fields(
            &original.sample,
            &taking.sample,
            |field| original.reader.path(field),
            |field| taking.reader.path(field),
        );
        Verdict::Same { percent, records, fields }
    });
    let verdict = verdict.await?;
    Ok(Looked { verdict, spent: spent + begun.elapsed() })
}

/// A sample being taken.
struct Taking {
    reader: RowReader,
    sample: Sample,
    /// The records of which fields are kept; `None`: of the first.
    wanted: Option<std::collections::HashSet<u64>>,
}

impl Taking {
    fn new(product: &Arc<ProductHandle>) -> Self {
        Self { reader: RowReader::new(product), sample: Sample::default(), wanted: None }
    }

    fn add(&mut self, version: u32, found: &Found) {
        let Some(value) = &found.value else { return };
        if let Some(row) = self.reader.read(version, value) {
            let wanted = self.wanted.as_ref();
            let detail = wanted.is_none_or(|wanted| wanted.contains(&row.hash));
            self.sample.add(row, found.append_time.0, detail);
        }
    }
}

/// The newest records of a walk that fit, up to a number of them.
async fn take(
    walk: &mut Walk,
    mut taking: Taking,
    most: usize,
    fits: impl Fn(&Found) -> bool,
    spent: &mut Duration,
) -> Result<Taking> {
    loop {
        let mut chunk = Vec::new();
        let room = most.saturating_sub(taking.sample.rows.len()).min(CHUNK);
        while chunk.len() < room && !(walk.looked_at() > MAX_LOOKED_AT && walk.must_load()) {
            let Some(found) = walk.next().await? else {
                taking.sample.is_whole = true;
                break;
            };
            if fits(&found) {
                let version = walk.schema_version(&found);
                chunk.push((version, found));
            }
        }
        if chunk.is_empty() {
            return Ok(taking);
        }
        let (back, took) = blocking(move || {
            let begun = Instant::now();
            chunk.iter().for_each(|(version, found)| taking.add(*version, found));
            (taking, begun.elapsed())
        })
        .await?;
        taking = back;
        *spent += took;
        if taking.sample.is_whole {
            return Ok(taking);
        }
    }
}

/// All partitions, up to a time.
async fn lanes(
    broker: &Broker,
    product: &ProductHandle,
    until: Option<Timestamp>,
) -> Result<Vec<Lane>> {
    let mut lanes = Vec::new();
    for partition in 0..product.streams.len() as u32 {
        let bounds = bounds_of(broker, product, partition)?;
        let end: Offset = match until {
            Some(until) => offset_at_time(broker, product, partition, until)
                .await?
                .clamp(bounds.start, bounds.durable_end),
            None => bounds.durable_end,
        };
        lanes.push(Lane::new(product, partition, bounds.start, end));
    }
    Ok(lanes)
}

/// Does work that takes long on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        Error::new(Reason::Internal, format!("records could not be compared: {error}"))
    })
}
