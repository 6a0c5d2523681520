//! What lies between the callers and the sending task: one open batch, sealed ones behind it, and
//! the count of bytes under way that callers wait for.
//!
//! One short lock; nothing is awaited under it. `bytes` counts records from being handed over until
//! their batch has an outcome, so it bounds the memory of a producer.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use tokio::{sync::Notify, time::Instant};

use super::{
    Settings,
    delivery::{self, Outcome, OutcomeSender},
};
use crate::{
    BatchAck, BatchBuilder, EncodedBatch, Error, RecordRef, Result, batch,
    error::{Code, reason},
};

/// Most records of one batch; the broker stores no more together.
const MAX_BATCH_RECORDS: u32 = 10_000;

/// A batch that takes no more records.
#[derive(Debug)]
pub(super) struct Sealed {
    /// Counts batches, from 0.
    pub(super) number: u64,
    /// Number of the first record, from 0.
    pub(super) first_record: u64,
    pub(super) batch: EncodedBatch,
    /// When its first record came.
    pub(super) since: Instant,
    outcome: Option<OutcomeSender>,
}

impl Sealed {
    #[cfg(test)]
    pub(super) fn unwatched(number: u64, batch: EncodedBatch) -> Self {
        Self { number, first_record: 0, batch, since: Instant::now(), outcome: None }
    }
}

pub(super) struct Queue {
    state: Mutex<State>,
    /// Something for the sending task: a batch is full, a first record came, a flush, the close.
    work: Notify,
    /// Bytes became free, or the queue was closed.
    room: Notify,
    /// A batch has an outcome.
    progress: Notify,
    batch_bytes: usize,
    max_in_flight_bytes: usize,
    linger: Duration,
}

struct State {
    open: BatchBuilder,
    open_since: Option<Instant>,
    /// Only if a caller wants to know about the open batch.
    open_outcome: Option<(OutcomeSender, Outcome)>,
    sealed: VecDeque<Sealed>,
    /// Open, sealed and on the wire.
    bytes: usize,
    /// Records in sealed batches, ever.
    sealed_records: u64,
    /// Batches sealed, ever.
    batches: u64,
    /// Batches with an outcome, ever.
    resolved: u64,
    /// Length of the last sealed batch: how much the next one will probably need.
    last_len: usize,
    /// The open batch shall not linger.
    flush: bool,
    closed: bool,
    /// Why nothing is taken any more, if not because of a close.
    stopped: Option<Error>,
    /// The sending task is gone: nothing more will have an outcome.
    abandoned: bool,
    /// The first since the last flush.
    failure: Option<Error>,
}

/// What the sending task finds.
pub(super) enum Next {
    Batch(Sealed),
    /// The open batch lingers until then.
    At(Instant),
    Nothing,
    /// Nothing, and nothing will come.
    Closed,
}

impl Queue {
    pub(super) fn new(settings: &Settings) -> Self {
        let state = State {
            open: BatchBuilder::default(),
            open_since: None,
            open_outcome: None,
            sealed: VecDeque::new(),
            bytes: 0,
            sealed_records: 0,
            batches: 0,
            resolved: 0,
            last_len: 0,
            flush: false,
            closed: false,
            stopped: None,
            abandoned: false,
            failure: None,
        };
        Self {
            state: Mutex::new(state),
            work: Notify::new(),
            room: Notify::new(),
            progress: Notify::new(),
            batch_bytes: settings.batch_bytes,
            max_in_flight_bytes: settings.max_in_flight_bytes,
            linger: settings.linger,
        }
    }

    /// Takes the record if there is room now.
    pub(super) fn try_push(&self, record: &RecordRef<'_>) -> Result<bool> {
        let len = batch::record_len(record)?;
        let mut state = self.state.lock();
        state.accepting()?;
        if !self.has_room(&state, len) {
            return Ok(false);
        }
        self.make_place(&mut state, len);
        self.put(state, record, len);
        Ok(true)
    }

    /// Takes the record as soon as there is room.
    pub(super) async fn push(&self, record: RecordRef<'_>) -> Result<()> {
        let len = batch::record_len(&record)?;
        let mut state = self.admit(len).await?;
        self.make_place(&mut state, len);
        self.put(state, &record, len);
        Ok(())
    }

    /// Takes the record as soon as there is room; what will tell the outcome of its batch, and its
    /// place in it.
    pub(super) async fn push_watched(&self, record: RecordRef<'_>) -> Result<(Outcome, usize)> {
        let len = batch::record_len(&record)?;
        let mut state = self.admit(len).await?;
        self.make_place(&mut state, len);
        let index = state.open.count() as usize;
        let (_, outcome) = state.open_outcome.get_or_insert_with(delivery::outcome);
        let outcome = outcome.clone();
        self.put(state, &record, len);
        Ok((outcome, index))
    }

    /// Takes a whole batch as soon as there is room.
    pub(super) async fn push_batch(&self, batch: EncodedBatch) -> Result<Outcome> {
        let mut state = self.admit(batch.len()).await?;
        state.seal();
        state.bytes += batch.len();
        let (sender, outcome) = delivery::outcome();
        state.push_sealed(batch, Instant::now(), Some(sender));
        drop(state);
        self.work.notify_one();
        Ok(outcome)
    }

