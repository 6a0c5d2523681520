//! `meshlog product sample`.

use clap::Args;
use clap_complete::ArgValueCompleter;
use jiff::Timestamp;
use meshlog_client::{
    Header, Record,
    proto::{SampleProductRequest, SampledRecord, sample_product_request::Which},
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::profile::{ProfileArgs, ProfileView};
use crate::{
    completion, envelope,
    exit::{Exit, Failure, Result},
    output::{Format, Out, OutputArgs, Row},
    settings::ServerArgs,
    words,
};

/// Arguments of `product sample`.
#[derive(Debug, Args)]
pub(crate) struct Sample {
    /// `<domain>.<name>`
    #[arg(add = ArgValueCompleter::new(completion::products))]
    name: String,
    /// How many records, at most 1,000
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..=1_000)
    )]
    max: u32,
    /// The last ones with this key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Those appended around this time: a day, or a time in RFC 3339
    #[arg(long, value_name = "TIME", value_parser = words::parse_time, conflicts_with = "key")]
    around: Option<Timestamp>,
    /// Only this partition
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    #[command(flatten)]
    profile: ProfileArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What was found, for programs: records as `consume -o jsonl` writes them.
#[derive(Serialize)]
struct Found {
    records: Vec<Box<RawValue>>,
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<ProfileView>,
}

impl Sample {
    /// Runs the command.
    pub(super) async fn run(self, out: &mut Out) -> Result<()> {
        let which = match (self.key, self.around) {
            (Some(key), _) => Some(Which::Key(key.into())),
            (None, Some(time)) => Some(Which::Around(words::to_wire(time))),
            (None, None) => None,
        };
        let request = SampleProductRequest {
            product: self.name,
            product_id: String::new(),
            partitions: self.partition.into_iter().collect(),
            max_records: self.max,
            profile_records: self.profile.profile.unwrap_or(0),
            which,
        };
        let catalog = self.server.connect().await?.catalog();
        let response = catalog.sample_product(request).await?;
        let profile = response.profile.map(ProfileView::from);
        let format = self.output.output;
        match format {
            Format::Table | Format::Wide => {
                let rows: Vec<_> = response.records.into_iter().map(RecordRow::from).collect();
                out.list(format, &rows)?;
                if let Some(profile) = &profile {
                    out.line("")?;
                    profile.show(format, out)?;
                }
            }
            Format::Name => {
                for record in &response.records {
                    out.line(format_args!("{}:{}", record.partition, record.offset))?;
                }
            }
            Format::Jsonl => {
                for record in response.records {
                    out.data(&line(record))?;
                }
            }
            Format::Json | Format::Yaml => {
                let raw = |record| {
                    let line =
                        String::from_utf8(line(record)).map_err(|error| error.to_string())?;
                    RawValue::from_string(line.trim_end().to_owned())
                        .map_err(|error| error.to_string())
                };
                let records: Result<Vec<_>, String> =
                    response.records.into_iter().map(raw).collect();
                let records = records.map_err(|error| Failure::new(Exit::Error, error))?;
                out.one(format, &Found { records, truncated: response.truncated, profile })?;
            }
        }
        if response.truncated {
            out.note("the search for the key ended at its bound; older records may have it too");
        }
        Ok(())
    }
}

/// A record as `consume -o jsonl` writes it.
fn line(sampled: SampledRecord) -> Vec<u8> {
    let position = envelope::Position {
        partition: sampled.partition,
        offset: sampled.offset,
        append_time: words::time(sampled.append_time).unwrap_or_default(),
    };
    let mut line = Vec::new();
    envelope::write(&mut line, position, &record(sampled.record.unwrap_or_default()));
    line
}

fn record(record: meshlog_client::proto::Record) -> Record {
    let headers = record.headers.into_iter();
    Record {
        key: record.key,
        value: record.value,
        headers: headers.map(|header| Header { name: header.name, value: header.value }).collect(),
        event_time_unix_nano: record.event_time_unix_nano,
    }
}

/// A record for people.
#[derive(Serialize)]
struct RecordRow {
    partition: u32,
    offset: u64,
    append_time: Option<Timestamp>,
    schema_version: u32,
    key: String,
    value: String,
}

/// Longest value in a table, in characters.
const VALUE_WIDTH: usize = 120;

impl From<SampledRecord> for RecordRow {
    fn from(sampled: SampledRecord) -> Self {
        let record = sampled.record.unwrap_or_default();
        let text = |bytes: &Option<bytes::Bytes>| match bytes {
            Some(bytes) => printable(&String::from_utf8_lossy(bytes)),
            None => "-".into(),
        };
        Self {
            partition: sampled.partition,
            offset: sampled.offset,
            append_time: words::time(sampled.append_time),
            schema_version: sampled.schema_version,
            key: text(&record.key),
            value: text(&record.value),
        }
    }
}

/// One line that cannot command the terminal, cut.
fn printable(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    let mut cut: String = clean.take(VALUE_WIDTH).collect();
    if text.chars().nth(VALUE_WIDTH).is_some() {
        cut.push('…');
    }
    cut
}

impl Row for RecordRow {
    const PLURAL: &'static str = "records";
    const HEADER: &'static [&'static str] = &["PARTITION", "OFFSET", "APPENDED", "KEY", "VALUE"];
    const WIDE: &'static [&'static str] = &["SCHEMA"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.partition.to_string(),
            self.offset.to_string(),
            words::when(self.append_time),
            self.key.clone(),
            self.value.clone(),
        ]
    }

    fn wide_cells(&self) -> Vec<String> {
        vec![format!("v{}", self.schema_version)]
    }
}
