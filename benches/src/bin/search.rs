//! Search over a large catalogue: latency, memory, and how long the index takes to build.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the report is this program's output"
)]

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Parser;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hdrhistogram::Histogram;
use meshlog_benches::report::{Format, Machine, Report, Row, Spread, Table};
use meshlog_benches::rounds::Rounds;
use meshlog_broker::{Broker, Caller, Config};
use meshlog_proto::v1;
use meshlog_proto::v1::catalog_service_client::CatalogServiceClient;
use meshlog_tests::{MESH_TAG_KEYS, generated_company, generated_mesh};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

/// The allocator of the broker's binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures searches over generated products.
#[derive(Debug, Parser)]
struct Args {
    /// Products of the embedded case.
    #[arg(long, default_value_t = 100_000)]
    products: usize,
    /// Products of the case over gRPC, and of the one that opens a directory.
    #[arg(long, default_value_t = 10_000)]
    fewer: usize,
    /// Searches of one case in one round.
    #[arg(long, default_value_t = 200)]
    searches: usize,
    /// Where to put the data directory.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: std::path::PathBuf,
    #[command(flatten)]
    rounds: Rounds,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// What people ask for, by kind.
const QUERIES: &[(&str, &[&str])] = &[
    ("a name", &["sales.orders", "lab results", "fraud alerts v2", "meter readings hourly"]),
    (
        "words of texts",
        &["employee birth date", "settled amount acquirer", "delivered by signature"],
    ),
    ("typos", &["shipmnet", "prescirptions daily", "certifcate expiers", "custmer statment"]),
    ("beginnings", &["cust", "ship da", "em", "re"]),
    ("one broad word", &["customer", "amount", "daily", "every"]),
    (
        "filters",
        &[
            "tag:pii -domain:people",
            "domain:sales state:draft tier",
            "field:customer_id -tag:gold",
            "tag:source=sap orders",
        ],
    ),
    ("phrases", &["\"the checkout\"", "\"one record per shipment\"", "\"kept for\" refund"]),
    ("nothing found", &["zzyzx", "quarterback touchdown", "orders xylophone"]),
    ("everything", &["", "-tag:pii", "classification:public"]),
];

/// Nanoseconds of the searches of one case in one round: elapsed, and of processors.
struct Latency {
    elapsed: Histogram<u64>,
    processors: Histogram<u64>,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;

    eprintln!("creating {} products in memory", args.products);
    let broker = Broker::in_memory().map_err(io::Error::other)?;
    let (created, caught_up) = fill(&runtime, &broker, args.products)?;
    let size = broker.catalogue().search_index_size();

    eprintln!("searching");
    let embedded = |queries: &[&str]| {
        measure(queries, args.searches, |query| {
            let asked = request(query);
            runtime
                .block_on(broker.catalogue().search_products(&Caller::default(), asked))
                .map_err(io::Error::other)
        })
    };
    let kinds: Vec<(&str, Vec<&str>)> = QUERIES
        .iter()
        .map(|(kind, queries)| (*kind, queries.to_vec()))
        .chain([(
            "all of these",
            QUERIES.iter().flat_map(|(_, queries)| queries.iter().copied()).collect(),
        )])
        .collect();
    let series = args.rounds.run(kinds.clone(), |(_, queries)| embedded(queries))?;
    let rows = |samples: &[meshlog_benches::rounds::Measured<(&str, Vec<&str>), Latency>]| {
        let row = |one: &meshlog_benches::rounds::Measured<(&str, Vec<&str>), Latency>| Row {
            case: vec![one.case.0.to_owned()],
            figures: vec![
                one.spread(|latency| milliseconds(latency.elapsed.value_at_quantile(0.5))),
                one.spread(|latency| milliseconds(latency.elapsed.value_at_quantile(0.99))),
                one.spread(|latency| milliseconds(latency.elapsed.max())),
                one.spread(|latency| milliseconds(latency.processors.value_at_quantile(0.5))),
                one.spread(|latency| milliseconds(latency.processors.value_at_quantile(0.99))),
            ],
        };
        samples.iter().map(row).collect::<Vec<Row>>()
    };
    let embedded_rows = rows(&series.measured);
    drop(broker);

    eprintln!("over gRPC, {} products", args.fewer);
    let directory = tempfile::tempdir_in(&args.dir)?;
    let opened = opening(&runtime, directory.path(), args.fewer)?;
    let wire = Wire::start(&runtime, directory.path())?;
    let over_wire = |queries: &[&str]| measure(queries, args.searches, |query| wire.search(query));
    let wire_series = args.rounds.run(kinds, |(_, queries)| over_wire(queries))?;

