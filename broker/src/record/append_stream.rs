//! Pipelined appends: one result per request, in the order of the requests.
//!
//! ```text
//! requests ─► intake task: submit one after the other ─► queue ─► AppendStream::next: results,
//!             (order of the log = order of the requests)          several per message
//! ```
//!
//! After a failure of one (producer, product) its later requests are answered
//! `PRECEDING_FAILED` until the failed sequence comes again, so a pipelined producer never gets
//! its batches into the log out of order. Others go on.
//!
//! In flight are at most [`IN_FLIGHT`] requests per stream, and their bytes count against the
//! room for appends of the whole broker. A client that does not read its results is not read from.

use std::collections::HashMap;

use futures_util::{Stream, StreamExt as _};
use meshlog_proto::{server_v1, v1};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::append::Submitted;
use crate::access::Recheck;
use crate::broker::Broker;
use crate::caller::Caller;
use crate::error::{Error, Reason, Result};

/// Requests of one stream between receipt and result: enough for 64 MiB of 64 KiB requests, few
/// enough that their bookkeeping stays below a megabyte.
const IN_FLIGHT: usize = 1_024;

/// Results in one message; at some 60 bytes each a message stays far below a frame.
const RESULTS_PER_MESSAGE: usize = 512;

/// Failed sequences remembered per stream. Beyond it a later request of such a producer is refused
/// by storage as a gap instead, which is as safe and less clear.
const FAILURES: usize = 1_024;

/// The outcome of one pipelined append.
#[derive(Debug)]
pub struct AppendOutcome {
    /// As in the request.
    pub request_id: u64,
    /// What happened.
    pub result: Result<v1::AppendResponse>,
}

/// The results of one stream of appends. Dropping it stops the intake of further requests;
/// those submitted are carried out.
#[derive(Debug)]
pub struct AppendStream {
    pending: mpsc::Receiver<Pending>,
    held: Option<Pending>,
    ended: bool,
    _intake: AbortOnDropHandle<()>,
}

#[derive(Debug)]
enum Pending {
    Submitted(u64, Submitted),
    Done(AppendOutcome),
    /// Nothing follows.
    End(Error),
}

impl Broker {
    /// Appends every request of a stream, in order. An error among the requests ends the stream
    /// with that error, after the results of the requests before it.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn append_stream<S>(&self, caller: Caller, requests: S) -> AppendStream
    where
        S: Stream<Item = Result<server_v1::AppendStreamRequest>> + Send + 'static,
    {
        self.append_stream_until(caller, requests, CancellationToken::new())
    }

    /// As [`Broker::append_stream`]; when `stop` is cancelled no further request is taken, and
    /// after the results of those taken the stream ends with `SHUTTING_DOWN`.
    pub(crate) fn append_stream_until<S>(
        &self,
        caller: Caller,
        requests: S,
        stop: CancellationToken,
    ) -> AppendStream
    where
        S: Stream<Item = Result<server_v1::AppendStreamRequest>> + Send + 'static,
    {
        let (sender, pending) = mpsc::channel(IN_FLIGHT);
        let intake = Intake { broker: self.clone(), caller, failures: Failures::default() };
        let task = tokio::spawn(intake.run(requests, sender, stop));
        AppendStream { pending, held: None, ended: false, _intake: AbortOnDropHandle::new(task) }
    }
}

impl AppendStream {
    /// The next results, at least one; several if they are ready together. `None` after the last
    /// result of the last request.
    ///
    /// # Errors
    /// The requests ended with an error, or the broker is shutting down; nothing follows.
    pub async fn next(&mut self) -> Option<Result<Vec<AppendOutcome>>> {
        if self.ended {
            return None;
        }
        let first = match self.held.take() {
            Some(pending) => pending,
            None => self.pending.recv().await?,
        };
        let mut outcomes = match first {
            Pending::End(error) => {
                self.ended = true;
                return Some(Err(error));
            }
            Pending::Done(outcome) => vec![outcome],
            Pending::Submitted(request_id, submitted) => {
                vec![AppendOutcome { request_id, result: submitted.outcome().await }]
            }
        };
        // A group is acknowledged entry by entry: let the rest of it arrive.
        tokio::task::yield_now().await;
        while outcomes.len() < RESULTS_PER_MESSAGE {
            match self.pending.try_recv() {
                Ok(Pending::Done(outcome)) => outcomes.push(outcome),
                Ok(Pending::Submitted(request_id, submitted)) => match submitted.outcome_now() {
                    Ok(result) => outcomes.push(AppendOutcome { request_id, result }),
                    Err(submitted) => {
                        self.held = Some(Pending::Submitted(request_id, submitted));
                        break;
                    }
                },
                Ok(end @ Pending::End(_)) => {
                    self.held = Some(end);
                    break;
                }
                Err(_) => break,
            }
        }
        Some(Ok(outcomes))
    }
}

struct Intake {
    broker: Broker,
    caller: Caller,
    failures: Failures,
}

