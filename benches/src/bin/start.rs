//! How long a start takes after a crash: with many finished files, and with much to replay, beside
//! reading the same files from end to end.
#![expect(clippy::print_stdout, reason = "the report is this program's output")]

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use meshlog_benches::limits::{KIB, MIB};
use meshlog_benches::report::{Format, Machine, Report, Row, Table, size};
use meshlog_benches::rounds::Rounds;
use meshlog_storage::{
    Batch, BatchCodec, Components, Control, Entry, NoObserver, Options, RecordKey, Storage,
};

/// The allocator of the broker's binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures starts. Every start is a process that ends without closing, so that the next one
/// comes after a crash.
#[derive(Debug, Parser)]
struct Args {
    /// Finished files of the case with many.
    #[arg(long, default_value_t = 10_000)]
    files: usize,
    /// Megabytes to replay.
    #[arg(long, default_value_t = 768)]
    megabytes: usize,
    /// Where to put the data directories.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Only opens this directory, and says how many seconds that took.
    #[arg(long, hide = true)]
    open: Option<PathBuf>,
    /// Only fills `--open` with so many appends of `--bytes`.
    #[arg(long, hide = true)]
    appends: Option<usize>,
    #[arg(long, hide = true, default_value_t = 0)]
    bytes: usize,
    #[arg(long, hide = true, default_value_t = 0)]
    file_bytes: u64,
    #[command(flatten)]
    rounds: Rounds,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Nobody looks inside the payloads here.
struct Opaque;

impl BatchCodec for Opaque {
    fn count(&self, _payload: &[u8]) -> meshlog_storage::Result<u32> {
        Ok(1)
    }

    fn keys(&self, _payload: &Bytes) -> meshlog_storage::Result<Vec<Option<RecordKey>>> {
        Ok(vec![None])
    }

    fn retain(&self, payload: &Bytes, _keep: &[u32]) -> meshlog_storage::Result<Bytes> {
        Ok(payload.clone())
    }
}

fn open(directory: &Path, file_bytes: u64) -> io::Result<Storage> {
    let mut options = Options { directory: directory.to_owned(), ..Options::default() };
    if file_bytes > 0 {
        (options.file_bytes_min, options.file_bytes_max) = (file_bytes, file_bytes);
    }
    let parts = Components::on_disk(Arc::new(Opaque), Arc::new(NoObserver));
    Storage::open(options, parts).map_err(io::Error::other)
}

/// Appends, some at once, each to one of a hundred streams.
fn fill(storage: &Storage, appends: usize, bytes: usize) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel();
    let submit = |entry: Entry| {
        let sender = sender.clone();
        storage.append(entry, move |outcome| drop(sender.send(outcome.map(|_| ()))));
    };
    let wait = || receiver.recv().map_err(io::Error::other)?.map_err(io::Error::other);
    let streams: Vec<_> = (0..100).map(|_| storage.allocate_stream()).collect();
    let controls = streams.iter().map(|stream| Control::CreateStream(*stream)).collect();
    submit(Entry { controls, ..Entry::default() });
    wait()?;
    let payload = Bytes::from(vec![7; bytes]);
    let at_once = (16 * MIB / bytes).clamp(1, 64);
    for number in 0..appends {
        let batch = Batch {
            stream: streams[number % streams.len()],
            payload: vec![payload.clone()],
            count: 1,
            schema: 0,
            application: 0,
            expected_offset: None,
        };
        submit(Entry { batches: vec![batch], ..Entry::default() });
        if number >= at_once {
            wait()?;
        }
    }
    (0..at_once.min(appends)).try_for_each(|_| wait())
}

/// What this program does in a process of its own.
fn child(args: &Args, directory: &Path) -> io::Result<()> {
    let began = Instant::now();
    let storage = open(directory, args.file_bytes)?;
    println!("{}", began.elapsed().as_secs_f64());
    if let Some(appends) = args.appends {
        fill(&storage, appends, args.bytes)?;
    }
    // As a crash: nothing is closed.
    std::process::abort()
}

