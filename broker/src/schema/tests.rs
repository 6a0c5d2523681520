use meshlog_proto::v1::{SchemaFormat, SchemaSource};
use proptest::prelude::*;
use serde_json::json;

use super::*;

mod values;

fn json_source(text: &str) -> SchemaSource {
    SchemaSource {
        format: SchemaFormat::JsonSchema.into(),
        text: text.to_owned(),
        ..Default::default()
    }
}

fn source(format: SchemaFormat, text: &str) -> SchemaSource {
    SchemaSource { format: format.into(), text: text.to_owned(), ..Default::default() }
}

fn json_schema(value: serde_json::Value) -> Schema {
    Schema::parse(&json_source(&value.to_string())).unwrap()
}

fn malformed(value: serde_json::Value) -> Malformed {
    Schema::parse(&json_source(&value.to_string())).unwrap_err()
}

fn check_of(schema: &Schema) -> RecordCheck<'static> {
    RecordCheck { value: schema.validator().unwrap(), ..RecordCheck::default() }
}

fn check(schema: &Schema, value: serde_json::Value) -> Result<(), Rejection> {
    check_of(schema).check(None, Some(value.to_string().as_bytes()))
}

#[test]
fn a_value_that_does_not_conform_is_refused_with_path_expected_and_found() {
    let schema = json_schema(json!({
        "type": "object",
        "properties": {
            "carrier": {"type": "string", "minLength": 2},
            "stops": {"type": "array", "items": {"type": "object", "properties": {"at": {"type": "string", "format": "date-time"}}}},
            "kind": {"enum": ["cargo", "passenger"]},
        },
        "required": ["carrier"],
    }));
    let cases = [
        (json!({"carrier": 7}), "/carrier", "string", "7"),
        (json!({"carrier": "x"}), "/carrier", "at least 2 characters", "\"x\""),
        (json!({"kind": "cargo"}), "", "the property \"carrier\"", "only kind"),
        (
            json!({"carrier": "UA", "kind": "x"}),
            "/kind",
            "one of [\"cargo\",\"passenger\"]",
            "\"x\"",
        ),
        (
            json!({"carrier": "UA", "stops": [{}, {"at": "yesterday"}]}),
            "/stops/1/at",
            "a string in the format date-time",
            "\"yesterday\"",
        ),
        (json!([1]), "", "object", "[1]"),
    ];
    for (value, path, expected, found) in cases {
        let rejection = check(&schema, value).unwrap_err();
        assert_eq!(
            (rejection.path.as_str(), rejection.expected.as_str(), rejection.found.as_str()),
            (path, expected, found)
        );
        assert_eq!(rejection.broken, Broken::Schema);
    }
    check(&schema, json!({"carrier": "UA", "stops": [{"at": "2013-01-01T05:00:00Z"}]})).unwrap();
}

#[test]
fn undeclared_properties_are_refused_at_every_level_that_declares_some() {
    let schema = json_schema(json!({
        "properties": {
            "a": {"properties": {"b": {}}},
            "list": {"items": {"properties": {"c": {}}}},
            "free": {"type": "object"},
            "open": {"properties": {"x": {}}, "additionalProperties": true},
            "typed": {"properties": {"x": {}}, "additionalProperties": {"properties": {"y": {}}}},
            "re/f": {"$ref": "#/$defs/node"},
        },
        "patternProperties": {"^p_": {"properties": {"q": {}}}, "^p_a": {"properties": {"r": {}}}},
        "$defs": {"node": {"properties": {"next": {"$ref": "#/$defs/node"}}}},
    }));
    for fine in [
        json!({"a": {"b": {"anything": 1}}, "free": {"z": 1}, "open": {"z": 1}, "typed": {"z": {"y": 1}}}),
        json!({"p_1": {"q": 1}, "re/f": {"next": {"next": {}}}}),
        json!({"p_ab": {"q": 1, "r": 1}}),
    ] {
        check(&schema, fine).unwrap();
    }
    for (value, path) in [
        (json!({"z": 1}), "/z"),
        (json!({"a": {"z": 1}}), "/a/z"),
        (json!({"list": [{}, {"z": 1}]}), "/list/1/z"),
        (json!({"typed": {"z": {"z": 1}}}), "/typed/z/z"),
        (json!({"p_1": {"r": 1}}), "/p_1/r"),
        (json!({"re/f": {"next": {"next": {"z": 1}}}}), "/re~1f/next/next/z"),
    ] {
        let rejection = check(&schema, value).unwrap_err();
        assert_eq!(rejection.path, path);
        assert!(rejection.expected.starts_with("a declared property: "), "{rejection:?}");
        assert!(rejection.found.contains("undeclared"), "{rejection:?}");
    }
}

