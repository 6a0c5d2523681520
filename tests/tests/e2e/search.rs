//! Finding products: what is found, in which order, and when.

use std::path::Path;
use std::time::Instant;

use futures_util::{StreamExt as _, stream};
use meshlog_broker::{Broker, Caller, Config};
use meshlog_proto::v1;
use meshlog_tests::{
    MESH_TAG_KEYS, TestBroker, append, failure, generated_company, generated_mesh, product, read,
    values as values_of,
};
use tonic::Code;

async fn search(broker: &TestBroker, query: &str) -> v1::SearchProductsResponse {
    let request = v1::SearchProductsRequest { query: query.to_owned(), ..Default::default() };
    broker.catalog().search_products(request).await.unwrap().into_inner()
}

fn names(found: &v1::SearchProductsResponse) -> Vec<&str> {
    found.hits.iter().map(|hit| &*hit.product.as_ref().unwrap().name).collect()
}

fn described(name: &str, description: &str) -> v1::CreateProductRequest {
    let mut request = product(name).request();
    request.product.as_mut().unwrap().description = description.to_owned();
    request
}

async fn create(broker: &TestBroker, request: v1::CreateProductRequest) {
    broker.catalog().create_product(request).await.unwrap();
}

async fn create_tag_key(broker: &TestBroker, name: &str, has_value: bool, owner: &str) {
    let value_type = if has_value { v1::TagValueType::String } else { v1::TagValueType::None };
    let tag_key = v1::TagKey {
        name: name.to_owned(),
        owner: owner.to_owned(),
        description: "of the tests".to_owned(),
        value_type: value_type.into(),
        ..Default::default()
    };
    let request = v1::CreateTagKeyRequest { tag_key: Some(tag_key), validate_only: false };
    // Nothing hangs on the answer: a product whose tag has no key is refused.
    drop(broker.catalog().create_tag_key(request).await);
}

