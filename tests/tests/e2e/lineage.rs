use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use meshlog_broker::Config;
use meshlog_proto::v1::{self, Impact, ImpactEvidence, LineageDirection, LineageEdgeKind};
use meshlog_tests::{TestBroker, append, product, read};
use tonic::{Code, Request};

/// A request of an application.
fn of<T>(application: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("meshlog-application", application.parse().unwrap());
    request
}

async fn appends(broker: &TestBroker, application: &str, product: &str, values: &[&str]) {
    let mut request = append(product);
    for value in values {
        request = request.value(value.to_string());
    }
    broker.records().append(of(application, request.request())).await.unwrap();
}

async fn reads(broker: &TestBroker, application: &str, product: &str) {
    broker.records().read(of(application, read(product))).await.unwrap();
}

/// flights-loader → ops.flights ─┐
/// weather-loader → ops.weather ─┴→ delays-job → ops.delays → report
async fn flights_mesh(config: Config) -> TestBroker {
    let broker = TestBroker::start_with(config).await;
    for name in ["ops.flights", "ops.weather", "ops.delays", "ops.other"] {
        broker.create(product(name)).await;
    }
    appends(&broker, "flights-loader", "ops.flights", &["1", "2", "3"]).await;
    appends(&broker, "weather-loader", "ops.weather", &["sun", "rain"]).await;
    reads(&broker, "delays-job", "ops.flights").await;
    reads(&broker, "delays-job", "ops.weather").await;
    appends(&broker, "delays-job", "ops.delays", &["late"]).await;
    reads(&broker, "report", "ops.delays").await;
    broker
}

async fn graph(
    broker: &TestBroker,
    product: &str,
    way: LineageDirection,
) -> v1::GetLineageResponse {
    let request = v1::GetLineageRequest {
        begin: Some(v1::get_lineage_request::Begin::Product(product.to_owned())),
        direction: way.into(),
        ..Default::default()
    };
    broker.lineage().get_lineage(request).await.unwrap().into_inner()
}

fn name(graph: &v1::GetLineageResponse, id: &str) -> String {
    let node = graph.nodes.iter().find(|node| node.id == id).expect("an edge ends at a node");
    match node.node.clone().unwrap() {
        v1::lineage_node::Node::Product(product) => product.name,
        v1::lineage_node::Node::Application(application) => application.name,
    }
}

/// `from -> to: records`, of observed edges; of declared ones `from ~> to`.
fn edges(graph: &v1::GetLineageResponse) -> BTreeSet<String> {
    let edge = |edge: &v1::LineageEdge| {
        let (from, to) = (name(graph, &edge.from), name(graph, &edge.to));
        match edge.kind() {
            LineageEdgeKind::Input => format!("{from} ~> {to}"),
            _ => format!("{from} -> {to}: {}", edge.records),
        }
    };
    graph.edges.iter().map(edge).collect()
}

fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(ToString::to_string).collect()
}

const WHOLE: [&str; 6] = [
    "flights-loader -> ops.flights: 3",
    "weather-loader -> ops.weather: 2",
    "ops.flights -> delays-job: 3",
    "ops.weather -> delays-job: 2",
    "delays-job -> ops.delays: 1",
    "ops.delays -> report: 1",
];

#[tokio::test]
async fn the_graph_is_what_was_appended_and_read_and_nothing_else() {
    let broker = flights_mesh(Config::default()).await;
    let both = graph(&broker, "ops.delays", LineageDirection::Unspecified).await;
    assert_eq!(edges(&both), set(&WHOLE));
    assert_eq!(name(&both, &both.root), "ops.delays");
    assert!(!both.nodes.iter().any(|node| node.has_more));
    let edge = both.edges.iter().find(|edge| edge.records == 3).unwrap();
    assert_eq!(edge.provenance(), v1::ProvenanceKind::Observed);
    assert!(edge.bytes > 0 && edge.first_time.is_some() && edge.last_time.is_some());
    assert_eq!((edge.versions[0].schema_version, edge.versions[0].records), (1, 3));
    let up = graph(&broker, "ops.delays", LineageDirection::Upstream).await;
    assert_eq!(edges(&up), set(&WHOLE[..5]));
    let down = graph(&broker, "ops.flights", LineageDirection::Downstream).await;
    assert_eq!(
        edges(&down),
        set(&[WHOLE[2], WHOLE[4], WHOLE[5]]),
        "the weather is not where the flights go"
    );
    let alone = graph(&broker, "ops.other", LineageDirection::Unspecified).await;
    assert_eq!((alone.nodes.len(), alone.edges.len()), (1, 0));
}

