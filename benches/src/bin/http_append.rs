//! One record per request over HTTP with JSON, beside the same over gRPC.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the report is this program's output"
)]

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use axum::body::Body;
use clap::Parser;
use http::{Request, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use meshlog_benches::meshlog::{Load, UnderTest};
use meshlog_benches::report::{Format, Machine, Report, Row, Spread, Table};
use meshlog_benches::rounds::Rounds;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// The allocator of the broker's binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures durable appends of one record of 1 KiB.
#[derive(Debug, Parser)]
struct Args {
    /// Requests at the same time.
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Bytes of the value.
    #[arg(long, default_value_t = 1024)]
    record: usize,
    /// Seconds of one case in one round.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Where to put the data directory.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    #[command(flatten)]
    rounds: Rounds,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// How a record is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Unary Append over one connection.
    Grpc,
    /// JSON over HTTP/1.1, a connection for each request under way.
    Http1,
    /// JSON over one connection of HTTP/2.
    Http2,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let time = Duration::from_secs_f64(args.seconds);
    let directory = tempfile::tempdir_in(&args.dir)?;
    let broker = UnderTest::start(directory.path())?;
    let product = broker.create_products("http", 1)?.remove(0);
    let grpc = Load::connect(broker.address())?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let series = args.rounds.run(vec![Way::Grpc, Way::Http1, Way::Http2], |way| {
        eprintln!("{way:?}");
        match way {
            Way::Grpc => {
                let sent = grpc.append_unary(&product, args.record, args.in_flight, time)?;
                Ok(sent.requests_per_second())
            }
            way => over_http(&runtime, broker.address(), &product, *way, &args),
        }
    })?;
    let unary = &series.measured[0].samples;
    let rows = series.measured.iter().map(|measured| Row {
        case: vec![
            match measured.case {
                Way::Grpc => "gRPC, one connection",
                Way::Http1 => "JSON over HTTP/1.1, a connection per request under way",
                Way::Http2 => "JSON over HTTP/2, one connection",
            }
            .to_owned(),
        ],
        figures: vec![
            measured.spread(|calls| *calls),
            Spread::of(measured.samples.iter().zip(unary).map(|(calls, unary)| calls / unary)),
        ],
    });
    let table = Table {
        title: "Durable appends of one record",
        labels: vec!["way"],
        figures: vec!["calls/s", "of gRPC in the same round"],
        rows: rows.collect(),
    };
    let report = Report {
        machine: Machine::describe(Some(&args.dir))?,
        rounds: args.rounds.rounds,
        noise: series.noise,
        tables: vec![table],
    };
    println!("{}", report.render(args.output)?);
    Ok(())
}

/// Calls per second.
fn over_http(
    runtime: &Runtime,
    address: SocketAddr,
    product: &str,
    way: Way,
    args: &Args,
) -> io::Result<f64> {
    let uri = format!("http://{address}/v1/products/{product}/records");
    let body = format!(r#"{{"records":[{{"value":"{}"}}]}}"#, "x".repeat(args.record - 2));
    let time = Duration::from_secs_f64(args.seconds);
    runtime.block_on(async {
        let mut callers = tokio::task::JoinSet::new();
        let shared = match way {
            Way::Http2 => {
                let stream = connect(address).await?;
                let (sender, connection) =
                    hyper::client::conn::http2::Builder::new(TokioExecutor::new())
                        .max_frame_size(256 << 10)
                        .initial_connection_window_size(16 << 20)
                        .handshake::<_, Body>(stream)
                        .await
                        .map_err(io::Error::other)?;
                tokio::spawn(connection);
                Some(sender)
            }
            _ => None,
        };
        let deadline = Instant::now() + time;
        for _ in 0..args.in_flight {
            let (uri, body, shared) = (uri.clone(), body.clone(), shared.clone());
            callers.spawn(async move {
                let request = || {
                    Request::post(&uri)
                        .header(header::HOST, address.to_string())
                        .header(header::CONTENT_TYPE, "application/json")
                        .body(Body::from(body.clone()))
                        .map_err(io::Error::other)
                };
                let mut calls = 0_u64;
                match shared {
                    Some(mut sender) => {
                        while Instant::now() < deadline {
                            sender.ready().await.map_err(io::Error::other)?;
                            check(sender.send_request(request()?).await).await?;
                            calls += 1;
                        }
                    }
                    None => {
                        let (mut sender, connection) =
                            hyper::client::conn::http1::handshake(connect(address).await?)
                                .await
                                .map_err(io::Error::other)?;
                        tokio::spawn(connection);
                        while Instant::now() < deadline {
                            sender.ready().await.map_err(io::Error::other)?;
                            check(sender.send_request(request()?).await).await?;
                            calls += 1;
                        }
                    }
                }
                io::Result::Ok(calls)
            });
        }
        let began = Instant::now();
        let mut calls = 0;
        while let Some(caller) = callers.join_next().await {
            calls += caller.map_err(io::Error::other)??;
        }
        Ok(calls as f64 / began.elapsed().as_secs_f64())
    })
}

async fn connect(address: SocketAddr) -> io::Result<TokioIo<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(stream))
}

async fn check(answer: hyper::Result<http::Response<hyper::body::Incoming>>) -> io::Result<()> {
    let answer = answer.map_err(io::Error::other)?;
    let status = answer.status();
    let body = axum::body::to_bytes(Body::new(answer.into_body()), 1 << 20).await;
    let body = body.map_err(io::Error::other)?;
    match status {
        StatusCode::OK => Ok(()),
        _ => Err(io::Error::other(String::from_utf8_lossy(&body).into_owned())),
    }
}
