//! Two schemas side by side, keyword by keyword: a sound list of reasons why a value that the writer
//! allows might not be allowed by the reader. An empty list is a proof; the rest are places to look.
//!
//! The writer's side is a conjunction of parts (the schema, what it refers to, its `allOf`); the
//! reader's side must follow from it, one assertion after the other. Pairs that are being looked at
//! already hold: a value is finite.

use std::collections::{BTreeSet, HashSet};

use regex::Regex;
use serde_json::{Map, Value};

use super::super::budget::{Budget, TooComplex};
use super::super::difference::{Comparison, cut};
use super::{candidate, lift, sets};

/// Comparisons by sets that one walk may ask for, below its root.
const MAX_ASKED: usize = 8;

/// Most ways in which alternatives of the writer are told apart at one place.
const MAX_SPLITS: usize = 6;

/// Every place where the reader may refuse what the writer allows.
pub(super) fn walk(reader: &Value, writer: &Value) -> Result<Comparison, TooComplex> {
    let mut walk = Walk {
        reader,
        writer,
        same_definitions: definitions(reader) == definitions(writer),
        has_anchors: lift::has_anchors(reader) || lift::has_anchors(writer),
        budget: Budget::default(),
        open: HashSet::new(),
        trail: Vec::new(),
        asked: 0,
    };
    let mut found = Comparison::default();
    walk.schema(reader, &Written::of(writer), "", &mut found)?;
    Ok(found)
}

/// What a reference within the document leads to.
pub(super) fn resolve<'a>(document: &'a Value, target: &str) -> Option<&'a Value> {
    let pointer = target.strip_prefix('#')?;
    if !pointer.is_empty() && !pointer.starts_with('/') {
        return None;
    }
    if pointer.contains('%') {
        return None;
    }
    document.pointer(pointer)
}

fn definitions(document: &Value) -> (Option<&Value>, Option<&Value>) {
    (document.get("$defs"), document.get("definitions"))
}

/// The writer's side of one place: all of these hold.
#[derive(Clone)]
struct Written<'a> {
    schemas: Vec<&'a Value>,
}

impl<'a> Written<'a> {
    fn of(schema: &'a Value) -> Self {
        Self { schemas: vec![schema] }
    }

    fn anything() -> Self {
        Self { schemas: Vec::new() }
    }

    fn key(&self) -> Vec<usize> {
        self.schemas.iter().map(|one| std::ptr::from_ref(*one) as usize).collect()
    }

    /// For people.
    fn word(&self) -> String {
        match &self.schemas[..] {
            [] => "anything".to_owned(),
            [one] => shown(one),
            many => many.iter().map(|one| shown(one)).collect::<Vec<_>>().join(" and "),
        }
    }
}

/// A conjunction without references.
struct Parts<'a> {
    parts: Vec<&'a Map<String, Value>>,
    /// `false` is among them: no value is allowed.
    is_never: bool,
    /// Something could not be followed.
    is_opaque: bool,
    /// Choices that were made: the part, and its keyword.
    chosen: Vec<(usize, &'static str)>,
}

