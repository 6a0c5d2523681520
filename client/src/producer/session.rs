//! The sending task: connects, keeps a stream of appends full, matches results, and repairs.
//!
//! Results come in the order of requests, so a result is always about the first unacknowledged
//! batch, unless the stream is being *drained*: after a failure of the first the broker answers
//! everything behind it with a failure too; those results are read off before anything is sent
//! again.

use std::{collections::VecDeque, pin::pin, sync::Arc, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use meshlog_proto::{
    server_v1,
    v1::{self, append_result::Outcome},
};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::Instant,
};

use super::{
    BatchOutcome, OnFailure, Settings, Watcher, delivery,
    queue::{Next, Queue, Sealed},
    window::{Pending, Window},
};
use crate::{
    BatchAck, Error, Result,
    backoff::Backoff,
    error::{Applied, Code, reason},
    transport::{Transport, error_in_message},
};

/// Requests handed to the transport and not yet taken by it.
const REQUESTS_QUEUED: usize = 8;
/// How often a batch may cause a new epoch before it fails.
const MAX_EPOCHS: u32 = 3;

/// One stream of appends.
struct Wire {
    requests: mpsc::Sender<server_v1::AppendStreamRequest>,
    next_id: u64,
    /// The first of the unacknowledged batches that were sent over this stream.
    sent: usize,
    /// Requests without a result: their id and the number of their batch.
    outstanding: VecDeque<(u64, u64)>,
    draining: Option<Drain>,
    /// Nothing is sent before this.
    resume_at: Option<Instant>,
}

/// After a failure: the results still to come are read off.
#[derive(Clone, Copy)]
struct Drain {
    /// The outcome of the failed batch is unknown, so that of those behind it is too.
    unknown: bool,
    /// Then the epoch ends.
    new_epoch: bool,
}

/// Why a stream ended in order.
enum Ended {
    /// The producer was closed and everything has an outcome.
    Closed,
    /// A new epoch, or the end of all sending.
    Again,
}

pub(super) struct Session {
    transport: Transport,
    settings: Settings,
    queue: Arc<Queue>,
    watcher: Option<Watcher>,
    /// Known from the first acknowledgement on.
    product_id: String,
    unacked: Window,
    backoff: Backoff,
    last_error: Option<Error>,
    stopped: bool,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.queue.abandon(delivery::abandoned());
    }
}

impl Session {
    pub(super) fn new(
        transport: Transport,
        settings: Settings,
        id: [u8; 16],
        queue: Arc<Queue>,
        watcher: Option<Watcher>,
    ) -> Self {
        Self {
            transport,
            unacked: Window::new(id, settings.expected_offset),
            settings,
            queue,
            watcher,
            product_id: String::new(),
            backoff: Backoff::default(),
            last_error: None,
            stopped: false,
        }
    }

    /// Until the producer is closed and everything has an outcome.
    pub(super) async fn run(mut self) {
        while self.something_to_send().await {
            match self.stream().await {
                Ok(Ended::Closed) => return,
                Ok(Ended::Again) => {}
                Err(error) => self.interrupted(error).await,
            }
        }
    }

    /// Waits until there is a batch to send; false: there will never be one again.
    async fn something_to_send(&mut self) -> bool {
        loop {
            self.expire(None);
            if !self.unacked.is_empty() {
                return true;
            }
            match self.queue.next(true) {
                Next::Batch(batch) => self.take(batch),
                Next::Closed => return false,
                Next::At(_) | Next::Nothing => self.queue.work().await,
            }
        }
    }

    fn take(&mut self, sealed: Sealed) {
        let deadline = sealed.since + self.settings.delivery_timeout;
        let pending = Pending::new(sealed, deadline);
        match self.stopped {
            false => self.unacked.push(pending),
            true => self.resolve(pending, Err(preceding_failed())),
        }
    }

