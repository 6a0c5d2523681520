//! `meshlog produce`: records from a file or standard input into a product, in their order.
//!
//! ```text
//!  thread: read line ─► record ──channel──► batch ─► Producer ─► acknowledgement ─► stdout, summary
//! ```
//!
//! A batch is appended all or none. If the broker refuses one, nothing behind it was appended
//! (`OnFailure::Stop`), so the records before the bad one can be sent again and, with `--on-error
//! skip`, those behind it too: what is in the log is the input in its order, without the bad lines.

use std::{
    collections::VecDeque,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use clap::{Args, ValueEnum};
use meshlog_client::{
    Applied, BatchAck, BatchBuilder, BatchDelivery, Catalog, Client, Durability, Header, OnFailure,
    Producer, Record, proto::SchemaFormat,
};
use serde::Serialize;
use tokio::{sync::mpsc, time::Instant};

use crate::{
    csv_input::Columns,
    exit::{Exit, Failure, Result},
    input::{Input, InputFormat, InputLine, KeyField, Shape},
    output::Out,
    progress::Progress,
    schema,
    settings::ServerArgs,
    words,
};

/// Arguments of `produce`.
#[derive(Debug, Args)]
pub(crate) struct Produce {
    /// `<domain>.<name>` of the product
    name: String,
    /// The input; without it, or as `-`, standard input
    file: Option<PathBuf>,
    /// How the input is written [default: csv for a .csv file, jsonl otherwise]
    #[arg(long)]
    format: Option<InputFormat>,
    /// Field of the value that becomes the key [default: the field of the product's key rule]
    #[arg(long, value_name = "FIELD")]
    key_field: Option<KeyField>,
    /// Append one record that says this key is gone; reads no input
    #[arg(long, value_name = "KEY", conflicts_with_all = ["file", "format", "key_field", "null", "on_error"])]
    tombstone: Option<String>,
    /// Put every record into this partition instead of choosing it by key
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    /// Header for every record; may be given again
    #[arg(long = "header", value_name = "K=V", value_parser = parse_header)]
    headers: Vec<Header>,
    /// Append only if the first record gets this offset and nobody else appends meanwhile
    #[arg(long, value_name = "N")]
    expected_offset: Option<u64>,
    /// What an acknowledgement shall mean
    #[arg(long, default_value = "synced")]
    ack: Ack,
    /// What to do about a record that is refused
    #[arg(long, default_value = "stop")]
    on_error: OnError,
    /// CSV: this text means null
    #[arg(long, value_name = "TEXT")]
    null: Option<String>,
    /// Print a line for every acknowledgement as it arrives
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<AckFormat>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Ack {
    /// The records are on disk
    Synced,
    /// The records are written; lost if the machine fails before the next sync
    Written,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnError {
    /// Append what comes before it, then end
    Stop,
    /// Leave it out and go on
    Skip,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AckFormat {
    /// One line of JSON
    Jsonl,
}

fn parse_header(text: &str) -> Result<Header, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            Ok(Header { name: name.to_owned(), value: value.to_owned().into() })
        }
        _ => Err("write it as NAME=VALUE".into()),
    }
}

/// A batch is closed at this size or this number of records,
const BATCH_BYTES: usize = 256 << 10;
const BATCH_RECORDS: usize = 10_000;
/// or this long after its first record, if no line is waiting.
const LINGER: Duration = Duration::from_millis(2);
/// Why a producer takes no more after a refused batch.
const STOPPED: &str = "PRECEDING_FAILED";
/// Lines read ahead of the broker.
const LINES_AHEAD: usize = 4_096;

impl Produce {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        let client = self.server.connect().await?;
        let lines = match &self.tombstone {
            Some(key) => {
                let (sender, lines) = mpsc::channel(1);
                let record =
                    Record { headers: self.headers.clone(), ..Record::tombstone(key.clone()) };
                let line = InputLine { number: 1, record: Ok(record) };
                let _ = sender.send(Ok(line)).await;
                Lines { lines, bytes: None, bytes_read: Arc::default(), blank: Arc::default() }
            }
            None => self.open(&client.catalog()).await?,
        };
        let mut sending = Sending {
            target: Target {
                client,
                product: self.name.clone(),
                partition: self.partition,
                durability: match self.ack {
                    Ack::Synced => Durability::Synced,
                    Ack::Written => Durability::Written,
                },
            },
            next_offset: self.expected_offset,
            producer: None,
            on_error: self.on_error,
            print_acks: self.output.is_some(),
            batch: Batch::default(),
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            tally: Tally::default(),
            progress: Progress::new(lines.bytes),
        };
        let started = Instant::now();
        let blank = lines.blank.clone();
        let result = tokio::select! {
            result = sending.send_all(lines, out) => result,
            _ = tokio::signal::ctrl_c() => Err(Failure::quiet(Exit::Interrupted)),
        };
        sending.progress.clear();
        if let Err(failure) = &result
            && failure.exit() == Exit::Interrupted
        {
            let unknown: usize = sending.in_flight.iter().map(|sent| sent.batch.len()).sum();
            out.note(format_args!(
                "interrupted: {} acknowledged, the outcome of {} unknown",
                words::counted(sending.tally.acknowledged, "record"),
                words::count(unknown as u64),
            ));
            return result;
        }
        out.note(sending.tally.summary(
            &self.name,
            blank.load(Ordering::Relaxed),
            started.elapsed(),
        ));
        result?;
        match sending.tally.rejected {
            0 => Ok(()),
            rejected => Err(Failure::new(
                Exit::Rejected,
                format!(
                    "{} left out; mend the lines named above and send them again",
                    words::counted(rejected, "record")
                ),
            )),
        }
    }

    /// Opens the input and starts reading it.
    async fn open(&self, catalog: &Catalog) -> Result<Lines> {
        let file = self.file.as_deref().filter(|file| *file != Path::new("-"));
        let format = self.format.unwrap_or_else(|| {
            match file.and_then(Path::extension).and_then(|extension| extension.to_str()) {
                Some("csv") => InputFormat::Csv,
                _ => InputFormat::Jsonl,
            }
        });
        if self.null.is_some() && format != InputFormat::Csv {
            return Err(Failure::usage("--null is for --format csv; JSON has a null of its own"));
        }
        let json = matches!(format, InputFormat::Jsonl | InputFormat::Csv);
        if self.key_field.is_some() && !json {
            return Err(Failure::usage(
                "--key-field reads a field of a JSON value; it is for --format jsonl and csv",
            ));
        }
        let product = catalog.get_product(self.name.as_str()).await?;
        let rule = product.key.filter(|_| json).map(|rule| rule.field);
        let key_field = match (&self.key_field, rule) {
            (Some(field), _) => Some(field.clone()),
            (None, Some(field)) => Some(field.parse().map_err(Failure::usage)?),
            (None, None) => None,
        };
        let columns = match format {
            InputFormat::Csv => columns(catalog, &self.name).await?,
            _ => Columns::default(),
        };
        let shape = Shape {
            format,
            columns,
            null: self.null.clone(),
            key_field,
            headers: self.headers.clone(),
        };
        let (reader, bytes): (Box<dyn Read + Send>, _) = match file {
            None => (Box::new(io::stdin()), None),
            Some(path) => {
                let unreadable = |error: io::Error| {
                    Failure::usage(format!("{} cannot be read: {error}", path.display()))
                };
                let file = std::fs::File::open(path).map_err(unreadable)?;
                let facts = file.metadata().map_err(unreadable)?;
                (Box::new(file), facts.is_file().then_some(facts.len()))
            }
        };
        let bytes_read = Arc::new(AtomicU64::new(0));
        let counted = Counted { reader, count: bytes_read.clone() };
        let input = Input::new(Box::new(BufReader::with_capacity(256 << 10, counted)), shape);
        let blank = input.blank_lines();
        Ok(Lines { lines: read(input), bytes, bytes_read, blank })
    }
}

