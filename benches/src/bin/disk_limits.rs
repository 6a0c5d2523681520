//! D and F: write mode × preparation × size, every write durable before the next.
#![expect(clippy::print_stdout, reason = "the report is this program's output")]

use std::{io, path::PathBuf, thread, time::Duration};

use clap::Parser;
use meshlog_benches::{
    limits::{
        KIB, MIB,
        disk::{DiskSample, JournalFile, Pattern, Preparation, WriteMode},
    },
    report::{Format, Machine, Report, Row, Table, size},
    rounds::Rounds,
};

/// Measures durable writes: how they are made, onto what blocks, how big.
#[derive(Debug, Parser)]
struct Args {
    /// Directory for the measured files; they are removed at the end.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Longest time for one case in one round, in seconds.
    #[arg(long, default_value_t = 0.12)]
    seconds: f64,
    #[command(flatten)]
    rounds: Rounds,
    /// Write sizes in bytes.
    #[arg(long, value_delimiter = ',', default_values_t = SIZES)]
    sizes: Vec<usize>,
    /// Threads that keep a core busy meanwhile, as a busy broker would.
    #[arg(long, default_value_t = 0)]
    busy_threads: usize,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

const SIZES: [usize; 7] = [4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB, 8 * MIB];
/// Bytes of a recycled file; one for each mode.
const RECYCLED: u64 = 256 << 20;
/// Most bytes of a file made for one measurement.
const FRESH: u64 = 128 << 20;

#[derive(Clone, Copy)]
struct Case {
    size: usize,
    preparation: Preparation,
    mode: WriteMode,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let limit = Duration::from_secs_f64(args.seconds);
    let dir = tempfile::tempdir_in(&args.dir)?;
    let pattern = Pattern::new(args.sizes.iter().copied().max().unwrap_or(MIB))?;
    let mut recycled = Vec::new();
    for mode in WriteMode::ALL {
        let path = dir.path().join(format!("recycled-{mode:?}"));
        recycled.push(JournalFile::create(path, mode, Preparation::Recycled, RECYCLED)?);
    }
    let cases: Vec<Case> = args
        .sizes
        .iter()
        .flat_map(|&size| {
            Preparation::ALL.into_iter().flat_map(move |preparation| {
                WriteMode::ALL.into_iter().map(move |mode| Case { size, preparation, mode })
            })
        })
        .collect();
    for _ in 0..args.busy_threads {
        thread::spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
    }
    let series = args.rounds.run(cases, |&Case { size, preparation, mode }| {
        if preparation == Preparation::Recycled {
            return recycled[mode as usize].measure(&pattern, size, limit);
        }
        let capacity = FRESH.min(size as u64 * 4096);
        let path = dir.path().join("fresh");
        JournalFile::create(path, mode, preparation, capacity)?.measure(&pattern, size, limit)
    })?;
    let rows = series
        .measured
        .iter()
        .map(|measured| {
            let Case { size: bytes, preparation, mode } = measured.case;
            Row {
                case: vec![size(bytes), preparation.name().into(), mode.name().into()],
                figures: vec![
                    measured.spread(DiskSample::writes_per_second),
                    measured.spread(DiskSample::gigabytes_per_second),
                    measured.spread(DiskSample::cpu_micros_per_write),
                ],
            }
        })
        .collect();
    let report = Report {
        machine: Machine::describe(Some(dir.path()))?,
        rounds: args.rounds.rounds,
        noise: series.noise,
        tables: vec![Table {
            title: "Durable writes, one at a time",
            labels: vec!["size", "blocks", "mode"],
            figures: vec!["writes/s", "GB/s", "CPU µs per write"],
            rows,
        }],
    };
    println!("{}", report.render(args.output)?);
    Ok(())
}
