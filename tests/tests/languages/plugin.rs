//! The pytest plug-in of `clients/python`: installed as a user installs it, then judged by its own tests.

use std::path::PathBuf;

use crate::files::{copy, root};
use crate::process::{Limit, run, shell};
use crate::report::Cell;
use crate::workshop::Workshop;

pub(crate) const NAME: &str = "pytest-meshlog";

fn source() -> PathBuf {
    root().join("clients/python")
}

pub(crate) fn prepare(workshop: &Workshop) -> Result<(), Cell> {
    let bench = workshop.bench_of(NAME, workshop.folder_of(NAME), &[source()])?;
    if bench.is_ready() {
        return Ok(());
    }
    copy(&source(), &bench.folder).map_err(Cell::Failed)?;
    let install = "python3 -m venv .venv\n.venv/bin/pip install -q -r requirements-test.txt .";
    run(shell(install, &bench.folder, &workshop.path()), Limit::Installing, None)
        .map_err(Cell::Failed)?;
    bench.mark_ready().map_err(Cell::Failed)
}

pub(crate) fn run_tests(workshop: &Workshop) -> Result<(), String> {
    let mut command =
        shell(".venv/bin/pytest -q tests", &workshop.folder_of(NAME), &workshop.path());
    command.env("MESHLOG_BINARY", workshop.binary());
    run(command, Limit::Running, None).map(drop)
}
