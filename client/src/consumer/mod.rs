//! Reading a product from a position through history and then live.
//!
//! ```text
//!  Subscribe ──► message = batches + next positions ──► ready ──► next() / next_record()
//!      ▲                          │
//!      └── lost: reconnect at ────┘  the positions of the last whole message
//! ```
//!
//! The positions to resume from are those of the last message received whole, so nothing is read
//! twice and nothing is left out; records before them are dropped again on this side.

mod batch;
mod cursor;
mod start;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use futures_util::StreamExt;
use meshlog_proto::{server_v1, v1};
use tokio::time::Instant;

pub use batch::{ConsumedBatch, ConsumedRecord, Records};
pub use start::StartAt;

use cursor::{Cursor, Product};

use crate::{
    Error, Result,
    backoff::Backoff,
    error::{Code, reason},
    time,
    transport::{Connection, Messages, Transport},
};

/// A connection is dead after this many missed heartbeats.
const MISSED_HEARTBEATS: u32 = 3;

/// Configures a [`Consumer`].
#[derive(Clone)]
#[must_use = "nothing is read until a consumer is built and asked"]
pub struct ConsumerBuilder {
    transport: Transport,
    calls: Connection,
    cursor: Option<String>,
    product: String,
    product_id: String,
    start: StartAt,
    partitions: Vec<u32>,
    max_bytes: u32,
    heartbeat: Duration,
    stop_at_end: bool,
    give_up_after: Duration,
}

impl ConsumerBuilder {
    pub(crate) fn new(transport: Transport, calls: Connection, product: String) -> Self {
        Self {
            transport,
            calls,
            cursor: None,
            product,
            product_id: String::new(),
            start: StartAt::Earliest,
            partitions: Vec::new(),
            max_bytes: 0,
            heartbeat: Duration::from_secs(10),
            stop_at_end: false,
            give_up_after: Duration::from_secs(120),
        }
    }

    /// Where to start. Default: the first readable record.
    pub fn from(mut self, start: StartAt) -> Self {
        self.start = start;
        self
    }

    /// Keeps its position in the broker under a name: the consumer starts at the positions that were
    /// committed, and where there are none at [`ConsumerBuilder::from`]. [`Consumer::commit`] moves
    /// them. Default: none.
    ///
    /// ```no_run
    /// # async fn run(client: meshlog_client::Client) -> meshlog_client::Result<()> {
    /// let mut consumer = client.consumer("ops.flights").cursor("nightly-report").build();
    /// while let Some(batch) = consumer.next().await? {
    ///     for record in batch.records() {
    ///         println!("{:?}", record?.record.value);
    ///     }
    ///     consumer.commit().await?;
    /// }
    /// # Ok(()) }
    /// ```
    pub fn cursor(mut self, name: impl Into<String>) -> Self {
        self.cursor = Some(name.into());
        self
    }

    /// Which partitions. Default: all.
    pub fn partitions(mut self, partitions: impl IntoIterator<Item = u32>) -> Self {
        self.partitions = partitions.into_iter().collect();
        self
    }

    /// Pins the product: if it was deleted and created again, `PRODUCT_RECREATED`. Default: the
    /// product found at the first connection.
    pub fn product_id(mut self, id: impl Into<String>) -> Self {
        self.product_id = id.into();
        self
    }

