//! Laws that need nobody to say what is right.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Small schemas over few names, so that two of them often have something in common.
fn json_schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "string"})),
        Just(json!({"type": "integer"})),
        Just(json!({"type": "number"})),
        Just(json!({"type": ["string", "null"]})),
        Just(json!({"enum": ["a", "b"]})),
        Just(json!({"enum": ["a", "b", 1]})),
        Just(json!({"const": "a"})),
        (0_u8..3, 3_u8..6)
            .prop_map(|(a, b)| json!({"type": "integer", "minimum": a, "maximum": b})),
        (0_u8..3).prop_map(|n| json!({"type": "string", "minLength": n})),
        Just(json!({"type": "string", "maxLength": 2})),
        Just(json!({"type": "number", "multipleOf": 2})),
        Just(json!(true)),
        Just(json!({"$ref": "#/$defs/d"})),
    ];
    let schema = leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            (
                prop::collection::btree_map("[a-c]", inner.clone(), 0..3),
                prop::collection::btree_set("[a-c]", 0..2),
                prop::option::of(prop_oneof![Just(json!(false)), Just(json!(true)), inner.clone()]),
            )
                .prop_map(|(properties, required, additional)| {
                    let mut schema = json!({"type": "object", "properties": properties,
                        "required": required});
                    if let Some(additional) = additional {
                        schema["additionalProperties"] = additional;
                    }
                    schema
                }),
            (inner.clone(), 0_u8..3).prop_map(|(items, least)| json!({"type": "array",
                "items": items, "minItems": least})),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|all| json!({"anyOf": all})),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|all| json!({"oneOf": all})),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|all| json!({"allOf": all})),
            inner.prop_map(|not| json!({"not": not})),
        ]
    });
    (
        schema,
        prop_oneof![
            Just(json!({"type": "integer"})),
            Just(json!({"type": "object", "properties": {"a": {"type": "string"}}})),
        ],
    )
        .prop_map(|(schema, definition)| match schema {
            Value::Object(mut members) => {
                members.insert("$defs".to_owned(), json!({"d": definition}));
                Value::Object(members)
            }
            other => other,
        })
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        Just(json!("a")),
        Just(json!("b")),
        Just(json!("abc")),
        Just(json!("")),
        (-1_i8..7).prop_map(|n| json!(n)),
        Just(json!(1.5)),
        Just(json!(true)),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            prop::collection::btree_map("[a-d]", inner.clone(), 0..3).prop_map(|map| json!(map)),
            prop::collection::vec(inner, 0..3).prop_map(|all| json!(all)),
        ]
    })
}

fn parse(schema: &Value) -> Option<Schema> {
    let source = SchemaSource {
        format: SchemaFormat::JsonSchema.into(),
        text: schema.to_string(),
        ..SchemaSource::default()
    };
    Schema::parse(&source).ok()
}

