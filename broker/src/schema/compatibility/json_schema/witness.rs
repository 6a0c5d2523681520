//! Values that a schema may accept, to be tried: the smallest and the largest of each kind, each
//! property with each of its values in turn. A guess, not a proof; whoever asks checks each of them.

use regex_syntax::hir::{Class, Hir, HirKind};
use serde_json::{Map, Number, Value, json};

use super::walk::resolve;

/// Most values that are tried.
const MAX_VALUES: usize = 400;
/// Most values of one part.
const MAX_PARTS: usize = 24;
/// Subschemas looked at.
const MAX_STEPS: usize = 20_000;
/// Longest text and array that is made.
const MAX_LENGTH: u64 = 4096;
/// Deepest nesting.
const MAX_DEPTH: usize = 12;

/// Values of a schema, the simple ones first.
pub(super) fn values(schema: &Value) -> Vec<Value> {
    let mut maker = Maker { root: schema, steps: 0 };
    let mut values = maker.values(schema, 0);
    values.truncate(MAX_VALUES);
    values
}

/// Values of the writer's schema that lie where the reader's has its bounds.
pub(super) fn values_against(writer: &Value, reader: &Value) -> Vec<Value> {
    // What the reader wants, taken for what is written: one bound off at a time is what it refuses.
    let mut seeds = Vec::new();
    for one in values(reader) {
        seeds.extend(nudged(&one));
    }
    // Values of the writer with one member of the reader's put in: additions under a name in use.
    let bases = values(writer);
    if let (Some(Value::Object(base)), Some(names)) = (bases.first(), property_names(reader)) {
        for name in names.into_iter().take(64) {
            for odd in [json!(null), json!(0), json!("a"), json!(true), json!({}), json!([])] {
                let mut changed = base.clone();
                changed.insert(name.clone(), odd);
                seeds.push(Value::Object(changed));
            }
        }
    }
    seeds.truncate(MAX_VALUES);
    seeds
}

fn property_names(schema: &Value) -> Option<Vec<String>> {
    let at = match schema.get("$ref").and_then(Value::as_str) {
        Some(target) => resolve(schema, target)?,
        None => schema,
    };
    let names = at.get("properties")?.as_object()?.keys().cloned();
    Some(names.collect())
}

fn nudged(value: &Value) -> Vec<Value> {
    match value {
        Value::Number(number) => match number.as_i64() {
            Some(number) => {
                vec![json!(number.saturating_sub(1)), json!(number.saturating_add(1))]
            }
            None => {
                number.as_f64().map(|x| vec![json!(x - 1.0), json!(x + 0.5)]).unwrap_or_default()
            }
        },
        Value::String(text) => {
            let mut shorter = text.clone();
            shorter.pop();
            vec![json!(shorter), json!(format!("{text}a"))]
        }
        Value::Array(items) => {
            let mut changed = Vec::new();
            if let Some((_, rest)) = items.split_first() {
                changed.push(json!(rest));
            }
            let mut longer = items.clone();
            longer.push(items.first().cloned().unwrap_or(Value::Null));
            changed.push(Value::Array(longer));
            changed
        }
        Value::Object(members) => {
            let mut changed = Vec::new();
            for (name, value) in members {
                let mut without = members.clone();
                without.shift_remove(name);
                changed.push(Value::Object(without));
                for one in nudged(value) {
                    let mut with = members.clone();
                    with.insert(name.clone(), one);
                    changed.push(Value::Object(with));
                }
            }
            changed
        }
        _ => Vec::new(),
    }
}

struct Maker<'a> {
    root: &'a Value,
    steps: usize,
}