    /// Upper bound on one message from the broker, in bytes, at most 3 MiB. Default: 0, 1 MiB.
    pub fn max_bytes(mut self, bytes: u32) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How often an idle broker says that it lives, 1 s to 60 s; after three missed ones the
    /// consumer connects anew. Default: 10 s.
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.heartbeat = interval;
        self
    }

    /// End at the durable end seen at the first connection instead of following. Default: follow.
    pub fn stop_at_end(mut self, stop: bool) -> Self {
        self.stop_at_end = stop;
        self
    }

    /// How long to go on reconnecting without a single message before the error is returned.
    /// Default: 2 min.
    pub fn give_up_after(mut self, limit: Duration) -> Self {
        self.give_up_after = limit;
        self
    }

    /// The consumer. It connects when it is first asked for records.
    #[must_use]
    pub fn build(self) -> Consumer {
        let product_id = self.product_id.clone();
        let cursor = self.cursor.clone().map(|name| Cursor::new(name, self.calls.clone()));
        Consumer {
            cursor,
            settings: self,
            product_id,
            received: BTreeMap::new(),
            positions: BTreeMap::new(),
            ends: BTreeMap::new(),
            ready: VecDeque::new(),
            current: None,
            stream: None,
            backoff: Backoff::default(),
            silent_since: None,
            retry_at: None,
            ended_without_progress: false,
            state: State::Open,
        }
    }
}

/// Reads one product in order within each partition: first what is stored, then, without a gap,
/// what arrives.
///
/// A lost connection is replaced and reading goes on at the next record. Errors that reconnecting
/// cannot cure (`OFFSET_OUT_OF_RANGE`, `DATA_LOSS`, `PRODUCT_RECREATED`, …) end the consumer; to go
/// on, build a new one at a position of your choice.
pub struct Consumer {
    settings: ConsumerBuilder,
    cursor: Option<Cursor>,
    /// Empty until the first message.
    product_id: String,
    /// What to ask for when connecting again: past everything received. Empty until the first
    /// message.
    received: BTreeMap<u32, u64>,
    /// Past everything handed out.
    positions: BTreeMap<u32, u64>,
    /// Where `stop_at_end` stops: the durable ends of the first message.
    ends: BTreeMap<u32, u64>,
    ready: VecDeque<ConsumedBatch>,
    current: Option<Records>,
    stream: Option<Messages<server_v1::SubscribeResponse>>,
    backoff: Backoff,
    /// Since when no message came although one was asked for.
    silent_since: Option<Instant>,
    retry_at: Option<Instant>,
    /// The last stream ended with OK before the end was reached and brought nothing.
    ended_without_progress: bool,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    AtEnd,
    Failed,
}

impl Consumer {
    /// The next batch that holds a record asked for; waits until there is one. `None`: the end was
    /// reached (only with `stop_at_end`), or an error was returned before.
    ///
    /// Cancel safe: nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// What the broker says if reconnecting cannot cure it, or the last error of the connection
    /// once the time to give up has come. Nothing follows an error.
    pub async fn next(&mut self) -> Result<Option<ConsumedBatch>> {
        debug_assert!(self.current.is_none(), "next() in the middle of a batch skips its rest");
        let batch = self.next_batch().await?;
        if let Some(batch) = &batch {
            self.positions.insert(batch.partition(), batch.end());
        }
        Ok(batch)
    }

    /// The next record; as [`Consumer::next`] otherwise. The two must not be mixed within a batch.
    ///
    /// # Errors
    /// As [`Consumer::next`].
    pub async fn next_record(&mut self) -> Result<Option<ConsumedRecord>> {
        loop {
            if let Some(records) = &mut self.current {
                match records.next() {
                    Some(Ok(record)) => {
                        self.positions.insert(record.partition, record.offset + 1);
                        return Ok(Some(record));
                    }
                    Some(Err(error)) => return Err(self.fail(error)),
                    None => self.current = None,
                }
            }
            match self.next_batch().await? {
                Some(batch) => self.current = Some(batch.records()),
                None => return Ok(None),
            }
        }
    }

    /// The next offset of each partition after everything handed out: a consumer that starts at
    /// these [`StartAt::Positions`] goes on where this one stands. Empty before the first message.
    #[must_use]
    pub fn positions(&self) -> &BTreeMap<u32, u64> {
        &self.positions
    }

