//! Some records of a product, and what its values look like, without a subscription.
//!
//! ```text
//!            ┌─ last ───┐                                    ┌─ chosen records ─► answer (< 4 MiB)
//! request ───┼─ by key ─┼─► Walk: newest first (or oldest) ──┤
//!            └─ around ─┘   over all partitions, by batches  └─ chunks ─► Profile, on a blocking thread
//! ```
//!
//! What the broker reads here does not count as use. Everything is bounded: records and bytes
//! answered, bytes looked at, fields, samples and profiles under way. A caller that goes away ends
//! the work at the next chunk.

mod decode;
mod paths;
mod profile;
mod walk;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use meshlog_proto::v1;
use meshlog_storage::Offset;
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::access::Rpc;
use crate::broker::Broker;
use crate::caller::Caller;
use crate::catalogue::ProductHandle;
use crate::error::{Error, Reason, Result};
use crate::record::{bounds_of, offset_at_time, partitions_of};
use crate::time::{proto_time, storage_time};
use profile::Profiler;

pub(crate) use decode::{Decoder, Listener};
pub(crate) use paths::{Paths, Place};
pub(crate) use profile::{Number, Parts, Scalar};
pub(crate) use walk::{Direction, Found, Lane, Walk};

const DEFAULT_RECORDS: u32 = 10;
const MAX_RECORDS: u32 = 1_000;
const MAX_PROFILE_RECORDS: u32 = 10_000;
/// Bytes of the records of one answer; with the profile (below 2 MiB) it stays below the 4 MiB that
/// clients accept. There are fewer records rather than cut ones.
const MAX_ANSWER_BYTES: usize = 2 << 20;
/// Bytes of batches that the search for a key, and a profile, look at.
const MAX_LOOKED_AT: usize = 64 << 20;
/// A profile is made of chunks of at most this many records or bytes; between two of them the thread
/// serves others, and a caller that went away is noticed.
const CHUNK_RECORDS: usize = 1_000;
const CHUNK_BYTES: usize = 2 << 20;
/// Samples under way; each holds at most some tens of megabytes.
const SAMPLES: usize = 16;
/// Profiles under way; each takes a processor.
const PROFILES: usize = 2;

/// What bounds the samples under way.
#[derive(Debug)]
pub(crate) struct Sampling {
    samples: Arc<Semaphore>,
    profiles: Arc<Semaphore>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            samples: Arc::new(Semaphore::new(SAMPLES)),
            profiles: Arc::new(Semaphore::new(PROFILES)),
        }
    }
}

impl Broker {
    /// Some records of a product: the last ones, the last ones with a key, or those around a time;
    /// and, if asked for, a profile of the last ones. Records come whole: an answer that would get
    /// too large has fewer of them.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `PRODUCT_RECREATED`, `PARTITION_NOT_FOUND`, `INVALID_ARGUMENT` for more
    /// records than an answer takes, `OVERLOADED` while too many samples are made, `DATA_LOSS`.
    pub async fn sample_product(
        &self,
        caller: &Caller,
        request: v1::SampleProductRequest,
    ) -> Result<v1::SampleProductResponse> {
        self.refuse_if_closing()?;
        let wanted = at_most("max_records", request.max_records, MAX_RECORDS)?;
        let profiled = at_most("profile_records", request.profile_records, MAX_PROFILE_RECORDS)?;
        let wanted = if wanted == 0 { DEFAULT_RECORDS } else { wanted } as usize;
        let product = self.catalogue().resolve_for(
            caller,
            Rpc::SampleProduct,
            &request.product,
            &request.product_id,
        )?;
        let partitions = partitions_of(&product, &request.partitions)?;
        let _sample = permit(&self.sampling().samples, "samples")?;
        let profiling = match profiled {
            0 => None,
            count => Some((count as usize, permit(&self.sampling().profiles, "profiles")?)),
        };
        let work = async {
            let (records, truncated) = match &request.which {
                None => (self.last(&product, &partitions, wanted).await?, false),
                Some(v1::sample_product_request::Which::Key(key)) => {
                    self.last_of_key(&product, &partitions, wanted, key).await?
                }
                Some(v1::sample_product_request::Which::Around(time)) => {
                    (self.around(&product, &partitions, wanted, time).await?, false)
                }
            };
            let profile = match profiling {
                None => None,
                Some((count, permit)) => {
                    Some(self.profile(&product, &partitions, count, permit).await?)
                }
            };
            let product_id = product.id.to_string();
            Ok(v1::SampleProductResponse { product_id, records, truncated, profile })
        };
        tokio::select! {
            answer = work => answer,
            () = self.closing().cancelled() => Err(Error::shutting_down()),
        }
    }