#[tokio::test]
async fn whatever_was_acknowledged_is_found() {
    let broker = TestBroker::start().await;
    for number in 0..100 {
        let name = format!("ops.zebra{number}");
        create(&broker, described(&name, "stripes")).await;
        assert_eq!(names(&search(&broker, &format!("zebra{number}")).await), [&*name]);
    }
    assert_eq!(search(&broker, "stripes").await.total, 100);
    let update = v1::UpdateProductRequest {
        product: Some(v1::Product {
            name: "ops.zebra7".to_owned(),
            description: "spots".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    broker.catalog().update_product(update).await.unwrap();
    assert_eq!(names(&search(&broker, "spots").await), ["ops.zebra7"]);
    assert_eq!(search(&broker, "stripes").await.total, 99);
    let value_schema = v1::SchemaSource {
        format: v1::SchemaFormat::JsonSchema.into(),
        text: r#"{"type": "object", "properties": {"hoofPrint": {"description": "as a drawing"}}}"#
            .to_owned(),
        ..Default::default()
    };
    let request = v1::AddSchemaVersionRequest {
        product: "ops.zebra8".to_owned(),
        value_schema: Some(value_schema),
        ..Default::default()
    };
    broker.schemas().add_schema_version(request).await.unwrap();
    let found = search(&broker, "drawing field:hoofprint format:json-schema").await;
    assert_eq!(names(&found), ["ops.zebra8"]);
    let places: Vec<&str> = found.hits[0].matches.iter().map(|one| &*one.place).collect();
    assert_eq!(places, ["field", "field_docs"]);
    let delete = v1::DeleteProductRequest { name: "ops.zebra7".to_owned(), ..Default::default() };
    broker.catalog().delete_product(delete).await.unwrap();
    assert_eq!(search(&broker, "spots").await.total, 0);
}

#[tokio::test]
async fn after_a_restart_the_same_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Broker::open(Config::at(directory.path())).unwrap();
    let stripes =
        || v1::SearchProductsRequest { query: "stripes".to_owned(), ..Default::default() };
    let broker = open();
    for (name, description) in [("ops.zebra", "stripes"), ("ops.horse", "no stripes")] {
        let request = described(name, description);
        broker.catalogue().create_product(&Caller::default(), request).await.unwrap();
    }
    let before = broker
        .catalogue()
        .search_products(&meshlog_broker::Caller::default(), stripes())
        .await
        .unwrap();
    assert_eq!(names(&before), ["ops.zebra", "ops.horse"]);
    broker.close().await.unwrap();
    drop(broker);
    let again = open();
    let after = again
        .catalogue()
        .search_products(&meshlog_broker::Caller::default(), stripes())
        .await
        .unwrap();
    assert_eq!(after, before);
    again.close().await.unwrap();
}

#[tokio::test]
async fn a_hit_shows_its_use_and_contacts_but_neither_docs_nor_provenance() {
    let broker = TestBroker::start().await;
    let mut request = described("ops.zebra", "stripes");
    request.product.as_mut().unwrap().docs = "A long story about zebras.".to_owned();
    create(&broker, request).await;
    let found = search(&broker, "story").await;
    let hit = &found.hits[0];
    let shown = hit.product.as_ref().unwrap();
    assert!(shown.docs.is_empty() && shown.provenance.is_empty());
    assert!(shown.r#use.is_some());
    assert_eq!(shown.contacts, ["ops@example.org"]);
    assert_eq!(hit.matches[0].place, "docs");
    assert_eq!(hit.matches[0].snippet, "A long story about zebras.");
}

#[tokio::test]
async fn pages_show_every_hit_once_and_facets_come_with_the_first() {
    let broker = TestBroker::start().await;
    for number in 0..57 {
        let name = format!("{}.zebra{number:02}", ["ops", "zoo"][number % 2]);
        create(&broker, described(&name, "stripes")).await;
    }
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let request = v1::SearchProductsRequest {
            query: "stripes".to_owned(),
            page_size: 10,
            page_token: token.clone(),
        };
        let page = broker.catalog().search_products(request).await.unwrap().into_inner();
        assert_eq!(page.total, 57);
        assert_eq!(page.facets.is_empty(), !token.is_empty());
        seen.extend(names(&page).into_iter().map(str::to_owned));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        assert_eq!(seen.len() % 10, 0);
    }
    let mut once = seen.clone();
    once.sort();
    once.dedup();
    assert_eq!((seen.len(), once.len()), (57, 57));
    assert_eq!(seen, once, "equal matches are in the order of names");
    let facets = search(&broker, "stripes").await.facets;
    let domains = facets.iter().find(|facet| facet.name == "domain").unwrap();
    let counted: Vec<(&str, u64)> =
        domains.values.iter().map(|value| (&*value.value, value.count)).collect();
    assert_eq!(counted, [("ops", 29), ("zoo", 28)]);
    // A token belongs to its query.
    let first = v1::SearchProductsRequest {
        query: "stripes".to_owned(),
        page_size: 1,
        ..Default::default()
    };
    let token = broker.catalog().search_products(first).await.unwrap().into_inner().next_page_token;
    for (query, page_token) in [("zebra", &*token), ("stripes", "garbage"), ("stripes", "é")] {
        let (query, page_token) = (query.to_owned(), page_token.to_owned());
        let request = v1::SearchProductsRequest { query, page_token, ..Default::default() };
        let refused = failure(&broker.catalog().search_products(request).await.unwrap_err());
        assert_eq!(refused.violations[0].0, "page_token");
    }
}

#[tokio::test]
async fn large_products_make_a_page_shorter_and_none_is_left_out() {
    let broker = TestBroker::start().await;
    for number in 0..1000 {
        let mut request = described(&format!("ops.big{number:04}"), &"stripes ".repeat(500));
        request.product.as_mut().unwrap().support = "s".repeat(1000);
        broker.broker().catalogue().create_product(&Caller::default(), request).await.unwrap();
    }
    let (mut seen, mut token) = (0, String::new());
    loop {
        let request = v1::SearchProductsRequest {
            query: "stripes".to_owned(),
            page_size: 1000,
            page_token: token,
        };
        let page = broker.catalog().search_products(request).await.unwrap().into_inner();
        assert!(prost::Message::encoded_len(&page) < 4 << 20);
        seen += page.hits.len();
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, 1000);
}

#[tokio::test]
async fn products_of_the_broker_are_not_found() {
    let broker = TestBroker::start().await;
    create(&broker, described("ops.zebra", "stripes")).await;
    let listed = broker.catalog().list_products(v1::ListProductsRequest::default()).await.unwrap();
    let listed = listed.into_inner().products;
    assert!(listed.iter().any(|product| product.name == "meshlog.audit"));
    assert_eq!(names(&search(&broker, "").await), ["ops.zebra"]);
    assert_eq!(search(&broker, "audit").await.total, 0);
}

#[tokio::test]
async fn the_life_of_a_product_shows_in_what_is_found() {
    let broker = TestBroker::start().await;
    let mut catalog = broker.catalog();
    for name in ["ops.donkey", "ops.zebra"] {
        create(&broker, described(name, "stripes")).await;
    }
    let name = || "ops.donkey".to_owned();
    let activate = v1::ActivateProductRequest { name: name(), ..Default::default() };
    catalog.activate_product(activate).await.unwrap();
    assert_eq!(names(&search(&broker, "stripes state:active").await), ["ops.donkey"]);
    assert_eq!(names(&search(&broker, "stripes").await), ["ops.donkey", "ops.zebra"]);
    let reason = "it has no stripes".to_owned();
    let deprecate = v1::DeprecateProductRequest { name: name(), reason, ..Default::default() };
    catalog.deprecate_product(deprecate).await.unwrap();
    assert_eq!(names(&search(&broker, "stripes state:deprecated").await), ["ops.donkey"]);
    assert_eq!(names(&search(&broker, "stripes").await), ["ops.zebra", "ops.donkey"]);
    let new_name = "ops.quagga".to_owned();
    let rename = v1::MoveProductRequest { name: name(), new_name, ..Default::default() };
    catalog.move_product(rename).await.unwrap();
    assert_eq!(names(&search(&broker, "quagga").await), ["ops.quagga"]);
    assert_eq!(search(&broker, "name:ops.donkey").await.total, 0);
}

#[tokio::test]
async fn a_tag_of_the_domain_finds_its_products() {
    let broker = TestBroker::start().await;
    for name in ["ops.zebra", "zoo.zebra"] {
        create(&broker, described(name, "stripes")).await;
    }
    assert_eq!(search(&broker, "tag:pii").await.total, 0);
    let pii = v1::Tag { key: "pii".to_owned(), ..Default::default() };
    let domain = v1::Domain { name: "zoo".to_owned(), tags: vec![pii], ..Default::default() };
    let update = v1::UpdateDomainRequest { domain: Some(domain), ..Default::default() };
    broker.catalog().update_domain(update).await.unwrap();
    let found = search(&broker, "stripes tag:pii").await;
    assert_eq!(names(&found), ["zoo.zebra"]);
    assert!(found.hits[0].matches.iter().any(|one| (&*one.place, &*one.snippet) == ("tag", "pii")));
}

#[tokio::test]
async fn a_query_that_cannot_be_read_is_refused_with_the_place() {
    let broker = TestBroker::start().await;
    let asked = |query: &str| {
        let mut catalog = broker.catalog();
        let request = v1::SearchProductsRequest { query: query.to_owned(), ..Default::default() };
        async move { catalog.search_products(request).await }
    };
    for (query, position, what) in [
        ("flights onwer:ops", "9", "did you mean `owner:`?"),
        ("\"new york", "1", "does not end"),
        ("tag:", "1", "needs a value"),
        ("https://example.org", "1", "quote it"),
        (&*"a ".repeat(40), "65", "at most 32"),
        (&*"a".repeat(1001), "1", "at most 1000"),
    ] {
        let refused = failure(&asked(query).await.unwrap_err());
        assert_eq!((refused.code, &*refused.reason), (Code::InvalidArgument, "QUERY_INVALID"));
        assert_eq!(refused.metadata["position"], position, "{query}");
        assert!(refused.message.contains(what), "{}", refused.message);
    }
    let megabyte = "*".repeat(1 << 20);
    assert_eq!(failure(&asked(&megabyte).await.unwrap_err()).reason, "QUERY_INVALID");
    for hostile in [
        "\u{0}\u{1b}[31m x",
        "(((((.*)+)+)+x",
        "[a-z]{1000000}",
        "' OR 1=1 --",
        "é\u{301}\u{202e}x",
        "x****",
    ] {
        assert_eq!(asked(hostile).await.unwrap().into_inner().total, 0, "{hostile}");
    }
}

/// The flights mesh of `examples/flights`, created through the API.
async fn create_flights(broker: &TestBroker) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/flights");
    let mesh = std::fs::read_to_string(folder.join("mesh.toml")).unwrap();
    let mesh: toml::Table = mesh.parse().unwrap();
    let tables =
        |name: &str| mesh[name].as_array().unwrap().iter().map(|one| one.as_table().unwrap());
    let text = |of: &toml::Table, key: &str| of[key].as_str().unwrap().to_owned();
    let texts = |of: &toml::Table, key: &str| -> Vec<String> {
        let items = of[key].as_array().unwrap().iter();
        items.map(|item| item.as_str().unwrap().to_owned()).collect()
    };
    for team in tables("team") {
        let contacts = texts(team, "contacts");
        let (name, description) = (text(team, "name"), text(team, "description"));
        let team = v1::Team { name, contacts, description, ..Default::default() };
        let request = v1::CreateTeamRequest { team: Some(team), validate_only: false };
        broker.catalog().create_team(request).await.unwrap();
    }
    for domain in tables("domain") {
        let (name, owner) = (text(domain, "name"), text(domain, "owner"));
        let description = text(domain, "description");
        let domain = v1::Domain { name, owner, description, ..Default::default() };
        let request = v1::CreateDomainRequest { domain: Some(domain), validate_only: false };
        broker.catalog().create_domain(request).await.unwrap();
    }
    for (key, has_value) in [("aviation", false), ("weather", false), ("identifier", false)]
        .into_iter()
        .chain(["source", "region", "unit", "ref"].map(|key| (key, true)))
    {
        create_tag_key(broker, key, has_value, "reference-data").await;
    }
    for one in tables("product") {
        let tag = |text: &str, field: &str| {
            let (key, value) = match text.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (text, None),
            };
            v1::Tag { key: key.to_owned(), value, field_path: field.to_owned() }
        };
        let of_product = texts(one, "tags").into_iter().map(|text| tag(&text, ""));
        let of_fields = texts(one, "field_tags").into_iter().map(|text| {
            let (field, text) = text.split_once(':').unwrap();
            tag(text, field)
        });
        let classification =
            format!("CLASSIFICATION_{}", text(one, "classification").to_uppercase());
        let schema = folder.join("schemas").join(text(one, "schema"));
        let request = v1::CreateProductRequest {
            product: Some(v1::Product {
                name: text(one, "name"),
                owner: text(one, "owner"),
                description: text(one, "description"),
                classification: v1::Classification::from_str_name(&classification).unwrap().into(),
                tags: of_product.chain(of_fields).collect(),
                ..Default::default()
            }),
            value_schema: Some(v1::SchemaSource {
                format: v1::SchemaFormat::JsonSchema.into(),
                text: std::fs::read_to_string(schema).unwrap(),
                ..Default::default()
            }),
            ..Default::default()
        };
        broker.catalog().create_product(request).await.unwrap();
    }
}

