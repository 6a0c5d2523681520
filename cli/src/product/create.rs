//! `meshlog product create`.

use std::path::PathBuf;

use clap::Args;
use clap_complete::ArgValueCompleter;
use meshlog_client::proto::{
    self, CreateProductRequest, Domain, KeyRule, Product, SchemaSource, Team,
};

use super::{
    View,
    values::{Classification, Facts},
};
use crate::{
    change::DryRunArgs,
    completion,
    exit::Result,
    output::{Out, OutputArgs},
    schema,
    settings::ServerArgs,
    tag::{FieldTag, WholeTag},
};

/// Arguments of `product create`.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// `<domain>.<name>`
    name: String,
    /// The team that answers for it
    #[arg(long, value_name = "TEAM", add = ArgValueCompleter::new(completion::teams))]
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
    /// Tag of the product: a key of the vocabulary, or a key and a value
    #[arg(long = "tag", value_name = "K=V|TAG", add = ArgValueCompleter::new(completion::tag_keys))]
    tags: Vec<WholeTag>,
    /// Tag of a field
    #[arg(long = "field-tag", value_name = "PATH:TAG")]
    field_tags: Vec<FieldTag>,
    #[command(flatten)]
    facts: Facts,
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
    change: DryRunArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl Create {
    /// Runs the command.
    pub(super) async fn run(self, out: &mut Out) -> Result<()> {
        let value_schema = match (&self.schema, self.without_schema, self.media_type) {
            (Some(file), ..) => Some(schema::read_file(file)?),
            (None, Some(reason), Some(media_type)) => Some(SchemaSource {
                format: proto::SchemaFormat::Opaque.into(),
                reason,
                media_type,
                ..SchemaSource::default()
            }),
            _ => None,
        };
        let owner = self.owner.unwrap_or_default();
        let keeps_what_it_says = self.facts.limits.names_an_age();
        let domain = self.name.split('.').next().unwrap_or_default().to_owned();
        let new_domain = self.new_domain.then(|| Domain {
            name: domain.clone(),
            owner: owner.clone(),
            ..Domain::default()
        });
        let new_team = (!self.contacts.is_empty()).then(|| Team {
            name: owner.clone(),
            contacts: self.contacts,
            ..Team::default()
        });
        let classification =
            self.classification.map_or(proto::Classification::Unspecified, Into::into);
        let tags = self.tags.into_iter().map(|tag| tag.0);
        let mut product = Product {
            name: self.name,
            owner,
            description: self.description.unwrap_or_default(),
            classification: classification.into(),
            tags: tags.chain(self.field_tags.into_iter().map(|tag| tag.0)).collect(),
            partitions: self.partitions,
            key: self.key.map(|field| KeyRule { field }),
            ..Product::default()
        };
        self.facts.put(&mut product)?;
        let request = CreateProductRequest {
            product: Some(product),
            value_schema,
            new_domain,
            new_team,
            validate_only: self.change.dry_run,
            ..CreateProductRequest::default()
        };
        let product = self.server.connect().await?.catalog().create_product(request).await?;
        let view = View::from(product);
        out.created(self.output.output, self.change.dry_run, &view)?;
        if domain == "sandbox" {
            out.note(format_args!(
                "sandbox filled in what was not given: owner {}, classification {}",
                view.owner, view.classification
            ));
            if !keeps_what_it_says && let Some(age) = &view.retention_age {
                out.note(format_args!(
                    "records older than {age} are deleted; to keep them: \
                     `meshlog product update {} --retention-age unlimited`",
                    view.name
                ));
            }
        }
        Ok(())
    }
}
