//! The text of a schema with its closed places closed in words.
//!
//! The check on write refuses undeclared properties by places of a value ([`super::shape`]). Here the
//! same is said in JSON Schema, where it can be: at a place that begins with one subschema that stands
//! nowhere else. A place that is left open makes the text allow more than is written, which is safe
//! for everybody who asks whether all that is written can be read.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::shape::Shape;

/// What a closed place lets through: names and patterns.
#[derive(PartialEq, Eq)]
struct Declared {
    names: BTreeSet<String>,
    patterns: BTreeSet<String>,
}

impl Shape {
    /// The document, closed.
    pub(super) fn closed(&self, document: &Value) -> Value {
        let mut closed = document.clone();
        // Under a negation or a condition, closing a definition would change what it decides.
        let mut judged = HashSet::new();
        targets_of_conditions(document, false, &mut judged);
        for (node, declared) in self.closings() {
            let pointer = &self.graph.nodes[node].pointer;
            let touches = |target: &String| {
                let target = target.trim_start_matches('#');
                pointer.starts_with(target) || target.starts_with(pointer.as_str())
            };
            if judged.iter().any(touches) {
                continue;
            }
            if let Some(Value::Object(members)) = closed.pointer_mut(pointer) {
                close(members, declared);
            }
        }
        closed
    }

    /// Subschemas that begin a closed place and speak of no other place in another way.
    fn closings(&self) -> HashMap<usize, Declared> {
        let mut closings: HashMap<usize, Declared> = HashMap::new();
        let mut spoilt = HashSet::new();
        for (number, place) in self.places.iter().enumerate() {
            let start = &self.starts[number];
            let only = match start[..] {
                [only] if place.closed => Some(only),
                _ => None,
            };
            for speaker in self.speakers(number) {
                if Some(*speaker) != only {
                    spoilt.insert(*speaker);
                }
            }
            let Some(only) = only else { continue };
            let declared = Declared {
                names: place.properties.keys().map(|name| name.to_string()).collect(),
                patterns: place.patterns.iter().map(|(p, _)| p.as_str().to_owned()).collect(),
            };
            match closings.get(&only) {
                Some(known) if *known != declared => {
                    spoilt.insert(only);
                }
                Some(_) => {}
                None => {
                    closings.insert(only, declared);
                }
            }
        }
        closings.retain(|node, _| !spoilt.contains(node));
        closings
    }
}

fn close(members: &mut Map<String, Value>, declared: Declared) {
    let own = |keyword: &str| -> BTreeSet<String> {
        let map = members.get(keyword).and_then(Value::as_object);
        map.into_iter().flat_map(Map::keys).cloned().collect()
    };
    if own("properties") == declared.names && own("patternProperties") == declared.patterns {
        members.insert("additionalProperties".to_owned(), Value::Bool(false));
        return;
    }
    let names = json!({"enum": declared.names});
    let names = match declared.patterns.is_empty() {
        true => names,
        false => {
            let patterns = declared.patterns.iter().map(|pattern| json!({"pattern": pattern}));
            let all: Vec<Value> = std::iter::once(names).chain(patterns).collect();
            json!({"anyOf": all})
        }
    };
    match members.get_mut("allOf") {
        Some(Value::Array(all)) => all.push(json!({"propertyNames": names})),
        _ => {
            members.insert("allOf".to_owned(), json!([{"propertyNames": names}]));
        }
    }
}

/// References from within keywords that decide instead of describing.
fn targets_of_conditions(schema: &Value, inside: bool, targets: &mut HashSet<String>) {
    match schema {
        Value::Object(members) => {
            for (name, value) in members {
                let decides = matches!(
                    name.as_str(),
                    "not"
                        | "if"
                        | "contains"
                        | "oneOf"
                        | "propertyNames"
                        | "unevaluatedItems"
                        | "unevaluatedProperties"
                        | "dependentSchemas"
                        | "dependencies"
                );
                match (name.as_str(), value) {
                    ("const" | "enum" | "default" | "examples", _) => {}
                    ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(target)) if inside => {
                        targets.insert(target.clone());
                    }
                    (_, value) => targets_of_conditions(value, inside || decides, targets),
                }
            }
        }
        Value::Array(items) => {
            items.iter().for_each(|item| targets_of_conditions(item, inside, targets));
        }
        _ => {}
    }
}
