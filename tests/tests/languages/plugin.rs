//! The pytest plug-in of `clients/python`: installed as a user installs it, then judged by its own tests.

use std::path::{Path, PathBuf};

use crate::files::{clear, copy, read, root};
use crate::process::{Limit, run, shell};
use crate::report::Cell;
use crate::workshop::Workshop;

pub(crate) const NAME: &str = "pytest-meshlog";

fn source() -> PathBuf {
    root().join("clients/python")
}

pub(crate) fn prepare(workshop: &Workshop) -> Result<(), Cell> {
    let bench =
        workshop.bench_of(NAME, workshop.folder_of(NAME), &[source(), workshop.contract()])?;
    if bench.is_ready() {
        return Ok(());
    }
    clear(&bench.folder).and_then(|()| copy(&source(), &bench.folder)).map_err(Cell::Failed)?;
    let readme = write_the_example_of_the_readme(&bench.folder);
    readme.map_err(Cell::Failed)?;
    run(shell(INSTALL, &bench.folder, &workshop.path()), Limit::Installing)
        .map_err(Cell::Failed)?;
    bench.mark_ready().map_err(Cell::Failed)
}

/// What its README says, and stubs for the example there, which the plug-in itself does not need.
const INSTALL: &str = "python3 -m venv .venv
.venv/bin/pip install -q -r requirements-test.txt .
.venv/bin/python -m grpc_tools.protoc -I ../../proto --python_out=. --grpc_python_out=. ../../proto/meshlog/v1/*.proto
";

/// The test in its README becomes a file beside its own tests.
fn write_the_example_of_the_readme(folder: &Path) -> Result<(), String> {
    let readme = read(&folder.join("README.md"))?;
    let example = readme.split("```python\n").nth(1).and_then(|rest| rest.split("```").next());
    let example = example.ok_or("clients/python/README.md shows no test")?;
    let file = folder.join("tests/test_readme.py");
    std::fs::write(&file, example).map_err(|error| format!("{}: {error}", file.display()))
}

pub(crate) fn run_tests(workshop: &Workshop) -> Result<(), String> {
    let mut command = shell(
        "PYTHONPATH=. .venv/bin/pytest -q tests",
        &workshop.folder_of(NAME),
        &workshop.path(),
    );
    command.env("MESHLOG_BINARY", workshop.binary());
    run(command, Limit::Running).map(drop)
}
