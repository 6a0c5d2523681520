//! What becomes of records that do not conform: refused, told of, or quarantined.

use meshlog_broker::Config;
use meshlog_proto::v1::{self, Enforcement, SchemaFormat};
use meshlog_tests::{TestBroker, append, failure, product, read, values};
use prost::Message as _;
use tonic::Code;

const FLIGHT: &str = r#"{"type": "object", "required": ["carrier"],
    "properties": {"carrier": {"type": "string"}, "delay": {"type": "integer"}}}"#;
const GOOD: &str = r#"{"carrier":"UA"}"#;
const BAD: &str = r#"{"carrier":7}"#;
const AVRO: &str =
    r#"{"type": "record", "name": "F", "fields": [{"name": "carrier", "type": "string"}]}"#;
const PROTO: &str = "syntax = \"proto3\"; message F { string carrier = 1; }";

async fn stored(broker: &TestBroker, product: &str) -> Vec<String> {
    values(&broker.records().read(read(product)).await.unwrap().into_inner().batches)
}

async fn metrics(broker: &TestBroker, line: &str) -> bool {
    broker.broker().metrics_page().lines().any(|found| found == line)
}

/// What is wrong, by path, expected and found, of the first record that is refused.
async fn refusal(broker: &TestBroker, request: v1::AppendRequest) -> (String, String, String) {
    let refused = failure(&broker.records().append(request).await.unwrap_err());
    assert_eq!((refused.code, refused.reason.as_str()), (Code::InvalidArgument, "SCHEMA_REJECTED"));
    let of = |key: &str| refused.metadata[key].clone();
    assert_eq!(of("records"), "1", "the second record");
    (of("path"), of("expected"), of("found"))
}

#[tokio::test]
async fn avro_and_protobuf_are_enforced_as_json_schema_is() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.avro").schema(SchemaFormat::Avro, AVRO)).await;
    let good = append("ops.avro").value(vec![4, b'U', b'A']);
    let told = refusal(&broker, good.clone().value(vec![4, b'U', 0xff]).request()).await;
    let not_text = "bytes that are not UTF-8".to_owned();
    assert_eq!(told, ("/carrier".to_owned(), "string".to_owned(), not_text.clone()));
    let appended = broker.records().append(good).await.unwrap().into_inner();
    assert_eq!((appended.schema_version, appended.nonconforming_records), (1, 0));

    broker.create(product("ops.proto").schema(SchemaFormat::Protobuf, PROTO)).await;
    let good = append("ops.proto").value(vec![10, 2, b'U', b'A']);
    let told = refusal(&broker, good.clone().value(vec![10, 2, b'U', 0xff]).request()).await;
    assert_eq!(told, ("/carrier".to_owned(), "a string".to_owned(), not_text));
    let told = refusal(&broker, good.clone().value(vec![16, 1]).request()).await;
    assert_eq!(told.2, "the undeclared field 2");
    broker.records().append(good).await.unwrap();
    assert_eq!(stored(&broker, "ops.proto").await.len(), 1);

    let refused = broker.records().append(append("ops.avro").value("x").schema_version(2)).await;
    assert_eq!(failure(&refused.unwrap_err()).reason, "SCHEMA_VERSION_UNKNOWN");
}

#[tokio::test]
async fn off_takes_anything_and_an_opaque_product_has_nothing_to_enforce() {
    let broker = TestBroker::start().await;
    let off = product("ops.a").schema(SchemaFormat::Avro, AVRO).enforcement(Enforcement::Off);
    let off = broker.create(off).await;
    assert_eq!(off.effective_settings.unwrap().enforcement(), Enforcement::Off);
    let answer = broker.records().append(append("ops.a").value("anything")).await.unwrap();
    assert_eq!(answer.into_inner().nonconforming_records, 0);
    let mut catalog = broker.catalog();
    for (builder, field) in [
        (product("ops.b").enforcement(Enforcement::Enforce), "settings.enforcement"),
        (product("ops.b").enforcement(Enforcement::Warn), "settings.enforcement"),
        (product("ops.b").confluent(), "settings.framing"),
        (product("ops.b").quarantine(), "settings.on_fail"),
        (
            product("ops.b").json_schema(FLIGHT).enforcement(Enforcement::Warn).quarantine(),
            "settings.on_fail",
        ),
    ] {
        let refused = catalog.create_product(builder.request()).await.unwrap_err();
        assert_eq!(failure(&refused).metadata["field"], field);
    }
}

