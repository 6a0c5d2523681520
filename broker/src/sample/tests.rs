use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use meshlog_proto::v1::{SchemaFormat, SchemaSource, Tag};
use meshlog_proto::{server_v1, v1};
use proptest::prelude::*;
use prost::Message as _;
use serde_json::json;

use super::decode::Decoder;
use super::profile::Tree;
use crate::schema::Schema;
use crate::{Broker, Caller, Reason};

fn schema(format: SchemaFormat, text: &str) -> SchemaSource {
    SchemaSource { format: format.into(), text: text.to_owned(), ..Default::default() }
}

/// A product that takes what it is given.
async fn create(broker: &Broker, partitions: u32, value_schema: Option<SchemaSource>) {
    create_with(broker, partitions, value_schema, Vec::new()).await;
}

async fn create_with(
    broker: &Broker,
    partitions: u32,
    value_schema: Option<SchemaSource>,
    tags: Vec<Tag>,
) {
    let has_rules = value_schema.as_ref().is_some_and(|s| s.format() != SchemaFormat::Opaque);
    let settings = has_rules.then(|| v1::ProductSettings {
        enforcement: v1::Enforcement::Off.into(),
        ..Default::default()
    });
    let product = v1::Product {
        name: "sandbox.a".to_owned(),
        partitions,
        settings,
        tags,
        ..Default::default()
    };
    let request =
        v1::CreateProductRequest { product: Some(product), value_schema, ..Default::default() };
    broker.catalogue().create_product(&Caller::default(), request).await.unwrap();
}

async fn append(broker: &Broker, partition: u32, records: Vec<v1::Record>) {
    let batch = v1::RecordBatch { records };
    let request = server_v1::AppendRequest {
        product: "sandbox.a".to_owned(),
        partition: Some(partition),
        batch: vec![Bytes::from(batch.encode_to_vec())],
        ..Default::default()
    };
    broker.append(&Caller::default(), request).await.unwrap();
}

fn value(value: impl Into<Bytes>) -> v1::Record {
    v1::Record { value: Some(value.into()), ..Default::default() }
}

fn keyed(key: &str, text: impl Into<Bytes>) -> v1::Record {
    v1::Record { key: Some(Bytes::copy_from_slice(key.as_bytes())), ..value(text) }
}

fn request(max_records: u32) -> v1::SampleProductRequest {
    let product = "sandbox.a".to_owned();
    v1::SampleProductRequest { product, max_records, ..Default::default() }
}

async fn sample(broker: &Broker, request: v1::SampleProductRequest) -> v1::SampleProductResponse {
    let sample = broker.sample_product(&Caller::default(), request).await.unwrap();
    assert!(sample.encoded_len() < 4 << 20, "{}", sample.encoded_len());
    assert!(sample.records.is_sorted_by_key(|record| {
        let time = record.append_time.unwrap();
        (time.seconds, time.nanos, record.partition, record.offset)
    }));
    sample
}

async fn profile(broker: &Broker, records: u32) -> v1::Profile {
    let request = v1::SampleProductRequest { profile_records: records, ..request(1) };
    sample(broker, request).await.profile.unwrap()
}

fn texts(sample: &v1::SampleProductResponse) -> Vec<String> {
    let values = sample.records.iter().map(|record| record.record.as_ref().unwrap());
    values
        .map(|record| String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap())
        .collect()
}

fn field<'a>(profile: &'a v1::Profile, path: &str) -> &'a v1::FieldProfile {
    let found = profile.fields.iter().find(|field| field.path == path);
    found.unwrap_or_else(|| panic!("no `{path}` in {:?}", paths(profile)))
}

fn paths(profile: &v1::Profile) -> Vec<&str> {
    profile.fields.iter().map(|field| field.path.as_str()).collect()
}