/// Generated products, through the embedded API, which is faster.
async fn create_generated(broker: &TestBroker, count: usize) {
    let embedded = broker.broker();
    let catalogue = embedded.catalogue();
    let caller = Caller::new("tests");
    for (team, domain) in generated_company() {
        catalogue.create_team(&caller, team).await.unwrap();
        if let Some(domain) = domain {
            catalogue.create_domain(&caller, domain).await.unwrap();
        }
    }
    for (key, has_value) in MESH_TAG_KEYS {
        create_tag_key(broker, key, *has_value, "platform").await;
    }
    let created = stream::iter(generated_mesh(count)).map(|request| {
        let request = v1::CreateProductRequest { new_domain: None, new_team: None, ..request };
        catalogue.create_product(&caller, request)
    });
    let mut created = created.buffer_unordered(16);
    while let Some(result) = created.next().await {
        result.unwrap();
    }
}

/// Products whose names or texts contain a word that they are not about, and those that are about
/// it; and products that are alike.
const TRAPS: &[(&str, &str)] = &[
    ("assets.chair-inventory", "Chairs, stairs and fairs"),
    ("assets.repairs", "What was repaired and by whom"),
    ("facilities.air", "Air that the buildings take in"),
    ("archive.passports", "Passports that were reported lost"),
    ("archive.reports", "Reports for export and import"),
    ("harbour.port-calls", "Ships that call at a port"),
    ("assets.storage-usage", "Usage, damage and mileage of storage"),
    ("census.age", "Age of inhabitants by district"),
    ("board.relationships", "Memberships and ownerships"),
    ("fleet.ship-positions", "Where each ship is"),
    ("archive.corporate-narrative", "Corporate narrative, generated and moderated"),
    ("banking.rate", "The rate of the central bank, by day"),
    ("archive.misleading-threads", "Threads, plaudits and misleading treadmills"),
    ("mining.lead", "Lead and zinc that the mine brings up"),
    ("archive.borders", "Borders and recorders"),
    ("kitchen.order", "What a table has ordered"),
    ("grocery.fruit-north", "Fruit weighed at the till"),
    ("grocery.fruit-south", "Fruit weighed at the till"),
    ("grocery.fruit-west", "Fruit weighed at the till"),
    ("library.loans-a", "Books on loan, as scanned at the desk"),
    ("library.loans-b", "Books on loan, as scanned at the desk"),
    ("transit.taps-blue", "Tickets tapped at the gate"),
    ("transit.taps-green", "Tickets tapped at the gate"),
    ("transit.taps-red", "Tickets tapped at the gate"),
    ("transit.taps", "Tickets tapped at the gate"),
    ("hotel.stays", "Guests, their rooms and their invoices"),
    ("hotel.invoices", "What guests pay"),
];

