//! `schemathesis` calls every operation that the served OpenAPI describes, with what the description
//! allows and with what it does not, and looks at each answer: no failure of the broker, and nothing
//! that the document does not say.

use std::path::PathBuf;
use std::process::Command;

use meshlog_tests::{TestBroker, append, product};

use crate::{Outcome, run};

/// The version that is installed if there is none.
const PACKAGE: &str = "schemathesis==4.32.5";

/// Requests per operation.
const EXAMPLES: &str = "15";

/// What is looked at.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance";

/// The check.
pub(crate) fn check(may_install: bool) -> Outcome {
    let schemathesis = match schemathesis(may_install) {
        Ok(schemathesis) => schemathesis,
        Err(why) => return Outcome::Skipped(why),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    let broker = runtime.block_on(async {
        let mut config = meshlog_broker::Config::default();
        // A long poll with a made-up time would only wait.
        config.edge.request_timeout = "5s".parse().unwrap_or(config.edge.request_timeout);
        let broker = TestBroker::start_with(config).await;
        broker.create(product("sandbox.a")).await;
        let appended = broker.records().append(append("sandbox.a").value("{}")).await;
        appended.map(|_| broker)
    });
    let broker = match broker {
        Ok(broker) => broker,
        Err(status) => return Outcome::Failed(status.to_string()),
    };
    // The first key would ask every later call for one, and streams of events do not end.
    run(Command::new(schemathesis)
        .args(["run", "--no-color", "--seed", "7", "--max-examples", EXAMPLES])
        .args(["--phases", "examples,coverage,fuzzing", "--checks", CHECKS])
        .args(["--exclude-operation-id", "CreateKey", "--request-timeout", "70"])
        .args(["--generation-database", "none", "--workers", "2"])
        // It leaves a folder where it runs.
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .arg(format!("http://{}/openapi.json", broker.address())))
}

fn schemathesis(may_install: bool) -> Result<PathBuf, String> {
    let is_there = |program: &PathBuf| {
        let asked = Command::new(program).arg("--version").output();
        asked.is_ok_and(|output| output.status.success())
    };
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("schemathesis");
    let own = folder.join("bin/schemathesis");
    for program in [PathBuf::from("schemathesis"), own.clone()] {
        if is_there(&program) {
            return Ok(program);
        }
    }
    if !may_install {
        return Err(format!("it is not installed; `pip install {PACKAGE}` installs it"));
    }
    for command in [
        Command::new("python3").args(["-m", "venv"]).arg(&folder),
        Command::new(folder.join("bin/python")).args(["-m", "pip", "install", "-q", PACKAGE]),
    ] {
        if let Outcome::Failed(why) | Outcome::Skipped(why) = run(command) {
            return Err(format!("{PACKAGE} could not be installed:\n{why}"));
        }
    }
    Ok(own)
}
