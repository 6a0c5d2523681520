//! `meshlog product`: create, list, show and delete data products.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    path::PathBuf,
};

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use meshlog_client::proto::{
    self, CreateProductRequest, DeleteProductRequest, Domain, KeyRule, PartitionOffsets, Product,
    SchemaSource, Team,
};
use serde::Serialize;

use crate::{
    exit::{Exit, Failure, Result},
    output::{Format, Out, OutputArgs, Row},
    schema::{self, FieldView},
    settings::ServerArgs,
    tag::{self, FieldTag, ProductTag},
    words,
};

/// Create, list, show and delete data products.
#[derive(Debug, Subcommand)]
pub(crate) enum ProductCommand {
    /// Create a product
    ///
    /// Outside the domain `sandbox` a product needs an owner, a description, a classification and a
    /// schema. In `sandbox` a name is enough.
    #[command(before_help = "Examples:
  meshlog product create sandbox.notes
  meshlog product create ops.flights --owner flight-operations \\
    --description 'Flights from New York' --classification internal \\
    --schema flights.json --new-domain --contact ops@nyc.example")]
    Create(Box<Create>),
    /// List products
    List(List),
    /// Show one product: its facts, where its partitions stand, its fields
    Show(Show),
    /// Delete a product with its records
    Delete(Delete),
}

/// Arguments of `product create`.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// `<domain>.<name>`
    name: String,
    /// The team that answers for it
    #[arg(long, value_name = "TEAM")]
    owner: Option<String>,
    /// What it holds, for a person
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// How far its data may travel
    #[arg(long)]
    classification: Option<Classification>,
    /// Schema of the values: a .json file (JSON Schema), .avsc (Avro) or .proto (Protobuf)
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// Have no schema, for this written reason; needs --media-type
    #[arg(long, value_name = "REASON", conflicts_with = "schema", requires = "media_type")]
    without_schema: Option<String>,
    /// Media type of values without a schema, for instance `image/jpeg`
    #[arg(long, value_name = "TYPE", requires = "without_schema")]
    media_type: Option<String>,
    /// Tag of the product: a name, or a name and a value
    #[arg(long = "tag", value_name = "K=V|TAG")]
    tags: Vec<ProductTag>,
    /// Tag of a field
    #[arg(long = "field-tag", value_name = "PATH:TAG")]
    field_tags: Vec<FieldTag>,
    /// Number of partitions; fixed once created
    #[arg(long, value_name = "N", default_value_t = 1)]
    partitions: u32,
    /// Field of the value that every record's key must equal
    #[arg(long, value_name = "FIELD")]
    key: Option<String>,
    /// Create the domain too, owned by the same team, if it does not exist
    #[arg(long, requires = "owner")]
    new_domain: bool,
    /// With --new-domain: create the team too, with this contact, if it does not exist
    #[arg(long = "contact", value_name = "MAIL", requires = "new_domain")]
    contacts: Vec<String>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// How far a product's data may travel.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Classification {
    /// Anyone
    Public,
    /// Everyone in the organisation
    Internal,
    /// Those who need it
    Confidential,
    /// Named persons
    Restricted,
}

impl From<Classification> for proto::Classification {
    fn from(classification: Classification) -> Self {
        match classification {
            Classification::Public => Self::Public,
            Classification::Internal => Self::Internal,
            Classification::Confidential => Self::Confidential,
            Classification::Restricted => Self::Restricted,
        }
    }
}

