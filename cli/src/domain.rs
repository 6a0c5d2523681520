//! `meshlog domain`: groups of products with one owner.

use std::ffi::OsStr;

use clap::{Args, Subcommand};
use clap_complete::{ArgValueCompleter, CompletionCandidate};
use jiff::Timestamp;
use meshlog_client::{
    Catalog,
    proto::{CreateDomainRequest, DeleteDomainRequest, Domain, UpdateDomainRequest},
};
use serde::Serialize;

use crate::{
    change::{Change, ChangeArgs, DryRunArgs},
    completion,
    exit::Result,
    noun::{self, Noun},
    output::{Out, OutputArgs, Row},
    settings::ServerArgs,
    tag::{self, WholeTag},
    words,
};

/// Create, list, show, update and delete domains.
#[derive(Debug, Subcommand)]
pub(crate) enum DomainCommand {
    /// Create a domain owned by an existing team
    #[command(before_help = "Examples:
  meshlog domain create ops --owner flight-operations --description Departures
  meshlog domain create fleet --owner fleet-engineering --tag pii")]
    Create(Create),
    /// List all domains
    #[command(before_help = "Examples:
  meshlog domain list
  meshlog domain list -o wide")]
    List(noun::List),
    /// Show one domain
    #[command(before_help = "Example:
  meshlog domain show ops")]
    Show(noun::Show<Domains>),
    /// Change a domain
    #[command(before_help = "Examples:
  meshlog domain update ops --owner night-operations
  meshlog domain update ops --tag region=nyc --untag draft --dry-run")]
    Update(Update),
    /// Delete a domain without products
    #[command(before_help = "Example:
  meshlog domain delete ops")]
    Delete(noun::Delete<Domains>),
}

/// Arguments of `domain create`.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Name of the domain, the part of a product's name before the dot
    name: String,
    /// The team that answers for it
    #[arg(long, value_name = "TEAM", add = ArgValueCompleter::new(completion::teams))]
    owner: String,
    /// One sentence
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
    /// Tag that its products have too: a name, or a name and a value
    #[arg(long = "tag", value_name = "K=V|TAG", add = ArgValueCompleter::new(completion::tag_keys))]
    tags: Vec<WholeTag>,
    #[command(flatten)]
    change: DryRunArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `domain update`.
#[derive(Debug, Args)]
pub(crate) struct Update {
    /// Name of the domain
    #[arg(add = ArgValueCompleter::new(completion::domains))]
    name: String,
    #[command(flatten)]
    values: Values,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What an update changes; at least one of them.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Values {
    /// The team that answers for it
    #[arg(long, value_name = "TEAM", add = ArgValueCompleter::new(completion::teams))]
    owner: Option<String>,
    /// One sentence
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Tag that its products have too; replaces the value of one that is there
    #[arg(long = "tag", value_name = "K=V|TAG", add = ArgValueCompleter::new(completion::tag_keys))]
    tags: Vec<WholeTag>,
    /// Tag that goes
    #[arg(long = "untag", value_name = "TAG", add = ArgValueCompleter::new(completion::tag_keys))]
    untags: Vec<String>,
}

impl DomainCommand {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        match self {
            Self::Create(args) => create(args, out).await,
            Self::List(args) => args.run::<Domains>(out).await,
            Self::Show(args) => args.run(out).await,
            Self::Update(args) => update(args, out).await,
            Self::Delete(args) => args.run(out).await,
        }
    }
}

async fn create(args: Create, out: &mut Out) -> Result<()> {
    let domain = Domain {
        name: args.name,
        owner: args.owner,
        description: args.description,
        tags: args.tags.into_iter().map(|tag| tag.0).collect(),
        ..Domain::default()
    };
    let dry_run = args.change.dry_run;
    let request = CreateDomainRequest { domain: Some(domain), validate_only: dry_run };
    let domain = args.server.connect().await?.catalog().create_domain(request).await?;
    out.created(args.output.output, dry_run, &View::from(domain))
}

async fn update(args: Update, out: &mut Out) -> Result<()> {
    let catalog = args.server.connect().await?.catalog();
    let mut domain = catalog.get_domain(args.name.as_str()).await?;
    let before = View::from(domain.clone());
    let mut mask = words::Mask::default();
    if let Some(owner) = args.values.owner {
        domain.owner = owner;
        mask.add("owner");
    }
    if let Some(description) = args.values.description {
        domain.description = description;
        mask.add("description");
    }
    if !args.values.tags.is_empty() || !args.values.untags.is_empty() {
        for key in &args.values.untags {
            tag::remove(&mut domain.tags, key, "")?;
        }
        args.values.tags.into_iter().for_each(|tag| tag::put(&mut domain.tags, tag.0));
        mask.add("tags");
    }
    domain.etag = args.change.etag(&domain.etag);
    let dry_run = args.change.dry_run;
    let request = UpdateDomainRequest {
        domain: Some(domain),
        update_mask: Some(mask.done()),
        validate_only: dry_run,
    };
    let after = View::from(catalog.update_domain(request).await?);
    let change = Change { dry_run, before: Some(&before), after: Some(&after) };
    change.show(args.output.output, out)
}

/// Domains among the things that have a name.
#[derive(Clone, Debug)]
pub(crate) struct Domains;

impl Noun for Domains {
    type View = View;

    const WORD: &'static str = "domain";

    async fn list(catalog: &Catalog) -> Result<Vec<View>> {
        Ok(catalog.list_domains().await?.into_iter().map(View::from).collect())
    }

    async fn find(catalog: &Catalog, name: &str) -> Result<View> {
        Ok(catalog.get_domain(name).await?.into())
    }

    async fn delete(catalog: &Catalog, name: &str, etag: String, dry_run: bool) -> Result<()> {
        let request = DeleteDomainRequest { name: name.into(), etag, validate_only: dry_run };
        Ok(catalog.delete_domain(request).await?)
    }

    fn etag(view: &View) -> &str {
        &view.etag
    }

    fn complete(word: &OsStr) -> Vec<CompletionCandidate> {
        completion::domains(word)
    }
}

/// A domain as the program shows it.
#[derive(Serialize)]
pub(crate) struct View {
    name: String,
    owner: String,
    description: String,
    tags: Vec<String>,
    etag: String,
    create_time: Option<Timestamp>,
    created_by: String,
    update_time: Option<Timestamp>,
    updated_by: String,
}

impl From<Domain> for View {
    fn from(domain: Domain) -> Self {
        Self {
            name: domain.name,
            owner: domain.owner,
            description: domain.description,
            tags: domain.tags.iter().map(tag::text).collect(),
            etag: domain.etag,
            create_time: words::time(domain.create_time),
            created_by: domain.created_by,
            update_time: words::time(domain.update_time),
            updated_by: domain.updated_by,
        }
    }
}

impl Row for View {
    const PLURAL: &'static str = "domains";
    const HEADER: &'static [&'static str] = &["NAME", "OWNER", "DESCRIPTION"];
    const WIDE: &'static [&'static str] = &["TAGS", "CREATED", "BY"];

    fn cells(&self) -> Vec<String> {
        vec![self.name.clone(), self.owner.clone(), self.description.clone()]
    }

    fn wide_cells(&self) -> Vec<String> {
        vec![self.tags.join(", "), words::when(self.create_time), self.created_by.clone()]
    }
}