#[tokio::test]
async fn warn_stores_what_does_not_conform_and_says_so() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a").json_schema(FLIGHT).enforcement(Enforcement::Warn)).await;
    let request = append("ops.a").value(GOOD).value(BAD).value("[]");
    let appended = broker.records().append(request).await.unwrap().into_inner();
    assert_eq!((appended.nonconforming_records, appended.ranges[0].count), (2, 3));
    let first = &appended.nonconformities[0];
    assert_eq!((first.record, first.reason.as_str()), (1, "SCHEMA_REJECTED"));
    assert_eq!((first.path.as_str(), first.found.as_str()), ("/carrier", "7"));
    assert!(appended.quarantined.is_none());
    assert_eq!(stored(&broker, "ops.a").await, [GOOD, BAD, "[]"]);
    let line = "meshlog_nonconforming_records_total{outcome=\"appended\"} 2";
    assert!(metrics(&broker, line).await, "{}", broker.broker().metrics_page());
}

#[tokio::test]
async fn a_key_without_a_value_is_for_compacted_products_only() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a").json_schema(FLIGHT)).await;
    broker.create(product("ops.b").json_schema(FLIGHT).compact()).await;
    let tombstone = || v1::Record { key: Some(b"UA".as_slice().into()), ..v1::Record::default() };
    let refused = broker.records().append(append("ops.a").record(tombstone())).await.unwrap_err();
    let refused = failure(&refused);
    assert_eq!(refused.reason, "TOMBSTONE_NOT_ALLOWED");
    assert_eq!(refused.metadata["found"], "a key without a value");
    broker.records().append(append("ops.b").record(tombstone())).await.unwrap();
}

#[tokio::test]
async fn quarantined_records_are_beside_the_others_with_reason_and_origin() {
    let directory = tempfile::tempdir().unwrap();
    let broker = TestBroker::start_with(Config::at(directory.path())).await;
    let made = broker.create(product("ops.a").partitions(2).json_schema(FLIGHT).quarantine()).await;
    assert_eq!(made.effective_settings.unwrap().on_fail(), v1::OnFail::Quarantine);
    let header = v1::Header { name: "own".to_owned(), value: b"1".as_slice().into() };
    let bad = v1::Record {
        value: Some(BAD.as_bytes().to_vec().into()),
        headers: vec![header],
        ..v1::Record::default()
    };
    let request = append("ops.a").partition(1).producer(7, 0, 0);
    let request = request.value(GOOD).record(bad.clone()).value(GOOD).value("[]");
    let answer = broker.records().append(request.clone()).await.unwrap().into_inner();
    assert_eq!((answer.ranges.len(), answer.ranges[0].count), (1, 2));
    let told = answer.quarantined.clone().unwrap();
    assert_eq!((told.product.as_str(), told.records.as_slice()), ("ops.a$quarantine", &[1, 3][..]));
    assert_eq!(answer.nonconforming_records, 2);
    assert_eq!(stored(&broker, "ops.a").await, [GOOD, GOOD]);
    assert_eq!(stored(&broker, "ops.a$quarantine").await, [BAD, "[]"]);
    // A retry appends none of it again.
    let again = broker.records().append(request).await.unwrap().into_inner();
    assert!(again.duplicate);
    assert_eq!((again.ranges, again.quarantined), (answer.ranges, answer.quarantined));
    assert_eq!(stored(&broker, "ops.a$quarantine").await.len(), 2);
    let line = "meshlog_nonconforming_records_total{outcome=\"quarantined\"} 2";
    assert!(metrics(&broker, line).await, "{}", broker.broker().metrics_page());
    broker.broker().close().await.unwrap();
    drop(broker);

    let broker = TestBroker::start_with(Config::at(directory.path())).await;
    let list = v1::ListQuarantinedRequest { product: "ops.a".to_owned(), ..Default::default() };
    let listed = broker.records().list_quarantined(list.clone()).await.unwrap().into_inner();
    assert_eq!((listed.records.len(), listed.next_offset, listed.end_offset), (2, 2, 2));
    let first = &listed.records[0];
    let why = first.why.as_ref().unwrap();
    assert_eq!((why.record, why.path.as_str(), why.expected.as_str()), (1, "/carrier", "string"));
    assert_eq!((first.offset, first.partition, first.schema_version), (0, 1, 1));
    assert_eq!(first.producer, format!("{} 0 0", "07".repeat(16)));
    assert_eq!(first.record, Some(bad), "as it came");
    let page = v1::ListQuarantinedRequest { page_size: 1, ..list };
    let page = broker.records().list_quarantined(page).await.unwrap().into_inner();
    assert_eq!((page.records.len(), page.next_offset, page.end_offset), (1, 1, 2));
}