#[tokio::test]
async fn the_last_records_of_all_partitions_are_the_last_appended() {
    let broker = Broker::in_memory().unwrap();
    create(&broker, 4, None).await;
    assert!(sample(&broker, request(0)).await.records.is_empty());
    // Batches of every size, over the partitions in an order that has nothing to do with theirs.
    let (mut all, mut n) = (Vec::new(), 0_u32);
    for round in 0..60_u32 {
        let count = [1, 1, 7, 1, 300][round as usize % 5];
        let batch: Vec<u32> = (n..n + count).collect();
        append(&broker, round * 3 % 4, batch.iter().map(|n| value(n.to_string())).collect()).await;
        all.extend(batch.iter().map(u32::to_string));
        n += count;
    }
    for wanted in [1, 2, 10, 299, 300, 301, 1_000] {
        let last = sample(&broker, request(wanted)).await;
        assert_eq!(texts(&last), all[all.len() - wanted as usize..], "{wanted}");
        assert!(!last.truncated);
    }
    assert_eq!(sample(&broker, request(0)).await.records.len(), 10);
    let of_one = v1::SampleProductRequest { partitions: vec![2], ..request(1_000) };
    let of_one = sample(&broker, of_one).await;
    assert!(of_one.records.iter().all(|record| record.partition == 2));
    assert_eq!(of_one.records.last().unwrap().schema_version, 1);
    let product = v1::GetProductRequest { name: "sandbox.a".to_owned() };
    let product =
        broker.catalogue().get_product(&Caller::default(), product).unwrap().product.unwrap();
    assert_eq!(product.r#use.unwrap().records_read, 0, "what the broker reads itself is no use");
}

#[tokio::test]
async fn an_answer_that_would_be_too_large_has_fewer_records_and_none_is_cut() {
    let broker = Broker::in_memory().unwrap();
    create(&broker, 2, None).await;
    for n in 0..12_u8 {
        append(&broker, u32::from(n % 2), vec![value(vec![b'a' + n; 600_000])]).await;
    }
    let last = sample(&broker, request(10)).await;
    assert_eq!(last.records.len(), 3);
    for (record, letter) in last.records.iter().zip(b'j'..) {
        let value = record.record.as_ref().unwrap().value.as_ref().unwrap();
        assert!(value.len() == 600_000 && value.iter().all(|byte| *byte == letter));
    }
    append(&broker, 0, vec![value(vec![b'z'; 1_048_000])]).await;
    let largest = v1::SampleProductRequest { profile_records: 10_000, ..request(1) };
    assert_eq!(sample(&broker, largest).await.records.len(), 1, "one record always has room");
}

#[tokio::test]
async fn the_last_records_of_a_key_are_found_wherever_they_are() {
    let broker = Broker::in_memory().unwrap();
    create(&broker, 3, None).await;
    for n in 0..300_u32 {
        let record = keyed(&format!("k{}", n % 50), n.to_string());
        append(&broker, n % 3, vec![record]).await;
    }
    let with_key = |key: &'static str, count| v1::SampleProductRequest {
        which: Some(v1::sample_product_request::Which::Key(Bytes::from_static(key.as_bytes()))),
        ..request(count)
    };
    let found = sample(&broker, with_key("k7", 4)).await;
    assert_eq!(texts(&found), ["107", "157", "207", "257"]);
    assert!(!found.truncated);
    assert_eq!(sample(&broker, with_key("k7", 100)).await.records.len(), 6);
    let none = sample(&broker, with_key("other", 4)).await;
    assert!(none.records.is_empty() && !none.truncated, "the whole log was looked at");
}

#[tokio::test]
async fn the_search_for_a_key_ends_after_64_mib_and_says_so() {
    let broker = Broker::in_memory().unwrap();
    create(&broker, 1, None).await;
    append(&broker, 0, vec![keyed("old", "first")]).await;
    for _ in 0..70 {
        append(&broker, 0, vec![keyed("filler", vec![0; 1_000_000])]).await;
    }
    append(&broker, 0, vec![keyed("new", "last")]).await;
    let with_key = |key: &'static str, count| v1::SampleProductRequest {
        which: Some(v1::sample_product_request::Which::Key(Bytes::from_static(key.as_bytes()))),
        ..request(count)
    };
    let old = sample(&broker, with_key("old", 1)).await;
    assert!(old.records.is_empty() && old.truncated);
    let new = sample(&broker, with_key("new", 1)).await;
    assert!(new.records.len() == 1 && !new.truncated);
    let more = sample(&broker, with_key("new", 2)).await;
    assert!(more.records.len() == 1 && more.truncated);
}