#[derive(Clone)]
struct Case {
    directory: PathBuf,
    what: &'static str,
    bytes: usize,
    file_bytes: u64,
    /// All of it is replayed: the checkpoints are taken away first.
    replays: bool,
}

struct Sample {
    seconds: f64,
    /// Reading all journal files from end to end.
    reading: f64,
    gigabytes: f64,
}

impl Case {
    fn run(&self, appends: usize) -> io::Result<f64> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--open").arg(&self.directory);
        command.args(["--file-bytes", &self.file_bytes.to_string()]);
        if appends > 0 {
            command.args(["--appends", &appends.to_string(), "--bytes", &self.bytes.to_string()]);
        }
        let output = command.stderr(Stdio::null()).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.trim().parse().map_err(io::Error::other)
    }

    fn files(&self, beginning: &str) -> io::Result<Vec<PathBuf>> {
        let named = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(beginning))
        };
        let paths = std::fs::read_dir(&self.directory)?.map(|file| Ok(file?.path()));
        paths.filter(|path: &io::Result<PathBuf>| path.as_ref().is_ok_and(named)).collect()
    }

    /// Takes the files out of the page cache.
    fn cool(&self) -> io::Result<()> {
        for path in self.files("")? {
            let file = File::open(path)?;
            file.sync_all()?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
        Ok(())
    }

    fn measure(&self) -> io::Result<Sample> {
        if self.replays {
            self.files("checkpoint-")?.iter().try_for_each(std::fs::remove_file)?;
        }
        self.cool()?;
        let mut buffer = vec![0; MIB];
        let (began, mut bytes) = (Instant::now(), 0);
        for path in self.files("journal-")? {
            let mut file = File::open(path)?;
            loop {
                match file.read(&mut buffer)? {
                    0 => break,
                    read => bytes += read,
                }
            }
        }
        let reading: Duration = began.elapsed();
        self.cool()?;
        let seconds = self.run(0)?;
        Ok(Sample { seconds, reading: reading.as_secs_f64(), gigabytes: bytes as f64 / 1e9 })
    }
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    if let Some(directory) = &args.open {
        return child(&args, directory);
    }
    let root = tempfile::tempdir_in(&args.dir)?;
    let case = |name: &str, what, bytes, file_bytes, replays| Case {
        directory: root.path().join(name),
        what,
        bytes,
        file_bytes,
        replays,
    };
    let small = 64 * KIB as u64;
    let cases = vec![
        case("many", "many finished files", 40 * KIB, small, false),
        case("large", "replay", MIB, 0, true),
        case("medium", "replay", 64 * KIB, 0, true),
        case("tiny", "replay", KIB, 0, true),
    ];
    for case in &cases {
        let appends = match case.replays {
            // Small ones are fewer: every group takes a block at least.
            true => args.megabytes * MIB / case.bytes / if case.bytes < 4 * KIB { 8 } else { 1 },
            false => args.files,
        };
        case.run(appends)?;
    }
    let series = args.rounds.run(cases, Case::measure)?;
    let rows = series.measured.iter().map(|measured| Row {
        case: vec![measured.case.what.to_owned(), size(measured.case.bytes)],
        figures: vec![
            measured.spread(|sample| sample.seconds),
            measured.spread(|sample| sample.gigabytes),
            measured.spread(|sample| sample.gigabytes / sample.seconds),
            measured.spread(|sample| sample.gigabytes / sample.reading),
            measured.spread(|sample| sample.reading / sample.seconds),
        ],
    });
    let table = Table {
        title: "Starts after a crash, files not in the page cache",
        labels: vec!["case", "bytes of an append"],
        figures: vec!["s", "GB", "start GB/s", "reading GB/s (R)", "of R"],
        rows: rows.collect(),
    };
    let report = Report {
        machine: Machine::describe(Some(root.path()))?,
        rounds: args.rounds.rounds,
        noise: series.noise,
        tables: vec![table],
    };
    println!("{}", report.render(args.output)?);
    Ok(())
}
