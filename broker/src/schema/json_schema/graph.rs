//! The subschemas of a document and how they refer to one another.

use std::collections::HashMap;

use jsonschema::{Draft, uri};
use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use super::document::MAX_PATTERN_BYTES;
use crate::schema::Malformed;

/// Longest chain of subschemas that apply to one and the same place of a value.
const MAX_CHAIN: usize = 48;

/// Most subschemas, counted along every path, that apply to one and the same place.
const MAX_APPLICATIONS: usize = 4096;

/// Most regular expressions in one schema.
const MAX_PATTERNS: usize = 128;

/// Largest compiled regular expression that counts as small.
const SMALL_PATTERN_BYTES: usize = 64 << 10;

/// Most regular expressions that are not small, for instance `\p{L}{1,60}`.
const MAX_LARGE_PATTERNS: usize = 16;

/// The address of a document without `$id`.
const NO_ADDRESS: &str = "json-schema:///";

/// One subschema. Indexes are places in [`Graph::nodes`].
#[derive(Default)]
pub(super) struct Node {
    pub(super) pointer: String,
    /// Apply to the same place whenever this one does.
    pub(super) always: Vec<usize>,
    /// May apply to the same place.
    pub(super) sometimes: Vec<usize>,
    /// Look at the same place, and may mention properties there, without describing it.
    pub(super) hints: Vec<usize>,
    /// Look at the same place and declare nothing.
    pub(super) tests: Vec<usize>,
    pub(super) properties: Vec<(Box<str>, usize)>,
    pub(super) patterns: Vec<(Regex, usize)>,
    /// The schema of properties that are not named.
    pub(super) additional: Option<usize>,
    /// Whether this subschema itself says what holds for properties that are not named.
    pub(super) decides_additional: bool,
    pub(super) prefix: Vec<usize>,
    pub(super) items: Option<usize>,
    pub(super) types: Vec<String>,
    pub(super) required: Vec<Box<str>>,
    pub(super) docs: String,
}

impl Node {
    fn alias(&self) -> Option<usize> {
        let lists = [&self.sometimes, &self.hints, &self.prefix];
        let bare = lists.iter().all(|list| list.is_empty())
            && self.properties.is_empty()
            && self.patterns.is_empty()
            && self.additional.is_none()
            && !self.decides_additional
            && self.items.is_none()
            && self.types.is_empty()
            && self.required.is_empty()
            && self.docs.is_empty();
        match self.always[..] {
            [only] if bare => Some(only),
            _ => None,
        }
    }
}

/// All subschemas. Chains that apply to one place are finite and short.
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) root: usize,
}

impl Graph {
    /// # Errors
    /// For a reference that leaves the document, points to nothing or never ends.
    pub(super) fn build(document: &Value, draft: Draft) -> Result<Self, Malformed> {
        let mut builder = Builder {
            document,
            draft,
            nodes: Vec::new(),
            by_pointer: HashMap::new(),
            resources: Vec::new(),
            anchors: HashMap::new(),
            dynamic: HashMap::new(),
            recursive: Vec::new(),
            references: Vec::new(),
            patterns: 0,
            large_patterns: 0,
        };
        let root = builder.resource(NO_ADDRESS.to_owned(), String::new());
        let root = builder.node(document, "", root)?;
        while let Some(reference) = builder.references.pop() {
            builder.follow(&reference)?;
        }
        let graph = Self { nodes: builder.nodes, root };
        graph.check_chains()?;
        Ok(graph)
    }

    /// The node itself, or the one it stands for if it is a reference and nothing else.
    pub(super) fn meant(&self, mut at: usize) -> usize {
        while let Some(target) = self.nodes[at].alias() {
            at = target;
        }
        at
    }

    /// A value is finite, so following subschemas down into it ends; following those that apply
    /// to the same place must end by itself, and soon.
    fn check_chains(&self) -> Result<(), Malformed> {
        let mut seen = vec![Chain::Unknown; self.nodes.len()];
        for node in 0..self.nodes.len() {
            self.chain(node, 0, &mut seen)?;
        }
        Ok(())
    }