#[tokio::test]
async fn a_graph_may_begin_at_an_application_and_end_at_a_depth() {
    let broker = flights_mesh(Config::default()).await;
    let mut request = v1::GetLineageRequest {
        begin: Some(v1::get_lineage_request::Begin::Application("delays-job".to_owned())),
        depth: 1,
        ..Default::default()
    };
    let found = broker.lineage().get_lineage(request.clone()).await.unwrap().into_inner();
    assert_eq!(edges(&found), set(&WHOLE[2..5]));
    let cut = found.nodes.iter().filter(|node| node.has_more).count();
    assert_eq!(cut, 3, "each product is written or read by somebody further away");
    for (depth, begin, reason) in
        [(21, "delays-job", "INVALID_ARGUMENT"), (1, "nobody", "INVALID_ARGUMENT")]
    {
        request.depth = depth;
        request.begin = Some(v1::get_lineage_request::Begin::Application(begin.to_owned()));
        let error = broker.lineage().get_lineage(request.clone()).await.unwrap_err();
        assert_eq!(error.metadata().get("meshlog-reason").unwrap(), reason);
    }
    request.begin = None;
    let error = broker.lineage().get_lineage(request.clone()).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    request.begin = Some(v1::get_lineage_request::Begin::Product("ops.gone".to_owned()));
    assert_eq!(broker.lineage().get_lineage(request).await.unwrap_err().code(), Code::NotFound);
}

