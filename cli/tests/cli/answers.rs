//! Catalogue commands and the formats of their answers.

use serde_json::json;

use crate::harness::{TestBroker, flights};

#[test]
fn a_product_is_created_with_its_domain_and_team_and_shown_in_every_format() {
    let broker = TestBroker::in_memory();
    broker.tag_keys(&["aviation", "source=string"]);
    broker.product(
        "fleet.planes",
        "planes.json",
        &["--key", "tailnum", "--tag", "aviation", "--tag", "source=faa", "--partitions", "2"],
    );

    assert_eq!(
        broker.run(&["product", "list", "--domain", "fleet"]).ok(),
        "\
NAME          OWNER              CLASSIFICATION  STATE  SCHEMA  PARTITIONS  DESCRIPTION
fleet.planes  fleet-engineering  internal        draft  v1      2           Aircraft of the register
"
    );
    let show = broker.run(&["product", "show", "fleet.planes", "-o", "json"]).json();
    assert_eq!(show["name"], "fleet.planes");
    assert_eq!(show["contacts"], json!(["fleet@nyc.example"]));
    assert_eq!(show["tags"], json!(["aviation", "source=faa"]));
    assert_eq!(show["enforcement"], "enforce");
    assert_eq!(show["key"], "tailnum");
    assert_eq!(
        show["offsets"],
        json!([
            {"partition": 0, "start_offset": 0, "durable_end": 0},
            {"partition": 1, "start_offset": 0, "durable_end": 0}
        ])
    );
    assert_eq!(show["fields"][0]["path"], "tailnum");
    assert_eq!(show["fields"][0]["docs"], "Tail number.");
    assert_eq!(show["fields"][1]["optional"], true);

    let table = broker.run(&["product", "show", "fleet.planes"]).ok();
    for line in [
        "\nowner               fleet-engineering\n",
        "\nkey                 tailnum\n",
        "PARTITION  START OFFSET",
    ] {
        assert!(table.contains(line), "{table}");
    }
    let yaml = broker.run(&["product", "show", "fleet.planes", "-o", "yaml"]).ok();
    assert!(yaml.contains("classification: internal\n"), "{yaml}");
    let line = broker.run(&["product", "list", "--domain", "fleet", "-o", "jsonl"]).ok();
    assert_eq!(line.lines().count(), 1);
    let list = broker.run(&["product", "list", "--domain", "fleet", "-o", "json"]).json();
    assert_eq!(list[0], serde_json::from_str::<serde_json::Value>(&line).unwrap());

    let domain = broker.run(&["domain", "show", "fleet", "-o", "json"]).json();
    assert_eq!(domain["owner"], "fleet-engineering");
    let team = broker.run(&["team", "show", "fleet-engineering", "-o", "json"]).json();
    assert_eq!(team["contacts"], json!(["fleet@nyc.example"]));
}

#[test]
fn teams_and_domains_are_created_listed_and_shown() {
    let broker = TestBroker::in_memory();
    let team = ["team", "create", "weather-desk", "--contact", "w@nyc.example", "--contact", "#w"];
    broker.run(&team).ok();
    broker.run(&team).fails(4, &["weather-desk"]);
    broker
        .run(&["domain", "create", "weather", "--owner", "weather-desk", "--description", "Sky"])
        .ok();
    broker.run(&["domain", "create", "weather", "--owner", "weather-desk"]).fails(4, &["weather"]);
    let show = broker.run(&["domain", "show", "weather", "-o", "json"]).json();
    assert_eq!((&show["owner"], &show["description"]), (&json!("weather-desk"), &json!("Sky")));
    assert!(show["created_by"].as_str().unwrap().contains("meshlog-cli"));
    let teams = broker.run(&["team", "list", "-o", "json"]).json();
    assert!(
        teams
            .as_array()
            .unwrap()
            .iter()
            .any(|team| team["contacts"] == json!(["w@nyc.example", "#w"]))
    );
}