impl<'a> Parts<'a> {
    fn all(&self, keyword: &str) -> impl Iterator<Item = &'a Value> {
        self.parts.iter().filter_map(move |part| part.get(keyword))
    }

    fn says(&self, keyword: &str, value: &Value) -> bool {
        self.all(keyword).any(|one| one == value)
    }

    /// The highest or the lowest number that the parts give.
    fn bound(&self, keyword: &str, highest: bool) -> Option<f64> {
        let bounds = self.all(keyword).filter_map(Value::as_f64);
        match highest {
            true => bounds.reduce(f64::max),
            false => bounds.reduce(f64::min),
        }
    }

    fn kinds(&self) -> Kinds {
        let mut kinds = Kinds::ALL;
        for part in &self.parts {
            if let Some(types) = part.get("type") {
                kinds = kinds.and(Kinds::named(types));
            }
            if let Some(value) = part.get("const") {
                kinds = kinds.and(Kinds::of(value));
            }
            if let Some(Value::Array(values)) = part.get("enum") {
                let of = values.iter().map(Kinds::of).fold(Kinds(0), Kinds::or);
                kinds = kinds.and(of);
            }
        }
        kinds
    }

    /// The values that can occur, if they are listed.
    fn listed(&self) -> Option<Vec<&'a Value>> {
        let mut listed: Option<Vec<&Value>> = None;
        for part in &self.parts {
            let values: Option<Vec<&Value>> = match (part.get("const"), part.get("enum")) {
                (Some(value), _) => Some(vec![value]),
                (None, Some(Value::Array(values))) => Some(values.iter().collect()),
                _ => None,
            };
            if let Some(values) = values {
                listed = Some(match listed {
                    Some(known) => known.into_iter().filter(|one| values.contains(one)).collect(),
                    None => values,
                });
            }
        }
        listed
    }

    fn required(&self) -> HashSet<&'a str> {
        let lists = self.all("required").filter_map(Value::as_array).flatten();
        lists.filter_map(Value::as_str).collect()
    }

    /// Names that the parts mention. Where `propertyNames` lists names, no others are left.
    fn declared(&self) -> BTreeSet<&'a str> {
        let maps = self.all("properties").filter_map(Value::as_object);
        let mut names: BTreeSet<&str> = maps.flat_map(Map::keys).map(String::as_str).collect();
        let listed = self.all("propertyNames").filter_map(|names| names.get("enum"));
        names.extend(listed.filter_map(Value::as_array).flatten().filter_map(Value::as_str));
        names
    }

    /// What is known of a property.
    fn property(&self, name: &str) -> Written<'a> {
        let mut schemas = Vec::new();
        for part in &self.parts {
            let mut is_declared = false;
            if let Some(schema) = part.get("properties").and_then(|all| all.get(name)) {
                schemas.push(schema);
                is_declared = true;
            }
            if let Some(Value::Object(patterns)) = part.get("patternProperties") {
                for (pattern, schema) in patterns {
                    if Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(name)) {
                        schemas.push(schema);
                        is_declared = true;
                    }
                }
            }
            if !is_declared && let Some(schema) = part.get("additionalProperties") {
                schemas.push(schema);
            }
            if allows_name(part.get("propertyNames"), name) == Some(false) {
                schemas.push(&Value::Bool(false));
            }
        }
        Written { schemas }
    }

    /// What is known of properties without a name or a pattern.
    fn rest(&self) -> Written<'a> {
        let mut schemas: Vec<&Value> = self.all("additionalProperties").collect();
        let is_listed = |names: &Value| names.get("enum").is_some();
        if self.all("propertyNames").any(is_listed) {
            schemas.push(&Value::Bool(false));
        }
        Written { schemas }
    }

    fn item(&self, index: usize) -> Written<'a> {
        let schemas = self.parts.iter().filter_map(|part| {
            let prefix = part.get("prefixItems").and_then(Value::as_array);
            prefix.and_then(|prefix| prefix.get(index)).or(part.get("items"))
        });
        Written { schemas: schemas.collect() }
    }

    fn prefix(&self) -> usize {
        let prefixes = self.all("prefixItems").filter_map(Value::as_array);
        prefixes.map(Vec::len).max().unwrap_or(0)
    }
}

/// Addresses of the reader's subschema and of the writer's.
type Pair = (usize, Vec<usize>);

struct Walk<'a> {
    reader: &'a Value,
    writer: &'a Value,
    same_definitions: bool,
    /// Places are named otherwise than by where they stand: parts mean nothing alone.
    has_anchors: bool,
    budget: Budget,
    /// Pairs that hold, or are being looked at.
    open: HashSet<Pair>,
    /// The same in the order in which they came in.
    trail: Vec<Pair>,
    asked: usize,
}

impl<'a> Walk<'a> {
    fn schema(
        &mut self,
        reader: &'a Value,
        written: &Written<'a>,
        path: &str,
        found: &mut Comparison,
    ) -> Result<(), TooComplex> {
        self.budget.spend(1)?;
        if *reader == Value::Bool(true) {
            return Ok(());
        }
        if self.same_definitions && written.schemas.contains(&reader) {
            return Ok(());
        }
        let key = (std::ptr::from_ref(reader) as usize, written.key());
        if self.open.contains(&key) {
            return Ok(());
        }
        self.budget.enter()?;
        let mark = self.trail.len();
        self.open.insert(key.clone());
        self.trail.push(key);
        let mut here = Comparison::default();
        let parts = self.parts(self.writer, &written.schemas)?;
        if !parts.is_never {
            self.against(reader, &parts, path, &mut here)?;
        }
        if !here.is_compatible() && !path.is_empty() && self.sets_agree(reader, written) {
            here = Comparison::default();
        }
        // Only what was proved is remembered: nothing may rest on a pair that does not hold.
        if !here.is_compatible() {
            for pair in self.trail.drain(mark..) {
                self.open.remove(&pair);
            }
        }
        here.differences.into_iter().for_each(|one| found.push(one));
        found.omitted += here.omitted;
        self.budget.leave();
        Ok(())
    }

