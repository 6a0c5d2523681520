//! Named cursors: going on, killed at any moment, moved by hand.

use rustix::process::Signal;

use crate::harness::{Process, TestBroker, pause, records};

fn numbers(broker: &TestBroker, range: std::ops::Range<u64>) {
    let input: String = range.map(|n| format!("{{\"n\":{n}}}\n")).collect();
    broker.run_with(&["produce", "sandbox.numbers"], input).ok();
}

fn read(broker: &TestBroker, args: &[&str]) -> Vec<u64> {
    let read = records(&broker.consume(&[&["sandbox.numbers"], args].concat()));
    read.iter().map(|record| record["value"]["n"].as_u64().unwrap()).collect()
}

fn cursors(broker: &TestBroker) -> Vec<serde_json::Value> {
    let found = broker.run(&["cursor", "list", "-o", "json"]).json();
    found.as_array().unwrap().clone()
}

#[test]
fn a_command_goes_on_where_the_last_one_with_its_cursor_stopped() {
    let broker = TestBroker::on_disk();
    broker.sandbox("sandbox.numbers");
    numbers(&broker, 0..10);
    assert_eq!(read(&broker, &["--as", "nightly", "--max", "3"]), [0, 1, 2], "within a batch");
    assert_eq!(cursors(&broker)[0]["positions"][0]["offset"], 3);
    assert_eq!(read(&broker, &["--as", "nightly", "--no-commit"]), (3..10).collect::<Vec<_>>());
    assert_eq!(read(&broker, &["--as", "nightly"]), (3..10).collect::<Vec<_>>());
    assert!(read(&broker, &["--as", "nightly"]).is_empty());
    assert_eq!(read(&broker, &["--as", "late", "--from", "8"]), [8, 9]);
    assert!(read(&broker, &["--as", "new", "--from", "latest"]).is_empty());
    numbers(&broker, 10..12);
    assert_eq!(
        read(&broker, &["--as", "new", "--from", "latest"]),
        [10, 11],
        "from is for the first"
    );
    let broker = broker.restart();
    assert_eq!(read(&broker, &["--as", "nightly"]), [10, 11]);
    assert_eq!(read(&broker, &["--as", "late"]), [10, 11]);
    let refused = broker.run(&["consume", "sandbox.numbers", "--as", "Nightly"]);
    refused.fails(2, &["nightly-report"]);
    broker.run(&["consume", "sandbox.numbers", "--no-commit"]).fails(2, &["--as"]);
}

#[test]
fn a_follower_commits_when_it_is_asked_to_end_and_every_second() {
    let broker = TestBroker::in_memory();
    broker.sandbox("sandbox.numbers");
    numbers(&broker, 0..3);
    for signal in [Signal::INT, Signal::TERM] {
        let name = if signal == Signal::INT { "interrupted" } else { "terminated" };
        let args = ["consume", "sandbox.numbers", "--follow", "--as", name];
        let mut follow = Process::start(broker.command(&args));
        for _ in 0..3 {
            follow.line();
        }
        follow.signal(signal);
        assert_eq!(follow.wait().code, 130);
        assert!(read(&broker, &["--as", name]).is_empty());
    }
    let args = ["consume", "sandbox.numbers", "--follow", "--as", "every-second"];
    let mut follow = Process::start(broker.command(&args));
    follow.line();
    let committed = (0..100).any(|_| {
        pause(50);
        cursors(&broker).iter().any(|one| one["name"] == "every-second" && one["lag"] == 0)
    });
    assert!(committed);
}

/// Takes up what one run writes: in order, and without a gap to what there was.
fn take_up(line: &str, next: &mut u64, first: &mut Option<u64>) {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    let n = value["n"].as_u64().unwrap();
    match *first {
        None => assert!(n <= *next, "a gap: {next} comes next, not {n}"),
        Some(before) => assert_eq!(n, before + 1, "in order"),
    }
    *first = Some(n);
    *next = (*next).max(n + 1);
}

/// Each run is killed as soon as it has committed something, while it has written more than was
/// taken: whoever collects what the runs wrote has every record, some of them twice.
#[test]
fn killed_at_any_moment_it_leaves_no_gap() {
    let broker = TestBroker::on_disk();
    broker.sandbox("sandbox.numbers");
    // More than four runs and what their pipes hold.
    let total = 150_000;
    numbers(&broker, 0..total);
    let committed = || {
        let found = cursors(&broker);
        found.first().map_or(0, |one| one["positions"][0]["offset"].as_u64().unwrap())
    };
    let mut next = 0;
    for _ in 0..4 {
        let before = committed();
        let args = ["consume", "sandbox.numbers", "--as", "collector", "-o", "raw", "--follow"];
        let mut run = Process::start(broker.command(&args));
        let mut last = None;
        // Slowly, so that the run waits for the pipe most of the time.
        while committed() == before {
            (0..100).for_each(|_| take_up(&run.line(), &mut next, &mut last));
            assert!(next < total, "it never committed");
            // On an idle machine too, so that the records outlast all of the runs.
            pause(20);
        }
        run.signal(Signal::KILL);
        let rest = run.wait().stdout;
        let whole = rest.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.for_each(|line| take_up(line, &mut next, &mut last));
        assert!(committed() <= next, "committed to {} and written to {next}", committed());
    }
    let mut last = None;
    let rest = broker.consume(&["sandbox.numbers", "--as", "collector", "-o", "raw"]);
    rest.lines().for_each(|line| take_up(line, &mut next, &mut last));
    assert_eq!(next, total);
    assert_eq!(committed(), total);
}

