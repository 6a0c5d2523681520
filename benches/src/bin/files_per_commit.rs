//! What a commit costs in one file, and spread over a file for each partition.
#![expect(clippy::print_stdout, reason = "the report is this program's output")]

use std::{io, path::PathBuf, time::Duration};

use clap::Parser;
use meshlog_benches::{
    limits::{
        KIB, MIB,
        disk::{DiskSample, Pattern},
        spread::{Files, SyncWith},
    },
    report::{Format, Machine, Report, Row, Table, size},
    rounds::Rounds,
};

/// Measures commits of N partitions: one shared file against N files.
#[derive(Debug, Parser)]
struct Args {
    /// Directory for the measured files; they are removed at the end.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Longest time for one case in one round, in seconds.
    #[arg(long, default_value_t = 0.2)]
    seconds: f64,
    #[command(flatten)]
    rounds: Rounds,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

const PARTITIONS: [usize; 5] = [1, 4, 16, 64, 256];
/// Bytes a partition brings to a commit.
const SHARE: usize = 4 * KIB;
/// Bytes of a commit that is split over its partitions.
const SPLIT: usize = MIB;
/// Bytes of all files of one case together.
const TOTAL: usize = 64 * MIB;

#[derive(Clone, Copy)]
enum Layout {
    /// One file for all partitions.
    Shared,
    /// A file each.
    Each(SyncWith),
}

#[derive(Clone, Copy)]
struct Case {
    partitions: usize,
    share: usize,
    layout: Layout,
    grows: bool,
}

impl Case {
    fn layout(&self) -> String {
        let blocks = if self.grows { "growing" } else { "pre-written" };
        match self.layout {
            Layout::Shared => format!("one file, {blocks}, fdatasync"),
            Layout::Each(SyncWith::EachFile) => format!("a file each, {blocks}, fdatasync each"),
            Layout::Each(SyncWith::FileSystem) => format!("a file each, {blocks}, one syncfs"),
        }
    }
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let limit = Duration::from_secs_f64(args.seconds);
    let root = tempfile::tempdir_in(&args.dir)?;
    let pattern = Pattern::new(SPLIT)?;
    let layouts = [
        (Layout::Shared, false),
        (Layout::Each(SyncWith::EachFile), false),
        (Layout::Each(SyncWith::EachFile), true),
        (Layout::Each(SyncWith::FileSystem), true),
    ];
    let mut cases = Vec::new();
    for partitions in PARTITIONS {
        for (layout, grows) in layouts {
            cases.push(Case { partitions, share: SHARE, layout, grows });
        }
    }
    for partitions in PARTITIONS {
        for (layout, grows) in layouts {
            cases.push(Case { partitions, share: SPLIT / partitions, layout, grows });
        }
    }
    let series = args.rounds.run(cases, |&Case { partitions, share, layout, grows }| {
        let dir = tempfile::tempdir_in(root.path())?;
        let commits = (TOTAL / (share * partitions)).min(2048);
        let (count, share, sync) = match layout {
            Layout::Shared => (1, share * partitions, SyncWith::EachFile),
            Layout::Each(sync) => (partitions, share, sync),
        };
        let mut files = Files::create(dir.path(), count, share, commits, !grows)?;
        let sample = files.measure(&pattern, sync, grows, limit)?;
        drop(files);
        dir.close()?;
        std::fs::File::open(root.path())?.sync_all()?;
        Ok(sample)
    })?;
    let rows: Vec<Row> = series
        .measured
        .iter()
        .map(|measured| Row {
            case: vec![
                measured.case.partitions.to_string(),
                size(measured.case.share),
                measured.case.layout(),
            ],
            figures: vec![
                measured.spread(DiskSample::writes_per_second),
                measured.spread(DiskSample::gigabytes_per_second),
                measured.spread(DiskSample::cpu_micros_per_write),
            ],
        })
        .collect();
    let half = rows.len() / 2;
    let table = |title, rows: &[Row]| Table {
        title,
        labels: vec!["partitions", "bytes of each", "layout"],
        figures: vec!["commits/s", "GB/s", "CPU µs per commit"],
        rows: rows.to_vec(),
    };
    let report = Report {
        machine: Machine::describe(Some(root.path()))?,
        rounds: args.rounds.rounds,
        noise: series.noise,
        tables: vec![
            table("Commits in which every partition brings 4 KiB", &rows[..half]),
            table("Commits of 1 MiB split over the partitions", &rows[half..]),
        ],
    };
    println!("{}", report.render(args.output)?);
    Ok(())
}
