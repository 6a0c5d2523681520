use meshlog_tests::{TestBroker, append, failure, product, read};
use tonic::Code;

const FLIGHT: &str = r#"{"type": "object", "required": ["carrier"],
    "properties": {"carrier": {"type": "string"}, "delay": {"type": "integer"}}}"#;

#[tokio::test]
async fn a_bad_record_refuses_its_batch_and_names_itself() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.flights").json_schema(FLIGHT)).await;
    let mut records = broker.records();
    let good = append("ops.flights").value(r#"{"carrier": "UA", "delay": 3}"#);
    records.append(good.clone()).await.unwrap();
    let bad = good.value("[]").value(r#"{"carrier": "AA"}"#).value("12");
    let refused = failure(&records.append(bad).await.unwrap_err());
    assert_eq!((refused.code, refused.reason.as_str()), (Code::InvalidArgument, "SCHEMA_REJECTED"));
    assert_eq!(refused.metadata["records"], "1,3");
    assert_eq!(refused.metadata["product"], "ops.flights");
    assert_eq!(refused.violations.len(), 2);
    assert_eq!(refused.violations[0].0, "batch.records[1]");
    assert!(refused.message.starts_with("record 1: "), "{}", refused.message);
    assert!(refused.message.contains("expected "), "{}", refused.message);
    assert!(refused.message.contains("found "), "{}", refused.message);
    let found = records.read(read("ops.flights")).await.unwrap().into_inner();
    assert_eq!(found.partitions[0].durable_end, 1, "nothing of the bad batch is there");
}

#[tokio::test]
async fn an_unknown_schema_version_is_refused() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.flights").json_schema(FLIGHT)).await;
    let request = append("ops.flights").value(r#"{"carrier": "UA"}"#);
    let mut records = broker.records();
    let appended = records.append(request.clone().schema_version(1)).await.unwrap();
    assert_eq!(appended.into_inner().schema_version, 1);
    let refused = records.append(request.schema_version(9)).await.unwrap_err();
    assert_eq!(failure(&refused).reason, "SCHEMA_VERSION_UNKNOWN");
}
