use bytes::Bytes;
use meshlog_proto::v1;
use meshlog_proto::v1::sample_product_request::Which;
use meshlog_tests::{TestBroker, append, failure, product};
use tonic::Code;

const SCHEMA: &str = r#"{"type": "object", "properties": {
    "carrier": {"type": "string"}, "delay": {"type": ["integer", "null"]}}}"#;

fn request() -> v1::SampleProductRequest {
    v1::SampleProductRequest { product: "ops.flights".to_owned(), ..Default::default() }
}

#[tokio::test]
async fn a_sample_has_the_last_records_and_a_profile_of_their_fields() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.flights").partitions(2).json_schema(SCHEMA)).await;
    for n in 0..40_u32 {
        let carrier = ["UA", "DL"][n as usize % 2];
        let delay = if n % 4 == 0 { "null".to_owned() } else { n.to_string() };
        let value = format!(r#"{{"carrier": "{carrier}", "delay": {delay}}}"#);
        let request = append("ops.flights").partition(n % 2).keyed(carrier, value);
        broker.records().append(request).await.unwrap();
    }
    let asked = v1::SampleProductRequest { max_records: 3, profile_records: 100, ..request() };
    let sample = broker.catalog().sample_product(asked).await.unwrap().into_inner();
    let places: Vec<_> = sample.records.iter().map(|at| (at.partition, at.offset)).collect();
    assert_eq!(places, [(1, 18), (0, 19), (1, 19)]);
    assert!(sample.records.iter().all(|at| at.schema_version == 1 && at.append_time.is_some()));
    let profile = sample.profile.unwrap();
    assert_eq!((profile.records, profile.fields.len()), (40, 2));
    let delay = &profile.fields[1];
    assert_eq!((delay.path.as_str(), delay.values, delay.nulls), ("delay", 40, 10));
    assert_eq!((delay.min.as_deref(), delay.max.as_deref()), (Some("1"), Some("39")));
    assert_eq!(profile.fields[0].examples, ["\"DL\"", "\"UA\""]);

    let which = Some(Which::Key(Bytes::from_static(b"UA")));
    let of_key = v1::SampleProductRequest { which, max_records: 2, ..request() };
    let sample = broker.catalog().sample_product(of_key).await.unwrap().into_inner();
    assert_eq!(sample.records.iter().map(|at| at.offset).collect::<Vec<_>>(), [18, 19]);
    assert!(sample.profile.is_none() && !sample.truncated);
}

#[tokio::test]
async fn more_than_a_sample_takes_is_refused_by_field() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.flights")).await;
    let asked = v1::SampleProductRequest { max_records: 5_000, ..request() };
    let refused = failure(&broker.catalog().sample_product(asked).await.unwrap_err());
    assert_eq!(
        (refused.code, refused.metadata["field"].as_str()),
        (Code::InvalidArgument, "max_records")
    );
}
