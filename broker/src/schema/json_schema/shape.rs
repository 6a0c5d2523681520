//! The places of a value that a schema describes, and what may stand there.
//!
//! A place is a set of subschemas that speak of it. Going down from one (into a property, into an
//! item) leads to another, so a schema becomes a finite automaton over the paths of a value,
//! however its parts are composed; recursion becomes a loop.

use std::collections::HashMap;

use regex::Regex;

use super::graph::{Graph, Node};
use crate::schema::{Field, FieldPath, MAX_DEPTH, MAX_FIELDS, Malformed};

/// Most distinct places of one schema.
const MAX_PLACES: usize = 16_384;

/// Most properties and items, counted at every place: a definition that many others refer to
/// counts each time.
const MAX_DECLARED: usize = 100_000;

/// One place, as the check walks it. Numbers are indexes of places.
#[derive(Default)]
pub(super) struct Place {
    /// Whether undeclared properties are refused here.
    pub(super) closed: bool,
    /// Whether there is anything to check here or below.
    pub(super) matters: bool,
    pub(super) properties: HashMap<Box<str>, usize>,
    pub(super) patterns: Vec<(Regex, usize)>,
    /// Where properties lead that several patterns match.
    pub(super) several: Option<usize>,
    /// Where properties lead that have no name and no pattern.
    pub(super) rest: Option<usize>,
    pub(super) prefix: Vec<usize>,
    pub(super) items: Option<usize>,
}

impl Place {
    fn below(&self) -> impl Iterator<Item = usize> {
        let named = self.properties.values().chain(self.patterns.iter().map(|(_, place)| place));
        named.chain(&self.several).chain(&self.rest).chain(&self.prefix).chain(&self.items).copied()
    }
}

/// The subschemas that speak of a place.
struct Speakers {
    all: Vec<usize>,
    /// Those that hold for every value.
    always: Vec<usize>,
}

/// All places; number 0 is the value itself.
pub(super) struct Shape {
    pub(super) graph: Graph,
    pub(super) places: Vec<Place>,
    speakers: Vec<Speakers>,
    /// The subschemas that each place begins with.
    pub(super) starts: Vec<Vec<usize>>,
}

impl Shape {
    /// # Errors
    /// If there are too many places.
    pub(super) fn build(graph: Graph) -> Result<Self, Malformed> {
        let mut builder = Builder { graph: &graph, known: HashMap::new(), starts: Vec::new() };
        builder.place(vec![graph.root]);
        let (mut places, mut speakers) = (Vec::<Place>::new(), Vec::new());
        let mut declared = 0;
        while places.len() < builder.starts.len() {
            declared += places.last().map_or(0, |place| place.below().count());
            if builder.starts.len() > MAX_PLACES || declared > MAX_DECLARED {
                return Err(Malformed::whole(
                    "the schema describes too many different places of a value; its definitions \
                     are referred to too often, or combine in too many ways",
                ));
            }
            let start = builder.starts[places.len()].clone();
            let here = Speakers {
                all: closure(&graph, &start, |node| {
                    vec![&node.always, &node.sometimes, &node.hints]
                }),
                always: closure(&graph, &start, |node| vec![&node.always]),
            };
            let describing = closure(&graph, &start, |node| vec![&node.always, &node.sometimes]);
            places.push(builder.describe(&here, &describing));
            speakers.push(here);
        }
        mark_what_matters(&mut places);
        let starts = builder.starts;
        Ok(Self { graph, places, speakers, starts })
    }

    /// The subschemas that speak of a place, by number.
    pub(super) fn speakers(&self, place: usize) -> &[usize] {
        &self.speakers[place].all
    }

    /// What the check needs.
    pub(super) fn into_places(self) -> Vec<Place> {
        self.places
    }

    /// The fields, flattened; recursion is shown once.
    pub(super) fn fields(&self) -> Vec<Field> {
        let mut rows = Vec::new();
        self.rows(0, "", &mut Vec::new(), &mut rows);
        rows
    }

    fn rows(&self, place: usize, path: &str, open: &mut Vec<usize>, rows: &mut Vec<Field>) {
        if open.contains(&place) || open.len() >= MAX_DEPTH {
            return;
        }
        open.push(place);
        for name in self.declared(place) {
            if rows.len() >= MAX_FIELDS {
                break;
            }
            let inner = self.places[place].properties[name];
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            let types = self.types(inner);
            rows.push(Field {
                path: path.clone(),
                type_name: if types.is_empty() { "any".to_owned() } else { types.join("|") },
                optional: !self.is_required(place, name) || types.contains(&"null"),
                docs: self.docs(inner).to_owned(),
            });
            self.rows(inner, &path, open, rows);
        }
        if let Some(items) = self.places[place].items {
            self.rows(items, &format!("{path}[]"), open, rows);
        }
        open.pop();
    }

    /// Names in the order of the text.
    fn declared(&self, place: usize) -> Vec<&str> {
        let mut seen = std::collections::HashSet::new();
        let speakers = self.speakers[place].all.iter().map(|node| &self.graph.nodes[*node]);
        let names = speakers.flat_map(|node| node.properties.iter().map(|(name, _)| &**name));
        names.filter(|name| seen.insert(*name)).collect()
    }

    fn types(&self, place: usize) -> Vec<&str> {
        let mut types = Vec::new();
        for node in &self.speakers[place].all {
            for one in &self.graph.nodes[*node].types {
                if !types.contains(&one.as_str()) {
                    types.push(one);
                }
            }
        }
        types
    }

