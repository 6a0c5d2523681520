//! What is refused, how it is said, and that nothing is left half-done.

use crate::harness::{TestBroker, command, flights, run};

#[test]
fn without_a_broker_the_error_says_how_to_start_one() {
    let home = tempfile::tempdir().unwrap();
    for args in [
        &["product", "list"][..],
        &["consume", "sandbox.x"],
        &["produce", "sandbox.x"],
        &["server", "info"],
    ] {
        let mut command = command(home.path());
        command.args(args).args(["--server", "127.0.0.1:1"]);
        run(command, "1\n").fails(6, &["error: ", "127.0.0.1:1", "meshlog serve"]);
    }
}

#[test]
fn what_is_not_there_is_named() {
    let broker = TestBroker::in_memory();
    for args in [
        &["product", "show", "ops.nothing"][..],
        &["product", "delete", "ops.nothing", "--yes"],
        &["consume", "ops.nothing"],
        &["consume", "ops.nothing", "--last", "1"],
        &["produce", "ops.nothing"],
        &["produce", "ops.nothing", "--tombstone", "k"],
        &["schema", "show", "ops.nothing"],
        &["schema", "list", "ops.nothing"],
    ] {
        broker.run_with(args, "1\n").fails(3, &["ops.nothing"]);
    }
    broker.run(&["team", "show", "nobody"]).fails(3, &["nobody"]);
    broker.run(&["domain", "show", "nowhere"]).fails(3, &["nowhere"]);
    broker.run(&["domain", "create", "x", "--owner", "nobody"]).fails(3, &["nobody"]);
}

#[test]
fn a_product_outside_the_sandbox_needs_all_of_its_facts() {
    let broker = TestBroker::in_memory();
    let schema = flights("schemas/planes.json");
    let all = [
        ("--owner", "fleet-engineering"),
        ("--description", "Aircraft"),
        ("--classification", "internal"),
        ("--schema", schema.as_str()),
    ];
    broker.run(&["team", "create", "fleet-engineering", "--contact", "f@nyc.example"]).ok();
    broker.run(&["domain", "create", "fleet", "--owner", "fleet-engineering"]).ok();
    for (missing, _) in all {
        let mut args = vec!["product", "create", "fleet.planes"];
        all.iter().filter(|(flag, _)| *flag != missing).for_each(|(flag, value)| {
            args.extend([*flag, *value]);
        });
        let field = missing.trim_start_matches("--");
        broker.run(&args).fails(2, &[field]);
        broker.run(&["product", "show", "fleet.planes"]).fails(3, &[]);
    }
}

#[test]
fn the_command_that_an_error_suggests_has_only_flags_there_are() {
    let broker = TestBroker::in_memory();
    let help = broker.run(&["product", "create", "--help"]).ok();
    let team_help = broker.run(&["team", "create", "--help"]).ok();
    let error = broker.run(&["product", "create", "fleet.planes"]).fails(2, &["--schema FILE"]);
    let flags = error.split_whitespace().filter(|word| word.starts_with("--"));
    let mut count = 0;
    for flag in flags {
        assert!(help.contains(flag) || team_help.contains(flag), "{flag} in {error}");
        count += 1;
    }
    assert!(count >= 4, "{error}");
}

#[test]
fn an_unknown_team_or_domain_is_named_and_nothing_is_created() {
    let broker = TestBroker::in_memory();
    let schema = flights("schemas/planes.json");
    let create = ["product", "create", "fleet.planes", "--owner", "nobody", "--description", "x"];
    let create = [&create[..], &["--classification", "internal", "--schema", &schema]].concat();
    broker.run(&create).fails(3, &["fleet"]);
    broker.run(&[&create[..], &["--new-domain"]].concat()).fails(3, &["nobody"]);
    broker.run(&["domain", "show", "fleet"]).fails(3, &[]);
}

#[test]
fn a_name_that_breaks_the_rules_is_refused() {
    let broker = TestBroker::in_memory();
    for name in
        ["", "sandbox", "sandbox.", ".x", "sandbox.A", "../etc.passwd", "sandbox./x", "sandbox.-x"]
    {
        broker.run(&["product", "create", name]).fails(2, &["error: "]);
    }
    broker.run(&["product", "create", "sandbox.notes"]).ok();
    broker.run(&["product", "create", "sandbox.notes"]).fails(4, &["sandbox.notes"]);
    broker.run(&["domain", "create", "meshlog", "--owner", "x"]).fails(2, &["meshlog"]);
}

#[test]
fn a_schema_that_cannot_be_used_is_refused_with_its_place() {
    let broker = TestBroker::in_memory();
    let directory = broker.home.path();
    let create = |file: &str, text: &str| {
        let path = directory.join(file);
        std::fs::write(&path, text).unwrap();
        broker.run(&["product", "create", "sandbox.typed", "--schema", path.to_str().unwrap()])
    };
    create("a.json", "{\"type\": ").fails(2, &["error: "]);
    create("a.json", "{\"type\": \"integr\"}").fails(2, &["/type"]);
    create("a.avsc", "{\"type\": \"recrod\"}").fails(2, &["recrod"]);
    create("a.proto", "syntax = \"proto3\"; message {").fails(2, &["error: "]);
    create("a.txt", "x").fails(2, &[".json", ".avsc", ".proto"]);
    broker
        .run(&["product", "create", "sandbox.typed", "--schema", "missing.json"])
        .fails(2, &["missing.json"]);
    broker.run(&["product", "show", "sandbox.typed"]).fails(3, &[]);
}

#[test]
fn a_line_that_no_record_can_hold_is_named() {
    let broker = TestBroker::in_memory();
    broker.sandbox("sandbox.big");
    let produce = |length: usize| {
        let input = format!("\"small\"\n\"{}\"\n\"after\"\n", "x".repeat(length));
        broker.run_with(&["produce", "sandbox.big"], input)
    };
    produce((1 << 20) - 100).ok();
    produce(1 << 20).fails(7, &["line 2", "1048576"]);
    produce(5 << 20).fails(7, &["line 2", "longer than 4 MiB"]);
    assert_eq!(broker.consume(&["sandbox.big"]).lines().count(), 5);
}

#[test]
fn too_many_partitions_are_refused() {
    let broker = TestBroker::in_memory();
    broker
        .run(&["product", "create", "sandbox.wide", "--partitions", "100000"])
        .fails(2, &["partitions"]);
    broker.sandbox("sandbox.narrow");
    broker
        .run_with(&["produce", "sandbox.narrow", "--partition", "1"], "1\n")
        .fails(3, &["partition"]);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let broker = TestBroker::in_memory();
    broker.sandbox("sandbox.notes");
    broker.run(&["produce", "sandbox.notes", "missing.jsonl"]).fails(2, &["missing.jsonl"]);
}

#[test]
fn options_that_do_not_fit_the_format_are_refused() {
    let broker = TestBroker::in_memory();
    broker.sandbox("sandbox.notes");
    broker.run_with(&["produce", "sandbox.notes", "--null", "NA"], "1\n").fails(2, &["--null"]);
    broker
        .run_with(&["produce", "sandbox.notes", "--format", "raw", "--key-field", "a"], "1\n")
        .fails(2, &["--key-field"]);
    assert_eq!(broker.consume(&["sandbox.notes"]), "");
}
