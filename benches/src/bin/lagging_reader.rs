//! The journal's write pattern with a reader at the tail, a second behind and ten seconds behind.
#![expect(clippy::print_stdout, reason = "the report is this program's output")]

use std::{io, path::PathBuf, time::Duration};

use clap::Parser;
use meshlog_benches::{
    limits::{
        MIB,
        disk::{Pattern, WriteMode},
        lag::{JournalRing, Reader},
    },
    report::{Format, Machine, Report, Row, Table, size},
    rounds::Rounds,
};

/// Measures durable writes to recycled journal files while a reader follows.
#[derive(Debug, Parser)]
struct Args {
    /// Directory for the measured files; they are removed at the end.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Time for one case in one round, in seconds.
    #[arg(long, default_value_t = 0.4)]
    seconds: f64,
    #[command(flatten)]
    rounds: Rounds,
    /// Journal files of 128 MiB.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(6..))]
    files: u16,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Clone, Copy)]
struct Case {
    size: usize,
    mode: WriteMode,
    direct_reads: bool,
    reader: Reader,
}

impl Case {
    fn reader(&self) -> String {
        let how = if self.direct_reads { "O_DIRECT reads" } else { "buffered reads" };
        match self.reader {
            Reader::None => "none".into(),
            Reader::Tail => "0 s: from memory".into(),
            Reader::Behind(_) => format!("1 s: {how}"),
            Reader::BehindUncached(_) => format!("10 s: {how}, nothing cached"),
        }
    }
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let limit = Duration::from_secs_f64(args.seconds);
    let dir = tempfile::tempdir_in(&args.dir)?;
    let pattern = Pattern::new(8 * MIB)?;
    let mut ring = JournalRing::create(dir.path(), args.files.into(), 128 * MIB as u64)?;
    // Far enough from the writer's other side that a reader which keeps up is never overtaken.
    let distance = ring.capacity() - 5 * 128 * MIB as u64;
    let (near, far) = (Reader::Behind(distance), Reader::BehindUncached(distance));
    let readers = [
        (WriteMode::Buffered, false, Reader::None),
        (WriteMode::Buffered, false, Reader::Tail),
        (WriteMode::Buffered, false, near),
        (WriteMode::Buffered, false, far),
        (WriteMode::Direct, false, Reader::None),
        (WriteMode::Direct, false, Reader::Tail),
        (WriteMode::Direct, false, near),
        (WriteMode::Direct, true, near),
    ];
    let cases: Vec<Case> = [MIB, 8 * MIB]
        .into_iter()
        .flat_map(|size| {
            readers.map(|(mode, direct_reads, reader)| Case { size, mode, direct_reads, reader })
        })
        .collect();
    let series = args.rounds.run(cases, |&Case { size, mode, direct_reads, reader }| {
        ring.turn_over(mode, &pattern)?;
        ring.measure(mode, size, reader, direct_reads, &pattern, limit)
    })?;
    let rows = series
        .measured
        .iter()
        .map(|measured| {
            let Case { size: bytes, mode, .. } = measured.case;
            Row {
                case: vec![size(bytes), mode.name().into(), measured.case.reader()],
                figures: vec![
                    measured.spread(|sample| sample.written),
                    measured.spread(|sample| sample.read),
                    measured.spread(|sample| sample.worst_write),
                    measured.spread(|sample| sample.cores),
                ],
            }
        })
        .collect();
    let report = Report {
        machine: Machine::describe(Some(dir.path()))?,
        rounds: args.rounds.rounds,
        noise: series.noise,
        tables: vec![Table {
            title: "Journal writes with one reader behind",
            labels: vec!["group", "mode", "reader"],
            figures: vec!["written GB/s", "read GB/s", "worst write ms", "cores used"],
            rows,
        }],
    };
    println!("{}", report.render(args.output)?);
    Ok(())
}
