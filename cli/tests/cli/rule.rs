//! Rules of a product: added, listed, tested and removed.

use serde_json::json;

use crate::harness::TestBroker;

const SCHEMA: &str = r#"{"type": "object", "required": ["carrier"],
    "properties": {"carrier": {"type": "string"}, "delay": {"type": "integer"}}}"#;

fn flights() -> (TestBroker, tempfile::TempDir) {
    let broker = TestBroker::in_memory();
    let directory = tempfile::tempdir().unwrap();
    let schema = directory.path().join("flight.json");
    std::fs::write(&schema, SCHEMA).unwrap();
    let schema = schema.to_str().unwrap();
    broker.run(&["product", "create", "sandbox.flights", "--schema", schema]).ok();
    (broker, directory)
}

#[test]
fn a_rule_is_added_refuses_records_and_goes() {
    let (broker, _directory) = flights();
    let add = |expression: &str, more: &[&str]| {
        let add = ["rule", "add", "sandbox.flights", "delay", "--expression", expression];
        broker.run(&[&add[..], more].concat())
    };
    add("value.delays < 5", &[]).fails(2, &["no field `delays`", "carrier, delay"]);
    add("value.delay <", &[]).fails(2, &["line 1"]);
    let message = ["--message", "A delay is less than a day"];
    let tried = add("value.delay < 1440", &[&message[..], &["--dry-run"]].concat());
    assert!(tried.stderr.contains("dry run"), "{tried:?}");
    tried.ok();
    let produce = |line: &str| broker.run_with(&["produce", "sandbox.flights"], line);
    produce("{\"carrier\":\"UA\",\"delay\":2000}\n").ok();
    let added = add("value.delay < 1440", &[&message[..], &["-o", "json"]].concat()).json();
    assert_eq!((&added["name"], &added["version"]), (&json!("delay"), &json!(1)));

    produce("{\"carrier\":\"UA\",\"delay\":3}\n").ok();
    let refused = produce("{\"carrier\":\"UA\",\"delay\":1440}\n");
    refused.fails(7, &["rules[delay]", "A delay is less than a day"]);
    let listed = broker.run(&["rule", "list", "sandbox.flights", "-o", "json"]).json();
    let rule = &listed[0];
    assert_eq!((&rule["checked"], &rule["failed"]), (&json!(2), &json!(1)), "{listed}");

    let test = |more: &[&str], input: &str| {
        broker.run_with(&[&["rule", "test", "sandbox.flights"], more].concat(), input)
    };
    test(&[], "").fails(7, &["do not meet"]);
    test(&["--expression", "value.delay >= 3"], "").ok();
    test(&["delay", "--file", "-"], "{\"carrier\":\"UA\",\"delay\":1}\n").ok();
    test(&["other"], "").fails(2, &["no rule of this name"]);
    let changed = add("value.delay < 720", &["-o", "json"]).json();
    assert_eq!(changed["version"], json!(2));
    broker.run(&["rule", "remove", "sandbox.flights", "delay"]).ok();
    broker.run(&["rule", "remove", "sandbox.flights", "delay"]).fails(3, &["no rule `delay`"]);
    produce("{\"carrier\":\"UA\",\"delay\":1440}\n").ok();
    let again = add("value.delay < 720", &["-o", "json"]).json();
    assert_eq!(again["version"], json!(3), "versions are not used again");
}
