//! `meshlog audit`: what it says, and that it finds what was changed.

use std::path::Path;

use serde_json::Value;

use crate::harness::{TestBroker, meshlog};

/// A broker with some changes.
fn changed() -> TestBroker {
    let broker = TestBroker::on_disk();
    broker.planes();
    for name in ["sandbox.a", "sandbox.b", "sandbox.c"] {
        broker.sandbox(name);
    }
    broker.run(&["product", "delete", "sandbox.b", "--yes"]).ok();
    broker
}

fn verify_file(broker: &TestBroker, file: &Path, more: &[&str]) -> crate::harness::Outcome {
    let file = file.display().to_string();
    meshlog(
        broker.home.path(),
        &[&["audit", "verify", "--file", &file, "-o", "json"], more].concat(),
    )
}

#[test]
fn the_log_says_who_changed_what() {
    let broker = changed();
    let table = broker.run(&["audit", "list"]).ok();
    assert!(table.starts_with("TIME"), "{table}");
    assert!(table.contains("delete_product  product/sandbox.b"), "{table}");
    assert!(table.contains("unverified:meshlog-cli"), "{table}");
    let of = |args: &[&str]| {
        let lines = broker.run(&[&["audit", "list", "-o", "jsonl"], args].concat()).ok();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    assert_eq!(of(&[]).len(), 5);
    assert_eq!(of(&["--action", "delete_product"])[0]["record"]["name"], "sandbox.b");
    assert_eq!(of(&["--name", "sandbox.b"]).len(), 2);
    assert_eq!(of(&["--principal", "nobody"]).len(), 0);
    assert_eq!(of(&["--until", "2020-01-01"]).len(), 0);
    assert_eq!(of(&["--since", "2020-01-01", "--limit", "2"]).len(), 2);
    let yaml = broker.run(&["audit", "list", "-o", "yaml", "--limit", "1"]).ok();
    assert!(yaml.contains("create_product"), "{yaml}");
}

#[test]
fn a_changed_copy_of_the_log_is_found_by_offset_and_ends_with_8() {
    let broker = changed();
    let told = broker.run(&["audit", "verify", "-o", "json"]).json();
    assert_eq!((&told["holds"], &told["records"]), (&true.into(), &5.into()));
    let head = told["head"].as_str().unwrap();
    let lines = broker.run(&["audit", "list", "-o", "jsonl"]).ok();
    let copy = broker.home.path().join("audit.jsonl");
    let write = |text: &str| std::fs::write(&copy, text).unwrap();

    write(&lines);
    let whole = verify_file(&broker, &copy, &["--head", head]).json();
    assert_eq!((&whole["holds"], &whole["head"]), (&true.into(), &told["head"]));

    // What was done becomes something else.
    write(&lines.replace("delete_product", "update_product"));
    let outcome = verify_file(&broker, &copy, &[]);
    outcome.fails(8, &["offset 4", "its content was changed"]);
    // A record vanishes.
    let fewer: Vec<&str> =
        lines.lines().enumerate().filter(|(at, _)| *at != 2).map(|(_, line)| line).collect();
    write(&fewer.join("\n"));
    verify_file(&broker, &copy, &[]).fails(8, &["offset 3", "taken out"]);
    // The end vanishes, which only a head that was noted tells.
    let fewer: Vec<&str> = lines.lines().take(4).collect();
    write(&fewer.join("\n"));
    assert_eq!(verify_file(&broker, &copy, &[]).code, 0);
    verify_file(&broker, &copy, &["--head", head]).fails(8, &["missing at the end"]);
    // Without its beginning the rest is a chain that says where it begins.
    let later: Vec<&str> = lines.lines().skip(2).collect();
    write(&later.join("\n"));
    let rest = verify_file(&broker, &copy, &[]).json();
    assert!(rest["anchor"].as_str().unwrap().starts_with("2:"), "{rest}");
    write("no json\n");
    verify_file(&broker, &copy, &[]).fails(2, &["audit list -o jsonl"]);
    verify_file(&broker, &copy, &["--head", "odd"]).fails(2, &["SEQUENCE:HASH"]);
}

#[test]
fn a_noted_head_is_still_there_after_a_restart_and_a_foreign_one_is_not() {
    let broker = changed();
    let head = broker.run(&["audit", "verify", "-o", "json"]).json()["head"].clone();
    let broker = broker.restart();
    broker.sandbox("sandbox.d");
    broker.run(&["audit", "verify", "--head", head.as_str().unwrap()]).ok();
    let foreign = format!("3:{}", "ab".repeat(32));
    broker.run(&["audit", "verify", "--head", &foreign]).fails(8, &["offset 2", "written anew"]);
    broker.run(&["audit", "verify", "--head", "3"]).fails(2, &["noted_head"]);
}
