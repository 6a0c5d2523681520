//! Clients that mean ill, against the shipped binary in a process of its own.
//!
//! Each attack must end typed or closed, with bounded memory (measured as the peak of the process's
//! resident memory), the process up, and another client unaffected, which appends all the while. The
//! table that is printed stands in `docs/security.md`.
//!
//! | Variable | Meaning |
//! |---|---|
//! | `MESHLOG_ABUSE_ONLY` | runs only the attacks whose name contains this |

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the report is this program's output")]

#[path = "abuse/bodies.rs"]
mod bodies;
#[path = "abuse/bystander.rs"]
mod bystander;
#[path = "abuse/connections.rs"]
mod connections;
#[path = "abuse/frames.rs"]
mod frames;
#[path = "abuse/load.rs"]
mod load;
#[path = "abuse/server.rs"]
mod server;

use std::pin::Pin;
use std::process::ExitCode;

use bystander::Bystander;
use server::Server;

/// What an attack got, in words.
type Ended<'a> = Pin<Box<dyn Future<Output = String> + 'a>>;

struct Attack {
    name: &'static str,
    run: for<'a> fn(&'a Server) -> Ended<'a>,
    /// How many MiB the broker may grow by.
    grows: u64,
}

/// Names an attack.
macro_rules! attack {
    ($name:literal, $run:path, $grows:literal) => {
        Attack { name: $name, run: |server| Box::pin($run(server)), grows: $grows }
    };
}

/// The budget that every broker of this test has, in MiB.
pub(crate) const BUDGET: u64 = 64;

fn main() -> ExitCode {
    let attacks = [
        attack!("header bombs", connections::header_bombs, 64),
        attack!("slowloris, 500 connections", connections::slowloris, 64),
        attack!("half-open, 500 connections", connections::half_open, 64),
        attack!("10,000 connections", connections::very_many, 64),
        attack!("rapid reset", frames::rapid_reset, 64),
        attack!("CONTINUATION flood", frames::continuation_flood, 64),
        attack!("empty DATA flood", frames::empty_data_flood, 64),
        attack!("compression bomb, 1 GiB in 1 MiB", bodies::compression_bomb, 128),
        attack!("4 MiB announced and not sent, 500 calls", bodies::announced_and_not_sent, 128),
        attack!("1,000 calls of 50 bytes on one connection", load::small_calls, 64),
        attack!("bodies that nobody reads, 20 connections", bodies::unread, 96),
        attack!("1,000 readers that do not read", load::stalled_readers, 160),
        attack!("300 tails of events that nobody reads", load::stalled_tails, 256),
        attack!("ten times the load", load::overload, 400),
        attack!("a flood of one product", load::one_product, 300),
    ];
    let only = std::env::var("MESHLOG_ABUSE_ONLY").unwrap_or_default();
    server::raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!("memory budget of the broker: {BUDGET} MiB");
    println!("| Attack | Before, MiB | Peak, MiB | Others: calls, failed, p99 | What it got |");
    println!("|---|---|---|---|---|");
    let mut failed = 0;
    for attack in attacks.iter().filter(|attack| attack.name.contains(&only)) {
        let run = std::panic::AssertUnwindSafe(|| runtime.block_on(one(attack)));
        if std::panic::catch_unwind(run).is_err() {
            println!("FAILED   {}", attack.name);
            failed += 1;
        }
    }
    if only.is_empty() || "drain".contains(&only) {
        let run = std::panic::AssertUnwindSafe(|| runtime.block_on(connections::drain()));
        match std::panic::catch_unwind(run) {
            Ok(line) => println!("\n{line}"),
            Err(_) => failed += 1,
        }
    }
    println!("{failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn one(attack: &Attack) {
    let server = Server::start().await;
    let bystander = Bystander::start(&server).await;
    bystander.goes_on(20).await;
    let before = server.forget_peak();
    let got = (attack.run)(&server).await;
    bystander.goes_on(20).await;
    let peak = server.peak();
    let others = bystander.end().await;
    println!(
        "| {} | {before} | {peak} | {}, {}, {:.1} ms | {got} |",
        attack.name,
        others.calls,
        others.failed,
        others.p99.as_secs_f64() * 1e3,
    );
    assert_eq!(others.failed, 0, "others are unaffected: {:?}", others.why);
    assert!(peak <= before + attack.grows, "memory is bounded: {before} to {peak} MiB");
    assert!(!server.has_ended(), "the process is up");
}
