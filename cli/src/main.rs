//! The `meshlog` binary: the broker (`serve`, `quickstart`) and the commands that talk to one.
//!
//! One file per command, named after it; a folder where a command has many. Beside them:
//!
//! | File | What |
//! |---|---|
//! | `settings.rs` | flag, environment, context, configuration file, default, in that order |
//! | `credential.rs`, `permission.rs` | the key that commands send and the files that hold one; what one may be allowed to do |
//! | `output.rs` | the one place that writes to standard output and standard error |
//! | `noun.rs`, `change.rs`, `confirm.rs` | what commands that list, change and delete have in common |
//! | `exit.rs` | exit codes, and failures as sentences |
//! | `completion.rs` | what the shell offers while a person types |
//! | `input.rs`, `csv_input.rs`, `envelope.rs` | the formats records come in and go out as |
//! | `log.rs`, `telemetry.rs`, `notify.rs` | what a broker tells while it runs: log lines, OpenTelemetry, the service manager |
//! | `mesh.rs` | the flights mesh that `quickstart` loads |

mod access;
mod apply;
mod audit;
mod backup;
mod bench;
mod change;
mod completion;
mod config;
mod confirm;
mod consume;
mod credential;
mod csv_input;
mod cursor;
mod doctor;
mod domain;
mod envelope;
mod exit;
mod impact;
mod init;
mod input;
mod key;
mod lineage;
mod log;
mod man;
mod mesh;
mod notify;
mod noun;
mod output;
mod permission;
mod policy;
mod produce;
mod product;
mod progress;
mod quarantine;
mod quickstart;
mod recover;
mod restore;
mod rule;
mod schema;
mod search;
mod serve;
mod server;
mod settings;
mod tag;
mod team;
mod telemetry;
mod tls;
mod verify;
mod words;

use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::CompleteEnv;

use exit::{Exit, Failure, Result};
use output::{Colour, Out};

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
  meshlog quickstart                      a broker with real data, to try out
  meshlog serve                           a broker that keeps its data
  meshlog search flight delays            what is there
  meshlog product create sandbox.notes    a first product
  echo '{\"note\":1}' | meshlog produce sandbox.notes
  meshlog consume sandbox.notes --follow",
    after_help = "Exit codes: 0 done, 1 error, 2 usage, 3 not found, 4 conflict, 5 denied,
  6 unavailable or overloaded, 7 rejected by schema, 8 damaged data,
  9 different (diff), 130 interrupted