    /// A connection failed or could not be made: wait a little, or give up what waits for it.
    async fn interrupted(&mut self, error: Error) {
        tracing::debug!(product = self.settings.product, %error, "append stream lost");
        if !error.is_retryable() {
            while let Some(pending) = self.unacked.pop_failed() {
                let applied = pending.applied();
                self.fail(pending, error.clone().with_applied(applied));
            }
            self.unacked.end_epoch();
            return;
        }
        let pause = self.backoff.pause().max(error.retry_after().unwrap_or_default());
        if error.reason() != reason::DELIVERY_TIMEOUT {
            self.last_error = Some(error);
        }
        let mut until = Instant::now() + pause;
        if let Some(front) = self.unacked.front() {
            until = until.min(front.deadline);
        }
        tokio::time::sleep_until(until).await;
    }

    /// Sends over one stream until it fails, the epoch ends, or everything is done.
    async fn stream(&mut self) -> Result<Ended> {
        let connecting = self.transport.connect();
        let connection = match self.unacked.front() {
            Some(front) => tokio::time::timeout_at(front.deadline, connecting)
                .await
                .unwrap_or_else(|_| Err(timed_out(self.settings.delivery_timeout, None))),
            None => connecting.await,
        }?;
        let (requests, receiver) = mpsc::channel(REQUESTS_QUEUED);
        // The broker may answer the call only with its first result, so requests must flow before.
        let opening = async move { connection.append_stream(receiver).await };
        let mut results = pin!(stream::once(opening).try_flatten());
        let mut wire = Wire {
            requests,
            next_id: 0,
            sent: 0,
            outstanding: VecDeque::new(),
            draining: None,
            resume_at: None,
        };
        let ended = self.drive(&mut wire, &mut results).await;
        self.leave(&wire);
        ended
    }

    async fn drive<S>(&mut self, wire: &mut Wire, results: &mut S) -> Result<Ended>
    where
        S: futures_util::Stream<Item = Result<v1::AppendStreamResponse>> + Unpin,
    {
        loop {
            if let Some(drain) = wire.draining
                && wire.outstanding.is_empty()
            {
                if drain.new_epoch || self.stopped {
                    return Ok(Ended::Again);
                }
                wire.draining = None;
                wire.sent = 0;
            }
            if self.expire(Some(wire)) || (self.stopped && wire.draining.is_none()) {
                return Ok(Ended::Again);
            }
            let resume_at = wire.resume_at.filter(|at| *at > Instant::now());
            let may = match resume_at {
                None if wire.draining.is_none() => self.send(wire),
                _ => Sending::Paused,
            };
            let lingers = match may {
                Sending::Closed if self.unacked.is_empty() => return Ok(Ended::Closed),
                Sending::Lingering(until) => Some(until),
                _ => None,
            };
            let deadline = self.unacked.front().map(|front| front.deadline);
            let wake = [deadline, resume_at, lingers].into_iter().flatten().min();
            let timer = tokio::time::sleep_until(wake.unwrap_or_else(far_away));
            let message = tokio::select! {
                biased;
                message = results.next() => message.ok_or_else(connection_ended)?,
                _ = wire.requests.reserve(), if matches!(may, Sending::Blocked) => continue,
                () = self.queue.work(), if may.waits_for_work() => continue,
                () = timer, if wake.is_some() => continue,
            };
            for result in message?.results {
                self.receive(wire, result)?;
            }
        }
    }

    /// Sends as much as the transport takes.
    fn send(&mut self, wire: &mut Wire) -> Sending {
        wire.resume_at = None;
        loop {
            if wire.sent == self.unacked.len() {
                if self.unacked.is_full() || self.stopped {
                    return Sending::Paused;
                }
                match self.queue.next(self.unacked.is_empty()) {
                    Next::Batch(batch) => self.take(batch),
                    Next::At(until) => return Sending::Lingering(until),
                    Next::Nothing => return Sending::Idle,
                    Next::Closed => return Sending::Closed,
                }
            }
            match wire.requests.try_reserve() {
                Ok(permit) => {
                    let request = self.request(wire.next_id, wire.sent);
                    permit.send(request);
                }
                Err(TrySendError::Full(())) => return Sending::Blocked,
                // The call is over; its results say why.
                Err(TrySendError::Closed(())) => return Sending::Paused,
            }
            wire.outstanding.push_back((wire.next_id, self.unacked.get(wire.sent).sealed.number));
            wire.next_id += 1;
            wire.sent += 1;
        }
    }

