//! Batches sent in the order of their lines. A refused one is taken apart: what the broker did not
//! blame is sent again, in its place.

use std::{collections::VecDeque, io, sync::atomic::Ordering, time::Duration};

use meshlog_client::{
    Applied, BatchAck, BatchBuilder, Client, Durability, OnFailure, Producer, Record,
};
use serde::Serialize;
use tokio::time::Instant;

use super::{
    OnError,
    batch::{Batch, Sent},
    lines::Lines,
};
use crate::{
    exit::{Exit, Failure, Result},
    input::InputLine,
    output::Out,
    progress::Progress,
    words,
};

/// A batch is closed this long after its first record, if no line is waiting.
const LINGER: Duration = Duration::from_millis(2);
/// Why a producer takes no more after a refused batch.
const STOPPED: &str = "PRECEDING_FAILED";
/// Where the records go.
pub(super) struct Target {
    pub(super) client: Client,
    pub(super) product: String,
    pub(super) partition: Option<u32>,
    pub(super) durability: Durability,
}

impl Target {
    fn producer(&self, expected_offset: Option<u64>) -> Result<Producer> {
        let mut builder = self
            .client
            .producer(self.product.as_str())
            .durability(self.durability)
            .on_failure(OnFailure::Stop);
        if let Some(partition) = self.partition {
            builder = builder.partition(partition);
        }
        if let Some(offset) = expected_offset {
            builder = builder.expected_offset(offset);
        }
        Ok(builder.build()?)
    }
}

/// What came of the input.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) acknowledged: u64,
    appends: u64,
    pub(super) rejected: u64,
    quarantined: u64,
    warned: u64,
    durability: Option<Durability>,
}

impl Tally {
    pub(super) fn summary(&self, product: &str, blank: u64, elapsed: Duration) -> String {
        let mut text = format!(
            "{} appended to {product} in {}, {}",
            words::counted(self.acknowledged, "record"),
            words::counted(self.appends, "append"),
            words::duration(elapsed),
        );
        match self.durability {
            Some(Durability::Synced) => text.push_str(", on disk"),
            Some(Durability::Written) => text.push_str(", written and not yet on disk for certain"),
            Some(Durability::Memory) => text.push_str(", in the broker's memory only"),
            Some(Durability::Unspecified) | None => {}
        }
        if blank > 0 {
            text.push_str(&format!("; {} skipped", words::counted(blank, "blank line")));
        }
        if self.rejected > 0 {
            text.push_str(&format!("; {} refused", words::count(self.rejected)));
        }
        if self.quarantined > 0 {
            text.push_str(&format!(
                "; {} in quarantine, `meshlog quarantine list {product}` says why",
                words::count(self.quarantined)
            ));
        }
        if self.warned > 0 {
            text.push_str(&format!(
                "; {} of them do not conform to the schema",
                words::count(self.warned)
            ));
        }
        text
    }
}

/// The input on its way into the product.
pub(super) struct Sending {
    target: Target,
    /// With `--expected-offset`: the offset of the first record not yet acknowledged.
    next_offset: Option<u64>,
    /// None before the first batch and after a refused one.
    producer: Option<Producer>,
    on_error: OnError,
    print_acks: bool,
    /// Still open.
    batch: Batch,
    /// Closed and not yet sent, in order.
    waiting: VecDeque<Batch>,
    /// Sent and not yet acknowledged, in order.
    in_flight: VecDeque<Sent>,
    pub(super) tally: Tally,
    pub(super) progress: Progress,
}

/// What to do next.
enum Step {
    Line(Option<io::Result<InputLine>>),
    Settled(Result<BatchAck, meshlog_client::Error>),
    Linger,
}

impl Sending {
    /// Nothing sent yet. With `expected_offset`, the first record must get that offset.
    pub(super) fn new(
        target: Target,
        expected_offset: Option<u64>,
        on_error: OnError,
        print_acks: bool,
        progress: Progress,
    ) -> Self {
        Self {
            target,
            next_offset: expected_offset,
            producer: None,
            on_error,
            print_acks,
            batch: Batch::default(),
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            tally: Tally::default(),
            progress,
        }
    }

    /// Records sent whose outcome is not known.
    pub(super) fn unsettled(&self) -> u64 {
        self.in_flight.iter().map(|sent| sent.batch.len() as u64).sum()
    }

