//! Records going in: formats, keys, refusals, acknowledgements.

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Process, TestBroker, flights, records};

#[test]
fn json_lines_are_stored_as_they_are_written_and_blank_ones_are_counted() {
    let broker = TestBroker::in_memory();
    broker.sandbox("sandbox.notes");
    let outcome =
        broker.run_with(&["produce", "sandbox.notes"], "{\"a\": 1.50}\n\n  \n[1,  2]\r\n\"x\"");
    assert_eq!(outcome.stdout, "");
    let summary =
        outcome.fails(0, &["3 records appended to sandbox.notes", "2 blank lines skipped"]);
    assert!(summary.contains("memory only"), "{summary}");
    assert_eq!(broker.consume(&["sandbox.notes", "-o", "raw"]), "{\"a\": 1.50}\n[1,  2]\n\"x\"\n");
}

#[test]
fn csv_takes_its_types_from_the_schema_of_the_product() {
    let broker = TestBroker::in_memory();
    broker.planes();
    let planes = flights("planes.csv");
    broker.run(&["produce", "fleet.planes", &planes, "--null", "NA"]).fails(0, &["3,322 records"]);
    let read = broker.consume(&["fleet.planes", "--key", "N102UW"]);
    assert!(
        read.contains(concat!(
            r#""key":"N102UW","value":{"tailnum":"N102UW","year":1998,"type":"Fixed wing multi engine","#,
            r#""manufacturer":"AIRBUS INDUSTRIE","model":"A320-214","engines":2,"seats":182,"#,
            r#""speed":null,"engine":"Turbo-fan"},"headers":[]}"#
        )),
        "{read}"
    );
}

#[test]
fn without_a_null_text_a_missing_value_is_refused_with_the_flag_to_add() {
    let broker = TestBroker::in_memory();
    broker.planes();
    broker
        .run(&["produce", "fleet.planes", &flights("planes.csv")])
        .fails(7, &["line 2", "`speed`", "expected a number, found `NA`", "--null NA"]);
    assert_eq!(broker.consume(&["fleet.planes"]), "");
}

#[test]
fn acknowledgements_are_told_one_by_one_as_they_arrive() {
    let broker = TestBroker::in_memory();
    broker.sandbox("sandbox.notes");
    let mut command = broker.command(&["produce", "sandbox.notes", "-o", "jsonl"]);
    command.stdin(Stdio::piped());
    let mut produce = Process::start(command);
    for n in 0..3 {
        produce.write(&format!("{n}\n"));
        // The next line is written only after this one was acknowledged.
        assert_eq!(
            produce.line(),
            format!(
                r#"{{"partition":0,"first_offset":{n},"last_offset":{n},"durability":"memory"}}"#
            )
        );
    }
    produce.close_input();
    produce.wait().ok();
}

#[test]
fn an_acknowledgement_on_disk_says_synced_and_written_is_a_wish() {
    let broker = TestBroker::on_disk();
    broker.sandbox("sandbox.notes");
    let ack = |args: &[&str]| {
        let args = [&["produce", "sandbox.notes", "-o", "jsonl"], args].concat();
        records(&broker.run_with(&args, "1\n").ok()).remove(0)["durability"].clone()
    };
    assert_eq!(ack(&[]), "synced");
    assert_eq!(ack(&["--ack", "written"]), "written");
    assert_eq!(ack(&["--ack", "synced"]), "synced");
}

#[test]
fn keys_headers_tombstones_and_partitions() {
    let broker = TestBroker::in_memory();
    broker.run(&["product", "create", "sandbox.keyed", "--partitions", "4"]).ok();
    let produce = |args: &[&str], input: &str| {
        broker.run_with(&[&["produce", "sandbox.keyed"], args].concat(), input).ok();
    };
    produce(&["--key-field", "id.no"], "{\"id\":{\"no\":7}}\n{\"id\":{\"no\":null}}\n");
    produce(&["--header", "a=1", "--header", "a=b=c", "--partition", "3"], "\"x\"\n");
    produce(&["--tombstone", "7", "--header", "why=gone"], "");

    let all = records(&broker.consume(&["sandbox.keyed"]));
    assert_eq!(all.len(), 4);
    let keyed = records(&broker.consume(&["sandbox.keyed", "--key", "7"]));
    assert_eq!(keyed.len(), 2);
    assert_eq!(keyed[0]["partition"], keyed[1]["partition"], "a key stays in its partition");
    assert_eq!(keyed[1]["value"], Value::Null);
    assert_eq!(keyed[1]["headers"], json!([{"name": "why", "value": "gone"}]));
    let third = records(&broker.consume(&["sandbox.keyed", "--partition", "3"]));
    let third = third.iter().find(|record| record["value"] == "x").unwrap();
    assert_eq!(third["key"], Value::Null);
    assert_eq!(
        third["headers"],
        json!([{"name": "a", "value": "1"}, {"name": "a", "value": "b=c"}])
    );
}

