//! A graph as events of the OpenLineage standard (<https://openlineage.io/spec/2-0-2>).
//!
//! | Here | There |
//! |---|---|
//! | product | dataset, with its schema, owner, description and tags; of a copy also which column came from which |
//! | application | job, streaming, owned by its team |
//! | what was counted | a running run of the job, with what it read and wrote; one per job, whatever its processes |
//! | declared input | an input of the job that makes the product, if one was seen |
//!
//! One event per product and two per application: some receivers read the static ones only.

use std::collections::BTreeMap;

use jiff::Timestamp;
use meshlog_client::{
    Catalog,
    proto::{Product, SchemaField},
};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::graph::{Edge, Graph, Node};
use crate::exit::Result;

const EVENTS: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json";
const FACETS: &str = "https://openlineage.io/spec/facets";

/// The events of a graph, one JSON document each.
pub(super) async fn events(graph: &Graph, catalog: &Catalog, address: &str) -> Result<Vec<Value>> {
    let writer = Writer { namespace: format!("meshlog://{address}"), now: Timestamp::now() };
    let mut events = Vec::new();
    for node in graph.nodes.iter().filter(|node| node.is_product()) {
        let product = catalog.get_product(node.name.as_str()).await?;
        let fields = match product.schema_version {
            0 => Vec::new(),
            version => catalog.get_schema_version(node.name.as_str(), version).await?.fields,
        };
        events.push(writer.dataset_event(&product, &fields));
    }
    for node in graph.nodes.iter().filter(|node| node.kind == "application") {
        events.extend(writer.job_events(graph, node));
    }
    Ok(events)
}

struct Writer {
    namespace: String,
    now: Timestamp,
}

impl Writer {
    fn event(&self, kind: &str, time: Timestamp) -> Map<String, Value> {
        let mut event = Map::new();
        event.insert("eventTime".into(), format!("{time:.3}").into());
        event.insert("producer".into(), producer().into());
        event.insert("schemaURL".into(), format!("{EVENTS}#/$defs/{kind}").into());
        event
    }

    fn dataset_event(&self, product: &Product, fields: &[SchemaField]) -> Value {
        let mut event = self.event("DatasetEvent", self.now);
        let mut facets = Map::new();
        facets.insert(
            "documentation".into(),
            facet("1-1-0/DocumentationDatasetFacet", json!({ "description": product.description })),
        );
        if !fields.is_empty() {
            let fields: Vec<Value> = fields.iter().map(field).collect();
            facets.insert(
                "schema".into(),
                facet("1-2-0/SchemaDatasetFacet", json!({ "fields": fields })),
            );
        }
        if !product.owner.is_empty() {
            let owners = json!([{ "name": format!("team:{}", product.owner), "type": "OWNER" }]);
            facets.insert(
                "ownership".into(),
                facet("1-0-1/OwnershipDatasetFacet", json!({ "owners": owners })),
            );
        }
        let tags = self.tags(product);
        if !tags.is_empty() {
            facets.insert("tags".into(), facet("1-0-0/TagsDatasetFacet", json!({ "tags": tags })));
        }
        if let Some(columns) = self.columns(product) {
            facets.insert("columnLineage".into(), columns);
        }
        event.insert(
            "dataset".into(),
            json!({ "namespace": self.namespace, "name": product.name, "facets": facets }),
        );
        event.into()
    }

    /// The tags that apply, and the classification as one of them.
    fn tags(&self, product: &Product) -> Vec<Value> {
        let applied = product.effective_tags.iter().filter_map(|effective| effective.tag.as_ref());
        let mut tags: Vec<Value> = applied
            .map(|tag| {
                // A key alone says that something is so.
                let value = tag.value.clone().unwrap_or_else(|| "true".into());
                let mut written = json!({ "key": tag.key, "value": value, "source": "USER" });
                if !tag.field_path.is_empty() {
                    written["field"] = tag.field_path.clone().into();
                }
                written
            })
            .collect();
        let classification = product.classification().as_str_name();
        if let Some(word) = classification.strip_prefix("CLASSIFICATION_")
            && word != "UNSPECIFIED"
        {
            let value = word.to_ascii_lowercase();
            tags.push(json!({ "key": "classification", "value": value, "source": "USER" }));
        }
        tags
    }

