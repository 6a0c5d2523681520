//! Appending records of one product in order.
//!
//! ```text
//!  push / send / enqueue ──► open batch ──full, linger, flush──► sealed ──► on the wire ──► outcome
//!        │ waits while too many bytes are anywhere behind it          (queue.rs)  (session.rs)
//! ```
//!
//! - **Order.** Batches are appended in the order in which their records were handed over. Records
//!   handed over by several tasks at once have the order in which they took the lock.
//! - **Retries.** Each batch has a sequence in the producer's epoch. After a lost connection every
//!   unacknowledged batch is sent again, from the first, with the same sequence; the broker answers
//!   those it already has as duplicates. What may pass by itself is retried until the delivery
//!   timeout.
//! - **Failure.** A refused batch fails alone; later ones take its sequence
//!   ([`OnFailure::Continue`]), or fail too ([`OnFailure::Stop`]).

mod delivery;
mod queue;
mod session;
mod window;

use std::{sync::Arc, time::Duration};

pub use delivery::{BatchDelivery, BatchOutcome, Delivery};

use crate::{
    Ack, BatchAck, Durability, EncodedBatch, Error, Record, RecordRef, Result,
    batch::MAX_BATCH_BYTES,
    error::{Code, reason},
    transport::Transport,
};
use queue::Queue;

/// What a producer does after a batch was refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// Goes on with the next batch.
    #[default]
    Continue,
    /// Appends nothing any more: all later records fail with `PRECEDING_FAILED`, not applied.
    Stop,
}

/// Told of the outcome of every batch, in order.
type Watcher = Box<dyn FnMut(&BatchOutcome) + Send>;

/// Configures a [`Producer`].
#[must_use = "a builder appends nothing"]
pub struct ProducerBuilder {
    transport: Transport,
    settings: Settings,
    watcher: Option<Watcher>,
}

#[derive(Clone, Debug)]
struct Settings {
    product: String,
    partition: Option<u32>,
    schema_version: u32,
    durability: Durability,
    expected_offset: Option<u64>,
    linger: Duration,
    batch_bytes: usize,
    max_in_flight_bytes: usize,
    delivery_timeout: Duration,
    on_failure: OnFailure,
}

impl ProducerBuilder {
    pub(crate) fn new(transport: Transport, product: String) -> Self {
        let settings = Settings {
            product,
            partition: None,
            schema_version: 0,
            durability: Durability::Unspecified,
            expected_offset: None,
            linger: Duration::from_millis(1),
            batch_bytes: 256 << 10,
            max_in_flight_bytes: 32 << 20,
            delivery_timeout: Duration::from_secs(120),
            on_failure: OnFailure::Continue,
        };
        Self { transport, settings, watcher: None }
    }

    /// All records go to this partition. Default: the broker chooses by key.
    pub fn partition(mut self, partition: u32) -> Self {
        self.settings.partition = Some(partition);
        self
    }

    /// The product's schema version the records conform to. Default: 0, the current one.
    pub fn schema_version(mut self, version: u32) -> Self {
        self.settings.schema_version = version;
        self
    }

    /// What an acknowledgement shall mean; a product's minimum may strengthen it. Default: on disk.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.settings.durability = durability;
        self
    }

    /// Appends the first record only at this offset and every later one right behind it, else
    /// `OFFSET_MISMATCH`: nobody else may append meanwhile. Needs one partition.
    pub fn expected_offset(mut self, offset: u64) -> Self {
        self.settings.expected_offset = Some(offset);
        self
    }

    /// How long a batch waits for more records while others are under way; with nothing under way
    /// it is sent at once. Default: 1 ms.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.settings.linger = linger;
        self
    }

    /// Size at which a batch is sent, in encoded bytes, 1 to 1 MiB. Default: 256 KiB.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.settings.batch_bytes = bytes;
        self
    }

    /// Bytes handed over and not yet acknowledged, above which handing over waits. One batch is
    /// always let in. Default: 32 MiB.
    pub fn max_in_flight_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_in_flight_bytes = bytes;
        self
    }

    /// How long a batch may take from its first record to its acknowledgement, with all retries.
    /// Default: 2 min.
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.settings.delivery_timeout = timeout;
        self
    }

    /// What to do after a batch was refused. Default: go on with the next one.
    pub fn on_failure(mut self, policy: OnFailure) -> Self {
        self.settings.on_failure = policy;
        self
    }

    /// Calls `watcher` with the outcome of every batch, in the order of the batches. It runs between
    /// sends, so it must be quick and must not block.
    pub fn on_outcome(mut self, watcher: impl FnMut(&BatchOutcome) + Send + 'static) -> Self {
        self.watcher = Some(Box::new(watcher));
        self
    }

    /// The producer. It sends from a task of the current tokio runtime and connects with the first
    /// record.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if a setting is out of its bounds.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn build(self) -> Result<Producer> {
        let settings = &self.settings;
        if settings.batch_bytes == 0 || settings.batch_bytes > 1 << 20 {
            let message =
                format!("batch_bytes is {}; it must be 1 to 1048576", settings.batch_bytes);
            return Err(Error::new(Code::InvalidArgument, reason::INVALID_ARGUMENT, message));
        }
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| {
            let message = format!("the system gives no random bytes for a producer id: {error}");
            Error::new(Code::Internal, "NO_RANDOMNESS", message)
        })?;
        let queue = Arc::new(Queue::new(settings));
        let session =
            session::Session::new(self.transport, self.settings, id, queue.clone(), self.watcher);
        tokio::spawn(session.run());
        Ok(Producer { queue })
    }
}

