//! How long records stay: said, asked about, and cut short.

use crate::harness::{TestBroker, pause, records};

fn numbers(broker: &TestBroker, product: &str, range: std::ops::Range<u64>) {
    for n in range {
        broker.run_with(&["produce", product], format!("{{\"n\":{n}}}\n")).ok();
    }
}

fn read(broker: &TestBroker, args: &[&str]) -> Vec<u64> {
    let read = records(&broker.consume(&[&["sandbox.numbers"], args].concat()));
    read.iter().map(|record| record["value"]["n"].as_u64().unwrap()).collect()
}

fn show(broker: &TestBroker) -> serde_json::Value {
    broker.run(&["product", "show", "sandbox.numbers", "-o", "json"]).json()
}

#[test]
fn the_sandbox_says_how_long_it_keeps_and_how_to_keep_longer() {
    let broker = TestBroker::in_memory();
    let created = broker.run(&["product", "create", "sandbox.numbers"]);
    let command = "meshlog product update sandbox.numbers --retention-age unlimited";
    assert!(created.stderr.contains("older than 7d are deleted"), "{created:?}");
    assert!(created.stderr.contains(command), "{created:?}");
    assert_eq!(show(&broker)["retention_age"], "7d");
    let args: Vec<&str> = command.split(' ').skip(1).collect();
    let updated = broker.run(&args).ok();
    assert!(updated.contains("- retention age: 7d"), "{updated}");
    assert_eq!(show(&broker)["retention_age"], serde_json::Value::Null);

    let said = ["product", "create", "sandbox.kept", "--retention-age", "30d"];
    assert!(!broker.run(&said).stderr.contains("deleted"));
    let said = ["product", "create", "sandbox.for-ever", "--retention-age", "unlimited"];
    assert!(!broker.run(&said).stderr.contains("deleted"));
    let shown = broker.run(&["product", "show", "sandbox.for-ever"]).ok();
    assert!(shown.contains("retention") && shown.contains("unlimited"), "{shown}");
}

#[test]
fn limits_are_set_one_by_one_and_taken_away() {
    let broker = TestBroker::in_memory();
    broker.sandbox("sandbox.numbers");
    let update =
        |args: &[&str]| broker.run(&[&["product", "update", "sandbox.numbers"], args].concat());
    update(&["--retention-bytes", "10GiB", "--retention-count", "1000", "--compact"]).ok();
    let now = show(&broker);
    assert_eq!(now["retention_age"], "7d", "what was not named stays");
    assert_eq!(
        (now["retention_bytes"].as_u64(), now["retention_count"].as_u64()),
        (Some(10 << 30), Some(1000))
    );
    assert_eq!(now["compaction"]["tombstone_min_age"], "1d");
    let text = broker.run(&["product", "show", "sandbox.numbers"]).ok();
    assert!(text.contains("7d, 10GiB, 1,000 offsets per partition"), "{text}");
    assert!(text.contains("newest per key; tombstones stay 1d"), "{text}");
    let preview = update(&["--retention-age", "unlimited", "--dry-run"]);
    assert!(preview.stdout.contains("- retention age: 7d"), "{preview:?}");
    assert_eq!(show(&broker)["retention_age"], "7d");
    update(&["--tombstone-min-age", "2h"]).ok();
    assert_eq!(show(&broker)["compaction"]["tombstone_min_age"], "2h");
    update(&["--retention-bytes", "unlimited", "--retention-count", "unlimited", "--no-compact"])
        .ok();
    let now = show(&broker);
    for member in ["retention_bytes", "retention_count", "compaction"] {
        assert_eq!(now[member], serde_json::Value::Null, "{member}");
    }
    update(&["--retention-age", "0d"]).fails(2, &["unlimited"]);
    update(&["--retention-age", "soon"]).fails(2, &["7d"]);
    update(&["--retention-age", "10ms"]).fails(2, &["1 s to 36,500 days"]);
    update(&["--retention-bytes", "much"]).fails(2, &["10GiB"]);
    update(&["--no-compact", "--tombstone-min-age", "2h"]).fails(2, &["--tombstone-min-age"]);
}