#[tokio::test]
async fn records_around_a_time_are_as_many_before_as_after() {
    let broker = Broker::in_memory().unwrap();
    create(&broker, 2, None).await;
    let mut times = Vec::new();
    for n in 0..20_u32 {
        append(&broker, n % 2, vec![value(n.to_string())]).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let all = sample(&broker, request(20)).await;
    times.extend(all.records.iter().map(|record| record.append_time.unwrap()));
    let around = |time: prost_types::Timestamp, count| v1::SampleProductRequest {
        which: Some(v1::sample_product_request::Which::Around(time)),
        ..request(count)
    };
    assert_eq!(
        texts(&sample(&broker, around(times[10], 6)).await),
        ["7", "8", "9", "10", "11", "12"]
    );
    assert_eq!(texts(&sample(&broker, around(times[10], 1)).await), ["10"]);
    assert_eq!(texts(&sample(&broker, around(times[1], 6)).await), ["0", "1", "2", "3"]);
    let early = prost_types::Timestamp { seconds: 1, nanos: 0 };
    assert_eq!(texts(&sample(&broker, around(early, 6)).await), ["0", "1", "2"]);
    let late = SystemTime::now() + Duration::from_secs(3600);
    assert_eq!(texts(&sample(&broker, around(late.into(), 6)).await), ["17", "18", "19"]);
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_refused() {
    let broker = Broker::in_memory().unwrap();
    create(&broker, 2, None).await;
    let refused = |request: v1::SampleProductRequest| {
        let broker = broker.clone();
        async move { broker.sample_product(&Caller::default(), request).await.unwrap_err() }
    };
    let error = refused(request(1_001)).await;
    assert_eq!(error.reason(), Reason::InvalidArgument);
    assert!(error.to_string().contains("max_records: at most 1000"), "{error}");
    let error = refused(v1::SampleProductRequest { profile_records: 10_001, ..request(1) }).await;
    assert_eq!(error.metadata()["field"], "profile_records");
    let error = refused(v1::SampleProductRequest { partitions: vec![2], ..request(1) }).await;
    assert_eq!(error.reason(), Reason::PartitionNotFound);
    let recreated = v1::SampleProductRequest { product_id: "other".to_owned(), ..request(1) };
    assert_eq!(refused(recreated).await.reason(), Reason::ProductRecreated);
}

/// The flights of two weeks of January 2013, as they come with the repository; absent is `NA`.
fn flights() -> (Vec<String>, Vec<Vec<Option<String>>>) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/flights/flights.csv");
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let split = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
    let names = split(lines.next().unwrap());
    let row = |line: &str| {
        let cells = split(line).into_iter();
        cells.map(|cell| (cell != "NA" && !cell.is_empty()).then_some(cell)).collect()
    };
    (names, lines.map(row).collect())
}

#[tokio::test]
async fn a_profile_of_real_flights_says_what_the_table_says() {
    let broker = Broker::in_memory().unwrap();
    let text = include_str!("../../../examples/flights/schemas/flights.json");
    create(&broker, 3, Some(schema(SchemaFormat::JsonSchema, text))).await;
    let (names, rows) = flights();
    let is_text = ["carrier", "tailnum", "origin", "dest", "time_hour"];
    let json = |row: &Vec<Option<String>>| {
        let members = names.iter().zip(row).filter_map(|(name, cell)| {
            let cell = cell.as_ref()?;
            let cell = match is_text.contains(&name.as_str()) {
                true => json!(cell),
                false => json!(cell.parse::<i64>().unwrap()),
            };
            Some((name.clone(), cell))
        });
        serde_json::Value::Object(members.collect()).to_string()
    };
    for (n, rows) in rows.chunks(500).enumerate() {
        append(&broker, n as u32 % 3, rows.iter().map(|row| value(json(row))).collect()).await;
    }
    let last = &rows[rows.len() - 10_000..];
    let profile = profile(&broker, 10_000).await;
    assert_eq!((profile.records, profile.unreadable, profile.tombstones), (10_000, 0, 0));
    assert!(profile.oldest_time.unwrap().seconds > 0);
    for (at, name) in names.iter().enumerate() {
        let cells: Vec<&String> = last.iter().filter_map(|row| row[at].as_ref()).collect();
        let found = field(&profile, name);
        assert_eq!(found.values, 10_000, "{name}");
        assert_eq!(found.nulls, 10_000 - cells.len() as u64, "{name}");
        let distinct = cells.iter().collect::<HashSet<_>>().len() as f64;
        let error = (found.distinct as f64 - distinct).abs() / distinct;
        assert!(error <= 0.05, "{name}: {} of {distinct}", found.distinct);
        let (min, max) = match is_text.contains(&name.as_str()) {
            true => (
                json!(cells.iter().min().unwrap()).to_string(),
                json!(cells.iter().max().unwrap()).to_string(),
            ),
            false => {
                let numbers = || cells.iter().map(|cell| cell.parse::<i64>().unwrap());
                (numbers().min().unwrap().to_string(), numbers().max().unwrap().to_string())
            }
        };
        assert_eq!(found.min.as_deref(), Some(min.as_str()), "{name}");
        assert_eq!(found.max.as_deref(), Some(max.as_str()), "{name}");
        let kind = if is_text.contains(&name.as_str()) { "string" } else { "number" };
        assert_eq!(found.types, [kind], "{name}");
        if distinct <= 30.0 {
            let mut counts: HashMap<&String, usize> = HashMap::new();
            cells.iter().for_each(|cell| *counts.entry(*cell).or_default() += 1);
            let mut counts: Vec<usize> = counts.values().copied().collect();
            counts.sort_by(|a, b| b.cmp(a));
            let of = |text: &String| {
                let plain = text.trim_matches('"');
                cells.iter().filter(|cell| cell.as_str() == plain).count()
            };
            let shown: Vec<usize> = found.examples.iter().map(of).collect();
            assert_eq!(shown, counts[..counts.len().min(5)], "{name}: {:?}", found.examples);
        }
    }
    assert!(field(&profile, "dep_time").nulls > 0 && field(&profile, "arr_delay").nulls > 0);
    assert!(field(&profile, "tailnum").distinct > 64, "estimated, not counted");
}

#[tokio::test]
async fn absent_and_null_are_null_and_items_are_counted_among_items() {
    let broker = Broker::in_memory().unwrap();
    let text = r#"{"type": "object", "properties": {
        "id": {"type": "integer"},
        "never": {"type": "string"},
        "to": {"type": "object", "properties": {"city": {"type": "string"}}},
        "legs": {"type": "array", "items": {"type": "object", "properties": {"from": {"type": "string"}}}}
    }}"#;
    create(&broker, 1, Some(schema(SchemaFormat::JsonSchema, text))).await;
    let records = [
        r#"{"id": 1, "legs": [{"from": "EWR"}, {"from": null}, {}], "tags": ["a", "b", "a"]}"#,
        r#"{"id": 2, "to": {"city": "Oslo"}, "legs": [], "extra": true}"#,
        r#"{"id": 2.0, "to": null}"#,
    ];
    append(&broker, 0, records.map(value).to_vec()).await;
    append(&broker, 0, vec![v1::Record { value: None, ..keyed("k", "") }]).await;
    let profile = profile(&broker, 100).await;
    assert_eq!((profile.records, profile.tombstones, profile.unreadable), (4, 1, 0));
    let counts: BTreeMap<&str, (u64, u64, u64)> = profile
        .fields
        .iter()
        .map(|field| (field.path.as_str(), (field.values, field.nulls, field.distinct)))
        .collect();
    let expected = [
        ("extra", (3, 2, 1)),
        ("id", (3, 0, 2)),
        ("legs", (3, 1, 0)),
        ("legs[]", (3, 0, 0)),
        ("legs[].from", (3, 2, 1)),
        ("never", (3, 3, 0)),
        ("tags", (3, 2, 0)),
        ("tags[]", (3, 0, 2)),
        ("to", (3, 2, 0)),
        ("to.city", (3, 2, 1)),
    ];
    assert_eq!(counts, BTreeMap::from(expected));
    assert_eq!(field(&profile, "tags[]").examples, [r#""a""#, r#""b""#]);
    assert_eq!(field(&profile, "legs").types, ["array"]);
    assert_eq!(field(&profile, "extra").min, None, "there is no order of booleans");
}

#[tokio::test]
async fn numbers_of_64_bits_keep_every_digit_and_mixed_types_have_no_bounds() {
    let broker = Broker::in_memory().unwrap();
    create(&broker, 1, None).await;
    let long = "ä".repeat(500);
    let records = [
        json!({"big": 18446744073709551615_u64, "mixed": 1, "text": "b", "long": long}),
        json!({"big": 18446744073709551614_u64, "mixed": "x", "text": "é", "long": "a"}),
        json!({"big": -9223372036854775808_i64, "mixed": 0.5, "text": "Z", "long": "b"}),
    ];
    append(&broker, 0, records.iter().map(|record| value(record.to_string())).collect()).await;
    let profile = profile(&broker, 100).await;
    let big = field(&profile, "big");
    assert_eq!(big.min.as_deref(), Some("-9223372036854775808"));
    assert_eq!(big.max.as_deref(), Some("18446744073709551615"));
    assert_eq!(big.distinct, 3);
    let mixed = field(&profile, "mixed");
    assert_eq!((&mixed.min, &mixed.types[..]), (&None, &["string".into(), "number".into()][..]));
    let text = field(&profile, "text");
    assert_eq!((text.min.as_deref(), text.max.as_deref()), (Some("\"Z\""), Some("\"é\"")));
    let long = field(&profile, "long");
    assert_eq!(long.max.as_deref(), Some(format!("\"{}…\"", "ä".repeat(120)).as_str()));
    assert_eq!(long.examples, ["\"a\"", "\"b\""], "long ones are no examples");
}

#[tokio::test]
async fn a_value_that_is_no_object_is_profiled_as_a_whole() {
    let broker = Broker::in_memory().unwrap();
    create(&broker, 1, None).await;
    append(&broker, 0, ["3", "1", "\"x\"", "null"].map(value).to_vec()).await;
    let whole = profile(&broker, 10).await;
    assert_eq!(paths(&whole), [""]);
    let found = field(&whole, "");
    assert_eq!((found.values, found.nulls, found.distinct), (4, 1, 3));
}

#[tokio::test]
async fn values_of_personal_fields_are_not_shown() {
    let broker = Broker::in_memory().unwrap();
    let tag = Tag { key: "pii".to_owned(), field_path: "who".to_owned(), ..Default::default() };
    let text = r#"{"type": "object", "properties": {"n": {"type": "integer"}, "who": {"type":
        "object", "properties": {"name": {"type": "string"}}}}}"#;
    let source = schema(SchemaFormat::JsonSchema, text);
    create_with(&broker, 1, Some(source), vec![tag]).await;
    let record = |n: u32| value(json!({"n": n, "who": {"name": format!("p{n}")}}).to_string());
    append(&broker, 0, (0..10).map(record).collect()).await;
    let profile = profile(&broker, 10).await;
    let name = field(&profile, "who.name");
    assert_eq!((&name.min, &name.max, name.examples.len()), (&None, &None, 0));
    assert_eq!((name.values, name.distinct), (10, 10));
    assert!(field(&profile, "n").max.is_some());
}