#[tokio::test]
async fn what_is_attached_is_as_its_product_and_is_not_counted_or_listed() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a").json_schema(FLIGHT).retention_count(9).quarantine()).await;
    let mut catalog = broker.catalog();
    let get = |name: &str| v1::GetProductRequest { name: name.to_owned() };
    let found = catalog.get_product(get("ops.a$quarantine")).await.unwrap().into_inner();
    let (found, name) = (found.product.unwrap(), "ops.a$quarantine");
    assert_eq!((found.name.as_str(), found.owner.as_str()), (name, "ops"));
    assert_eq!(found.settings.unwrap().retention_count, 9);
    let listed = catalog.list_products(v1::ListProductsRequest::default()).await.unwrap();
    let names: Vec<String> = listed.into_inner().products.into_iter().map(|p| p.name).collect();
    assert!(!names.contains(&name.to_owned()), "{names:?}");
    let asked = v1::SearchProductsRequest { query: "quarantine".to_owned(), ..Default::default() };
    let hits = catalog.search_products(asked).await.unwrap().into_inner();
    assert!(hits.hits.is_empty(), "{hits:?}");
    let refused = broker.records().append(append(name).value("x")).await.unwrap_err();
    assert_eq!(failure(&refused).reason, "PRODUCT_READ_ONLY");
    let update = v1::UpdateProductRequest {
        product: Some(v1::Product {
            name: name.to_owned(),
            description: "Mine.".to_owned(),
            ..v1::Product::default()
        }),
        ..v1::UpdateProductRequest::default()
    };
    let refused = catalog.update_product(update).await.unwrap_err();
    assert_eq!(failure(&refused).reason, "PRODUCT_READ_ONLY");

    // It goes where its product goes, and ends with it.
    broker.records().append(append("ops.a").value("[]")).await.unwrap();
    let to = v1::MoveProductRequest {
        name: "ops.a".to_owned(),
        new_name: "ops.b".to_owned(),
        ..v1::MoveProductRequest::default()
    };
    catalog.move_product(to).await.unwrap();
    assert_eq!(stored(&broker, "ops.b$quarantine").await, ["[]"]);
    assert_eq!(stored(&broker, name).await, ["[]"], "under the earlier name too");
    let delete = v1::DeleteProductRequest { name: "ops.b".to_owned(), ..Default::default() };
    catalog.delete_product(delete).await.unwrap();
    let gone = broker.records().read(read("ops.b$quarantine")).await.unwrap_err();
    assert_eq!(failure(&gone).reason, "PRODUCT_NOT_FOUND");
}

#[tokio::test]
async fn a_request_that_compares_an_offset_is_refused_whole() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a").json_schema(FLIGHT).quarantine()).await;
    let request = append("ops.a").partition(0).expect(0).value(GOOD).value(BAD);
    let refused = broker.records().append(request).await.unwrap_err();
    assert_eq!(failure(&refused).reason, "SCHEMA_REJECTED");
    assert!(stored(&broker, "ops.a").await.is_empty());
    assert!(stored(&broker, "ops.a$quarantine").await.is_empty());
}

#[tokio::test]
async fn a_record_of_the_largest_size_with_all_headers_can_be_quarantined_and_read() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a").json_schema(FLIGHT).quarantine()).await;
    let headers = vec![v1::Header { name: "h".to_owned(), ..v1::Header::default() }; 64];
    let mut record = v1::Record { headers, ..v1::Record::default() };
    record.value = Some(vec![b'x'; (1 << 20) - 64 * 5 - 4].into());
    assert_eq!(record.encoded_len(), 1 << 20);
    let answer = broker.records().append(append("ops.a").record(record.clone())).await.unwrap();
    assert_eq!(answer.into_inner().quarantined.unwrap().records, [0]);
    let list = v1::ListQuarantinedRequest { product: "ops.a".to_owned(), ..Default::default() };
    let listed = broker.records().list_quarantined(list).await.unwrap().into_inner();
    assert_eq!(listed.records[0].record, Some(record));
}

fn redrive(offset: u64) -> v1::RedriveQuarantinedRequest {
    v1::RedriveQuarantinedRequest {
        product: "ops.a".to_owned(),
        offset,
        ..v1::RedriveQuarantinedRequest::default()
    }
}

