//! `meshlog recover`: what is left of a data directory that lost all its checkpoints.

use std::ops::Range;
use std::path::PathBuf;

use clap::Args;
use indicatif::HumanCount;
use meshlog_broker::{
    recover::{self, Recovered},
    verify::StreamId,
};
use serde::Serialize;

use crate::{
    exit::{Exit, Failure, Result},
    output::{Format, Out, OutputArgs, Row},
};

/// Arguments of `recover`.
#[derive(Debug, Args)]
#[command(before_help = "Examples:
  meshlog recover /var/lib/meshlog
  meshlog recover /var/lib/meshlog --yes")]
#[command(
    after_help = "For a directory that `serve` refuses to open because no checkpoint in it is whole. Every file
is read; nothing is written without --yes, and with it one new checkpoint. Ends with 0 if a broker
can open the directory, 8 if something is still to be done. A backup, if there is one, is better."
)]
pub(crate) struct Recover {
    /// The data directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Write the checkpoint that lets a broker open the directory
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl Recover {
    /// Runs the command.
    pub(crate) fn run(&self, out: &mut Out) -> Result<()> {
        let view = View::new(&recover::recover(&self.directory, self.yes)?);
        if self.output.output.is_for_people() {
            view.for_people(out)?;
        } else {
            out.one(self.output.output, &view)?;
        }
        if !view.needed || view.written {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Corruption,
            format!(
                "{0} cannot be opened as it is, and nothing was written; take a copy of it, then \
                 run `meshlog recover {0} --yes`",
                self.directory.display()
            ),
        ))
    }
}

/// The report as programs read it.
#[derive(Serialize)]
struct View {
    directory: String,
    /// No checkpoint is whole, and the journal does not reach back to its beginning.
    needed: bool,
    written: bool,
    /// What is wrong with the checkpoints that are there.
    checkpoints: Vec<String>,
    /// The next start goes through the journal files from this one.
    tail_from: Option<u64>,
    /// One past the newest of them.
    tail_to: Option<u64>,
    files_read: u64,
    left_out: Vec<String>,
    records_read: u64,
    damaged_groups: u64,
    streams: Vec<StreamView>,
    lost: Vec<LostView>,
    keys: u64,
    producers: u64,
    may_be_undone: Vec<String>,
}

#[derive(Serialize)]
struct StreamView {
    stream: u64,
    product: Option<String>,
    partition: Option<u32>,
    /// The first offset that is left.
    start_offset: u64,
    /// One past the last one before the tail.
    end_offset: u64,
}

#[derive(Serialize)]
struct LostView {
    stream: u64,
    product: Option<String>,
    partition: Option<u32>,
    first_offset: u64,
    end_offset: u64,
}

impl View {
    fn new(recovered: &Recovered) -> Self {
        let report = &recovered.report;
        let place = |stream: StreamId| recovered.places.get(&stream);
        Self {
            directory: report.directory.display().to_string(),
            needed: !report.is_needless(),
            written: report.written,
            checkpoints: report.checkpoints.clone(),
            tail_from: report.tail.as_ref().map(|tail| tail.start.0),
            tail_to: report.tail.as_ref().map(|tail| tail.end.0),
            files_read: report.files,
            left_out: report.left_out.clone(),
            records_read: report.records,
            damaged_groups: report.damaged_groups,
            streams: report
                .streams
                .iter()
                .map(|found| StreamView {
                    stream: found.stream.0,
                    product: place(found.stream).map(|place| place.product.clone()),
                    partition: place(found.stream).map(|place| place.partition),
                    start_offset: found.start.0,
                    end_offset: found.end.0,
                })
                .collect(),
            lost: report
                .lost
                .iter()
                .map(|(stream, Range { start, end })| LostView {
                    stream: stream.0,
                    product: place(*stream).map(|place| place.product.clone()),
                    partition: place(*stream).map(|place| place.partition),
                    first_offset: start.0,
                    end_offset: end.0,
                })
                .collect(),
            keys: report.values,
            producers: report.producers,
            may_be_undone: report.may_be_undone.clone(),
        }
    }

    fn for_people(&self, out: &mut Out) -> Result<()> {
        for sentence in &self.checkpoints {
            out.line(sentence)?;
        }
        let (Some(from), Some(to)) = (self.tail_from, self.tail_to) else {
            return out.line(format_args!(
                "nothing to recover: a broker opens {} as it is",
                self.directory
            ));
        };
        out.list(Format::Table, &self.streams)?;
        out.line("")?;
        for lost in &self.lost {
            out.line(format_args!(
                "LOST: offsets {} to {} of {}; reading them answers DATA_LOSS",
                lost.first_offset,
                lost.end_offset,
                name(lost.stream, lost.product.as_deref(), lost.partition)
            ))?;
        }
        for sentence in &self.may_be_undone {
            out.line(format_args!("may be undone: {sentence}"))?;
        }
        out.line(format_args!(
            "{}: journal files {from} to {} follow one another; {} records in {} older files were \
             read, {} of their groups are damaged",
            if self.written { "written" } else { "to be written" },
            to - 1,
            HumanCount(self.records_read),
            self.files_read,
            self.damaged_groups
        ))
    }
}

fn name(stream: u64, product: Option<&str>, partition: Option<u32>) -> String {
    match (product, partition) {
        (Some(product), Some(partition)) => format!("{product}, partition {partition}"),
        _ => format!("stream {stream}"),
    }
}

impl Row for StreamView {
    const PLURAL: &'static str = "streams before the tail";
    const HEADER: &'static [&'static str] = &["STREAM", "PRODUCT", "PARTITION", "FROM", "TO"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.stream.to_string(),
            self.product.clone().unwrap_or_else(|| "-".into()),
            self.partition.map_or_else(|| "-".into(), |partition| partition.to_string()),
            self.start_offset.to_string(),
            self.end_offset.to_string(),
        ]
    }
}