    /// What a check of every record must hold: it takes a processor, as a profile does.
    pub(crate) fn check_permit(&self) -> Result<OwnedSemaphorePermit> {
        permit(&self.sampling().profiles, "checks and profiles")
    }

    /// The whole readable range of each partition.
    fn lanes(&self, product: &ProductHandle, partitions: &[u32]) -> Result<Vec<Lane>> {
        let lane = |partition: &u32| {
            let bounds = bounds_of(self, product, *partition)?;
            Ok(Lane::new(product, *partition, bounds.start, bounds.durable_end))
        };
        partitions.iter().map(lane).collect()
    }

    async fn last(
        &self,
        product: &Arc<ProductHandle>,
        partitions: &[u32],
        wanted: usize,
    ) -> Result<Vec<v1::SampledRecord>> {
        let lanes = self.lanes(product, partitions)?;
        let mut walk = Walk::new(self, product, lanes, Direction::NewestFirst);
        let mut chosen = Chosen::default();
        while chosen.records.len() < wanted
            && let Some(found) = walk.next().await?
        {
            if !chosen.take(self, product, &found)? {
                break;
            }
        }
        Ok(chosen.in_order())
    }

    /// The last records of a key, and whether the search ended before the beginning of the log.
    async fn last_of_key(
        &self,
        product: &Arc<ProductHandle>,
        partitions: &[u32],
        wanted: usize,
        key: &[u8],
    ) -> Result<(Vec<v1::SampledRecord>, bool)> {
        let lanes = self.lanes(product, partitions)?;
        let mut walk = Walk::new(self, product, lanes, Direction::NewestFirst);
        let mut chosen = Chosen::default();
        let mut truncated = false;
        while chosen.records.len() < wanted {
            if walk.looked_at() > MAX_LOOKED_AT && walk.must_load() {
                truncated = !walk.is_done();
                break;
            }
            let Some(found) = walk.next().await? else { break };
            if found.key.as_deref() == Some(key) && !chosen.take(self, product, &found)? {
                break;
            }
        }
        Ok((chosen.in_order(), truncated))
    }

    /// As many records before the time as at or after it, those next to it.
    async fn around(
        &self,
        product: &Arc<ProductHandle>,
        partitions: &[u32],
        wanted: usize,
        time: &prost_types::Timestamp,
    ) -> Result<Vec<v1::SampledRecord>> {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for partition in partitions {
            let at = offset_at_time(self, product, *partition, storage_time(time)).await?;
            let bounds = bounds_of(self, product, *partition)?;
            let at: Offset = at.clamp(bounds.start, bounds.durable_end);
            before.push(Lane::new(product, *partition, bounds.start, at));
            after.push(Lane::new(product, *partition, at, bounds.durable_end));
        }
        let mut before = Walk::new(self, product, before, Direction::NewestFirst);
        let mut after = Walk::new(self, product, after, Direction::OldestFirst);
        let (mut older, mut newer) = (wanted / 2, wanted - wanted / 2);
        let mut chosen = Chosen::default();
        while older + newer > 0 {
            // The nearest first, so that an answer that gets too large leaves out the farthest.
            let is_newer = newer > 0 && newer >= older;
            let (walk, left) = match is_newer {
                true => (&mut after, &mut newer),
                false => (&mut before, &mut older),
            };
            match walk.next().await? {
                Some(found) if !chosen.take(self, product, &found)? => break,
                Some(_) => *left -= 1,
                None => *left = 0,
            }
        }
        Ok(chosen.in_order())
    }