    /// Whether the sets prove what the walk could not.
    fn sets_agree(&mut self, reader: &Value, written: &Written<'_>) -> bool {
        if self.asked >= MAX_ASKED || self.has_anchors {
            return false;
        }
        self.asked += 1;
        let writer = match &written.schemas[..] {
            [one] => (*one).clone(),
            many => {
                let parts: Vec<Value> = many.iter().map(|one| (*one).clone()).collect();
                serde_json::json!({"allOf": parts})
            }
        };
        let (Some(reader), Some(writer)) =
            (alone(reader, self.reader), alone(&writer, self.writer))
        else {
            return false;
        };
        sets::covers(&reader, &writer).covers == Some(true)
    }

    /// Follows references and `allOf`.
    fn parts(
        &mut self,
        document: &'a Value,
        schemas: &[&'a Value],
    ) -> Result<Parts<'a>, TooComplex> {
        let mut parts =
            Parts { parts: Vec::new(), is_never: false, is_opaque: false, chosen: Vec::new() };
        let mut open: Vec<&'a Value> = schemas.to_vec();
        let mut seen = HashSet::new();
        while let Some(schema) = open.pop() {
            self.budget.spend(1)?;
            match schema {
                Value::Bool(true) => {}
                Value::Bool(false) => parts.is_never = true,
                Value::Object(members) => {
                    if !seen.insert(std::ptr::from_ref(schema) as usize) {
                        continue;
                    }
                    if let Some(target) = members.get("$ref").and_then(Value::as_str) {
                        match resolve(document, target) {
                            Some(target) => open.push(target),
                            None => parts.is_opaque = true,
                        }
                    }
                    if let Some(Value::Array(all)) = members.get("allOf") {
                        open.extend(all);
                    }
                    parts.parts.push(members);
                }
                _ => parts.is_opaque = true,
            }
        }
        Ok(parts)
    }

    /// Tells which assertions of the reader do not follow; alternatives of the writer are taken one
    /// by one if they do not follow from all at once.
    fn against(
        &mut self,
        reader: &'a Value,
        parts: &Parts<'a>,
        path: &str,
        found: &mut Comparison,
    ) -> Result<(), TooComplex> {
        let mut at_once = Comparison::default();
        self.follows(reader, parts, path, &mut at_once)?;
        if at_once.is_compatible() {
            return Ok(());
        }
        let choice = parts.parts.iter().find_map(|part| {
            ["anyOf", "oneOf"].into_iter().find_map(|keyword| {
                let branches = part.get(keyword)?.as_array()?;
                let choice = (std::ptr::from_ref(*part) as usize, keyword);
                (!parts.chosen.contains(&choice)).then_some((choice, branches))
            })
        });
        let Some((choice, branches)) = choice.filter(|_| parts.chosen.len() < MAX_SPLITS) else {
            at_once.differences.into_iter().for_each(|one| found.push(one));
            return Ok(());
        };
        for branch in branches {
            let mut alternative = self.parts(self.writer, &[branch])?;
            // The rest holds as well; this choice is made.
            alternative.is_never |= parts.is_never;
            alternative.is_opaque |= parts.is_opaque;
            alternative.parts.extend(&parts.parts);
            alternative.chosen = [parts.chosen.clone(), vec![choice]].concat();
            if !alternative.is_never && alternative.kinds().0 != 0 {
                self.against(reader, &alternative, path, found)?;
            }
        }
        Ok(())
    }