#[test]
fn an_empty_list_is_an_empty_document_and_a_word_for_people() {
    let broker = TestBroker::in_memory();
    let outcome = broker.run(&["product", "list", "--domain", "sandbox"]);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", "no products\n"));
    assert_eq!(broker.run(&["product", "list", "--domain", "sandbox", "-o", "json"]).ok(), "[]\n");
    assert_eq!(broker.run(&["product", "list", "--domain", "sandbox", "-o", "jsonl"]).ok(), "");
    assert_eq!(broker.run(&["product", "list", "--domain", "sandbox", "-o", "yaml"]).ok(), "[]\n");
}

#[test]
fn a_product_is_deleted_only_when_somebody_says_yes() {
    let broker = TestBroker::in_memory();
    broker.sandbox("sandbox.notes");
    broker.run_with(&["produce", "sandbox.notes"], "1\n2\n").ok();
    broker
        .run_with(&["product", "delete", "sandbox.notes"], "y\n")
        .fails(2, &["sandbox.notes", "2 records", "--yes"]);
    broker.run(&["product", "show", "sandbox.notes"]).ok();
    broker.run(&["product", "delete", "sandbox.notes", "--yes"]).ok();
    broker.run(&["product", "show", "sandbox.notes"]).fails(3, &["sandbox.notes"]);
    broker.run(&["consume", "sandbox.notes"]).fails(3, &["sandbox.notes"]);
}

#[test]
fn schema_versions_are_added_listed_and_shown() {
    let broker = TestBroker::in_memory();
    broker.planes();
    let schema = std::fs::read_to_string(flights("schemas/planes.json")).unwrap();
    let shown = broker.run(&["schema", "show", "fleet.planes", "-o", "json"]).json();
    assert_eq!(shown["schema"].as_str().unwrap(), schema);
    assert_eq!((&shown["version"], &shown["format"]), (&json!(1), &json!("json-schema")));

    let wider = broker.home.path().join("wider.json");
    std::fs::write(&wider, schema.replace("\"maximum\": 2013", "\"maximum\": 2014")).unwrap();
    let wider = wider.display().to_string();
    let added = broker.run(&["schema", "add", "fleet.planes", &wider, "-o", "json"]).json();
    assert_eq!(added[0]["version"], 2);
    let listed = broker.run(&["schema", "list", "fleet.planes", "-o", "json"]).json();
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_ne!(listed[0]["fingerprint"], listed[1]["fingerprint"]);
    let first = broker.run(&["schema", "show", "fleet.planes", "--version", "1", "-o", "json"]);
    assert_eq!(first.json()["schema"].as_str().unwrap(), schema);
    broker.run(&["schema", "show", "fleet.planes", "--version", "9"]).fails(3, &["9"]);
}

#[test]
fn a_product_without_a_schema_says_why_and_takes_any_bytes() {
    let broker = TestBroker::in_memory();
    let create =
        ["product", "create", "fleet.photos", "--owner", "fleet", "--description", "Photos"];
    let create = [
        &create[..],
        &["--classification", "public", "--new-domain", "--contact", "f@nyc.example"],
        &["--without-schema", "camera frames", "--media-type", "image/jpeg"],
    ]
    .concat();
    broker.run(&create).ok();
    let schema = broker.run(&["schema", "show", "fleet.photos", "-o", "json"]).json();
    assert_eq!(schema["format"], "opaque");
    broker.run_with(&["produce", "fleet.photos", "--format", "raw"], [0xff, b'\n']).ok();
    assert!(
        broker.consume(&["fleet.photos"]).contains(r#""value":"/w==","value_encoding":"base64""#)
    );
}

#[test]
fn the_server_says_what_it_is() {
    let broker = TestBroker::in_memory();
    let info = broker.run(&["server", "info", "-o", "json"]).json();
    assert_eq!(info["address"], broker.address.as_str());
    assert_eq!(info["storage"], "memory");
    assert_eq!(info["appends"], "accepted");
    assert_eq!(info["max_record_bytes"], 1 << 20);
}
