//! The graph around a product or an application.
//!
//! ```text
//!  upstream                                   downstream
//!  product ◄─ application ◄─ ROOT ─► application ─► product ─► application ─► …
//!     1            1          0          1            1            2
//! ```
//!
//! A walk upstream goes on upstream only, and so does one downstream: what else an application on
//! the way writes is not where the data comes from. At an application of a name that many programs
//! share a walk ends, but for copies, which are known by their values.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use meshlog_proto::v1::{self, LineageDirection, LineageEdgeKind, ProvenanceKind};
use prost_types::Timestamp;

use super::counter::Count;
use super::index::Touched;
use super::traffic::Flow;
use super::{Direction, LIVE, Who, timestamp};
use crate::access::{Resource, Rpc};
use crate::caller::Caller;
use crate::catalogue::{Catalogue, ProductHandle};
use crate::error::{Error, Reason, Result};
use crate::time::storage_time;

const DEFAULT_DEPTH: u32 = 3;
pub(super) const MAX_DEPTH: u32 = 20;
/// Nodes of one answer, some hundred bytes each with their edges; beyond, nobody can look at them.
pub(super) const MAX_NODES: usize = 1_000;

impl Catalogue {
    /// The graph around a product or an application, of those products that the caller may see.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `INVALID_ARGUMENT` for a depth that is too large or a beginning that is
    /// missing.
    pub fn get_lineage(
        &self,
        caller: &Caller,
        request: v1::GetLineageRequest,
    ) -> Result<v1::GetLineageResponse> {
        self.allow(caller, Rpc::GetLineage, Resource::Broker)?;
        let depth = depth(request.depth, DEFAULT_DEPTH)?;
        let ways: &[Way] = match LineageDirection::try_from(request.direction) {
            Ok(LineageDirection::Unspecified) => &[Way::Up, Way::Down],
            Ok(LineageDirection::Upstream) => &[Way::Up],
            Ok(LineageDirection::Downstream) => &[Way::Down],
            Err(_) => return Err(invalid("direction", "it is UPSTREAM, DOWNSTREAM or absent")),
        };
        let as_of = request.as_of.map(|time| nanos(&time));
        let mut walk = Walk { depth, as_of, ..Walk::new(self, caller) };
        let mut root = String::new();
        match request.begin {
            Some(v1::get_lineage_request::Begin::Product(name)) => {
                let product = self.resolve_for(caller, Rpc::GetProduct, &name, "")?;
                root = product_node(&product.id);
                for way in ways {
                    walk.visit(Place::Product(Arc::clone(&product)), 0, *way);
                }
            }
            Some(v1::get_lineage_request::Begin::Application(name)) => {
                let named = self.index().named(&name);
                if named.is_empty() {
                    return Err(invalid(
                        "application",
                        format!(
                            "no application `{}` was seen to read or append; `meshlog lineage \
                             PRODUCT` names those that were",
                            name.escape_debug()
                        ),
                    ));
                }
                for who in named {
                    for way in ways {
                        walk.visit(Place::Application(who.clone()), 0, *way);
                    }
                }
            }
            None => {
                return Err(invalid("begin", "name a product or an application"));
            }
        }
        walk.run()?;
        Ok(walk.finish(root))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Up,
    Down,
}

#[derive(Clone)]
enum Place {
    Product(Arc<ProductHandle>),
    Application(Who),
}

impl Place {
    fn node(&self) -> String {
        match self {
            Self::Product(product) => product_node(&product.id),
            Self::Application(who) => application_node(who),
        }
    }
}

fn product_node(id: &str) -> String {
    format!("product:{id}")
}

fn application_node(who: &Who) -> String {
    format!("application:{}/{}", who.team(), who.application)
}

struct Walk<'a> {
    catalogue: &'a Catalogue,
    caller: &'a Caller,
    depth: u32,
    as_of: Option<u64>,
    nodes: BTreeMap<String, v1::LineageNode>,
    edges: BTreeMap<(String, String, i32), v1::LineageEdge>,
    /// Nodes that were expanded this way, or wait for it.
    seen: BTreeSet<(String, Way)>,
    waiting: VecDeque<(Place, u32, Way)>,
}