    /// Which column came from which: known of copies, whose values are the same.
    fn columns(&self, product: &Product) -> Option<Value> {
        let mut columns: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for copy in &product.r#use.as_ref()?.copies {
            for pair in &copy.fields {
                let transformation = json!({
                    "type": "DIRECT",
                    "subtype": "IDENTITY",
                    "description": format!("observed: {} % of the values are the same", copy.percent),
                    "masking": false,
                });
                columns.entry(&pair.copy).or_default().push(json!({
                    "namespace": self.namespace,
                    "name": copy.source,
                    "field": pair.source,
                    "transformations": [transformation],
                }));
            }
        }
        let fields: Map<String, Value> = columns
            .into_iter()
            .map(|(column, inputs)| (column.to_owned(), json!({ "inputFields": inputs })))
            .collect();
        (!fields.is_empty())
            .then(|| facet("1-2-0/ColumnLineageDatasetFacet", json!({ "fields": fields })))
    }

    fn job_events(&self, graph: &Graph, node: &Node) -> [Value; 2] {
        let read: Vec<&Edge> = graph.edges.iter().filter(|edge| edge.to == node.id).collect();
        let written: Vec<&Edge> = graph.edges.iter().filter(|edge| edge.from == node.id).collect();
        let times = read.iter().chain(&written).filter_map(|edge| edge.last_time);
        let time = times.max().unwrap_or(self.now);
        let job = self.job(node);
        let mut r#static = self.event("JobEvent", time);
        let mut running = self.event("RunEvent", time);
        running.insert("eventType".into(), "RUNNING".into());
        let began = read.iter().chain(&written).filter_map(|edge| edge.first_time).min();
        running.insert("run".into(), json!({ "runId": self.run_id(node, began) }));
        for (event, counted) in [(&mut r#static, false), (&mut running, true)] {
            event.insert("job".into(), job.clone());
            let name = |id: &str| graph.node(id).map(|node| node.name.clone());
            let inputs = read.iter().filter_map(|edge| {
                let facets = counted.then(|| {
                    statistics(edge, "inputStatistics", "1-0-0/InputStatisticsInputDatasetFacet")
                });
                Some(self.dataset(name(&edge.from)?, "inputFacets", facets))
            });
            event.insert("inputs".into(), inputs.collect());
            let outputs = written.iter().filter_map(|edge| {
                let facets = counted.then(|| {
                    statistics(edge, "outputStatistics", "1-0-2/OutputStatisticsOutputDatasetFacet")
                });
                Some(self.dataset(name(&edge.to)?, "outputFacets", facets))
            });
            event.insert("outputs".into(), outputs.collect());
        }
        [r#static.into(), running.into()]
    }

    fn job(&self, node: &Node) -> Value {
        let mut facets = Map::new();
        let kind = json!({
            "processingType": "STREAMING",
            "integration": "MESHLOG",
            "jobType": "APPLICATION",
            "emissionPattern": { "eventTrigger": "PERIODIC", "eventContentMode": "COMPLETE_SNAPSHOT" },
        });
        facets.insert("jobType".into(), facet("2-0-4/JobTypeJobFacet", kind));
        if !node.team.is_empty() {
            let owners = json!([{ "name": format!("team:{}", node.team), "type": "OWNER" }]);
            facets.insert(
                "ownership".into(),
                facet("1-0-1/OwnershipJobFacet", json!({ "owners": owners })),
            );
        }
        json!({ "namespace": self.namespace, "name": node.name, "facets": facets })
    }

    fn dataset(&self, name: String, key: &str, facets: Option<Value>) -> Value {
        let mut dataset = json!({ "namespace": self.namespace, "name": name });
        if let Some(facets) = facets {
            dataset[key] = facets;
        }
        dataset
    }

    /// The same as long as the traffic is that of the same application of the same broker.
    fn run_id(&self, node: &Node, began: Option<Timestamp>) -> String {
        let text = format!("{}/{}/{}", self.namespace, node.id, began.unwrap_or_default());
        let mut id = [0; 16];
        id.copy_from_slice(&Sha256::digest(text)[..16]);
        // Version 8 (made by the application's own rule) of RFC 9562.
        id[6] = id[6] & 0x0f | 0x80;
        id[8] = id[8] & 0x3f | 0x80;
        let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }
}

/// Who says so.
fn producer() -> String {
    format!("https://meshlog.dev/meshlog/{}", env!("CARGO_PKG_VERSION"))
}

/// A facet of this version and name.
fn facet(schema: &str, content: Value) -> Value {
    let name = schema.rsplit('/').next().unwrap_or_default();
    let mut facet = content;
    facet["_producer"] = producer().into();
    facet["_schemaURL"] = format!("{FACETS}/{schema}.json#/$defs/{name}").into();
    facet
}

fn field(field: &SchemaField) -> Value {
    let mut written = json!({ "name": field.path, "type": field.r#type });
    if !field.docs.is_empty() {
        written["description"] = field.docs.clone().into();
    }
    written
}

fn statistics(edge: &Edge, name: &str, schema: &str) -> Value {
    json!({ name: facet(schema, json!({ "rowCount": edge.records, "size": edge.bytes })) })
}
