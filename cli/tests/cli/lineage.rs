//! `meshlog lineage` and `meshlog impact`: what the flights mesh looks like after real traffic.

use std::collections::BTreeSet;

use jsonschema::{Retrieve, Uri, Validator};
use serde_json::{Value, json};

use crate::harness::{TestBroker, flights, root};

const DELAY: &str =
    r#"{"type":"object","properties":{"tailnum":{"type":"string"},"late":{"type":"integer"}}}"#;

/// flights-import → ops.flights → delays-job → ops.delays → board
fn mesh() -> TestBroker {
    let broker = TestBroker::on_disk();
    broker.product("ops.flights", "flights.json", &[]);
    std::fs::write(broker.home.path().join("delay.json"), DELAY).unwrap();
    let delay = broker.home.path().join("delay.json").display().to_string();
    broker
        .run(&[
            "product",
            "create",
            "ops.delays",
            "--schema",
            &delay,
            "--owner",
            "fleet-engineering",
            "--description",
            "What left late",
            "--classification",
            "confidential",
            "--input",
            "ops.flights",
            "--field-tag",
            "tailnum:pii",
        ])
        .ok();
    let table = std::fs::read_to_string(flights("flights.csv")).unwrap();
    let some: String = table.lines().take(51).map(|line| format!("{line}\n")).collect();
    let produce = ["produce", "ops.flights", "--format", "csv", "--null", "NA"];
    broker.run_with(&[&produce[..], &["--application", "flights-import"]].concat(), some).ok();
    broker.run(&["consume", "ops.flights", "--application", "delays-job"]).ok();
    let delays = "{\"tailnum\":\"N1\",\"late\":3}\n{\"tailnum\":\"N2\",\"late\":4}\n";
    let mut command = broker.command(&["produce", "ops.delays"]);
    command.env("MESHLOG_APPLICATION", "delays-job");
    crate::harness::run(command, delays).ok();
    broker.run(&["consume", "ops.delays", "--application", "board"]).ok();
    broker
}

#[test]
fn the_tree_shows_where_data_comes_from_and_where_it_goes() {
    let broker = mesh();
    let tree = broker.run(&["lineage", "ops.delays"]).ok();
    // Times differ from run to run.
    let masked = regex::Regex::new("last [0-9TZ:-]+").unwrap().replace_all(&tree, "last T");
    assert_eq!(
        masked,
        "ops.delays
  from
    delays-job  2 records appended, last T
      ops.flights  50 records read, last T
        flights-import  50 records appended, last T
    ops.flights (declared)
      flights-import  50 records appended, last T
  to
    board  2 records read, last T
"
    );
    let up = broker.run(&["lineage", "ops.delays", "--up", "--depth", "1"]);
    assert!(up.stderr.contains("--depth"), "{up:?}");
    assert!(!up.ok().contains("board"));
    let by_application = broker.run(&["lineage", "board"]).ok();
    assert!(by_application.contains("from\n    ops.delays"), "{by_application}");
    let before = broker.run(&["lineage", "ops.delays", "--as-of", "2020-01-01"]).ok();
    assert!(before.contains("nobody was seen"), "{before}");
    broker.run(&["lineage", "ops.nothing"]).fails(3, &["ops.nothing", "no application"]);
    broker.run(&["lineage", "ops.delays", "--depth", "21"]).fails(2, &["1..=20"]);
}

#[test]
fn the_graph_can_be_drawn_and_read_by_programs() {
    let broker = mesh();
    let graph = broker.run(&["lineage", "ops.flights", "--down", "-o", "json"]).json();
    let names: Vec<_> = graph["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["ops.flights", "ops.delays", "delays-job", "board"]);
    let mermaid = broker.run(&["lineage", "ops.flights", "--down", "-o", "mermaid"]).ok();
    assert!(mermaid.starts_with("flowchart LR\n  n0[\"ops.flights\"]\n"), "{mermaid}");
    assert!(mermaid.contains("n0 -->|\"50 records\"| n2"), "{mermaid}");
    let dot = broker.run(&["lineage", "ops.flights", "-o", "dot"]).ok();
    assert!(dot.starts_with("digraph lineage {") && dot.ends_with("}\n"), "{dot}");
    assert_eq!(dot.matches(" -> ").count(), 5, "{dot}");
}

#[test]
fn the_impact_of_a_field_is_told_by_reader_and_by_product() {
    let broker = mesh();
    let table = broker.run(&["impact", "ops.flights", "--field", "tailnum"]).ok();
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(lines[1][..3], ["delays-job", "ops.flights", "yes"], "{table}");
    assert_eq!(lines[2][..3], ["board", "ops.delays", "possible"], "{table}");
    let made = lines.iter().find(|cells| cells.first() == Some(&"ops.delays")).unwrap();
    assert!(made.contains(&"same-name, observed, declared"), "{table}");
    let wrong = broker.run(&["impact", "ops.flights", "--field", "tailnumb"]);
    wrong.fails(2, &["did you mean `tailnum`?"]);
    let answer = broker.run(&["impact", "ops.flights", "-o", "json"]).json();
    assert_eq!(answer["products"][1]["contacts"], json!(["fleet@nyc.example"]));
}

/// The published schemas, from `tests/data`, under their published addresses.
struct Published;

impl Retrieve for Published {
    fn retrieve(
        &self,
        uri: &Uri<String>,
    ) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        let address = uri.as_str().trim_end_matches('#');
        let name = address.rsplit('/').next().unwrap();
        let folder = root().join("tests/data/openlineage");
        let file = match address.contains("/facets/") {
            true => folder.join("facets").join(name),
            false => folder.join(name),
        };
        let text = std::fs::read_to_string(&file)?;
        let schema: Value = serde_json::from_str(&text)?;
        if schema["$id"] != address {
            return Err(format!("{} is not {address}", file.display()).into());
        }
        Ok(schema)
    }
}