/// What makes a query worth asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Plain,
    Typo,
    /// The order of a substring search would be wrong.
    Substring,
    /// The match is equal; use decides.
    Use,
    Filter,
    Phrase,
}

const QUERIES: &[(Why, &str, &str)] = &[
    (Why::Plain, "flights", "ops.flights"),
    (Why::Plain, "new york departures", "ops.flights"),
    (Why::Plain, "tail number aircraft", "fleet.planes"),
    (Why::Plain, "flughafen OR", "none"),
    (Why::Plain, "carriers from new york", "reference.airlines"),
    (Why::Plain, "flight-operations", "ops.flights"),
    (Why::Plain, "WÉATHER hourly", "weather.observations"),
    (Why::Plain, "airport altitude", "reference.airports"),
    (Why::Plain, "arrDelay", "ops.flights"),
    (Why::Plain, "lab result", "clinical.lab-results"),
    (Why::Plain, "employee birth date", "people.employees"),
    (Why::Plain, "orders", "sales.orders"),
    (Why::Typo, "fligths", "ops.flights"),
    (Why::Typo, "airprots", "reference.airports"),
    (Why::Typo, "wheather observatons", "weather.observations"),
    (Why::Typo, "shipmnet", "logistics.shipments"),
    (Why::Typo, "chargebakcs", "payments.chargebacks"),
    (Why::Typo, "prescirptions", "clinical.prescriptions"),
    (Why::Typo, "employes salry", "none"),
    (Why::Typo, "certifcate expiers", "infra.certificates"),
    (Why::Substring, "air", "facilities.air"),
    (Why::Substring, "port", "harbour.port-calls"),
    (Why::Substring, "age", "census.age"),
    (Why::Substring, "ship", "fleet.ship-positions"),
    (Why::Substring, "rate", "banking.rate"),
    (Why::Substring, "lead", "mining.lead"),
    (Why::Substring, "order", "kitchen.order"),
    (Why::Plain, "invoices", "hotel.invoices"),
    (Why::Use, "fruit", "grocery.fruit-west"),
    (Why::Use, "books loan", "library.loans-b"),
    (Why::Use, "tickets gate", "transit.taps-red"),
    (Why::Use, "taps", "transit.taps"),
    (Why::Filter, "tag:ref=fleet.planes", "ops.flights"),
    (Why::Filter, "field:tailnum delay", "ops.flights"),
    (Why::Filter, "field:faa", "reference.airports"),
    (Why::Filter, "domain:weather", "weather.observations"),
    (Why::Filter, "owner:fleet-engineering", "fleet.planes"),
    (Why::Filter, "aviation -tag:region -domain:reference", "fleet.planes"),
    (Why::Filter, "tag:pii domain:infra name:infra.log*", "infra.logins"),
    (
        Why::Filter,
        "classification:public tag:region=nyc format:json_schema",
        "weather.observations",
    ),
    (Why::Phrase, "\"tail number of the aircraft\"", "ops.flights"),
    (Why::Phrase, "\"as it really went\"", "ops.flights"),
    (Why::Phrase, "\"call at a port\"", "harbour.port-calls"),
];

