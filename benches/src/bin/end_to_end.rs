//! Meshlog end to end, each case beside the limit it runs against, in one run.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the report is this program's output"
)]

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;
use meshlog_benches::limits::disk::{self, DiskSample};
use meshlog_benches::limits::wire::{BareWire, Flavour, WireSettings};
use meshlog_benches::limits::{KIB, MIB};
use meshlog_benches::load::OtherLoad;
use meshlog_benches::meshlog::{Load, UnderTest, start_binary};
use meshlog_benches::report::{Format, Machine, Report, Row, Spread, Table};
use meshlog_benches::rounds::Noise;

/// The allocator of the broker's binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures durable appends, reads, start and memory, with D, F, G and g beside them.
#[derive(Debug, Parser)]
struct Args {
    /// Time of one case in one round, in seconds.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Time of the sustained append, in seconds; 0 leaves it out.
    #[arg(long, default_value_t = 60.0)]
    sustained: f64,
    /// Rounds; in each, every case follows the limit it is held against.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Products of the case with many.
    #[arg(long, default_value_t = 10_000)]
    products: usize,
    /// The `meshlog` binary; by default the one beside this program.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Where to put data directories; about 30 GB.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// How long the sustained append stays with one product.
const SLICE: Duration = Duration::from_secs(4);

/// The figures of one round.
#[derive(Default)]
struct Round {
    d: f64,
    f: f64,
    g_in: f64,
    g_in_64k: f64,
    g_out: f64,
    g_64: f64,
    g_1: f64,
    large: f64,
    small: f64,
    small_records: f64,
    many: f64,
    unary_64: f64,
    syncs_per_1000: f64,
    unary_1_p50: f64,
    bare_1_p50: f64,
    read: f64,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let root = match &args.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let mut rounds = Vec::new();
    let (mut other, mut noisy) = (0.0, 0);
    for number in 0..args.rounds {
        eprintln!("round {} of {}", number + 1, args.rounds);
        let load = OtherLoad::start()?;
        rounds.push(round(&args, root.path())?);
        let cores = load.cores()?;
        other += cores;
        noisy += usize::from(cores > 0.3);
    }
    let sustained = sustained(&args, root.path())?;
    let count = args.rounds.max(1) as f64;
    let noise = Noise { other_cores: other / count, noisy_share: noisy as f64 / count };
    let report = Report {
        machine: Machine::describe(Some(root.path()))?,
        rounds: args.rounds,
        noise,
        tables: vec![limits(&rounds), cases(&rounds, sustained), standing(&args, root.path())?],
    };
    println!("{}", report.render(args.output)?);
    Ok(())
}

fn limit(args: &Args) -> Duration {
    Duration::from_secs_f64(args.seconds / 5.0)
}

fn round(args: &Args, root: &Path) -> io::Result<Round> {
    let mut round = Round::default();
    let time = Duration::from_secs_f64(args.seconds);
    let short = limit(args);
    let server = Flavour::TwoWorkers;
    let bare = BareWire::start(WireSettings { server, ..WireSettings::default() })?;
    let directory = tempfile::tempdir_in(root)?;
    let broker = UnderTest::start(directory.path())?;
    let load = Load::connect(broker.address())?;
    let one = broker.create_products("one", 1)?;
    let many = broker.create_products("many", args.products)?;

    round.d = durable(root, 8 * MIB, short)?.gigabytes_per_second();
    round.g_in = bare.stream_in(MIB, short)?.gigabytes_per_second();
    round.large = load.append(&one, MIB, KIB, 32 * MIB, time)?.gigabytes_per_second();

    round.g_in_64k = bare.stream_in(64 * KIB, short)?.gigabytes_per_second();
    let small = load.append(&one, 64 * KIB, 100, 16 * MIB, time)?;
    round.small = small.gigabytes_per_second();
    round.small_records = small.million_records_per_second();
    round.many = load.append(&many, 64 * KIB, 100, 16 * MIB, time)?.gigabytes_per_second();

    round.f = durable(root, 4 * KIB, short)?.writes_per_second();
    round.g_64 = bare.unary(KIB, 64, short)?.calls_per_second();
    let syncs = broker.syncs();
    let unary = load.append_unary(&one[0], KIB, 64, time)?;
    round.unary_64 = unary.requests_per_second();
    round.syncs_per_1000 = (broker.syncs() - syncs) as f64 * 1000.0 / unary.requests as f64;

    let bare_1 = bare.unary(KIB, 1, short)?;
    (round.g_1, round.bare_1_p50) = (bare_1.calls_per_second(), bare_1.micros_at(0.5));
    let unary = load.append_unary(&one[0], KIB, 1, short)?;
    let p50 = unary.latency.map_or(0, |latency| latency.value_at_quantile(0.5));
    round.unary_1_p50 = p50 as f64 / 1000.0;

    // A product of 512 MiB, read twice: the second time it is in the page cache.
    let read = broker.create_products("read", 1)?;
    while load.read(&read[0])?.bytes < 512 << 20 {
        load.append(&read, MIB, KIB, 32 * MIB, Duration::from_millis(200))?;
    }
    round.g_out = bare.stream_out(MIB, short)?.gigabytes_per_second();
    round.read = load.read(&read[0])?.gigabytes_per_second();
    Ok(round)
}

/// D and F: durable writes of a size.
fn durable(root: &Path, size: usize, time: Duration) -> io::Result<DiskSample> {
    disk::durable(root, "limit", size, time)
}

/// The long append: GB/s, D before and after, G before and after.
fn sustained(args: &Args, root: &Path) -> io::Result<Option<[f64; 3]>> {
    if args.sustained <= 0.0 {
        return Ok(None);
    }
    eprintln!("sustained append for {} s", args.sustained);
    let short = limit(args);
    let bare = BareWire::start(WireSettings::default())?;
    let directory = tempfile::tempdir_in(root)?;
    let broker = UnderTest::start(directory.path())?;
    let load = Load::connect(broker.address())?;
    let limits = || -> io::Result<(f64, f64)> {
        Ok((
            durable(root, 8 * MIB, short)?.gigabytes_per_second(),
            bare.stream_in(MIB, short)?.gigabytes_per_second(),
        ))
    };
    let before = limits()?;
    // A product for each slice, deleted one slice later: its files are used again, as retention would have it.
    let slices = (args.sustained / SLICE.as_secs_f64()).ceil() as usize;
    let products = broker.create_products("slice", slices)?;
    let (mut bytes, mut elapsed) = (0, Duration::ZERO);
    for (number, product) in products.iter().enumerate() {
        let appended = load.append(std::slice::from_ref(product), MIB, KIB, 32 * MIB, SLICE)?;
        bytes += appended.bytes;
        elapsed += appended.elapsed;
        if let Some(old) = number.checked_sub(1) {
            broker.delete_product(&products[old])?;
        }
    }
    let appended = bytes as f64 / 1e9 / elapsed.as_secs_f64();
    let after = limits()?;
    let mean = |a: f64, b: f64| f64::midpoint(a, b);
    let (d, g) = (mean(before.0, after.0), mean(before.1, after.1));
    Ok(Some([appended, d, g]))
}

fn limits(rounds: &[Round]) -> Table {
    let row = |name: &str, figure: fn(&Round) -> f64| Row {
        case: vec![name.to_owned()],
        figures: vec![Spread::of(rounds.iter().map(figure))],
    };
    Table {
        title: "Limits in the same run",
        labels: vec!["limit"],
        figures: vec!["value"],
        rows: vec![
            row("D: durable GB/s at 8 MiB, recycled, O_DIRECT", |r| r.d),
            row("F: durable 4 KiB writes/s", |r| r.f),
            row("G in: bare stream GB/s, 1 MiB messages", |r| r.g_in),
            row("G in: 64 KiB messages", |r| r.g_in_64k),
            row("G out: 1 MiB messages", |r| r.g_out),
            row("g: bare unary calls/s, 1 KiB, 64 in flight", |r| r.g_64),
            row("g: 1 in flight", |r| r.g_1),
        ],
    }
}

fn cases(rounds: &[Round], sustained: Option<[f64; 3]>) -> Table {
    let row = |name: &str, value: fn(&Round) -> f64, beside: &str, ratio: fn(&Round) -> f64| Row {
        case: vec![name.to_owned(), beside.to_owned()],
        figures: vec![Spread::of(rounds.iter().map(value)), Spread::of(rounds.iter().map(ratio))],
    };
    let mut rows = vec![
        row("durable 1 MiB requests, GB/s", |r| r.large, "G", |r| r.large / r.g_in),
        row("the same", |r| r.large, "D", |r| r.large / r.d),
        row(
            "durable 64 KiB of 100 B records, GB/s",
            |r| r.small,
            "G(64 KiB)",
            |r| r.small / r.g_in_64k,
        ),
        row("the same, million records/s", |r| r.small_records, "5", |r| r.small_records / 5.0),
        row("the same over many products, GB/s", |r| r.many, "one product", |r| r.many / r.small),
        row(
            "durable unary 1 KiB, 64 in flight, calls/s",
            |r| r.unary_64,
            "g",
            |r| r.unary_64 / r.g_64,
        ),
        row("syncs per 1,000 of these", |r| r.syncs_per_1000, "200", |r| r.syncs_per_1000 / 200.0),
        row(
            "durable unary, 1 in flight, p50 µs",
            |r| r.unary_1_p50,
            "1/F + bare p50",
            |r| r.unary_1_p50 / (1e6 / r.f + r.bare_1_p50),
        ),
        row("catch-up read, cached, GB/s", |r| r.read, "G out", |r| r.read / r.g_out),
    ];
    if let Some([value, d, g]) = sustained {
        for (beside, limit) in [("G", g), ("D", d)] {
            rows.push(Row {
                case: vec!["sustained durable 1 MiB requests, GB/s".into(), beside.into()],
                figures: vec![Spread::of([value]), Spread::of([value / limit])],
            });
        }
    }
    Table {
        title: "Meshlog",
        labels: vec!["case", "beside"],
        figures: vec!["value", "ratio"],
        rows,
    }
}

/// Start, memory and size at rest.
fn standing(args: &Args, root: &Path) -> io::Result<Table> {
    let own = std::env::current_exe()?;
    let beside = own.parent().map(|folder| folder.join("meshlog"));
    let binary = args.binary.clone().or(beside).filter(|path| path.exists());
    let mut rows = Vec::new();
    let mut row = |name: &str, values: Vec<f64>| {
        rows.push(Row { case: vec![name.to_owned()], figures: vec![Spread::of(values)] });
    };
    match binary {
        Some(binary) => {
            let (mut ready, mut memory, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..args.rounds {
                let directory = tempfile::tempdir_in(root)?;
                let started = start_binary(&binary, directory.path())?;
                ready.push(started.until_ready.as_secs_f64() * 1e3);
                // What housekeeping does after the start belongs to being idle.
                let (_never, wait) = std::sync::mpsc::channel::<()>();
                let _ = wait.recv_timeout(Duration::from_secs(1)).err();
                memory.push(started.resident_megabytes()?);
                bytes.push(size_of(directory.path())?);
            }
            row("start of the binary, empty directory, ms", ready);
            row("resident memory, idle, MB", memory);
            row("empty data directory, MiB", bytes);
        }
        None => eprintln!("no meshlog binary beside this program: build it for start and memory"),
    }
    let mut in_process = Vec::new();
    for _ in 0..args.rounds {
        let began = Instant::now();
        let broker = meshlog_broker::Broker::in_memory().map_err(io::Error::other)?;
        in_process.push(began.elapsed().as_secs_f64() * 1e3);
        drop(broker);
    }
    row("start inside the process, in memory, ms", in_process);
    Ok(Table { title: "Standing still", labels: vec!["case"], figures: vec!["value"], rows })
}

fn size_of(directory: &Path) -> io::Result<f64> {
    let mut bytes = 0;
    for file in std::fs::read_dir(directory)? {
        bytes += file?.metadata()?.len();
    }
    Ok(bytes as f64 / f64::from(1 << 20))
}
