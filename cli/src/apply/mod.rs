//! `meshlog apply`, `meshlog diff` and `meshlog export`: a data mesh as files.
//!
//! ```text
//! files ─ read ─► document ─┐
//!                           ├─ plan (compare, ask the broker) ─ show ─ confirm ─ run, by etags
//! broker ─ there ─► found ──┘
//! broker ─ export ─► document ─► YAML, ODCS
//! ```
//!
//! | File | What |
//! |---|---|
//! | `document.rs`, `terms.rs` | the format |
//! | `read.rs` | from files to a document, with places of errors and bounds |
//! | `convert.rs` | document and contract |
//! | `there.rs` | what the broker has |
//! | `plan.rs`, `product.rs`, `order.rs` | what is different, and what to do in which order |
//! | `work.rs` | one call, and whether the broker would take it |
//! | `run.rs` | showing a plan, carrying it out |
//! | `export.rs` | from the broker to a document |
//! | `odcs.rs` | data contracts of the Open Data Contract Standard |

mod asyncapi;
mod convert;
mod document;
mod export;
mod odcs;
mod odps;
mod order;
mod plan;
mod product;
mod read;
mod run;
mod terms;
mod there;
mod work;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCompleter;
use meshlog_broker::config::reference;

use crate::{
    completion,
    confirm::ConfirmArgs,
    exit::{Exit, Failure, Result},
    output::{Out, OutputArgs},
    settings::ServerArgs,
};
use document::Document;
use plan::{Options, Plan};
use there::There;

/// Arguments of `apply`.
#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// File with teams, tag keys, domains and products, or a data contract (ODCS); a directory: its
    /// .yaml and .yml files; `-`: standard input. May be given several times
    #[arg(short, long = "file", value_name = "FILE", required_unless_present = "schema")]
    files: Vec<PathBuf>,
    /// Have the broker check everything and show what would change, but change nothing
    #[arg(long)]
    dry_run: bool,
    /// Delete what carries the `managed_by` of these files and is no longer in them; never a product
    /// that somebody reads, or that holds records
    #[arg(long)]
    prune: bool,
    /// With --prune: products that hold records, too
    #[arg(long, requires = "prune")]
    prune_data: bool,
    /// Take what another file looks after
    #[arg(long)]
    take_over: bool,
    /// Print the JSON Schema of such a file, for editors, and end
    #[arg(long, exclusive = true)]
    schema: bool,
    #[command(flatten)]
    confirm: ConfirmArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// File, directory or `-`, as for `meshlog apply`
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Show also what `meshlog apply --prune` would delete
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Products, by `<domain>.<name>`; none: all
    #[arg(add = ArgValueCompleter::new(completion::products))]
    names: Vec<String>,
    /// Only what is of this domain
    #[arg(long, add = ArgValueCompleter::new(completion::domains))]
    domain: Option<String>,
    /// In which format
    #[arg(long, value_name = "FORMAT", default_value = "meshlog")]
    format: ExportFormat,
    #[command(flatten)]
    server: ServerArgs,
}

/// What an export is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    /// What `meshlog apply` takes
    Meshlog,
    /// A data contract for each product, of the Open Data Contract Standard 3.1
    Odcs,
    /// A data product for each, of the Open Data Product Standard 1.0; only written
    Odps,
    /// One AsyncAPI 3.1 document with a channel for each product; only written
    Asyncapi,
}

impl Apply {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        if self.schema {
            return out.line(schema_text()?.trim_end());
        }
        let given = read::read(&self.files)?;
        let catalog = self.server.connect().await?.catalog();
        let there = There::read(&catalog, &given, self.prune).await?;
        let options =
            Options { prune: self.prune, prune_data: self.prune_data, take_over: self.take_over };
        let mut plan = Plan::make(&catalog, &given, &there, options).await?;
        plan.validate(&catalog).await?;
        plan.show(self.output, out)?;
        plan.refuse_problems()?;
        if self.dry_run {
            out.note("dry run: nothing was changed");
            return Ok(());
        }
        if plan.is_done() {
            return Ok(());
        }
        if let Some(losses) = plan.losses() {
            let question = format!("This will {losses}, for good. Go on?");
            self.confirm.ask(&question, "nothing was changed")?;
        }
        plan.run(&catalog, out).await
    }
}

impl Diff {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        let given = read::read(&self.files)?;
        let catalog = self.server.connect().await?.catalog();
        let there = There::read(&catalog, &given, self.prune).await?;
        let options = Options { prune: self.prune, ..Options::default() };
        let plan = Plan::make(&catalog, &given, &there, options).await?;
        plan.show(self.output, out)?;
        for problem in &plan.problems {
            out.note(&problem.text);
        }
        match plan.is_done() && plan.problems.is_empty() {
            true => Ok(()),
            false => Err(Failure::quiet(Exit::Different)),
        }
    }
}

impl Export {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        let catalog = self.server.connect().await?.catalog();
        let document = export::document(&catalog, self.domain.as_deref(), &self.names).await?;
        let text = match self.format {
            ExportFormat::Meshlog => export::text(&document)?,
            ExportFormat::Odcs => {
                let mut fields = Vec::new();
                for product in &document.products {
                    let version = catalog.get_schema_version(product.name.as_str(), 0).await?;
                    fields.push(version.fields);
                }
                odcs::export(&document, &fields)?
            }
            ExportFormat::Odps => odps::export(&document)?,
            ExportFormat::Asyncapi => asyncapi::export(&document)?,
        };
        out.data(text.as_bytes())
    }
}

/// The JSON Schema of a file.
fn schema_text() -> Result<String> {
    let mut schema = reference::schema_of::<Document>();
    if let serde_json::Value::Object(members) = &mut schema {
        members.insert("title".into(), "A Meshlog data mesh".into());
    }
    let text = serde_json::to_string_pretty(&schema)
        .map_err(|error| Failure::new(Exit::Error, format!("no schema: {error}")))?;
    Ok(text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its text lies in docs/ for editors; `MESHLOG_WRITE_DOCS=1` writes it anew.
    #[test]
    fn the_schema_in_the_documentation_is_that_of_the_types() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/mesh.schema.json");
        let text = schema_text().unwrap();
        if std::env::var_os("MESHLOG_WRITE_DOCS").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(written, text, "write it anew with MESHLOG_WRITE_DOCS=1 cargo test");
    }

    #[test]
    fn the_schema_takes_what_the_reader_takes_and_nothing_else() {
        let schema: serde_json::Value = serde_json::from_str(&schema_text().unwrap()).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let flights = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/flights/mesh.yaml");
        let text = std::fs::read_to_string(flights).unwrap();
        let mut mesh: serde_json::Value = read::parse(flights, &text).unwrap().remove(0);
        assert!(validator.is_valid(&mesh));
        let products = mesh["products"].as_array_mut().unwrap();
        products[0]["ownr"] = "x".into();
        assert!(!validator.is_valid(&mesh));
    }
}