/// Whether a value is let through on write.
fn is_written(schema: &Schema, value: &Value, checked: bool) -> bool {
    let parsed = crate::schema::json_schema::JsonSchema::parse(&schema.source().text).unwrap();
    match checked {
        true => parsed.validator().unwrap().conforms(value),
        false => parsed.compile().unwrap().is_valid(value),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_is_written_is_unreadable_if_the_schemas_are_compatible(
        old in json_schema(), new in json_schema(), values in prop::collection::vec(value(), 24), checked: bool,
    ) {
        let (Some(old), Some(new)) = (parse(&old), parse(&new)) else { return Ok(()) };
        let terms = Terms { writes_are_checked: checked, ..Terms::default() };
        let Ok(found) = can_read(&new, &old, terms) else { return Ok(()) };
        let reader = crate::schema::json_schema::JsonSchema::parse(&new.source().text).unwrap();
        let reader = reader.compile().unwrap();
        if found.is_compatible() {
            for value in &values {
                prop_assert!(!is_written(&old, value, checked) || reader.is_valid(value), "{value}");
            }
        }
        if let Some(value) = &found.counterexample {
            let value: Value = serde_json::from_str(value).unwrap();
            prop_assert!(is_written(&old, &value, checked), "{value} is not written");
            prop_assert!(!reader.is_valid(&value), "{value} is read");
        }
        prop_assert!(!found.is_breaking() || found.differences.iter().all(|one| !one.rule.is_empty()));
    }

    #[test]
    fn every_json_schema_reads_itself_however_it_is_laid_out(schema in json_schema()) {
        let Some(one) = parse(&schema) else { return Ok(()) };
        // Members in another order, documentation, a definition under another name.
        let text = serde_json::to_string_pretty(&crate::schema::json_text::sorted(schema.clone())).unwrap();
        let text = text.replace("/d\"", "/other\"").replace("\"d\":", "\"other\":");
        let mut other: Value = serde_json::from_str(&text).unwrap();
        if let Value::Object(members) = &mut other {
            members.insert("description".to_owned(), json!("the same"));
        }
        let Some(other) = parse(&other) else { return Ok(()) };
        for checked in [true, false] {
            let terms = Terms { writes_are_checked: checked, ..Terms::default() };
            for (reader, writer) in [(&one, &one), (&other, &one), (&one, &other)] {
                let found = can_read(reader, writer, terms).unwrap();
                prop_assert!(!found.is_breaking(), "{found:?}");
            }
        }
    }

    #[test]
    fn what_is_said_of_avro_schemas_holds_for_their_values(
        old in avro_schema(), new in avro_schema(), bytes in prop::collection::vec(any::<u8>(), 0..24),
    ) {
        let (old, new) = (old.to_string(), new.to_string());
        let parse = |text: &str| Schema::parse(&SchemaSource {
            format: SchemaFormat::Avro.into(), text: text.to_owned(), ..SchemaSource::default()
        });
        let (Ok(old), Ok(new)) = (parse(&old), parse(&new)) else { return Ok(()) };
        let found = can_read(&new, &old, Terms::default()).unwrap();
        prop_assert!(can_read(&old, &old, Terms::default()).unwrap().differences.is_empty());
        let (own, across) = (Trial::new(&old, &old), Trial::new(&new, &old));
        if own.read(&bytes).is_ok() && found.is_compatible() {
            // Bytes that become text are read if they are UTF-8: the specification lets them.
            let refused = across.read(&bytes).err();
            prop_assert!(refused.as_ref().is_none_or(|why| why.found.contains("UTF-8")), "{refused:?}");
        }
    }
}

fn avro_schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!("int")),
        Just(json!("long")),
        Just(json!("double")),
        Just(json!("string")),
        Just(json!("bytes")),
        Just(json!("null")),
        Just(json!("boolean")),
    ];
    let inner = leaf.prop_recursive(2, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|items| json!({"type": "array", "items": items})),
            inner.clone().prop_map(|values| json!({"type": "map", "values": values})),
            inner.prop_map(|one| if one.is_array() || one == json!("null") {
                one
            } else {
                json!(["null", one])
            }),
        ]
    });
    let symbols = prop::collection::btree_set("[A-C]", 1..3);
    let field = (inner, "[a-c]", any::<bool>());
    (prop::collection::vec(field, 0..3), symbols, any::<bool>()).prop_map(
        |(fields, symbols, with_default)| {
            let mut names = std::collections::BTreeSet::new();
            let mut all: Vec<Value> = fields
                .into_iter()
                .filter(|(_, name, _)| names.insert(name.clone()))
                .map(|(of, name, has_default)| match (has_default, &of) {
                    (true, Value::Array(_)) => json!({"name": name, "type": of, "default": null}),
                    _ => json!({"name": name, "type": of}),
                })
                .collect();
            let mut names = json!({"type": "enum", "name": "E", "symbols": symbols});
            if with_default {
                names["default"] = json!(symbols.iter().next());
            }
            all.push(json!({"name": "e", "type": names}));
            json!({"type": "record", "name": "R", "fields": all})
        },
    )
}

/// Modes are pairs and directions; the laws between them follow from these.
#[test]
fn full_is_both_ways_and_transitive_asks_for_more() {
    use std::collections::HashSet;
    let directions = |mode: Mode| -> HashSet<String> {
        mode.directions().iter().map(|direction| format!("{direction:?}")).collect()
    };
    for (plain, transitive) in [
        (Mode::Backward, Mode::BackwardTransitive),
        (Mode::Forward, Mode::ForwardTransitive),
        (Mode::Full, Mode::FullTransitive),
    ] {
        assert_eq!(directions(plain), directions(transitive));
        assert!(!plain.is_transitive() && transitive.is_transitive());
    }
    let both: HashSet<_> = &directions(Mode::Backward) | &directions(Mode::Forward);
    assert_eq!(directions(Mode::Full), both);
    assert!(Mode::None.directions().is_empty());
    assert_eq!(directions(Mode::Retained), directions(Mode::Backward));
}
