//! `meshlog quarantine`: records that a product did not take.

use std::io::Read as _;

use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;
use jiff::Timestamp;
use meshlog_client::{
    Catalog,
    proto::{
        ListQuarantinedRequest, QuarantinedRecord, RedriveQuarantinedRequest,
        RedriveQuarantinedResponse,
    },
};
use serde::Serialize;

use crate::{
    completion,
    exit::{Exit, Failure, Result},
    output::{Out, OutputArgs, Row},
    progress,
    settings::ServerArgs,
    words,
};

/// Records of one page.
const PAGE: u32 = 1_000;

/// List, show and redrive records that a product did not take.
#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineCommand {
    /// List quarantined records, oldest first, each with what is wrong
    #[command(before_help = "Examples:
  meshlog quarantine list ops.flights
  meshlog quarantine list ops.flights --from 1000 --max 50 -o json")]
    List(List),
    /// Show one quarantined record, with where it comes from and its value
    #[command(before_help = "Examples:
  meshlog quarantine show ops.flights 17
  meshlog quarantine show ops.flights 17 -o json")]
    Show(Show),
    /// Append quarantined records to their product after all, each once
    ///
    /// A record must conform by now: because it is given another value, or because the schema version
    /// named takes it. One that was redriven before is passed over, so the command can be repeated.
    #[command(before_help = "Examples:
  meshlog quarantine redrive ops.flights 17 --value repaired.json
  cat repaired.json | meshlog quarantine redrive ops.flights 17 --value -
  meshlog quarantine redrive ops.flights --all --schema-version 2 -o json")]
    Redrive(Redrive),
}