const AVRO: &str = r#"{"type": "record", "name": "Flight", "namespace": "x.y", "fields": [
    {"name": "number", "type": "long"},
    {"name": "delay", "type": ["null", "double"]},
    {"name": "carrier", "type": {"type": "enum", "name": "Carrier", "symbols": ["UA", "DL"]}},
    {"name": "again", "type": "Carrier"},
    {"name": "tail", "type": {"type": "fixed", "name": "Tail", "size": 2}},
    {"name": "legs", "type": {"type": "array", "items": {"type": "record", "name": "Leg",
        "fields": [{"name": "from", "type": "string"}]}}},
    {"name": "labels", "type": {"type": "map", "values": "string"}},
    {"name": "ok", "type": "boolean"}
]}"#;

fn avro(number: i64, delay: Option<f64>, legs: &[&str]) -> Vec<u8> {
    use apache_avro::types::Value;
    let schema = apache_avro::Schema::parse_str(AVRO).unwrap();
    let delay = match delay {
        None => Value::Union(0, Box::new(Value::Null)),
        Some(delay) => Value::Union(1, Box::new(Value::Double(delay))),
    };
    let carrier = Value::Enum((number % 2) as u32, ["UA", "DL"][number as usize % 2].to_owned());
    let leg =
        |from: &&str| Value::Record(vec![("from".to_owned(), Value::String((*from).to_owned()))]);
    let labels = HashMap::from([("k".to_owned(), Value::String("v".to_owned()))]);
    let record = Value::Record(vec![
        ("number".to_owned(), Value::Long(number)),
        ("delay".to_owned(), delay),
        ("carrier".to_owned(), carrier.clone()),
        ("again".to_owned(), carrier),
        ("tail".to_owned(), Value::Fixed(2, vec![1, 2])),
        ("legs".to_owned(), Value::Array(legs.iter().map(leg).collect())),
        ("labels".to_owned(), Value::Map(labels)),
        ("ok".to_owned(), Value::Boolean(true)),
    ]);
    let writer = apache_avro::writer::datum::GenericDatumWriter::builder(&schema).build().unwrap();
    writer.write_value_to_vec(record).unwrap()
}

