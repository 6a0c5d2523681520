//! Rules in CEL on append: refused, told of, or quarantined; counted by rule and version.

use meshlog_proto::v1::{self, Enforcement, SchemaFormat};
use meshlog_tests::{TestBroker, append, failure, product, read, values};
use tonic::Code;

const FLIGHT: &str = r#"{"type": "object", "required": ["carrier"],
    "properties": {"carrier": {"type": "string"}, "delay": {"type": "integer"}}}"#;
const GOOD: &str = r#"{"carrier":"UA","delay":3}"#;
const LATE: &str = r#"{"carrier":"UA","delay":2000}"#;
const AVRO: &str = r#"{"type": "record", "name": "F", "fields": [
    {"name": "carrier", "type": "string"}, {"name": "delay", "type": ["null", "int"]}]}"#;
const PROTO: &str = "syntax = \"proto3\"; message F { string carrier = 1; int32 delay = 2; }";

fn rule(name: &str, expression: &str) -> v1::Rule {
    v1::Rule {
        name: name.to_owned(),
        expression: expression.to_owned(),
        message: "A delay is less than a day".to_owned(),
        ..v1::Rule::default()
    }
}

async fn set(
    broker: &TestBroker,
    name: &str,
    rules: Vec<v1::Rule>,
) -> Result<v1::Product, tonic::Status> {
    let product = v1::Product { name: name.to_owned(), rules, ..v1::Product::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["rules".to_owned()] });
    let request =
        v1::UpdateProductRequest { product: Some(product), update_mask, validate_only: false };
    Ok(broker.catalog().update_product(request).await?.into_inner().product.unwrap())
}

async fn counts(broker: &TestBroker, name: &str) -> Vec<(u64, u64, u64)> {
    let request = v1::ListRulesRequest { product: name.to_owned() };
    let rules = broker.catalog().list_rules(request).await.unwrap().into_inner().rules;
    rules.iter().map(|rule| (rule.checked, rule.failed, rule.over_budget)).collect()
}

async fn stored(broker: &TestBroker, product: &str) -> Vec<String> {
    values(&broker.records().read(read(product)).await.unwrap().into_inner().batches)
}

#[tokio::test]
async fn a_record_that_does_not_meet_a_rule_is_refused_in_every_format() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.json").json_schema(FLIGHT)).await;
    broker.create(product("ops.avro").schema(SchemaFormat::Avro, AVRO)).await;
    broker.create(product("ops.proto").schema(SchemaFormat::Protobuf, PROTO)).await;
    let avro = |delay: &[u8]| [&[4, b'U', b'A', 2], delay].concat();
    let proto = |delay: &[u8]| [&[10, 2, b'U', b'A', 16], delay].concat();
    for (name, good, late) in [
        ("ops.json", GOOD.as_bytes().to_vec(), LATE.as_bytes().to_vec()),
        ("ops.avro", avro(&[6]), avro(&[0xa0, 0x1f])),
        ("ops.proto", proto(&[3]), proto(&[0xd0, 0x0f])),
    ] {
        set(&broker, name, vec![rule("delay", "value.delay < 1440")]).await.unwrap();
        let request = append(name).value(good.clone()).value(late);
        let refused = failure(&broker.records().append(request).await.unwrap_err());
        assert_eq!((refused.code, refused.reason.as_str()), (Code::InvalidArgument, "RULE_FAILED"));
        let of = |key: &str| refused.metadata[key].as_str();
        assert_eq!((of("records"), of("path")), ("1", "rules[delay]"));
        assert_eq!(of("expected"), "A delay is less than a day");
        broker.records().append(append(name).value(good)).await.unwrap();
        assert_eq!(stored(&broker, name).await.len(), 1);
        assert_eq!(counts(&broker, name).await, [(3, 1, 0)]);
    }
}