Settings: flag, then environment (MESHLOG_SERVER, MESHLOG_CONTEXT), then the
  context in use, then $XDG_CONFIG_HOME/meshlog/config.toml, then default;
  `meshlog config show` says what they are and where each comes from"
)]
struct Cli {
    /// Where to use colour: auto (on a terminal, unless NO_COLOR is set), always or never
    #[arg(
        long,
        value_name = "WHEN",
        global = true,
        default_value = "auto",
        hide_default_value = true,
        hide_possible_values = true
    )]
    color: Colour,
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
  meshlog consume ops.flights --as nightly-report > today.jsonl
  meshlog consume ops.flights -o raw > flights.jsonl")]
    Consume(consume::Consume),
    /// List, show, move and delete named cursors
    #[command(
        subcommand,
        before_help = "Examples:
  meshlog cursor list
  meshlog cursor reset nightly-report ops.flights --to earliest"
    )]
    Cursor(cursor::CursorCommand),
    /// Find products by words and filters
    #[command(before_help = "Examples:
  meshlog search flight delays
  meshlog search tag:region=nyc state:active
  meshlog search 'weather -domain:sandbox' -o json")]
    Search(search::Search),
    /// Draw where the data of a product comes from, and where it goes
    ///
    /// Seen by the broker: every append and every read counts for the application that made it.
    Lineage(lineage::Lineage),
    /// Say who would notice a change of a product or one of its fields
    Impact(impact::Impact),
    /// Create, find out about, change and end data products
    #[command(
        subcommand,
        before_help = "Examples:
  meshlog product create sandbox.notes
  meshlog product show ops.flights
  meshlog product update ops.flights --docs flights.md"
    )]
    Product(product::ProductCommand),
    /// List, show, compare and add versions of a product's schema
    #[command(
        subcommand,
        before_help = "Examples:
  meshlog schema show ops.flights
  meshlog schema diff ops.flights --from 1 --to 2"
    )]
    Schema(schema::SchemaCommand),
    /// List, show and redrive records that a product did not take
    #[command(
        subcommand,
        before_help = "Examples:
  meshlog quarantine list ops.flights
  meshlog quarantine redrive ops.flights --all"
    )]
    Quarantine(quarantine::QuarantineCommand),
    /// Say what records must meet beside the schema, and test it
    #[command(
        subcommand,
        before_help = "Examples:
  meshlog rule list ops.flights
  meshlog rule test ops.flights --expression 'value.delay < 1440'"
    )]
    Rule(rule::RuleCommand),
    /// Create, list, show, update and delete domains
    #[command(
        subcommand,
        before_help = "Examples:
  meshlog domain list
  meshlog domain create ops --owner flight-operations"
    )]
    Domain(domain::DomainCommand),
    /// Create, list, show, update and delete teams
    #[command(
        subcommand,
        before_help = "Examples:
  meshlog team list
  meshlog team create flight-operations --contact ops@nyc.example"
    )]
    Team(team::TeamCommand),
    /// Create, list, show, update and delete keys of the tag vocabulary
    #[command(
        subcommand,
        before_help = "Examples:
  meshlog tag list
  meshlog tag create aviation --owner reference-data"
    )]
    Tag(tag::TagCommand),
    /// Make a data mesh as files say it: teams, tag keys, domains and products
    ///
    /// Shows what is different, has the broker check all of it, and changes only that. What is as the
    /// files say is left alone; what somebody else changes meanwhile is not overwritten.
    #[command(before_help = "Examples:
  meshlog apply -f mesh.yaml --dry-run
  meshlog apply -f mesh.yaml
  meshlog apply -f mesh/ --prune
  meshlog apply -f flights.odcs.yaml
  meshlog apply --schema > mesh.schema.json")]
    Apply(apply::Apply),
    /// Show what `meshlog apply` would change; exit code 9 if anything
    #[command(before_help = "Examples:
  meshlog diff -f mesh.yaml
  meshlog diff -f mesh/ --prune -o json")]
    Diff(apply::Diff),
    /// Write the data mesh as a file that `meshlog apply` takes
    #[command(before_help = "Examples:
  meshlog export > mesh.yaml
  meshlog export --domain ops
  meshlog export ops.flights --format odcs > flights.odcs.yaml")]
    Export(apply::Export),
    /// Who changed what, who was refused, and whether the log of it is whole
    #[command(
        subcommand,
        before_help = "Examples:
  meshlog audit list --since 2027-01-31
  meshlog audit verify"
    )]
    Audit(audit::AuditCommand),
    /// Make the first key of a broker: from then on every call must say who makes it
    ///
    /// Works on the directory of a broker that does not run. The key is an administrator's; it is shown
    /// this once, and the broker keeps only a hash of it.
    #[command(before_help = "Examples:
  meshlog init --output-file admin.key
  meshlog init --data-dir ./data -o json
  meshlog init --rescue > admin.key   when all administrators' keys are lost")]
    Init(init::Init),
    /// Make, list and revoke keys
    #[command(
        subcommand,
        before_help = "Examples:
  meshlog key create --team billing --output-file billing.key
  meshlog key list"
    )]
    Key(key::KeyCommand),
    /// Say who one is to the broker
    #[command(
        name = "whoami",
        before_help = "Examples:
  meshlog whoami
  meshlog whoami --key-file billing.key -o json"
    )]
    WhoAmI(key::WhoAmI),
    /// Who may do what: requests for access, and grants
    #[command(
        subcommand,
        before_help = "Examples:
  meshlog access requests
  meshlog access approve 01jx3m7v9k5t2q8w4r6y0z1a2b --expires 90d
  meshlog access check consume --product ops.flights"
    )]
    Access(access::AccessCommand),
    /// Try policies before a broker uses them
    #[command(
        subcommand,
        before_help = "Example:
  meshlog policy test ./policies --cases cases.yaml"
    )]
    Policy(policy::PolicyCommand),
    /// Facts about a broker
    #[command(
        subcommand,
        before_help = "Example:
  meshlog server info"
    )]
    Server(server::ServerCommand),
    /// Certificates for a lab
    #[command(
        subcommand,
        before_help = "Example:
  meshlog tls init ./tls --host broker.lab.example"
    )]
    Tls(tls::TlsCommand),
    /// Settings, and brokers by name
    #[command(
        subcommand,
        before_help = "Examples:
  meshlog config show
  meshlog config context add lab --server 127.0.0.1:7421 --use"
    )]
    Config(config::ConfigCommand),
    /// Read every byte of a data directory and say what is damaged, and where
    Verify(verify::Verify),
    /// Say what is left of a data directory that lost all its checkpoints, and make it openable
    Recover(recover::Recover),
    /// Back up everything a broker holds, while it goes on, and say what a backup holds
    Backup(backup::Backup),
    /// Make a data directory of a backup
    Restore(restore::Restore),
    /// Look whether this machine is a good place for a broker
    Doctor(doctor::Doctor),
    /// Measure how fast a broker is
    #[command(
        subcommand,
        before_help = "Examples:
  meshlog bench append --size 100 --batch 600
  meshlog bench latency --rate 5000 --duration 60s"
    )]
    Bench(bench::BenchCommand),
    /// Print what makes a shell complete commands and names
    #[command(before_help = "Examples:
  source <(meshlog completion bash)            in ~/.bashrc
  source <(meshlog completion zsh)             in ~/.zshrc
  meshlog completion fish > ~/.config/fish/completions/meshlog.fish")]
    Completion(completion::Completion),
    /// Write the manual pages into a directory
    #[command(before_help = "Example:
  meshlog man ~/.local/share/man/man1")]
    Man(man::Pages),
}