    /// Waits for room for `len` bytes. The guard comes back so that nobody takes the room between.
    async fn admit(&self, len: usize) -> Result<MutexGuard<'_, State>> {
        loop {
            let room = self.room.notified();
            {
                let mut state = self.state.lock();
                state.accepting()?;
                if self.has_room(&state, len) {
                    return Ok(state);
                }
                // Whoever waits for room must not wait for a batch that waits for records.
                state.flush = !state.open.is_empty();
            }
            self.work.notify_one();
            room.await;
        }
    }

    fn has_room(&self, state: &State, len: usize) -> bool {
        state.bytes == 0 || state.bytes + len <= self.max_in_flight_bytes
    }

    /// Closes the open batch if a record of `len` bytes would make it larger than it should be.
    fn make_place(&self, state: &mut State, len: usize) {
        if state.open.len() + len > self.batch_bytes {
            state.seal();
        }
    }

    fn put(&self, mut state: MutexGuard<'_, State>, record: &RecordRef<'_>, len: usize) {
        if state.open.is_empty() {
            state.open = BatchBuilder::with_capacity(state.last_len.max(len + 16));
            state.open_since = Some(Instant::now());
        }
        let before = state.open.len();
        state.open.put(record, len);
        state.bytes += state.open.len() - before;
        let full = state.open.len() >= self.batch_bytes || state.open.count() >= MAX_BATCH_RECORDS;
        if full {
            state.seal();
        }
        drop(state);
        // The sending task must hear of a first record, to linger for it, and of a full batch.
        if full || before == 0 {
            self.work.notify_one();
        }
    }

    /// The next batch to send, if its time has come. With nothing under way (`idle`) no batch
    /// lingers.
    pub(super) fn next(&self, idle: bool) -> Next {
        let mut state = self.state.lock();
        if state.sealed.is_empty()
            && let Some(since) = state.open_since
        {
            let due = since + self.linger;
            if !(idle || state.flush || state.closed || due <= Instant::now()) {
                return Next::At(due);
            }
            state.seal();
        }
        match state.sealed.pop_front() {
            Some(batch) => Next::Batch(batch),
            None if state.closed => Next::Closed,
            None => Next::Nothing,
        }
    }

    /// Wakes when [`Queue::next`] may have something new.
    pub(super) async fn work(&self) {
        self.work.notified().await;
    }

    /// A batch has its outcome.
    pub(super) fn resolve(&self, mut batch: Sealed, result: Result<Arc<BatchAck>>) {
        if let Some(sender) = batch.outcome.take() {
            // Nobody may be waiting.
            let _ = sender.send(result.clone());
        }
        {
            let mut state = self.state.lock();
            state.bytes -= batch.batch.len();
            state.resolved += 1;
            if let Err(error) = result {
                state.failure.get_or_insert(error);
            }
        }
        self.room.notify_waiters();
        self.progress.notify_waiters();
    }

    /// Takes no more records, because of `error`.
    pub(super) fn stop(&self, error: Error) {
        self.state.lock().stopped.get_or_insert(error);
        self.room.notify_waiters();
    }

    /// The sending task ends; `error` if it leaves something undone.
    pub(super) fn abandon(&self, error: Error) {
        {
            let mut state = self.state.lock();
            state.abandoned = true;
            if state.resolved < state.batches || !state.open.is_empty() {
                state.failure.get_or_insert_with(|| error.clone());
                state.sealed.clear();
                state.open_outcome = None;
            }
            state.stopped.get_or_insert(error);
        }
        self.room.notify_waiters();
        self.progress.notify_waiters();
    }

    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.room.notify_waiters();
        self.work.notify_one();
    }

    pub(super) async fn flush(&self) -> Result<()> {
        let target = {
            let mut state = self.state.lock();
            state.flush |= !state.open.is_empty();
            state.batches + u64::from(!state.open.is_empty())
        };
        self.work.notify_one();
        loop {
            let progress = self.progress.notified();
            {
                let mut state = self.state.lock();
                if state.resolved >= target || state.abandoned {
                    return state.failure.take().map_or(Ok(()), Err);
                }
            }
            progress.await;
        }
    }

    pub(super) fn records(&self) -> u64 {
        let state = self.state.lock();
        state.sealed_records + u64::from(state.open.count())
    }
}

impl State {
    fn accepting(&self) -> Result<()> {
        if self.closed {
            let message = "the producer is closed and takes no more records";
            return Err(Error::new(Code::FailedPrecondition, reason::CLOSED, message));
        }
        match &self.stopped {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Closes the open batch, if it has records.
    fn seal(&mut self) {
        if self.open.is_empty() {
            return;
        }
        self.flush = false;
        let since = self.open_since.take().unwrap_or_else(Instant::now);
        let batch = std::mem::take(&mut self.open).finish();
        self.last_len = batch.len();
        let outcome = self.open_outcome.take().map(|(sender, _)| sender);
        self.push_sealed(batch, since, outcome);
    }

    fn push_sealed(&mut self, batch: EncodedBatch, since: Instant, outcome: Option<OutcomeSender>) {
        let count = u64::from(batch.count());
        self.sealed.push_back(Sealed {
            number: self.batches,
            first_record: self.sealed_records,
            batch,
            since,
            outcome,
        });
        self.batches += 1;
        self.sealed_records += count;
    }
}
