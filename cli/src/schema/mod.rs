//! `meshlog schema`: the versions of a product's schema.

mod check;
mod diff;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;
use jiff::Timestamp;
use meshlog_client::proto::{
    AddSchemaVersionRequest, SchemaField, SchemaFormat, SchemaSource, SchemaVersion,
};
use serde::Serialize;

use crate::{
    change::{DryRunArgs, Line},
    completion,
    exit::{Failure, Result},
    output::{Format, Out, OutputArgs, Row},
    settings::ServerArgs,
    words,
};

/// List, show, compare, check and add versions of a product's schema.
#[derive(Debug, Subcommand)]
pub(crate) enum SchemaCommand {
    /// List the versions of a product's schema, oldest first
    #[command(before_help = "Examples:
  meshlog schema list ops.flights
  meshlog schema list ops.flights -o json")]
    List(List),
    /// Show one version: its text and its fields
    #[command(before_help = "Examples:
  meshlog schema show ops.flights
  meshlog schema show ops.flights --version 1 -o json")]
    Show(Show),
    /// Compare two versions: which fields differ, and the two texts
    #[command(before_help = "Examples:
  meshlog schema diff ops.flights
  meshlog schema diff ops.flights --from 1 --to 3 -o json")]
    Diff(diff::Diff),
    /// Check whether a schema could be the next version: every difference, and what to do about it
    #[command(before_help = "Examples:
  meshlog schema check ops.flights --schema flights-2.json
  meshlog schema check ops.flights --schema flights-2.json --against retained
  meshlog schema check ops.flights --schema f2.json --against all --mode full")]
    Check(check::Check),
    /// Add a version, which becomes the current one
    #[command(before_help = "Examples:
  meshlog schema add ops.flights flights-2.json
  meshlog schema add ops.flights flights-2.json --dry-run")]
    Add(Add),
}

/// Arguments of `schema list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// `<domain>.<name>` of the product
    #[arg(add = ArgValueCompleter::new(completion::products))]
    product: String,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `schema show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// `<domain>.<name>` of the product
    #[arg(add = ArgValueCompleter::new(completion::products))]
    product: String,
    /// Which version; 0 is the current one
    #[arg(
        long,
        default_value_t = 0,
        value_name = "N",
        add = ArgValueCompleter::new(completion::schema_versions)
    )]
    version: u32,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `schema add`.
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// `<domain>.<name>` of the product
    #[arg(add = ArgValueCompleter::new(completion::products))]
    product: String,
    /// A .json file (JSON Schema), .avsc (Avro) or .proto (Protobuf)
    file: PathBuf,
    #[command(flatten)]
    change: DryRunArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl SchemaCommand {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        match self {
            Self::List(args) => {
                let catalog = args.server.connect().await?.catalog();
                let versions = catalog.list_schema_versions(args.product).await?;
                let views: Vec<_> = versions.into_iter().map(View::from).collect();
                out.list(args.output.output, &views)
            }
            Self::Show(args) => {
                let catalog = args.server.connect().await?.catalog();
                let version = catalog.get_schema_version(args.product, args.version).await?;
                show(version, args.output.output, out)
            }
            Self::Add(args) => {
                let value_schema = Some(read_file(&args.file)?);
                let request = AddSchemaVersionRequest {
                    product: args.product,
                    value_schema,
                    validate_only: args.change.dry_run,
                    ..AddSchemaVersionRequest::default()
                };
                let catalog = args.server.connect().await?.catalog();
                let format = args.output.output;
                if args.change.dry_run {
                    let shown = diff::dry_run(&catalog, request.clone(), format, out).await;
                    return check::explained(&catalog, &request, format, shown, out).await;
                }
                let added = catalog.add_schema_version(request.clone()).await;
                let added = added.map_err(Failure::from);
                let version = check::explained(&catalog, &request, format, added, out).await?;
                out.list(args.output.output, &[View::from(version)])
            }
            Self::Diff(args) => args.run(out).await,
            Self::Check(args) => args.run(out).await,
        }
    }
}

fn show(version: SchemaVersion, format: Format, out: &mut Out) -> Result<()> {
    let page = Page {
        fields: version.fields.iter().cloned().map(FieldView::from).collect(),
        schema: version.value.as_ref().map(|source| source.text.clone()).unwrap_or_default(),
        version: version.into(),
    };
    if !format.is_for_people() {
        return out.one(format, &page);
    }
    out.one(format, &page.version)?;
    if !page.fields.is_empty() {
        out.line("")?;
        out.list(format, &page.fields)?;
    }
    if !page.schema.is_empty() {
        out.line("")?;
        out.line(page.schema.trim_end())?;
    }
    Ok(())
}

/// A schema from a file, whose extension says the format.
pub(crate) fn read_file(path: &Path) -> Result<SchemaSource> {
    let format = match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => SchemaFormat::JsonSchema,
        Some("avsc") => SchemaFormat::Avro,
        Some("proto") => SchemaFormat::Protobuf,
        _ => {
            return Err(Failure::usage(format!(
                "{}: the format of a schema follows from its extension; name the file .json (JSON \
                 Schema), .avsc (Avro) or .proto (Protobuf)",
                path.display()
            )));
        }
    };
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::usage(format!("the schema {} cannot be read: {error}", path.display()))
    })?;
    Ok(SchemaSource { format: format.into(), text, ..SchemaSource::default() })
}

/// The fields that differ between two versions, a line for each.
pub(crate) fn field_differences(from: &[SchemaField], to: &[SchemaField]) -> Vec<Line> {
    diff::lines(from, to)
}

/// What a format is called.
pub(crate) fn format_word(format: SchemaFormat) -> String {
    words::word(format.as_str_name(), "SCHEMA_FORMAT_").replace('_', "-")
}

#[derive(Serialize)]
struct Page {
    #[serde(flatten)]
    version: View,
    fields: Vec<FieldView>,
    schema: String,
}

#[derive(Serialize)]
struct View {
    version: u32,
    format: String,
    fingerprint: String,
    create_time: Option<Timestamp>,
    created_by: String,
}

impl From<SchemaVersion> for View {
    fn from(version: SchemaVersion) -> Self {
        Self {
            version: version.version,
            format: version.value.map(|source| format_word(source.format())).unwrap_or_default(),
            fingerprint: version.value_fingerprint,
            create_time: words::time(version.create_time),
            created_by: version.created_by,
        }
    }
}

impl Row for View {
    const PLURAL: &'static str = "schema versions";
    const HEADER: &'static [&'static str] = &["VERSION", "FORMAT", "FINGERPRINT", "CREATED", "BY"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.version.to_string(),
            self.format.clone(),
            self.fingerprint.chars().take(12).collect(),
            words::when(self.create_time),
            self.created_by.clone(),
        ]
    }
}

/// One field of a schema as the program shows it.
#[derive(Serialize)]
pub(crate) struct FieldView {
    path: String,
    r#type: String,
    optional: bool,
    docs: String,
}

impl FieldView {
    /// Names joined by dots.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

impl From<SchemaField> for FieldView {
    fn from(field: SchemaField) -> Self {
        Self { path: field.path, r#type: field.r#type, optional: field.optional, docs: field.docs }
    }
}

impl Row for FieldView {
    const PLURAL: &'static str = "fields";
    const HEADER: &'static [&'static str] = &["FIELD", "TYPE", "OPTIONAL", "DESCRIPTION"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.path.clone(),
            self.r#type.clone(),
            if self.optional { "yes" } else { "no" }.into(),
            self.docs.clone(),
        ]
    }
}