/// Arguments of `quarantine list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// `<domain>.<name>` of the product
    #[arg(add = ArgValueCompleter::new(completion::products))]
    product: String,
    /// Start at this offset of the quarantine
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from: u64,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    max: usize,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `quarantine show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// `<domain>.<name>` of the product
    #[arg(add = ArgValueCompleter::new(completion::products))]
    product: String,
    /// Its offset in the quarantine
    offset: u64,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `quarantine redrive`.
#[derive(Debug, Args)]
pub(crate) struct Redrive {
    /// `<domain>.<name>` of the product
    #[arg(add = ArgValueCompleter::new(completion::products))]
    product: String,
    /// Offsets in the quarantine
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "OFFSET")]
    offsets: Vec<u64>,
    /// All that are there
    #[arg(long)]
    all: bool,
    /// Append this value instead: the bytes of a file, or of standard input with `-`; for one offset
    #[arg(long, value_name = "FILE", conflicts_with = "all")]
    value: Option<String>,
    /// Check against this version; 0 is the one it was checked against before
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        add = ArgValueCompleter::new(completion::schema_versions)
    )]
    schema_version: u32,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl QuarantineCommand {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        match self {
            Self::List(args) => {
                let catalog = args.server.connect().await?.catalog();
                let (mut views, mut from): (Vec<View>, u64) = (Vec::new(), args.from);
                while views.len() < args.max {
                    let left = u32::try_from(args.max - views.len()).unwrap_or(PAGE).min(PAGE);
                    let page = page(&catalog, &args.product, from, left).await?;
                    from = page.0;
                    views.extend(page.1.into_iter().map(View::from));
                    if page.2 {
                        break;
                    }
                }
                out.list(args.output.output, &views)
            }
            Self::Show(args) => {
                let catalog = args.server.connect().await?.catalog();
                let (_, found, _) = page(&catalog, &args.product, args.offset, 1).await?;
                match found.into_iter().find(|found| found.offset == args.offset) {
                    Some(found) => out.one(args.output.output, &View::from(found)),
                    None => Err(Failure::new(
                        Exit::NotFound,
                        format!(
                            "there is no record {} in the quarantine of {1}; `meshlog quarantine \
                             list {1}` shows those there are",
                            args.offset, args.product
                        ),
                    )),
                }
            }
            Self::Redrive(args) => redrive(args, out).await,
        }
    }
}

/// One page: where the next one starts, the records, and whether it is the last.
async fn page(
    catalog: &Catalog,
    product: &str,
    from_offset: u64,
    page_size: u32,
) -> Result<(u64, Vec<QuarantinedRecord>, bool)> {
    let product = product.to_owned();
    let request = ListQuarantinedRequest { product, from_offset, page_size };
    let page = catalog.list_quarantined(request).await?;
    Ok((page.next_offset, page.records, page.next_offset >= page.end_offset))
}

async fn redrive(args: Redrive, out: &mut Out) -> Result<()> {
    let value = match args.value.as_deref() {
        None => None,
        Some(_) if args.offsets.len() != 1 => {
            return Err(Failure::usage("--value is the value of one record: name one offset"));
        }
        Some(file) => Some(read_value(file)?),
    };
    let catalog = args.server.connect().await?.catalog();
    let mut offsets = args.offsets;
    if args.all {
        let mut from = 0;
        loop {
            let (next, found, is_last) = page(&catalog, &args.product, from, PAGE).await?;
            let left = found.iter().filter(|found| !found.redriven);
            offsets.extend(left.map(|found| found.offset));
            from = next;
            if is_last {
                break;
            }
        }
    }
    let bar = progress::records("redriven");
    bar.set_length(offsets.len() as u64);
    let (mut redriven, mut refused) = (Vec::new(), Vec::new());
    for offset in offsets {
        let request = RedriveQuarantinedRequest {
            product: args.product.clone(),
            offset,
            value: value.clone().map(Into::into),
            key: None,
            schema_version: args.schema_version,
        };
        match catalog.redrive_quarantined(request).await {
            Ok(response) => redriven.push(Outcome::new(offset, &response)),
            // The next one may be fine.
            Err(error) if args.all && Failure::from(error.clone()).exit() == Exit::Rejected => {
                refused.push((offset, error));
            }
            Err(error) => {
                bar.finish_and_clear();
                out.list(args.output.output, &redriven)?;
                return Err(error.into());
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    out.list(args.output.output, &redriven)?;
    let Some((offset, error)) = refused.first() else { return Ok(()) };
    let count = words::counted(refused.len() as u64, "record");
    Err(Failure::new(
        Exit::Rejected,
        format!("{count} still not taken, the first at offset {offset}: {error}"),
    ))
}

fn read_value(file: &str) -> Result<Vec<u8>> {
    let mut value = Vec::new();
    let read = match file {
        "-" => std::io::stdin().read_to_end(&mut value).map(drop),
        file => std::fs::read(file).map(|bytes| value = bytes),
    };
    read.map_err(|error| Failure::usage(format!("the value {file} cannot be read: {error}")))?;
    // The end of a line of text is not part of it.
    if value.last() == Some(&b'\n') && std::str::from_utf8(&value).is_ok() {
        value.pop();
    }
    Ok(value)
}

/// A quarantined record, as the program shows it.
#[derive(Serialize)]
struct View {
    offset: u64,
    reason: String,
    path: String,
    expected: String,
    found: String,
    partition: u32,
    schema_version: u32,
    application: String,
    principal: String,
    producer: String,
    record: u32,
    redriven: bool,
    append_time: Option<Timestamp>,
    key: Option<String>,
    value: Option<String>,
}

impl From<QuarantinedRecord> for View {
    fn from(found: QuarantinedRecord) -> Self {
        let why = found.why.unwrap_or_default();
        let record = found.record.unwrap_or_default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            offset: found.offset,
            reason: why.reason,
            path: why.path,
            expected: why.expected,
            found: why.found,
            partition: found.partition,
            schema_version: found.schema_version,
            application: found.application,
            principal: found.principal,
            producer: found.producer,
            record: why.record,
            redriven: found.redriven,
            append_time: words::time(found.append_time),
            key: record.key.as_deref().map(text),
            value: record.value.as_deref().map(text),
        }
    }
}

impl Row for View {
    const PLURAL: &'static str = "quarantined records";
    const HEADER: &'static [&'static str] = &["OFFSET", "PATH", "EXPECTED", "FOUND", "REDRIVEN"];
    const WIDE: &'static [&'static str] = &["REASON", "APPLICATION", "TIME"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.offset.to_string(),
            self.path.clone(),
            self.expected.clone(),
            self.found.clone(),
            if self.redriven { "yes" } else { "no" }.to_owned(),
        ]
    }

    fn wide_cells(&self) -> Vec<String> {
        vec![self.reason.clone(), self.application.clone(), words::when(self.append_time)]
    }
}

/// What came of a record.
#[derive(Serialize)]
struct Outcome {
    offset: u64,
    already_redriven: bool,
    partition: Option<u32>,
    product_offset: Option<u64>,
    schema_version: Option<u32>,
}

impl Outcome {
    fn new(offset: u64, response: &RedriveQuarantinedResponse) -> Self {
        let is_new = !response.already_redriven;
        Self {
            offset,
            already_redriven: response.already_redriven,
            partition: is_new.then_some(response.partition),
            product_offset: is_new.then_some(response.offset),
            schema_version: is_new.then_some(response.schema_version),
        }
    }
}

impl Row for Outcome {
    const PLURAL: &'static str = "records to redrive";
    const HEADER: &'static [&'static str] = &["OFFSET", "NOW", "SCHEMA VERSION"];

    fn cells(&self) -> Vec<String> {
        let place = match (self.partition, self.product_offset) {
            (Some(partition), Some(offset)) => format!("partition {partition}, offset {offset}"),
            _ => "redriven before".to_owned(),
        };
        let version = self.schema_version.map_or_else(String::new, |version| version.to_string());
        vec![self.offset.to_string(), place, version]
    }
}
