//! The run that the README prints, with the real binaries.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use alerts::ALERTS;
use meshlog_client::Client;

const README: &str = include_str!("../../README.md");
const ALERTS_BINARY: &str = env!("CARGO_BIN_EXE_alerts");

/// Ended with the test, by its own id.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> (Self, impl Iterator<Item = String> + use<>) {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (Self(child), lines.map_while(Result::ok))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The `meshlog` beside this test's own binaries, built if it is not there.
fn meshlog() -> PathBuf {
    let path = PathBuf::from(ALERTS_BINARY).with_file_name("meshlog");
    if !path.exists() {
        let mut build = Command::new(env!("CARGO"));
        let built = build.args(["build", "--workspace", "--bin", "meshlog"]).status().unwrap();
        assert!(built.success() && path.exists(), "{} cannot be built", path.display());
    }
    path
}

#[tokio::test]
async fn it_runs_against_quickstart_as_printed_and_a_second_run_repeats_nothing() {
    let printed = |command: &str| README.lines().any(|line| line == command);
    assert!(printed("meshlog quickstart"));
    assert!(printed("cargo run --package meshlog-alerts -- 127.0.0.1:7420"));
    let (_broker, mut lines) = Process::start(Command::new(meshlog()).arg("quickstart"));
    let address = lines.next().unwrap().strip_prefix("listening on ").unwrap().to_owned();
    // All flights are loaded once it says what to try next.
    assert!(lines.any(|line| line.contains("read back in")));

    let (application, alerts) = Process::start(Command::new(ALERTS_BINARY).arg(&address));
    let alerts: Vec<String> = alerts.take(559).collect();
    assert!(printed(&alerts[0]), "{}", alerts[0]);
    drop(application);
    let client = Client::connect(&address).await.unwrap();
    let end = async || client.catalog().list_offsets(ALERTS, &[], None).await.unwrap();
    assert_eq!(end().await[0].durable_end, 559);

    let (_application, mut more) = Process::start(Command::new(ALERTS_BINARY).arg(&address));
    let late = alerts.first().unwrap().clone();
    drop(std::thread::spawn(move || more.next().map(|line| panic!("again: {line} {late}"))));
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(end().await[0].durable_end, 559);
}