    fn request(&self, request_id: u64, index: usize) -> server_v1::AppendStreamRequest {
        let settings = &self.settings;
        let (producer, expected_offset) = self.unacked.stamp(index);
        let append = server_v1::AppendRequest {
            product: settings.product.clone(),
            product_id: self.product_id.clone(),
            partition: settings.partition,
            batch: vec![self.unacked.get(index).sealed.batch.bytes().clone()],
            schema_version: settings.schema_version,
            durability: settings.durability.into(),
            producer: Some(producer),
            expected_offset,
        };
        server_v1::AppendStreamRequest { request_id, append: Some(append) }
    }

    fn receive(&mut self, wire: &mut Wire, result: v1::AppendResult) -> Result<()> {
        let expected = wire.outstanding.pop_front();
        let Some((_, number)) = expected.filter(|(id, _)| *id == result.request_id) else {
            return Err(violated("results are not in the order of the requests"));
        };
        match result.outcome {
            Some(Outcome::Appended(_)) if wire.draining.is_some() => {
                Err(violated("a batch was appended although the one before it failed"))
            }
            Some(Outcome::Appended(response)) => {
                wire.sent -= 1;
                self.acknowledged(response.into());
                Ok(())
            }
            Some(Outcome::Error(status)) => {
                let error = error_in_message(&status);
                match wire.draining {
                    Some(_) if error.applied() == Applied::No => {}
                    Some(_) => self.unacked.mark_lost(number),
                    None => self.failed(wire, error),
                }
                Ok(())
            }
            None => Err(violated("a result says nothing")),
        }
    }

    fn acknowledged(&mut self, ack: BatchAck) {
        let Some(front) = self.unacked.pop_acknowledged() else { return };
        self.backoff.reset();
        self.last_error = None;
        self.product_id.clone_from(&ack.product_id);
        let count = u64::from(front.sealed.batch.count());
        let elsewhere = ack.quarantined.as_ref().map_or(0, |told| told.records.len() as u64);
        if ack.count() + elsewhere == count {
            self.resolve(front, Ok(Arc::new(ack)));
        } else {
            let acknowledged = ack.count() + elsewhere;
            let what = format!("{acknowledged} of {count} records of a batch were acknowledged");
            self.fail(front, violated(&what).with_applied(Applied::Unknown));
        }
    }

    /// The front was refused, or may be tried again.
    fn failed(&mut self, wire: &mut Wire, error: Error) {
        let Some(front) = self.unacked.front_mut() else { return };
        let forgotten = matches!(error.reason(), reason::PRODUCER_UNKNOWN | reason::SEQUENCE_GAP);
        // What the broker does not know of earlier attempts is known here.
        front.lost |= error.applied() == Applied::Unknown && !forgotten;
        let lost = front.lost;
        let mut drain = Drain { unknown: lost, new_epoch: false };
        if forgotten && !lost && front.epochs < MAX_EPOCHS {
            front.epochs += 1;
            drain.new_epoch = true;
            let lowest = error.metadata().get("epoch").and_then(|epoch| epoch.parse().ok());
            lowest.into_iter().for_each(|epoch| self.unacked.note_lowest_epoch(epoch));
            self.last_error = Some(error);
        } else if error.is_retryable() {
            let pause = self.backoff.pause().max(error.retry_after().unwrap_or_default());
            wire.resume_at = Some(Instant::now() + pause);
            self.last_error = Some(error);
        } else if let Some(front) = self.unacked.pop_failed() {
            // A definite refusal says the same of everything behind it. Still, if an earlier
            // attempt may linger somewhere, the epoch ends, which fences it.
            drain.unknown = error.applied() == Applied::Unknown || (lost && forgotten);
            drain.new_epoch = lost;
            let applied = front.applied();
            self.fail(front, error.with_applied(applied));
        }
        wire.draining = Some(drain);
    }