/// What everybody calls itself by default connects what has nothing to do with one another.
#[tokio::test]
async fn a_name_that_many_programs_share_ends_the_graph() {
    let broker = flights_mesh(Config::default()).await;
    for program in ["meshlog-cli", "unknown"] {
        reads(&broker, program, "ops.flights").await;
        appends(&broker, program, "ops.other", &["note"]).await;
    }
    let down = graph(&broker, "ops.flights", LineageDirection::Downstream).await;
    let edges = edges(&down);
    assert!(edges.contains("ops.flights -> meshlog-cli: 3"), "{edges:?}");
    assert!(!edges.iter().any(|edge| edge.contains("ops.other")), "{edges:?}");
    let use_of = broker.broker().catalogue().get_product(
        &meshlog_broker::Caller::default(),
        v1::GetProductRequest { name: "ops.other".into() },
    );
    assert!(use_of.unwrap().product.unwrap().r#use.unwrap().undeclared_inputs.is_empty());
}

#[tokio::test]
async fn the_graph_of_a_moment_has_what_was_alive_then() {
    let broker = flights_mesh(Config::default()).await;
    let then = SystemTime::now();
    tokio::time::sleep(Duration::from_millis(5)).await;
    reads(&broker, "late-report", "ops.delays").await;
    let at = |as_of: SystemTime| v1::GetLineageRequest {
        begin: Some(v1::get_lineage_request::Begin::Product("ops.delays".to_owned())),
        as_of: Some(as_of.into()),
        ..Default::default()
    };
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let ask =
        async |request| edges(&broker.lineage().get_lineage(request).await.unwrap().into_inner());
    assert_eq!(ask(at(then)).await, set(&WHOLE));
    assert_eq!(ask(at(then - hours(1))).await, set(&[]), "nothing had been seen yet");
    assert_eq!(ask(at(then + hours(23))).await.len(), WHOLE.len() + 1);
    assert_eq!(ask(at(then + hours(25))).await, set(&[]), "silent for a day");
}

#[tokio::test]
async fn declared_inputs_stand_beside_what_was_seen() {
    let broker = flights_mesh(Config::default()).await;
    let declare = |inputs: &[&str]| v1::UpdateProductRequest {
        product: Some(v1::Product {
            name: "ops.delays".to_owned(),
            inputs: inputs.iter().map(ToString::to_string).collect(),
            ..Default::default()
        }),
        ..Default::default()
    };
    broker.catalog().update_product(declare(&["ops.flights", "ops.other"])).await.unwrap();
    let get = v1::GetProductRequest { name: "ops.delays".to_owned() };
    let shown = broker.catalog().get_product(get).await.unwrap().into_inner().product.unwrap();
    let usage = shown.r#use.unwrap();
    let undeclared = v1::ObservedInput {
        product: "ops.weather".to_owned(),
        applications: vec!["delays-job".to_owned()],
    };
    assert_eq!(usage.undeclared_inputs, [undeclared]);
    assert_eq!(usage.unobserved_inputs, ["ops.other"]);
    let up = graph(&broker, "ops.delays", LineageDirection::Upstream).await;
    let declared: Vec<(String, bool)> = up
        .edges
        .iter()
        .filter(|edge| edge.provenance() == v1::ProvenanceKind::Declared)
        .map(|edge| (name(&up, &edge.from), edge.observed))
        .collect();
    assert_eq!(declared.len(), 2);
    assert!(declared.contains(&("ops.flights".to_owned(), true)), "{declared:?}");
    assert!(declared.contains(&("ops.other".to_owned(), false)), "{declared:?}");
    let down = graph(&broker, "ops.other", LineageDirection::Downstream).await;
    assert!(edges(&down).contains("ops.other ~> ops.delays"), "{down:?}");
}

#[tokio::test]
async fn a_restart_gives_the_same_graph_and_a_deleted_product_is_gone_from_it() {
    let directory = tempfile::tempdir().unwrap();
    let broker = flights_mesh(Config::at(directory.path())).await;
    let before = graph(&broker, "ops.delays", LineageDirection::Unspecified).await;
    broker.broker().close().await.unwrap();
    drop(broker);
    let broker = TestBroker::start_with(Config::at(directory.path())).await;
    assert_eq!(graph(&broker, "ops.delays", LineageDirection::Unspecified).await, before);
    appends(&broker, "delays-job", "ops.delays", &["later"]).await;
    let after = graph(&broker, "ops.delays", LineageDirection::Unspecified).await;
    assert!(edges(&after).contains("delays-job -> ops.delays: 2"), "it goes on where it ended");
    let delete = v1::DeleteProductRequest { name: "ops.weather".to_owned(), ..Default::default() };
    broker.catalog().delete_product(delete).await.unwrap();
    let without = |broker: &TestBroker| {
        let broker = broker.broker();
        let request = v1::GetLineageRequest {
            begin: Some(v1::get_lineage_request::Begin::Product("ops.delays".to_owned())),
            ..Default::default()
        };
        broker.catalogue().get_lineage(&meshlog_broker::Caller::default(), request).unwrap()
    };
    assert!(!edges(&without(&broker)).iter().any(|edge| edge.contains("weather")));
    broker.broker().close().await.unwrap();
    drop(broker);
    let broker = TestBroker::start_with(Config::at(directory.path())).await;
    assert!(!edges(&without(&broker)).iter().any(|edge| edge.contains("weather")));
    broker.create(product("ops.weather")).await;
    let again = graph(&broker, "ops.weather", LineageDirection::Unspecified).await;
    assert_eq!(again.edges.len(), 0, "a new product of the name has no past");
    broker.broker().close().await.unwrap();
}

const FLIGHT_1: &str =
    r#"{"type":"object","properties":{"tailnum":{"type":"string"},"origin":{"type":"string"}}}"#;
const FLIGHT_2: &str = r#"{"type":"object","properties":{"tailnum":{"type":"string"},"origin":{"type":"string"},"gate":{"type":"string"}}}"#;
const DELAY: &str =
    r#"{"type":"object","properties":{"origin":{"type":"string"},"delay":{"type":"number"}}}"#;

#[tokio::test]
async fn the_impact_of_a_field_says_who_has_read_it_and_what_may_be_made_of_it() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.flights").json_schema(FLIGHT_1)).await;
    broker.create(product("ops.delays").json_schema(DELAY)).await;
    broker
        .create(
            product("ops.noise")
                .json_schema(r#"{"type":"object","properties":{"db":{"type":"number"}}}"#),
        )
        .await;
    appends(&broker, "loader", "ops.flights", &[r#"{"tailnum":"N1","origin":"EWR"}"#]).await;
    reads(&broker, "old-report", "ops.flights").await;
    let schema = v1::SchemaSource {
        format: v1::SchemaFormat::JsonSchema.into(),
        text: FLIGHT_2.to_owned(),
        ..Default::default()
    };
    let add = v1::AddSchemaVersionRequest {
        product: "ops.flights".to_owned(),
        value_schema: Some(schema),
        ..Default::default()
    };
    broker.schemas().add_schema_version(add).await.unwrap();
    appends(&broker, "loader", "ops.flights", &[r#"{"tailnum":"N2","origin":"JFK","gate":"B4"}"#])
        .await;
    for job in ["delays-job", "noise-job"] {
        reads(&broker, job, "ops.flights").await;
    }
    appends(&broker, "delays-job", "ops.delays", &[r#"{"origin":"EWR","delay":3}"#]).await;
    appends(&broker, "noise-job", "ops.noise", &[r#"{"db":71}"#]).await;
    reads(&broker, "board", "ops.delays").await;
    let tag =
        v1::Tag { key: "pii".to_owned(), field_path: "gate".to_owned(), ..Default::default() };
    let update = |name: &str, tag: v1::Tag| v1::UpdateProductRequest {
        product: Some(v1::Product { name: name.to_owned(), tags: vec![tag], ..Default::default() }),
        ..Default::default()
    };
    broker.catalog().update_product(update("ops.flights", tag.clone())).await.unwrap();
    let tag = v1::Tag { field_path: "db".to_owned(), ..tag };
    broker.catalog().update_product(update("ops.noise", tag)).await.unwrap();

    let impact = async |field: &str| {
        let request = v1::GetImpactRequest {
            product: "ops.flights".to_owned(),
            field: field.to_owned(),
            ..Default::default()
        };
        broker.lineage().get_impact(request).await
    };
    let level = |product: &v1::ImpactedProduct, name: &str| {
        let mut readers = product.readers.iter();
        let named =
            |reader: &&v1::ImpactedReader| reader.application.as_ref().unwrap().name == name;
        readers.find(named).unwrap().impact()
    };

    let origin = impact("origin").await.unwrap().into_inner();
    assert_eq!(origin.versions, [1, 2]);
    assert_eq!(level(&origin.products[0], "old-report"), Impact::Reached);
    let names: Vec<_> = origin.products.iter().map(|product| product.name.as_str()).collect();
    assert_eq!(names, ["ops.flights", "ops.delays", "ops.noise"]);
    let delays = &origin.products[1];
    assert_eq!((delays.distance, delays.via.as_str()), (1, "ops.flights"));
    assert_eq!(delays.applications[0].name, "delays-job");
    let same_name = [ImpactEvidence::SameName, ImpactEvidence::Observed];
    assert_eq!(delays.evidence().collect::<Vec<_>>(), same_name);
    assert_eq!(delays.fields, ["origin"]);
    assert_eq!(level(delays, "board"), Impact::Possible);
    let noise = &origin.products[2];
    assert_eq!(noise.evidence().collect::<Vec<_>>(), [ImpactEvidence::Observed]);
    assert!(noise.fields.is_empty() && !noise.contacts.is_empty());

    let gate = impact("gate").await.unwrap().into_inner();
    assert_eq!(gate.versions, [2]);
    assert_eq!(
        level(&gate.products[0], "old-report"),
        Impact::NotReached,
        "it read version 1 alone"
    );
    assert_eq!(level(&gate.products[0], "delays-job"), Impact::Reached);
    let noise = gate.products.iter().find(|product| product.name == "ops.noise").unwrap();
    assert_eq!(noise.evidence().next(), Some(ImpactEvidence::SameTag));
    assert_eq!(noise.fields, ["db"]);

    let error = impact("gait").await.unwrap_err();
    assert!(error.message().contains("did you mean `gate`?"), "{error:?}");
    let whole = impact("").await.unwrap().into_inner();
    assert_eq!(level(&whole.products[0], "old-report"), Impact::Reached);
}

#[tokio::test]
async fn whoever_has_never_read_the_field_passes_nothing_of_it_on() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.flights").json_schema(FLIGHT_1)).await;
    broker.create(product("ops.delays").json_schema(DELAY)).await;
    appends(&broker, "loader", "ops.flights", &[r#"{"tailnum":"N1","origin":"EWR"}"#]).await;
    reads(&broker, "old-job", "ops.flights").await;
    appends(&broker, "old-job", "ops.delays", &[r#"{"origin":"EWR","delay":3}"#]).await;
    let schema = v1::SchemaSource {
        format: v1::SchemaFormat::JsonSchema.into(),
        text: FLIGHT_2.to_owned(),
        ..Default::default()
    };
    let add = v1::AddSchemaVersionRequest {
        product: "ops.flights".to_owned(),
        value_schema: Some(schema),
        ..Default::default()
    };
    broker.schemas().add_schema_version(add).await.unwrap();
    let ask = async |field: &str| {
        let request = v1::GetImpactRequest {
            product: "ops.flights".to_owned(),
            field: field.to_owned(),
            ..Default::default()
        };
        broker.lineage().get_impact(request).await.unwrap().into_inner().products.len()
    };
    assert_eq!(ask("origin").await, 2);
    assert_eq!(ask("gate").await, 1);
}