    async fn profile(
        &self,
        product: &Arc<ProductHandle>,
        partitions: &[u32],
        wanted: usize,
        permit: OwnedSemaphorePermit,
    ) -> Result<v1::Profile> {
        let request = v1::GetProductRequest { name: product.name.to_string() };
        let shown =
            self.catalogue().get_product(&Caller::default(), request)?.product.unwrap_or_default();
        let (handle, tags) = (Arc::clone(product), personal_paths(&shown));
        // The permit goes with the work: a chunk whose caller went away still counts.
        let mut profiler = blocking(move || Ok(Profiler::new(&handle, &tags, permit))).await?;
        let lanes = self.lanes(product, partitions)?;
        let mut walk = Walk::new(self, product, lanes, Direction::NewestFirst);
        let mut left = wanted;
        while left > 0 && !(walk.looked_at() > MAX_LOOKED_AT && walk.must_load()) {
            let (mut chunk, mut bytes) = (Vec::new(), 0);
            while chunk.len() < CHUNK_RECORDS.min(left)
                && bytes < CHUNK_BYTES
                && let Some(found) = walk.next().await?
            {
                bytes += found.value.as_ref().map_or(0, bytes::Bytes::len);
                let version = self.catalogue().schema_of(found.schema).unwrap_or_default();
                chunk.push((version, found));
            }
            if chunk.is_empty() {
                break;
            }
            left -= chunk.len();
            profiler = blocking(move || {
                chunk.iter().for_each(|(version, found)| profiler.add(*version, found));
                Ok(profiler)
            })
            .await?;
        }
        blocking(move || Ok(profiler.finish())).await
    }
}

/// The records of an answer.
#[derive(Default)]
struct Chosen {
    records: Vec<v1::SampledRecord>,
    bytes: usize,
}

impl Chosen {
    /// Takes a record; false if the answer is full without it.
    fn take(&mut self, broker: &Broker, product: &ProductHandle, found: &Found) -> Result<bool> {
        let schema_version = broker.catalogue().schema_of(found.schema).unwrap_or_default();
        let record = v1::SampledRecord {
            partition: found.partition,
            offset: found.offset.0,
            append_time: Some(proto_time(found.append_time)),
            schema_version,
            record: Some(found.record().map_err(|error| error.with("product", &product.name))?),
        };
        // Tag and length of the record in the answer.
        let bytes = record.encoded_len() + 8;
        if self.bytes + bytes > MAX_ANSWER_BYTES {
            return Ok(false);
        }
        self.bytes += bytes;
        self.records.push(record);
        Ok(true)
    }

    /// By append time, then partition, then offset.
    fn in_order(mut self) -> Vec<v1::SampledRecord> {
        self.records.sort_by_key(|record| {
            let time = record.append_time.unwrap_or_default();
            (time.seconds, time.nanos, record.partition, record.offset)
        });
        self.records
    }
}

/// Paths whose values must not be shown; the empty one means all.
fn personal_paths(product: &v1::Product) -> Vec<String> {
    const PERSONAL: &str = "pii";
    let own = product.tags.iter().filter(|tag| tag.key == PERSONAL);
    let own = own.map(|tag| tag.field_path.clone());
    let effective = product.effective_tags.iter().filter_map(|effective| effective.tag.as_ref());
    let effective = effective.filter(|tag| tag.key == PERSONAL).map(|tag| tag.field_path.clone());
    own.chain(effective).collect()
}

fn at_most(field: &'static str, asked: u32, most: u32) -> Result<u32> {
    if asked <= most {
        return Ok(asked);
    }
    let what = format!("at most {most}, not {asked}; to read more, subscribe");
    Err(Error::new(Reason::InvalidArgument, format!("{field}: {what}"))
        .with("field", field)
        .with_violation(field, what))
}

fn permit(semaphore: &Arc<Semaphore>, what: &str) -> Result<OwnedSemaphorePermit> {
    Arc::clone(semaphore).try_acquire_owned().map_err(|_| {
        Error::new(
            Reason::Overloaded,
            format!("as many {what} as may be are being made; try again after the delay given"),
        )
        .with("retry_after_ms", 1_000)
    })
}

/// Does work that takes long on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Error::new(
            Reason::Internal,
            format!("the values could not be looked at: {error}; please report this"),
        ))
    })
}