    fn follows(
        &mut self,
        reader: &'a Value,
        parts: &Parts<'a>,
        path: &str,
        found: &mut Comparison,
    ) -> Result<(), TooComplex> {
        let wanted = self.parts(self.reader, &[reader])?;
        if wanted.is_never {
            found.push(candidate(
                path,
                "JSON_NOTHING_ALLOWED",
                "nothing",
                parts.word(),
                "allow it",
            ));
            return Ok(());
        }
        if wanted.is_opaque || parts.is_opaque {
            found.push(candidate(
                path,
                "JSON_REFERENCE",
                shown(reader),
                parts.word(),
                "only references to places in the same document, `#/$defs/…`, can be compared",
            ));
        }
        if let Some(values) = parts.listed() {
            return self.listed(reader, &wanted, &values, path, found);
        }
        for part in &wanted.parts {
            for (keyword, value) in *part {
                self.budget.spend(1)?;
                self.keyword(keyword, value, part, parts, path, found)?;
            }
        }
        Ok(())
    }

    /// The writer lists its values: each is tried.
    fn listed(
        &mut self,
        reader: &'a Value,
        wanted: &Parts<'a>,
        values: &[&Value],
        path: &str,
        found: &mut Comparison,
    ) -> Result<(), TooComplex> {
        self.budget.spend(values.len())?;
        let Some(validator) = alone(reader, self.reader).and_then(|reader| {
            let options = jsonschema::options().with_draft(jsonschema::Draft::Draft202012);
            options.offline().should_validate_formats(true).build(&reader).ok()
        }) else {
            found.push(candidate(
                path,
                "JSON_UNKNOWN",
                shown(reader),
                "a list of values",
                "simplify",
            ));
            return Ok(());
        };
        let refused: Vec<String> = values
            .iter()
            .filter(|value| !validator.is_valid(value))
            .map(|value| value.to_string())
            .collect();
        if refused.is_empty() {
            return Ok(());
        }
        let allowed = match wanted.listed() {
            Some(allowed) => texts(&allowed),
            None => shown(reader),
        };
        found.push(candidate(
            path,
            "JSON_ENUM_VALUE_REMOVED",
            format!("without {}: {allowed}", refused.join(", ")),
            texts(values),
            "keep the values that were allowed",
        ));
        Ok(())
    }