#[tokio::test]
async fn avro_values_are_read_with_the_version_they_were_written_with() {
    let broker = Broker::in_memory().unwrap();
    create(&broker, 1, Some(schema(SchemaFormat::Avro, AVRO))).await;
    let records = vec![
        value(avro(1 << 60, Some(1.5), &["EWR", "JFK"])),
        value(avro(3, None, &[])),
        value(avro(3, Some(f64::NAN), &["EWR"])),
        value("not avro at all"),
        value(Bytes::from(avro(3, None, &[])).slice(..5)),
    ];
    append(&broker, 0, records).await;
    let profile = profile(&broker, 10).await;
    assert_eq!((profile.records, profile.unreadable), (5, 2));
    let number = field(&profile, "number");
    assert_eq!(
        (number.min.as_deref(), number.max.as_deref()),
        (Some("3"), Some("1152921504606846976"))
    );
    let delay = field(&profile, "delay");
    assert_eq!((delay.values, delay.nulls, delay.max.as_deref()), (3, 1, Some("1.5")));
    assert!(delay.examples.contains(&"\"NaN\"".to_owned()));
    assert_eq!(field(&profile, "carrier").examples, ["\"DL\"", "\"UA\""]);
    assert_eq!(field(&profile, "again").distinct, 2);
    assert_eq!(field(&profile, "tail").examples, ["\"AQI=\""]);
    let from = field(&profile, "legs[].from");
    assert_eq!((from.values, from.nulls, from.distinct), (3, 0, 2));
    assert_eq!(field(&profile, "labels").types, ["object"]);

    let second =
        AVRO.replace(r#"{"name": "ok", "type": "boolean"}"#, r#"{"name": "ok", "type": "string"}"#);
    let add = v1::AddSchemaVersionRequest {
        product: "sandbox.a".to_owned(),
        value_schema: Some(schema(SchemaFormat::Avro, &second)),
        ..Default::default()
    };
    broker.catalogue().add_schema_version(&Caller::default(), add).await.unwrap();
    let again = self::profile(&broker, 10).await;
    assert_eq!(again.unreadable, 2, "old values keep their version");
    assert_eq!(field(&again, "ok").types, ["boolean"]);
}

/// Both are a few bytes that a naive reader follows until the process ends.
#[test]
fn hostile_avro_neither_overflows_the_stack_nor_fills_the_memory() {
    let list =
        r#"{"type": "record", "name": "L", "fields": [{"name": "next", "type": ["null", "L"]}]}"#;
    let parsed = Schema::parse(&schema(SchemaFormat::Avro, list)).unwrap();
    let decoder = Decoder::new(&parsed).unwrap();
    assert!(decoder.read(&[vec![2; 20], vec![0]].concat()).is_some());
    assert!(decoder.read(&[vec![2; 1_000_000], vec![0]].concat()).is_none());
    let nulls = r#"{"type": "array", "items": "null"}"#;
    let parsed = Schema::parse(&schema(SchemaFormat::Avro, nulls)).unwrap();
    let decoder = Decoder::new(&parsed).unwrap();
    assert!(decoder.read(&[6, 0]).is_some());
    let many = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0];
    assert!(decoder.read(&many).is_none());
    let least = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0, 0];
    assert!(decoder.read(&least).is_none());
    // A record without fields that contains itself never ends without reading a byte.
    let endless = r#"{"type": "record", "name": "E", "fields": [{"name": "e", "type": "E"}]}"#;
    if let Ok(parsed) = Schema::parse(&schema(SchemaFormat::Avro, endless)) {
        assert!(Decoder::new(&parsed).unwrap().read(&[]).is_none());
    }
}

