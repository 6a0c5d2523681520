//! What goes in comes out: bytes, keys and headers.

use crate::harness::TestBroker;

/// Envelopes whose parts are all there is: text, JSON with spaces, binary, empty, null, deleted.
const ENVELOPES: &str = r#"{"key":"k","value":{"a": 1.50, "a":2e400},"headers":[{"name":"h","value":"1"},{"name":"h","value":"2"}]}
{"key":"//4=","key_encoding":"base64","value":"/w==","value_encoding":"base64","headers":[{"name":"b","value":"/wA=","encoding":"base64"}]}
{"value":"two\nlines","value_encoding":"text"}
{"key":"","value":"","value_encoding":"text"}
{"key":"null","value":"null","value_encoding":"text"}
{"key":"gone","value":null}
{"event_time":"2013-01-01T10:00:00.000000001Z","value":"text"}
"#;

/// The lines without their append times; as text, because no parser knows all of their numbers.
fn without_time(jsonl: &str) -> Vec<String> {
    let cut = |line: &str| {
        let (before, rest) = line.split_once("\"append_time\":\"").unwrap();
        format!("{before}{}", rest.split_once('"').unwrap().1)
    };
    jsonl.lines().map(cut).collect()
}

#[test]
fn consume_into_produce_keeps_keys_headers_and_bytes() {
    let broker = TestBroker::in_memory();
    broker.sandbox("sandbox.first");
    broker.sandbox("sandbox.second");
    let produce = |name: &str, input: &str| {
        broker.run_with(&["produce", name, "--format", "envelope"], input).ok();
    };
    produce("sandbox.first", ENVELOPES);
    let first = broker.consume(&["sandbox.first"]);
    produce("sandbox.second", &first);
    let second = broker.consume(&["sandbox.second"]);

    assert_eq!(without_time(&first), without_time(&second));
    assert_eq!(first.lines().count(), 7);
    // Beyond equal: as they were written.
    for part in [
        r#""value":{"a": 1.50, "a":2e400},"headers":[{"name":"h","value":"1"},{"name":"h","value":"2"}]"#,
        r#""key":"//4=","key_encoding":"base64","value":"/w==","value_encoding":"base64""#,
        r#"{"name":"b","value":"/wA=","encoding":"base64"}"#,
        r#""value":"two\nlines","value_encoding":"text""#,
        r#""key":"","value":"","value_encoding":"text""#,
        r#""key":"null","value":"null","value_encoding":"text""#,
        r#""key":"gone","value":null,"headers":[]"#,
        r#""event_time":"2013-01-01T10:00:00.000000001Z""#,
    ] {
        assert!(second.contains(part), "{part} is not in {second}");
    }
}

#[test]
fn raw_in_is_raw_out_to_the_byte() {
    let broker = TestBroker::on_disk();
    broker.sandbox("sandbox.raw");
    let mut input = Vec::new();
    let mut state = 1_u64;
    for length in (0..3_000).chain([100_000, 1_000_000]) {
        for _ in 0..=length % 4_001 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let byte = (state >> 33) as u8;
            input.push(if byte == b'\n' { b'\r' } else { byte });
        }
        input.push(b'\n');
    }
    broker.run_with(&["produce", "sandbox.raw", "--format", "raw"], &input).ok();
    let read = |broker: &TestBroker| {
        let output = broker.command(&["consume", "sandbox.raw", "-o", "raw"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        output.stdout
    };
    // Not assert_eq: megabytes of bytes help nobody.
    assert!(read(&broker) == input, "before the restart");
    let broker = broker.restart();
    assert!(read(&broker) == input, "after the restart");
}