    #[expect(
        clippy::collapsible_match,
        reason = "a keyword that does not narrow must not fall through to other arms"
    )]
    fn keyword(
        &mut self,
        keyword: &'a str,
        value: &'a Value,
        part: &'a Map<String, Value>,
        parts: &Parts<'a>,
        path: &str,
        found: &mut Comparison,
    ) -> Result<(), TooComplex> {
        let kinds = parts.kinds();
        let narrowed = |rule: &'static str, said: String, hint: &str| {
            candidate(path, rule, format!("{keyword}: {}", shown(value)), said, hint)
        };
        let said = |otherwise: &str| match parts.all(keyword).next() {
            Some(said) => format!("{keyword}: {}", shown(said)),
            None => otherwise.to_owned(),
        };
        match keyword {
            "type" => {
                let allowed = Kinds::named(value);
                if !allowed.holds(kinds) {
                    found.push(candidate(
                        path,
                        "JSON_TYPE_NARROWED",
                        shown(value),
                        kinds.word(),
                        "allow the old type too: `\"type\": [old, new]`",
                    ));
                }
            }
            "const" | "enum" => {
                let (rule, hint) = ("JSON_ENUM_ADDED", "leave values free that were free");
                // The writer does not list its values; only booleans and null are few.
                if !parts.says(keyword, value) {
                    found.push(narrowed(rule, said(&kinds.word()), hint));
                }
            }
            "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum" | "multipleOf" => {
                if kinds.has(Kinds::NUMBER) && !number_follows(keyword, value, parts) {
                    let hint = "keep the range as wide as it was";
                    found.push(narrowed("JSON_RANGE_NARROWED", said("no bound"), hint));
                }
            }
            "minLength" | "minItems" | "minProperties" | "minContains" => {
                let about = kind_of(keyword);
                let least = match keyword {
                    "minProperties" => {
                        let required = parts.required().len() as f64;
                        Some(
                            parts
                                .bound(keyword, true)
                                .map_or(required, |least| least.max(required)),
                        )
                    }
                    _ => parts.bound(keyword, true),
                };
                let wanted = value.as_f64().unwrap_or(0.0);
                if kinds.has(about) && wanted > 0.0 && least.is_none_or(|least| least < wanted) {
                    let hint = "keep the lower bound";
                    found.push(narrowed("JSON_SIZE_NARROWED", said("no lower bound"), hint));
                }
            }
            "maxLength" | "maxItems" | "maxProperties" | "maxContains" => {
                let most = parts.bound(keyword, false);
                let wanted = value.as_f64().unwrap_or(0.0);
                if kinds.has(kind_of(keyword)) && most.is_none_or(|most| most > wanted) {
                    let hint = "keep the upper bound";
                    found.push(narrowed("JSON_SIZE_NARROWED", said("no upper bound"), hint));
                }
            }
            "pattern" | "format" | "contentEncoding" | "contentMediaType" => {
                if keyword.starts_with("content") {
                    // An annotation.
                } else if kinds.has(Kinds::STRING) && !parts.says(keyword, value) {
                    let rule = if keyword == "pattern" {
                        "JSON_PATTERN_CHANGED"
                    } else {
                        "JSON_FORMAT_CHANGED"
                    };
                    found.push(narrowed(rule, said("any text"), "keep it, or leave it out"));
                }
            }
            "uniqueItems" => {
                if *value == Value::Bool(true)
                    && kinds.has(Kinds::ARRAY)
                    && !parts.says(keyword, value)
                {
                    let hint = "let items repeat, as they could";
                    found.push(narrowed("JSON_UNIQUE_ITEMS_ADDED", said("items may repeat"), hint));
                }
            }
            "required" if kinds.has(Kinds::OBJECT) => {
                let given = parts.required();
                for name in value.as_array().into_iter().flatten().filter_map(Value::as_str) {
                    if !given.contains(name) {
                        let inner = below(path, name);
                        let property = parts.property(name);
                        let never = self.parts(self.writer, &property.schemas)?.is_never;
                        let said = match parts.declared().contains(name) {
                            _ if never => "not written".to_owned(),
                            true => "optional".to_owned(),
                            false => "not declared".to_owned(),
                        };
                        found.push(candidate(
                            &inner,
                            "JSON_PROPERTY_REQUIRED",
                            "required",
                            said,
                            format!(
                                "leave `{name}` out of `required`: what was written before lacks it"
                            ),
                        ));
                    }
                }
            }
            "properties" if kinds.has(Kinds::OBJECT) => {
                for (name, inner) in value.as_object().into_iter().flatten() {
                    let written = parts.property(name);
                    let at = below(path, name);
                    if written.schemas.is_empty() && !is_anything(inner) {
                        found.push(candidate(
                            &at,
                            "JSON_PROPERTY_ADDED_TO_OPEN_MODEL",
                            shown(inner),
                            "anything: the writer's schema lets undeclared properties through",
                            "undeclared values under this name may be in the log; enforcement on write \
                             would keep them out",
                        ));
                        continue;
                    }
                    self.schema(inner, &written, &at, found)?;
                }
            }
            "patternProperties" if kinds.has(Kinds::OBJECT) => {
                self.patterns(value, parts, path, found)?;
            }
            "additionalProperties" if kinds.has(Kinds::OBJECT) => {
                self.additional(value, part, parts, path, found)?;
            }
            "propertyNames" if kinds.has(Kinds::OBJECT) => {
                let is_closed = parts.rest().schemas.contains(&&Value::Bool(false));
                let fits = |name: &str| allows_name(Some(value), name) == Some(true);
                let are_listed = is_closed
                    && value.get("enum").is_some()
                    && parts.declared().into_iter().all(fits);
                if !parts.says(keyword, value) && !are_listed {
                    let hint = "let names through that were allowed";
                    found.push(narrowed("JSON_PROPERTY_NAMES", said("any name"), hint));
                }
            }
            "items" | "prefixItems" if kinds.has(Kinds::ARRAY) => {
                self.items(keyword, value, part, parts, path, found)?;
            }
            "anyOf" => self.any_of(value, parts, path, found)?,
            "oneOf" => self.one_of(value, parts, path, found)?,
            "not"
            | "contains"
            | "dependentRequired"
            | "dependentSchemas"
            | "unevaluatedItems"
            | "unevaluatedProperties"
            | "if"
            | "$dynamicRef" => {
                let same_family = parts.parts.iter().any(|other| match keyword {
                    "if" => ["if", "then", "else"].iter().all(|k| other.get(*k) == part.get(*k)),
                    "contains" => ["contains", "minContains", "maxContains"]
                        .iter()
                        .all(|k| other.get(*k) == part.get(*k)),
                    // What is left over depends on everything beside it.
                    "unevaluatedItems" | "unevaluatedProperties" | "$dynamicRef" => *other == part,
                    _ => other.get(keyword) == Some(value),
                });
                if !(same_family && self.same_definitions) {
                    let hint = "only the same words can be compared here; simplify the schema";
                    found.push(narrowed("JSON_CONDITION_CHANGED", said("no such condition"), hint));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn patterns(
        &mut self,
        value: &'a Value,
        parts: &Parts<'a>,
        path: &str,
        found: &mut Comparison,
    ) -> Result<(), TooComplex> {
        for (pattern, inner) in value.as_object().into_iter().flatten() {
            let Ok(regex) = Regex::new(pattern) else { continue };
            for name in parts.declared().into_iter().filter(|name| regex.is_match(name)) {
                self.schema(inner, &parts.property(name), &below(path, name), found)?;
            }
            let same = parts
                .all("patternProperties")
                .filter_map(|all| all.get(pattern))
                .collect::<Vec<_>>();
            let written = match same.is_empty() {
                true => parts.rest(),
                false => Written { schemas: same },
            };
            let others = parts.all("patternProperties").filter_map(Value::as_object);
            let is_alone = others.flat_map(Map::keys).all(|other| other == pattern);
            let at = below(path, &format!("/{pattern}/"));
            if written.schemas.is_empty() && !is_anything(inner) || !is_alone && !is_anything(inner)
            {
                found.push(candidate(
                    &at,
                    "JSON_PATTERN_PROPERTIES",
                    shown(inner),
                    "other patterns, or anything",
                    "keep the patterns",
                ));
                continue;
            }
            self.schema(inner, &written, &at, found)?;
        }
        Ok(())
    }

    fn additional(
        &mut self,
        value: &'a Value,
        part: &'a Map<String, Value>,
        parts: &Parts<'a>,
        path: &str,
        found: &mut Comparison,
    ) -> Result<(), TooComplex> {
        let known = part.get("properties").and_then(Value::as_object);
        let patterns: Vec<Regex> = part
            .get("patternProperties")
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(Map::keys)
            .filter_map(|pattern| Regex::new(pattern).ok())
            .collect();
        for name in parts.declared() {
            let covered = known.is_some_and(|known| known.contains_key(name))
                || patterns.iter().any(|pattern| pattern.is_match(name));
            if covered {
                continue;
            }
            let at = below(path, name);
            let written = parts.property(name);
            if *value == Value::Bool(false) {
                if !self.parts(self.writer, &written.schemas)?.is_never {
                    found.push(candidate(
                        &at,
                        "JSON_PROPERTY_REMOVED_FROM_CLOSED_MODEL",
                        "additionalProperties: false",
                        written.word(),
                        format!(
                            "go on declaring `{name}`, for instance as deprecated, or leave out \
                             `additionalProperties`: the broker refuses undeclared properties anyway"
                        ),
                    ));
                }
                continue;
            }
            self.schema(value, &written, &at, found)?;
        }
        let theirs = parts.all("patternProperties").filter_map(Value::as_object);
        let ours = part.get("patternProperties").and_then(Value::as_object);
        let unmatched = theirs
            .flat_map(Map::keys)
            .any(|pattern| !ours.is_some_and(|ours| ours.contains_key(pattern)));
        let rest = parts.rest();
        if rest.schemas.is_empty() && !is_anything(value)
            || unmatched && *value != Value::Bool(true)
        {
            found.push(candidate(
                path,
                "JSON_ADDITIONAL_PROPERTIES_NARROWED",
                format!("additionalProperties: {}", shown(value)),
                "undeclared properties of any kind",
                "let undeclared properties through as before; readers ignore what they do not know",
            ));
            return Ok(());
        }
        self.schema(value, &rest, &below(path, "*"), found)
    }

    fn items(
        &mut self,
        keyword: &str,
        value: &'a Value,
        part: &'a Map<String, Value>,
        parts: &Parts<'a>,
        path: &str,
        found: &mut Comparison,
    ) -> Result<(), TooComplex> {
        let at = format!("{path}[]");
        let most = parts.bound("maxItems", false);
        let reachable = |index: usize| most.is_none_or(|most| (index as f64) < most);
        if keyword == "prefixItems" {
            for (index, inner) in value.as_array().into_iter().flatten().enumerate() {
                if reachable(index) {
                    self.item(inner, &parts.item(index), &format!("{path}[{index}]"), found)?;
                }
            }
            return Ok(());
        }
        let own = part.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len);
        for index in own..parts.prefix().max(own) {
            if reachable(index) {
                self.item(value, &parts.item(index), &format!("{path}[{index}]"), found)?;
            }
        }
        let beyond = parts.prefix().max(own);
        if reachable(beyond) {
            self.item(value, &parts.item(beyond), &at, found)?;
        }
        Ok(())
    }

    fn item(
        &mut self,
        reader: &'a Value,
        written: &Written<'a>,
        path: &str,
        found: &mut Comparison,
    ) -> Result<(), TooComplex> {
        if written.schemas.is_empty() && !is_anything(reader) {
            found.push(candidate(
                path,
                "JSON_ITEMS_NARROWED",
                shown(reader),
                Written::anything().word(),
                "let items through that were allowed",
            ));
            return Ok(());
        }
        self.schema(reader, written, path, found)
    }

    /// One branch must hold by itself.
    fn any_of(
        &mut self,
        value: &'a Value,
        parts: &Parts<'a>,
        path: &str,
        found: &mut Comparison,
    ) -> Result<(), TooComplex> {
        if self.same_definitions && parts.says("anyOf", value) {
            return Ok(());
        }
        let branches = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let mut closest: Option<Comparison> = None;
        for branch in branches {
            let mut tried = Comparison::default();
            self.budget.enter()?;
            self.follows(branch, parts, path, &mut tried)?;
            self.budget.leave();
            if tried.is_compatible() {
                return Ok(());
            }
            let wrong_kind = tried
                .differences
                .iter()
                .any(|one| one.path == path && one.rule == "JSON_TYPE_NARROWED");
            let better = closest
                .as_ref()
                .is_none_or(|known| tried.differences.len() < known.differences.len());
            if !wrong_kind && better {
                closest = Some(tried);
            }
        }
        match closest {
            Some(closest) => closest.differences.into_iter().for_each(|one| found.push(one)),
            None => found.push(candidate(
                path,
                "JSON_ALTERNATIVE_REMOVED",
                format!("one of {} alternatives: {}", branches.len(), shown(value)),
                parts.word(),
                "keep an alternative for what was allowed",
            )),
        }
        Ok(())
    }

    /// Exactly one branch must hold: provable if the branches exclude one another by type.
    fn one_of(
        &mut self,
        value: &'a Value,
        parts: &Parts<'a>,
        path: &str,
        found: &mut Comparison,
    ) -> Result<(), TooComplex> {
        if self.same_definitions && parts.says("oneOf", value) {
            return Ok(());
        }
        let branches = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let mut taken = Kinds(0);
        let mut exclude = true;
        for branch in branches {
            let kinds = self.parts(self.reader, &[branch])?.kinds();
            exclude &= taken.and(kinds).0 == 0;
            taken = taken.or(kinds);
        }
        if exclude || branches.len() == 1 {
            return self.any_of(value, parts, path, found);
        }
        found.push(candidate(
            path,
            "JSON_ONE_OF_CHANGED",
            format!("exactly one of {}", shown(value)),
            parts.word(),
            "make the alternatives exclude one another by `type` or by a `const` property, or use `anyOf`",
        ));
        Ok(())
    }
}

impl Parts<'_> {
    /// For people.
    fn word(&self) -> String {
        match &self.parts[..] {
            [] => "anything".to_owned(),
            parts => {
                let words: Vec<String> = parts
                    .iter()
                    .take(4)
                    .map(|part| shown(&Value::Object((*part).clone())))
                    .collect();
                words.join(" and ")
            }
        }
    }
}

