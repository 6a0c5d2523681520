//! `meshlog consume`: records of a product to standard output, from a position to the durable end
//! seen at the start, or on and on; with `--as` from where the last one with that name stopped.

use std::{
    collections::{BTreeMap, VecDeque},
    str::FromStr,
    time::Duration,
};

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCompleter;
use futures_util::FutureExt;
use jiff::Timestamp;
use meshlog_client::{Client, ConsumedBatch, ConsumedRecord, Consumer, StartAt};
use tokio::time::Instant;

use crate::{
    completion,
    envelope::{self, Position},
    exit::{Exit, Failure, Result},
    output::Out,
    settings::ServerArgs,
    words,
};

/// Arguments of `consume`.
#[derive(Debug, Args)]
pub(crate) struct Consume {
    /// `<domain>.<name>` of the product
    name: String,
    /// Where to start: earliest, latest, an offset, or a time (RFC 3339) of the append; with --as,
    /// where the cursor has no position yet
    #[arg(long, value_name = "START", default_value = "earliest")]
    from: From,
    /// Only the last N records, in the order of their append
    #[arg(long, value_name = "N", conflicts_with = "from", value_parser = clap::value_parser!(u64).range(1..))]
    last: Option<u64>,
    /// Go on where the last command with this cursor stopped. Positions are committed at the end,
    /// every second, and on SIGINT and SIGTERM, each time after the records before them were handed
    /// to standard output: killed at any moment, it loses none, and at worst writes some again
    #[arg(long = "as", value_name = "CURSOR", conflicts_with = "last", add = ArgValueCompleter::new(completion::cursors))]
    cursor: Option<String>,
    /// Start at the cursor but leave it where it is
    #[arg(long, requires = "cursor")]
    no_commit: bool,
    /// Only records with this key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Only this partition
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    /// Stop after N records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max: Option<u64>,
    /// Go on with new records as they arrive
    #[arg(long, short)]
    follow: bool,
    /// How to write a record
    #[arg(long, short, value_name = "FORMAT", default_value = "jsonl")]
    output: RecordFormat,
    #[command(flatten)]
    server: ServerArgs,
}

/// How a record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RecordFormat {
    /// One line of JSON with position, key, value and headers
    Jsonl,
    /// The bytes of the value and a line feed
    Raw,
    /// For people: one line, a long value cut
    Table,
}

/// Where to start.
#[derive(Clone, Debug)]
pub(crate) enum From {
    Earliest,
    Latest,
    Offset(u64),
    Time(Timestamp),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            _ if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().map(Self::Offset).map_err(|_| "no offset is that high".into())
            }
            _ => text.parse().map(Self::Time).map_err(|_| {
                "expected earliest, latest, an offset such as 42, or a time such as \
                 2026-11-20T12:00:00Z"
                    .into()
            }),
        }
    }
}