#[tokio::test]
async fn a_record_is_redriven_once_however_often_it_is_asked_for_and_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let broker = TestBroker::start_with(Config::at(directory.path())).await;
    broker.create(product("ops.a").json_schema(FLIGHT).quarantine()).await;
    broker.records().append(append("ops.a").value(BAD).value("[]")).await.unwrap();
    let still = broker.records().redrive_quarantined(redrive(0)).await.unwrap_err();
    assert_eq!(failure(&still).reason, "SCHEMA_REJECTED", "it was not repaired");
    let repaired = v1::RedriveQuarantinedRequest {
        value: Some(GOOD.as_bytes().to_vec().into()),
        ..redrive(0)
    };
    // Many at once: one of them appends it.
    let calls = (0..8).map(|_| {
        let (mut records, request) = (broker.records(), repaired.clone());
        tokio::spawn(async move { records.redrive_quarantined(request).await })
    });
    let mut appended = 0;
    for call in calls.collect::<Vec<_>>() {
        let answer = call.await.unwrap().unwrap().into_inner();
        appended += u32::from(!answer.already_redriven);
    }
    assert_eq!(appended, 1);
    broker.broker().close().await.unwrap();
    drop(broker);

    let broker = TestBroker::start_with(Config::at(directory.path())).await;
    let again = broker.records().redrive_quarantined(repaired).await.unwrap().into_inner();
    assert!(again.already_redriven);
    assert_eq!(stored(&broker, "ops.a").await, [GOOD]);
    let list = v1::ListQuarantinedRequest { product: "ops.a".to_owned(), ..Default::default() };
    let listed = broker.records().list_quarantined(list).await.unwrap().into_inner();
    assert_eq!(listed.records.iter().map(|r| r.redriven).collect::<Vec<_>>(), [true, false]);
    let missing = broker.records().redrive_quarantined(redrive(2)).await.unwrap_err();
    assert_eq!(failure(&missing).reason, "OFFSET_OUT_OF_RANGE");
}

#[tokio::test]
async fn values_of_confluent_name_their_version_and_are_stored_as_they_came() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a").schema(SchemaFormat::Avro, AVRO).confluent()).await;
    let more = r#"{"type": "record", "name": "F", "fields": [{"name": "carrier", "type": "string"},
        {"name": "delay", "type": "int", "default": 0}]}"#;
    let second = v1::AddSchemaVersionRequest {
        product: "ops.a".to_owned(),
        value_schema: Some(v1::SchemaSource {
            format: SchemaFormat::Avro.into(),
            text: more.to_owned(),
            ..v1::SchemaSource::default()
        }),
        ..v1::AddSchemaVersionRequest::default()
    };
    broker.schemas().add_schema_version(second).await.unwrap();
    let list = v1::ListSchemaVersionsRequest { product: "ops.a".to_owned() };
    let versions = broker.schemas().list_schema_versions(list).await.unwrap().into_inner();
    let ids: Vec<u32> = versions.schema_versions.iter().map(|v| v.schema_id).collect();
    let framed = |id: u32, rest: &[u8]| {
        let id = [24, 16, 8, 0].map(|shift| (id >> shift) as u8);
        [&[0], &id[..], rest].concat()
    };
    let (old, new) = (framed(ids[0], &[2, b'A']), framed(ids[1], &[2, b'A', 6]));

    let answer = broker.records().append(append("ops.a").value(old.clone())).await.unwrap();
    assert_eq!(answer.into_inner().schema_version, 1);
    let answer = broker.records().append(append("ops.a").value(new.clone())).await.unwrap();
    assert_eq!(answer.into_inner().schema_version, 2);
    let found = broker.records().read(read("ops.a")).await.unwrap().into_inner();
    let records: Vec<_> = found.batches.into_iter().filter_map(|b| b.batch).collect();
    assert_eq!(records[0].records[0].value.as_deref(), Some(&old[..]), "with the id");

    let refused = |request: v1::AppendRequest| {
        let mut records = broker.records();
        async move { failure(&records.append(request).await.unwrap_err()).reason }
    };
    let unknown = append("ops.a").value(framed(9999, &[2, b'A'])).request();
    assert_eq!(refused(unknown).await, "SCHEMA_VERSION_UNKNOWN");
    let both = append("ops.a").value(old.clone()).value(new).request();
    assert_eq!(refused(both).await, "SCHEMA_VERSION_UNKNOWN", "one version per request");
    let other = append("ops.a").value(old).schema_version(2).request();
    assert_eq!(refused(other).await, "SCHEMA_VERSION_UNKNOWN");
    let bare = append("ops.a").value(vec![2, b'A']).request();
    assert_eq!(refused(bare).await, "SCHEMA_REJECTED");
    let wrong = append("ops.a").value(framed(ids[0], &[2, 0xff])).request();
    assert_eq!(refused(wrong).await, "SCHEMA_REJECTED");
}