impl Intake {
    async fn run<S>(mut self, requests: S, sender: mpsc::Sender<Pending>, stop: CancellationToken)
    where
        S: Stream<Item = Result<server_v1::AppendStreamRequest>> + Send + 'static,
    {
        let mut requests = std::pin::pin!(requests);
        let closing = self.broker.closing().clone();
        let mut access = Recheck::of_caller(self.broker.catalogue(), &self.caller);
        loop {
            // The place in the queue comes first: without one nothing more is taken.
            let Ok(place) = sender.reserve().await else { return };
            let request = loop {
                if let Err(error) = access.check() {
                    break Some(Err(error));
                }
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break Some(Err(Error::shutting_down())),
                    () = closing.cancelled() => break Some(Err(Error::shutting_down())),
                    request = requests.next() => break request,
                    () = access.due() => {}
                }
            };
            match request {
                None => return,
                Some(Err(error)) => return place.send(Pending::End(error)),
                Some(Ok(request)) => place.send(self.take(request).await),
            }
        }
    }

    async fn take(&mut self, request: server_v1::AppendStreamRequest) -> Pending {
        let request_id = request.request_id;
        let Some(append) = request.append else {
            let error = Error::new(Reason::InvalidArgument, "the field `append` is missing")
                .with("field", "append");
            return Pending::Done(AppendOutcome { request_id, result: Err(error) });
        };
        let turn = Turn::of(&append);
        if let Some(error) = turn.as_ref().and_then(|turn| self.failures.refuse(turn)) {
            return Pending::Done(AppendOutcome { request_id, result: Err(error) });
        }
        let result = match self.broker.submit(&self.caller, append).await {
            // What storage refuses, it refuses at once.
            Ok(submitted) => match submitted.outcome_now() {
                Ok(result) => result,
                Err(submitted) => return Pending::Submitted(request_id, submitted),
            },
            Err(error) => Err(error),
        };
        if let (Err(_), Some(turn)) = (&result, turn) {
            self.failures.remember(turn);
        }
        Pending::Done(AppendOutcome { request_id, result })
    }
}

/// One sequence of one producer.
struct Turn {
    of: (bytes::Bytes, String),
    epoch: u32,
    sequence: u64,
}

impl Turn {
    fn of(append: &server_v1::AppendRequest) -> Option<Self> {
        let producer = append.producer.as_ref()?;
        Some(Self {
            of: (bytes::Bytes::copy_from_slice(&producer.id), append.product.clone()),
            epoch: producer.epoch,
            sequence: producer.sequence,
        })
    }
}

/// The sequence that must come again, per (producer, product).
#[derive(Default)]
struct Failures {
    failed: HashMap<(bytes::Bytes, String), (u32, u64)>,
}

impl Failures {
    fn refuse(&mut self, turn: &Turn) -> Option<Error> {
        let failed @ (epoch, sequence) = *self.failed.get(&turn.of)?;
        if (turn.epoch, turn.sequence) == failed || turn.epoch > epoch {
            self.failed.remove(&turn.of);
            return None;
        }
        if turn.epoch < epoch || turn.sequence < sequence {
            return None;
        }
        let error = Error::new(
            Reason::PrecedingFailed,
            format!(
                "sequence {sequence} of this producer failed before; send it again, then this one"
            ),
        );
        Some(error.with("product", &turn.of.1).with("failed_sequence", sequence))
    }

    fn remember(&mut self, turn: Turn) {
        if self.failed.len() >= FAILURES {
            self.failed.clear();
        }
        self.failed.insert(turn.of, (turn.epoch, turn.sequence));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(product: &str, epoch: u32, sequence: u64) -> Turn {
        let id = bytes::Bytes::from_static(&[7; 16]);
        Turn { of: (id, product.to_owned()), epoch, sequence }
    }

    #[test]
    fn later_sequences_wait_until_the_failed_one_comes_again() {
        let mut failures = Failures::default();
        assert!(failures.refuse(&turn("ops.a", 0, 5)).is_none());
        failures.remember(turn("ops.a", 0, 5));
        let error = failures.refuse(&turn("ops.a", 0, 6)).unwrap();
        assert_eq!(error.reason(), Reason::PrecedingFailed);
        assert_eq!(error.metadata()["failed_sequence"], "5");
        assert!(failures.refuse(&turn("ops.b", 0, 6)).is_none(), "another product goes on");
        assert!(failures.refuse(&turn("ops.a", 0, 4)).is_none(), "an older one is a retry");
        assert!(failures.refuse(&turn("ops.a", 0, 5)).is_none(), "the failed one comes again");
        assert!(failures.refuse(&turn("ops.a", 0, 6)).is_none());
    }

    #[test]
    fn a_new_epoch_forgets_the_failure() {
        let mut failures = Failures::default();
        failures.remember(turn("ops.a", 1, 5));
        assert!(failures.refuse(&turn("ops.a", 2, 0)).is_none());
        assert!(failures.refuse(&turn("ops.a", 1, 6)).is_none());
    }
}
