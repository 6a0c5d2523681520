use std::time::Duration;

use meshlog_broker::config::Span;
use meshlog_broker::{Caller, Config};
use meshlog_proto::v1;
use meshlog_testing::ProductBuilder;
use meshlog_tests::{TestBroker, append, product, read};
use prost::Message as _;

const FLIGHT: &str = r#"{"type":"object","properties":{"tailnum":{"type":"string"},"origin":{"type":"string"},
    "delay":{"type":"number"},"day":{"type":"integer"}}}"#;

/// Traffic is looked at soon after it came.
fn soon() -> Config {
    let mut config = Config::default();
    config.lineage.interval = Span(Duration::from_millis(40));
    config
}

struct Flight {
    tailnum: String,
    origin: &'static str,
    delay: f64,
    day: u64,
}

fn flights(count: u64) -> Vec<Flight> {
    let origins = ["EWR", "JFK", "LGA"];
    let flight = |n: u64| Flight {
        tailnum: format!("N{}", 10_000 + n * 7 % 5_000),
        origin: origins[(n % 3) as usize],
        delay: (n * 37 % 181) as f64 / 2.0 - 20.0,
        day: n / 100,
    };
    (0..count).map(flight).collect()
}

fn json(flight: &Flight) -> Vec<u8> {
    let Flight { tailnum, origin, delay, day } = flight;
    format!(r#"{{"tailnum":"{tailnum}","origin":"{origin}","delay":{delay},"day":{day}}}"#).into()
}

async fn appends(broker: &TestBroker, application: &str, product: &str, values: Vec<Vec<u8>>) {
    for some in values.chunks(500) {
        let mut request = append(product);
        for value in some {
            request = request.value(value.clone());
        }
        let request = request.request();
        let batch = request.batch.as_ref().unwrap().encode_to_vec();
        let request = meshlog_proto::server_v1::AppendRequest {
            product: request.product,
            batch: vec![batch.into()],
            ..Default::default()
        };
        broker.broker().append(&Caller::new(application), request).await.unwrap();
    }
}

async fn reads(broker: &TestBroker, application: &str, product: &str) {
    broker.broker().read(&Caller::new(application), read(product)).await.unwrap();
}

fn copies(broker: &TestBroker, product: &str) -> Vec<v1::ProductCopy> {
    let request = v1::GetProductRequest { name: product.to_owned() };
    let found = broker.broker().catalogue().get_product(&Caller::default(), request).unwrap();
    found.product.unwrap().r#use.unwrap().copies
}

/// Waits until something is a copy.
async fn copy_of(broker: &TestBroker, product: &str) -> v1::ProductCopy {
    for _ in 0..600 {
        if let Some(copy) = copies(broker, product).pop() {
            return copy;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{product} was not noticed to be a copy");
}

/// An application reads `ops.flights` and appends what `made` makes of each flight to `ops.made`;
/// another one copies it to `ops.witness`, which is looked at afterwards: when that is noticed,
/// `ops.made` was looked at too.
async fn make(into: ProductBuilder, made: Vec<Vec<u8>>, count: u64) -> TestBroker {
    let broker = TestBroker::start_with(soon()).await;
    broker.create(product("ops.flights").json_schema(FLIGHT)).await;
    broker.create(into).await;
    broker.create(product("ops.witness").json_schema(FLIGHT)).await;
    let flights: Vec<Vec<u8>> = flights(count).iter().map(json).collect();
    appends(&broker, "loader", "ops.flights", flights.clone()).await;
    reads(&broker, "job", "ops.flights").await;
    appends(&broker, "job", "ops.made", made).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    reads(&broker, "witness", "ops.flights").await;
    appends(&broker, "witness", "ops.witness", flights).await;
    copy_of(&broker, "ops.witness").await;
    broker
}

fn pairs(copy: &v1::ProductCopy) -> Vec<(&str, &str)> {
    copy.fields.iter().map(|pair| (pair.source.as_str(), pair.copy.as_str())).collect()
}

#[tokio::test]
async fn a_copy_under_other_names_is_noticed_and_its_fields_are_told() {
    const AIRCRAFT: &str = r#"{"type":"object","properties":{"plane":{"type":"string"},
        "times":{"type":"object","properties":{"late_by":{"type":"number"},"d":{"type":"integer"}}},
        "from":{"type":"string"}}}"#;
    let renamed = flights(300).into_iter().map(|flight| {
        let Flight { tailnum, origin, delay, day } = flight;
        format!(
            r#"{{"from":"{origin}","times":{{"late_by":{delay},"d":{day}}},"plane":"{tailnum}"}}"#
        )
        .into_bytes()
    });
    let broker = make(product("ops.made").json_schema(AIRCRAFT), renamed.collect(), 300).await;
    let copy = copy_of(&broker, "ops.made").await;
    assert_eq!((copy.source.as_str(), copy.application.as_str()), ("ops.flights", "job"));
    assert_eq!((copy.percent, copy.records), (100.0, 300));
    let renamed =
        [("day", "times.d"), ("delay", "times.late_by"), ("origin", "from"), ("tailnum", "plane")];
    assert_eq!(pairs(&copy), renamed);

    let request = v1::GetLineageRequest {
        begin: Some(v1::get_lineage_request::Begin::Product("ops.made".to_owned())),
        ..Default::default()
    };
    let graph = broker.broker().catalogue().get_lineage(&Caller::default(), request).unwrap();
    let edge = graph.edges.iter().find(|edge| !edge.copies.is_empty()).expect("told at the edge");
    assert_eq!(edge.copies[0].source, "ops.flights");
    let request = v1::GetImpactRequest {
        product: "ops.flights".to_owned(),
        field: "tailnum".to_owned(),
        ..Default::default()
    };
    let impact = broker.broker().catalogue().get_impact(&Caller::default(), request).unwrap();
    let made = impact.products.iter().find(|product| product.name == "ops.made").unwrap();
    assert_eq!(made.evidence().next(), Some(v1::ImpactEvidence::SameValues));
    assert_eq!(made.fields, ["plane"]);
}

#[tokio::test]
async fn a_copy_in_another_format_is_noticed() {
    const AVRO: &str = r#"{"type":"record","name":"F","fields":[{"name":"tail","type":"string"},
        {"name":"origin","type":{"type":"enum","name":"O","symbols":["EWR","JFK","LGA"]}},
        {"name":"delay","type":["null","double"]},{"name":"day","type":"long"}]}"#;
    let avro = |flight: &Flight| {
        let mut value = vec![(flight.tailnum.len() as u8) << 1];
        value.extend(flight.tailnum.as_bytes());
        let symbol = ["EWR", "JFK", "LGA"].iter().position(|symbol| *symbol == flight.origin);
        value.push((symbol.unwrap() as u8) << 1);
        value.push(2);
        value.extend(flight.delay.to_le_bytes());
        value.push((flight.day as u8) << 1);
        value
    };
    let made: Vec<Vec<u8>> = flights(300).iter().map(avro).collect();
    let broker = make(product("ops.made").schema(v1::SchemaFormat::Avro, AVRO), made, 300).await;
    let copy = copy_of(&broker, "ops.made").await;
    assert_eq!(copy.percent, 100.0);
    let fields = [("day", "day"), ("delay", "delay"), ("origin", "origin"), ("tailnum", "tail")];
    assert_eq!(pairs(&copy), fields);
}