impl Maker<'_> {
    fn values(&mut self, schema: &Value, depth: usize) -> Vec<Value> {
        self.steps += 1;
        if depth > MAX_DEPTH || self.steps > MAX_STEPS {
            return Vec::new();
        }
        let members = match schema {
            Value::Bool(true) => return any(),
            Value::Object(members) => members,
            _ => return Vec::new(),
        };
        if let Some(target) = members.get("$ref").and_then(Value::as_str) {
            let Some(target) = resolve(self.root, target) else { return Vec::new() };
            let mut rest = members.clone();
            rest.shift_remove("$ref");
            return self.values(&merged(target, &Value::Object(rest)), depth + 1);
        }
        if let Some(Value::Array(parts)) = members.get("allOf") {
            let mut whole = members.clone();
            whole.shift_remove("allOf");
            let mut whole = Value::Object(whole);
            for part in parts {
                whole = merged(&whole, &self.followed(part));
            }
            return self.values(&whole, depth + 1);
        }
        for keyword in ["anyOf", "oneOf"] {
            if let Some(Value::Array(branches)) = members.get(keyword) {
                let mut rest = members.clone();
                rest.shift_remove(keyword);
                let rest = Value::Object(rest);
                let mut values = Vec::new();
                for branch in branches.iter().take(MAX_PARTS) {
                    let branch = merged(&rest, &self.followed(branch));
                    values.extend(self.values(&branch, depth + 1));
                }
                return values;
            }
        }
        if members.contains_key("if") {
            let mut rest = members.clone();
            for keyword in ["if", "then", "else"] {
                rest.shift_remove(keyword);
            }
            let rest = Value::Object(rest);
            let mut values = self.values(&rest, depth + 1);
            for keyword in ["then", "else", "if"] {
                if let Some(branch) = members.get(keyword) {
                    values.extend(self.values(&merged(&rest, &self.followed(branch)), depth + 1));
                }
            }
            return values;
        }
        if let Some(value) = members.get("const") {
            return vec![value.clone()];
        }
        if let Some(Value::Array(values)) = members.get("enum") {
            return values.clone();
        }
        let mut values = Vec::new();
        for kind in kinds(members) {
            values.extend(self.of_kind(kind, members, depth));
        }
        values
    }

    /// The schema itself, or what it refers to.
    fn followed(&self, schema: &Value) -> Value {
        let mut schema = schema.clone();
        for _ in 0..MAX_DEPTH {
            let Some(target) = schema.get("$ref").and_then(Value::as_str) else { break };
            let Some(target) = resolve(self.root, target).cloned() else { break };
            if let Value::Object(members) = &mut schema {
                members.shift_remove("$ref");
            }
            schema = merged(&target, &schema);
        }
        schema
    }

    fn of_kind(&mut self, kind: &str, members: &Map<String, Value>, depth: usize) -> Vec<Value> {
        match kind {
            "null" => vec![Value::Null],
            "boolean" => vec![json!(true), json!(false)],
            "integer" | "number" => numbers(members, kind == "integer"),
            "string" => texts(members),
            "array" => self.arrays(members, depth),
            _ => self.objects(members, depth),
        }
    }

    fn arrays(&mut self, members: &Map<String, Value>, depth: usize) -> Vec<Value> {
        let count = |keyword: &str| members.get(keyword).and_then(Value::as_u64);
        let prefix = members.get("prefixItems").and_then(Value::as_array);
        let prefix: Vec<Value> = prefix.cloned().unwrap_or_default();
        let items = members.get("items").cloned().unwrap_or(Value::Bool(true));
        let least = count("minItems").unwrap_or(0);
        let most = count("maxItems");
        let first: Vec<Vec<Value>> =
            prefix.iter().take(MAX_PARTS).map(|one| self.values(one, depth + 1)).collect();
        let rest = self.values(&items, depth + 1);
        let of_length = |length: u64, which: usize| -> Option<Value> {
            let mut array = Vec::new();
            for at in 0..length as usize {
                let from = first.get(at).unwrap_or(&rest);
                array.push(from.get((which + at) % from.len().max(1))?.clone());
            }
            Some(Value::Array(array))
        };
        let mut lengths = vec![least, prefix.len() as u64, least + 1, least + 2, most.unwrap_or(3)];
        lengths.retain(|length| *length <= MAX_LENGTH && most.is_none_or(|most| *length <= most));
        lengths.dedup();
        let mut values = Vec::new();
        for length in lengths {
            for which in 0..rest.len().clamp(1, MAX_PARTS) {
                values.extend(of_length(length, which));
            }
            // The same item twice.
            if let (Some(one), true) = (rest.first(), first.is_empty()) {
                values.push(Value::Array(vec![one.clone(); length as usize]));
            }
        }
        if let Some(wanted) = members.get("contains") {
            for one in self.values(wanted, depth + 1).into_iter().take(MAX_PARTS) {
                values.push(json!([one]));
            }
        }
        values.truncate(MAX_VALUES);
        values
    }

    fn objects(&mut self, members: &Map<String, Value>, depth: usize) -> Vec<Value> {
        let empty = Map::new();
        let properties = members.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        let required: Vec<&str> = members
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let rest = members.get("additionalProperties").cloned().unwrap_or(Value::Bool(true));
        let mut base = Map::new();
        for name in &required {
            let schema = properties.get(*name).unwrap_or(&rest);
            let Some(value) = self.values(schema, depth + 1).into_iter().next() else {
                return Vec::new();
            };
            base.insert((*name).to_owned(), value);
        }
        let mut values = vec![Value::Object(base.clone())];
        let mut whole = base.clone();
        for (name, schema) in properties.iter().take(256) {
            let parts = self.values(schema, depth + 1);
            if let (Some(first), false) = (parts.first(), whole.contains_key(name)) {
                whole.insert(name.clone(), first.clone());
            }
            for part in parts.into_iter().take(MAX_PARTS) {
                let mut changed = base.clone();
                changed.insert(name.clone(), part);
                values.push(Value::Object(changed));
            }
        }
        values.push(Value::Object(whole));
        let mut more = vec![("undeclared".to_owned(), rest)];
        if let Some(Value::Object(patterns)) = members.get("patternProperties") {
            for (pattern, schema) in patterns.iter().take(8) {
                for name in [pattern.trim_start_matches('^').trim_end_matches('$'), "a", "x-a", "0"]
                {
                    more.push((name.to_owned(), schema.clone()));
                }
            }
        }
        let least = members.get("minProperties").and_then(Value::as_u64).unwrap_or(0);
        for (name, schema) in more {
            for part in self.values(&schema, depth + 1).into_iter().take(MAX_PARTS) {
                let mut changed = base.clone();
                for extra in changed.len() as u64 + 1..least.min(64) {
                    changed.insert(format!("{name}{extra}"), part.clone());
                }
                changed.insert(name.clone(), part);
                values.push(Value::Object(changed));
            }
        }
        values
    }
}

