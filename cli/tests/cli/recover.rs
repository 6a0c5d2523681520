//! `recover`: a directory that lost all its checkpoints.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{Process, TestBroker, command, meshlog};

/// A directory with several journal files full of notes, left by a clean stop.
fn stopped() -> (TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let settings = home.path().join(".config/meshlog");
    std::fs::create_dir_all(&settings).unwrap();
    let text = "[broker.storage]\nfile_min = \"1MiB\"\nfile_max = \"1MiB\"\ngroup = \"256KiB\"\n";
    std::fs::write(settings.join("config.toml"), text).unwrap();
    // From the first file on: a slot of another size may hold all that follows.
    let broker = TestBroker::on(home);
    broker.sandbox("sandbox.notes");
    let fill = "x".repeat(2000);
    let notes: String =
        (0..2500).map(|n| format!("{{\"note\":{n},\"fill\":\"{fill}\"}}\n")).collect();
    broker.run_with(&["produce", "sandbox.notes"], &notes).ok();
    broker.stopped()
}

/// A file that another follows. Slots are taken in no certain order, and some may be free.
fn middle_of_the_journal(home: &TempDir, data: &Path) -> PathBuf {
    let report = meshlog(home, &["verify", data.to_str().unwrap(), "-o", "json"]).json();
    let files = report["files"].as_array().unwrap();
    let name = |file: &serde_json::Value| file["name"].as_str().unwrap().to_owned();
    let mut journal: Vec<(u64, String)> = files
        .iter()
        .filter(|file| name(file).starts_with("journal-"))
        .filter_map(|file| Some((file["sequence"].as_u64()?, name(file))))
        .collect();
    journal.sort();
    assert!(journal.len() > 3, "{report:#}");
    data.join(&journal[journal.len() - 2].1)
}

fn lose_checkpoints(data: &Path) {
    for file in std::fs::read_dir(data).unwrap() {
        let path = file.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("checkpoint") {
            std::fs::remove_file(path).unwrap();
        }
    }
}

fn serve(home: &TempDir, data: &Path) -> Process {
    let mut command = command(home.path());
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data);
    Process::start(command)
}

#[test]
fn a_journal_that_reaches_back_needs_no_recovery() {
    let (home, data) = stopped();
    lose_checkpoints(&data);
    let words = meshlog(&home, &["recover", data.to_str().unwrap(), "--yes"]).ok();
    assert!(words.contains("nothing to recover"), "{words}");
    let mut process = serve(&home, &data);
    assert!(process.line().starts_with("listening on "));
    process.signal(Signal::TERM);
    process.wait().ok();
}

#[test]
fn a_directory_without_checkpoints_opens_once_it_was_recovered_and_names_what_is_lost() {
    let (home, data) = stopped();
    let middle = middle_of_the_journal(&home, &data);
    lose_checkpoints(&data);
    std::fs::remove_file(middle).unwrap();
    let directory = data.to_str().unwrap();
    let refused = meshlog(&home, &["serve", "--listen", "127.0.0.1:0", "--data-dir", directory]);
    refused.fails(8, &[&format!("meshlog recover {directory}")]);

    let dry = meshlog(&home, &["recover", directory, "-o", "json"]);
    let command = format!("meshlog recover {directory} --yes");
    let report: serde_json::Value = serde_json::from_str(&dry.stdout).unwrap();
    dry.fails(8, &["nothing was written", &command]);
    assert_eq!((&report["needed"], &report["written"]), (&true.into(), &false.into()));
    let lost = report["lost"].as_array().unwrap();
    assert_eq!(lost.len(), 1, "{report:#}");
    assert_eq!(lost[0]["product"], "sandbox.notes");
    let (from, to) =
        (lost[0]["first_offset"].as_u64().unwrap(), lost[0]["end_offset"].as_u64().unwrap());
    meshlog(&home, &["serve", "--listen", "127.0.0.1:0", "--data-dir", directory]).fails(8, &[]);

    let words = meshlog(&home, &["recover", directory, "--yes"]).ok();
    assert!(words.contains(&format!("LOST: offsets {from} to {to} of sandbox.notes")), "{words}");
    assert!(words.contains("may be undone: deletions"), "{words}");
    let mut process = serve(&home, &data);
    let address = process.line().strip_prefix("listening on ").unwrap().to_owned();
    let consume = |args: &[&str]| {
        let command = [&["consume", "sandbox.notes", "--server", &address, "-o", "raw"], args];
        meshlog(&home, &command.concat())
    };
    let broken = consume(&["--from", "earliest"]);
    assert_eq!(broken.stdout.lines().count() as u64, from);
    broken.fails(8, &[]);
    let rest = consume(&["--from", &to.to_string()]);
    assert_eq!(rest.code, 0, "{rest:?}");
    assert_eq!(rest.stdout.lines().count() as u64, 2500 - to);
    process.signal(Signal::TERM);
    process.wait().ok();
}