    /// Makes the positions of everything handed out so far durable under the consumer's cursor. What
    /// was handed out counts as done: commit after it is. Without anything new it does nothing.
    ///
    /// Cancel safe: a commit without an answer is looked up before the next one.
    ///
    /// # Errors
    /// `ETAG_MISMATCH` if another program has committed with this cursor since; then stop, or both
    /// will read everything. `INVALID_ARGUMENT` without a cursor. Others as the broker says, after
    /// retries for as long as [`ConsumerBuilder::give_up_after`] allows. The consumer goes on in
    /// any case.
    pub async fn commit(&mut self) -> Result<()> {
        let positions = self.positions.clone();
        self.commit_at(&positions).await
    }

    /// As [`Consumer::commit`], at the next offsets to read given by partition; partitions that are
    /// not named keep theirs.
    ///
    /// # Errors
    /// As [`Consumer::commit`], and `OFFSET_OUT_OF_RANGE` above the durable end.
    pub async fn commit_at(&mut self, positions: &BTreeMap<u32, u64>) -> Result<()> {
        let name = &self.settings.product;
        let Some(cursor) = &mut self.cursor else {
            let message =
                format!("the consumer of `{name}` has no cursor; name one when it is built");
            return Err(Error::new(Code::InvalidArgument, reason::INVALID_ARGUMENT, message));
        };
        if positions.is_empty() {
            return Ok(());
        }
        let (mut backoff, begun) = (Backoff::default(), Instant::now());
        loop {
            let product = Product { name, id: &self.product_id };
            let Err(error) = cursor.commit(product, positions).await else { return Ok(()) };
            if !error.is_retryable() || begun.elapsed() >= self.settings.give_up_after {
                return Err(error.during(format_args!("committing the position in `{name}`")));
            }
            tokio::time::sleep(backoff.pause().max(error.retry_after().unwrap_or_default())).await;
        }
    }

    /// The product's id; empty before the first message.
    #[must_use]
    pub fn product_id(&self) -> &str {
        &self.product_id
    }

