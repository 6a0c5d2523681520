//! How an append went: per record, per batch, and to a watcher of all batches.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{FutureExt, future::Shared};
use tokio::sync::oneshot;

use crate::{
    Ack, BatchAck, Error, Result,
    error::{Applied, Code, reason},
};

/// The outcome of one batch, as a watcher sees it.
#[derive(Clone, Debug)]
pub struct BatchOutcome {
    /// Number of the batch's first record among all records handed to this producer, from 0.
    pub first_record: u64,
    /// Records in the batch.
    pub count: u32,
    /// Where they are, or why they are not.
    pub result: Result<Arc<BatchAck>>,
}

pub(super) type OutcomeSender = oneshot::Sender<Result<Arc<BatchAck>>>;
/// The outcome of one batch, for any number of its records.
pub(super) type Outcome = Shared<oneshot::Receiver<Result<Arc<BatchAck>>>>;

pub(super) fn outcome() -> (OutcomeSender, Outcome) {
    let (sender, receiver) = oneshot::channel();
    (sender, receiver.shared())
}

/// Resolves to the place of one record in the log. May be dropped; the record is appended all the
/// same.
#[derive(Debug)]
#[must_use = "a delivery that is not awaited hides a failed append"]
pub struct Delivery {
    outcome: Outcome,
    index: usize,
}

impl Delivery {
    pub(super) fn new(outcome: Outcome, index: usize) -> Self {
        Self { outcome, index }
    }
}

impl Future for Delivery {
    type Output = Result<Ack>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let index = self.index;
        self.outcome.poll_unpin(cx).map(|outcome| {
            let batch = outcome.map_err(|_| abandoned())??;
            batch.record(index).ok_or_else(|| {
                if let Some(quarantined) = batch.quarantined(index) {
                    let why = batch.nonconformities.iter().find(|n| n.record as usize == index);
                    let why = why.map_or_else(String::new, |why| {
                        format!(": expected {}, found {}", why.expected, why.found)
                    });
                    let message = format!("the record is in {}{why}", quarantined.product);
                    let reason = why_reason(&batch, index);
                    return Error::new(Code::InvalidArgument, reason, message)
                        .with_applied(Applied::No);
                }
                let message = "the broker acknowledged fewer records than were sent";
                Error::new(Code::Internal, reason::PROTOCOL, message).with_applied(Applied::Unknown)
            })
        })
    }
}

/// Why a record is in quarantine, as errors say it.
fn why_reason(batch: &BatchAck, index: usize) -> &str {
    let why = batch.nonconformities.iter().find(|why| why.record as usize == index);
    why.map_or("SCHEMA_REJECTED", |why| why.reason.as_str())
}

/// Resolves to the place of one batch in the log. May be dropped; the batch is appended all the
/// same.
#[derive(Debug)]
#[must_use = "a delivery that is not awaited hides a failed append"]
pub struct BatchDelivery {
    outcome: Outcome,
}

impl BatchDelivery {
    pub(super) fn new(outcome: Outcome) -> Self {
        Self { outcome }
    }
}

impl Future for BatchDelivery {
    type Output = Result<BatchAck>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.outcome
            .poll_unpin(cx)
            .map(|outcome| outcome.map_err(|_| abandoned())?.map(|ack| BatchAck::clone(&ack)))
    }
}

/// The runtime ended under the producer.
pub(super) fn abandoned() -> Error {
    let message = "the runtime of the producer ended before the append had an outcome";
    Error::new(Code::Cancelled, reason::CLOSED, message).with_applied(Applied::Unknown)
}