#[test]
fn what_composed_schemas_declare_is_declared_together() {
    for draft in
        ["http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2020-12/schema"]
    {
        let schema = json_schema(json!({
            "$schema": draft,
            "allOf": [
                {"properties": {"a": {}}},
                {"$ref": "#/definitions/b"},
                {"if": {"properties": {"kind": {"const": 1}}}, "then": {"properties": {"c": {}}}},
            ],
            "anyOf": [{"properties": {"d": {"type": "string"}}}, {"properties": {"e": {}}}],
            "definitions": {"b": {"properties": {"b": {"type": "integer"}}}},
        }));
        check(&schema, json!({"a": 1, "b": 1, "c": 1, "d": "x", "e": 1, "kind": 1})).unwrap();
        assert_eq!(check(&schema, json!({"f": 1})).unwrap_err().path, "/f");
        assert_eq!(check(&schema, json!({"b": "x"})).unwrap_err().path, "/b");
    }
}

#[test]
fn a_schema_that_declares_nothing_is_open_and_true_and_false_are_schemas() {
    check(&json_schema(json!({"type": "object"})), json!({"a": 1})).unwrap();
    check(
        &json_schema(
            json!({"if": {"properties": {"a": {"const": 1}}}, "then": {"required": ["b"]}}),
        ),
        json!({"a": 2, "c": 1}),
    )
    .unwrap();
    check(&json_schema(json!(true)), json!({"a": 1})).unwrap();
    assert_eq!(check(&json_schema(json!(false)), json!(1)).unwrap_err().expected, "nothing here");
}

#[test]
fn a_tombstone_passes_and_a_record_with_nothing_does_not() {
    let check = check_of(&json_schema(json!({"type": "object"})));
    check.check(Some(b"k"), None).unwrap();
    assert_eq!(check.check(None, None).unwrap_err().found, "neither key nor value");
    assert_eq!(check.check(Some(b"k"), Some(b"null")).unwrap_err().expected, "object");
}

#[test]
fn a_value_that_is_not_json_is_refused() {
    let check = check_of(&json_schema(json!({"type": "object"})));
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
    for (value, found) in [
        (&b""[..], "EOF while parsing a value at line 1 column 0"),
        (b"{\"a\":1", "EOF while parsing an object at line 1 column 6"),
        (b"\xff\xfe", "expected value at line 1 column 1"),
        (b"{\"a\":1,\"a\":2}", "the member `a` occurs twice at line 1 column 10"),
        (deep.as_bytes(), "nested too deeply"),
    ] {
        let rejection = check.check(None, Some(value)).unwrap_err();
        assert_eq!(rejection.expected, "JSON");
        assert!(rejection.found.starts_with(found), "{rejection:?}");
    }
}

#[test]
fn what_was_found_is_cut_to_120_characters() {
    let rejection =
        check(&json_schema(json!({"type": "object"})), json!("é".repeat(500))).unwrap_err();
    assert_eq!(rejection.found.chars().count(), 120);
    assert!(rejection.found.ends_with('…'));
}

