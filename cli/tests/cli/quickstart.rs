//! `quickstart` and the commands it suggests.

use std::{
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::process::Signal;

use crate::harness::{MESHLOG, Process, command, flights, run};

/// The usual port is one; tests that may take it take turns.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lines between `header` and the next blank line.
fn block<'a>(output: &'a str, header: &str) -> Vec<&'a str> {
    let lines = output.lines().skip_while(|line| !line.starts_with(header)).skip(1);
    lines.take_while(|line| !line.is_empty()).collect()
}

#[test]
fn it_loads_the_mesh_shows_a_refusal_and_leaves_nothing_behind() {
    let _alone = alone();
    let home = tempfile::tempdir().unwrap();
    let temporary = home.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let mut quickstart = command(home.path());
    quickstart.args(["quickstart", "--exit"]).env("TMPDIR", &temporary);
    let output = run(quickstart, "").ok();
    let table: Vec<Vec<&str>> =
        block(&output, "PRODUCT").iter().map(|line| line.split_whitespace().collect()).collect();
    let counts: Vec<(&str, &str, &str)> =
        table.iter().map(|row| (row[0], row[3], row[4])).collect();
    assert_eq!(
        counts,
        [
            ("reference.airlines", "16", "synced"),
            ("reference.airports", "1,458", "synced"),
            ("fleet.planes", "3,322", "synced"),
            ("weather.observations", "1,002", "synced"),
            ("ops.flights", "12,208", "synced"),
        ]
    );
    assert!(output.starts_with("listening on 127.0.0.1:"), "{output}");
    for words in [
        "4 teams, 7 tag keys, 4 domains and 5 data products",
        "18,006 records on disk",
        "/dep_time",
        "identical",
    ] {
        assert!(output.contains(words), "`{words}` is not in {output}");
    }
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "the directory is removed");
}

#[test]
fn every_command_it_suggests_works_and_ctrl_c_ends_it_with_zero() {
    let _alone = alone();
    let home = tempfile::tempdir().unwrap();
    let mut quickstart = command(home.path());
    quickstart.arg("quickstart");
    let mut quickstart = Process::start(quickstart);
    let address = quickstart.line();
    let address = address.strip_prefix("listening on ").unwrap().to_owned();
    let mut output = String::new();
    while !output.contains("Ctrl-C ends") {
        output.push_str(&quickstart.line());
        output.push('\n');
    }
    let commands = block(&output, "try next");
    assert!(commands.len() >= 7, "{output}");
    if !address.ends_with(":7420") {
        assert_eq!(commands[0].trim(), format!("export MESHLOG_SERVER={address}"));
    }
    assert!(commands.iter().any(|command| command.contains(MESHLOG)), "{output}");
    let script = format!("set -euo pipefail\n{}", commands.join("\n"));
    let mut shell = Command::new("bash");
    shell
        .args(["-c", &script])
        .env("HOME", home.path())
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("MESHLOG_SERVER")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = run(shell, "").ok();
    for words in ["ops.flights", "flight-operations@nyc.example", "N14228", r#"{"note":"hello"}"#] {
        assert!(output.contains(words), "`{words}` is not in {output}");
    }
    quickstart.signal(Signal::INT);
    let outcome = quickstart.wait();
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
}

#[test]
fn another_port_is_taken_if_the_usual_one_is_busy() {
    let _alone = alone();
    let held = std::net::TcpListener::bind("127.0.0.1:7420");
    let home = tempfile::tempdir().unwrap();
    let mut quickstart = command(home.path());
    quickstart.args(["quickstart", "--exit"]);
    let outcome = run(quickstart, "");
    if held.is_err() && !outcome.stderr.contains("in use") {
        // Another program had the port and gave it back just now.
        return;
    }
    assert!(outcome.stderr.contains("127.0.0.1:7420 is in use"), "{outcome:?}");
    let output = outcome.ok();
    let line = output.lines().next().unwrap();
    assert!(!line.ends_with(":7420"), "{line}");
    let address = line.strip_prefix("listening on ").unwrap();
    assert!(output.contains(&format!("export MESHLOG_SERVER={address}")), "{output}");
}

#[test]
fn the_tables_may_come_from_a_directory() {
    let _alone = alone();
    let home = tempfile::tempdir().unwrap();
    for table in ["airlines", "airports", "planes", "weather"] {
        let name = format!("{table}.csv");
        std::fs::copy(flights(&name), home.path().join(name)).unwrap();
    }
    // Fewer flights than the embedded ones.
    let text = std::fs::read_to_string(flights("flights.csv")).unwrap();
    let few: String = text.lines().take(101).map(|line| format!("{line}\n")).collect();
    std::fs::write(home.path().join("flights.csv"), few).unwrap();
    let mut quickstart = command(home.path());
    quickstart.args(["quickstart", "--exit", "--data"]).arg(home.path());
    let output = run(quickstart, "").ok();
    assert!(output.contains("5,898 records on disk"), "{output}");
}

#[test]
fn a_data_directory_without_the_tables_is_refused() {
    let _alone = alone();
    let home = tempfile::tempdir().unwrap();
    let mut quickstart = command(home.path());
    quickstart.args(["quickstart", "--exit", "--data"]).arg(home.path());
    run(quickstart, "").fails(2, &["airlines.csv", &home.path().display().to_string()]);
}
