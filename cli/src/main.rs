//! The `meshlog` binary: the broker (`serve`, `quickstart`) and the commands that talk to one.
//!
//! One file per command, named after it. Beside them:
//!
//! | File | What |
//! |---|---|
//! | `settings.rs` | flag, environment, configuration file, default, in that order |
//! | `output.rs` | the one place that writes to standard output and standard error |
//! | `exit.rs` | exit codes, and failures as sentences |
//! | `input.rs`, `csv_input.rs`, `envelope.rs` | the formats records come in and go out as |
//! | `mesh.rs` | the flights mesh that `quickstart` loads |

mod completion;
mod consume;
mod csv_input;
mod doctor;
mod domain;
mod envelope;
mod exit;
mod input;
mod mesh;
mod output;
mod produce;
mod product;
mod progress;
mod quickstart;
mod schema;
mod serve;
mod server;
mod settings;
mod tag;
mod team;
mod verify;
mod words;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use exit::{Exit, Failure, Result};
use output::Out;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A log broker whose topics are data products: owned, described, typed.
#[derive(Debug, Parser)]
#[command(
    name = "meshlog",
    version,
    propagate_version = false,
    max_term_width = 100,
    before_help = "Examples:
  meshlog quickstart                           a broker with real data, to try things out
  meshlog serve                                a broker that keeps its data
  meshlog product create sandbox.notes         a first product
  echo '{\"note\":1}' | meshlog produce sandbox.notes
  meshlog consume sandbox.notes --follow",
    after_help = "Exit codes: 0 done, 1 error, 2 usage, 3 not found, 4 conflict, 5 denied,
  6 unavailable or overloaded, 7 rejected by schema, 8 damaged data,
  130 interrupted

Settings: flag, then environment (MESHLOG_SERVER), then
  $XDG_CONFIG_HOME/meshlog/config.toml, then default"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a broker
    Serve(serve::Serve),
    /// Run a broker on a temporary directory with real data in it, to try things out
    Quickstart(quickstart::Quickstart),
    /// Append records to a product
    #[command(before_help = "Examples:
  meshlog produce ops.flights flights.jsonl
  meshlog produce ops.flights flights.csv --null NA --key-field tailnum
  echo '{\"note\":1}' | meshlog produce sandbox.notes
  meshlog consume ops.flights | meshlog produce sandbox.copy --format envelope")]
    Produce(Box<produce::Produce>),
    /// Read records of a product
    #[command(before_help = "Examples:
  meshlog consume ops.flights --last 3
  meshlog consume ops.flights --from 2026-11-20T12:00:00Z --max 10 -o table
  meshlog consume ops.flights --from latest --follow
  meshlog consume ops.flights -o raw > flights.jsonl")]
    Consume(consume::Consume),
    /// Create, list, show and delete data products
    #[command(subcommand)]
    Product(product::ProductCommand),
    /// List, show and add versions of a product's schema
    #[command(subcommand)]
    Schema(schema::SchemaCommand),
    /// Create, list and show domains
    #[command(subcommand)]
    Domain(domain::DomainCommand),
    /// Create, list and show teams
    #[command(subcommand)]
    Team(team::TeamCommand),
    /// Facts about a broker
    #[command(subcommand)]
    Server(server::ServerCommand),
    /// Read every byte of a data directory and say what is damaged, and where
    Verify(verify::Verify),
    /// Look whether this machine is a good place for a broker
    Doctor(doctor::Doctor),
    /// Print a completion script for a shell
    #[command(before_help = "Example:
  source <(meshlog completion bash)")]
    Completion(completion::Completion),
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    // Acknowledgements that nobody read are a loss; output that nobody reads is not.
    let broken_pipe = match command {
        Command::Produce(_) => Exit::BrokenPipe,
        _ => Exit::Ok,
    };
    let mut out = Out::new();
    let result = run(command, &mut out);
    let result = result.and_then(|()| out.flush());
    let exit = match result {
        Ok(()) => Exit::Ok,
        Err(failure) => {
            if !failure.is_quiet() {
                out.note(format_args!("error: {failure}"));
            }
            match failure.exit() {
                Exit::BrokenPipe => broken_pipe,
                exit => exit,
            }
        }
    };
    ExitCode::from(exit as u8)
}

fn run(command: Command, out: &mut Out) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Error, format!("no runtime: {error}")))?;
    let result = runtime.block_on(async {
        match command {
            Command::Serve(args) => args.run(out).await,
            Command::Quickstart(args) => args.run(out).await,
            Command::Produce(args) => args.run(out).await,
            Command::Consume(args) => args.run(out).await,
            Command::Product(command) => command.run(out).await,
            Command::Schema(command) => command.run(out).await,
            Command::Domain(command) => command.run(out).await,
            Command::Team(command) => command.run(out).await,
            Command::Server(command) => command.run(out).await,
            Command::Verify(args) => args.run(out),
            Command::Doctor(args) => args.run(out).await,
            Command::Completion(args) => args.run(out),
        }
    });
    // A thread that waits for a line of standard input must not hold the process.
    runtime.shutdown_background();
    result
}
