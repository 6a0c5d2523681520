//! The data contracts of the flights mesh before the checker of those who made the standard's tools.

use std::process::Command;

use super::install::python_with;
use super::{Outcome, run};

/// The version of the Python package that is installed if there is none.
const DATACONTRACT: &str = "datacontract-cli==1.2.8";

/// `datacontract lint` finds nothing. That they are what `meshlog export` writes, the guide's
/// demonstration shows.
pub(super) fn datacontract_lint(may_install: bool) -> Outcome {
    let python = match python_with("datacontract", DATACONTRACT, "datacontract", may_install) {
        Ok(python) => python,
        Err(why) => return Outcome::Skipped(why),
    };
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/flights/contracts");
    let mut contracts: Vec<_> = match std::fs::read_dir(folder) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(error) => return Outcome::Failed(format!("{folder}: {error}")),
    };
    contracts.sort();
    if contracts.len() != 5 {
        return Outcome::Failed(format!("{} contracts in {folder}", contracts.len()));
    }
    for contract in contracts {
        let mut lint = Command::new(&python);
        lint.args(["-c", "from datacontract.cli import app; app()", "lint"]).arg(&contract);
        match run(&mut lint) {
            Outcome::Passed => {}
            other => return other,
        }
    }
    Outcome::Passed
}
