//! `meshlog product retention`.

use clap::Args;
use clap_complete::ArgValueCompleter;
use jiff::Timestamp;
use meshlog_client::proto::{
    ExplainRetentionRequest, PartitionRetention, RetentionLimit, StorageHolder,
};
use serde::Serialize;

use super::View;
use crate::{
    completion,
    exit::Result,
    output::{Out, OutputArgs, Row},
    settings::ServerArgs,
    words,
};

/// Arguments of `product retention`.
#[derive(Debug, Args)]
pub(crate) struct Retention {
    /// `<domain>.<name>`
    #[arg(add = ArgValueCompleter::new(completion::products))]
    name: String,
    /// Only of this partition
    #[arg(long = "partition", value_name = "N")]
    partitions: Vec<u32>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl Retention {
    /// Runs the command.
    pub(super) async fn run(self, out: &mut Out) -> Result<()> {
        let catalog = self.server.connect().await?.catalog();
        let product = catalog.get_product(self.name.as_str()).await?;
        let request = ExplainRetentionRequest {
            product: product.name.clone(),
            product_id: product.id.clone(),
            partitions: self.partitions,
        };
        let answer = catalog.explain_retention(request).await?;
        let product = View::from(product);
        let page = Page {
            retention: product.retention(),
            compaction: product.compaction(),
            name: product.name,
            partitions: answer.partitions.into_iter().map(Partition::from).collect(),
        };
        let format = self.output.output;
        if !format.is_for_people() {
            return out.one(format, &page);
        }
        let mut what = page.retention.clone();
        if !page.compaction.is_empty() {
            what = format!("{what}; {}", page.compaction);
        }
        out.line(format_args!("{}: {what}\n", page.name))?;
        out.list(format, &page.partitions)?;
        let limits: Vec<&Limit> =
            page.partitions.iter().flat_map(|partition| &partition.limits).collect();
        if !limits.is_empty() {
            out.line("")?;
            out.list(format, &limits)?;
        }
        let holders: Vec<&Holder> =
            page.partitions.iter().flat_map(|partition| &partition.holders).collect();
        if !holders.is_empty() {
            out.line("")?;
            out.list(format, &holders)?;
        }
        let mut notes: Vec<&str> =
            page.partitions.iter().map(|partition| partition.clock_note.as_str()).collect();
        notes.sort_unstable();
        notes.dedup();
        notes.iter().filter(|note| !note.is_empty()).for_each(|note| out.note(note));
        Ok(())
    }
}

/// Everything about one product.
#[derive(Serialize)]
struct Page {
    name: String,
    retention: String,
    compaction: String,
    partitions: Vec<Partition>,
}

/// Why the oldest record of one partition is still there.
#[derive(Serialize)]
struct Partition {
    partition: u32,
    start_offset: u64,
    durable_end: u64,
    oldest_time: Option<Timestamp>,
    reason: String,
    clock_note: String,
    compacted_offset: u64,
    limits: Vec<Limit>,
    holders: Vec<Holder>,
}

impl From<PartitionRetention> for Partition {
    fn from(told: PartitionRetention) -> Self {
        let partition = told.partition;
        Self {
            partition,
            start_offset: told.start_offset,
            durable_end: told.durable_end,
            oldest_time: words::time(told.oldest_time),
            reason: told.reason,
            clock_note: told.clock_note,
            compacted_offset: told.compacted_offset,
            limits: told.limits.iter().map(|limit| Limit::new(partition, limit)).collect(),
            holders: told.holders.into_iter().map(|held| Holder::new(partition, held)).collect(),
        }
    }
}

impl Row for Partition {
    const PLURAL: &'static str = "partitions";
    const HEADER: &'static [&'static str] =
        &["PARTITION", "START OFFSET", "DURABLE END", "OLDEST", "WHY IT IS STILL THERE"];
    const WIDE: &'static [&'static str] = &["COMPACTED TO"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.partition.to_string(),
            self.start_offset.to_string(),
            self.durable_end.to_string(),
            words::when(self.oldest_time),
            self.reason.clone(),
        ]
    }

    fn wide_cells(&self) -> Vec<String> {
        vec![self.compacted_offset.to_string()]
    }
}

/// What one limit would allow.
#[derive(Serialize)]
struct Limit {
    #[serde(skip)]
    partition: u32,
    limit: String,
    first_wanted_offset: u64,
    due_time: Option<Timestamp>,
}

impl Limit {
    fn new(partition: u32, told: &RetentionLimit) -> Self {
        let limit = words::word(told.kind().as_str_name(), "RETENTION_LIMIT_KIND_");
        Self {
            partition,
            limit,
            first_wanted_offset: told.first_wanted_offset,
            due_time: words::time(told.due_time),
        }
    }
}

impl Row for &Limit {
    const PLURAL: &'static str = "limits";
    const HEADER: &'static [&'static str] = &["PARTITION", "LIMIT", "WANTS FROM", "NEXT GOES"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.partition.to_string(),
            self.limit.clone(),
            self.first_wanted_offset.to_string(),
            words::when(self.due_time),
        ]
    }
}

/// A file with bytes of records that are gone.
#[derive(Serialize)]
struct Holder {
    #[serde(skip)]
    partition: u32,
    file: String,
    bytes: u64,
    other_partitions: u32,
    waits_for: String,
}

impl Holder {
    fn new(partition: u32, told: StorageHolder) -> Self {
        let wait = words::word(told.wait().as_str_name(), "STORAGE_WAIT_");
        Self {
            partition,
            file: told.file,
            bytes: told.bytes,
            other_partitions: told.other_partitions,
            waits_for: wait,
        }
    }
}

impl Row for &Holder {
    const PLURAL: &'static str = "files";
    const HEADER: &'static [&'static str] =
        &["PARTITION", "BYTES GONE, STILL IN", "BYTES", "OTHERS IN IT", "WAITS FOR"];

    fn cells(&self) -> Vec<String> {
        let waits_for = match self.waits_for.as_str() {
            "writing" => "the file to be full, or an hour",
            "merge" => "a merge: others in it are wanted",
            "checkpoint" => "two checkpoints, some seconds",
            "readers" => "readers that hold it",
            other => other,
        };
        vec![
            self.partition.to_string(),
            self.file.clone(),
            self.bytes.to_string(),
            self.other_partitions.to_string(),
            waits_for.to_owned(),
        ]
    }
}