    /// Fails what was not acknowledged in time. True if that ended the epoch.
    fn expire(&mut self, wire: Option<&Wire>) -> bool {
        let now = Instant::now();
        if self.unacked.front().is_none_or(|front| front.deadline > now) {
            return false;
        }
        if let Some(wire) = wire {
            self.mark_lost(wire);
        }
        while self.unacked.front().is_some_and(|front| front.deadline <= now) {
            if self.unacked.front().is_some_and(|front| front.lost) {
                // Everything behind it that may have arrived shares its fate: without this batch's
                // outcome theirs cannot be learned, and sending them again could repeat them.
                self.give_up_lost();
                return true;
            }
            let Some(front) = self.unacked.pop_failed() else { break };
            let error = timed_out(self.settings.delivery_timeout, self.last_error.as_ref());
            self.fail(front, error.with_applied(Applied::No));
        }
        false
    }

    /// Fails every batch from the front whose outcome is unknown, and ends the epoch.
    fn give_up_lost(&mut self) {
        while self.unacked.front().is_some_and(|front| front.lost) {
            let Some(front) = self.unacked.pop_failed() else { break };
            let error = timed_out(self.settings.delivery_timeout, self.last_error.as_ref());
            self.fail(front, error.with_applied(Applied::Unknown));
        }
        self.unacked.end_epoch();
    }

    /// The requests without a result may have been appended, unless they stand behind a definite
    /// failure.
    fn mark_lost(&mut self, wire: &Wire) {
        if wire.draining.is_some_and(|drain| !drain.unknown) {
            return;
        }
        for (_, number) in &wire.outstanding {
            self.unacked.mark_lost(*number);
        }
    }

    /// A stream is over: note what it leaves behind.
    fn leave(&mut self, wire: &Wire) {
        self.mark_lost(wire);
        if let Some(drain) = wire.draining.filter(|drain| drain.new_epoch) {
            match drain.unknown {
                true => self.give_up_lost(),
                false => self.unacked.end_epoch(),
            }
        }
        if self.stopped {
            while let Some(pending) = self.unacked.pop_failed() {
                let applied = pending.applied();
                self.resolve(pending, Err(preceding_failed().with_applied(applied)));
            }
        }
    }

    fn fail(&mut self, pending: Pending, error: Error) {
        let error = error.during(format_args!("appending to `{}`", self.settings.product));
        if self.settings.on_failure == OnFailure::Stop && !self.stopped {
            self.stopped = true;
            self.queue.stop(preceding_failed());
        }
        self.resolve(pending, Err(error));
    }

    fn resolve(&mut self, pending: Pending, result: Result<Arc<BatchAck>>) {
        let sealed = pending.sealed;
        if let Some(watcher) = &mut self.watcher {
            watcher(&BatchOutcome {
                first_record: sealed.first_record,
                count: sealed.batch.count(),
                result: result.clone(),
            });
        }
        self.queue.resolve(sealed, result);
    }
}

/// What sending waits for.
#[derive(Clone, Copy)]
enum Sending {
    /// Results, or a pause.
    Paused,
    /// The transport.
    Blocked,
    /// Records.
    Idle,
    /// More records, but not for long.
    Lingering(Instant),
    /// Nothing more will come.
    Closed,
}

impl Sending {
    fn waits_for_work(self) -> bool {
        matches!(self, Sending::Idle | Sending::Lingering(_))
    }
}

fn far_away() -> Instant {
    Instant::now() + Duration::from_secs(86_400)
}

fn connection_ended() -> Error {
    let message = "the broker ended the stream of appends";
    Error::new(Code::Unavailable, reason::CONNECTION_LOST, message)
        .with_applied(Applied::Unknown)
        .with_retry(true, None)
}

fn violated(what: &str) -> Error {
    let message = format!("the broker broke the contract: {what}");
    Error::new(Code::Internal, reason::PROTOCOL, message).with_applied(Applied::Unknown)
}

fn preceding_failed() -> Error {
    let message = "an earlier batch of this producer failed and it was told to stop then";
    Error::new(Code::Aborted, reason::PRECEDING_FAILED, message)
}

fn timed_out(limit: Duration, last: Option<&Error>) -> Error {
    let why = last.map(|error| format!("; last: {error}")).unwrap_or_default();
    let message = format!("no acknowledgement within {limit:?}{why}");
    Error::new(Code::DeadlineExceeded, reason::DELIVERY_TIMEOUT, message).with_retry(true, None)
}
