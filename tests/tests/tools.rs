//! Other people's tools judge us.
//!
//! Not a libtest: each check finds its tool in `PATH` or among those installed before, installs it if `MESHLOG_REQUIRE=all`
//! (as in `.ci/run`), and otherwise says loudly that it was skipped and why. With `MESHLOG_REQUIRE=all` a skip is a failure.

#![allow(clippy::print_stdout, reason = "the report is this program's output")]

#[path = "tools/deploy.rs"]
mod deploy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The version of buf that is installed if there is none.
const BUF: &str = "@bufbuild/buf@1.75.0";

enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

/// Told whether it may install its tool.
type Check = fn(bool) -> Outcome;

fn main() -> ExitCode {
    let is_required = std::env::var("MESHLOG_REQUIRE").is_ok_and(|value| value == "all");
    let checks: &[(&str, Check)] = &[
        ("the wire contract passes `buf lint` STANDARD", wire_contract_is_clean),
        ("the alert rules pass `promtool check rules`", deploy::alert_rules_are_valid),
        (
            "the page of metrics passes `promtool check metrics`",
            deploy::the_page_of_metrics_is_well_formed,
        ),
        (
            "the unit passes `systemd-analyze verify` and `security`",
            deploy::the_unit_is_valid_and_hardened,
        ),
        (
            "the Debian package installs, runs and is removed",
            deploy::the_debian_package_installs_and_runs,
        ),
        (
            "the container file is valid and its health check works",
            deploy::the_container_file_is_valid_and_its_health_check_works,
        ),
    ];
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (name, check) in checks {
        match check(is_required) {
            Outcome::Passed => {
                println!("ok       {name}");
                passed += 1;
            }
            Outcome::Skipped(why) if !is_required => {
                println!("SKIPPED  {name}: {why}");
                skipped += 1;
            }
            Outcome::Skipped(why) | Outcome::Failed(why) => {
                println!("FAILED   {name}:\n{why}");
                failed += 1;
            }
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn wire_contract_is_clean(may_install: bool) -> Outcome {
    let buf = match npm_tool("buf", BUF, may_install) {
        Ok(buf) => buf,
        Err(why) => return Outcome::Skipped(why),
    };
    run(Command::new(buf).arg("lint").current_dir(root()))
}

fn root() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// A tool from `PATH`, or one installed from the npm registry into a folder of this build.
fn npm_tool(name: &str, package: &str, may_install: bool) -> Result<PathBuf, String> {
    if Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success()) {
        return Ok(name.into());
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("npm");
    let tool = folder.join("node_modules/.bin").join(name);
    if tool.exists() {
        return Ok(tool);
    }
    if !may_install {
        return Err(format!("{name} is not installed; `npm install -g {package}` installs it"));
    }
    let mut install = Command::new("npm");
    install.args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(&folder).arg(package);
    match run(&mut install) {
        Outcome::Passed => Ok(tool),
        Outcome::Failed(why) | Outcome::Skipped(why) => {
            Err(format!("{name} is not installed and npm could not install it:\n{why}"))
        }
    }
}

fn run(command: &mut Command) -> Outcome {
    match command.output() {
        Ok(output) if output.status.success() => Outcome::Passed,
        Ok(output) => Outcome::Failed(format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )),
        Err(error) => Outcome::Failed(format!("{command:?} cannot be run: {error}")),
    }
}
