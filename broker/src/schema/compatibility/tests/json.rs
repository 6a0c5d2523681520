use serde_json::{Value, json};

use super::*;

fn reads_json(reader: Value, writer: Value) -> Comparison {
    reads(SchemaFormat::JsonSchema, &reader.to_string(), &writer.to_string())
}

fn object(properties: Value, required: Value) -> Value {
    json!({"type": "object", "properties": properties, "required": required})
}

#[test]
fn an_optional_property_is_added_and_removed_in_both_directions() {
    let old = object(json!({"id": {"type": "string"}}), json!(["id"]));
    let new = object(json!({"id": {"type": "string"}, "gate": {"type": "integer"}}), json!(["id"]));
    assert!(reads_json(new.clone(), old.clone()).is_compatible());
    assert!(reads_json(old.clone(), new.clone()).is_compatible());
    // Without the check on write, the name may be in use for something else.
    let terms = Terms::default();
    let parse = |schema: &Value| schema_of(schema);
    let open = can_read(&parse(&new), &parse(&old), terms).unwrap();
    assert_eq!(breaks(&open), [("JSON_PROPERTY_ADDED_TO_OPEN_MODEL", "gate")]);
    assert!(open.counterexample.unwrap().contains("gate"));
}

fn schema_of(schema: &Value) -> Schema {
    super::schema(SchemaFormat::JsonSchema, &schema.to_string())
}

#[test]
fn what_is_refused_comes_with_a_value_that_shows_it() {
    let old = object(
        json!({"id": {"type": "string"}, "n": {"type": "integer", "maximum": 100}, "e": {"enum": ["a", "b"]}}),
        json!(["id"]),
    );
    let new = object(
        json!({"id": {"type": "string", "maxLength": 3}, "n": {"type": "integer", "maximum": 10},
               "e": {"enum": ["a"]}, "m": {"type": "string"}}),
        json!(["id", "m"]),
    );
    let found = reads_json(new.clone(), old.clone());
    assert_eq!(
        breaks(&found),
        [
            ("JSON_SIZE_NARROWED", "id"),
            ("JSON_RANGE_NARROWED", "n"),
            ("JSON_ENUM_VALUE_REMOVED", "e"),
            ("JSON_PROPERTY_REQUIRED", "m"),
        ]
    );
    assert!(found.is_breaking());
    assert_counterexample(&new, &old, &found);
}

/// Schemas of real products have patterns, bounds and enums all over: a value must fit all of them.
#[test]
fn a_schema_of_a_real_product_that_narrows_one_field_is_refused_with_a_record_of_it() {
    let path = format!("{}/../examples/flights/schemas/planes.json", env!("CARGO_MANIFEST_DIR"));
    let old: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for (field, narrowed) in [
        ("speed", json!({"type": "integer", "minimum": 1})),
        ("year", json!({"type": ["integer", "null"], "minimum": 1950, "maximum": 2013})),
        ("tailnum", json!({"type": "string", "pattern": "^[A-Z0-9]{6}$"})),
        ("engine", json!({"type": "string", "enum": ["Turbo-fan", "Turbo-jet"]})),
    ] {
        let mut new = old.clone();
        new["properties"][field] = narrowed;
        let found = reads_json(new.clone(), old.clone());
        assert!(found.is_breaking(), "{field}");
        assert_counterexample(&new, &old, &found);
    }
}

/// The value is written under the one schema and not read under the other.
fn assert_counterexample(reader: &Value, writer: &Value, found: &Comparison) {
    let value = found.counterexample.as_ref().expect("a counterexample");
    let value: Value = serde_json::from_str(value).unwrap();
    let is_valid = |schema: &Value| {
        let options = jsonschema::options().should_validate_formats(true);
        options.build(schema).unwrap().is_valid(&value)
    };
    assert!(is_valid(writer), "{value} is written");
    assert!(!is_valid(reader), "{value} is not read");
}

