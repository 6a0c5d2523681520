//! `meshlog verify`: reads every byte of a data directory that no broker has open.

use std::path::PathBuf;

use clap::Args;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use meshlog_broker::verify::{self, CheckedFile, FileKind, Problem, Verified};
use serde::Serialize;

use crate::{
    exit::{Exit, Failure, Result},
    output::{self, Format, Out, OutputArgs, Row},
};

/// Arguments of `verify`.
#[derive(Debug, Args)]
#[command(before_help = "Examples:
  meshlog verify /var/lib/meshlog
  meshlog verify ./copy -o json | jq '.problems'")]
#[command(
    after_help = "Nothing is written, and a broker that has the directory open is left alone: stop it first, or
verify a copy. Ends with 0 if every byte is as it was written, 8 if something is damaged, 1 if the
directory could not be read."
)]
pub(crate) struct Verify {
    /// The data directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

impl Verify {
    /// Runs the command.
    pub(crate) fn run(&self, out: &mut Out) -> Result<()> {
        let bar = bar();
        let verified = verify::verify(&self.directory, &mut |at| {
            bar.set_length(at.total);
            bar.set_position(at.done);
        });
        bar.finish_and_clear();
        let view = View::new(verified?);
        if self.output.output.is_for_people() {
            view.for_people(out)?;
        } else {
            out.one(self.output.output, &view)?;
        }
        if view.clean {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Corruption,
            format!(
                "{} is damaged: {} with {} problems; {}",
                self.directory.display(),
                plural(view.files.iter().filter(|file| file.problems > 0).count(), "file"),
                view.problems.len() as u64 + view.problems_left_out + view.at_open.len() as u64,
                if view.loses_records {
                    "a broker serves everything but the offsets named; bring those back from a \
                     backup"
                } else {
                    "no record is lost, and a broker makes again what is damaged; look at the disk"
                }
            ),
        ))
    }
}

fn bar() -> ProgressBar {
    if !output::stderr_is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template(
        "{bar:30} {percent:>3} %  {bytes} of {total_bytes} read, {binary_bytes_per_sec}, {eta} left",
    ) {
        bar.set_style(style);
    }
    bar
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("{count} {noun}") } else { format!("{count} {noun}s") }
}

/// The report as programs read it.
#[derive(Serialize)]
struct View {
    directory: String,
    format_version: u32,
    clean: bool,
    loses_records: bool,
    bytes: u64,
    groups: u64,
    batches: u64,
    records: u64,
    streams: u64,
    unproven_records: u64,
    problems: Vec<ProblemView>,
    problems_left_out: u64,
    at_open: Vec<String>,
    known_damage: Vec<String>,
    files: Vec<FileView>,
}

#[derive(Serialize)]
struct FileView {
    name: String,
    kind: &'static str,
    sequence: Option<u64>,
    bytes: u64,
    groups: u64,
    batches: u64,
    records: u64,
    problems: u64,
}

#[derive(Serialize)]
struct ProblemView {
    file: Option<String>,
    /// First damaged byte.
    from: Option<u64>,
    /// One past the last damaged byte.
    to: Option<u64>,
    stream: Option<u64>,
    product: Option<String>,
    partition: Option<u32>,
    /// First record that cannot be read.
    first_offset: Option<u64>,
    /// One past the last record that cannot be read.
    end_offset: Option<u64>,
    loses_records: bool,
    what: String,
}

impl View {
    fn new(verified: Verified) -> Self {
        let report = &verified.report;
        let files: Vec<_> = report.files.iter().map(FileView::new).collect();
        let problems: Vec<_> =
            report.all_problems().map(|problem| ProblemView::new(problem, &verified)).collect();
        Self {
            directory: report.directory.display().to_string(),
            format_version: report.format_version,
            clean: report.is_clean(),
            loses_records: !report.at_open.is_empty()
                || problems.iter().any(|problem| problem.loses_records),
            bytes: files.iter().map(|file| file.bytes).sum(),
            groups: files.iter().map(|file| file.groups).sum(),
            batches: files.iter().map(|file| file.batches).sum(),
            records: files.iter().map(|file| file.records).sum(),
            streams: report.streams,
            unproven_records: report.unproven_records,
            problems,
            problems_left_out: report.left_out
                + report.files.iter().map(|file| file.left_out).sum::<u64>(),
            at_open: report.at_open.clone(),
            known_damage: report.known_damage.clone(),
            files,
        }
    }