impl<'a> Walk<'a> {
    fn new(catalogue: &'a Catalogue, caller: &'a Caller) -> Self {
        Self {
            catalogue,
            caller,
            depth: DEFAULT_DEPTH,
            as_of: None,
            nodes: BTreeMap::new(),
            edges: BTreeMap::new(),
            seen: BTreeSet::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Adds a node; false if there is no room for it.
    fn visit(&mut self, place: Place, distance: u32, way: Way) -> bool {
        let id = place.node();
        if !self.nodes.contains_key(&id) {
            if self.nodes.len() >= MAX_NODES {
                return false;
            }
            let node = match &place {
                Place::Product(product) => v1::lineage_node::Node::Product(product.shown()),
                Place::Application(who) => v1::lineage_node::Node::Application(who.message()),
            };
            let node =
                v1::LineageNode { id: id.clone(), node: Some(node), distance, has_more: false };
            self.nodes.insert(id.clone(), node);
        }
        if self.seen.insert((id, way)) {
            self.waiting.push_back((place, distance, way));
        }
        true
    }

    fn run(&mut self) -> Result<()> {
        while let Some((place, distance, way)) = self.waiting.pop_front() {
            match &place {
                Place::Product(product) if distance < self.depth => {
                    self.leave_product(product, distance, way)?;
                }
                Place::Product(product) => {
                    if self.goes_on(product, way)? {
                        self.has_more(&place);
                    }
                }
                Place::Application(who) => self.leave_application(who, distance, way),
            }
        }
        Ok(())
    }

    fn leave_product(
        &mut self,
        product: &Arc<ProductHandle>,
        distance: u32,
        way: Way,
    ) -> Result<()> {
        let here = Place::Product(Arc::clone(product));
        let direction = match way {
            Way::Up => Direction::Append,
            Way::Down => Direction::Read,
        };
        for flow in product.traffic.flows(direction) {
            let Some(flow) = self.then(flow) else { continue };
            let there = Place::Application(flow.who.clone());
            self.connect(&here, there, distance + 1, way, |this, from, to| {
                this.edge_of(product, flow, direction, from, to)
            });
        }
        for (other, edge) in self.declared(product, way)? {
            let there = Place::Product(other);
            self.connect(&here, there, distance + 1, way, |_, from, to| v1::LineageEdge {
                from,
                to,
                ..edge
            });
        }
        Ok(())
    }

    fn leave_application(&mut self, who: &Who, distance: u32, way: Way) {
        let here = Place::Application(who.clone());
        let touched = self.catalogue.index().touched(who);
        // At a shared name only copies go on, which are known by their values.
        let copied =
            (who.is_shared() && distance > 0).then(|| self.copied_through(who, &touched, way));
        let (ids, direction) = match way {
            Way::Up => (touched.reads, Direction::Read),
            Way::Down => (touched.appends, Direction::Append),
        };
        for id in ids {
            let Some(product) = self.catalogue.find_seen(self.caller, &id) else { continue };
            if copied.as_ref().is_some_and(|copied| !copied.contains(&id)) {
                self.has_more(&here);
                continue;
            }
            let flows = product.traffic.flows(direction).into_iter();
            let flow = flows.filter(|flow| flow.who == *who).find_map(|flow| self.then(flow));
            let Some(flow) = flow else { continue };
            let there = Place::Product(Arc::clone(&product));
            self.connect(&here, there, distance.max(1), way, |this, from, to| {
                this.edge_of(&product, flow, direction, from, to)
            });
        }
    }

    /// The other ends of the copies that this application makes from, or to, a product of this graph.
    fn copied_through(&self, who: &Who, touched: &Touched, way: Way) -> BTreeSet<Arc<str>> {
        let is_here = |id: &str| self.nodes.contains_key(&product_node(id));
        let mut ends = BTreeSet::new();
        for product in touched.appends.iter().filter_map(|id| self.catalogue.find(id)) {
            let copies = product.traffic.copies.lock();
            for copy in copies.iter().filter(|copy| copy.who == *who) {
                match way {
                    Way::Up if is_here(&product.id) => ends.insert(Arc::clone(&copy.source)),
                    Way::Down if is_here(&copy.source) => ends.insert(Arc::clone(&product.id)),
                    _ => false,
                };
            }
        }
        ends
    }

    /// Adds a neighbour and the edge to it; where there is no room, says so.
    fn connect(
        &mut self,
        here: &Place,
        there: Place,
        distance: u32,
        way: Way,
        edge: impl FnOnce(&Self, String, String) -> v1::LineageEdge,
    ) {
        let (from, to) = match way {
            Way::Up => (there.node(), here.node()),
            Way::Down => (here.node(), there.node()),
        };
        if self.visit(there, distance, way) {
            let edge = edge(self, from, to);
            let key = (edge.from.clone(), edge.to.clone(), edge.kind);
            self.edges.entry(key).or_insert(edge);
        } else {
            self.has_more(here);
        }
    }

    fn edge_of(
        &self,
        product: &ProductHandle,
        flow: Flow,
        direction: Direction,
        from: String,
        to: String,
    ) -> v1::LineageEdge {
        let copies = match direction {
            Direction::Append => {
                let copies = self.catalogue.copies_of(self.caller, product).into_iter();
                let by = |copy: &v1::ProductCopy| {
                    copy.application == *flow.who.application && copy.team == flow.who.team()
                };
                copies.filter(by).collect()
            }
            Direction::Read => Vec::new(),
        };
        let kind = match direction {
            Direction::Append => LineageEdgeKind::Append,
            Direction::Read => LineageEdgeKind::Read,
        };
        v1::LineageEdge {
            from,
            to,
            kind: kind.into(),
            provenance: ProvenanceKind::Observed.into(),
            records: flow.total.records,
            bytes: flow.total.bytes,
            first_time: timestamp(flow.total.first),
            last_time: timestamp(flow.total.last),
            versions: flow
                .versions
                .iter()
                .map(|(version, count)| count.message(*version))
                .collect(),
            copies,
            observed: false,
        }
    }

    /// Products that are declared to be next to this one, and the edge to each but for its ends.
    fn declared(
        &self,
        product: &Arc<ProductHandle>,
        way: Way,
    ) -> Result<Vec<(Arc<ProductHandle>, v1::LineageEdge)>> {
        let others = match way {
            Way::Up => self.catalogue.inputs_of(product)?,
            Way::Down => self.catalogue.made_of(product)?,
        };
        let mut declared = Vec::new();
        for other in others.into_iter().filter(|other| self.catalogue.sees(self.caller, other)) {
            let (input, output) = match way {
                Way::Up => (&other, product),
                Way::Down => (product, &other),
            };
            let since = output.inputs_declared()?;
            if let (Some(as_of), Some(since)) = (self.as_of, &since)
                && nanos(since) > as_of
            {
                continue;
            }
            let edge = v1::LineageEdge {
                kind: LineageEdgeKind::Input.into(),
                provenance: ProvenanceKind::Declared.into(),
                first_time: since,
                observed: self.catalogue.is_observed(input, output),
                ..v1::LineageEdge::default()
            };
            declared.push((other, edge));
        }
        Ok(declared)
    }

    fn goes_on(&self, product: &Arc<ProductHandle>, way: Way) -> Result<bool> {
        let direction = match way {
            Way::Up => Direction::Append,
            Way::Down => Direction::Read,
        };
        let mut flows = product.traffic.flows(direction).into_iter();
        Ok(flows.any(|flow| self.then(flow).is_some()) || !self.declared(product, way)?.is_empty())
    }

    fn has_more(&mut self, place: &Place) {
        if let Some(node) = self.nodes.get_mut(&place.node()) {
            node.has_more = true;
        }
    }

    /// The flow as it was at the time asked for; `None`: it was not alive then.
    fn then(&self, mut flow: Flow) -> Option<Flow> {
        if let Some(as_of) = self.as_of {
            flow.versions.retain(|(_, count)| count.first <= as_of);
            if !is_alive(flow.total, as_of) || flow.versions.is_empty() {
                return None;
            }
        }
        Some(flow)
    }

    fn finish(self, root: String) -> v1::GetLineageResponse {
        let mut nodes: Vec<v1::LineageNode> = self.nodes.into_values().collect();
        nodes.sort_by_cached_key(|node| (node.distance, name_of(node)));
        v1::GetLineageResponse { nodes, edges: self.edges.into_values().collect(), root }
    }
}

/// Products before applications, then by name.
fn name_of(node: &v1::LineageNode) -> (bool, String, String) {
    match &node.node {
        Some(v1::lineage_node::Node::Product(product)) => {
            (false, product.name.clone(), String::new())
        }
        Some(v1::lineage_node::Node::Application(application)) => {
            (true, application.name.clone(), application.team.clone())
        }
        None => (true, String::new(), String::new()),
    }
}

/// Whether there had been traffic by then, and there was some within a day before or after it.
fn is_alive(count: Count, as_of: u64) -> bool {
    count.first <= as_of && count.last.saturating_add(LIVE.as_nanos() as u64) >= as_of
}

impl Catalogue {
    /// Whether an application was seen that reads the one and appends to the other.
    pub(super) fn is_observed(&self, input: &ProductHandle, output: &ProductHandle) -> bool {
        let copied = output.traffic.copies.lock().iter().any(|copy| copy.source == input.id);
        copied
            || output.traffic.flows(Direction::Append).iter().any(|flow| {
                !flow.who.is_shared() && self.index().touched(&flow.who).reads.contains(&input.id)
            })
    }
}

impl ProductHandle {
    /// As graphs show it.
    fn shown(&self) -> v1::LineageProduct {
        let stored = self.described();
        v1::LineageProduct {
            name: self.name.to_string(),
            id: self.id.to_string(),
            owner: self.owner().to_owned(),
            state: self.state().into(),
            classification: stored.classification,
            kind: stored.kind,
        }
    }
}

/// The depth asked for.
pub(super) fn depth(asked: u32, default: u32) -> Result<u32> {
    match asked {
        0 => Ok(default),
        depth if depth <= MAX_DEPTH => Ok(depth),
        depth => Err(invalid("depth", format!("at most {MAX_DEPTH}, not {depth}"))),
    }
}

pub(super) fn invalid(field: &'static str, what: impl Into<String>) -> Error {
    let what = what.into();
    Error::new(Reason::InvalidArgument, format!("{field}: {what}"))
        .with("field", field)
        .with_violation(field, what)
}

fn nanos(time: &Timestamp) -> u64 {
    storage_time(time).0
}
