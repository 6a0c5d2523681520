//! What merging and compaction cost those who append: the same load at half the peak, once into
//! files that die whole, once into files that must be merged, and compacted as well. And whether
//! the directory follows what is retained: its size over time.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the report is this program's output"
)]

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Parser;
use hdrhistogram::Histogram;
use meshlog_benches::{
    report::{Format, Machine, Report, Row, Table},
    rounds::Rounds,
};
use meshlog_storage::{
    Batch, BatchCodec, Compaction, Components, Control, Entry, NoObserver, Options, Policy,
    RecordKey, Storage, StreamId,
};

/// Measures appends at half the peak, with and without merges and compaction beside them.
#[derive(Debug, Parser)]
struct Args {
    /// Directory for the measured log; it is removed at the end.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Time for one case in one round, in seconds; a third of it passes before measuring.
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// Append at most so many megabytes a second, though half the peak may be more.
    #[arg(long, default_value_t = f64::INFINITY)]
    at_most: f64,
    /// Only compare merging switched off with merging that has nothing to do, in pairs.
    #[arg(long)]
    idle: bool,
    /// Give up if the log takes more gigabytes than this.
    #[arg(long, default_value_t = 24.0)]
    space: f64,
    #[command(flatten)]
    rounds: Rounds,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Bytes of a record, its key first.
const RECORD: usize = 128;
/// Records of a batch.
const RECORDS: u32 = 512;
/// Streams of which each has as much as the others.
const STREAMS: u64 = 16;
/// Bytes under way.
const IN_FLIGHT: usize = 32 << 20;
/// What a stream keeps.
const KEPT: u64 = 64 << 20;
/// Keys of a stream that is compacted.
const KEYS: u64 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    /// As [`Beside::Nothing`], with merging switched off.
    Off,
    /// All streams are limited alike: files die whole, and nothing is merged.
    Nothing,
    /// One stream in eight keeps eight times as much: files must be merged.
    Merge,
    /// And another one in eight is compacted.
    MergeAndCompaction,
}

impl Beside {
    fn policy(self, index: u64) -> Policy {
        let bytes = |bytes| Policy { max_bytes: Some(bytes), ..Policy::default() };
        match (self, index % 8) {
            (Self::Off | Self::Nothing, _) => bytes(KEPT),
            (Self::MergeAndCompaction, 1) => Policy {
                compact: Some(Compaction { tombstone_min_age: Duration::from_secs(60) }),
                ..Policy::default()
            },
            (_, 0) => bytes(8 * KEPT),
            _ => bytes(KEPT),
        }
    }
}

/// Records of one length, which begin with a key of eight bytes.
struct Fixed;

impl BatchCodec for Fixed {
    fn count(&self, payload: &[u8]) -> meshlog_storage::Result<u32> {
        Ok((payload.len() / RECORD) as u32)
    }

    fn keys(&self, payload: &Bytes) -> meshlog_storage::Result<Vec<Option<RecordKey>>> {
        let keys = (0..payload.len() / RECORD).map(|at| at * RECORD);
        Ok(keys
            .map(|at| Some(RecordKey { key: payload.slice(at..at + 8), is_tombstone: false }))
            .collect())
    }

    fn retain(&self, payload: &Bytes, keep: &[u32]) -> meshlog_storage::Result<Bytes> {
        let records = keep.iter().map(|index| *index as usize * RECORD);
        Ok(records.flat_map(|at| payload[at..at + RECORD].iter().copied()).collect())
    }
}

impl Beside {
    /// Bytes that all streams retain.
    fn retained(self) -> u64 {
        (0..STREAMS)
            .map(|index| {
                let policy = self.policy(index);
                let compacted = KEYS * RECORD as u64;
                policy.max_bytes.unwrap_or(compacted)
            })
            .sum()
    }
}

