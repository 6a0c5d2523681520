//! `meshlog produce`: records from a file or standard input into a product, in their order.
//!
//! ```text
//!  thread: read line ─► record ──channel──► batch ─► Producer ─► acknowledgement ─► stdout, summary
//! ```
//!
//! A batch is appended all or none. If the broker refuses one, nothing behind it was appended
//! (`OnFailure::Stop`), so the records before the bad one can be sent again and, with `--on-error
//! skip`, those behind it too: what is in the log is the input in its order, without the bad lines.

mod batch;
mod lines;
mod sending;

use std::{
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCompleter;
use meshlog_client::{Catalog, Durability, Header, Record, proto::SchemaFormat};
use tokio::{sync::mpsc, time::Instant};

use self::{
    lines::{Counted, Lines},
    sending::{Sending, Target},
};
use crate::{
    completion,
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
    #[arg(add = ArgValueCompleter::new(completion::products))]
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
        let target = Target {
            client,
            product: self.name.clone(),
            partition: self.partition,
            durability: match self.ack {
                Ack::Synced => Durability::Synced,
                Ack::Written => Durability::Written,
            },
        };
        let mut sending = Sending::new(
            target,
            self.expected_offset,
            self.on_error,
            self.output.is_some(),
            Progress::new(lines.bytes),
        );
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
            out.note(format_args!(
                "interrupted: {} acknowledged, the outcome of {} unknown",
                words::counted(sending.tally.acknowledged, "record"),
                words::count(sending.unsettled()),
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
        Ok(Lines { lines: lines::read(input), bytes, bytes_read, blank })
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
