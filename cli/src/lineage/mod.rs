//! `meshlog lineage`: where the data of a product comes from, and where it goes.
//!
//! | File | What |
//! |---|---|
//! | `graph.rs` | the answer of the broker, as the program shows it |
//! | `tree.rs` | for a person on a terminal |
//! | `drawing.rs` | Graphviz and Mermaid |
//! | `openlineage.rs` | events of the OpenLineage standard |

mod drawing;
mod graph;
mod openlineage;
mod tree;

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCompleter;
use jiff::Timestamp;
use meshlog_client::{
    Catalog,
    proto::{GetLineageRequest, LineageDirection, get_lineage_request::Begin},
};

use crate::{
    completion,
    exit::{Exit, Failure, Result},
    output::{Format, Out},
    settings::ServerArgs,
    words,
};
use graph::Graph;

pub(crate) use graph::CopyView;

/// Arguments of `lineage`.
#[derive(Debug, Args)]
#[command(before_help = "Examples:
  meshlog lineage ops.flights
  meshlog lineage ops.delays --up --depth 5
  meshlog lineage delays-job --as-of 2026-11-01
  meshlog lineage ops.flights -o mermaid > flights.mmd
  meshlog lineage ops.flights -o dot | dot -Tsvg > flights.svg
  meshlog lineage ops.flights -o openlineage > events.jsonl")]
pub(crate) struct Lineage {
    /// A product, `<domain>.<name>`, or an application
    #[arg(add = ArgValueCompleter::new(completion::products))]
    name: String,
    /// Only where the data comes from
    #[arg(long, conflicts_with = "down")]
    up: bool,
    /// Only where the data goes
    #[arg(long)]
    down: bool,
    /// How many products away, 1 to 20
    #[arg(long, value_name = "N", default_value_t = 3,
        value_parser = clap::value_parser!(u32).range(1..=20))]
    depth: u32,
    /// The graph as it was then, a day or a time: what had been used by then, and was within a day
    #[arg(long, value_name = "TIME", value_parser = words::parse_time)]
    as_of: Option<Timestamp>,
    /// How to write the answer: table is a tree
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Drawn,
    #[command(flatten)]
    server: ServerArgs,
}

/// How a graph is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Drawn {
    /// A tree, for people
    Table,
    /// One JSON document
    Json,
    /// One YAML document
    Yaml,
    /// For Graphviz
    Dot,
    /// For Markdown pages
    Mermaid,
    /// OpenLineage events, one a line
    Openlineage,
}

impl Lineage {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        let address = self.server.address()?;
        let catalog = self.server.connect().await?.catalog();
        let graph = self.ask(&catalog).await?;
        if graph.has_more() {
            let depth = words::counted(self.depth.into(), "product");
            out.note(format_args!("it goes on beyond {depth} away; see --depth"));
        }
        match self.output {
            Drawn::Table => graph.show_tree(out),
            Drawn::Json => out.one(Format::Json, &graph),
            Drawn::Yaml => out.one(Format::Yaml, &graph),
            Drawn::Dot => out.line(graph.dot()),
            Drawn::Mermaid => out.line(graph.mermaid()),
            Drawn::Openlineage => {
                let events = openlineage::events(&graph, &catalog, &address).await?;
                events.iter().try_for_each(|event| out.line(event))
            }
        }
    }

    /// A name may be that of a product or, if there is no such product, of an application.
    async fn ask(&self, catalog: &Catalog) -> Result<Graph> {
        let direction = match (self.up, self.down) {
            (true, _) => LineageDirection::Upstream,
            (_, true) => LineageDirection::Downstream,
            _ => LineageDirection::Unspecified,
        };
        let request = |begin| GetLineageRequest {
            begin: Some(begin),
            direction: direction.into(),
            depth: self.depth,
            as_of: self.as_of.map(words::to_wire),
        };
        let absent = match catalog.get_lineage(request(Begin::Product(self.name.clone()))).await {
            Ok(answer) => return Ok(Graph::from(answer)),
            Err(error) if error.reason() == "PRODUCT_NOT_FOUND" => error,
            Err(error) => return Err(error.into()),
        };
        let application = request(Begin::Application(self.name.clone()));
        match catalog.get_lineage(application).await {
            Ok(answer) => Ok(Graph::from(answer)),
            Err(_) => {
                let failure = Failure::from(absent);
                let message = format!("{failure}, and no application of that name was seen");
                Err(Failure::new(Exit::NotFound, message))
            }
        }
    }
}