    fn chain(&self, at: usize, above: usize, seen: &mut [Chain]) -> Result<Chain, Malformed> {
        let node = &self.nodes[at];
        let refuse = |what: &str| Err(Malformed::new(&node.pointer, what));
        match seen[at] {
            Chain::Open => return refuse("the schema refers to itself without end"),
            Chain::Known { depth, .. } if above + depth > MAX_CHAIN => {
                return refuse("too many subschemas refer to one another in a row");
            }
            known @ Chain::Known { .. } => return Ok(known),
            Chain::Unknown if above >= MAX_CHAIN => {
                return refuse("too many subschemas refer to one another in a row");
            }
            Chain::Unknown => seen[at] = Chain::Open,
        }
        let (mut deepest, mut applications) = (0, 1);
        let next = [&node.always, &node.sometimes, &node.hints, &node.tests];
        for one in next.into_iter().flatten() {
            if let Chain::Known { depth, applications: more } = self.chain(*one, above + 1, seen)? {
                deepest = deepest.max(depth);
                applications += more;
            }
        }
        if applications > MAX_APPLICATIONS {
            return refuse("too many subschemas apply to one place of a value");
        }
        seen[at] = Chain::Known { depth: deepest + 1, applications };
        Ok(seen[at])
    }
}

#[derive(Clone, Copy)]
enum Chain {
    Unknown,
    Open,
    Known { depth: usize, applications: usize },
}

struct Resource {
    address: String,
    pointer: String,
}

struct Reference {
    from: usize,
    resource: usize,
    keyword: &'static str,
    target: String,
}

struct Builder<'a> {
    document: &'a Value,
    draft: Draft,
    nodes: Vec<Node>,
    by_pointer: HashMap<String, usize>,
    resources: Vec<Resource>,
    /// Nodes by resource and anchor.
    anchors: HashMap<(usize, String), usize>,
    /// Nodes by dynamic anchor, in all resources.
    dynamic: HashMap<String, Vec<usize>>,
    /// Nodes with `$recursiveAnchor`.
    recursive: Vec<usize>,
    references: Vec<Reference>,
    patterns: usize,
    large_patterns: usize,
}

impl<'a> Builder<'a> {
    fn resource(&mut self, address: String, pointer: String) -> usize {
        self.resources.push(Resource { address, pointer });
        self.resources.len() - 1
    }

    fn node(
        &mut self,
        schema: &'a Value,
        pointer: &str,
        resource: usize,
    ) -> Result<usize, Malformed> {
        if let Some(known) = self.by_pointer.get(pointer) {
            return Ok(*known);
        }
        let at = self.nodes.len();
        self.by_pointer.insert(pointer.to_owned(), at);
        self.nodes.push(Node { pointer: pointer.to_owned(), ..Node::default() });
        match schema {
            Value::Bool(_) => {}
            Value::Object(members) => self.members(at, members, pointer, resource)?,
            _ => return Err(Malformed::new(pointer, "a schema is an object, `true` or `false`")),
        }
        Ok(at)
    }

