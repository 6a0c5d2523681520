use super::*;
use serde_json::{Value, json};

fn position() -> Position {
    let append_time = prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 };
    Position { partition: 2, offset: 7, append_time }
}

fn read_back(record: &Record) -> Value {
    serde_json::to_value(Event::of("ops.flights", position(), record)).unwrap()
}

fn published() -> jsonschema::Validator {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/schemas/cloudevents-1.0.json");
    let schema: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
}

fn event(fields: Value) -> Value {
    let mut event =
        json!({"specversion": "1.0", "id": "A-1", "source": "/tower", "type": "x.landed"});
    let Value::Object(fields) = fields else { panic!("no object") };
    event.as_object_mut().unwrap().extend(fields);
    event
}

#[test]
fn a_structured_event_comes_back_as_it_was() {
    for fields in [
        json!({"data": {"delay": 2}, "datacontenttype": "application/json"}),
        json!({"data": [1, "2"]}),
        json!({"data": "text", "datacontenttype": "text/plain"}),
        json!({"data_base64": "/wA=", "datacontenttype": "application/octet-stream"}),
        json!({"data": 1, "subject": "ü \"%", "time": "2026-11-20T12:00:00.123456789Z", "partitionkey": "N1"}),
        json!({"data": null, "dataschema": "https://x.example/s", "traceparent": "00-1"}),
    ] {
        let event = event(fields);
        let record = from_json(event.to_string().as_bytes()).unwrap();
        let found = read_back(&record);
        assert_eq!(found, event);
        let validator = published();
        assert!(validator.is_valid(&found), "{found}");
    }
}

#[test]
fn the_record_of_an_event_is_that_of_the_kafka_binding() {
    let fields = json!({"data": {"delay": 1.50}, "datacontenttype": "application/json",
        "time": "1970-01-01T00:00:01Z", "partitionkey": "N1"});
    let text = event(fields).to_string().replace("1.5", "1.50");
    let record = from_json(text.as_bytes()).unwrap();
    assert_eq!(record.value.as_deref(), Some(br#"{"delay":1.50}"#.as_slice()));
    assert_eq!(record.key.as_deref(), Some(b"N1".as_slice()));
    assert_eq!(record.event_time_unix_nano, 1_000_000_000);
    let names: Vec<&str> = record.headers.iter().map(|header| header.name.as_str()).collect();
    let expected = [
        "content-type",
        "ce_id",
        "ce_partitionkey",
        "ce_source",
        "ce_specversion",
        "ce_time",
        "ce_type",
    ];
    assert_eq!(names, expected);
}

#[test]
fn binary_mode_says_the_same_as_structured_mode() {
    let fields = json!({"data": {"delay": 2}, "datacontenttype": "application/json",
        "subject": "ü \"%", "partitionkey": "N1"});
    let structured = from_json(event(fields).to_string().as_bytes()).unwrap();
    let headers = Event::of("ops.flights", position(), &structured).headers();
    assert_eq!(headers["ce-subject"], "%C3%BC%20%22%25");
    assert_eq!(headers["content-type"], "application/json");
    let binary = from_headers(&headers, structured.value.clone().unwrap()).unwrap();
    assert_eq!(binary, structured);
}

#[test]
fn a_record_that_no_event_made_is_read_as_one() {
    for (value, data) in [
        (&br#"{"a": 1}"#[..], json!({"data": {"a": 1}, "datacontenttype": "application/json"})),
        (b"text", json!({"data": "text", "datacontenttype": "text/plain"})),
        (b"\xff", json!({"data_base64": "/w==", "datacontenttype": "application/octet-stream"})),
    ] {
        let value = Some(Bytes::copy_from_slice(value));
        let record = Record { key: Some("N1".into()), value, ..Record::default() };
        let found = read_back(&record);
        assert_eq!(found["id"], "2-7");
        assert_eq!(found["source"], "/v1/products/ops.flights");
        assert_eq!(found["time"], "2023-11-14T22:13:20Z");
        assert_eq!(found["partitionkey"], "N1");
        for (name, value) in data.as_object().unwrap() {
            assert_eq!(&found[name], value);
        }
        assert!(published().is_valid(&found), "{found}");
    }
    assert!(!published().is_valid(&json!({"id": "1"})), "the schema refuses nothing");
}

#[test]
fn an_event_without_data_is_a_tombstone_if_it_has_a_key() {
    let gone = from_json(event(json!({"partitionkey": "N1"})).to_string().as_bytes()).unwrap();
    assert_eq!((gone.key.as_deref(), gone.value), (Some(b"N1".as_slice()), None));
    let empty = from_json(event(json!({})).to_string().as_bytes()).unwrap();
    assert_eq!((empty.key, empty.value), (None, Some(Bytes::new())));
}

#[test]
fn what_is_no_event_is_refused_with_a_sentence() {
    for (text, reason) in [
        ("{", "no CloudEvent"),
        (r#"{"id":"1"}"#, "no `specversion`"),
        (r#"{"specversion":"0.3","id":"1","source":"/","type":"x"}"#, "1.0 is understood"),
        (r#"{"specversion":"1.0","id":"","source":"/","type":"x"}"#, "no `id`"),
        (r#"{"specversion":"1.0","id":"1","source":"/","type":"x","time":"noon"}"#, "`time` noon"),
        (r#"{"specversion":"1.0","id":"1","source":"/","type":"x","Big":"1"}"#, "`Big`"),
        (r#"{"specversion":"1.0","id":"1","source":"/","type":"x","o":{}}"#, "`o`"),
        (
            r#"{"specversion":"1.0","id":"1","source":"/","type":"x","data":1,"data_base64":""}"#,
            "both",
        ),
        (r#"{"specversion":"1.0","id":"1","source":"/","type":"x","data_base64":"%"}"#, "base64"),
    ] {
        let error = from_json(text.as_bytes()).unwrap_err();
        assert!(error.contains(reason), "{text}: {error}");
    }
}