#[tokio::test]
async fn a_copy_of_opaque_bytes_is_noticed() {
    let broker = TestBroker::start_with(soon()).await;
    for name in ["ops.a", "ops.b"] {
        broker.create(product(name).partitions(if name == "ops.a" { 3 } else { 1 })).await;
    }
    let values: Vec<Vec<u8>> = (0..200_u64).map(|n| (n * n).to_le_bytes().to_vec()).collect();
    appends(&broker, "loader", "ops.a", values.clone()).await;
    reads(&broker, "job", "ops.a").await;
    appends(&broker, "job", "ops.b", values.into_iter().rev().collect()).await;
    let copy = copy_of(&broker, "ops.b").await;
    assert_eq!((copy.percent, copy.records, copy.fields.len()), (100.0, 200, 0));
}

#[tokio::test]
async fn what_is_filtered_added_to_or_summed_up_is_no_copy() {
    let of_one_airport =
        flights(300).iter().filter(|flight| flight.origin == "EWR").map(json).collect();
    let broker = make(product("ops.made").json_schema(FLIGHT), of_one_airport, 300).await;
    assert_eq!(copies(&broker, "ops.made"), [], "filtered");

    const MORE: &str = r#"{"type":"object","properties":{"tailnum":{"type":"string"},"origin":{"type":"string"},
        "delay":{"type":"number"},"day":{"type":"integer"},"wind":{"type":"number"}}}"#;
    let enriched = flights(300).into_iter().map(|flight| {
        let mut value = String::from_utf8(json(&flight)).unwrap();
        value.pop();
        format!(r#"{value},"wind":{}}}"#, flight.day + 3).into_bytes()
    });
    let broker = make(product("ops.made").json_schema(MORE), enriched.collect(), 300).await;
    assert_eq!(copies(&broker, "ops.made"), [], "enriched");

    const SUM: &str =
        r#"{"type":"object","properties":{"day":{"type":"integer"},"delay":{"type":"number"}}}"#;
    let sums = (0..30).map(|day| {
        let of_day = flights(3_000).into_iter().filter(|flight| flight.day == day);
        let sum: f64 = of_day.map(|flight| flight.delay).sum();
        format!(r#"{{"day":{day},"delay":{sum}}}"#).into_bytes()
    });
    let broker = make(product("ops.made").json_schema(SUM), sums.collect(), 3_000).await;
    assert_eq!(copies(&broker, "ops.made"), [], "summed up");
}

#[tokio::test]
async fn a_copy_of_nearly_all_is_one_and_of_nine_tenths_is_none() {
    let but_every = |one: usize| -> Vec<Vec<u8>> {
        flights(1_000)
            .iter()
            .enumerate()
            .filter(|(n, _)| n % one > 0)
            .map(|(_, f)| json(f))
            .collect()
    };
    let broker = make(product("ops.made").json_schema(FLIGHT), but_every(50), 1_000).await;
    let copy = copy_of(&broker, "ops.made").await;
    assert!((97.5..=98.5).contains(&copy.percent), "{copy:?}");
    let broker = make(product("ops.made").json_schema(FLIGHT), but_every(10), 1_000).await;
    assert_eq!(copies(&broker, "ops.made"), []);
}

#[tokio::test]
async fn a_copy_outlives_a_restart_and_is_none_any_more_when_the_values_part() {
    let directory = tempfile::tempdir().unwrap();
    let config = || Config { lineage: soon().lineage, ..Config::at(directory.path()) };
    let broker = TestBroker::start_with(config()).await;
    for name in ["ops.a", "ops.b"] {
        broker.create(product(name)).await;
    }
    let values = |from: u64| -> Vec<Vec<u8>> {
        (from..from + 100).map(|n| (n * n).to_le_bytes().to_vec()).collect()
    };
    appends(&broker, "loader", "ops.a", values(0)).await;
    reads(&broker, "job", "ops.a").await;
    appends(&broker, "job", "ops.b", values(0)).await;
    let copy = copy_of(&broker, "ops.b").await;
    broker.broker().close().await.unwrap();
    drop(broker);
    let broker = TestBroker::start_with(config()).await;
    assert_eq!(copies(&broker, "ops.b"), [copy]);
    appends(&broker, "job", "ops.b", values(5_000)).await;
    for attempt in 0.. {
        if copies(&broker, "ops.b").is_empty() {
            break;
        }
        assert!(attempt < 600, "half of it is something else now");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    broker.broker().close().await.unwrap();
}