#[test]
fn two_programs_with_one_cursor_are_told_of_each_other() {
    let broker = TestBroker::in_memory();
    broker.sandbox("sandbox.numbers");
    numbers(&broker, 0..3);
    let args = ["consume", "sandbox.numbers", "--follow", "--as", "shared"];
    let mut follow = Process::start(broker.command(&args));
    for _ in 0..3 {
        follow.line();
    }
    let reset = ["cursor", "reset", "shared", "sandbox.numbers", "--to", "1", "--yes"];
    let moved = (0..100).any(|_| {
        pause(50);
        cursors(&broker).len() == 1 && broker.run(&reset).code == 0
    });
    assert!(moved);
    numbers(&broker, 3..4);
    follow.wait().fails(4, &["another program", "shared"]);
    assert_eq!(read(&broker, &["--as", "shared"]), [1, 2, 3]);
}

#[test]
fn cursors_are_listed_shown_moved_and_deleted() {
    let broker = TestBroker::in_memory();
    for product in ["sandbox.numbers", "sandbox.other"] {
        broker.run(&["product", "create", product, "--partitions", "2"]).ok();
    }
    for n in 0..10 {
        let partition = (n % 2).to_string();
        let line = format!("{{\"n\":{n}}}\n");
        broker.run_with(&["produce", "sandbox.numbers", "--partition", &partition], line).ok();
    }
    assert_eq!(read(&broker, &["--as", "nightly"]).len(), 10);
    broker.consume(&["sandbox.other", "--as", "nightly"]);

    let table = broker.run(&["cursor", "list"]).ok();
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("CURSOR   PRODUCT"), "{table}");
    assert!(lines[1].starts_with("nightly  sandbox.numbers  0"), "{table}");
    assert_eq!(lines.len(), 3);
    let of_one = broker.run(&["cursor", "list", "--product", "sandbox.other", "-o", "name"]).ok();
    assert_eq!(of_one, "nightly\n");
    assert_eq!(broker.run(&["cursor", "list", "--cursor", "none", "-o", "jsonl"]).ok(), "");
    let shown = broker.run(&["cursor", "show", "nightly"]).ok();
    assert_eq!(shown.lines().filter(|line| line.starts_with("sandbox.numbers")).count(), 2);
    let json = broker.run(&["cursor", "show", "nightly", "-o", "json"]).json();
    assert_eq!(json[0]["positions"][1]["offset"], 5);
    broker.run(&["cursor", "show", "none"]).fails(3, &["cursor list"]);

    let reset = |args: &[&str]| {
        broker.run(&[&["cursor", "reset", "nightly", "sandbox.numbers"], args].concat())
    };
    reset(&["--to", "earliest"]).fails(2, &["10 records", "--yes"]);
    let dry = reset(&["--to", "earliest", "--dry-run"]);
    assert!(dry.stderr.contains("nothing was changed"), "{dry:?}");
    assert!(dry.ok().contains("lag: 0 → 10"));
    assert!(read(&broker, &["--as", "nightly", "--no-commit"]).is_empty());
    reset(&["--to", "3", "--yes"]).fails(2, &["--partition"]);
    reset(&["--to", "99", "--partition", "0", "--yes"]).fails(1, &["99", "5"]);
    let moved = reset(&["--to", "3", "--partition", "0", "--yes", "-o", "json"]).json();
    assert_eq!((&moved["lag"], &moved["positions"][0]["offset"]), (&2.into(), &3.into()));
    assert_eq!(read(&broker, &["--as", "nightly"]), [6, 8]);
    reset(&["--to", "1970-01-02T00:00:00Z", "--yes"]).ok();
    assert_eq!(read(&broker, &["--as", "nightly"]).len(), 10);
    reset(&["--to", "latest", "--yes"]).ok();
    assert!(read(&broker, &["--as", "nightly"]).is_empty());

    broker.run(&["cursor", "delete", "nightly", "sandbox.other"]).fails(2, &["--yes"]);
    broker.run(&["cursor", "delete", "nightly", "sandbox.other", "--dry-run"]).ok();
    assert_eq!(cursors(&broker).len(), 2);
    broker.run(&["cursor", "delete", "nightly", "sandbox.other", "--yes"]).ok();
    assert_eq!(cursors(&broker).len(), 1);
    broker.run(&["cursor", "delete", "nightly", "--yes"]).ok();
    broker.run(&["cursor", "delete", "nightly", "--yes"]).fails(3, &["nightly"]);
    assert_eq!(read(&broker, &["--as", "nightly"]).len(), 10, "a new one");
}
