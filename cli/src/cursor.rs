//! `meshlog cursor`: where named readers stand.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;
use jiff::Timestamp;
use meshlog_client::{
    Catalog,
    proto::{CommitOffsetsRequest, Cursor, DeleteCursorRequest, GetOffsetsRequest, Position},
};
use serde::Serialize;

use crate::{
    change::{Change, DryRunArgs},
    completion,
    confirm::ConfirmArgs,
    consume::From as Start,
    exit::{Exit, Failure, Result},
    output::{Out, OutputArgs, Row},
    settings::ServerArgs,
    words,
};

/// List, show, move and delete named cursors.
#[derive(Debug, Subcommand)]
pub(crate) enum CursorCommand {
    /// List cursors: one line per cursor and product
    #[command(before_help = "Examples:
  meshlog cursor list
  meshlog cursor list --product ops.flights -o wide")]
    List(List),
    /// Show where a cursor stands, partition by partition
    #[command(before_help = "Example:
  meshlog cursor show nightly-report")]
    Show(Show),
    /// Move a cursor, back or on; a program that uses it now is told at its next commit
    #[command(before_help = "Examples:
  meshlog cursor reset nightly-report ops.flights --to earliest
  meshlog cursor reset nightly-report ops.flights --dry-run \\
    --to 2026-11-20T12:00:00Z")]
    Reset(Reset),
    /// Forget a cursor, in one product or in all
    #[command(before_help = "Examples:
  meshlog cursor delete nightly-report ops.flights
  meshlog cursor delete nightly-report --yes")]
    Delete(Delete),
}