#[test]
fn an_expected_offset_that_somebody_took_is_a_conflict() {
    let broker = TestBroker::in_memory();
    broker.sandbox("sandbox.notes");
    let produce = |offset: &str| {
        broker.run_with(&["produce", "sandbox.notes", "--expected-offset", offset], "1\n2\n")
    };
    produce("0").ok();
    produce("1").fails(4, &["line"]);
    produce("2").ok();
    assert_eq!(broker.consume(&["sandbox.notes"]).lines().count(), 4);
}

const GOOD: &str = r#"{"carrier":"AA","name":"x"}"#;
const BAD: &str = r#"{"carrier":"AAA","name":"x"}"#;

#[test]
fn a_refused_line_is_named_what_comes_before_it_is_appended_and_nothing_after() {
    let broker = TestBroker::in_memory();
    broker.product("fleet.airlines", "airlines.json", &[]);
    let input = format!("{GOOD}\n\n{GOOD}\n{BAD}\n{GOOD}\n");
    broker
        .run_with(&["produce", "fleet.airlines"], input)
        .fails(7, &["line 4", "/carrier", "2 records appended"]);
    assert_eq!(broker.consume(&["fleet.airlines"]).lines().count(), 2);
}

#[test]
fn skipping_leaves_out_exactly_the_bad_lines_and_keeps_the_order() {
    let broker = TestBroker::in_memory();
    broker.product("fleet.airlines", "airlines.json", &[]);
    let mut input = String::new();
    let mut good = String::new();
    // Several batches, with more bad lines in some than a refusal lists.
    for n in 1..=30_000 {
        let line = match n {
            _ if n % 4_999 == 0 || (12_000..12_250).contains(&n) => BAD.to_owned(),
            77 => "{not json".to_owned(),
            _ => format!(r#"{{"carrier":"AA","name":"{n}"}}"#),
        };
        if line.contains(r#":"AA","#) {
            good.push_str(&line);
            good.push('\n');
        }
        input.push_str(&line);
        input.push('\n');
    }
    let stderr =
        broker.run_with(&["produce", "fleet.airlines", "--on-error", "skip"], input).fails(
            7,
            &[
                "line 77 left out: not JSON",
                "line 4999 left out: ",
                "line 12249 left out",
                "257 records left out",
            ],
        );
    assert_eq!(stderr.matches("left out: ").count(), 257, "{stderr}");
    assert_eq!(broker.consume(&["fleet.airlines", "-o", "raw"]), good);
}

#[test]
fn a_key_that_breaks_the_products_rule_is_refused() {
    let broker = TestBroker::in_memory();
    broker.product("fleet.airlines", "airlines.json", &["--key", "carrier"]);
    // The key comes from the rule unless another field is named.
    broker.run_with(&["produce", "fleet.airlines"], GOOD).ok();
    broker
        .run_with(&["produce", "fleet.airlines", "--key-field", "name"], GOOD)
        .fails(7, &["line 1", "carrier"]);
    assert_eq!(records(&broker.consume(&["fleet.airlines"]))[0]["key"], "AA");
}

#[test]
fn an_interrupted_command_says_how_far_it_came() {
    let broker = TestBroker::in_memory();
    broker.sandbox("sandbox.notes");
    let mut command = broker.command(&["produce", "sandbox.notes", "-o", "jsonl"]);
    command.stdin(Stdio::piped());
    let mut produce = Process::start(command);
    produce.write("1\n");
    produce.line();
    produce.signal(Signal::INT);
    produce.wait().fails(130, &["interrupted: 1 record acknowledged, the outcome of 0 unknown"]);
}

#[test]
fn acknowledgements_that_nobody_reads_end_the_command_with_141_and_no_noise() {
    let broker = TestBroker::in_memory();
    broker.sandbox("sandbox.notes");
    let mut command = broker.command(&["produce", "sandbox.notes", "-o", "jsonl"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"1\n").unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("error") && !stderr.contains("panicked"), "{stderr}");
}