impl Consume {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        let client = self.server.connect().await?;
        let mut printer = Printer::new(&self, out);
        if let Some(count) = self.last {
            tokio::select! {
                result = self.read_last(&client, count, &mut printer) => result?,
                _ = tokio::signal::ctrl_c() => {
                    printer.out.flush()?;
                    return Err(Failure::quiet(Exit::Interrupted));
                }
            }
            return printer.finish();
        }
        let start = match self.from {
            From::Earliest => StartAt::Earliest,
            From::Latest => StartAt::Latest,
            From::Offset(offset) => StartAt::Offset(offset),
            From::Time(time) => StartAt::Time(time.into()),
        };
        let mut consumer = self.consumer(&client, start, self.follow);
        let mut ending = Ending::new(printer.commits)?;
        let read = tokio::select! {
            result = printer.print_all(&mut consumer) => result,
            () = ending.asked_for() => Err(Failure::quiet(Exit::Interrupted)),
        };
        let read = read.map_err(|failure| self.explain(failure));
        if printer.commits && !matches!(&read, Err(failure) if failure.exit() == Exit::BrokenPipe) {
            // Whoever asks a second time does not want to wait.
            tokio::select! {
                committed = printer.commit(&mut consumer) => read.and(committed)?,
                () = ending.asked_for() => return Err(Failure::quiet(Exit::Interrupted)),
            }
        } else {
            printer.out.flush()?;
            read?;
        }
        printer.finish()
    }

    /// Adds what helps when retention has overtaken the cursor.
    fn explain(&self, failure: Failure) -> Failure {
        match &self.cursor {
            Some(cursor) if failure.reason() == Some("OFFSET_OUT_OF_RANGE") => Failure::new(
                failure.exit(),
                format!(
                    "{failure}; records behind the cursor {cursor} are gone: `meshlog cursor reset \
                     {cursor} {} --to earliest` goes on with what is left",
                    self.name
                ),
            ),
            _ => failure,
        }
    }

    fn consumer(&self, client: &Client, start: StartAt, follow: bool) -> Consumer {
        let builder = client.consumer(self.name.as_str());
        let builder = match &self.cursor {
            Some(cursor) => builder.cursor(cursor.as_str()),
            None => builder,
        };
        builder
            .from(start)
            .partitions(self.partition)
            .stop_at_end(!follow)
            .give_up_after(if follow { FOLLOW_PATIENCE } else { READ_PATIENCE })
            .build()
    }

    /// The last records over all partitions in the order of their append; with a key, the last of
    /// that key.
    async fn read_last(
        &self,
        client: &Client,
        count: u64,
        printer: &mut Printer<'_>,
    ) -> Result<()> {
        let start = match self.key {
            Some(_) => StartAt::Earliest,
            None => {
                let partitions: Vec<u32> = self.partition.into_iter().collect();
                let catalog = client.catalog();
                let offsets = catalog.list_offsets(self.name.as_str(), &partitions, None).await?;
                let start = |offset: &meshlog_client::proto::PartitionOffsets| {
                    let back = offset.durable_end.saturating_sub(count);
                    (offset.partition, back.max(offset.start_offset))
                };
                StartAt::Positions(offsets.iter().map(start).collect::<BTreeMap<_, _>>())
            }
        };
        let mut consumer = self.consumer(client, start, false);
        let wanted = usize::try_from(count).unwrap_or(usize::MAX);
        let mut partitions: BTreeMap<u32, VecDeque<ConsumedRecord>> = BTreeMap::new();
        while let Some(record) = consumer.next_record().await? {
            if printer.wants(&record) {
                let last = partitions.entry(record.partition).or_default();
                if last.len() == wanted {
                    last.pop_front();
                }
                last.push_back(record);
            }
        }
        let mut records: Vec<_> = partitions.into_values().flatten().collect();
        records.sort_by_key(|record| (record.append_time, record.partition, record.offset));
        for record in &records[records.len().saturating_sub(wanted)..] {
            if !printer.print(record)? {
                return Ok(());
            }
        }
        if self.follow {
            printer.out.flush()?;
            let start = StartAt::Positions(consumer.positions().clone());
            printer.print_all(&mut self.consumer(client, start, true)).await?;
        }
        Ok(())
    }
}

/// The signals that end the command in good order.
struct Ending {
    /// `None`: SIGTERM ends the process at once, because there is nothing to commit.
    terminate: Option<tokio::signal::unix::Signal>,
}

impl Ending {
    fn new(commits: bool) -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let terminate = commits.then(|| signal(SignalKind::terminate())).transpose();
        let terminate = terminate.map_err(|error| {
            Failure::new(Exit::Error, format!("SIGTERM cannot be caught: {error}"))
        })?;
        Ok(Self { terminate })
    }

    async fn asked_for(&mut self) {
        let terminated = async {
            match &mut self.terminate {
                Some(terminate) => drop(terminate.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            () = terminated => {}
        }
    }
}

/// Positions are committed this often while records are written.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// Writes the records that are wanted, up to the number that is wanted.
struct Printer<'a> {
    /// The cursor follows what was written.
    commits: bool,
    /// Where the last record stood, if others of its batch are left.
    within: Option<(u32, u64)>,
    out: &'a mut Out,
    format: RecordFormat,
    key: Option<Vec<u8>>,
    /// How many more to write.
    left: u64,
    line: Vec<u8>,
    header_written: bool,
    tombstones_left_out: u64,
}

impl<'a> Printer<'a> {
    fn new(args: &Consume, out: &'a mut Out) -> Self {
        Self {
            commits: args.cursor.is_some() && !args.no_commit,
            within: None,
            out,
            format: args.output,
            key: args.key.clone().map(String::into_bytes),
            left: args.max.unwrap_or(u64::MAX),
            line: Vec::new(),
            header_written: false,
            tombstones_left_out: 0,
        }
    }