impl std::fmt::Debug for ProducerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProducerBuilder").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Appends records of one product in order, batched, pipelined and without duplicates.
///
/// All methods take `&self`: share it behind an `Arc`. Every method that hands records over waits
/// while [`max_in_flight_bytes`](ProducerBuilder::max_in_flight_bytes) are under way.
///
/// Dropping it lets what was handed over finish in the background, if the runtime lives on;
/// [`Producer::close`] waits for that and says how it went.
pub struct Producer {
    queue: Arc<Queue>,
}

impl Producer {
    /// Appends a record and waits for its acknowledgement.
    ///
    /// # Errors
    /// What the broker says of the record's batch, `DELIVERY_TIMEOUT`, `TOO_LARGE` or `CLOSED`.
    /// [`Error::applied`] tells whether the record may be in the log.
    pub async fn send(&self, record: Record) -> Result<Ack> {
        self.enqueue(&record).await?.await
    }

    /// Hands a record over and returns what will say how it went.
    ///
    /// # Errors
    /// `TOO_LARGE`, or `CLOSED`; nothing was handed over then.
    pub async fn enqueue<'a>(&self, record: impl Into<RecordRef<'a>>) -> Result<Delivery> {
        let (outcome, index) = self.queue.push_watched(record.into()).await?;
        Ok(Delivery::new(outcome, index))
    }

    /// Hands a record over; how it went is told by [`Producer::flush`] and by
    /// [`ProducerBuilder::on_outcome`]. The fastest way for single records: no allocation, no
    /// channel.
    ///
    /// # Errors
    /// As [`Producer::enqueue`].
    pub async fn push<'a>(&self, record: impl Into<RecordRef<'a>>) -> Result<()> {
        let record = record.into();
        if self.queue.try_push(&record)? {
            return Ok(());
        }
        self.queue.push(record).await
    }

    /// Appends these records as one batch, all or none, and waits for its acknowledgement.
    ///
    /// # Errors
    /// As [`Producer::send`]; `TOO_LARGE` if they do not fit into one request of 4 MiB.
    pub async fn send_batch<'a, R>(&self, records: impl IntoIterator<Item = R>) -> Result<BatchAck>
    where
        R: Into<RecordRef<'a>>,
    {
        let mut builder = crate::BatchBuilder::default();
        for record in records {
            builder.push(record)?;
        }
        self.enqueue_batch(builder.finish()).await?.await
    }

    /// Hands an encoded batch over, which is appended all or none, and returns what will say how it
    /// went. An open batch of single records is closed before it.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for an empty batch, or `CLOSED`.
    pub async fn enqueue_batch(&self, batch: EncodedBatch) -> Result<BatchDelivery> {
        if batch.count() == 0 {
            let message = "a batch without records cannot be appended";
            return Err(Error::new(Code::InvalidArgument, reason::INVALID_ARGUMENT, message));
        }
        debug_assert!(batch.len() <= MAX_BATCH_BYTES, "the builder bounds batches");
        self.queue.push_batch(batch).await.map(BatchDelivery::new)
    }

    /// Waits until everything handed over before has an outcome.
    ///
    /// # Errors
    /// The first failure since the last flush, also if a [`Delivery`] told it already.
    pub async fn flush(&self) -> Result<()> {
        self.queue.flush().await
    }

    /// Records handed over so far.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.queue.records()
    }

    /// Waits until everything handed over has an outcome, then ends.
    ///
    /// # Errors
    /// As [`Producer::flush`].
    pub async fn close(self) -> Result<()> {
        self.queue.close();
        self.queue.flush().await
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").field("records", &self.records()).finish_non_exhaustive()
    }
}