/// Arguments of `cursor list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only of this product
    #[arg(long, value_name = "PRODUCT", add = ArgValueCompleter::new(completion::products))]
    product: Option<String>,
    /// Only of this name
    #[arg(long, value_name = "CURSOR", add = ArgValueCompleter::new(completion::cursors))]
    cursor: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `cursor show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Name of the cursor
    #[arg(add = ArgValueCompleter::new(completion::cursors))]
    name: String,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `cursor reset`.
#[derive(Debug, Args)]
pub(crate) struct Reset {
    /// Name of the cursor
    #[arg(add = ArgValueCompleter::new(completion::cursors))]
    name: String,
    /// `<domain>.<name>` of the product
    #[arg(add = ArgValueCompleter::new(completion::products))]
    product: String,
    /// Where to: earliest, latest, an offset, or a time (RFC 3339) of the append
    #[arg(long, value_name = "POSITION")]
    to: Start,
    /// Only this partition
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    #[command(flatten)]
    confirm: ConfirmArgs,
    #[command(flatten)]
    change: DryRunArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `cursor delete`.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Name of the cursor
    #[arg(add = ArgValueCompleter::new(completion::cursors))]
    name: String,
    /// Only in this product, `<domain>.<name>`
    #[arg(add = ArgValueCompleter::new(completion::products))]
    product: Option<String>,
    #[command(flatten)]
    confirm: ConfirmArgs,
    #[command(flatten)]
    change: DryRunArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl CursorCommand {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        match self {
            Self::List(args) => {
                let catalog = args.server.connect().await?.catalog();
                let (product, cursor) = (args.product, args.cursor);
                let found = catalog
                    .list_cursors(product.unwrap_or_default(), cursor.unwrap_or_default())
                    .await?;
                let views: Vec<View> = found.into_iter().map(View::from).collect();
                out.list(args.output.output, &views)
            }
            Self::Show(args) => {
                let catalog = args.server.connect().await?.catalog();
                let found = find(&catalog, &args.name, "").await?;
                match args.output.output.is_for_people() {
                    true => {
                        let rows: Vec<PositionRow> = found.iter().flat_map(rows).collect();
                        out.list(args.output.output, &rows)
                    }
                    false => out.list(args.output.output, &found),
                }
            }
            Self::Reset(args) => reset(args, out).await,
            Self::Delete(args) => delete(args, out).await,
        }
    }
}

async fn reset(args: Reset, out: &mut Out) -> Result<()> {
    let catalog = args.server.connect().await?.catalog();
    let request = GetOffsetsRequest {
        cursor: args.name.clone(),
        product: args.product.clone(),
        product_id: String::new(),
    };
    let found = catalog.get_offsets(request).await?;
    let time = match args.to {
        Start::Time(time) => Some(time.into()),
        _ => None,
    };
    let partitions: Vec<u32> = args.partition.into_iter().collect();
    let offsets = catalog.list_offsets(args.product.as_str(), &partitions, time).await?;
    if let (Start::Offset(_), 2..) = (&args.to, offsets.len()) {
        return Err(Failure::usage(format!(
            "{} has {} partitions: an offset needs --partition N",
            args.product,
            offsets.len()
        )));
    }
    let to = |at: &meshlog_client::proto::PartitionOffsets| match args.to {
        Start::Earliest => at.start_offset,
        Start::Latest => at.durable_end,
        Start::Offset(offset) => offset,
        Start::Time(_) => at.offset_at_time.unwrap_or(at.durable_end),
    };
    let positions: BTreeMap<u32, u64> = offsets.iter().map(|at| (at.partition, to(at))).collect();
    let before = View::from(found.clone());
    let ends = offsets.iter().map(|at| (at.partition, at.durable_end)).collect();
    let planned = before.moved(&positions, &ends);
    let format = args.output.output;
    if args.change.dry_run {
        return Change { dry_run: true, before: Some(&before), after: Some(&planned) }
            .show(format, out);
    }
    let question = format!(
        "Move the cursor {} in {}: {} to read instead of {}?",
        args.name,
        args.product,
        words::counted(planned.lag, "record"),
        before.lag
    );
    args.confirm.ask(&question, "the cursor was not moved")?;
    let position = |(partition, offset)| Position { partition, offset };
    let request = CommitOffsetsRequest {
        cursor: args.name,
        product: args.product,
        product_id: found.product_id,
        positions: positions.into_iter().map(position).collect(),
        etag: found.etag,
    };
    let after = View::from(catalog.commit_offsets(request).await?);
    Change { dry_run: false, before: Some(&before), after: Some(&after) }.show(format, out)
}

async fn delete(args: Delete, out: &mut Out) -> Result<()> {
    let catalog = args.server.connect().await?.catalog();
    let product = args.product.unwrap_or_default();
    let found = find(&catalog, &args.name, &product).await?;
    let products: Vec<&str> = found.iter().map(|cursor| cursor.product.as_str()).collect();
    let place = match products.as_slice() {
        [one] => (*one).to_owned(),
        many => words::counted(many.len() as u64, "product"),
    };
    if args.change.dry_run {
        for before in &found {
            Change { dry_run: false, before: Some(before), after: None }
                .show(args.output.output, out)?;
        }
        out.note("dry run: nothing was changed");
        return Ok(());
    }
    args.confirm
        .ask(&format!("Delete the cursor {} in {place}?", args.name), "nothing was deleted")?;
    let request = DeleteCursorRequest { cursor: args.name.clone(), product };
    catalog.delete_cursor(request).await?;
    if !args.output.output.is_for_people() {
        out.list(args.output.output, &found)?;
    }
    out.note(format_args!("deleted {} in {place}", args.name));
    Ok(())
}

/// The cursors of a name, in one product or in all; at least one.
async fn find(catalog: &Catalog, name: &str, product: &str) -> Result<Vec<View>> {
    let found = catalog.list_cursors(product, name).await?;
    if found.is_empty() {
        let place = if product.is_empty() { String::new() } else { format!(" in {product}") };
        let message = format!(
            "there is no cursor `{name}`{place}; `meshlog cursor list` shows those there are"
        );
        return Err(Failure::new(Exit::NotFound, message));
    }
    Ok(found.into_iter().map(View::from).collect())
}

/// A cursor in a product, as the program shows it.
#[derive(Clone, Serialize)]
struct View {
    name: String,
    product: String,
    product_id: String,
    positions: Vec<At>,
    lag: u64,
    lost: u64,
    etag: String,
    update_time: Option<Timestamp>,
    updated_by: String,
}

#[derive(Clone, Serialize)]
struct At {
    partition: u32,
    offset: u64,
    lag: u64,
    lost: u64,
}

impl From<Cursor> for View {
    fn from(cursor: Cursor) -> Self {
        let positions = cursor.positions.iter().map(|at| At {
            partition: at.partition,
            offset: at.offset,
            lag: at.lag,
            lost: at.lost,
        });
        Self {
            name: cursor.name,
            product: cursor.product,
            product_id: cursor.product_id,
            positions: positions.collect(),
            lag: cursor.lag,
            lost: cursor.positions.iter().map(|at| at.lost).sum(),
            etag: cursor.etag,
            update_time: words::time(cursor.update_time),
            updated_by: cursor.updated_by,
        }
    }
}

impl View {
    /// As it would be at other positions, given the durable ends of these partitions.
    fn moved(&self, positions: &BTreeMap<u32, u64>, ends: &BTreeMap<u32, u64>) -> Self {
        let mut moved = self.clone();
        moved.positions.retain(|at| !positions.contains_key(&at.partition));
        moved.positions.extend(positions.iter().map(|(&partition, &offset)| {
            let end = ends.get(&partition).copied().unwrap_or(offset);
            At { partition, offset, lag: end.saturating_sub(offset), lost: 0 }
        }));
        moved.positions.sort_by_key(|at| at.partition);
        moved.lag = moved.positions.iter().map(|at| at.lag).sum();
        moved.lost = moved.positions.iter().map(|at| at.lost).sum();
        moved
    }
}

impl Row for View {
    const PLURAL: &'static str = "cursors";
    const HEADER: &'static [&'static str] =
        &["CURSOR", "PRODUCT", "LAG", "LOST", "COMMITTED", "BY"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.product.clone(),
            self.lag.to_string(),
            self.lost.to_string(),
            words::when(self.update_time),
            self.updated_by.clone(),
        ]
    }
}

/// One partition of a cursor.
#[derive(Serialize)]
struct PositionRow {
    product: String,
    #[serde(flatten)]
    at: At,
    update_time: Option<Timestamp>,
    updated_by: String,
}

fn rows(cursor: &View) -> impl Iterator<Item = PositionRow> {
    cursor.positions.iter().map(|at| PositionRow {
        product: cursor.product.clone(),
        at: at.clone(),
        update_time: cursor.update_time,
        updated_by: cursor.updated_by.clone(),
    })
}

impl Row for PositionRow {
    const PLURAL: &'static str = "positions";
    const HEADER: &'static [&'static str] =
        &["PRODUCT", "PARTITION", "OFFSET", "LAG", "LOST", "COMMITTED", "BY"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.product.clone(),
            self.at.partition.to_string(),
            self.at.offset.to_string(),
            self.at.lag.to_string(),
            self.at.lost.to_string(),
            words::when(self.update_time),
            self.updated_by.clone(),
        ]
    }
}