fn published(address: &str) -> Validator {
    let options = jsonschema::options().with_retriever(Published).should_validate_formats(true);
    options.build(&json!({ "$ref": address })).unwrap()
}

/// Whether an event, and each of its facets, is as the standard wants it.
fn check(event: &Value) -> Result<BTreeSet<String>, String> {
    let address = event["schemaURL"].as_str().unwrap();
    published(address).validate(event).map_err(|error| format!("{address}: {error}"))?;
    let whole = "https://openlineage.io/spec/2-0-2/OpenLineage.json";
    published(whole).validate(event).map_err(|error| format!("{whole}: {error}"))?;
    let mut facets = BTreeSet::new();
    let mut waiting = vec![event];
    while let Some(value) = waiting.pop() {
        if let Some(address) = value.get("_schemaURL").and_then(Value::as_str) {
            published(address).validate(value).map_err(|error| format!("{address}: {error}"))?;
            facets.insert(address.rsplit('/').next().unwrap().to_owned());
        }
        match value {
            Value::Object(members) => waiting.extend(members.values()),
            Value::Array(items) => waiting.extend(items),
            _ => {}
        }
    }
    Ok(facets)
}

#[test]
fn openlineage_events_are_as_the_published_schemas_want_them() {
    let broker = mesh();
    let text = broker.run(&["lineage", "ops.delays", "-o", "openlineage"]).ok();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut facets = BTreeSet::new();
    let mut kinds = Vec::new();
    for event in &events {
        facets.extend(check(event).unwrap());
        kinds.push(event["schemaURL"].as_str().unwrap().rsplit('/').next().unwrap().to_owned());
    }
    let count = |kind: &str| kinds.iter().filter(|one| *one == kind).count();
    assert_eq!((count("DatasetEvent"), count("JobEvent"), count("RunEvent")), (2, 3, 3));
    for facet in [
        "SchemaDatasetFacet",
        "OwnershipDatasetFacet",
        "TagsDatasetFacet",
        "JobTypeJobFacet",
        "DocumentationDatasetFacet",
        "InputStatisticsInputDatasetFacet",
        "OutputStatisticsOutputDatasetFacet",
    ] {
        assert!(facets.contains(facet), "{facet}: {facets:?}");
    }
    let job = |name: &str| {
        let mut runs = events.iter().filter(|event| event.get("run").is_some());
        runs.find(|event| event["job"]["name"] == name).unwrap()
    };
    let run = job("delays-job");
    assert_eq!(run["inputs"][0]["name"], "ops.flights");
    assert_eq!(run["inputs"][0]["inputFacets"]["inputStatistics"]["rowCount"], 50);
    assert_eq!(run["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"], 2);
    let again = broker.run(&["lineage", "ops.delays", "-o", "openlineage"]).ok();
    let id = run["run"]["runId"].as_str().unwrap();
    assert!(again.contains(id), "the same run as long as it is the same traffic");

    // The check can fail.
    for (pointer, wrong) in [
        ("/run/runId", json!("not a uuid")),
        ("/eventType", json!("GOES_ON")),
        ("/eventTime", json!("today")),
        ("/inputs/0/inputFacets/inputStatistics/rowCount", json!("fifty")),
    ] {
        let mut broken = run.clone();
        *broken.pointer_mut(pointer).unwrap() = wrong;
        assert!(check(&broken).is_err(), "{pointer}");
    }
}
