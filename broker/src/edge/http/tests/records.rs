use serde_json::{Value, json};

use super::Port;
use crate::Caller;
use crate::edge::http::append::producer_id;

const RECORDS: &str = "/v1/products/sandbox.a/records";
const POST: &str = "POST /v1/products/sandbox.a/records";
const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

fn values(read: &Value) -> Vec<Value> {
    read["records"].as_array().unwrap().iter().map(|record| record["value"].clone()).collect()
}

#[tokio::test]
async fn records_are_appended_in_every_form_and_read_back_as_they_were() {
    let port = Port::with_product("sandbox.a", 1).await;
    let envelopes = json!({"records": [
        {"key": "N1", "value": {"delay": 2}, "headers": [{"name": "origin", "value": "tower"}],
         "event_time": "2026-11-20T12:00:00.5Z"},
        {"key": "N2", "value": null},
        {"value": "/wA=", "value_encoding": "base64"},
    ]});
    let appended = port.send(POST, envelopes).await.ok();
    assert_eq!(appended["ranges"][0]["count"], 3);
    assert_eq!(appended["durability"], "DURABILITY_MEMORY");
    let json_value = [("content-type", "application/json")];
    port.call(&format!("{POST}?format=value&key=N3"), &json_value, " {\"delay\": 1.50}\n")
        .await
        .ok();
    port.call(POST, &[NDJSON], "{\"a\":1}\n\n[2]\n").await.ok();
    port.call(POST, &[("content-type", "text/plain")], "text").await.ok();

    let read = port.get(RECORDS).await;
    assert_eq!(read.header("meshlog-next"), "0:7");
    let text = String::from_utf8(read.body.to_vec()).unwrap();
    assert!(text.contains(r#""value":{"delay": 1.50}"#), "numbers stay as they are: {text}");
    let read = read.ok();
    assert_eq!(read["next"], "0:7");
    assert_eq!(read["partitions"][0]["durable_end"], "7");
    let records = read["records"].as_array().unwrap();
    assert_eq!(records[0]["key"], "N1");
    assert_eq!(records[0]["event_time"], "2026-11-20T12:00:00.500Z");
    assert_eq!(records[0]["headers"], json!([{"name": "origin", "value": "tower"}]));
    assert_eq!(records[1]["value"], Value::Null);
    assert_eq!(records[2]["value_encoding"], "base64");
    assert_eq!(records[3]["key"], "N3");
    assert_eq!((&records[4]["value"], &records[5]["value"]), (&json!({"a": 1}), &json!([2])));
    assert_eq!(
        (&records[6]["value"], &records[6]["value_encoding"]),
        (&json!("text"), &json!("text"))
    );
}

#[tokio::test]
async fn lines_that_were_read_can_be_appended_elsewhere() {
    let port = Port::with_product("sandbox.a", 1).await;
    port.create("sandbox.b", 1).await;
    port.call(POST, &[NDJSON], "{\"a\":1}\n\"b\"\n").await.ok();
    let lines =
        port.call(&format!("GET {RECORDS}"), &[("accept", "application/x-ndjson")], "").await;
    assert_eq!(lines.header("content-type"), "application/x-ndjson");
    let copy = "POST /v1/products/sandbox.b/records?format=envelope";
    port.call(copy, &[NDJSON], lines.body).await.ok();
    let copied = port.get("/v1/products/sandbox.b/records").await.ok();
    assert_eq!(values(&copied), [json!({"a": 1}), json!("b")]);
}

#[tokio::test]
async fn a_read_goes_on_where_the_last_one_stopped_in_every_partition() {
    let port = Port::with_product("sandbox.a", 3).await;
    let records: Vec<Value> =
        (0..50).map(|n| json!({"key": format!("k{n}"), "value": n})).collect();
    port.send(POST, json!({"records": records})).await.ok();
    let (mut seen, mut from) = (Vec::new(), "earliest".to_owned());
    for _ in 0..8 {
        let read = port.get(&format!("{RECORDS}?from={from}&max_records=7")).await.ok();
        assert!(values(&read).len() <= 7);
        seen.extend(values(&read).into_iter().map(|value| value.as_u64().unwrap()));
        from = read["next"].as_str().unwrap().to_owned();
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..50).collect::<Vec<u64>>());
    let end = port.get(&format!("{RECORDS}?from={from}")).await.ok();
    assert!(values(&end).is_empty());
}

#[tokio::test]
async fn a_start_is_an_edge_an_offset_or_a_time() {
    let port = Port::with_product("sandbox.a", 1).await;
    port.call(POST, &[NDJSON], "0\n1\n2\n").await.ok();
    for (from, expected) in [
        ("earliest", vec![0, 1, 2]),
        ("2", vec![2]),
        ("0:1", vec![1, 2]),
        ("latest", vec![]),
        ("2020-01-01T00:00:00Z", vec![0, 1, 2]),
    ] {
        let read = port.get(&format!("{RECORDS}?from={from}")).await.ok();
        assert_eq!(values(&read), expected, "{from}");
    }
    let refused = port.get(&format!("{RECORDS}?from=9")).await;
    assert_eq!(refused.refused(), (400, "OFFSET_OUT_OF_RANGE".to_owned()));
    assert_eq!(refused.json()["metadata"]["durable_end"], "3");
}

#[tokio::test]
async fn a_long_poll_ends_with_the_record_it_waits_for() {
    let port = Port::with_product("sandbox.a", 1).await;
    let path = format!("{RECORDS}?from=latest&max_wait=20s");
    let (read, _) = tokio::join!(port.get(&path), async {
        tokio::task::yield_now().await;
        port.call(POST, &[NDJSON], "1").await.ok()
    });
    // It may have begun after the append, at the new end; then it waited for nothing.
    if values(&read.ok()).is_empty() {
        panic!("the read began at the end before the append");
    }
}

#[tokio::test]
async fn a_repeated_idempotency_key_is_appended_once() {
    let port = Port::with_product("sandbox.a", 1).await;
    let key = |key| [NDJSON, ("idempotency-key", key)];
    let first = port.call(POST, &key("order-1"), "1").await.ok();
    assert_eq!(first.get("duplicate"), None);
    let again = port.call(POST, &key("order-1"), "1").await.ok();
    assert_eq!(again["duplicate"], true);
    assert_eq!(again["ranges"], first["ranges"]);
    port.call(POST, &key("order-2"), "2").await.ok();
    let other = [NDJSON, ("idempotency-key", "order-1"), ("meshlog-application", "another")];
    assert_eq!(port.call(POST, &other, "3").await.ok().get("duplicate"), None);
    assert_eq!(values(&port.get(RECORDS).await.ok()), [1, 2, 3]);
    let both = [
        NDJSON,
        ("idempotency-key", "x"),
        ("meshlog-producer", "0"),
        ("meshlog-producer-sequence", "0"),
    ];
    assert_eq!(port.call(POST, &both, "4").await.refused().0, 400);
}

/// A broker that has forgotten producers takes a key for one of them and names a higher epoch.
#[tokio::test]
async fn a_key_that_went_on_in_a_higher_epoch_is_still_appended_once() {
    let port = Port::with_product("sandbox.a", 1).await;
    let id = producer_id(&Caller::default(), b"order-1");
    let uuid: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let producer = [
        NDJSON,
        ("meshlog-producer", uuid.as_str()),
        ("meshlog-producer-epoch", "3"),
        ("meshlog-producer-sequence", "0"),
    ];
    let first = port.call(POST, &producer, "1").await.ok();
    let again = port.call(POST, &[NDJSON, ("idempotency-key", "order-1")], "1").await.ok();
    assert_eq!((&again["duplicate"], &again["ranges"]), (&json!(true), &first["ranges"]));
}

#[tokio::test]
async fn a_producer_is_told_of_a_gap_and_of_what_was_applied() {
    let port = Port::with_product("sandbox.a", 1).await;
    let headers = |sequence| {
        [
            NDJSON,
            ("meshlog-producer", "00112233-4455-6677-8899-aabbccddeeff"),
            ("meshlog-producer-sequence", sequence),
        ]
    };
    port.call(POST, &headers("0"), "1").await.ok();
    assert_eq!(port.call(POST, &headers("0"), "1").await.ok()["duplicate"], true);
    let gap = port.call(POST, &headers("5"), "1").await;
    assert_eq!(gap.refused(), (409, "SEQUENCE_GAP".to_owned()));
    assert_eq!(gap.json()["applied"], "no");
    assert_eq!(gap.json()["metadata"]["expected_sequence"], "1");
}

#[tokio::test]
async fn an_expected_offset_that_is_not_the_next_one_is_a_conflict() {
    let port = Port::with_product("sandbox.a", 1).await;
    port.call(&format!("{POST}?expected_offset=0"), &[NDJSON], "1").await.ok();
    let refused = port.call(&format!("{POST}?expected_offset=0"), &[NDJSON], "1").await;
    assert_eq!(refused.refused(), (409, "OFFSET_MISMATCH".to_owned()));
}

#[tokio::test]
async fn a_body_that_cannot_be_taken_is_refused_with_what_is_wrong() {
    let port = Port::with_product("sandbox.a", 1).await;
    let json = ("content-type", "application/json");
    let form = ("content-type", "application/x-www-form-urlencoded");
    for (query, header, body, status, reason, words) in [
        ("", json, "{\"a\":1}", 400, "BATCH_MALFORMED", "?format=value"),
        ("", json, "{\"records\":[]}", 400, "BATCH_MALFORMED", "no records"),
        (
            "",
            json,
            "{\"records\":[{\"value\":1},{\"colour\":1}]}",
            400,
            "BATCH_MALFORMED",
            "colour",
        ),
        ("", json, "{\"records\":[{\"value\":1},{}]}", 400, "BATCH_MALFORMED", "record 1"),
        ("", NDJSON, "1\n{\n", 400, "BATCH_MALFORMED", "record 1: not JSON"),
        ("?format=value", json, "{", 400, "BATCH_MALFORMED", "not JSON"),
        ("?format=odd", json, "{}", 400, "INVALID_ARGUMENT", "`odd`"),
        ("?colour=red", json, "{}", 400, "INVALID_ARGUMENT", "`colour`"),
        ("?partition=x", json, "{}", 400, "INVALID_ARGUMENT", "`partition`"),
        ("?partition=7", NDJSON, "1", 404, "PARTITION_NOT_FOUND", "0 to 0"),
        ("", form, "a=1", 415, "MEDIA_TYPE_UNSUPPORTED", "Content-Type"),
    ] {
        let answer = port.call(&format!("{POST}{query}"), &[header], body).await;
        assert_eq!(answer.refused(), (status, reason.to_owned()), "{query} {body}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(words), "{detail}");
    }
    let large = port.call(POST, &[("content-type", "text/plain")], vec![b'x'; 7 << 20]).await;
    assert_eq!(large.refused(), (413, "TOO_LARGE".to_owned()));
    let missing = port.call("POST /v1/products/ops.none/records", &[NDJSON], "1").await;
    assert_eq!(missing.refused(), (404, "PRODUCT_NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn cloud_events_go_in_and_come_out_in_every_mode() {
    let port = Port::with_product("sandbox.a", 1).await;
    let event = |id| {
        json!({"specversion": "1.0", "id": id, "source": "/tower", "type": "x.landed",
            "datacontenttype": "application/json", "data": {"delay": 2}})
    };
    let structured = [("content-type", "application/cloudevents+json; charset=utf-8")];
    port.call(POST, &structured, event("1").to_string()).await.ok();
    let batch = [("content-type", "application/cloudevents-batch+json")];
    port.call(POST, &batch, json!([event("2"), event("3")]).to_string()).await.ok();
    let binary = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "4"),
        ("ce-source", "/tower"),
        ("ce-type", "x.landed"),
    ];
    port.call(POST, &binary, r#"{"delay":2}"#).await.ok();

    let get = format!("GET {RECORDS}");
    let accept = [("accept", "application/cloudevents-batch+json")];
    let read = port.call(&get, &accept, "").await;
    assert_eq!(read.header("content-type"), "application/cloudevents-batch+json");
    assert_eq!(read.ok(), json!([event("1"), event("2"), event("3"), event("4")]));

    let accept = [("accept", "application/cloudevents+json")];
    let first = port.call(&get, &accept, "").await;
    assert_eq!((first.ok(), first.header("meshlog-next")), (event("1"), "0:1"));
    let last = port.call(&format!("{get}?from=0:3&format=cloudevents-binary"), &[], "").await;
    assert_eq!((last.header("ce-id"), last.header("content-type")), ("4", "application/json"));
    assert_eq!(last.ok(), json!({"delay": 2}));
    let none = port.call(&format!("{get}?from=latest"), &accept, "").await;
    assert_eq!((none.status.as_u16(), none.body.len()), (204, 0));

    let wrong = port.call(POST, &structured, r#"{"specversion":"1.0"}"#).await;
    assert_eq!(wrong.refused(), (400, "BATCH_MALFORMED".to_owned()));
}