    async fn print_all(&mut self, consumer: &mut Consumer) -> Result<()> {
        let mut due = Instant::now() + COMMIT_INTERVAL;
        let mut is_open = false;
        loop {
            // Whoever reads gets what there is before this waits for more. There is nothing yet while
            // it opens; a subscription given up half open would have records delivered to nobody.
            let ready = match is_open {
                true => consumer.next().now_or_never(),
                false => Some(consumer.next().await),
            };
            is_open = true;
            let batch = match ready {
                Some(batch) => Some(batch?),
                None => {
                    self.out.flush()?;
                    tokio::select! {
                        batch = consumer.next() => Some(batch?),
                        () = tokio::time::sleep_until(due), if self.commits => None,
                    }
                }
            };
            if let Some(batch) = batch {
                let Some(batch) = batch else { return Ok(()) };
                if !self.print_batch(&batch)? {
                    return Ok(());
                }
            }
            if self.commits && Instant::now() >= due {
                self.commit(consumer).await?;
                due = Instant::now() + COMMIT_INTERVAL;
            }
        }
    }

    /// Hands over what was written, then says so to the broker. Never the other way round: what is
    /// committed is not written again.
    async fn commit(&mut self, consumer: &mut Consumer) -> Result<()> {
        self.out.flush()?;
        let mut positions = consumer.positions().clone();
        positions.extend(self.within);
        Ok(consumer.commit_at(&positions).await?)
    }

    fn print_batch(&mut self, batch: &ConsumedBatch) -> Result<bool> {
        for record in batch.records() {
            let record = record?;
            if self.wants(&record) && !self.print(&record)? {
                self.within = Some((record.partition, record.offset + 1));
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn wants(&self, record: &ConsumedRecord) -> bool {
        self.key.is_none() || self.key.as_deref() == record.record.key.as_deref()
    }

    /// Writes one record; says whether more are wanted.
    fn print(&mut self, consumed: &ConsumedRecord) -> Result<bool> {
        self.line.clear();
        let position = Position {
            partition: consumed.partition,
            offset: consumed.offset,
            append_time: words::system_time(consumed.append_time),
        };
        match self.format {
            RecordFormat::Jsonl => envelope::write(&mut self.line, position, &consumed.record),
            RecordFormat::Raw => match &consumed.record.value {
                Some(value) => {
                    self.line.extend_from_slice(value);
                    self.line.push(b'\n');
                }
                None => {
                    self.tombstones_left_out += 1;
                    return Ok(true);
                }
            },
            RecordFormat::Table => {
                if !self.header_written {
                    self.header_written = true;
                    self.out.line(table_line("PARTITION", "OFFSET", "APPENDED", "KEY", "VALUE"))?;
                }
                let text = |bytes: &[u8]| printable(&String::from_utf8_lossy(bytes));
                let line = table_line(
                    &position.partition.to_string(),
                    &position.offset.to_string(),
                    &format!("{:.3}", position.append_time),
                    &consumed.record.key.as_deref().map_or("-".into(), text),
                    &consumed.record.value.as_deref().map_or("(deleted)".into(), text),
                );
                self.line.extend_from_slice(line.as_bytes());
                self.line.push(b'\n');
            }
        }
        self.out.data(&self.line)?;
        self.left -= 1;
        Ok(self.left > 0)
    }

    fn finish(self) -> Result<()> {
        self.out.flush()?;
        if self.tombstones_left_out > 0 {
            self.out.note(format_args!(
                "{} without a value left out; -o jsonl shows them",
                words::counted(self.tombstones_left_out, "record"),
            ));
        }
        Ok(())
    }
}

/// How long a broker may be away before a command gives up: one that follows outlasts a restart,
const FOLLOW_PATIENCE: Duration = Duration::from_secs(120);
/// one that somebody waits for says soon that it cannot go on.
const READ_PATIENCE: Duration = Duration::from_secs(10);

/// Longest value in a table, in characters.
const VALUE_WIDTH: usize = 120;

/// One line of the table; columns are as wide as what usually stands in them, because rows are
/// written before the later ones are known.
fn table_line(partition: &str, offset: &str, time: &str, key: &str, value: &str) -> String {
    let cut: String = value.chars().take(VALUE_WIDTH).collect();
    let more = if cut.len() < value.len() { "…" } else { "" };
    format!("{partition:<9}  {offset:<10}  {time:<24}  {key:<12}  {cut}{more}").trim_end().into()
}

/// Control characters of a value must not reach the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_an_edge_an_offset_or_a_time() {
        assert!(matches!("earliest".parse(), Ok(From::Earliest)));
        assert!(matches!("42".parse(), Ok(From::Offset(42))));
        assert!(matches!("2026-11-20T12:00:00+01:00".parse(), Ok(From::Time(_))));
        for wrong in ["", "-1", "yesterday", "99999999999999999999", "2026-11-20"] {
            assert!(wrong.parse::<From>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn control_characters_do_not_reach_a_table() {
        assert_eq!(printable("a\u{1b}[31m\n"), "a\u{fffd}[31m\u{fffd}");
    }
}
