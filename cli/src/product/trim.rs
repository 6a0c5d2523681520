//! `meshlog product trim`.

use clap::{ArgGroup, Args};
use clap_complete::ArgValueCompleter;
use jiff::Timestamp;
use meshlog_client::proto::{
    Position, Positions, TrimProductRequest, TrimmedPartition, trim_product_request::Which,
};
use serde::Serialize;

use super::erase;
use crate::{
    change::DryRunArgs,
    completion,
    confirm::ConfirmArgs,
    exit::{Failure, Result},
    output::{Out, OutputArgs, Row},
    settings::ServerArgs,
    words,
};

/// Arguments of `product trim`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true))]
pub(crate) struct Trim {
    /// `<domain>.<name>`
    #[arg(add = ArgValueCompleter::new(completion::products))]
    name: String,
    /// Records appended before this time go: a day, or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = words::parse_time, group = "which")]
    before: Option<Timestamp>,
    /// Records before this offset go
    #[arg(long, value_name = "OFFSET", group = "which")]
    to: Option<u64>,
    /// Only of this partition
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    /// Wait until no file of the broker holds a byte of these records any more
    #[arg(long)]
    erase: bool,
    #[command(flatten)]
    confirm: ConfirmArgs,
    #[command(flatten)]
    change: DryRunArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl Trim {
    /// Runs the command.
    pub(super) async fn run(self, out: &mut Out) -> Result<()> {
        let catalog = self.server.connect().await?.catalog();
        let product = catalog.get_product(self.name.as_str()).await?;
        let which = match (self.before, self.to) {
            (Some(time), _) => Which::BeforeTime(words::to_wire(time)),
            (None, offset) => Which::BeforeOffsets(Positions {
                positions: vec![Position {
                    partition: match self.partition {
                        None if product.partitions > 1 => {
                            return Err(Failure::usage(format!(
                                "{} has {} partitions: an offset needs --partition N",
                                product.name, product.partitions
                            )));
                        }
                        partition => partition.unwrap_or_default(),
                    },
                    offset: offset.unwrap_or_default(),
                }],
            }),
        };
        let mut request = TrimProductRequest {
            product: product.name.clone(),
            product_id: product.id,
            partitions: match which {
                Which::BeforeTime(_) => self.partition.into_iter().collect(),
                Which::BeforeOffsets(_) => Vec::new(),
            },
            which: Some(which),
            validate_only: true,
            erase: self.erase,
        };
        let plan = catalog.trim_product(request.clone()).await?;
        let rows: Vec<Trimmed> = plan.partitions.iter().map(Trimmed::from).collect();
        let records = rows.iter().map(|row| row.gone).sum();
        let settings = product.effective_settings.unwrap_or_default();
        // Compaction has left holes.
        let bound = if settings.compaction.is_some() { "at most " } else { "" };
        let records = match records {
            0 => {
                out.list(self.output.output, &rows)?;
                out.note(format_args!("{} begins there or later already", product.name));
                if self.erase && !self.change.dry_run {
                    erase::tell(Some(catalog.erase_deleted_records(product.name).await?), out);
                }
                return Ok(());
            }
            records => format!("{bound}{}", words::counted(records, "record")),
        };
        if self.change.dry_run {
            out.list(self.output.output, &rows)?;
            out.note(format_args!("{records} of {} would go", product.name));
            out.note("dry run: nothing was changed");
            return Ok(());
        }
        let cursors = catalog.list_cursors(product.name.as_str(), "").await?;
        let is_behind = |at: &meshlog_client::proto::CursorPosition| {
            let row = rows.iter().find(|row| row.partition == at.partition);
            row.is_some_and(|row| at.offset < row.start_offset)
        };
        let behind = cursors.iter().filter(|cursor| cursor.positions.iter().any(is_behind));
        let behind = match behind.count() as u64 {
            0 => String::new(),
            1 => ", 1 cursor has not read all of them".to_owned(),
            count => format!(", {} have not read all of them", words::counted(count, "cursor")),
        };
        let question = format!("Delete {records} of {} for good{behind}?", product.name);
        self.confirm.ask(&question, "nothing was deleted")?;
        // What was asked about, whatever has been appended meanwhile.
        let positions = plan.partitions.iter();
        let positions =
            positions.map(|at| Position { partition: at.partition, offset: at.start_offset });
        request.which = Some(Which::BeforeOffsets(Positions { positions: positions.collect() }));
        request.partitions = Vec::new();
        request.validate_only = false;
        let done = catalog.trim_product(request).await?;
        let rows: Vec<Trimmed> = done.partitions.iter().map(Trimmed::from).collect();
        out.list(self.output.output, &rows)?;
        out.note(format_args!("deleted {records} of {}", product.name));
        erase::tell(done.erased, out);
        Ok(())
    }
}

/// What goes, or has gone, of one partition.
#[derive(Serialize)]
struct Trimmed {
    partition: u32,
    previous_start_offset: u64,
    start_offset: u64,
    durable_end: u64,
    /// Offsets.
    gone: u64,
}

impl From<&TrimmedPartition> for Trimmed {
    fn from(trimmed: &TrimmedPartition) -> Self {
        Self {
            partition: trimmed.partition,
            previous_start_offset: trimmed.previous_start_offset,
            start_offset: trimmed.start_offset,
            durable_end: trimmed.durable_end,
            gone: trimmed.start_offset.saturating_sub(trimmed.previous_start_offset),
        }
    }
}

impl Row for Trimmed {
    const PLURAL: &'static str = "partitions";
    const HEADER: &'static [&'static str] =
        &["PARTITION", "BEGAN AT", "BEGINS AT", "DURABLE END", "GONE"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.partition.to_string(),
            self.previous_start_offset.to_string(),
            self.start_offset.to_string(),
            self.durable_end.to_string(),
            self.gone.to_string(),
        ]
    }
}
