//! What every noun looks like in every format, and the help of every command, word for word. After
//! a change that is meant, `INSTA_UPDATE=always cargo test -p meshlog-cli --test cli snapshots`
//! writes them anew; then they are read.

use std::collections::BTreeMap;

use regex::Regex;

use crate::harness::{Outcome, TestBroker, command, flights, run};

const FORMATS: [&str; 6] = ["table", "wide", "json", "yaml", "jsonl", "name"];

/// What differs from run to run, by a word for it.
fn redacted(text: &str, broker: &TestBroker) -> String {
    let text = text.replace(&broker.address, "<address>");
    let changing = [
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
        (r"\b[0-9A-HJKMNP-TV-Z]{26}\b", "<id>"),
        (r#"("etag": ?)"[^"]*""#, r#"$1"<etag>""#),
        (r"(?m)^(\s*-? ?etag:? +)\S+$", "$1<etag>"),
        (r#""?(syncs|groups|journal_bytes|journal bytes|revision)"?(:? *)\d+"#, "$1$2<number>"),
    ];
    changing.into_iter().fold(text, |text, (pattern, word)| {
        Regex::new(pattern).unwrap().replace_all(&text, word).into_owned()
    })
}

/// The command in every format.
fn in_every_format(args: &[&str], meshlog: impl Fn(&[&str]) -> Outcome) -> String {
    let mut text = String::new();
    for format in FORMATS {
        let outcome = meshlog(&[args, &["-o", format]].concat());
        text.push_str(&format!("$ meshlog {} -o {format}\n{}", args.join(" "), outcome.stdout));
        for line in outcome.stderr.lines() {
            text.push_str(&format!("# {line}\n"));
        }
        assert_eq!(outcome.code, 0, "{text}");
        text.push('\n');
    }
    text
}

#[track_caller]
fn matches(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// A small mesh with one of everything.
fn mesh() -> TestBroker {
    let broker = TestBroker::in_memory();
    broker.tag_keys(&["aviation", "identifier", "unit=string"]);
    broker
        .run(&[
            "tag",
            "create",
            "source",
            "--allowed",
            "faa,noaa",
            "--owner",
            "reference-data",
            "--description",
            "Who published it",
        ])
        .ok();
    let facts = [
        "--key",
        "tailnum",
        "--tag",
        "source=faa",
        "--field-tag",
        "speed:unit=mph",
        "--kind",
        "source-aligned",
        "--docs",
        "One record per tail number.",
        "--link",
        "Registry=https://registry.faa.gov",
        "--support",
        "#fleet",
    ];
    broker.product("fleet.planes", "planes.json", &facts);
    broker
        .run(&["domain", "update", "fleet", "--tag", "aviation", "--description", "Aircraft"])
        .ok();
    let team = ["team", "create", "night-shift", "--contact", "n@nyc.example"];
    broker.run(&[&team[..], &["--description", "From ten to six"]].concat()).ok();
    let csv = std::fs::read_to_string(flights("planes.csv")).unwrap();
    let few: String = csv.lines().take(4).map(|line| format!("{line}\n")).collect();
    broker.run_with(&["produce", "fleet.planes", "--format", "csv", "--null", "NA"], few).ok();
    let schema = std::fs::read_to_string(flights("schemas/planes.json")).unwrap();
    let wider = broker.home.path().join("wider.json");
    std::fs::write(&wider, schema.replace("Number of engines.", "Engines, all kinds.")).unwrap();
    broker.run(&["schema", "add", "fleet.planes", &wider.display().to_string()]).ok();
    broker
}

#[test]
fn every_noun_in_every_format() {
    let broker = mesh();
    for args in [
        &["product", "list", "--domain", "fleet"][..],
        &["product", "show", "fleet.planes"],
        &["product", "show", "fleet.planes", "--provenance"],
        &["product", "retention", "fleet.planes"],
        &["product", "sample", "fleet.planes", "--max", "2"],
        &["product", "sample", "fleet.planes", "--max", "1", "--profile"],
        &["domain", "list"],
        &["domain", "show", "fleet"],
        &["team", "list"],
        &["team", "show", "night-shift"],
        &["tag", "list"],
        &["tag", "show", "source"],
        &["schema", "list", "fleet.planes"],
        &["schema", "show", "fleet.planes"],
        &["schema", "diff", "fleet.planes"],
        &["search", "aircraft"],
        &["server", "info"],
    ] {
        let text = in_every_format(args, |args| broker.run(args));
        matches(&args.join("_").replace("--", ""), &redacted(&text, &broker));
    }
    // Last, because whoever reads is seen in the others.
    broker.run(&["consume", "fleet.planes", "--as", "night-run", "--max", "2"]).ok();
    let text = in_every_format(&["cursor", "list"], |args| broker.run(args));
    matches("cursor_list", &redacted(&text, &broker));
}

#[test]
fn settings_and_contexts_in_every_format() {
    let home = tempfile::tempdir().unwrap();
    let meshlog = |args: &[&str]| {
        let mut command = command(home.path());
        command.args(args).env("XDG_DATA_HOME", "/data");
        run(command, "")
    };
    let add = |name, server, more: &[&str]| {
        let args = ["config", "context", "add", name, "--server", server];
        meshlog(&[&args[..], more].concat()).ok();
    };
    add("lab", "127.0.0.1:7421", &["--application", "night-shift", "--use"]);
    add("office", "127.0.0.1:7422", &[]);
    for args in [
        &["config", "show"][..],
        &["config", "context", "list"],
        &["config", "context", "show", "office"],
    ] {
        matches(&args.join("_"), &in_every_format(args, meshlog));
    }
}

#[test]
fn every_change_says_what_it_changes() {
    let broker = mesh();
    let mut text = String::new();
    for args in [
        &["product", "update", "fleet.planes", "--description", "Planes", "--untag", "source"][..],
        &["product", "trim", "fleet.planes", "--to", "1", "--yes"],
        &["product", "update", "fleet.planes", "--retention-age", "30d", "--compact"],
        &["product", "retention", "fleet.planes"],
        &["product", "activate", "fleet.planes"],
        &["product", "transfer", "fleet.planes", "night-shift"],
        &["product", "accept", "fleet.planes", "night-shift"],
        &["product", "move", "fleet.planes", "fleet.aircraft"],
        &["product", "succeed", "fleet.aircraft", "--reason", "Knots", "--sunset", "2030-01-31"],
        &["product", "show", "fleet.planes"],
        &["product", "retire", "fleet.aircraft", "--yes"],
        &["product", "retire", "fleet.aircraft", "--yes", "--force"],
        &["product", "delete", "fleet.aircraft", "--dry-run"],
        &["domain", "update", "fleet", "--untag", "aviation", "--dry-run"],
        &["team", "update", "night-shift", "--add-contact", "#night"],
        &["tag", "update", "source", "--add-allowed", "bts"],
        &["tag", "delete", "source", "--yes"],
    ] {
        let outcome = broker.run(args);
        text.push_str(&format!("$ meshlog {}\n{}", args.join(" "), outcome.stdout));
        outcome.stderr.lines().for_each(|line| text.push_str(&format!("# {line}\n")));
        if outcome.code != 0 {
            text.push_str(&format!("# exit code {}\n", outcome.code));
        }
        text.push('\n');
    }
    matches("changes", &redacted(&text, &broker));
}

#[test]
fn the_help_of_every_command() {
    let home = tempfile::tempdir().unwrap();
    let mut by_noun: BTreeMap<String, String> = BTreeMap::new();
    for path in crate::man::commands_of_the_help(home.path()) {
        let mut help = command(home.path());
        help.args(&path).arg("--help");
        let noun = path.first().map_or("meshlog", String::as_str).to_owned();
        let text = by_noun.entry(noun).or_default();
        let words = [&["meshlog".to_owned()][..], &path].concat().join(" ");
        text.push_str(&format!("$ {words} --help\n{}\n", run(help, "").ok()));
    }
    assert!(by_noun.len() > 10, "{:?}", by_noun.keys());
    for (noun, text) in by_noun {
        matches(&format!("help_{noun}"), &text);
    }
}