    /// Sends every line; the first error ends it.
    pub(super) async fn send_all(&mut self, mut input: Lines, out: &mut Out) -> Result<()> {
        let mut at_end = false;
        while !(at_end && self.batch.len() == 0 && self.is_settled()) {
            let deadline = self.batch.opened.map(|opened| opened + LINGER);
            let step = tokio::select! {
                biased;
                Some(result) = settled(&mut self.in_flight) => Step::Settled(result),
                line = input.lines.recv(), if !at_end => Step::Line(line),
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)),
                    if deadline.is_some() => Step::Linger,
            };
            match step {
                Step::Settled(result) => {
                    self.settle(result, out).await?;
                    let read = input.bytes_read.load(Ordering::Relaxed);
                    self.progress.update(read, self.tally.acknowledged);
                }
                Step::Linger => self.send_batch().await?,
                Step::Line(None) => {
                    at_end = true;
                    self.send_batch().await?;
                }
                Step::Line(Some(Err(error))) => {
                    self.finish(out).await?;
                    let message = format!("the input cannot be read any further: {error}");
                    return Err(Failure::new(Exit::Error, message));
                }
                Step::Line(Some(Ok(line))) => match self.check(line.record) {
                    Ok(record) => {
                        self.batch.push(line.number, record);
                        if self.batch.is_full() {
                            self.send_batch().await?;
                        }
                    }
                    Err(reason) => {
                        if self.on_error == OnError::Stop {
                            self.finish(out).await?;
                        }
                        self.reject(line.number, &reason, out)?;
                    }
                },
            }
        }
        Ok(())
    }

    /// A record that could not be sent at all is refused here, with its line.
    fn check(&self, record: Result<Record, String>) -> Result<Record, String> {
        let record = record?;
        match BatchBuilder::default().push(&record) {
            Ok(()) => Ok(record),
            Err(error) => Err(error.message().to_owned()),
        }
    }

    fn is_settled(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }

    /// Closes the open batch and sends it.
    async fn send_batch(&mut self) -> Result<()> {
        if self.batch.len() > 0 {
            self.waiting.push_back(std::mem::take(&mut self.batch));
        }
        self.send_waiting().await
    }

    /// Sends what waits. If a batch on its way was refused meanwhile, the producer takes no more:
    /// the rest waits until that outcome is settled.
    async fn send_waiting(&mut self) -> Result<()> {
        while let Some(batch) = self.waiting.pop_front() {
            let mut builder = BatchBuilder::with_capacity(batch.bytes);
            for record in &batch.records {
                builder.push(record)?;
            }
            let producer = match &mut self.producer {
                Some(producer) => producer,
                none => none.insert(self.target.producer(self.next_offset)?),
            };
            match producer.enqueue_batch(builder.finish()).await {
                Ok(delivery) => self.in_flight.push_back(Sent { batch, delivery }),
                Err(error) if error.reason() == STOPPED && !self.in_flight.is_empty() => {
                    self.waiting.push_front(batch);
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Sends what is left and waits for every outcome.
    async fn finish(&mut self, out: &mut Out) -> Result<()> {
        self.send_batch().await?;
        while let Some(result) = settled(&mut self.in_flight).await {
            self.settle(result, out).await?;
            self.send_waiting().await?;
        }
        Ok(())
    }

    /// The outcome of the oldest batch in flight.
    async fn settle(
        &mut self,
        result: Result<BatchAck, meshlog_client::Error>,
        out: &mut Out,
    ) -> Result<()> {
        let Some(sent) = self.in_flight.pop_front() else { return Ok(()) };
        match result {
            Ok(ack) => self.acknowledge(&ack, out),
            Err(error) => self.refused(sent.batch, &error, out).await,
        }
    }

    fn acknowledge(&mut self, ack: &BatchAck, out: &mut Out) -> Result<()> {
        self.tally.acknowledged += ack.count();
        self.tally.appends += 1;
        self.tally.durability = Some(ack.durability);
        match &ack.quarantined {
            Some(told) => self.tally.quarantined += told.records.len() as u64,
            None => self.tally.warned += u64::from(ack.nonconforming_records),
        }
        if let Some(next) = &mut self.next_offset {
            *next += ack.count();
        }
        if self.print_acks {
            for range in &ack.ranges {
                let line = AckLine {
                    partition: range.partition,
                    first_offset: range.first_offset,
                    last_offset: range.last_offset(),
                    durability: words::word(ack.durability.as_str_name(), "DURABILITY_"),
                };
                let line = serde_json::to_string(&line)
                    .map_err(|error| Failure::new(Exit::Error, error.to_string()))?;
                out.line(line)?;
            }
            out.flush()?;
        }
        Ok(())
    }

    /// A batch was refused. If the broker names the records at fault, the others are sent again:
    /// those before the first one, or with `--on-error skip` all.
    async fn refused(
        &mut self,
        batch: Batch,
        error: &meshlog_client::Error,
        out: &mut Out,
    ) -> Result<()> {
        let bad: Vec<usize> = error
            .metadata()
            .get("records")
            .map(|list| list.split(',').filter_map(|index| index.parse().ok()).collect())
            .unwrap_or_default();
        let Some(&first) = bad.first().filter(|first| **first < batch.len()) else {
            let (first, last) = (batch.lines.first(), batch.lines.last());
            let lines = match (first, last) {
                (Some(first), Some(last)) if first != last => format!("lines {first} to {last}"),
                (Some(first), _) => format!("line {first}"),
                _ => "nothing".into(),
            };
            let failure = Failure::from(error.clone());
            let outcome = match error.applied() {
                Applied::No => "not appended",
                Applied::Unknown => "perhaps appended",
            };
            let message = format!("{failure}; {lines} and what follows: {outcome}");
            return Err(Failure::new(failure.exit(), message));
        };
        // Everything behind the refused batch failed with it, unappended, and waits to be sent anew.
        let mut rest = Vec::new();
        while let Some(result) = settled(&mut self.in_flight).await {
            let sent = self.in_flight.pop_front();
            match result {
                Ok(ack) => self.acknowledge(&ack, out)?,
                Err(error) if error.applied() == Applied::Unknown => return Err(error.into()),
                Err(_) => rest.extend(sent.map(|sent| sent.batch)),
            }
        }
        self.producer = None;
        let (mut before, from_first) = batch.partition(|index| index < first);
        let (refused, good) = from_first.partition(|index| bad.contains(&(index + first)));
        if self.on_error == OnError::Stop {
            self.waiting.clear();
            self.batch = std::mem::take(&mut before);
            Box::pin(self.finish(out)).await?;
        }
        for (line, index) in refused.lines.iter().zip(&bad) {
            self.reject(*line, &reason(error, *index), out)?;
        }
        let again = [before, good].into_iter().chain(rest).filter(|batch| batch.len() > 0);
        again.rev().for_each(|batch| self.waiting.push_front(batch));
        self.send_waiting().await
    }

    /// Names a refused line; the end of the command unless refused lines are skipped.
    fn reject(&mut self, line: u64, reason: &str, out: &mut Out) -> Result<()> {
        self.tally.rejected += 1;
        match self.on_error {
            OnError::Skip => {
                self.progress.suspend(|| out.note(format_args!("line {line} left out: {reason}")));
                Ok(())
            }
            OnError::Stop => Err(Failure::new(
                Exit::Rejected,
                format!(
                    "line {line} was refused: {reason}; the lines before it are appended, it and \
                     the lines after it are not. Mend it, or leave such lines out with --on-error skip"
                ),
            )),
        }
    }
}

/// The line that `-o jsonl` prints for every run of records acknowledged.
#[derive(Serialize)]
struct AckLine {
    partition: u32,
    first_offset: u64,
    last_offset: u64,
    durability: String,
}

/// Why the broker refused this record of a batch.
fn reason(error: &meshlog_client::Error, index: usize) -> String {
    let field = format!("batch.records[{index}]");
    error
        .violations()
        .iter()
        .find(|violation| violation.field == field)
        .map_or_else(|| "it does not conform either".into(), |found| found.description.clone())
}

/// Waits for the outcome of the oldest batch in flight, which stays there; none without one.
async fn settled(
    in_flight: &mut VecDeque<Sent>,
) -> Option<Result<BatchAck, meshlog_client::Error>> {
    match in_flight.front_mut() {
        Some(sent) => Some((&mut sent.delivery).await),
        None => None,
    }
}