/// The types of the columns, by the product's schema.
pub(crate) async fn columns(catalog: &Catalog, product: &str) -> Result<Columns> {
    let version = catalog.get_schema_version(product, 0).await?;
    let source = version.value.unwrap_or_default();
    match source.format() {
        SchemaFormat::JsonSchema => Columns::of_json_schema(&source.text).map_err(|error| {
            let message = format!("the schema of {product} cannot be read: {error}");
            Failure::new(Exit::Error, message)
        }),
        SchemaFormat::Opaque => Ok(Columns::default()),
        other => Err(Failure::usage(format!(
            "CSV becomes JSON values, but {product} has a schema in {}; encode the records yourself \
             and send them with --format raw or envelope",
            schema::format_word(other),
        ))),
    }
}

/// The input as it is read.
struct Lines {
    lines: mpsc::Receiver<io::Result<InputLine>>,
    /// Size of the input, if known.
    bytes: Option<u64>,
    bytes_read: Arc<AtomicU64>,
    blank: Arc<AtomicU64>,
}

/// Reads on a thread of its own, which ends with the input or when nobody wants its lines any more;
/// one that waits for a terminal ends with the process.
fn read(mut input: Input) -> mpsc::Receiver<io::Result<InputLine>> {
    let (sender, lines) = mpsc::channel(LINES_AHEAD);
    std::thread::spawn(move || {
        while let Some(line) = input.next_line().transpose() {
            let failed = line.is_err();
            if sender.blocking_send(line).is_err() || failed {
                return;
            }
        }
    });
    lines
}

struct Counted<R> {
    reader: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Where the records go.
struct Target {
    client: Client,
    product: String,
    partition: Option<u32>,
    durability: Durability,
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

/// Records that are sent together, with the lines they come from.
#[derive(Default)]
struct Batch {
    lines: Vec<u64>,
    records: Vec<Record>,
    bytes: usize,
    /// When the first record came.
    opened: Option<Instant>,
}

impl Batch {
    fn len(&self) -> usize {
        self.records.len()
    }

    fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.len() >= BATCH_RECORDS
    }

    fn push(&mut self, line: u64, record: Record) {
        self.opened.get_or_insert_with(Instant::now);
        let part = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
        self.bytes += part(&record.key) + part(&record.value) + 16;
        self.lines.push(line);
        self.records.push(record);
    }

    /// The records at these places, and the rest, both in order.
    fn partition(self, chosen: impl Fn(usize) -> bool) -> (Self, Self) {
        let (mut yes, mut no) = (Self::default(), Self::default());
        for (index, (line, record)) in self.lines.into_iter().zip(self.records).enumerate() {
            if chosen(index) { &mut yes } else { &mut no }.push(line, record);
        }
        (yes, no)
    }
}

/// A batch on its way.
struct Sent {
    batch: Batch,
    delivery: BatchDelivery,
}

/// What came of the input.
#[derive(Default)]
struct Tally {
    acknowledged: u64,
    appends: u64,
    rejected: u64,
    durability: Option<Durability>,
}

impl Tally {
    fn summary(&self, product: &str, blank: u64, elapsed: Duration) -> String {
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
        text
    }
}

struct Sending {
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
    tally: Tally,
    progress: Progress,
}

/// What to do next.
enum Step {
    Line(Option<io::Result<InputLine>>),
    Settled(Result<BatchAck, meshlog_client::Error>),
    Linger,
}

impl Sending {
    async fn send_all(&mut self, mut input: Lines, out: &mut Out) -> Result<()> {
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