struct Sample {
    bytes_per_second: f64,
    /// Milliseconds from the append to its acknowledgement, as 99 of 100 take at most.
    p99: f64,
    merged_bytes_per_second: f64,
    /// Of the directory, at most.
    gigabytes_on_disk: f64,
    /// That, beside what is retained.
    to_retained: f64,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let root = tempfile::tempdir_in(&args.dir)?;
    let limit = Duration::from_secs_f64(args.seconds);
    let peak = measure(&args, root.path(), Beside::Nothing, f64::INFINITY, limit / 3)?;
    let rate = (peak.bytes_per_second / 2.0).min(args.at_most * 1e6);
    let cases = if args.idle {
        vec![Beside::Off, Beside::Nothing]
    } else {
        vec![Beside::Nothing, Beside::Merge, Beside::MergeAndCompaction]
    };
    let series =
        args.rounds.run(cases, |beside| measure(&args, root.path(), *beside, rate, limit))?;
    let idle = series.measured[0].spread(|sample| sample.p99).median;
    let rows: Vec<Row> = series
        .measured
        .iter()
        .map(|measured| Row {
            case: vec![format!("{:?}", measured.case)],
            figures: vec![
                measured.spread(|sample| sample.bytes_per_second / 1e6),
                measured.spread(|sample| (1.0 - sample.bytes_per_second / rate) * 100.0),
                measured.spread(|sample| sample.p99),
                measured.spread(|sample| sample.p99 / idle),
                measured.spread(|sample| sample.merged_bytes_per_second / 1e6),
                measured.spread(|sample| sample.gigabytes_on_disk),
                measured.spread(|sample| sample.to_retained),
            ],
        })
        .collect();
    let report = Report {
        machine: Machine::describe(Some(root.path()))?,
        rounds: args.rounds.rounds,
        noise: series.noise,
        tables: vec![Table {
            title: "Appends of 64 KiB at half the peak",
            labels: vec!["beside them"],
            figures: vec![
                "MB/s",
                "loss, %",
                "commit p99, ms",
                "to that of the first",
                "merged, MB/s",
                "on disk at most, GB",
                "of what is retained",
            ],
            rows,
        }],
    };
    println!("{}", report.render(args.output)?);
    Ok(())
}

/// Appends at a rate for a time; the first third is not counted.
fn measure(
    args: &Args,
    root: &Path,
    beside: Beside,
    rate: f64,
    limit: Duration,
) -> io::Result<Sample> {
    let directory = tempfile::tempdir_in(root)?;
    let mut options = Options { directory: directory.path().to_owned(), ..Options::default() };
    if beside == Beside::Off {
        options.merge_bytes_per_second = 0;
    }
    let parts = Components::on_disk(Arc::new(Fixed), Arc::new(NoObserver));
    let storage = Storage::open(options, parts).map_err(io::Error::other)?;
    let mut streams = Vec::new();
    let mut controls = Vec::new();
    for index in 0..STREAMS {
        let stream = storage.allocate_stream();
        controls.push(Control::CreateStream(stream));
        controls.push(Control::SetPolicy(stream, beside.policy(index)));
        streams.push(stream);
    }
    let created = Entry { controls, ..Entry::default() };
    storage.append_and_wait(created).map_err(io::Error::other)?;

    let taken = Arc::new(Mutex::new(Taken::new()));
    let begun = Instant::now();
    let measured_from = begun + limit / 3;
    let (mut sent, mut counted, mut tag) = (0.0, 0.0, 0_u64);
    let mut before = storage.stats().merged_bytes;
    let mut is_counting = false;
    let mut watched = Watched::new(beside, args.space);
    while begun.elapsed() < limit {
        if !is_counting && Instant::now() >= measured_from {
            (is_counting, before) = (true, storage.stats().merged_bytes);
        }
        let entry = entry(streams[(tag % STREAMS) as usize], tag);
        let length = f64::from(RECORDS) * RECORD as f64;
        let due = begun + Duration::from_secs_f64(sent / rate);
        // Nothing wakes it: the time is all that it waits for.
        std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
        // From when it should have been sent: what waits for room waits as well.
        let sent_at = if rate.is_finite() { due } else { Instant::now() };
        let permit = wait_for_room(&storage, length as usize);
        let slot = Arc::clone(&taken);
        storage.append(Entry { permit: Some(permit), ..entry }, move |outcome| {
            if let Ok(mut taken) = slot.lock() {
                taken.note(outcome.is_ok(), is_counting.then(|| sent_at.elapsed()));
            }
        });
        sent += length;
        tag += 1;
        if is_counting {
            counted += length;
        }
        watched.look(directory.path(), begun.elapsed())?;
    }
    let seconds = measured_from.elapsed().as_secs_f64();
    let merged = (storage.stats().merged_bytes - before) as f64;
    storage.close().map_err(io::Error::other)?;
    let taken = taken.lock().map_err(|_| io::Error::other("an outcome was lost"))?;
    if taken.failed > 0 {
        return Err(io::Error::other("an append failed"));
    }
    Ok(Sample {
        bytes_per_second: counted / seconds,
        p99: taken.times.value_at_quantile(0.99) as f64 / 1e3,
        merged_bytes_per_second: merged / seconds,
        gigabytes_on_disk: watched.most / 1e9,
        to_retained: watched.most / beside.retained() as f64,
    })
}