/// Arguments of `product list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only products of this domain
    #[arg(long, default_value = "", hide_default_value = true)]
    domain: String,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `product show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// `<domain>.<name>`
    name: String,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `product delete`.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// `<domain>.<name>`
    name: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    server: ServerArgs,
}

impl ProductCommand {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        match self {
            Self::Create(args) => create(*args, out).await,
            Self::List(args) => {
                let client = args.server.connect().await?;
                let products = client.catalog().list_products(args.domain).await?;
                let views: Vec<_> = products.into_iter().map(View::from).collect();
                out.list(args.output.output, &views)
            }
            Self::Show(args) => show(args, out).await,
            Self::Delete(args) => delete(args, out).await,
        }
    }
}

async fn create(args: Create, out: &mut Out) -> Result<()> {
    let value_schema = match (&args.schema, args.without_schema, args.media_type) {
        (Some(file), ..) => Some(schema::read_file(file)?),
        (None, Some(reason), Some(media_type)) => Some(SchemaSource {
            format: proto::SchemaFormat::Opaque.into(),
            reason,
            media_type,
            ..SchemaSource::default()
        }),
        _ => None,
    };
    let owner = args.owner.unwrap_or_default();
    let domain = args.name.split('.').next().unwrap_or_default().to_owned();
    let new_domain = args.new_domain.then(|| Domain {
        name: domain.clone(),
        owner: owner.clone(),
        ..Domain::default()
    });
    let new_team = (!args.contacts.is_empty()).then(|| Team {
        name: owner.clone(),
        contacts: args.contacts,
        ..Team::default()
    });
    let classification = args.classification.map_or(proto::Classification::Unspecified, Into::into);
    let tags = args.tags.into_iter().map(|tag| tag.0);
    let product = Product {
        name: args.name,
        owner,
        description: args.description.unwrap_or_default(),
        classification: classification.into(),
        tags: tags.chain(args.field_tags.into_iter().map(|tag| tag.0)).collect(),
        partitions: args.partitions,
        key: args.key.map(|field| KeyRule { field }),
        ..Product::default()
    };
    let request = CreateProductRequest {
        product: Some(product),
        value_schema,
        new_domain,
        new_team,
        ..CreateProductRequest::default()
    };
    let product = args.server.connect().await?.catalog().create_product(request).await?;
    let view = View::from(product);
    out.one(args.output.output, &view)?;
    if domain == "sandbox" {
        out.note(format_args!(
            "sandbox filled in what was not given: owner {}, classification {}",
            view.owner, view.classification
        ));
    }
    Ok(())
}

async fn show(args: Show, out: &mut Out) -> Result<()> {
    let catalog = args.server.connect().await?.catalog();
    let product = catalog.get_product(args.name.as_str()).await?;
    let offsets = catalog.list_offsets(args.name.as_str(), &[], None).await?;
    let fields = if product.schema_version == 0 {
        Vec::new()
    } else {
        catalog.get_schema_version(args.name.as_str(), 0).await?.fields
    };
    let page = Page {
        product: product.into(),
        offsets: offsets.into_iter().map(OffsetsView::from).collect(),
        fields: fields.into_iter().map(FieldView::from).collect(),
    };
    if args.output.output != Format::Table {
        return out.one(args.output.output, &page);
    }
    out.one(Format::Table, &page.product)?;
    out.line("")?;
    out.list(Format::Table, &page.offsets)?;
    if !page.fields.is_empty() {
        out.line("")?;
        out.list(Format::Table, &page.fields)?;
    }
    Ok(())
}

async fn delete(args: Delete, out: &mut Out) -> Result<()> {
    let catalog = args.server.connect().await?.catalog();
    let product = catalog.get_product(args.name.as_str()).await?;
    if !args.yes {
        let offsets = catalog.list_offsets(args.name.as_str(), &[], None).await?;
        let offsets = offsets.iter().map(|offsets| offsets.durable_end - offsets.start_offset);
        confirm(&format!(
            "Delete {} of team {} with {}?",
            product.name,
            product.owner,
            words::counted(offsets.sum(), "record"),
        ))?;
    }
    let request = DeleteProductRequest {
        name: product.name.clone(),
        product_id: product.id,
        etag: product.etag,
        validate_only: false,
        force: false,
    };
    catalog.delete_product(request).await?;
    out.note(format_args!("deleted {}", product.name));
    Ok(())
}

/// Asks on the terminal; without one, a flag must answer.
fn confirm(question: &str) -> Result<()> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(format!(
            "{question} Nobody is at the terminal to confirm; add --yes to do it"
        )));
    }
    let mut stderr = io::stderr();
    let _ = write!(stderr, "{question} [y/N] ");
    let _ = stderr.flush();
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    match answer.trim() {
        "y" | "Y" | "yes" if read.is_ok() => Ok(()),
        _ => Err(Failure::new(Exit::Error, "nothing was deleted")),
    }
}

#[derive(Serialize)]
struct Page {
    #[serde(flatten)]
    product: View,
    offsets: Vec<OffsetsView>,
    fields: Vec<FieldView>,
}

/// A product as the program shows it.
#[derive(Serialize)]
struct View {
    name: String,
    description: String,
    owner: String,
    contacts: Vec<String>,
    classification: String,
    state: String,
    tags: Vec<String>,
    field_tags: Vec<String>,
    schema_version: u32,
    enforcement: String,
    key: Option<String>,
    partitions: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    docs: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    support: String,
    id: String,
    etag: String,
    create_time: Option<Timestamp>,
    created_by: String,
    update_time: Option<Timestamp>,
    updated_by: String,
}

impl From<Product> for View {
    fn from(product: Product) -> Self {
        let settings = product.effective_settings.unwrap_or_default();
        let tags = |on_fields: bool| {
            product
                .tags
                .iter()
                .filter(|tag| tag.field_path.is_empty() != on_fields)
                .map(tag::text)
                .collect()
        };
        Self {
            classification: words::word(product.classification().as_str_name(), "CLASSIFICATION_"),
            state: words::word(product.state().as_str_name(), "PRODUCT_STATE_"),
            enforcement: words::word(settings.enforcement().as_str_name(), "ENFORCEMENT_"),
            tags: tags(false),
            field_tags: tags(true),
            name: product.name,
            description: product.description,
            owner: product.owner,
            contacts: product.contacts,
            schema_version: product.schema_version,
            key: product.key.map(|rule| rule.field),
            partitions: product.partitions,
            docs: product.docs,
            support: product.support,
            id: product.id,
            etag: product.etag,
            create_time: words::time(product.create_time),
            created_by: product.created_by,
            update_time: words::time(product.update_time),
            updated_by: product.updated_by,
        }
    }
}

impl Row for View {
    const PLURAL: &'static str = "products";
    const HEADER: &'static [&'static str] =
        &["NAME", "OWNER", "CLASSIFICATION", "STATE", "SCHEMA", "PARTITIONS", "DESCRIPTION"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.owner.clone(),
            self.classification.clone(),
            self.state.clone(),
            format!("v{}", self.schema_version),
            self.partitions.to_string(),
            self.description.clone(),
        ]
    }
}

/// Where one partition stands.
#[derive(Serialize)]
struct OffsetsView {
    partition: u32,
    start_offset: u64,
    durable_end: u64,
}

impl From<PartitionOffsets> for OffsetsView {
    fn from(offsets: PartitionOffsets) -> Self {
        Self {
            partition: offsets.partition,
            start_offset: offsets.start_offset,
            durable_end: offsets.durable_end,
        }
    }
}

impl Row for OffsetsView {
    const PLURAL: &'static str = "partitions";
    const HEADER: &'static [&'static str] = &["PARTITION", "START OFFSET", "DURABLE END"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.partition.to_string(),
            self.start_offset.to_string(),
            self.durable_end.to_string(),
        ]
    }
}