fn number_follows(keyword: &str, value: &Value, parts: &Parts<'_>) -> bool {
    let Some(wanted) = value.as_f64() else { return parts.says(keyword, value) };
    let (least, above) = (parts.bound("minimum", true), parts.bound("exclusiveMinimum", true));
    let (most, under) = (parts.bound("maximum", false), parts.bound("exclusiveMaximum", false));
    match keyword {
        "minimum" => least.is_some_and(|x| x >= wanted) || above.is_some_and(|x| x >= wanted),
        "exclusiveMinimum" => {
            least.is_some_and(|x| x > wanted) || above.is_some_and(|x| x >= wanted)
        }
        "maximum" => most.is_some_and(|x| x <= wanted) || under.is_some_and(|x| x <= wanted),
        "exclusiveMaximum" => {
            most.is_some_and(|x| x < wanted) || under.is_some_and(|x| x <= wanted)
        }
        _ => {
            let steps = parts.all("multipleOf").filter_map(Value::as_f64);
            let only_whole = !parts.kinds().has(Kinds(Kinds::FRACTION));
            steps.into_iter().any(|step| (step / wanted).fract() == 0.0)
                || only_whole && (1.0 / wanted).fract() == 0.0
        }
    }
}

fn kind_of(keyword: &str) -> Kinds {
    match keyword {
        "minLength" | "maxLength" => Kinds::STRING,
        "minProperties" | "maxProperties" => Kinds::OBJECT,
        _ => Kinds::ARRAY,
    }
}