#[tokio::test]
async fn protobuf_values_are_read_by_their_message() {
    let broker = Broker::in_memory().unwrap();
    let text = r#"syntax = "proto3"; package x;
        import "google/protobuf/timestamp.proto";
        message Flight {
            uint64 number = 1;
            optional string tail = 2;
            repeated Leg legs = 3;
            Carrier carrier = 4;
            map<string, int32> counts = 5;
            google.protobuf.Timestamp at = 6;
            repeated sint32 codes = 7;
            float ratio = 8;
            Leg last = 9;
            message Leg { string from = 1; Flight of = 2; }
        }
        enum Carrier { UA = 0; DL = 1; }"#;
    let source = SchemaSource {
        message_name: "x.Flight".to_owned(),
        ..schema(SchemaFormat::Protobuf, text)
    };
    create(&broker, 1, Some(source)).await;
    let full: &[u8] = &[
        0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, // number
        0x12, 1, b'N', // tail
        0x1a, 5, 0x0a, 3, b'E', b'W', b'R', // legs
        0x1a, 0, // a leg with defaults
        0x20, 1, // carrier
        0x2a, 5, 0x0a, 1, b'k', 0x10, 7, // counts
        0x32, 2, 0x08, 0x3c, // at
        0x3a, 2, 0x01, 0x04, // codes
        0x45, 0xcd, 0xcc, 0xcc, 0x3d, // ratio
    ];
    append(&broker, 0, vec![value(full), value(""), value([0xff].as_slice())]).await;
    let profile = profile(&broker, 10).await;
    assert_eq!((profile.records, profile.unreadable), (3, 1));
    let number = field(&profile, "number");
    assert_eq!(number.max.as_deref(), Some("18446744073709551615"));
    assert_eq!((number.nulls, number.min.as_deref()), (0, Some("0")), "absent is the default");
    let tail = field(&profile, "tail");
    assert_eq!((tail.values, tail.nulls), (2, 1), "absent is null where there is presence");
    let from = field(&profile, "legs[].from");
    assert_eq!((from.values, from.examples.len()), (2, 2));
    assert_eq!(field(&profile, "carrier").examples, ["\"DL\"", "\"UA\""]);
    assert_eq!(field(&profile, "counts").types, ["object"]);
    assert_eq!(field(&profile, "at").max.as_deref(), Some("\"1970-01-01T00:01:00Z\""));
    assert_eq!(field(&profile, "codes[]").min.as_deref(), Some("-1"));
    assert_eq!(field(&profile, "ratio").max.as_deref(), Some("0.1"));
    assert_eq!(field(&profile, "last").nulls, 2);
    assert_eq!(field(&profile, "last.from").nulls, 2);
}

