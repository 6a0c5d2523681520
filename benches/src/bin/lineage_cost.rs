//! What lineage costs those who append and read: counting alone, beside whole appends inside the
//! process, in turn.
#![expect(clippy::print_stdout, reason = "the report is this program's output")]

use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use meshlog_benches::report::{Row, Table};
use meshlog_benches::rounds::Timed;
use meshlog_broker::{Broker, Caller, Traffic};
use meshlog_proto::{server_v1, v1};
use prost::Message as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures counting for lineage, and what is counted.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    timed: Timed,
}

/// Bytes appended by one case in one round at most.
const MOST: u64 = 512 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    /// The counter is looked up among those of so many applications, and added to.
    Count(u32),
    /// A message of an open subscription.
    Deliver,
    /// A whole append of one record of so many bytes, in memory, acknowledged.
    Append(usize),
}

impl Case {
    fn name(self) -> String {
        match self {
            Self::Count(1) => "count an append, 1 application known".to_owned(),
            Self::Count(applications) => {
                format!("count an append, {applications} applications known")
            }
            Self::Deliver => "count a message of a subscription".to_owned(),
            Self::Append(bytes) => format!("append {bytes} B in memory, in the process"),
        }
    }
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let cases = vec![
        Case::Count(1),
        Case::Count(100),
        Case::Deliver,
        Case::Append(1_024),
        Case::Append(65_536),
    ];
    let time = args.timed.time();
    let series = args.timed.rounds.run(cases, |case| match *case {
        Case::Count(applications) => Ok(count(applications, time)),
        Case::Deliver => Ok(deliver(time)),
        Case::Append(bytes) => runtime.block_on(append(bytes, time)).map_err(io::Error::other),
    })?;
    let whole = series.measured.iter().find(|measured| measured.case == Case::Append(1_024));
    let whole = whole.map_or(f64::NAN, |measured| measured.spread(|nanos| *nanos).median);
    let rows = series.measured.iter().map(|measured| Row {
        case: vec![measured.case.name()],
        figures: vec![
            measured.spread(|nanos| *nanos),
            measured.spread(|nanos| 100.0 * nanos / whole),
        ],
    });
    let table = Table {
        title: "what lineage costs",
        labels: vec!["case"],
        figures: vec!["ns", "% of an append of 1,024 B"],
        rows: rows.collect(),
    };
    println!("{}", args.timed.report(series.noise, table)?);
    Ok(())
}

/// Nanoseconds of one turn.
fn turns(time: Duration, mut turn: impl FnMut()) -> f64 {
    const AT_ONCE: u32 = 1_000;
    let begun = Instant::now();
    let mut count = 0_u64;
    while begun.elapsed() < time {
        (0..AT_ONCE).for_each(|_| turn());
        count += u64::from(AT_ONCE);
    }
    begun.elapsed().as_nanos() as f64 / count as f64
}

fn count(applications: u32, time: Duration) -> f64 {
    let traffic = Traffic::default();
    let callers: Vec<Caller> =
        (0..applications).map(|n| Caller::new(&format!("application-{n}"))).collect();
    let mut callers = callers.iter().cycle();
    turns(time, || {
        if let Some(caller) = callers.next() {
            traffic.appended(black_box(caller), 1, 1, 1_024);
        }
    })
}

fn deliver(time: Duration) -> f64 {
    let traffic = Arc::new(Traffic::default());
    let mut reader = traffic.open(&Caller::new("reader"));
    turns(time, || reader.delivered(black_box(1), 10, 1_024))
}

async fn append(bytes: usize, time: Duration) -> meshlog_broker::Result<f64> {
    let broker = Broker::in_memory()?;
    let caller = Caller::new("bench");
    let product = v1::Product { name: "sandbox.bench".to_owned(), ..Default::default() };
    let create = v1::CreateProductRequest { product: Some(product), ..Default::default() };
    broker.catalogue().create_product(&caller, create).await?;
    let text = format!("\"{}\"", "x".repeat(bytes - 2));
    let record = v1::Record { value: Some(Bytes::from(text)), ..Default::default() };
    let batch = Bytes::from(v1::RecordBatch { records: vec![record] }.encode_to_vec());
    let begun = Instant::now();
    let mut count = 0_u64;
    // What is in memory stays there.
    while begun.elapsed() < time && count * (bytes as u64) < MOST {
        let request = server_v1::AppendRequest {
            product: "sandbox.bench".to_owned(),
            batch: vec![batch.clone()],
            ..Default::default()
        };
        broker.append(&caller, request).await?;
        count += 1;
    }
    let nanos = begun.elapsed().as_nanos() as f64 / count as f64;
    broker.close().await?;
    Ok(nanos)
}