/// Whether `propertyNames` lets a name through; `None`: it says so in words not understood here.
fn allows_name(names: Option<&Value>, name: &str) -> Option<bool> {
    let Some(names) = names else { return Some(true) };
    let listed = names.get("enum").and_then(Value::as_array)?;
    Some(listed.iter().any(|one| one.as_str() == Some(name)))
}

fn is_anything(schema: &Value) -> bool {
    match schema {
        Value::Bool(anything) => *anything,
        Value::Object(members) => members.keys().all(|keyword| {
            matches!(
                keyword.as_str(),
                "title"
                    | "description"
                    | "default"
                    | "examples"
                    | "deprecated"
                    | "readOnly"
                    | "writeOnly"
                    | "$comment"
                    | "$schema"
                    | "$id"
                    | "$defs"
                    | "definitions"
            )
        }),
        _ => false,
    }
}

/// A part of a document as a document of its own.
fn alone(schema: &Value, document: &Value) -> Option<Value> {
    let mut schema = match schema {
        Value::Object(members) => members.clone(),
        Value::Bool(_) => return Some(schema.clone()),
        _ => return None,
    };
    for place in ["$defs", "definitions"] {
        if let Some(definitions) = document.get(place) {
            schema.insert(place.to_owned(), definitions.clone());
        }
    }
    Some(Value::Object(schema))
}