#[tokio::test]
async fn opaque_values_are_looked_into_only_if_their_media_type_says_json() {
    for (media_type, unreadable) in [("application/cloudevents+json", 1), ("text/plain", 2)] {
        let broker = Broker::in_memory().unwrap();
        let source = SchemaSource {
            media_type: media_type.to_owned(),
            reason: "The test says so.".to_owned(),
            ..schema(SchemaFormat::Opaque, "")
        };
        create(&broker, 1, Some(source)).await;
        append(&broker, 0, vec![value(r#"{"a": 1}"#), value("{")]).await;
        let profile = profile(&broker, 10).await;
        assert_eq!((profile.records, profile.unreadable), (2, unreadable));
        assert_eq!(profile.fields.len(), 2 - unreadable as usize);
    }
}

#[tokio::test]
async fn hostile_values_are_counted_and_the_profile_stays_bounded() {
    let broker = Broker::in_memory().unwrap();
    create(&broker, 1, None).await;
    let deep = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
    let unreadable = [
        deep(100_000),
        deep(65),
        "{\"a\": NaN}".to_owned(),
        "1e999".to_owned(),
        r#"{"a": 1, "a": 2}"#.to_owned(),
        "\u{feff}1".to_owned(),
        String::new(),
        "-".to_owned(),
        "\"\\ud800\"".to_owned(),
    ];
    append(&broker, 0, unreadable.iter().map(|text| value(text.clone())).collect()).await;
    append(&broker, 0, vec![value([0xff, 0xfe].as_slice())]).await;
    let wide: serde_json::Map<String, serde_json::Value> =
        (0..1_500).map(|n| (format!("f{n}"), json!("\u{1}".repeat(100)))).collect();
    append(&broker, 0, vec![value(serde_json::Value::Object(wide).to_string())]).await;
    let names: serde_json::Map<String, serde_json::Value> = [
        (String::from("x").repeat(100_000), json!(1)),
        (String::from("a.b[]"), json!({"": {"": 1}})),
    ]
    .into_iter()
    .collect();
    append(&broker, 0, vec![value(serde_json::Value::Object(names).to_string())]).await;
    append(&broker, 0, vec![value(deep(64)), value("18446744073709551616"), value("-0.0")]).await;
    let profile = profile(&broker, 10_000).await;
    assert_eq!(profile.records, unreadable.len() as u64 + 6);
    assert_eq!(profile.unreadable, unreadable.len() as u64 + 1);
    assert!(profile.fields.len() <= 1_000, "{}", profile.fields.len());
    assert!(profile.encoded_len() < 2 << 20, "{}", profile.encoded_len());
}

#[tokio::test]
async fn two_profiles_at_a_time_and_a_caller_that_goes_away_makes_room() {
    let broker = Broker::in_memory().unwrap();
    create(&broker, 1, None).await;
    append(&broker, 0, vec![value("1")]).await;
    let permits = Arc::clone(&broker.sampling().profiles);
    let held = permits.clone().try_acquire_many_owned(2).unwrap();
    let request = v1::SampleProductRequest { profile_records: 10, ..request(1) };
    let error = broker.sample_product(&Caller::default(), request.clone()).await.unwrap_err();
    assert_eq!(error.reason(), Reason::Overloaded);
    assert_eq!(error.metadata()["retry_after_ms"], "1000");
    sample(&broker, self::request(1)).await;
    drop(held);
    let caller = Caller::default();
    for _ in 0..20 {
        tokio::select! {
            biased;
            _ = broker.sample_product(&caller, request.clone()) => {}
            () = std::future::ready(()) => {}
        }
    }
    for attempt in 0.. {
        if permits.available_permits() == 2 {
            break;
        }
        assert!(attempt < 500, "abandoned profiles give their permits back");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    broker.close().await.unwrap();
    assert_eq!(
        broker.sample_product(&Caller::default(), request).await.unwrap_err().reason(),
        Reason::ShuttingDown
    );
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(|b| json!(b)),
        any::<i64>().prop_map(|n| json!(n)),
        any::<u64>().prop_map(|n| json!(n)),
        any::<f64>().prop_map(|n| json!(n)),
        ".{0,8}".prop_map(|text| json!(text)),
    ];
    leaf.prop_recursive(5, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|items| json!(items)),
            prop::collection::vec(("[ab.\\[\\]]{1,3}", inner), 0..6)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Occurrences and nulls of each path, counted the plain way.
fn count(value: &serde_json::Value, path: &str, counts: &mut BTreeMap<String, u64>) {
    use serde_json::Value;
    if !value.is_null() {
        *counts.entry(path.to_owned()).or_default() += 1;
    }
    match value {
        Value::Array(items) => {
            items.iter().for_each(|item| count(item, &format!("{path}[]"), counts))
        }
        Value::Object(members) => members.iter().for_each(|(name, member)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            count(member, &path, counts);
        }),
        _ => {}
    }
}

proptest! {
    #[test]
    fn any_json_is_counted_as_a_plain_walk_counts_it(values in prop::collection::vec(any_json(), 1..8)) {
        let mut tree = Tree::default();
        let mut expected = BTreeMap::new();
        for value in &values {
            let text = value.to_string();
            let read = Decoder::Json.read(text.as_bytes()).unwrap();
            tree.begin();
            read.tell(&mut tree);
            count(value, "", &mut expected);
        }
        let mut found: BTreeMap<String, u64> = BTreeMap::new();
        for field in tree.fields(&[]) {
            prop_assert!(field.nulls <= field.values);
            prop_assert!(field.distinct <= field.values - field.nulls);
            // Names with dots may give one path twice.
            *found.entry(field.path).or_default() += field.values - field.nulls;
        }
        for (path, count) in expected {
            if path.is_empty() && !found.contains_key("") {
                continue;
            }
            prop_assert_eq!(found.get(&path).copied().unwrap_or_default(), count, "{}", path);
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let avro = Schema::parse(&schema(SchemaFormat::Avro, AVRO)).unwrap();
        let proto = "syntax = \"proto3\"; message M { M m = 1; repeated int64 n = 2; map<string, M> k = 3; }";
        let proto = Schema::parse(&schema(SchemaFormat::Protobuf, proto)).unwrap();
        for decoder in [Decoder::new(&avro).unwrap(), Decoder::new(&proto).unwrap(), Decoder::Json] {
            if let Some(value) = decoder.read(&bytes) {
                let mut tree = Tree::default();
                tree.begin();
                value.tell(&mut tree);
                tree.fields(&[]);
            }
        }
    }
}
