//! T, G and g: loopback TCP, bare gRPC streams and bare gRPC calls, over frames, windows, connections and runtimes.
#![expect(clippy::print_stdout, reason = "the report is this program's output")]

use std::{io, time::Duration};

use clap::Parser;
use meshlog_benches::{
    limits::{
        KIB, MIB,
        wire::{BareWire, CallSample, Flavour, WireSample, WireSettings, tcp},
    },
    report::{Format, Machine, Report, Row, Spread, Table, size},
    rounds::Rounds,
};

/// The allocator of the broker's binary: it decides a good part of these figures.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures loopback TCP and gRPC with nothing behind it.
#[derive(Debug, Parser)]
struct Args {
    /// Time for one case in one round, in seconds.
    #[arg(long, default_value_t = 0.3)]
    seconds: f64,
    #[command(flatten)]
    rounds: Rounds,
    /// Bytes of a unary request.
    #[arg(long, default_value_t = KIB)]
    request: usize,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Clone, Copy)]
enum Case {
    Tcp { chunk: usize },
    Streams { settings: WireSettings, message: usize },
    Calls { settings: WireSettings, in_flight: usize },
}

#[derive(Clone)]
enum Sample {
    Tcp(WireSample),
    Streams { inbound: WireSample, outbound: WireSample },
    Calls(CallSample),
}

fn cases() -> Vec<Case> {
    let base = WireSettings::default();
    let mut cases = vec![Case::Tcp { chunk: 256 * KIB }, Case::Tcp { chunk: MIB }];
    let mut streams = |settings, message| cases.push(Case::Streams { settings, message });
    for frame in [16 * KIB, 64 * KIB, 256 * KIB] {
        for stream_window in [MIB, 4 * MIB, 16 * MIB] {
            streams(WireSettings { frame, stream_window, ..base }, MIB);
        }
    }
    for stream_window in [4 * MIB, 16 * MIB] {
        streams(WireSettings { stream_window, connection_window: 64 * MIB, ..base }, MIB);
    }
    for connections in [2, 4] {
        streams(WireSettings { connections, ..base }, MIB);
    }
    for (server, client) in RUNTIMES {
        streams(WireSettings { server, client, ..base }, MIB);
    }
    for connections in [1, 2, 4] {
        streams(WireSettings { connections, ..base }, 64 * KIB);
    }
    streams(base, 256 * KIB);
    for (server, client) in [(Flavour::TwoWorkers, Flavour::TwoWorkers)].into_iter().chain(RUNTIMES)
    {
        for in_flight in [1, 16, 64] {
            let settings = WireSettings { server, client, ..base };
            cases.push(Case::Calls { settings, in_flight });
        }
    }
    for connections in [2, 4] {
        let settings = WireSettings { connections, ..base };
        cases.push(Case::Calls { settings, in_flight: 64 });
    }
    cases
}

/// Runtimes other than the usual two workers on both sides: server, client.
const RUNTIMES: [(Flavour, Flavour); 2] = [
    (Flavour::CurrentThread, Flavour::TwoWorkers),
    (Flavour::CurrentThread, Flavour::CurrentThread),
];

/// Time before each measurement in which connections and allocator warm up.
const WARM_UP: Duration = Duration::from_millis(60);

fn measure(case: &Case, request: usize, limit: Duration) -> io::Result<Sample> {
    Ok(match *case {
        Case::Tcp { chunk } => {
            tcp(chunk, WARM_UP)?;
            Sample::Tcp(tcp(chunk, limit)?)
        }
        Case::Streams { settings, message } => {
            let wire = BareWire::start(settings)?;
            wire.stream_in(message, WARM_UP)?;
            let inbound = wire.stream_in(message, limit)?;
            wire.stream_out(message, WARM_UP)?;
            Sample::Streams { inbound, outbound: wire.stream_out(message, limit)? }
        }
        Case::Calls { settings, in_flight } => {
            let wire = BareWire::start(settings)?;
            wire.unary(request, in_flight, WARM_UP)?;
            Sample::Calls(wire.unary(request, in_flight, limit)?)
        }
    })
}