    fn for_people(&self, out: &mut Out) -> Result<()> {
        out.list(Format::Table, &self.files)?;
        out.line("")?;
        for problem in &self.problems {
            out.line(problem.sentence())?;
        }
        if self.problems_left_out > 0 {
            out.line(format_args!("and {} more", HumanCount(self.problems_left_out)))?;
        }
        for sentence in &self.at_open {
            out.line(format_args!("a broker that opens it will say: {sentence}"))?;
        }
        for sentence in &self.known_damage {
            out.line(format_args!("known before: {sentence}"))?;
        }
        if self.unproven_records > 0 {
            out.line(format_args!(
                "{} records of the last write are whole, and the next start keeps them",
                self.unproven_records
            ))?;
        }
        out.line(format_args!(
            "{}: {} records of {} streams in {} files of {}",
            if self.clean { "clean" } else { "DAMAGED" },
            HumanCount(self.records),
            HumanCount(self.streams),
            self.files.len(),
            HumanBytes(self.bytes)
        ))
    }
}

impl FileView {
    fn new(file: &CheckedFile) -> Self {
        Self {
            name: file.name.clone(),
            kind: kind(file.kind),
            sequence: file.sequence.map(|sequence| sequence.0),
            bytes: file.bytes,
            groups: file.groups,
            batches: file.batches,
            records: file.records,
            problems: file.problems.len() as u64 + file.left_out,
        }
    }
}

fn kind(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Format => "format",
        FileKind::Journal => "journal",
        FileKind::Segment => "segment",
        FileKind::OldSegment => "old segment",
        FileKind::SetAside => "set aside",
        FileKind::FreeSlot => "free slot",
        FileKind::Checkpoint => "checkpoint",
        FileKind::Footer => "footer",
        FileKind::Reserve => "reserve",
        FileKind::Unfinished => "unfinished",
        FileKind::Unknown => "not ours",
    }
}

impl Row for FileView {
    const PLURAL: &'static str = "files";
    const HEADER: &'static [&'static str] =
        &["FILE", "KIND", "NUMBER", "GROUPS", "BATCHES", "RECORDS", "BYTES", "PROBLEMS"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.kind.into(),
            self.sequence.map_or_else(|| "-".into(), |sequence| sequence.to_string()),
            self.groups.to_string(),
            self.batches.to_string(),
            self.records.to_string(),
            self.bytes.to_string(),
            self.problems.to_string(),
        ]
    }
}

impl ProblemView {
    fn new(problem: &Problem, verified: &Verified) -> Self {
        let stream = problem.records.as_ref().map(|(stream, _)| *stream);
        let place = stream.and_then(|stream| verified.places.get(&stream));
        Self {
            file: problem.file.clone(),
            from: problem.bytes.as_ref().map(|bytes| bytes.start),
            to: problem.bytes.as_ref().map(|bytes| bytes.end),
            stream: stream.map(|stream| stream.0),
            product: place.map(|place| place.product.clone()),
            partition: place.map(|place| place.partition),
            first_offset: problem.records.as_ref().map(|(_, range)| range.start.0),
            end_offset: problem.records.as_ref().map(|(_, range)| range.end.0),
            loses_records: problem.loses_records,
            what: problem.what.clone(),
        }
    }

    /// File and bytes, what is wrong, and whose records it is about.
    fn sentence(&self) -> String {
        let mut text = String::new();
        if let Some(file) = &self.file {
            text.push_str(file);
            if let (Some(from), Some(to)) = (self.from, self.to) {
                text.push_str(&format!(" from {from} to {to}"));
            }
            text.push_str(": ");
        }
        text.push_str(&self.what);
        if let (Some(product), Some(partition)) = (&self.product, self.partition) {
            text.push_str(&format!(" ({product}, partition {partition})"));
        }
        if !self.loses_records {
            text.push_str(" [nothing is lost]");
        }
        text
    }
}