    let once = |value: f64| Spread::of([value]);
    let report = Report {
        machine: Machine::describe(Some(directory.path()))?,
        rounds: args.rounds.rounds,
        noise: series.noise,
        tables: vec![
            Table {
                title: "Search in this process, first page of 20 with facets",
                labels: vec!["asked for"],
                figures: vec!["p50 ms", "p99 ms", "max ms", "CPU p50 ms", "CPU p99 ms"],
                rows: embedded_rows,
            },
            Table {
                title: "Search over gRPC on loopback, first page of 20 with facets",
                labels: vec!["asked for"],
                figures: vec!["p50 ms", "p99 ms", "max ms", "CPU p50 ms", "CPU p99 ms"],
                rows: rows(&wire_series.measured),
            },
            Table {
                title: "The index",
                labels: vec!["figure"],
                figures: vec!["value"],
                rows: [
                    ("products", size.products as f64),
                    ("different words", size.words as f64),
                    ("pairs of word and product", size.postings as f64),
                    ("MB by its own count", size.bytes as f64 / 1e6),
                    ("s to create the products in memory", created.as_secs_f64()),
                    ("s until the last ones were found", caught_up.as_secs_f64()),
                    (
                        "ms to open a directory with the fewer products",
                        opened.0.as_secs_f64() * 1e3,
                    ),
                    ("ms from opening it to the first answer", opened.1.as_secs_f64() * 1e3),
                ]
                .map(|(label, value)| Row {
                    case: vec![label.to_owned()],
                    figures: vec![once(value)],
                })
                .to_vec(),
            },
        ],
    };
    println!("{}", report.render(args.output)?);
    Ok(())
}

fn request(query: &str) -> v1::SearchProductsRequest {
    v1::SearchProductsRequest { query: query.to_owned(), ..v1::SearchProductsRequest::default() }
}

fn measure(
    queries: &[&str],
    searches: usize,
    mut search: impl FnMut(&str) -> io::Result<v1::SearchProductsResponse>,
) -> io::Result<Latency> {
    let empty = Histogram::new_with_bounds(1, 60_000_000_000, 3).map_err(io::Error::other)?;
    let mut latency = Latency { elapsed: empty.clone(), processors: empty };
    for query in queries.iter().cycle().take(searches) {
        let (began, processors) = (Instant::now(), processor_time());
        search(query)?;
        latency.elapsed.saturating_record(began.elapsed().as_nanos() as u64);
        let processors = processor_time().saturating_sub(processors);
        latency.processors.saturating_record(processors.as_nanos() as u64);
    }
    Ok(latency)
}

/// Time that processors have spent on this process.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

fn milliseconds(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

/// Creates the products, a fifth of them with readers. Gives the time for that, and the time until
/// the index had caught up.
fn fill(runtime: &Runtime, broker: &Broker, count: usize) -> io::Result<(Duration, Duration)> {
    let catalogue = broker.catalogue();
    let caller = Caller::new("bench");
    let began = Instant::now();
    runtime
        .block_on(async {
            for (team, domain) in generated_company() {
                catalogue.create_team(&caller, team).await?;
                if let Some(domain) = domain {
                    catalogue.create_domain(&caller, domain).await?;
                }
            }
            for (key, has_value) in MESH_TAG_KEYS {
                let value_type =
                    if *has_value { v1::TagValueType::String } else { v1::TagValueType::None };
                let tag_key = v1::TagKey {
                    name: (*key).to_owned(),
                    owner: "platform".to_owned(),
                    description: "of the bench".to_owned(),
                    value_type: value_type.into(),
                    ..v1::TagKey::default()
                };
                let request =
                    v1::CreateTagKeyRequest { tag_key: Some(tag_key), validate_only: false };
                // A product whose tag has no key is refused below.
                drop(catalogue.create_tag_key(&caller, request).await);
            }
            let created = stream::iter(generated_mesh(count)).map(|request| {
                let request =
                    v1::CreateProductRequest { new_domain: None, new_team: None, ..request };
                catalogue.create_product(&caller, request)
            });
            created.buffer_unordered(64).try_for_each(|_| std::future::ready(Ok(()))).await
        })
        .map_err(io::Error::other)?;
    let created = began.elapsed();
    for (request, number) in generated_mesh(count).zip(0u64..).step_by(5) {
        let name = request.product.unwrap_or_default().name;
        let product = catalogue.resolve(&name, "").map_err(io::Error::other)?;
        for reader in 0..1 + number % 7 {
            let reader = Caller::new(&format!("reader-{reader}"));
            product.traffic.delivered(&reader, 1, number, 0);
        }
    }
    let _ = catalogue.search_index_size();
    Ok((created, began.elapsed()))
}

/// How long a directory takes to open, and until the first search is answered.
fn opening(runtime: &Runtime, directory: &Path, count: usize) -> io::Result<(Duration, Duration)> {
    let open = || Broker::open(Config::at(directory)).map_err(io::Error::other);
    let broker = open()?;
    fill(runtime, &broker, count)?;
    runtime.block_on(broker.close()).map_err(io::Error::other)?;
    drop(broker);
    let began = Instant::now();
    let broker = open()?;
    let opened = began.elapsed();
    let found = runtime
        .block_on(broker.catalogue().search_products(&Caller::default(), request("sales.orders")));
    let answered = began.elapsed();
    if found.map_err(io::Error::other)?.total == 0 {
        return Err(io::Error::other("nothing was found after opening"));
    }
    runtime.block_on(broker.close()).map_err(io::Error::other)?;
    Ok((opened, answered))
}

/// A broker behind a port, and a client.
struct Wire<'a> {
    runtime: &'a Runtime,
    broker: Broker,
    client: CatalogServiceClient<Channel>,
}

impl<'a> Wire<'a> {
    fn start(runtime: &'a Runtime, directory: &Path) -> io::Result<Self> {
        let broker = Broker::open(Config::at(directory)).map_err(io::Error::other)?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        runtime.spawn(meshlog_broker::edge::serve(
            broker.clone(),
            listener,
            std::future::pending(),
        ));
        let endpoint =
            Endpoint::from_shared(format!("http://{address}")).map_err(io::Error::other)?;
        let channel = runtime.block_on(endpoint.connect()).map_err(io::Error::other)?;
        Ok(Self { runtime, broker, client: CatalogServiceClient::new(channel) })
    }

    fn search(&self, query: &str) -> io::Result<v1::SearchProductsResponse> {
        let mut client = self.client.clone();
        let found = self.runtime.block_on(client.search_products(request(query)));
        Ok(found.map_err(io::Error::other)?.into_inner())
    }
}

impl Drop for Wire<'_> {
    fn drop(&mut self) {
        let _ = self.runtime.block_on(self.broker.close());
    }
}
