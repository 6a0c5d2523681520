//! Any draft as draft 2020-12, so that two texts can be compared.
//!
//! Only what is written differently is written anew; references keep their targets. A text with
//! `$id` below its root, anchors or dynamic references stays as it is: the walk does not follow
//! those, and the sets know them.

use jsonschema::Draft;
use serde_json::{Map, Value, json};

/// Where the root goes if something refers to it: two documents cannot both be `#`.
const ROOT: &str = "meshlog:root";

/// The same schema in draft 2020-12.
pub(super) fn lift(document: Value, draft: Draft) -> Value {
    let mut document = match draft {
        Draft::Draft7 | Draft::Draft201909 => keywords(document, draft == Draft::Draft7),
        _ => document,
    };
    if let Value::Object(members) = &mut document {
        members.remove("$schema");
        // Nothing refers to it: references to other documents are refused.
        if !has_anchors(&Value::Object(members.clone())) {
            members.remove("$id");
            if refers_to_root(&Value::Object(members.clone())) {
                return move_root(std::mem::take(members));
            }
        }
    }
    document
}

fn keywords(schema: Value, is_seven: bool) -> Value {
    let Value::Object(members) = schema else { return schema };
    if is_seven && members.contains_key("$ref") {
        // In draft 7 a reference replaces everything beside it.
        let keep = ["$ref", "definitions", "$defs"];
        let kept = members.into_iter().filter(|(name, _)| keep.contains(&name.as_str()));
        return Value::Object(kept.map(|(name, value)| below(name, value, is_seven)).collect());
    }
    let mut lifted = Map::new();
    let is_tuple = members.get("items").is_some_and(Value::is_array);
    for (name, value) in members {
        match name.as_str() {
            "items" if is_tuple => {
                lifted.insert("prefixItems".to_owned(), list(value, is_seven));
            }
            "additionalItems" if is_tuple => {
                lifted.insert("items".to_owned(), keywords(value, is_seven));
            }
            "additionalItems" => {}
            "dependencies" => {
                let Value::Object(dependencies) = value else { continue };
                let (mut required, mut schemas) = (Map::new(), Map::new());
                for (property, one) in dependencies {
                    match one {
                        Value::Array(_) => required.insert(property, one),
                        one => schemas.insert(property, keywords(one, is_seven)),
                    };
                }
                if !required.is_empty() {
                    lifted.insert("dependentRequired".to_owned(), Value::Object(required));
                }
                if !schemas.is_empty() {
                    lifted.insert("dependentSchemas".to_owned(), Value::Object(schemas));
                }
            }
            _ => {
                let (name, value) = below(name, value, is_seven);
                lifted.insert(name, value);
            }
        }
    }
    Value::Object(lifted)
}

fn list(value: Value, is_seven: bool) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(|item| keywords(item, is_seven)).collect(),
        other => other,
    }
}

fn below(name: String, value: Value, is_seven: bool) -> (String, Value) {
    let value = match (name.as_str(), value) {
        (
            "properties" | "patternProperties" | "dependentSchemas" | "definitions" | "$defs",
            Value::Object(members),
        ) => members.into_iter().map(|(name, one)| (name, keywords(one, is_seven))).collect(),
        ("allOf" | "anyOf" | "oneOf", value) => list(value, is_seven),
        (
            "not"
            | "if"
            | "then"
            | "else"
            | "items"
            | "contains"
            | "additionalProperties"
            | "propertyNames"
            | "unevaluatedProperties"
            | "unevaluatedItems",
            value,
        ) => keywords(value, is_seven),
        (_, value) => value,
    };
    (name, value)
}

/// Whether the text names places in another way than by where they stand.
pub(super) fn has_anchors(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => members.iter().any(|(name, value)| match name.as_str() {
            "$anchor" | "$dynamicAnchor" | "$dynamicRef" | "$recursiveRef" | "$recursiveAnchor" => {
                true
            }
            "const" | "enum" | "default" | "examples" => false,
            "$ref" => value.as_str().is_some_and(|target| !target.starts_with('#')),
            _ => has_anchors(value) || value.get("$id").is_some_and(Value::is_string),
        }),
        Value::Array(items) => items
            .iter()
            .any(|item| has_anchors(item) || item.get("$id").is_some_and(Value::is_string)),
        _ => false,
    }
}

fn refers_to_root(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => {
            members.iter().any(|(name, value)| match (name.as_str(), value) {
                ("const" | "enum" | "default" | "examples", _) => false,
                ("$ref", Value::String(target)) => !is_definition(target),
                (_, value) => refers_to_root(value),
            })
        }
        Value::Array(items) => items.iter().any(refers_to_root),
        _ => false,
    }
}

fn is_definition(target: &str) -> bool {
    ["#/$defs/", "#/definitions/"].iter().any(|place| target.starts_with(place))
}

/// The root under a name of its own, and references to it likewise.
fn move_root(mut root: Map<String, Value>) -> Value {
    let mut definitions = Map::new();
    let mut others = Map::new();
    if let Some(Value::Object(defs)) = root.remove("$defs") {
        definitions = defs;
    }
    if let Some(old) = root.remove("definitions") {
        others.insert("definitions".to_owned(), old);
    }
    definitions.insert(ROOT.to_owned(), Value::Object(root));
    let mut document = json!({"$defs": definitions, "$ref": format!("#/$defs/{ROOT}")});
    if let Value::Object(members) = &mut document {
        members.extend(others);
    }
    rename(&mut document);
    document
}

fn rename(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            for (name, value) in members {
                match (name.as_str(), &mut *value) {
                    ("const" | "enum" | "default" | "examples", _) => {}
                    ("$ref", Value::String(target)) if !is_definition(target) => {
                        let rest = target.trim_start_matches('#');
                        *target = format!("#/$defs/{ROOT}{rest}");
                    }
                    _ => rename(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(rename),
        _ => {}
    }
}