fn below(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        _ => format!("{path}.{name}"),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => cut(&other.to_string()),
    }
}

fn texts(values: &[&Value]) -> String {
    values.iter().map(|value| value.to_string()).collect::<Vec<_>>().join(", ")
}

/// A set of types; integers are numbers, fractions are the numbers that are not integers.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kinds(u8);

impl Kinds {
    const INTEGER: u8 = 1;
    const FRACTION: u8 = 2;
    const ALL: Self = Self(0x7f);
    const NUMBER: Self = Self(Self::INTEGER | Self::FRACTION);
    const STRING: Self = Self(4);
    const ARRAY: Self = Self(8);
    const OBJECT: Self = Self(16);

    fn named(types: &Value) -> Self {
        let one = |name: &str| match name {
            "integer" => Self(Self::INTEGER),
            "number" => Self::NUMBER,
            "string" => Self::STRING,
            "array" => Self::ARRAY,
            "object" => Self::OBJECT,
            "null" => Self(32),
            "boolean" => Self(64),
            _ => Self(0),
        };
        match types {
            Value::String(name) => one(name),
            Value::Array(names) => {
                names.iter().filter_map(Value::as_str).map(one).fold(Self(0), Self::or)
            }
            _ => Self::ALL,
        }
    }

    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self(32),
            Value::Bool(_) => Self(64),
            Value::String(_) => Self::STRING,
            Value::Array(_) => Self::ARRAY,
            Value::Object(_) => Self::OBJECT,
            Value::Number(number) => match number.as_f64().is_some_and(|x| x.fract() == 0.0) {
                true => Self(Self::INTEGER),
                false => Self(Self::FRACTION),
            },
        }
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn holds(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn word(self) -> String {
        if self == Self::ALL {
            return "any type".to_owned();
        }
        let mut words = Vec::new();
        if self.holds(Self::NUMBER) {
            words.push("number");
        } else if self.0 & Self::INTEGER != 0 {
            words.push("integer");
        }
        for (bits, word) in
            [(4, "string"), (8, "array"), (16, "object"), (32, "null"), (64, "boolean")]
        {
            if self.0 & bits != 0 {
                words.push(word);
            }
        }
        words.join(", ")
    }
}