    fn docs(&self, place: usize) -> &str {
        let all = self.speakers[place].all.iter().map(|node| self.graph.nodes[*node].docs.as_str());
        all.into_iter().find(|docs| !docs.is_empty()).unwrap_or_default()
    }

    fn is_required(&self, place: usize, name: &str) -> bool {
        let always = self.speakers[place].always.iter().map(|node| &self.graph.nodes[*node]);
        always.into_iter().any(|node| node.required.iter().any(|one| **one == *name))
    }

    /// Whether every value has this field as a string or an integer; if not, why not.
    pub(super) fn check_key_field(&self, path: &FieldPath) -> Result<(), String> {
        let mut place = 0;
        for name in path.names() {
            let Some(inner) = self.places[place].properties.get(name) else {
                let some: Vec<&str> = self.declared(place).into_iter().take(8).collect();
                return Err(format!(
                    "the schema declares no property `{name}` there; it has: {}",
                    some.join(", ")
                ));
            };
            if !self.is_required(place, name) {
                return Err(format!("the schema does not require the property `{name}`"));
            }
            if !self.is_always(place, &["object"]) && place != 0 {
                return Err(format!("what holds `{name}` is not always an object"));
            }
            place = *inner;
        }
        match self.is_always(place, &["string", "integer"]) {
            true => Ok(()),
            false => Err("its type must be `string` or `integer`".to_owned()),
        }
    }

    /// Whether a subschema that always applies allows only these types.
    fn is_always(&self, place: usize, types: &[&str]) -> bool {
        let always = self.speakers[place].always.iter().map(|node| &self.graph.nodes[*node].types);
        always
            .into_iter()
            .any(|own| !own.is_empty() && own.iter().all(|one| types.contains(&one.as_str())))
    }
}

struct Builder<'a> {
    graph: &'a Graph,
    known: HashMap<Vec<usize>, usize>,
    /// Where each place starts from, by number.
    starts: Vec<Vec<usize>>,
}

impl Builder<'_> {
    fn place(&mut self, mut start: Vec<usize>) -> usize {
        start.iter_mut().for_each(|node| *node = self.graph.meant(*node));
        start.sort_unstable();
        start.dedup();
        *self.known.entry(start).or_insert_with_key(|start| {
            self.starts.push(start.clone());
            self.starts.len() - 1
        })
    }

    fn optional(&mut self, start: Vec<usize>) -> Option<usize> {
        (!start.is_empty()).then(|| self.place(start))
    }

    fn describe(&mut self, here: &Speakers, describing: &[usize]) -> Place {
        let graph = self.graph;
        let nodes: Vec<&Node> = here.all.iter().map(|node| &graph.nodes[*node]).collect();
        let declares = |node: &Node| !node.properties.is_empty() || !node.patterns.is_empty();
        let mut place = Place {
            closed: describing.iter().any(|node| declares(&graph.nodes[*node]))
                && !nodes.iter().any(|node| node.decides_additional),
            ..Place::default()
        };
        let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
        for node in &nodes {
            for (name, inner) in &node.properties {
                by_name.entry(name).or_default().push(*inner);
            }
        }
        let patterned = nodes.iter().any(|node| !node.patterns.is_empty());
        let mut names: Vec<&str> = by_name.keys().copied().collect();
        names.sort_unstable();
        for name in names {
            let mut start = by_name.remove(name).unwrap_or_default();
            if patterned {
                let matching = nodes.iter().flat_map(|node| &node.patterns);
                start.extend(matching.filter(|(p, _)| p.is_match(name)).map(|(_, inner)| *inner));
            }
            place.properties.insert(Box::from(name), self.place(start));
        }
        let mut several = Vec::new();
        for (pattern, inner) in nodes.iter().flat_map(|node| &node.patterns) {
            several.push(*inner);
            place.patterns.push((pattern.clone(), self.place(vec![*inner])));
        }
        place.several = self.optional(several);
        place.rest = self.optional(nodes.iter().filter_map(|node| node.additional).collect());
        let longest = nodes.iter().map(|node| node.prefix.len()).max().unwrap_or_default();
        for index in 0..longest {
            let at_index = |node: &&Node| node.prefix.get(index).copied().or(node.items);
            let start = nodes.iter().filter_map(at_index).collect();
            place.prefix.push(self.place(start));
        }
        place.items = self.optional(nodes.iter().filter_map(|node| node.items).collect());
        place
    }
}

fn closure<'a>(
    graph: &'a Graph,
    start: &[usize],
    next: impl Fn(&'a Node) -> Vec<&'a Vec<usize>>,
) -> Vec<usize> {
    let mut found = start.to_vec();
    let mut seen: std::collections::HashSet<usize> = start.iter().copied().collect();
    let mut at = 0;
    while at < found.len() {
        for one in next(&graph.nodes[found[at]]).into_iter().flatten() {
            if seen.insert(*one) {
                found.push(*one);
            }
        }
        at += 1;
    }
    found
}

/// A place matters if it is closed or a place below it is.
fn mark_what_matters(places: &mut [Place]) {
    let mut above: Vec<Vec<usize>> = vec![Vec::new(); places.len()];
    for (number, place) in places.iter().enumerate() {
        place.below().for_each(|below| above[below].push(number));
    }
    let mut open: Vec<usize> = (0..places.len()).filter(|place| places[*place].closed).collect();
    while let Some(place) = open.pop() {
        if !std::mem::replace(&mut places[place].matters, true) {
            open.extend(&above[place]);
        }
    }
}
