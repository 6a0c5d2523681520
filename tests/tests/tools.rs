//! Other people's tools judge us.
//!
//! Not a libtest: each check finds its tool in `PATH` or among those installed before, installs it if `MESHLOG_REQUIRE=all`
//! (as in `.ci/run`), and otherwise says loudly that it was skipped and why. With `MESHLOG_REQUIRE=all` a skip is a failure.

#![allow(clippy::print_stdout, reason = "the report is this program's output")]

#[path = "tools/browser.rs"]
mod browser;
#[path = "tools/contracts.rs"]
mod contracts;
#[path = "tools/deploy.rs"]
mod deploy;
#[path = "tools/grpcurl.rs"]
mod grpcurl;
#[path = "tools/http.rs"]
mod http;
#[path = "tools/install.rs"]
mod install;
#[path = "tools/openapi.rs"]
mod openapi;
#[path = "tools/registry.rs"]
mod registry;
#[path = "tools/schemas.rs"]
mod schemas;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, ExitCode};

use install::npm_tool;

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
    let asked: Vec<String> = std::env::args().skip(1).filter(|one| !one.starts_with('-')).collect();
    let checks: &[(&str, Check)] = &[
        ("the wire contract passes `buf lint` STANDARD", wire_contract_is_clean),
        ("Python's avro says of 2,000 pairs of schemas what we say", schemas::avro_in_python),
        ("`buf breaking` says of 120 pairs of files what we say", schemas::protobuf_in_buf),
        (
            "the contracts of the flights mesh pass `datacontract lint`",
            contracts::datacontract_lint,
        ),
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
        ("`grpcurl` lists, describes, calls, follows and shows error details", grpcurl::check),
        (
            "`grpcurl` does so over TLS, and refuses an authority that it does not know",
            grpcurl::over_tls,
        ),
        ("`schemathesis` finds nothing that the served OpenAPI does not say", openapi::check),
        (
            "Confluent's serializers for Python have the broker as their schema registry",
            registry::check,
        ),
        ("a page in a real browser uses the broker if its origin is allowed", browser::check),
    ];
    let is_asked = |name: &str| asked.is_empty() || asked.iter().any(|one| name.contains(one));
    let checks = checks.iter().filter(|(name, _)| is_asked(name));
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

/// An address that nobody listens on now.
fn free_port() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map_err(|error| error.to_string())
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
