//! Records coming out: positions, ends, formats, closed pipes.

use std::io::Read;

use rustix::process::Signal;

use crate::harness::{Process, TestBroker, records};

fn numbers(broker: &TestBroker, count: u64) {
    broker.sandbox("sandbox.numbers");
    let input: String = (0..count).map(|n| format!("{{\"n\":{n},\"key\":{}}}\n", n % 3)).collect();
    broker.run_with(&["produce", "sandbox.numbers", "--key-field", "key"], input).ok();
}

fn read(broker: &TestBroker, args: &[&str]) -> Vec<u64> {
    let read = records(&broker.consume(&[&["sandbox.numbers"], args].concat()));
    read.iter().map(|record| record["value"]["n"].as_u64().unwrap()).collect()
}

#[test]
fn a_start_is_an_edge_an_offset_a_time_or_a_number_of_records() {
    let broker = TestBroker::in_memory();
    numbers(&broker, 10);
    assert_eq!(read(&broker, &[]), (0..10).collect::<Vec<_>>());
    assert_eq!(read(&broker, &["--from", "7"]), [7, 8, 9]);
    assert!(read(&broker, &["--from", "10"]).is_empty());
    assert!(read(&broker, &["--from", "latest"]).is_empty());
    assert_eq!(read(&broker, &["--last", "2"]), [8, 9]);
    assert_eq!(read(&broker, &["--last", "99"]).len(), 10);
    assert_eq!(read(&broker, &["--from", "2", "--max", "3"]), [2, 3, 4]);
    assert_eq!(read(&broker, &["--key", "1"]), [1, 4, 7]);
    assert_eq!(read(&broker, &["--key", "1", "--last", "2"]), [4, 7]);
    assert!(read(&broker, &["--key", "none"]).is_empty());
    assert_eq!(read(&broker, &["--from", "1970-01-02T00:00:00Z"]).len(), 10);
    assert!(read(&broker, &["--from", "9000-01-01T00:00:00Z"]).is_empty());
}

#[test]
fn the_time_that_is_printed_leads_back_to_its_record() {
    let broker = TestBroker::in_memory();
    broker.sandbox("sandbox.numbers");
    for n in 0..3 {
        broker.run_with(&["produce", "sandbox.numbers"], format!("{{\"n\":{n}}}\n")).ok();
    }
    let all = records(&broker.consume(&["sandbox.numbers"]));
    let time = all[1]["append_time"].as_str().unwrap();
    assert_eq!(read(&broker, &["--from", time]), [1, 2]);
}

#[test]
fn the_last_records_of_several_partitions_are_the_last_of_all() {
    let broker = TestBroker::in_memory();
    broker.run(&["product", "create", "sandbox.numbers", "--partitions", "3"]).ok();
    for n in 0..9 {
        let partition = (n % 2).to_string();
        let line = format!("{{\"n\":{n}}}\n");
        broker.run_with(&["produce", "sandbox.numbers", "--partition", &partition], line).ok();
    }
    assert_eq!(read(&broker, &["--last", "4"]), [5, 6, 7, 8]);
    assert_eq!(read(&broker, &["--last", "2", "--partition", "0"]), [6, 8]);
    assert_eq!(read(&broker, &["--from", "2", "--partition", "1"]), [5, 7]);
    broker.run(&["consume", "sandbox.numbers", "--from", "2"]).fails(2, &["partition"]);
    broker.run(&["consume", "sandbox.numbers", "--partition", "3"]).fails(3, &["3"]);
}

#[test]
fn an_offset_out_of_range_names_both_bounds() {
    let broker = TestBroker::in_memory();
    numbers(&broker, 10);
    broker.run(&["consume", "sandbox.numbers", "--from", "11"]).fails(1, &["11", "0", "10"]);
}

#[test]
fn following_goes_on_with_what_arrives_until_it_is_interrupted() {
    let broker = TestBroker::in_memory();
    numbers(&broker, 3);
    for (args, old) in [(&["--last", "1"][..], vec![2]), (&["--from", "1"], vec![1, 2])] {
        let args = [&["consume", "sandbox.numbers", "--follow", "-o", "raw"], args].concat();
        let mut follow = Process::start(broker.command(&args));
        for n in old {
            assert!(follow.line().contains(&format!("\"n\":{n},")));
        }
        broker.run_with(&["produce", "sandbox.numbers"], "\"new\"\n").ok();
        loop {
            if follow.line() == "\"new\"" {
                break;
            }
        }
        follow.signal(Signal::INT);
        let outcome = follow.wait();
        assert_eq!((outcome.code, outcome.stderr.as_str()), (130, ""));
        broker.run(&["product", "delete", "sandbox.numbers", "--yes"]).ok();
        numbers(&broker, 3);
    }
}

#[test]
fn a_follower_ends_by_itself_at_its_maximum() {
    let broker = TestBroker::in_memory();
    numbers(&broker, 3);
    assert_eq!(read(&broker, &["--follow", "--max", "2"]), [0, 1]);
}

#[test]
fn a_table_is_for_people_and_shows_no_control_characters() {
    let broker = TestBroker::in_memory();
    broker.sandbox("sandbox.notes");
    let long = "x".repeat(200);
    let input = format!("a\u{1b}[31mred\n{long}\n");
    broker.run_with(&["produce", "sandbox.notes", "--format", "raw"], input).ok();
    broker.run(&["produce", "sandbox.notes", "--tombstone", "k"]).ok();
    let table = broker.consume(&["sandbox.notes", "-o", "table"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(lines[0].starts_with("PARTITION  OFFSET"), "{table}");
    assert!(lines[1].ends_with("a\u{fffd}[31mred"), "{table}");
    assert!(lines[2].ends_with("x…"), "{table}");
    assert!(lines[3].contains("k ") && lines[3].ends_with("(deleted)"), "{table}");
}

#[test]
fn a_reader_that_goes_away_ends_the_command_without_noise() {
    let broker = TestBroker::in_memory();
    broker.sandbox("sandbox.notes");
    // Much more than a pipe holds.
    let input: String = (0..50_000).map(|n| format!("{{\"number\":{n}}}\n")).collect();
    broker.run_with(&["produce", "sandbox.notes"], input).ok();
    for format in ["jsonl", "raw", "table"] {
        let mut child =
            broker.command(&["consume", "sandbox.notes", "-o", format]).spawn().unwrap();
        let mut first = [0; 10];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{format}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{format}");
    }
}

#[test]
fn a_head_of_a_pipe_is_enough_for_a_shell() {
    let broker = TestBroker::in_memory();
    numbers(&broker, 10_000);
    let mut shell = std::process::Command::new("bash");
    shell
        .args(["-eo", "pipefail", "-c", "\"$0\" consume sandbox.numbers -o raw | head -1"])
        .arg(crate::harness::MESHLOG)
        .env("MESHLOG_SERVER", &broker.address)
        .env("HOME", broker.home.path())
        .env_remove("XDG_CONFIG_HOME")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let outcome = crate::harness::run(shell, "");
    assert_eq!(outcome.stderr, "");
    assert_eq!(outcome.ok(), "{\"n\":0,\"key\":0}\n");
}