fn main() -> ExitCode {
    // A shell that asks for completions gets its answer here, and nothing else happens.
    CompleteEnv::with_factory(Cli::command).complete();
    let colour = Colour::of_args();
    let choice = match colour {
        Colour::Auto => ColorChoice::Auto,
        Colour::Always => ColorChoice::Always,
        Colour::Never => ColorChoice::Never,
    };
    let matches = Cli::command().color(choice).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let command = cli.command;
    // Acknowledgements that nobody read are a loss; output that nobody reads is not.
    let broken_pipe = match command {
        Command::Produce(_) => Exit::BrokenPipe,
        _ => Exit::Ok,
    };
    let mut out = Out::new(cli.color);
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
            Command::Quickstart(args) => Box::pin(args.run(out)).await,
            Command::Produce(args) => args.run(out).await,
            Command::Consume(args) => args.run(out).await,
            Command::Cursor(command) => command.run(out).await,
            Command::Search(args) => args.run(out).await,
            Command::Lineage(args) => args.run(out).await,
            Command::Impact(args) => args.run(out).await,
            Command::Product(command) => Box::pin(command.run(out)).await,
            Command::Schema(command) => command.run(out).await,
            Command::Quarantine(command) => command.run(out).await,
            Command::Rule(command) => Box::pin(command.run(out)).await,
            Command::Domain(command) => command.run(out).await,
            Command::Team(command) => command.run(out).await,
            Command::Tag(command) => command.run(out).await,
            Command::Apply(args) => Box::pin(args.run(out)).await,
            Command::Diff(args) => Box::pin(args.run(out)).await,
            Command::Export(args) => Box::pin(args.run(out)).await,
            Command::Audit(command) => Box::pin(command.run(out)).await,
            Command::Init(args) => Box::pin(args.run(out)).await,
            Command::Key(command) => command.run(out).await,
            Command::WhoAmI(args) => args.run(out).await,
            Command::Access(command) => Box::pin(command.run(out)).await,
            Command::Policy(command) => command.run(out),
            Command::Server(command) => command.run(out).await,
            Command::Tls(command) => command.run(out),
            Command::Config(command) => command.run(out),
            Command::Verify(args) => args.run(out),
            Command::Recover(args) => args.run(out),
            Command::Backup(args) => args.run(out).await,
            Command::Restore(args) => args.run(out),
            Command::Doctor(args) => args.run(out).await,
            Command::Bench(command) => Box::pin(command.run(out)).await,
            Command::Completion(args) => args.run(out),
            Command::Man(args) => args.run(out),
        }
    });
    // A thread that waits for a line of standard input must not hold the process.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command with the words that call it.
    fn commands() -> Vec<(String, clap::Command)> {
        fn collect(
            path: String,
            command: &clap::Command,
            found: &mut Vec<(String, clap::Command)>,
        ) {
            for below in command.get_subcommands() {
                collect(format!("{path} {}", below.get_name()), below, found);
            }
            found.push((path, command.clone()));
        }
        let mut found = Vec::new();
        collect("meshlog".into(), &Cli::command(), &mut found);
        found
    }

    /// The words of a line of shell that begins with `meshlog`, up to where its output goes.
    fn words(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        let mut word = String::new();
        let mut quote = None;
        for c in line.chars() {
            match (quote, c) {
                (Some(open), c) if c == open => quote = None,
                (None, '\'' | '"') => quote = Some(c),
                (None, ' ') => words.push(std::mem::take(&mut word)),
                (_, c) => word.push(c),
            }
        }
        words.push(word);
        words.retain(|word| !word.is_empty());
        words.into_iter().take_while(|word| !matches!(word.as_str(), "|" | ">")).collect()
    }

    #[test]
    fn the_help_of_every_command_begins_with_examples_that_can_be_typed() {
        let mut checked = 0;
        for (path, command) in commands() {
            let help = command.get_before_help().map(ToString::to_string).unwrap_or_default();
            let mut lines = help.lines();
            let title = lines.next();
            assert!(matches!(title, Some("Example:" | "Examples:")), "`{path}` has no examples");
            let examples: Vec<&str> = lines.collect();
            assert!(!examples.is_empty(), "{path}");
            for line in &examples {
                assert!(line.starts_with("  ") && line.len() < 80, "`{path}`: {line}");
            }
            // A line that ends with a backslash goes on in the next one.
            let mut whole: Vec<String> = Vec::new();
            for line in &examples {
                match whole.last_mut() {
                    Some(last) if last.ends_with('\\') => {
                        last.pop();
                        last.push_str(line.trim_start());
                    }
                    _ => whole.push((*line).to_owned()),
                }
            }
            let mut about_itself = false;
            for line in &whole {
                // What stands behind three spaces is said to the reader.
                let line = line.trim().split("   ").next().unwrap_or_default();
                for piece in line.split(['|', '(']) {
                    let words = words(piece.trim().trim_end_matches([')', '"']));
                    if words.first().is_some_and(|word| word == "meshlog") {
                        let parsed = Cli::try_parse_from(&words);
                        assert!(parsed.is_ok(), "`{path}`: {words:?}: {}", parsed.unwrap_err());
                        about_itself |= words.join(" ").starts_with(&path);
                        checked += 1;
                    }
                }
            }
            assert!(about_itself, "no example of `{path}` is about it");
        }
        assert!(checked > 80, "{checked}");
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
