//! A lineage graph, as the program shows it.

use jiff::Timestamp;
use meshlog_client::proto::{
    GetLineageResponse, LineageEdge, LineageNode, LineageVersion, ProductCopy, lineage_node,
};
use serde::Serialize;

use crate::words;

/// Products and applications, and what goes from one to another.
#[derive(Debug, Serialize)]
pub(crate) struct Graph {
    /// The node of the product where it begins; empty if it begins at an application.
    pub(super) root: String,
    pub(super) nodes: Vec<Node>,
    pub(super) edges: Vec<Edge>,
}

/// A product or an application.
#[derive(Debug, Serialize)]
pub(crate) struct Node {
    pub(super) id: String,
    /// `product` or `application`.
    pub(super) kind: &'static str,
    pub(super) name: String,
    /// Owner of a product, team of an application; empty if nobody proved it.
    pub(super) team: String,
    /// Of a product.
    pub(super) state: String,
    pub(super) classification: String,
    /// Many programs go by this name.
    pub(super) shared: bool,
    pub(super) distance: u32,
    pub(super) has_more: bool,
}

impl Node {
    pub(super) fn is_product(&self) -> bool {
        self.kind == "product"
    }

    /// As a person is told of it.
    pub(super) fn label(&self) -> String {
        match (self.is_product(), self.team.as_str()) {
            (true, _) | (false, "") => self.name.clone(),
            (false, team) => format!("{} ({team})", self.name),
        }
    }
}

/// What goes from one node to another.
#[derive(Debug, Serialize)]
pub(crate) struct Edge {
    pub(super) from: String,
    pub(super) to: String,
    /// `append`, `read` or `input`.
    pub(super) kind: String,
    /// `observed` or `declared`.
    pub(super) provenance: String,
    /// Of a declared input: whether it was seen.
    pub(super) observed: bool,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) first_time: Option<Timestamp>,
    pub(super) last_time: Option<Timestamp>,
    pub(super) versions: Vec<Version>,
    pub(super) copies: Vec<CopyView>,
}

/// The traffic of one schema version.
#[derive(Debug, Serialize)]
pub(crate) struct Version {
    schema_version: u32,
    records: u64,
    bytes: u64,
    first_time: Option<Timestamp>,
    last_time: Option<Timestamp>,
}

/// A product that is a copy of another one.
#[derive(Debug, Serialize)]
pub(crate) struct CopyView {
    pub(crate) source: String,
    pub(crate) application: String,
    pub(crate) team: String,
    pub(crate) percent: f64,
    pub(crate) records: u32,
    /// `source → copy`, where the names differ, else the name.
    pub(crate) fields: Vec<FieldPair>,
    pub(crate) check_time: Option<Timestamp>,
}

/// Which field came from which.
#[derive(Debug, Serialize)]
pub(crate) struct FieldPair {
    pub(crate) source: String,
    pub(crate) copy: String,
}

impl CopyView {
    /// In a sentence.
    pub(crate) fn sentence(&self) -> String {
        let renamed = self.fields.iter().filter(|pair| pair.source != pair.copy);
        let renamed: Vec<String> =
            renamed.map(|pair| format!("{} → {}", pair.source, pair.copy)).collect();
        let fields = match renamed.as_slice() {
            [] => String::new(),
            renamed => format!("; fields {}", renamed.join(", ")),
        };
        format!(
            "copy of {} by {}: {} % of {} looked at{fields}",
            self.source,
            self.application,
            self.percent,
            words::counted(self.records.into(), "record"),
        )
    }
}

impl From<ProductCopy> for CopyView {
    fn from(copy: ProductCopy) -> Self {
        let fields = copy.fields.into_iter();
        Self {
            source: copy.source,
            application: copy.application,
            team: copy.team,
            percent: copy.percent,
            records: copy.records,
            fields: fields.map(|pair| FieldPair { source: pair.source, copy: pair.copy }).collect(),
            check_time: words::time(copy.check_time),
        }
    }
}

impl Graph {
    /// The node of this id.
    pub(super) fn node(&self, id: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// Where it begins: the product, or the applications.
    pub(super) fn begin(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| match self.root.as_str() {
            "" => node.distance == 0,
            root => node.id == root,
        })
    }

    /// Whether something was left out.
    pub(super) fn has_more(&self) -> bool {
        self.nodes.iter().any(|node| node.has_more && !node.shared)
    }
}

impl From<GetLineageResponse> for Graph {
    fn from(answer: GetLineageResponse) -> Self {
        Self {
            root: answer.root,
            nodes: answer.nodes.into_iter().map(Node::from).collect(),
            edges: answer.edges.into_iter().map(Edge::from).collect(),
        }
    }
}

impl From<LineageNode> for Node {
    fn from(node: LineageNode) -> Self {
        let (id, distance, has_more) = (node.id, node.distance, node.has_more);
        match node.node {
            Some(lineage_node::Node::Product(product)) => Self {
                id,
                kind: "product",
                state: words::word(product.state().as_str_name(), "PRODUCT_STATE_"),
                classification: words::word(
                    product.classification().as_str_name(),
                    "CLASSIFICATION_",
                ),
                name: product.name,
                team: product.owner,
                shared: false,
                distance,
                has_more,
            },
            Some(lineage_node::Node::Application(application)) => Self {
                id,
                kind: "application",
                name: application.name,
                team: application.team,
                state: String::new(),
                classification: String::new(),
                shared: application.shared,
                distance,
                has_more,
            },
            None => Self {
                name: id.clone(),
                id,
                kind: "unknown",
                team: String::new(),
                state: String::new(),
                classification: String::new(),
                shared: false,
                distance,
                has_more,
            },
        }
    }
}

impl From<LineageEdge> for Edge {
    fn from(edge: LineageEdge) -> Self {
        Self {
            kind: words::word(edge.kind().as_str_name(), "LINEAGE_EDGE_KIND_"),
            provenance: words::word(edge.provenance().as_str_name(), "PROVENANCE_KIND_"),
            from: edge.from,
            to: edge.to,
            observed: edge.observed,
            records: edge.records,
            bytes: edge.bytes,
            first_time: words::time(edge.first_time),
            last_time: words::time(edge.last_time),
            versions: edge.versions.into_iter().map(Version::from).collect(),
            copies: edge.copies.into_iter().map(CopyView::from).collect(),
        }
    }
}

impl From<LineageVersion> for Version {
    fn from(version: LineageVersion) -> Self {
        Self {
            schema_version: version.schema_version,
            records: version.records,
            bytes: version.bytes,
            first_time: words::time(version.first_time),
            last_time: words::time(version.last_time),
        }
    }
}