    fn members(
        &mut self,
        at: usize,
        members: &'a Map<String, Value>,
        pointer: &str,
        mut resource: usize,
    ) -> Result<(), Malformed> {
        let text = |keyword: &str| members.get(keyword).and_then(Value::as_str);
        let seven = self.draft == Draft::Draft7;
        if seven && let Some(target) = text("$ref") {
            // In draft 7 a reference replaces everything beside it.
            self.refer(at, resource, "$ref", target);
            for keyword in ["definitions", "$defs"] {
                self.map(members, keyword, pointer, resource)?;
            }
            return Ok(());
        }
        if let Some(id) = text("$id") {
            match id.strip_prefix('#') {
                Some(anchor) if seven => {
                    self.anchors.insert((resource, anchor.to_owned()), at);
                }
                _ => {
                    let address = self.address(resource, id, pointer)?.0;
                    resource = self.resource(address, pointer.to_owned());
                }
            }
        }
        if pointer.len() > 1 && members.contains_key("$schema") {
            let same = members.get("$schema") == self.document.get("$schema");
            if !same {
                return Err(Malformed::new(pointer, "`$schema` differs from the document's"));
            }
        }
        if !seven {
            for keyword in ["$anchor", "$dynamicAnchor"] {
                if let Some(anchor) = text(keyword) {
                    self.anchors.insert((resource, anchor.to_owned()), at);
                }
            }
            if let Some(anchor) = text("$dynamicAnchor") {
                self.dynamic.entry(anchor.to_owned()).or_default().push(at);
            }
            if members.get("$recursiveAnchor") == Some(&Value::Bool(true)) {
                self.recursive.push(at);
            }
            for keyword in ["$ref", "$dynamicRef", "$recursiveRef"] {
                if let Some(target) = text(keyword) {
                    self.refer(at, resource, keyword, target);
                }
            }
        }

        self.nodes[at].always = self.list(members, "allOf", pointer, resource)?;
        let mut sometimes = self.list(members, "anyOf", pointer, resource)?;
        sometimes.extend(self.list(members, "oneOf", pointer, resource)?);
        for keyword in ["then", "else"] {
            sometimes.extend(self.one(members, keyword, pointer, resource)?);
        }
        for keyword in ["dependentSchemas", "dependencies"] {
            let schemas = self.map(members, keyword, pointer, resource)?;
            sometimes.extend(schemas.into_iter().map(|(_, node)| node));
        }
        self.nodes[at].sometimes = sometimes;
        self.nodes[at].hints = self.one(members, "if", pointer, resource)?.into_iter().collect();
        self.nodes[at].tests = self.one(members, "not", pointer, resource)?.into_iter().collect();

        self.nodes[at].properties = self.map(members, "properties", pointer, resource)?;
        for (pattern, node) in self.map(members, "patternProperties", pointer, resource)? {
            self.count_pattern(&pattern, pointer)?;
            match RegexBuilder::new(&pattern).size_limit(MAX_PATTERN_BYTES).build() {
                Ok(pattern) => self.nodes[at].patterns.push((pattern, node)),
                // The validator knows the notation of JavaScript better; it will judge.
                Err(_) => self.nodes[at].decides_additional = true,
            }
        }
        if let Some(pattern) = text("pattern") {
            self.count_pattern(pattern, pointer)?;
        }
        for keyword in ["additionalProperties", "unevaluatedProperties"] {
            if let Some(node) = self.one(members, keyword, pointer, resource)? {
                self.nodes[at].decides_additional = true;
                self.nodes[at].additional = self.nodes[at].additional.or(Some(node));
            }
        }
        self.items(at, members, pointer, resource)?;
        for keyword in ["contains", "propertyNames", "contentSchema", "unevaluatedItems"] {
            self.one(members, keyword, pointer, resource)?;
        }
        for keyword in ["$defs", "definitions"] {
            self.map(members, keyword, pointer, resource)?;
        }

        let node = &mut self.nodes[at];
        node.types = match members.get("type") {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(many)) => {
                many.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            _ if members.contains_key("enum") => vec!["enum".to_owned()],
            _ if members.contains_key("const") => vec!["const".to_owned()],
            _ => Vec::new(),
        };
        let required = members.get("required").and_then(Value::as_array);
        node.required =
            required.into_iter().flatten().filter_map(Value::as_str).map(Box::from).collect();
        node.docs = text("description").or(text("title")).unwrap_or_default().to_owned();
        Ok(())
    }

    fn items(
        &mut self,
        at: usize,
        members: &'a Map<String, Value>,
        pointer: &str,
        resource: usize,
    ) -> Result<(), Malformed> {
        let by_place = if members.get("items").is_some_and(Value::is_array) {
            ("items", "additionalItems")
        } else {
            ("prefixItems", "items")
        };
        self.nodes[at].prefix = self.list(members, by_place.0, pointer, resource)?;
        self.nodes[at].items = self.one(members, by_place.1, pointer, resource)?;
        Ok(())
    }

    fn count_pattern(&mut self, pattern: &str, pointer: &str) -> Result<(), Malformed> {
        // In JavaScript `\w` and `\d` are ASCII, which only makes them smaller.
        let is_small = |unicode| {
            let mut builder = RegexBuilder::new(pattern);
            builder.unicode(unicode).size_limit(SMALL_PATTERN_BYTES).build().is_ok()
        };
        self.patterns += 1;
        if !is_small(false) && !is_small(true) {
            self.large_patterns += 1;
        }
        if self.patterns > MAX_PATTERNS || self.large_patterns > MAX_LARGE_PATTERNS {
            let what = format!(
                "more than {MAX_PATTERNS} regular expressions in one schema, or more than \
                 {MAX_LARGE_PATTERNS} large ones"
            );
            return Err(Malformed::new(pointer, what));
        }
        Ok(())
    }