/// Readings of products that are alike: (product, application, records).
const READ: &[(&str, &str, u64)] = &[
    ("grocery.fruit-west", "till-report", 40),
    ("grocery.fruit-south", "till-report", 3),
    ("library.loans-b", "reminders", 5),
    ("transit.taps-red", "crowding", 9_000),
    ("transit.taps-red", "fares", 100),
    ("transit.taps-green", "fares", 9_100),
];

/// Up to so many records are appended and read; more are only counted.
const REALLY_READ: u64 = 40;

/// What most tools do: every word somewhere in the text, names before other texts, then by name.
fn naive<'a>(products: &'a [(String, String)], query: &str) -> Option<&'a str> {
    let words: Vec<String> = query.split(' ').map(str::to_lowercase).collect();
    let has = |text: &str| words.iter().all(|word| text.to_lowercase().contains(word));
    let hits = products.iter().filter(|(name, text)| has(&format!("{name} {text}")));
    hits.min_by_key(|(name, _)| (!has(name), name)).map(|(name, _)| &**name)
}

#[tokio::test(flavor = "multi_thread")]
async fn people_find_what_they_mean_among_ten_thousand_products() {
    let broker = TestBroker::start().await;
    let began = Instant::now();
    create_flights(&broker).await;
    create_generated(&broker, 10_000).await;
    for (name, description) in TRAPS {
        create(&broker, described(name, description)).await;
    }
    println!("10,000 products created in {:?}", began.elapsed());
    let of_use = QUERIES.iter().filter(|(why, ..)| *why == Why::Use);
    let mut decided_by_use = Vec::new();
    for (_, query, expected) in of_use {
        if names(&search(&broker, query).await)[0] != *expected {
            decided_by_use.push(*query);
        }
    }
    for (name, application, records) in READ {
        if *records <= REALLY_READ {
            let values = (0..*records).map(|number| number.to_string());
            let request = values.fold(append(name), |append, value| append.value(value));
            broker.records().append(request).await.unwrap();
            let found = broker.records().read(read(name)).await.unwrap().into_inner();
            assert_eq!(values_of(&found.batches).len() as u64, *records);
        } else {
            let product = broker.broker().catalogue().resolve(name, "").unwrap();
            product.traffic.delivered(&meshlog_broker::Caller::new(application), 1, *records, 0);
        }
    }
    let mut all: Vec<(String, String)> =
        TRAPS.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    all.extend(generated_mesh(10_000).map(|request| {
        let product = request.product.unwrap();
        (product.name, format!("{} {}", product.description, product.docs))
    }));

    println!("{:<10} {:<62} {:<24} {:<28} rank of total", "why", "query", "expected", "got");
    let mut wrong = Vec::new();
    for (why, query, expected) in QUERIES {
        let found = search(&broker, query).await;
        let got = names(&found).first().copied().unwrap_or("none").to_owned();
        let rank = names(&found).iter().position(|name| name == expected).map_or(0, |at| at + 1);
        println!(
            "{:<10} {query:<62} {expected:<24} {got:<28} {rank} of {}",
            format!("{why:?}"),
            found.total
        );
        if got != *expected {
            wrong.push((*query, *expected, got));
        }
        if *why == Why::Typo && *expected != "none" {
            assert!(!found.corrections.is_empty(), "{query}");
        }
        if *why == Why::Substring {
            let naive = naive(&all, query);
            assert_ne!(
                naive,
                Some(*expected),
                "a substring search is right about `{query}` as well"
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let of = |why: Why| QUERIES.iter().filter(|(one, ..)| *one == why).count();
    assert!(of(Why::Typo) >= 5 && of(Why::Substring) >= 5);
    assert_eq!(decided_by_use, ["fruit", "books loan", "tickets gate"]);
}