/// The size of the directory over time, told each second.
struct Watched {
    beside: Beside,
    limit: f64,
    most: f64,
    next: Duration,
}

impl Watched {
    fn new(beside: Beside, gigabytes: f64) -> Self {
        Self { beside, limit: gigabytes * 1e9, most: 0.0, next: Duration::ZERO }
    }

    fn look(&mut self, directory: &Path, elapsed: Duration) -> io::Result<()> {
        if elapsed < self.next {
            return Ok(());
        }
        self.next = elapsed + Duration::from_secs(1);
        let bytes = size_of(directory)?;
        self.most = self.most.max(bytes);
        let ratio = bytes / self.beside.retained() as f64;
        let (second, gigabytes) = (elapsed.as_secs(), bytes / 1e9);
        eprintln!(
            "{:?}, {second} s: {gigabytes:.2} GB, {ratio:.2} × what is retained",
            self.beside
        );
        if bytes > self.limit {
            return Err(io::Error::other("the log takes more than --space allows"));
        }
        Ok(())
    }
}

/// What appends took, in microseconds.
struct Taken {
    times: Histogram<u64>,
    failed: u64,
}

impl Taken {
    #[expect(clippy::expect_used, reason = "three digits are what the histogram can keep")]
    fn new() -> Self {
        Self { times: Histogram::new(3).expect("a histogram of three digits"), failed: 0 }
    }

    fn note(&mut self, is_ok: bool, took: Option<Duration>) {
        self.failed += u64::from(!is_ok);
        if let Some(took) = took {
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            self.times.saturating_record(micros);
        }
    }
}

fn entry(stream: StreamId, tag: u64) -> Entry {
    let mut payload = vec![b'x'; RECORDS as usize * RECORD];
    for (index, record) in (0..).zip(payload.chunks_mut(RECORD)) {
        // Another key each time, all of them in turn.
        let key = (tag * u64::from(RECORDS) + index) * 7919 % KEYS;
        record[..8].copy_from_slice(&key.to_le_bytes());
    }
    let batch = Batch {
        stream,
        payload: vec![payload.into()],
        count: RECORDS,
        schema: 0,
        application: 0,
        expected_offset: None,
    };
    Entry { batches: vec![batch], ..Entry::default() }
}

/// Room among the bytes under way, waited for.
fn wait_for_room(storage: &Storage, bytes: usize) -> meshlog_storage::Permit {
    loop {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        // More than the bound of this program is never under way: a share of what is admitted.
        let share = bytes * (48 << 20) / IN_FLIGHT;
        match storage.admit(0, share, move |permit| drop(sender.send(permit))) {
            Some(permit) => return permit,
            None => {
                if let Ok(permit) = receiver.recv() {
                    return permit;
                }
            }
        }
    }
}

fn size_of(directory: &Path) -> io::Result<f64> {
    let mut bytes = 0;
    for file in std::fs::read_dir(directory)? {
        // A file may go in between.
        bytes += file?.metadata().map_or(0, |metadata| metadata.len());
    }
    Ok(bytes as f64)
}
