//! Schemas made to be expensive.

use std::time::{Duration, Instant};

use super::*;

/// Far above what is measured, below what would hang a broker.
const LONG: Duration = Duration::from_secs(120);

#[test]
fn ten_thousand_fields_are_compared() {
    let avro = |last: &str| {
        let fields: Vec<String> =
            (0..9_999).map(|n| format!(r#"{{"name":"f{n}","type":"int"}}"#)).collect();
        format!(r#"{{"type":"record","name":"r","fields":[{},{last}]}}"#, fields.join(","))
    };
    let (old, new) =
        (avro(r#"{"name":"z","type":"int"}"#), avro(r#"{"name":"z","type":"string"}"#));
    // The text alone is larger than what the catalogue takes, so the types are compared directly.
    let types = |text: &str| AvroTypes::of(&serde_json::from_str(text).unwrap()).unwrap();
    let start = Instant::now();
    let found = crate::schema::compatibility::avro::compare(&types(&new), &types(&old)).unwrap();
    assert_eq!(breaks(&found), [("AVRO_TYPE_MISMATCH", "z")]);
    assert!(start.elapsed() < LONG);
}

#[test]
fn ten_thousand_properties_are_compared() {
    let json = |last: &str| {
        let fields: Vec<String> = (0..9_999).map(|n| format!(r#""f{n}":{{}}"#)).collect();
        format!(r#"{{"properties":{{{},"z":{{"type":"{last}"}}}}}}"#, fields.join(","))
    };
    let start = Instant::now();
    let found = reads(SchemaFormat::JsonSchema, &json("string"), &json("integer"));
    assert_eq!(breaks(&found), [("JSON_TYPE_NARROWED", "z")]);
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
}

/// Unions of unions of records that name one another: what is known of a pair is remembered.
#[test]
fn unions_that_multiply_end_within_bounds() {
    let avro = |leaf: &str| {
        let mut types = Vec::new();
        for level in 0..24 {
            let inner = match level {
                0 => format!(r#""{leaf}""#),
                n => format!(r#"["null","A{0}","B{0}"]"#, n - 1),
            };
            for name in ["A", "B"] {
                types.push(format!(
                    r#"{{"type":"record","name":"{name}{level}","fields":[{{"name":"x","type":{inner}}},{{"name":"y","type":{inner}}}]}}"#
                ));
            }
        }
        format!("[{}]", types.join(","))
    };
    let start = Instant::now();
    let found = reads(SchemaFormat::Avro, &avro("int"), &avro("string"));
    assert!(!found.is_compatible());
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
}

#[test]
fn a_chain_that_nests_too_deeply_is_refused_and_not_followed() {
    let chain = |leaf: &str| {
        let mut types = vec![format!(
            r#"{{"type":"record","name":"T0","fields":[{{"name":"x","type":"{leaf}"}}]}}"#
        )];
        for n in 1..1_000 {
            types.push(format!(
                r#"{{"type":"record","name":"T{n}","fields":[{{"name":"x","type":"T{}"}}]}}"#,
                n - 1
            ));
        }
        types.reverse();
        types.reverse();
        format!("[{}]", types.join(","))
    };
    let types = |text: &str| AvroTypes::of(&serde_json::from_str(text).unwrap()).unwrap();
    let (int, long) = (types(&chain("int")), types(&chain("long")));
    // Each type is reached from the top of the chain, before its parts are known.
    let top = |types: AvroTypes| AvroTypes { root: types.all.len() - 2, ..types };
    let outcome = crate::schema::compatibility::avro::compare(&top(long), &top(int));
    assert_eq!(outcome, Err(TooComplex));
}

#[test]
fn alternatives_of_alternatives_end_within_bounds() {
    let json = |kind: &str| {
        let mut schema = format!(r#"{{"type":"{kind}"}}"#);
        for n in 0..12 {
            schema = format!(
                r#"{{"anyOf":[{{"properties":{{"a{n}":{schema}}}}},{{"properties":{{"b{n}":{{"type":"{kind}"}}}},"required":["b{n}"]}},{{"type":"array"}}]}}"#
            );
        }
        schema
    };
    let start = Instant::now();
    let terms = Terms { writes_are_checked: true, ..Terms::default() };
    let (new, old) = (
        schema(SchemaFormat::JsonSchema, &json("integer")),
        schema(SchemaFormat::JsonSchema, &json("string")),
    );
    let outcome = can_read(&new, &old, terms);
    assert!(outcome.is_err() || outcome.is_ok_and(|found| !found.is_compatible()));
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
}