#[test]
fn a_record_key_must_be_the_field_that_the_rule_names() {
    let mut check =
        check_of(&json_schema(json!({"properties": {"id": {}, "n": {"properties": {"o": {}}}}})));
    let rule = FieldPath::new("id");
    check.key_rule = Some(&rule);
    check.check(Some(b"7"), Some(br#"{"id":7}"#)).unwrap();
    check.check(Some("ü".as_bytes()), Some(r#"{"id":"\u00fc"}"#.as_bytes())).unwrap();
    check.check(Some(b"gone"), None).unwrap();
    for (key, value, found) in [
        (Some(&b"8"[..]), r#"{"id":7}"#, "the key 8"),
        (None, r#"{"id":7}"#, "no key"),
        (Some(b"7"), r#"{"id":7.5}"#, "7.5"),
        (Some(b"7"), "{}", "nothing"),
    ] {
        let rejection = check.check(key, Some(value.as_bytes())).unwrap_err();
        assert_eq!(rejection.broken, Broken::Key);
        assert_eq!((rejection.path.as_str(), rejection.found.as_str()), ("/id", found));
    }
    let rule = FieldPath::new("n.o");
    check.key_rule = Some(&rule);
    check.check(Some(b"x"), Some(br#"{"n":{"o":"x"}}"#)).unwrap();
    assert_eq!(check.check(Some(b"y"), Some(br#"{"n":{"o":"x"}}"#)).unwrap_err().path, "/n/o");
}

#[test]
fn a_key_schema_is_checked_and_its_path_says_that_it_is_the_key() {
    let key = json_schema(json!({"type": "object", "properties": {"id": {"type": "integer"}}}));
    let check = RecordCheck { key: key.validator().unwrap(), ..RecordCheck::default() };
    check.check(Some(br#"{"id":1}"#), Some(b"any bytes")).unwrap();
    assert_eq!(check.check(Some(br#"{"id":"1"}"#), None).unwrap_err().path, "key/id");
    assert_eq!(check.check(Some(b"x"), None).unwrap_err().path, "key");
    assert_eq!(check.check(None, Some(b"v")).unwrap_err().found, "no key");
}

#[test]
fn a_malformed_json_schema_is_refused_with_its_place_and_what_is_wrong() {
    let not_json = Schema::parse(&json_source("{\n \"type\": }")).unwrap_err();
    assert_eq!(not_json.at, "line 2 column 10");
    for (schema, at, what) in [
        (json!({"type": "strin"}), "/type", "not a JSON Schema"),
        (
            json!({"properties": {"a": {"minLength": -1}}}),
            "/properties/a/minLength",
            "not a JSON Schema",
        ),
        (
            json!({"$schema": "http://json-schema.org/draft-04/schema#"}),
            "/$schema",
            "not a supported draft",
        ),
        (json!({"$ref": "https://example.com/a.json"}), "/$ref", "lies outside of this document"),
        (json!({"$ref": "file:///etc/passwd"}), "/$ref", "lies outside of this document"),
        (
            json!({"properties": {"a": {"$ref": "#/$defs/b"}}}),
            "/properties/a/$ref",
            "points to nothing",
        ),
        (json!({"$ref": "#nowhere"}), "/$ref", "points to nothing"),
        (json!({"$ref": "#"}), "", "refers to itself without end"),
        (
            json!({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"not": {"$ref": "#/$defs/a"}}}}),
            "/$defs/a",
            "refers to itself without end",
        ),
        (
            json!({"properties": {"a": {"pattern": "(a)\\1"}}}),
            "/properties/a/pattern",
            "is not a regular expression",
        ),
        (json!({"pattern": "(?=a)"}), "/pattern", ""),
        (json!({"pattern": "(\\w{1000}){1000}"}), "/pattern", ""),
        (json!(7), "", "not a JSON Schema"),
    ] {
        let malformed = malformed(schema.clone());
        assert_eq!(malformed.at, at, "{schema}: {malformed:?}");
        assert!(malformed.what.contains(what), "{schema}: {malformed:?}");
    }
}

#[test]
fn limits_of_size_and_depth_hold() {
    let long = Schema::parse(&json_source(&" ".repeat(MAX_TEXT_BYTES + 1))).unwrap_err();
    assert!(long.what.contains("262145 bytes"), "{long}");
    let deep = format!("{}true{}", "{\"not\":".repeat(65), "}".repeat(65));
    assert!(Schema::parse(&json_source(&deep)).unwrap_err().what.contains("nested too deeply"));
    let deep = format!("{}{}", "message A {".repeat(65), "}".repeat(65));
    let deep = Schema::parse(&source(SchemaFormat::Protobuf, &deep)).unwrap_err();
    assert!(deep.what.contains("levels deep"), "{deep}");
    let patterns: serde_json::Map<_, _> =
        (0..200).map(|n| (format!("p{n}"), json!({"pattern": "a"}))).collect();
    assert!(malformed(json!({"properties": patterns})).what.contains("regular expressions"));
    let letters = |count| {
        let many: serde_json::Map<_, _> =
            (0..count).map(|n| (format!("p{n}"), json!({"pattern": "^\\p{L}{1,60}$"}))).collect();
        json!({"properties": many})
    };
    check(&json_schema(letters(16)), json!({"p0": "Žižka"})).unwrap();
    assert!(malformed(letters(17)).what.contains("16 large ones"));
}

/// Each subschema refers twice to the next: without a bound, a check takes 2^40 steps.
#[test]
fn a_schema_that_multiplies_itself_is_refused() {
    let defs: serde_json::Map<_, _> = (0..40)
        .map(|n| {
            let next = format!("#/$defs/d{}", n + 1);
            (format!("d{n}"), json!({"allOf": [{"$ref": next}, {"$ref": next}]}))
        })
        .chain([("d40".to_owned(), json!(true))])
        .collect();
    let malformed = malformed(json!({"$defs": defs, "$ref": "#/$defs/d0"}));
    assert!(malformed.what.contains("too many subschemas"), "{malformed}");
}

/// A thousand places that all look like a definition of a thousand properties would take a
/// million entries if each were kept apart.
#[test]
fn a_definition_that_is_referred_to_often_is_kept_once_or_refused() {
    let big: serde_json::Map<_, _> = (0..1000).map(|n| (format!("b{n}"), json!({}))).collect();
    let refer = |beside: serde_json::Value| {
        let many = (0..1000).map(|n| {
            let mut reference = json!({"$ref": "#/$defs/big"});
            reference.as_object_mut().unwrap().extend(beside.as_object().unwrap().clone());
            (format!("r{n}"), reference)
        });
        let many: serde_json::Map<_, _> = many.collect();
        json!({"properties": many, "$defs": {"big": {"properties": big}}})
    };
    let schema = json_schema(refer(json!({})));
    check(&schema, json!({"r999": {"b999": 1}})).unwrap();
    assert_eq!(check(&schema, json!({"r999": {"x": 1}})).unwrap_err().path, "/r999/x");
    let refused = malformed(refer(json!({"type": "object"})));
    assert!(refused.what.contains("too many different places"), "{refused}");
}

/// The deepest schema that is allowed, recursive, over the deepest value, on a thread with the
/// stack of an async worker: a stack overflow would end the process.
#[test]
fn the_deepest_schema_over_the_deepest_value_fits_a_small_stack() {
    std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(|| {
            let mut defs: serde_json::Map<_, _> = (0..20)
                .map(|n| {
                    (format!("d{n}"), json!({"allOf": [{"$ref": format!("#/$defs/d{}", n + 1)}]}))
                })
                .collect();
            defs.insert(
                "d20".to_owned(),
                json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}}),
            );
            let schema = json_schema(json!({"$defs": defs, "$ref": "#/$defs/d0"}));
            let depth = record_check::MAX_VALUE_DEPTH;
            let value = |inner: &str| {
                format!("{}{inner}{}", "{\"a\":".repeat(depth - 1), "}".repeat(depth - 1))
            };
            check_of(&schema).check(None, Some(value("{}").as_bytes())).unwrap();
            let rejection = check_of(&schema).check(None, Some(value("7").as_bytes())).unwrap_err();
            assert_eq!(rejection.expected, "object");
            let rejection =
                check_of(&schema).check(None, Some(value("{\"z\":7}").as_bytes())).unwrap_err();
            assert!(rejection.path.ends_with("/a/z"), "{rejection:?}");
        })
        .unwrap()
        .join()
        .unwrap();
}

/// As above, but what is deep is the text: the metaschema and the parsers walk it.
#[test]
fn the_deepest_text_fits_a_small_stack() {
    std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(|| {
            let nested = |open: &str, inner: &str, close: &str, depth: usize| {
                format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
            };
            let deep = json_source(&nested("{\"items\":", "true", "}", MAX_DEPTH));
            let schema = Schema::parse(&deep).unwrap();
            check_of(&schema).check(None, Some(nested("[", "7", "]", 64).as_bytes())).unwrap();
            let array = "{\"type\":\"array\",\"items\":";
            let deep = source(SchemaFormat::Avro, &nested(array, "\"int\"", "}", MAX_DEPTH));
            Schema::parse(&deep).unwrap().fields().unwrap();
            let options = nested("{ a: ", "1", "}", MAX_DEPTH - 1);
            let text = format!("message A {{ option (x) = {options}; }}");
            Schema::parse(&source(SchemaFormat::Protobuf, &text)).unwrap_err();
            let deep = source(SchemaFormat::Protobuf, &nested("message A {", "", "}", 30));
            Schema::parse(&deep).unwrap().fields().unwrap();
        })
        .unwrap()
        .join()
        .unwrap();
}

/// Thousands of definitions, each under a property of the one before.
#[test]
fn a_long_chain_of_definitions_does_not_exhaust_the_stack() {
    std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(|| {
            let defs: serde_json::Map<_, _> = (0..4000)
                .map(|n| (format!("d{n}"), json!({"properties": {"a": {"$ref": format!("#/$defs/d{}", (n + 1) % 4000)}}})))
                .collect();
            let schema = json_schema(json!({"$defs": defs, "$ref": "#/$defs/d0"}));
            check(&schema, json!({"a": {"a": {"a": {}}}})).unwrap();
            assert_eq!(check(&schema, json!({"a": {"b": 1}})).unwrap_err().path, "/a/b");
            schema.fields().unwrap();
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn references_by_anchor_id_and_dynamic_anchor_are_followed() {
    let schema = json_schema(json!({
        "$id": "https://example.com/tree",
        "$dynamicAnchor": "node",
        "properties": {
            "children": {"items": {"$dynamicRef": "#node"}},
            "by_anchor": {"$ref": "#leaf"},
            "by_id": {"$ref": "other"},
            "by_pointer": {"$ref": "tree#/$defs/per%25cent"},
        },
        "$defs": {
            "leaf": {"$anchor": "leaf", "properties": {"x": {}}},
            "other": {"$id": "other", "properties": {"y": {}}},
            "per%cent": {"properties": {"z": {}}},
        },
    }));
    check(&schema, json!({"by_anchor": {"x": 1}, "by_id": {"y": 1}, "by_pointer": {"z": 1}, "children": [{"children": []}]})).unwrap();
    for path in ["/by_anchor/no", "/by_id/no", "/by_pointer/no", "/children/0/no"] {
        let mut value = json!({"by_anchor": {}, "by_id": {}, "by_pointer": {}, "children": [{}]});
        let (parent, name) = path.rsplit_once('/').unwrap();
        value.pointer_mut(parent).unwrap()[name] = json!(1);
        assert_eq!(check(&schema, value).unwrap_err().path, path);
    }
}

#[test]
fn equal_schemas_have_equal_fingerprints_whatever_their_layout() {
    let one = Schema::parse(&json_source(r#"{"type":"object","title":"a"}"#)).unwrap();
    let two = Schema::parse(&json_source("{ \"title\": \"a\",\n \"type\": \"object\" }")).unwrap();
    assert_eq!(one.fingerprint(), two.fingerprint());
    assert_ne!(one.digest(), two.digest());
    assert!(one.says_the_same(&two));
    assert_ne!(one.fingerprint(), json_schema(json!({"type": "object"})).fingerprint());

    let avro = |text: &str| Schema::parse(&source(SchemaFormat::Avro, text)).unwrap();
    let plain = avro(r#"{"type":"record","name":"F","fields":[{"name":"a","type":"int"}]}"#);
    let laid_out = avro(r#"{"name":"F","type":"record","fields":[{"type":"int","name":"a"}]}"#);
    let default =
        avro(r#"{"type":"record","name":"F","fields":[{"name":"a","type":"int","default":0}]}"#);
    assert!(plain.says_the_same(&laid_out));
    assert_eq!(plain.fingerprint(), default.fingerprint(), "a default does not change the bytes");
    assert!(!plain.says_the_same(&default), "but it is a change all the same");

    let proto = |text: &str| Schema::parse(&source(SchemaFormat::Protobuf, text)).unwrap();
    let plain = proto("syntax = \"proto3\"; message A { string a = 1; int32 b = 2; }");
    let other = proto("syntax = \"proto3\";\n// words\nmessage A { int32 b = 2; string a = 1; }");
    assert_eq!(plain.fingerprint(), other.fingerprint());
    assert_ne!(
        plain.fingerprint(),
        proto("syntax = \"proto3\"; message A { string a = 1; }").fingerprint()
    );
}

/// Fingerprints are stored and exchanged: they must not change from version to version. The values
/// were computed apart from this program.
#[test]
fn fingerprints_are_the_same_for_ever() {
    let opaque = SchemaSource {
        format: SchemaFormat::Opaque.into(),
        media_type: "application/json".to_owned(),
        reason: "not described".to_owned(),
        ..Default::default()
    };
    let cases = [
        (
            json_source(r#"{"type":"object"}"#),
            "30b8a86cab45eb7e00a2a8c410c56f90149ce573e376a94f7e950c52684169ff",
        ),
        (
            source(SchemaFormat::Avro, r#"{"type":"record","name":"n.F","doc":"d","fields":[]}"#),
            "c2d41ebe150bf2bb6f5f00e59455c8c9e71a473df10f3c56d74791577d469536",
        ),
        (
            source(
                SchemaFormat::Protobuf,
                "syntax = \"proto3\"; package p; message A { string a = 1; }",
            ),
            "41d9161ef46426509f00dd6d98f1f696a6296358ac3d72fb6adaa46f95b237ea",
        ),
        (opaque, "ca607edc429e32ffc037023d58ee13c73acb6b3aec690011b0915f67a14c85ac"),
    ];
    for (source, golden) in cases {
        assert_eq!(Schema::parse(&source).unwrap().fingerprint().to_string(), golden);
    }
}

fn rows(schema: &Schema) -> Vec<(String, String, bool, String)> {
    let rows = schema.fields().unwrap().into_iter();
    rows.map(|row| (row.path, row.type_name, row.optional, row.docs)).collect()
}

fn row(path: &str, type_name: &str, optional: bool, docs: &str) -> (String, String, bool, String) {
    (path.to_owned(), type_name.to_owned(), optional, docs.to_owned())
}

#[test]
fn fields_of_a_json_schema_are_listed_with_path_type_and_docs() {
    let schema = json_schema(json!({
        "properties": {
            "id": {"type": "integer", "description": "Which."},
            "name": {"type": ["string", "null"]},
            "stops": {"type": "array", "items": {"properties": {"at": {"$ref": "#/$defs/at"}}, "required": ["at"]}},
            "next": {"$ref": "#"},
        },
        "required": ["id", "name"],
        "$defs": {"at": {"type": "string", "title": "Where."}},
    }));
    assert_eq!(
        rows(&schema),
        [
            row("id", "integer", false, "Which."),
            row("name", "string|null", true, ""),
            row("stops", "array", true, ""),
            row("stops[].at", "string", false, "Where."),
            row("next", "any", true, ""),
        ]
    );
}

#[test]
fn fields_of_an_avro_schema_are_listed() {
    let schema = Schema::parse(&source(
        SchemaFormat::Avro,
        r#"{"type":"record","name":"ops.Flight","fields":[
            {"name":"carrier","type":"string","doc":"Who."},
            {"name":"delay","type":["null","int"]},
            {"name":"legs","type":{"type":"array","items":{"type":"record","name":"Leg","fields":[
                {"name":"to","type":{"type":"enum","name":"Port","symbols":["JFK"]}},
                {"name":"flight","type":["null","Flight"]}]}}},
            {"name":"last","type":"Leg"},
            {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}}]}"#,
    ))
    .unwrap();
    assert_eq!(
        rows(&schema),
        [
            row("carrier", "string", false, "Who."),
            row("delay", "null|int", true, ""),
            row("legs", "array<record Leg>", false, ""),
            row("legs[].to", "enum Port", false, ""),
            row("legs[].flight", "null|Flight", true, ""),
            row("last", "Leg", false, ""),
            row("last.to", "enum Port", false, ""),
            row("last.flight", "null|Flight", true, ""),
            row("at", "timestamp-millis", false, ""),
        ]
    );
}

#[test]
fn fields_of_a_protobuf_schema_are_listed() {
    let text = r#"
        syntax = "proto3";
        package ops;
        import "google/protobuf/timestamp.proto";
        message Flight {
          // Who.
          string carrier = 1;
          optional int32 delay = 2;
          repeated Leg legs = 3;
          google.protobuf.Timestamp at = 4; // When.
          map<string, int64> seats = 5;
          message Leg { Flight flight = 1; Port to = 2; }
          enum Port { PORT_UNSPECIFIED = 0; }
        }"#;
    let schema = Schema::parse(&source(SchemaFormat::Protobuf, text)).unwrap();
    assert_eq!(
        rows(&schema),
        [
            row("carrier", "string", false, "Who."),
            row("delay", "int32", true, ""),
            row("legs", "repeated ops.Flight.Leg", false, ""),
            row("legs[].flight", "ops.Flight", true, ""),
            row("legs[].to", "ops.Flight.Port", false, ""),
            row("at", "google.protobuf.Timestamp", true, "When."),
            row("seats", "map<string, int64>", false, ""),
        ]
    );
}

#[test]
fn malformed_avro_protobuf_and_opaque_schemas_are_refused_with_their_place() {
    let refused = |source: SchemaSource| Schema::parse(&source).unwrap_err();
    let avro = |text: &str| refused(source(SchemaFormat::Avro, text));
    assert_eq!(avro("{\"type\":").at, "line 1 column 8");
    assert!(avro(r#"{"type":"record","name":"A"}"#).what.contains("fields"));
    assert!(avro(r#""Unknown""#).what.contains("not an Avro schema"));

    let proto = |text: &str| refused(source(SchemaFormat::Protobuf, text));
    assert_eq!(proto("syntax = \"proto3\";\nmessage A { string a = }").at, "line 2 column 24");
    assert_eq!(proto("syntax = \"proto3\";\nmessage A { B b = 1; }").at, "line 2 column 13");
    let import = proto("syntax = \"proto3\";\nimport \"other.proto\"; message A {}");
    assert!(import.what.contains("only `google/protobuf/"), "{import}");
    assert!(proto("syntax = \"proto3\";").what.contains("no message"));
    let several = proto("syntax = \"proto3\"; message A {} message B {}");
    assert_eq!(several.at, "message_name");
    assert!(several.what.contains("`A`, `B`"), "{several}");
    let mut named =
        source(SchemaFormat::Protobuf, "syntax = \"proto3\"; message A {} message B {}");
    named.message_name = "B".to_owned();
    Schema::parse(&named).unwrap();
    named.message_name = "C".to_owned();
    assert!(refused(named).what.contains("no message `C`"));

    let opaque = |media_type: &str, reason: &str| {
        refused(SchemaSource {
            format: SchemaFormat::Opaque.into(),
            media_type: media_type.to_owned(),
            reason: reason.to_owned(),
            ..Default::default()
        })
    };
    assert_eq!(opaque("", "because").at, "media_type");
    assert_eq!(opaque("json", "because").at, "media_type");
    assert_eq!(opaque("application/json", " ").at, "reason");
    assert_eq!(refused(SchemaSource::default()).at, "format");
    let mut both = json_source("{}");
    both.media_type = "application/json".to_owned();
    assert_eq!(refused(both).at, "media_type");
}

#[test]
fn a_key_field_must_be_declared_required_and_a_string_or_an_integer() {
    let schema = json_schema(json!({
        "properties": {
            "id": {"type": "string"}, "opt": {"type": "string"}, "num": {"type": "number"},
            "in": {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]},
        },
        "required": ["id", "num", "in"],
    }));
    let check = |path: &str| schema.check_key_field(&FieldPath::new(path));
    check("id").unwrap();
    check("in.id").unwrap();
    assert!(check("no").unwrap_err().contains("no property `no`"));
    assert!(check("opt").unwrap_err().contains("not require"));
    assert!(check("num").unwrap_err().contains("`string` or `integer`"));
    assert!(check("in").unwrap_err().contains("`string` or `integer`"));
}

/// JSON with words that mean something in a schema.
fn arbitrary_schema() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(|b| json!(b)),
        any::<i32>().prop_map(|n| json!(n)),
        prop_oneof![
            Just("string"),
            Just("object"),
            Just("#"),
            Just("#/$defs/a"),
            Just("#a"),
            Just("a"),
            Just("^a"),
            Just("date-time"),
            Just("https://x.example/s"),
            Just(""),
            Just("%"),
        ]
        .prop_map(|s| json!(s)),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let name = prop_oneof![
            Just("type"),
            Just("properties"),
            Just("$ref"),
            Just("$defs"),
            Just("a"),
            Just("allOf"),
            Just("anyOf"),
            Just("items"),
            Just("prefixItems"),
            Just("patternProperties"),
            Just("additionalProperties"),
            Just("$id"),
            Just("$anchor"),
            Just("$dynamicRef"),
            Just("$dynamicAnchor"),
            Just("if"),
            Just("then"),
            Just("not"),
            Just("required"),
            Just("enum"),
            Just("format"),
            Just("pattern"),
            Just("$schema"),
            Just("name"),
            Just("fields"),
            Just("unevaluatedProperties"),
            Just("dependencies"),
            Just("maxItems"),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|v| json!(v)),
            prop::collection::vec((name, inner), 0..5)
                .prop_map(|m| m.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

fn formats() -> impl Strategy<Value = SchemaFormat> {
    prop_oneof![
        Just(SchemaFormat::JsonSchema),
        Just(SchemaFormat::Avro),
        Just(SchemaFormat::Protobuf),
        Just(SchemaFormat::Opaque),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_schema_text_panics(format in formats(), text in ".{0,200}") {
        if let Ok(schema) = Schema::parse(&source(format, &text)) {
            schema.fields().unwrap();
        }
    }

    #[test]
    fn no_schema_and_no_value_panics(
        schema in arbitrary_schema(), value in arbitrary_schema(), bytes in prop::collection::vec(any::<u8>(), 0..50)
    ) {
        for format in [SchemaFormat::JsonSchema, SchemaFormat::Avro] {
            let Ok(schema) = Schema::parse(&source(format, &schema.to_string())) else { continue };
            schema.fields().unwrap();
            let _ = schema.check_key_field(&FieldPath::new("a.type"));
            let rule = FieldPath::new("a");
            let check = RecordCheck {
                value: schema.validator().unwrap(),
                key: schema.validator().unwrap(),
                key_rule: Some(&rule),
                ..RecordCheck::default()
            };
            let _ = check.check(Some(&bytes), Some(value.to_string().as_bytes()));
            let _ = check.check(Some(value.to_string().as_bytes()), Some(&bytes));
        }
    }

    #[test]
    fn no_broken_protobuf_text_panics(cut in 0_usize..400, insert in "[{}<>\\[\\]();=\"'/*a-z0-9 ]{0,6}") {
        let text = "syntax = \"proto3\"; package p; import \"google/protobuf/any.proto\"; \
            option java_package = \"x\"; message A { reserved 9, 10 to max; oneof o { string a = 1; } \
            map<string, B> m = 2 [deprecated = true]; message B { google.protobuf.Any any = 1; } \
            enum E { option allow_alias = true; Z = 0; Y = 0; } repeated E e = 3; } service S { rpc R(A) returns (A); }";
        let cut = cut.min(text.len());
        let _ = Schema::parse(&source(SchemaFormat::Protobuf, &format!("{}{insert}{}", &text[..cut], &text[cut..])));
        let _ = Schema::parse(&source(SchemaFormat::Protobuf, &format!("{}{insert}", &text[..cut])));
    }

    /// Closing a schema refuses only what holds an undeclared property.
    #[test]
    fn a_value_with_only_declared_properties_is_judged_by_the_schema_alone(
        a in any::<Option<i32>>(), b in any::<Option<bool>>(), undeclared in any::<bool>()
    ) {
        let schema = json_schema(json!({"allOf": [
            {"properties": {"a": {"type": "integer"}}},
            {"properties": {"b": {"type": "boolean"}}}
        ]}));
        let mut value = serde_json::Map::new();
        if let Some(a) = a { value.insert("a".to_owned(), json!(a)); }
        if let Some(b) = b { value.insert("b".to_owned(), json!(b)); }
        if undeclared { value.insert("c".to_owned(), json!(1)); }
        prop_assert_eq!(check(&schema, value.into()).is_ok(), !undeclared);
    }
}
