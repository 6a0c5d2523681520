//! `meshlog policy`: tries policies before a broker uses them.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::{
    exit::{Exit, Failure, Result},
    output::{Out, OutputArgs, Row},
};

/// Try policies.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Check policies against the schema, and against cases that say what they must decide
    Test(Test),
}

/// Arguments of `policy test`.
#[derive(Debug, Args)]
#[command(before_help = "Examples:
  meshlog policy test ./policies
  meshlog policy test ./policies --cases cases.yaml
  meshlog policy test ./policies --cases cases.yaml -o json")]
#[command(after_help = "Cases are a list, in YAML or JSON:
  - name: strangers do not read what is secret
    principal: { team: hr }
    action: consume
    product: { name: ops.flights, owner: ops, tags: [secret] }
    expected: deny
    policy: no-secrets

No broker is asked. Ends with 0 if everything is as expected, 1 if a case is not, 2 if the
policies or the cases cannot be read. Needs a build with the feature `cedar`.")]
pub(crate) struct Test {
    /// A file of policies, or a directory with files `*.cedar`
    #[arg(value_name = "PATH")]
    policies: PathBuf,
    /// What they must decide
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

impl PolicyCommand {
    /// Runs the command.
    pub(crate) fn run(&self, out: &mut Out) -> Result<()> {
        match self {
            Self::Test(test) => test.run(out),
        }
    }
}

/// One case, and what came out.
#[derive(Debug, Serialize)]
struct Tried {
    case: String,
    is_expected: bool,
    expected: String,
    decided: String,
    /// The policies that decided.
    policies: Vec<String>,
}

impl Row for Tried {
    const PLURAL: &'static str = "cases";
    const HEADER: &'static [&'static str] = &["CASE", "EXPECTED", "DECIDED", "BY", "AS EXPECTED"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.case.clone(),
            self.expected.clone(),
            self.decided.clone(),
            self.policies.join(", "),
            if self.is_expected { "yes" } else { "NO" }.to_owned(),
        ]
    }
}

impl Test {
    fn run(&self, out: &mut Out) -> Result<()> {
        let (count, tried) = tried(&self.policies, self.cases.as_deref())?;
        if self.cases.is_some() {
            out.list(self.output.output, &tried)?;
        }
        let wrong = tried.iter().filter(|tried| !tried.is_expected).count();
        if wrong > 0 {
            let what = format!("{wrong} of {} cases did not come out as expected", tried.len());
            return Err(Failure::new(Exit::Error, what));
        }
        out.note(format_args!("policies: {count}, cases as expected: {}", tried.len()));
        Ok(())
    }
}

#[cfg(feature = "cedar")]
fn tried(policies: &Path, cases: Option<&Path>) -> Result<(usize, Vec<Tried>)> {
    use meshlog_broker::access::policy::{Case, Policies};

    let policies = Policies::load(policies)?;
    let cases: Vec<Case> = cases.map(read).transpose()?.unwrap_or_default();
    let tried = cases.iter().enumerate().map(|(at, case)| {
        let name =
            if case.name.is_empty() { format!("case {}", at + 1) } else { case.name.clone() };
        let outcome =
            policies.try_case(case).map_err(|error| Failure::usage(format!("{name}: {error}")))?;
        let expected = case.policy.as_ref().map_or_else(
            || case.expected.to_string(),
            |policy| format!("{} by {policy}", case.expected),
        );
        Ok(Tried {
            case: name,
            is_expected: outcome.is_expected,
            expected,
            decided: outcome.decided.to_string(),
            policies: outcome.policies,
        })
    });
    Ok((policies.count(), tried.collect::<Result<_>>()?))
}

#[cfg(feature = "cedar")]
fn read<T: serde::de::DeserializeOwned>(file: &Path) -> Result<T> {
    let wrong =
        |what: &dyn std::fmt::Display| Failure::usage(format!("{}: {what}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
    // JSON is YAML too.
    serde_saphyr::from_str(&text).map_err(|error| wrong(&error))
}

#[cfg(not(feature = "cedar"))]
fn tried(_policies: &Path, _cases: Option<&Path>) -> Result<(usize, Vec<Tried>)> {
    Err(Failure::usage(
        "this build of meshlog has no policies; build it with `--features cedar`, as \
         docs/guide/policies.md describes",
    ))
}
