//! A data mesh as files: `apply`, `diff`, `export`.

use crate::harness::{TestBroker, flights};

const FILE: &str = "managed_by: desk
teams:
  - {name: desk, contacts: [desk@nyc.example]}
tag_keys:
  - {name: unit, owner: desk, type: string}
domains:
  - {name: ops, owner: desk, tags: [unit=none]}
products:
  - name: ops.b
    owner: desk
    description: Made of the other
    classification: internal
    schema: {format: json-schema, text: '{\"type\": \"object\", \"properties\": {\"n\": {\"type\": \"integer\"}}}'}
    inputs: [ops.a]
    field_tags: {n: [unit=minutes]}
    settings: {retention_age: 7d, compaction: {tombstone_min_age: 0s}}
  - name: ops.a
    owner: desk
    description: The first
    classification: public
    state: active
    schema: {format: opaque, media_type: image/png, reason: Pictures}
";

#[test]
fn the_flights_mesh_is_made_once_and_is_then_the_same_and_so_is_what_is_exported() {
    let broker = TestBroker::in_memory();
    let file = flights("mesh.yaml");
    broker.run(&["diff", "-f", &file]).fails(9, &[]);
    let planned = broker.run(&["apply", "-f", &file, "--dry-run"]);
    assert!(planned.stderr.contains("dry run: nothing was changed"), "{planned:?}");
    assert!(
        broker
            .run(&["product", "list", "-o", "name"])
            .ok()
            .lines()
            .all(|n| n.starts_with("meshlog."))
    );
    let made = broker.run(&["apply", "-f", &file]).ok();
    assert!(made.contains("+ product ops.flights"), "{made}");
    let again = broker.run(&["apply", "-f", &file]).ok();
    assert!(
        again.lines().all(|line| line.starts_with("= ")
            || line.starts_with("0 to create, 0 to change, 0 to delete")),
        "{again}"
    );
    broker.run(&["diff", "-f", &file]).ok();

    let exported = broker.run(&["export"]).ok();
    assert_eq!(exported, broker.run(&["export"]).ok());
    let same = broker.run_with(&["diff", "-f", "-"], &exported).ok();
    assert!(same.contains("0 to create, 0 to change, 0 to delete"), "{same}");
    let contracts = broker.run(&["export", "--domain", "ops", "--format", "odcs"]).ok();
    let same = broker.run_with(&["diff", "-f", "-"], &contracts).ok();
    assert!(same.contains("= product ops.flights"), "{same}");
    let other = TestBroker::in_memory();
    other.run_with(&["apply", "-f", "-"], &exported).ok();
    assert_eq!(other.run(&["export"]).ok(), exported);
}

#[test]
fn what_was_changed_by_hand_is_named_and_put_back_and_what_others_manage_is_left() {
    let broker = TestBroker::in_memory();
    broker.run_with(&["apply", "-f", "-"], FILE).ok();
    broker.run(&["product", "update", "ops.a", "--support", "#elsewhere"]).ok();
    let drift = broker.run_with(&["diff", "-f", "-"], FILE);
    assert_eq!(drift.code, 9, "{drift:?}");
    assert!(drift.stdout.contains("- support: #elsewhere"), "{drift:?}");
    assert!(drift.stdout.contains("support was changed by"), "{drift:?}");
    broker.run_with(&["apply", "-f", "-"], FILE).ok();
    broker.run_with(&["diff", "-f", "-"], FILE).ok();
    let other = FILE.replace("managed_by: desk", "managed_by: else");
    broker.run_with(&["apply", "-f", "-"], &other).fails(4, &["managed by `desk`", "--take-over"]);
    broker.run_with(&["apply", "-f", "-", "--take-over"], &other).ok();
}

#[test]
fn pruning_takes_only_what_the_file_made_and_never_what_is_read_or_holds_records() {
    let broker = TestBroker::in_memory();
    broker.run_with(&["apply", "-f", "-"], FILE).ok();
    broker.sandbox("sandbox.notes");
    let without =
        FILE.split("  - name: ops.a").next().unwrap().replace("    inputs: [ops.a]\n", "");
    let prune = ["apply", "-f", "-", "--prune"];
    broker.run_with(&["produce", "ops.a", "--format", "raw"], "picture\n").ok();
    broker.run_with(&prune, &without).fails(4, &["ops.a", "1 record", "--prune-data"]);
    broker.run(&["consume", "ops.a", "-o", "raw"]).ok();
    let data = [&prune[..], &["--prune-data", "--yes"]].concat();
    broker.run_with(&data, &without).fails(4, &["ops.a", "read by"]);
    broker.run(&["product", "show", "ops.a"]).ok();
    let empty = "managed_by: desk\n";
    broker.run_with(&prune, empty).fails(4, &["nothing was changed"]);
    broker.run(&["product", "show", "sandbox.notes"]).ok();
}
