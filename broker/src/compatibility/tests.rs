use bytes::Bytes;
use meshlog_proto::v1::{Compatibility, SchemaFormat, SchemaSource};
use meshlog_proto::{server_v1, v1};
use prost::Message as _;

use crate::{Broker, Caller, Error, Reason};

fn json(text: &str) -> SchemaSource {
    source(SchemaFormat::JsonSchema, text)
}

fn source(format: SchemaFormat, text: &str) -> SchemaSource {
    SchemaSource { format: format.into(), text: text.to_owned(), ..Default::default() }
}

/// An active product of this schema.
async fn active(broker: &Broker, name: &str, schema: SchemaSource, mode: Compatibility) {
    // As it may have been when the records were appended.
    let enforcement = match schema.format() {
        SchemaFormat::Avro => v1::Enforcement::Off.into(),
        _ => 0,
    };
    let compatibility = mode.into();
    let settings = v1::ProductSettings { compatibility, enforcement, ..Default::default() };
    let product = v1::Product {
        name: name.to_owned(),
        owner: "ops".to_owned(),
        description: "Tried.".to_owned(),
        classification: v1::Classification::Internal.into(),
        settings: Some(settings),
        ..Default::default()
    };
    let request = v1::CreateProductRequest {
        product: Some(product),
        value_schema: Some(schema),
        new_domain: Some(v1::Domain { owner: "ops".to_owned(), ..Default::default() }),
        new_team: Some(v1::Team {
            name: "ops".to_owned(),
            contacts: vec!["ops@nyc.example".to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let catalogue = broker.catalogue();
    catalogue.create_product(&Caller::default(), request).await.unwrap();
    let request = v1::ActivateProductRequest { name: name.to_owned(), ..Default::default() };
    catalogue.activate_product(&Caller::default(), request).await.unwrap();
}

async fn append(
    broker: &Broker,
    product: &str,
    version: u32,
    values: &[&[u8]],
) -> Result<(), Error> {
    let records = values.iter().map(|value| v1::Record {
        value: Some(Bytes::copy_from_slice(value)),
        ..Default::default()
    });
    let batch = v1::RecordBatch { records: records.collect() };
    let request = server_v1::AppendRequest {
        product: product.to_owned(),
        schema_version: version,
        batch: vec![Bytes::from(batch.encode_to_vec())],
        ..Default::default()
    };
    broker.append(&Caller::default(), request).await.map(drop)
}

async fn add(broker: &Broker, product: &str, schema: SchemaSource) -> Result<u32, Error> {
    let request = v1::AddSchemaVersionRequest {
        product: product.to_owned(),
        value_schema: Some(schema),
        ..Default::default()
    };
    let answer = broker.catalogue().add_schema_version(&Caller::default(), request).await?;
    Ok(answer.schema_version.unwrap().version)
}

async fn check(broker: &Broker, request: v1::CheckCompatibilityRequest) -> v1::CompatibilityResult {
    let mut check = broker.check_compatibility(&Caller::default(), request).await.unwrap();
    let mut result = None;
    while let Some(message) = check.next().await {
        assert!(result.is_none(), "the result is the last message");
        result = message.unwrap().result;
    }
    result.expect("a result")
}

fn against_records(product: &str, schema: SchemaSource) -> v1::CheckCompatibilityRequest {
    v1::CheckCompatibilityRequest {
        product: product.to_owned(),
        value_schema: Some(schema),
        retained_records: true,
        ..Default::default()
    }
}

#[tokio::test]
async fn a_schema_is_tried_on_every_record_that_is_left() {
    let broker = Broker::in_memory().unwrap();
    let old = json(r#"{"type": "object", "properties": {"n": {"type": "integer"}}}"#);
    active(&broker, "ops.a", old, Compatibility::Retained).await;
    let values: Vec<Vec<u8>> = (0..1_000).map(|n| format!(r#"{{"n":{n}}}"#).into_bytes()).collect();
    let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
    append(&broker, "ops.a", 0, &values).await.unwrap();
    let new =
        json(r#"{"type": "object", "properties": {"n": {"type": "integer", "maximum": 996}}}"#);
    let result = check(&broker, against_records("ops.a", new)).await;
    assert!(!result.compatible);
    let run = result.dry_run.unwrap();
    assert_eq!((run.records, run.failed, run.tombstones), (1_000, 3, 0));
    assert_eq!(run.failures[0].offset, 997);
    assert_eq!((run.failures[0].path.as_str(), run.failures[0].found.as_str()), ("/n", "997"));
    assert_eq!(run.failures[0].expected, "at most 996");
    assert_eq!(result.comparisons[0].counterexample, r#"{"n":997}"#);
    assert_eq!(result.succeed_command, "meshlog product succeed ops.a --schema FILE --reason TEXT");
    let wider = json(r#"{"type": "object", "properties": {"n": {"type": "number"}}}"#);
    let result = check(&broker, against_records("ops.a", wider)).await;
    assert!(result.compatible);
    assert_eq!(result.dry_run.unwrap().failed, 0);
}

/// Removing a field and adding it again with another type keeps the promise to the last version only.
/// The log would be read from the start with it: while records of the first version are there, it is
/// refused; once they are gone, it is accepted, and the first version takes no more appends.
#[tokio::test]
async fn what_is_left_in_the_log_decides() {
    let broker = Broker::in_memory().unwrap();
    let number = json(r#"{"type": "object", "properties": {"x": {"type": "integer"}}}"#);
    let none = json(r#"{"type": "object", "properties": {"y": {"type": "integer"}}}"#);
    let text = json(
        r#"{"type": "object", "properties": {"x": {"type": "string"}, "y": {"type": "integer"}}}"#,
    );
    for (name, mode) in [("ops.a", Compatibility::Retained), ("ops.b", Compatibility::Backward)] {
        active(&broker, name, number.clone(), mode).await;
        append(&broker, name, 0, &[br#"{"x":1}"#, br#"{"x":2}"#]).await.unwrap();
        assert_eq!(add(&broker, name, none.clone()).await.unwrap(), 2);
        append(&broker, name, 0, &[br#"{"y":3}"#]).await.unwrap();
    }
    assert_eq!(
        add(&broker, "ops.b", text.clone()).await.unwrap(),
        3,
        "BACKWARD looks at version 2 only"
    );
    let error = add(&broker, "ops.a", text.clone()).await.unwrap_err();
    assert_eq!(error.reason(), Reason::SchemaIncompatible);
    assert_eq!(error.metadata()["schema_version"], "1");
    assert!(error.to_string().contains("records of it are in the log"), "{error}");

    let trim = v1::TrimProductRequest {
        product: "ops.a".to_owned(),
        which: Some(v1::trim_product_request::Which::BeforeOffsets(v1::Positions {
            positions: vec![v1::Position { partition: 0, offset: 2 }],
        })),
        ..Default::default()
    };
    broker.trim_product(&Caller::default(), trim).await.unwrap();
    let request = v1::CheckCompatibilityRequest {
        product: "ops.a".to_owned(),
        value_schema: Some(text.clone()),
        ..Default::default()
    };
    let result = check(&broker, request).await;
    assert!(result.compatible, "{result:?}");
    assert!(result.remarks[0].contains("version 1 takes no more appends"), "{:?}", result.remarks);
    assert_eq!(add(&broker, "ops.a", text).await.unwrap(), 3);
    let error = append(&broker, "ops.a", 1, &[br#"{"x":1}"#]).await.unwrap_err();
    assert_eq!(error.reason(), Reason::SchemaVersionClosed);
    append(&broker, "ops.a", 2, &[br#"{"y":1}"#]).await.unwrap();
}

#[tokio::test]
async fn modes_decide_what_may_follow() {
    let broker = Broker::in_memory().unwrap();
    let field = |more: &str| {
        let text = format!(
            r#"{{"type":"record","name":"R","fields":[{{"name":"a","type":"int"}}{more}]}}"#
        );
        source(SchemaFormat::Avro, &text)
    };
    let plain = field(r#",{"name":"b","type":"int"}"#);
    let with_default = field(r#",{"name":"b","type":"int","default":0}"#);
    for (name, mode, refuses_plain, refuses_default) in [
        ("ops.back", Compatibility::Backward, true, false),
        ("ops.fore", Compatibility::Forward, false, false),
        ("ops.full", Compatibility::Full, true, false),
        ("ops.none", Compatibility::None, false, false),
        ("ops.kept", Compatibility::Retained, true, false),
    ] {
        active(&broker, name, field(""), mode).await;
        let refused = |outcome: Result<u32, Error>| match outcome {
            Ok(_) => false,
            Err(error) => {
                assert_eq!(error.reason(), Reason::SchemaIncompatible, "{name}");
                true
            }
        };
        assert_eq!(refused(add(&broker, name, plain.clone()).await), refuses_plain, "{name}");
        assert_eq!(
            refused(add(&broker, name, with_default.clone()).await),
            refuses_default,
            "{name}"
        );
    }
}

#[tokio::test]
async fn every_difference_stands_in_the_answer_and_in_the_error() {
    let broker = Broker::in_memory().unwrap();
    let old = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"long"},{"name":"e","type":{"type":"enum","name":"E","symbols":["X","Y"]}}]}"#;
    let new = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"e","type":{"type":"enum","name":"E","symbols":["X"]}},{"name":"n","type":"string"}]}"#;
    active(&broker, "ops.a", source(SchemaFormat::Avro, old), Compatibility::Retained).await;
    let error = add(&broker, "ops.a", source(SchemaFormat::Avro, new)).await.unwrap_err();
    let fields: Vec<&str> = error.violations().iter().map(|one| one.field.as_str()).collect();
    assert_eq!(fields, ["value_schema a", "value_schema e", "value_schema n"]);
    assert!(error.violations()[2].description.contains("AVRO_READER_FIELD_MISSING_DEFAULT"));
    assert_eq!(
        error.metadata()["command"],
        "meshlog product succeed ops.a --schema FILE --reason TEXT"
    );
    let versions = v1::CheckCompatibilityRequest {
        product: "ops.a".to_owned(),
        value_schema: Some(source(SchemaFormat::Avro, new)),
        versions: vec![7],
        ..Default::default()
    };
    let unknown = broker.check_compatibility(&Caller::default(), versions).await.unwrap_err();
    assert_eq!(unknown.reason(), Reason::SchemaVersionUnknown);
}

/// Values were not checked on write: what is in the log may not even be of its own version.
#[tokio::test]
async fn avro_records_are_tried_byte_by_byte() {
    let broker = Broker::in_memory().unwrap();
    let old = r#"{"type":"record","name":"R","fields":[{"name":"e","type":{"type":"enum","name":"E","symbols":["X","Y"]}}]}"#;
    let new = r#"{"type":"record","name":"R","fields":[{"name":"e","type":{"type":"enum","name":"E","symbols":["X"]}}]}"#;
    active(&broker, "ops.a", source(SchemaFormat::Avro, old), Compatibility::Retained).await;
    append(&broker, "ops.a", 0, &[&[0], &[2], &[0], &[9, 9]]).await.unwrap();
    let result = check(&broker, against_records("ops.a", source(SchemaFormat::Avro, new))).await;
    let run = result.dry_run.unwrap();
    assert_eq!((run.records, run.failed), (4, 2));
    let first = &run.failures[0];
    assert_eq!((first.offset, first.path.as_str(), first.found.as_str()), (1, "e", "Y"));
}

#[tokio::test]
async fn a_check_ends_when_its_caller_may_not_read_any_more() {
    let broker = Broker::in_memory().unwrap();
    let schema = r#"{"type": "object"}"#;
    active(&broker, "ops.a", json(schema), Compatibility::None).await;
    for _ in 0..3 {
        append(&broker, "ops.a", 1, &[b"{}"]).await.unwrap();
    }
    let key = v1::ApiKey { admin: true, ..Default::default() };
    let request = v1::CreateKeyRequest { key: Some(key), validate_only: false };
    let made = broker.catalogue().create_key(&Caller::default(), request).await.unwrap();
    let authorization = format!("Bearer {}", made.secret);
    let credentials = crate::identity::Credentials {
        authorization: Some(authorization.as_bytes()),
        ..Default::default()
    };
    let caller = broker.authenticate(credentials).await.unwrap();
    let request = v1::CheckCompatibilityRequest {
        product: "ops.a".to_owned(),
        value_schema: Some(json(schema)),
        retained_records: true,
        ..Default::default()
    };
    let mut goes_on = broker.check_compatibility(&caller, request.clone()).await.unwrap();
    assert!(goes_on.next().await.unwrap().unwrap().result.unwrap().compatible);
    let mut ends = broker.check_compatibility(&caller, request).await.unwrap();
    let revoke = v1::RevokeKeyRequest { id: made.key.unwrap().id };
    broker.catalogue().revoke_key(&Caller::default(), revoke).await.unwrap();
    let refused = ends.next().await.unwrap().unwrap_err();
    assert_eq!(refused.reason(), Reason::KeyRevoked);
    assert!(ends.next().await.is_none());
}