    async fn next_batch(&mut self) -> Result<Option<ConsumedBatch>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            // Everything received was handed out, and holes behind it count as read.
            self.positions.clone_from(&self.received);
            if self.state != State::Open {
                return Ok(None);
            }
            if self.settings.stop_at_end && self.reached_end() {
                self.state = State::AtEnd;
                self.stream = None;
                return Ok(None);
            }
            match self.next_message().await {
                Ok(Some(message)) => self.receive(message).map_err(|error| self.fail(error))?,
                Ok(None) => self.ended(),
                Err(error) => self.lost(error)?,
            }
        }
    }

    async fn next_message(&mut self) -> Result<Option<server_v1::SubscribeResponse>> {
        let silent_since = *self.silent_since.get_or_insert_with(Instant::now);
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                if let Some(at) = self.retry_at {
                    tokio::time::sleep_until(at).await;
                    self.retry_at = None;
                }
                let limit = self.settings.heartbeat * MISSED_HEARTBEATS;
                let opening = tokio::time::timeout(limit, self.open());
                let stream = opening.await.map_err(|_| self.silent(limit))??;
                self.stream.insert(stream)
            }
        };
        let limit = self.settings.heartbeat * MISSED_HEARTBEATS;
        match tokio::time::timeout(limit, stream.next()).await {
            Ok(message) => {
                let message = message.transpose()?;
                self.silent_since = None;
                Ok(message)
            }
            Err(_) => {
                // Silence counts from when it began, not from when it was noticed.
                self.silent_since = Some(silent_since);
                Err(self.silent(limit))
            }
        }
    }

    async fn open(&mut self) -> Result<Messages<server_v1::SubscribeResponse>> {
        if let Some(cursor) = self.cursor.as_mut().filter(|cursor| !cursor.is_found()) {
            let settings = &mut self.settings;
            let product = Product { name: &settings.product, id: &self.product_id };
            let found = cursor.find(product, &settings.partitions, &settings.start).await?;
            (settings.start, self.product_id) = found;
        }
        let settings = &self.settings;
        let start = match self.received.is_empty() {
            true => settings.start.to_wire(&settings.partitions),
            false => StartAt::Positions(self.received.clone()).to_wire(&[]),
        };
        let request = v1::SubscribeRequest {
            product: settings.product.clone(),
            product_id: self.product_id.clone(),
            start: Some(start),
            partitions: settings.partitions.clone(),
            max_bytes: settings.max_bytes,
            heartbeat_interval: Some(time::duration_to_wire(settings.heartbeat)),
            stop_at_end: settings.stop_at_end,
        };
        settings.transport.connect().await?.subscribe(request).await
    }

    fn receive(&mut self, message: server_v1::SubscribeResponse) -> Result<()> {
        self.backoff.reset();
        self.ended_without_progress = false;
        if self.received.is_empty() {
            self.first_message(&message)?;
        }
        for stored in message.batches {
            let mut batch = ConsumedBatch::from(stored);
            let partition = batch.partition();
            let position = self.received.get(&partition).copied().unwrap_or(0);
            let end = match self.settings.stop_at_end {
                true => self.ends.get(&partition).copied().unwrap_or(u64::MAX),
                false => u64::MAX,
            };
            batch.narrow(position, end);
            self.received.insert(partition, position.max(batch.end()));
            if let Some(first) = batch.first_offset() {
                self.positions.entry(partition).or_insert(first);
                self.ready.push_back(batch);
            }
        }
        for state in message.partitions {
            let position = self.received.entry(state.partition).or_insert(state.next_offset);
            *position = state.next_offset.max(*position);
            self.positions.entry(state.partition).or_insert(state.next_offset);
        }
        Ok(())
    }

    /// The first message carries the resolved positions of every partition, after its batches.
    fn first_message(&mut self, message: &server_v1::SubscribeResponse) -> Result<()> {
        self.product_id.clone_from(&message.product_id);
        let partitions = message.partitions.len();
        if matches!(self.settings.start, StartAt::Offset(_)) && partitions > 1 {
            let message = format!(
                "`{}` is read from one offset but {partitions} partitions were asked for; \
                 choose one partition, or an offset for each",
                self.settings.product
            );
            return Err(Error::new(Code::InvalidArgument, reason::INVALID_ARGUMENT, message));
        }
        self.ends = message.partitions.iter().map(|at| (at.partition, at.durable_end)).collect();
        Ok(())
    }

    fn reached_end(&self) -> bool {
        !self.received.is_empty()
            && self.ends.iter().all(|(partition, end)| {
                self.received.get(partition).is_some_and(|position| position >= end)
            })
    }

    /// The broker ended the stream with OK.
    fn ended(&mut self) {
        self.stream = None;
        // A broker that ends early twice in a row without a message between knows better.
        if self.settings.stop_at_end && self.ended_without_progress {
            self.state = State::AtEnd;
        }
        self.ended_without_progress = true;
        self.retry_at = Some(Instant::now() + self.backoff.pause());
    }

    /// The connection failed: plan the next one, or give up.
    fn lost(&mut self, error: Error) -> Result<()> {
        self.stream = None;
        let silent = self.silent_since.map_or(Duration::ZERO, |since| since.elapsed());
        if !error.is_retryable() || silent >= self.settings.give_up_after {
            return Err(self.fail(error));
        }
        let pause = self.backoff.pause().max(error.retry_after().unwrap_or_default());
        tracing::debug!(product = self.settings.product, %error, ?pause, "subscription lost");
        self.retry_at = Some(Instant::now() + pause);
        Ok(())
    }

    fn fail(&mut self, error: Error) -> Error {
        self.state = State::Failed;
        self.stream = None;
        self.current = None;
        error.during(format_args!("reading `{}`", self.settings.product))
    }

    fn silent(&self, limit: Duration) -> Error {
        let message = format!("the broker was silent for {limit:?}");
        Error::new(Code::Unavailable, reason::CONNECTION_LOST, message).with_retry(true, None)
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("product", &self.settings.product)
            .field("positions", &self.positions)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ConsumerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsumerBuilder").field("product", &self.product).finish_non_exhaustive()
    }
}