#[test]
fn each_narrowing_is_found_and_each_widening_is_let_through() {
    for (narrow, wide, rule) in [
        (json!({"type": "string"}), json!({"type": ["string", "null"]}), "JSON_TYPE_NARROWED"),
        (json!({"type": "integer"}), json!({"type": "number"}), "JSON_TYPE_NARROWED"),
        (json!({"enum": [1, 2]}), json!({"enum": [1, 2, 3]}), "JSON_ENUM_VALUE_REMOVED"),
        (json!({"type": "number", "minimum": 1}), json!({"type": "number"}), "JSON_RANGE_NARROWED"),
        (
            json!({"type": "integer", "multipleOf": 4}),
            json!({"type": "integer", "multipleOf": 2}),
            "JSON_RANGE_NARROWED",
        ),
        (
            json!({"type": "string", "minLength": 2}),
            json!({"type": "string", "minLength": 1}),
            "JSON_SIZE_NARROWED",
        ),
        (
            json!({"type": "string", "pattern": "^a+$"}),
            json!({"type": "string"}),
            "JSON_PATTERN_CHANGED",
        ),
        (
            json!({"type": "string", "format": "date"}),
            json!({"type": "string"}),
            "JSON_FORMAT_CHANGED",
        ),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            json!({"type": "array"}),
            "JSON_ITEMS_NARROWED",
        ),
        (
            json!({"type": "array", "uniqueItems": true}),
            json!({"type": "array"}),
            "JSON_UNIQUE_ITEMS_ADDED",
        ),
        (
            json!({"type": "array", "maxItems": 2}),
            json!({"type": "array", "maxItems": 3}),
            "JSON_SIZE_NARROWED",
        ),
        (
            json!({"anyOf": [{"type": "string"}]}),
            json!({"anyOf": [{"type": "string"}, {"type": "null"}]}),
            "JSON_ALTERNATIVE_REMOVED",
        ),
        (
            json!({"type": "object", "additionalProperties": false}),
            json!({"type": "object"}),
            "JSON_ADDITIONAL_PROPERTIES_NARROWED",
        ),
    ] {
        let inside = |schema: &Value| object(json!({"p": schema}), json!(["p"]));
        let (narrow, wide) = (inside(&narrow), inside(&wide));
        assert!(reads_json(wide.clone(), narrow.clone()).is_compatible(), "{wide} reads {narrow}");
        let found = reads_json(narrow.clone(), wide.clone());
        assert!(found.is_breaking(), "{narrow} does not read {wide}: {found:?}");
        assert_eq!(found.differences[0].rule, rule, "{found:?}");
        assert_counterexample(&narrow, &wide, &found);
    }
}

#[test]
fn all_three_drafts_are_compared_with_one_another() {
    let seven = json!({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object",
        "properties": {"t": {"type": "array", "items": [{"type": "string"}], "additionalItems": false}},
        "dependencies": {"t": ["u"]}, "definitions": {"u": {"type": "integer"}}});
    let nineteen = json!({"$schema": "https://json-schema.org/draft/2019-09/schema", "type": "object",
        "properties": {"t": {"type": "array", "items": [{"type": "string"}], "additionalItems": false}},
        "dependentRequired": {"t": ["u"]}, "definitions": {"u": {"type": "integer"}}});
    let twenty = json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
        "properties": {"t": {"type": "array", "prefixItems": [{"type": "string"}], "items": false}},
        "dependentRequired": {"t": ["u"]}, "definitions": {"u": {"type": "integer"}}});
    for reader in [&seven, &nineteen, &twenty] {
        for writer in [&seven, &nineteen, &twenty] {
            assert!(
                reads_json(reader.clone(), writer.clone()).is_compatible(),
                "{reader} {writer}"
            );
        }
    }
}

#[test]
fn recursive_schemas_and_references_are_followed() {
    let tree = |leaf: Value| {
        json!({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {
            "leaf": leaf, "kids": {"type": "array", "items": {"$ref": "#/$defs/node"}}}}}})
    };
    let (number, integer) = (tree(json!({"type": "number"})), tree(json!({"type": "integer"})));
    assert!(reads_json(number.clone(), integer.clone()).is_compatible());
    assert!(reads_json(integer, number).is_breaking());
    let own = |leaf: Value| json!({"type": "object", "properties": {"leaf": leaf, "next": {"$ref": "#"}}});
    let (number, integer) = (own(json!({"type": "number"})), own(json!({"type": "integer"})));
    assert!(reads_json(number.clone(), integer.clone()).is_compatible());
    assert!(reads_json(integer, number).is_breaking());
}

/// A definition that is a branch of `oneOf` here and a property there cannot be closed in words: it would
/// let values through, or refuse some, that the check on write treats otherwise.
#[test]
fn closing_in_words_never_refuses_what_the_check_on_write_lets_through() {
    let writer = json!({
        "$defs": {"a": {"type": "object", "properties": {"x": {"type": "integer"}}}},
        "type": "object",
        "properties": {"k": {"$ref": "#/$defs/a"}, "y": {"type": "string"}},
        "oneOf": [{"$ref": "#/$defs/a"}, {"required": ["never"], "properties": {"never": true}}]
    });
    let reader = json!({"type": "object", "properties": {"x": {"type": "integer"}},
        "required": ["y"]});
    let found = reads_json(reader.clone(), writer.clone());
    assert!(!found.is_compatible());
}

#[test]
fn what_nobody_can_prove_is_said_to_be_unproven() {
    let old = json!({"type": "object", "properties": {"s": {"type": "string", "pattern": "^(ab|cd){3}e$"}}});
    let new = json!({"type": "object", "properties": {"s": {"type": "string", "pattern": "^[abcd]{6}e$"}}});
    let found = reads_json(new, old);
    // True, but no part of ours can see through two regular expressions.
    if !found.is_compatible() {
        assert!(!found.is_breaking(), "{found:?}");
        assert_eq!(found.differences[0].weight, Weight::Unproven);
    }
}