    fn one(
        &mut self,
        members: &'a Map<String, Value>,
        keyword: &str,
        pointer: &str,
        resource: usize,
    ) -> Result<Option<usize>, Malformed> {
        match members.get(keyword) {
            Some(schema @ (Value::Object(_) | Value::Bool(_))) => {
                self.node(schema, &format!("{pointer}/{keyword}"), resource).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn list(
        &mut self,
        members: &'a Map<String, Value>,
        keyword: &str,
        pointer: &str,
        resource: usize,
    ) -> Result<Vec<usize>, Malformed> {
        let schemas = members.get(keyword).and_then(Value::as_array).into_iter().flatten();
        schemas
            .enumerate()
            .map(|(index, one)| self.node(one, &format!("{pointer}/{keyword}/{index}"), resource))
            .collect()
    }

    fn map(
        &mut self,
        members: &'a Map<String, Value>,
        keyword: &str,
        pointer: &str,
        resource: usize,
    ) -> Result<Vec<(Box<str>, usize)>, Malformed> {
        let mut nodes = Vec::new();
        for (name, schema) in members.get(keyword).and_then(Value::as_object).into_iter().flatten()
        {
            if schema.is_array() {
                continue; // `dependencies` on other properties, not on a schema
            }
            let pointer = format!("{pointer}/{keyword}/{}", escaped(name));
            nodes.push((Box::from(name.as_str()), self.node(schema, &pointer, resource)?));
        }
        Ok(nodes)
    }

    fn refer(&mut self, from: usize, resource: usize, keyword: &'static str, target: &str) {
        self.references.push(Reference { from, resource, keyword, target: target.to_owned() });
    }

    /// A reference relative to a resource, without and with its fragment.
    fn address(
        &self,
        resource: usize,
        reference: &str,
        pointer: &str,
    ) -> Result<(String, String), Malformed> {
        let malformed =
            || Malformed::new(pointer, format!("{reference:?} is not a usable URI reference"));
        let base = uri::from_str(&self.resources[resource].address).map_err(|_| malformed())?;
        let full = uri::resolve_against(&base.borrow(), reference).map_err(|_| malformed())?;
        let full = full.as_str();
        let (address, fragment) = full.split_once('#').unwrap_or((full, ""));
        Ok((address.to_owned(), unescaped(fragment).ok_or_else(malformed)?))
    }

    fn follow(&mut self, reference: &Reference) -> Result<(), Malformed> {
        let Reference { from, resource, keyword, target } = reference;
        let pointer = self.nodes[*from].pointer.clone();
        let refuse = |what: String| Malformed::new(format!("{pointer}/{keyword}"), what);
        let (address, fragment) = self.address(*resource, target, &pointer)?;
        let Some(resource) = self.resources.iter().position(|one| one.address == address) else {
            if address.starts_with("http://json-schema.org/")
                || address.starts_with("https://json-schema.org/")
            {
                self.nodes[*from].decides_additional = true; // a metaschema, which comes along
                return Ok(());
            }
            return Err(refuse(format!(
                "{target:?} lies outside of this document, and references are not fetched; copy \
                 the schema under `$defs` and refer to it there"
            )));
        };
        let missing = || refuse(format!("{target:?} points to nothing in this document"));
        let node = if fragment.is_empty() || fragment.starts_with('/') {
            let full = format!("{}{fragment}", self.resources[resource].pointer);
            let schema = self.document.pointer(&full).ok_or_else(missing)?;
            self.node(schema, &full, resource)?
        } else {
            *self.anchors.get(&(resource, fragment.clone())).ok_or_else(missing)?
        };
        self.nodes[*from].always.push(node);
        let others = match *keyword {
            "$dynamicRef" => self.dynamic.get(&fragment).cloned().unwrap_or_default(),
            "$recursiveRef" => self.recursive.clone(),
            _ => Vec::new(),
        };
        let others = others.into_iter().filter(|other| *other != node);
        self.nodes[*from].sometimes.extend(others);
        Ok(())
    }
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Undoes the percent-encoding of a fragment.
fn unescaped(fragment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}
