//! `verify` and `doctor`, on directories that a broker wrote.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::harness::{TestBroker, meshlog};

/// A directory with 500 notes of one product, left by a clean stop.
fn stopped() -> (TempDir, PathBuf) {
    let broker = TestBroker::on_disk();
    broker.sandbox("sandbox.notes");
    let notes: String =
        (0..500).map(|n| format!("{{\"note\":\"number {n} of them\"}}\n")).collect();
    broker.run_with(&["produce", "sandbox.notes"], &notes).ok();
    broker.stopped()
}

#[test]
fn a_clean_directory_ends_with_zero_and_stays_as_it_is() {
    let (home, data) = stopped();
    let listing = |data: &PathBuf| {
        let mut files: Vec<_> = std::fs::read_dir(data)
            .unwrap()
            .map(|file| {
                let file = file.unwrap();
                (file.file_name(), std::fs::read(file.path()).unwrap())
            })
            .collect();
        files.sort();
        files
    };
    let before = listing(&data);
    let words = meshlog(&home, &["verify", data.to_str().unwrap()]).ok();
    // Those of the product, and in the audit log that of its creation.
    assert!(words.contains("clean: 501 records of 2 streams"), "{words}");
    let report = meshlog(&home, &["verify", data.to_str().unwrap(), "-o", "json"]).json();
    assert_eq!(report["clean"], true);
    assert_eq!(report["records"], 501);
    assert!(listing(&data) == before, "looking changed the directory");
}

#[test]
fn a_flipped_bit_ends_with_eight_and_is_named_by_product_partition_and_offsets() {
    let (home, data) = stopped();
    let journal = std::fs::read_dir(&data)
        .unwrap()
        .map(|file| file.unwrap().path())
        .find(|path| {
            std::fs::read(path).unwrap().windows(15).any(|text| text == b"number 250 of t")
        })
        .unwrap();
    let bytes = std::fs::read(&journal).unwrap();
    let at = bytes.windows(15).position(|text| text == b"number 250 of t").unwrap();
    let file = OpenOptions::new().write(true).open(&journal).unwrap();
    file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();

    let outcome = meshlog(&home, &["verify", data.to_str().unwrap(), "-o", "json"]);
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    outcome.fails(8, &["is damaged", "backup"]);
    let problems = report["problems"].as_array().unwrap();
    let [problem] = &problems[..] else { panic!("{problems:#?}") };
    assert_eq!(problem["product"], "sandbox.notes");
    assert_eq!(problem["partition"], 0);
    assert_eq!(problem["file"], journal.file_name().unwrap().to_str().unwrap());
    let range =
        |from: &str, to: &str| problem[from].as_u64().unwrap()..problem[to].as_u64().unwrap();
    assert!(range("from", "to").contains(&(at as u64)), "{problem}");
    assert!(range("first_offset", "end_offset").contains(&250), "{problem}");
    let words = meshlog(&home, &["verify", data.to_str().unwrap()]);
    assert!(words.stdout.contains("(sandbox.notes, partition 0)"), "{}", words.stdout);
}

#[test]
fn a_directory_in_use_and_one_that_is_none_end_with_one() {
    let broker = TestBroker::on_disk();
    let data = broker.home.path().join("data");
    meshlog(&broker.home, &["verify", data.to_str().unwrap()]).fails(1, &["stop the broker"]);
    let home = tempfile::tempdir().unwrap();
    meshlog(&home, &["verify", home.path().to_str().unwrap()]).fails(1, &["meshlog.format"]);
    meshlog(&home, &["verify", "/nowhere/at/all"]).fails(1, &["/nowhere/at/all"]);
}

#[test]
fn doctor_says_who_has_the_directory_and_the_address() {
    let broker = TestBroker::on_disk();
    let data = broker.home.path().join("data");
    let args = ["doctor", "--data-dir", data.to_str().unwrap(), "--listen", &broker.address];
    let outcome = meshlog(&broker.home, &args);
    assert!(outcome.stdout.contains("is open in a running broker"), "{outcome:#?}");
    assert!(outcome.stdout.contains("a broker of version"), "{outcome:#?}");
    assert!(outcome.stdout.contains("200 of 4 KiB: least"), "{outcome:#?}");
}

#[test]
fn doctor_ends_with_one_for_a_problem_and_says_what_to_do() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("photo.jpg"), "").unwrap();
    let directory = home.path().to_str().unwrap();
    let args = ["doctor", "--data-dir", directory, "--listen", &address, "-o", "json"];
    let outcome = meshlog(&home, &args);
    let findings: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    outcome.fails(1, &["problems"]);
    let of = |what: &str| {
        findings.as_array().unwrap().iter().find(|finding| finding["what"] == what).unwrap()
    };
    assert_eq!(of("directory")["state"], "problem");
    assert!(of("directory")["found"].as_str().unwrap().contains("photo.jpg"));
    assert_eq!(of("address")["state"], "problem");
    assert!(of("address")["advice"].as_str().unwrap().contains("--listen"));
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1, "the probe is removed");
}