fn runtimes(settings: &WireSettings) -> String {
    format!("{} / {}", settings.server.name(), settings.client.name())
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let limit = Duration::from_secs_f64(args.seconds);
    let series = args.rounds.run(cases(), |case| measure(case, args.request, limit))?;
    let (mut tcp, mut streams, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    for measured in &series.measured {
        let pick = |figure: &dyn Fn(&Sample) -> Option<f64>| {
            Spread::of(measured.samples.iter().filter_map(figure))
        };
        match &measured.case {
            Case::Tcp { chunk } => {
                let tcp_figure = |figure: fn(&WireSample) -> f64| {
                    pick(&move |sample| match sample {
                        Sample::Tcp(sample) => Some(figure(sample)),
                        _ => None,
                    })
                };
                tcp.push(Row {
                    case: vec![size(*chunk)],
                    figures: vec![
                        tcp_figure(WireSample::gigabytes_per_second),
                        tcp_figure(WireSample::cpu_seconds_per_gigabyte),
                    ],
                });
            }
            Case::Streams { settings, message } => {
                let into = |figure: fn(&WireSample) -> f64| {
                    pick(&move |sample| match sample {
                        Sample::Streams { inbound, .. } => Some(figure(inbound)),
                        _ => None,
                    })
                };
                let out = |figure: fn(&WireSample) -> f64| {
                    pick(&move |sample| match sample {
                        Sample::Streams { outbound, .. } => Some(figure(outbound)),
                        _ => None,
                    })
                };
                streams.push(Row {
                    case: vec![
                        size(*message),
                        size(settings.frame),
                        size(settings.stream_window),
                        size(settings.connection_window),
                        settings.connections.to_string(),
                        runtimes(settings),
                    ],
                    figures: vec![
                        into(WireSample::gigabytes_per_second),
                        into(WireSample::cpu_seconds_per_gigabyte),
                        out(WireSample::gigabytes_per_second),
                        out(WireSample::cpu_seconds_per_gigabyte),
                    ],
                });
            }
            Case::Calls { settings, in_flight } => {
                let call = |figure: &dyn Fn(&CallSample) -> f64| {
                    pick(&|sample| match sample {
                        Sample::Calls(sample) => Some(figure(sample)),
                        _ => None,
                    })
                };
                calls.push(Row {
                    case: vec![
                        in_flight.to_string(),
                        settings.connections.to_string(),
                        runtimes(settings),
                    ],
                    figures: vec![
                        call(&CallSample::calls_per_second),
                        call(&|sample| sample.micros_at(0.5)),
                        call(&|sample| sample.micros_at(0.99)),
                        call(&CallSample::cpu_micros_per_call),
                    ],
                });
            }
        }
    }
    let report = Report {
        machine: Machine::describe(None)?,
        rounds: args.rounds.rounds,
        noise: series.noise,
        tables: vec![
            Table {
                title: "T: one loopback TCP connection",
                labels: vec!["chunk"],
                figures: vec!["GB/s", "CPU s per GB"],
                rows: tcp,
            },
            Table {
                title: "G: bare gRPC streams, one for each connection",
                labels: vec![
                    "message",
                    "frame",
                    "stream window",
                    "connection window",
                    "connections",
                    "server / client",
                ],
                figures: vec!["in GB/s", "in CPU s per GB", "out GB/s", "out CPU s per GB"],
                rows: streams,
            },
            Table {
                title: "g: bare gRPC unary calls",
                labels: vec!["in flight", "connections", "server / client"],
                figures: vec!["calls/s", "p50 µs", "p99 µs", "CPU µs per call"],
                rows: calls,
            },
        ],
    };
    println!("{}", report.render(args.output)?);
    Ok(())
}
