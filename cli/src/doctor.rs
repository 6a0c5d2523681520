//! `meshlog doctor`: whether this machine is a good place for a broker, one line for each thing
//! that has gone wrong somewhere before.

mod disk;
mod machine;
mod port;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::Args;
use meshlog_broker::verify::{self, Standing};
use serde::Serialize;

use crate::{
    exit::{Exit, Failure, Result},
    output::{Out, OutputArgs, Row},
    settings::{self, DEFAULT_ADDRESS},
};

/// Arguments of `doctor`.
#[derive(Debug, Args)]
#[command(before_help = "Examples:
  meshlog doctor
  meshlog doctor --data-dir /var/lib/meshlog --listen 127.0.0.1:7420
  meshlog doctor -o json | jq '.[] | select(.state != \"ok\")'")]
#[command(
    after_help = "Writes one temporary file into the directory, for less than five seconds, and removes it. The
directory may be open in a broker, whose load then shows in the latencies. Ends with 1 if anything
is a problem; a warning is not."
)]
pub(crate) struct Doctor {
    /// The data directory, or where one shall be [default: as of `serve`]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The address that the broker listens on [default: as of `serve`]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    output: OutputArgs,
}

/// How one thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warning,
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    state: State,
    found: String,
    /// What to do about it.
    advice: Option<String>,
}

impl Finding {
    fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, state: State::Ok, found: found.into(), advice: None }
    }

    fn warning(what: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self { what, state: State::Warning, found: found.into(), advice }
    }

    fn problem(what: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { state: State::Problem, ..Self::warning(what, found, advice) }
    }
}

impl Row for Finding {
    const PLURAL: &'static str = "findings";
    const HEADER: &'static [&'static str] = &["WHAT", "STATE", "FOUND"];

    fn cells(&self) -> Vec<String> {
        let state = match self.state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Problem => "PROBLEM",
        };
        vec![self.what.into(), state.into(), self.found.clone()]
    }
}

impl Doctor {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        let file = settings::File::load()?;
        let directory = self
            .data_dir
            .or(file.broker.data_dir.clone())
            .or_else(settings::default_data_dir)
            .ok_or_else(|| {
                Failure::usage("there is no home directory; name one with --data-dir DIR")
            })?;
        let listen = match self.listen.or(file.serve.listen) {
            Some(listen) => listen,
            None => DEFAULT_ADDRESS.parse().map_err(|_| Failure::usage("the default address"))?,
        };
        let mut findings = vec![standing(&directory)];
        findings.extend(disk::look(&directory));
        findings.extend(machine::look().await);
        findings.push(port::look(&file.broker, listen).await);

        out.list(self.output.output, &findings)?;
        if self.output.output.is_for_people() {
            for finding in &findings {
                if let Some(advice) = &finding.advice {
                    out.line(format_args!("\n{}: {advice}", finding.what))?;
                }
            }
        }
        match findings.iter().filter(|finding| finding.state == State::Problem).count() {
            0 => Ok(()),
            1 => Err(Failure::new(Exit::Error, "one problem; see above what to do about it")),
            count => {
                Err(Failure::new(Exit::Error, format!("{count} problems; see above what to do")))
            }
        }
    }
}

/// What the directory is, and whether a broker has it open.
fn standing(directory: &Path) -> Finding {
    const WHAT: &str = "directory";
    let name = directory.display();
    match verify::standing(directory) {
        Ok(Standing::Empty) => Finding::ok(WHAT, format!("{name} is empty; `serve` begins it")),
        Ok(Standing::Free) => {
            Finding::ok(WHAT, format!("{name} holds data; no broker has it open"))
        }
        Ok(Standing::Open) => Finding::ok(WHAT, format!("{name} is open in a running broker")),
        Err(_) if !directory.exists() => {
            Finding::ok(WHAT, format!("{name} does not exist; `serve` makes it"))
        }
        Err(error) => Finding::problem(
            WHAT,
            error.to_string(),
            "give `serve` another directory, or one that this user can read and write",
        ),
    }
}