/// Both at once, roughly: what both say is narrowed by the second, properties are joined.
fn merged(first: &Value, second: &Value) -> Value {
    let (Value::Object(first), Value::Object(second)) = (first, second) else {
        return match (first, second) {
            (Value::Bool(true), other) | (other, Value::Bool(true)) => other.clone(),
            _ => Value::Bool(false),
        };
    };
    let mut merged = first.clone();
    for (name, value) in second {
        let Some(known) = merged.get_mut(name) else {
            merged.insert(name.clone(), value.clone());
            continue;
        };
        match (name.as_str(), known, value) {
            ("properties", Value::Object(known), Value::Object(more)) => {
                for (property, schema) in more {
                    let both = match known.get(property) {
                        Some(known) => json!({"allOf": [known, schema]}),
                        None => schema.clone(),
                    };
                    known.insert(property.clone(), both);
                }
            }
            ("required" | "allOf", Value::Array(known), Value::Array(more)) => {
                known.extend(more.iter().cloned());
            }
            ("minimum" | "minLength" | "minItems" | "minProperties", known, value) => {
                if value.as_f64() > known.as_f64() {
                    *known = value.clone();
                }
            }
            ("maximum" | "maxLength" | "maxItems" | "maxProperties", known, value) => {
                if value.as_f64() < known.as_f64() {
                    *known = value.clone();
                }
            }
            ("enum", Value::Array(known), Value::Array(more)) => {
                known.retain(|one| more.contains(one));
            }
            (_, known, value) => *known = value.clone(),
        }
    }
    Value::Object(merged)
}

fn any() -> Vec<Value> {
    vec![json!(null), json!("a"), json!(0), json!(true), json!({}), json!([]), json!(0.5)]
}

fn kinds(members: &Map<String, Value>) -> Vec<&str> {
    match members.get("type") {
        Some(Value::String(one)) => return vec![one],
        Some(Value::Array(many)) => return many.iter().filter_map(Value::as_str).collect(),
        _ => {}
    }
    let about = |keywords: &[&str]| keywords.iter().any(|keyword| members.contains_key(*keyword));
    let mut kinds = Vec::new();
    // What the keywords speak of first.
    for (kind, keywords) in [
        (
            "object",
            &[
                "properties",
                "required",
                "additionalProperties",
                "minProperties",
                "maxProperties",
                "patternProperties",
                "propertyNames",
            ][..],
        ),
        ("array", &["items", "prefixItems", "minItems", "maxItems", "contains", "uniqueItems"]),
        ("string", &["minLength", "maxLength", "pattern", "format"]),
        ("number", &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]),
    ] {
        if about(keywords) {
            kinds.push(kind);
        }
    }
    for kind in ["null", "boolean", "integer", "number", "string", "array", "object"] {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}

fn numbers(members: &Map<String, Value>, is_integer: bool) -> Vec<Value> {
    let bound = |keyword: &str| members.get(keyword).and_then(Value::as_f64);
    let mut numbers = vec![0.0, 1.0, -1.0, 10.0, 100.0, 1e9, -1e9];
    if !is_integer {
        numbers.extend([0.5, -0.5, 1.25]);
    }
    for keyword in ["minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"] {
        if let Some(bound) = bound(keyword) {
            numbers.extend([bound, bound + 1.0, bound - 1.0]);
            if !is_integer {
                numbers.extend([bound + 0.5, bound - 0.5]);
            }
        }
    }
    if let Some(step) = bound("multipleOf") {
        let around = |x: f64| (x / step).ceil() * step;
        let near: Vec<f64> = numbers.iter().map(|number| around(*number)).collect();
        numbers.extend(near);
        numbers.extend([step, 2.0 * step, 3.0 * step, -step]);
    }
    // What the schema takes first: an object is begun with the first value of each property.
    let is_within = |number: f64| {
        bound("minimum").is_none_or(|least| number >= least)
            && bound("maximum").is_none_or(|most| number <= most)
            && bound("exclusiveMinimum").is_none_or(|least| number > least)
            && bound("exclusiveMaximum").is_none_or(|most| number < most)
            && bound("multipleOf").is_none_or(|step| (number / step).fract() == 0.0)
    };
    numbers.sort_by_key(|number| !is_within(*number));
    let whole = |number: f64| number.fract() == 0.0 && number.abs() < 9e15;
    let numbers = numbers.into_iter().filter(|number| !is_integer || whole(*number));
    let value = |number: f64| match whole(number) {
        true => Some(Value::Number((number as i64).into())),
        false => Number::from_f64(number).map(Value::Number),
    };
    numbers.filter_map(value).collect()
}