#[test]
fn a_trim_says_what_goes_asks_and_does_it() {
    let broker = TestBroker::on_disk();
    broker.sandbox("sandbox.numbers");
    numbers(&broker, "sandbox.numbers", 0..5);
    broker.run(&["consume", "sandbox.numbers", "--as", "nightly", "--max", "1"]).ok();
    let trim =
        |args: &[&str]| broker.run(&[&["product", "trim", "sandbox.numbers"], args].concat());
    let preview = trim(&["--to", "3", "--dry-run", "-o", "json"]);
    assert!(preview.stderr.contains("3 records of sandbox.numbers would go"), "{preview:?}");
    assert!(preview.stderr.contains("nothing was changed"), "{preview:?}");
    let rows = preview.json();
    assert_eq!((&rows[0]["start_offset"], &rows[0]["gone"]), (&3.into(), &3.into()));
    assert_eq!(read(&broker, &[]), [0, 1, 2, 3, 4]);
    trim(&["--to", "3"]).fails(2, &["Delete 3 records", "1 cursor has not read", "--yes"]);
    assert_eq!(read(&broker, &[]), [0, 1, 2, 3, 4]);

    let done = trim(&["--to", "3", "--yes"]);
    assert!(done.stderr.contains("deleted 3 records of sandbox.numbers"), "{done:?}");
    done.ok();
    assert_eq!(read(&broker, &[]), [3, 4]);
    let again = trim(&["--to", "2", "--yes"]);
    assert!(again.stderr.contains("begins there or later already"), "{again:?}");
    assert_eq!(again.code, 0);
    let cursor = broker.run(&["cursor", "list", "-o", "json"]).json();
    assert_eq!((&cursor[0]["lost"], &cursor[0]["lag"]), (&2.into(), &2.into()));
    let late = broker.run(&["consume", "sandbox.numbers", "--from", "1"]);
    late.fails(1, &["between 3 and 5"]);

    let broker = broker.restart();
    assert_eq!(read(&broker, &[]), [3, 4]);
    let trim =
        |args: &[&str]| broker.run(&[&["product", "trim", "sandbox.numbers"], args].concat());
    trim(&["--to", "9", "--yes"]).fails(1, &["between 3 and 5"]);
    trim(&["--before", "yesterday", "--yes"]).fails(2, &["2027-01-31"]);
    trim(&["--yes"]).fails(2, &["--before", "--to"]);
    trim(&["--to", "4", "--before", "2020-01-01"]).fails(2, &["cannot be used with"]);
    trim(&["--before", "2100-01-01", "--yes"]).ok();
    assert!(read(&broker, &[]).is_empty());
    numbers(&broker, "sandbox.numbers", 5..6);
    assert_eq!(read(&broker, &[]), [5]);

    broker.run(&["product", "create", "sandbox.wide", "--partitions", "2"]).ok();
    broker.run(&["product", "trim", "sandbox.wide", "--to", "0"]).fails(2, &["--partition N"]);
    broker.run(&["product", "trim", "sandbox.none", "--to", "0"]).fails(3, &["sandbox.none"]);
}

#[test]
fn what_is_deleted_can_be_erased_from_the_disk() {
    let broker = TestBroker::on_disk();
    broker.sandbox("sandbox.numbers");
    numbers(&broker, "sandbox.numbers", 0..3);
    let trim = ["product", "trim", "sandbox.numbers", "--to", "2", "--yes", "--erase"];
    for _ in 0..2 {
        let erased = broker.run(&trim);
        assert!(erased.stderr.contains("no file of the broker holds a byte"), "{erased:?}");
        erased.ok();
    }
    let everything = broker.run(&["server", "erase"]);
    assert!(everything.stderr.contains("no file of the broker"), "{everything:?}");
    broker.run(&["server", "erase", "--product", "sandbox.none"]).fails(3, &["sandbox.none"]);
    assert_eq!(read(&broker, &[]), [2]);
    let deleted = broker.run(&["product", "delete", "sandbox.numbers", "--yes", "--erase"]);
    assert!(deleted.stderr.contains("deleted sandbox.numbers\nerased: no file"), "{deleted:?}");
}

#[test]
fn retention_says_why_the_oldest_record_is_still_there() {
    let broker = TestBroker::on_disk();
    broker.sandbox("sandbox.numbers");
    let retention =
        |args: &[&str]| broker.run(&[&["product", "retention", "sandbox.numbers"], args].concat());
    assert!(retention(&[]).ok().contains("there is no record"));
    numbers(&broker, "sandbox.numbers", 0..4);
    let told = retention(&[]).ok();
    assert!(told.starts_with("sandbox.numbers: 7d\n"), "{told}");
    assert!(told.contains("every limit still wants it; by age it goes at 20"), "{told}");
    let told = retention(&["-o", "json"]).json();
    let limit = &told["partitions"][0]["limits"][0];
    assert_eq!((&limit["limit"], &limit["first_wanted_offset"]), (&"age".into(), &0.into()));
    assert!(
        limit["due_time"].as_str().unwrap()
            > told["partitions"][0]["oldest_time"].as_str().unwrap()
    );

    let update = ["product", "update", "sandbox.numbers", "--retention-age", "unlimited"];
    broker.run(&[&update[..], &["--retention-count", "1"]].concat()).ok();
    // The broker looks every ten seconds.
    let gone = (0..600).any(|_| {
        pause(100);
        retention(&["-o", "json"]).json()["partitions"][0]["start_offset"] == 3
    });
    assert!(gone, "three of four go");
    assert_eq!(read(&broker, &[]), [3]);
    let told = retention(&[]).ok();
    assert!(told.contains("every limit still wants it"), "{told}");
    assert!(told.contains("the file to be full, or an hour"), "{told}");
    let holders = &retention(&["-o", "json"]).json()["partitions"][0]["holders"];
    assert_eq!(holders[0]["waits_for"], "writing");
    assert!(holders[0]["bytes"].as_u64().unwrap() > 0, "{holders}");
}

#[test]
fn the_server_says_how_much_room_there_is() {
    let broker = TestBroker::on_disk();
    let info = broker.run(&["server", "info", "-o", "json"]).json();
    assert!(info["disk_bytes"].as_u64().unwrap() >= info["free_bytes"].as_u64().unwrap());
    assert_eq!(info["disk_full"], serde_json::Value::Null, "nothing is known after a moment");
}
