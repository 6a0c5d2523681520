//! Avro schemas.

use std::collections::HashMap;

use serde_json::Value;

use super::compatibility::AvroTypes;
use super::{Field, MAX_DEPTH, MAX_FIELDS, Malformed, json_text};

/// The Parsing Canonical Form.
pub(super) fn canonical(text: &str) -> Result<String, Malformed> {
    let document = document(text)?;
    apache_avro::Schema::parse(&document)
        .map(|schema| schema.canonical_form())
        .map_err(|error| Malformed::whole(format!("not an Avro schema: {error}")))
}

/// Two texts that differ only in how the JSON is laid out.
pub(super) fn same_text(left: &str, right: &str) -> bool {
    matches!((document(left), document(right)), (Ok(left), Ok(right)) if left == right)
}

/// The fields of a record schema; none for other schemas.
pub(super) fn fields(text: &str) -> Result<Vec<Field>, Malformed> {
    let document = document(text)?;
    let mut walk = Walk::default();
    walk.names(&document, "");
    walk.schema(&document, "", "", &mut Vec::new());
    Ok(walk.rows)
}

/// The schema with its names resolved; `None` if the text is no longer accepted.
pub(super) fn types(text: &str) -> Option<AvroTypes> {
    AvroTypes::of(&document(text).ok()?)
}

fn document(text: &str) -> Result<Value, Malformed> {
    json_text::read(text.as_bytes(), MAX_DEPTH).map_err(|error| {
        let at = format!("line {} column {}", error.line(), error.column());
        Malformed::new(at, format!("not JSON that can be used: {}", plain(&error)))
    })
}

/// The parser's words without the position, which is said already.
pub(super) fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

#[derive(Default)]
struct Walk<'a> {
    named: HashMap<String, (&'a Value, String)>,
    rows: Vec<Field>,
}

impl<'a> Walk<'a> {
    /// Collects the definitions of named types under their full names.
    fn names(&mut self, schema: &'a Value, namespace: &str) {
        match schema {
            Value::Array(branches) => branches.iter().for_each(|one| self.names(one, namespace)),
            Value::Object(members) => {
                let full = members.get("name").and_then(Value::as_str).map(|name| {
                    let namespace = members.get("namespace").and_then(Value::as_str);
                    (name, full_name(name, namespace.unwrap_or_default()))
                });
                let kind = members.get("type").and_then(Value::as_str).unwrap_or_default();
                let named = matches!(kind, "record" | "error" | "enum" | "fixed");
                let mut inner = namespace.to_owned();
                if let (true, Some((short, in_own))) = (named, full) {
                    let full = match members.contains_key("namespace") || short.contains('.') {
                        true => in_own,
                        false => full_name(short, namespace),
                    };
                    inner = full.rsplit_once('.').map_or("", |(space, _)| space).to_owned();
                    self.named.insert(full, (schema, namespace.to_owned()));
                }
                if let Some(fields) = members.get("fields").and_then(Value::as_array) {
                    fields.iter().filter_map(|f| f.get("type")).for_each(|f| self.names(f, &inner));
                }
                for key in ["type", "items", "values"] {
                    if let Some(one @ (Value::Object(_) | Value::Array(_))) = members.get(key) {
                        self.names(one, &inner);
                    }
                }
            }
            _ => {}
        }
    }

    fn schema(
        &mut self,
        schema: &'a Value,
        path: &str,
        namespace: &str,
        open: &mut Vec<&'a Value>,
    ) {
        match schema {
            Value::Array(branches) => {
                for branch in branches {
                    self.schema(branch, path, namespace, open);
                }
            }
            Value::String(name) => {
                let found = [full_name(name, namespace), name.clone()]
                    .into_iter()
                    .find_map(|full| self.named.get(&full).cloned());
                if let Some((definition, namespace)) = found {
                    self.schema(definition, path, &namespace, open);
                }
            }
            Value::Object(members) => match members.get("type") {
                Some(Value::String(kind)) if kind == "record" || kind == "error" => {
                    if open.iter().any(|one| std::ptr::eq(*one, schema)) || open.len() >= MAX_DEPTH
                    {
                        return;
                    }
                    open.push(schema);
                    let name = members.get("name").and_then(Value::as_str).unwrap_or_default();
                    let own = members.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
                    let full = full_name(name, own);
                    let inner = full.rsplit_once('.').map_or("", |(space, _)| space);
                    for field in
                        members.get("fields").and_then(Value::as_array).into_iter().flatten()
                    {
                        self.field(field, path, inner, open);
                    }
                    open.pop();
                }
                Some(Value::String(kind)) if kind == "array" => {
                    if let Some(items) = members.get("items") {
                        self.schema(items, &format!("{path}[]"), namespace, open);
                    }
                }
                Some(inner @ (Value::Object(_) | Value::Array(_))) => {
                    self.schema(inner, path, namespace, open);
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn field(&mut self, field: &'a Value, path: &str, namespace: &str, open: &mut Vec<&'a Value>) {
        let (Some(name), Some(schema)) =
            (field.get("name").and_then(Value::as_str), field.get("type"))
        else {
            return;
        };
        if self.rows.len() >= MAX_FIELDS {
            return;
        }
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        self.rows.push(Field {
            path: path.clone(),
            type_name: type_name(schema),
            optional: schema == "null"
                || schema.as_array().is_some_and(|branches| branches.iter().any(|b| b == "null")),
            docs: field.get("doc").and_then(Value::as_str).unwrap_or_default().to_owned(),
        });
        self.schema(schema, &path, namespace, open);
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    match namespace {
        _ if name.contains('.') => name.to_owned(),
        "" => name.to_owned(),
        _ => format!("{namespace}.{name}"),
    }
}

fn type_name(schema: &Value) -> String {
    match schema {
        Value::String(name) => name.clone(),
        Value::Array(branches) => branches.iter().map(type_name).collect::<Vec<_>>().join("|"),
        Value::Object(members) => {
            if let Some(logical) = members.get("logicalType").and_then(Value::as_str) {
                return logical.to_owned();
            }
            match members.get("type") {
                Some(Value::String(kind)) if kind == "array" => {
                    format!("array<{}>", members.get("items").map(type_name).unwrap_or_default())
                }
                Some(Value::String(kind)) if kind == "map" => {
                    format!("map<{}>", members.get("values").map(type_name).unwrap_or_default())
                }
                Some(Value::String(kind)) => match members.get("name").and_then(Value::as_str) {
                    Some(name) => format!("{kind} {name}"),
                    None => kind.clone(),
                },
                Some(inner) => type_name(inner),
                None => String::new(),
            }
        }
        _ => String::new(),
    }
}