fn texts(members: &Map<String, Value>) -> Vec<Value> {
    let count = |keyword: &str| members.get(keyword).and_then(Value::as_u64);
    let mut texts: Vec<String> = Vec::new();
    if let Some(format) = members.get("format").and_then(Value::as_str) {
        let example = match format {
            "date-time" => "2024-02-29T12:00:00Z",
            "date" => "2024-02-29",
            "time" => "12:00:00Z",
            "duration" => "P1D",
            "email" | "idn-email" => "a@example.org",
            "uuid" => "123e4567-e89b-12d3-a456-426614174000",
            "uri" | "iri" | "uri-reference" | "iri-reference" => "https://example.org/a",
            "ipv4" => "192.0.2.1",
            "ipv6" => "2001:db8::1",
            "hostname" | "idn-hostname" => "example.org",
            _ => "a",
        };
        texts.push(example.to_owned());
    }
    let least = count("minLength").unwrap_or(0);
    let mut lengths = vec![least, least + 1, 1, 3, 8, 40];
    lengths.extend(count("maxLength"));
    for length in lengths {
        if length <= MAX_LENGTH {
            texts.push("a".repeat(length as usize));
        }
    }
    for text in
        ["A", "1", "ABC", "123", "a1", "A1", "a-b", "a b", "x-a", "AB-12", "2024-02-29", "é"]
    {
        texts.push(text.to_owned());
    }
    if let Some(pattern) = members.get("pattern").and_then(Value::as_str) {
        // Before all others: where there is a pattern, they seldom match it.
        texts.splice(0..0, matching(pattern, least));
    }
    let most = count("maxLength").unwrap_or(u64::MAX);
    texts.sort_by_key(|text| !(least..=most).contains(&(text.chars().count() as u64)));
    texts.into_iter().map(Value::String).collect()
}

/// Short texts that match a regular expression, if it is a plain one; of at least some length, if that
/// is a matter of repeating.
fn matching(pattern: &str, least: u64) -> Vec<String> {
    let Ok(parsed) = regex_syntax::parse(pattern) else { return Vec::new() };
    let mut texts = Vec::new();
    for more in [0, least.min(64) as u32, 1] {
        let mut text = String::new();
        sample(&parsed, more, 0, &mut text);
        texts.push(text);
    }
    texts
}

/// One text: of each class its first letter, of each choice its first branch, repeated as seldom as
/// allowed and `more` times.
fn sample(pattern: &Hir, more: u32, depth: usize, text: &mut String) {
    if depth > 64 || text.len() as u64 > MAX_LENGTH {
        return;
    }
    match pattern.kind() {
        HirKind::Literal(literal) => text.push_str(&String::from_utf8_lossy(&literal.0)),
        HirKind::Class(Class::Unicode(class)) => {
            // Letters and digits before control characters.
            let starts = class.ranges().iter().map(|range| match range {
                range if range.start() <= 'a' && 'a' <= range.end() => 'a',
                range => range.start(),
            });
            text.extend(starts.max_by_key(|letter| letter.is_ascii_alphanumeric()));
        }
        HirKind::Class(Class::Bytes(class)) => {
            text.extend(class.ranges().first().map(|range| char::from(range.start())));
        }
        HirKind::Repetition(repetition) => {
            let most = repetition.max.unwrap_or(u32::MAX);
            for _ in 0..repetition.min.saturating_add(more).min(most).min(256) {
                sample(&repetition.sub, 0, depth + 1, text);
            }
        }
        HirKind::Capture(capture) => sample(&capture.sub, more, depth + 1, text),
        HirKind::Concat(parts) => {
            parts.iter().for_each(|part| sample(part, more, depth + 1, text));
        }
        HirKind::Alternation(branches) => {
            if let Some(first) = branches.first() {
                sample(first, more, depth + 1, text);
            }
        }
        HirKind::Empty | HirKind::Look(_) => {}
    }
}