#[tokio::test]
async fn warn_tells_and_quarantine_puts_aside() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a").json_schema(FLIGHT).enforcement(Enforcement::Warn)).await;
    broker.create(product("ops.b").json_schema(FLIGHT).quarantine()).await;
    for name in ["ops.a", "ops.b"] {
        set(&broker, name, vec![rule("delay", "value.delay < 1440")]).await.unwrap();
    }
    let request = append("ops.a").value(GOOD).value(LATE);
    let answer = broker.records().append(request).await.unwrap().into_inner();
    assert_eq!((answer.nonconforming_records, answer.ranges[0].count), (1, 2));
    let told = &answer.nonconformities[0];
    assert_eq!((told.record, told.reason.as_str()), (1, "RULE_FAILED"));
    assert_eq!(told.path, "rules[delay]");
    let request = append("ops.b").value(GOOD).value(LATE);
    let answer = broker.records().append(request).await.unwrap().into_inner();
    assert_eq!(answer.quarantined.unwrap().records, [1]);
    assert_eq!(stored(&broker, "ops.b").await, [GOOD]);
    assert_eq!(stored(&broker, "ops.b$quarantine").await, [LATE]);
}

#[tokio::test]
async fn versions_rise_with_each_change_and_counts_begin_anew_with_them() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a").json_schema(FLIGHT)).await;
    let versions = |product: &v1::Product| -> Vec<u32> {
        product.rules.iter().map(|rule| rule.version).collect()
    };
    let delay = || rule("delay", "value.delay < 1440");
    let made = set(&broker, "ops.a", vec![delay(), rule("carrier", "value.carrier != ''")]).await;
    assert_eq!(versions(&made.unwrap()), [1, 2]);
    broker.records().append(append("ops.a").value(GOOD)).await.unwrap();
    let other = rule("carrier", "value.carrier != 'AA'");
    assert_eq!(versions(&set(&broker, "ops.a", vec![other, delay()]).await.unwrap()), [3, 2]);
    assert_eq!(counts(&broker, "ops.a").await, [(0, 0, 0), (1, 0, 0)]);
    set(&broker, "ops.a", Vec::new()).await.unwrap();
    assert_eq!(versions(&set(&broker, "ops.a", vec![delay()]).await.unwrap()), [4]);
}

#[tokio::test]
async fn a_rule_over_its_budget_refuses_with_a_reason_of_its_own() {
    let broker = TestBroker::start().await;
    let schema = r#"{"type": "object", "properties": {"list": {"type": "array",
        "items": {"type": "integer"}}}}"#;
    broker.create(product("ops.a").json_schema(schema)).await;
    let square = "value.list.all(a, value.list.all(b, a + b >= 0))";
    set(&broker, "ops.a", vec![rule("square", square)]).await.unwrap();
    let list = |length: usize| format!("{{\"list\":{:?}}}", vec![1; length]);
    broker.records().append(append("ops.a").value(list(10))).await.unwrap();
    let request = append("ops.a").value(list(1_000));
    let refused = failure(&broker.records().append(request).await.unwrap_err());
    assert_eq!(refused.reason, "RULE_OVER_BUDGET");
    assert_eq!(counts(&broker, "ops.a").await, [(2, 1, 1)]);
}

#[tokio::test]
async fn a_rule_that_cannot_be_evaluated_is_refused_and_an_expression_can_be_tried() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a").json_schema(FLIGHT)).await;
    broker.create(product("ops.b")).await;
    let refused = |name: &'static str, expression: &'static str| {
        let broker = &broker;
        async move {
            let refused = set(broker, name, vec![rule("delay", expression)]).await.unwrap_err();
            let refused = failure(&refused);
            assert_eq!(refused.reason, "RULE_INVALID");
            refused.message
        }
    };
    let unknown = refused("ops.a", "value.delays < 1440").await;
    assert!(unknown.contains("no field `delays`; it has carrier, delay"), "{unknown}");
    refused("ops.a", "value.delay <").await;
    refused("ops.b", "value.delay < 1").await;
    broker.records().append(append("ops.a").value(GOOD).value(LATE)).await.unwrap();
    let request = v1::TestRulesRequest {
        product: "ops.a".to_owned(),
        expression: "value.delay < 1440".to_owned(),
        ..v1::TestRulesRequest::default()
    };
    let tested = broker.catalog().test_rules(request).await.unwrap().into_inner();
    assert_eq!((tested.records, tested.rules[0].failed), (2, 1));
    assert_eq!(tested.rules[0].failures[0].offset, 1);
    assert!(tested.rules[0].most_steps < 10);
}
