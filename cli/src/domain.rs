//! `meshlog domain`: groups of products with one owner.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use meshlog_client::proto::{CreateDomainRequest, Domain};
use serde::Serialize;

use crate::{
    exit::Result,
    output::{Out, OutputArgs, Row},
    settings::ServerArgs,
    words,
};

/// Create, list and show domains.
#[derive(Debug, Subcommand)]
pub(crate) enum DomainCommand {
    /// Create a domain owned by an existing team
    #[command(before_help = "Example:
  meshlog domain create ops --owner flight-operations --description Departures")]
    Create(Create),
    /// List all domains
    List(List),
    /// Show one domain
    Show(Show),
}

/// Arguments of `domain create`.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Name of the domain, the part of a product's name before the dot
    name: String,
    /// The team that answers for it
    #[arg(long, value_name = "TEAM")]
    owner: String,
    /// One sentence
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `domain list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `domain show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Name of the domain
    name: String,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl DomainCommand {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        match self {
            Self::Create(args) => {
                let domain = Domain {
                    name: args.name,
                    owner: args.owner,
                    description: args.description,
                    ..Domain::default()
                };
                let request = CreateDomainRequest { domain: Some(domain), ..Default::default() };
                let domain = args.server.connect().await?.catalog().create_domain(request).await?;
                out.one(args.output.output, &View::from(domain))
            }
            Self::List(args) => {
                let domains = args.server.connect().await?.catalog().list_domains().await?;
                let views: Vec<_> = domains.into_iter().map(View::from).collect();
                out.list(args.output.output, &views)
            }
            Self::Show(args) => {
                let domain = args.server.connect().await?.catalog().get_domain(args.name).await?;
                out.one(args.output.output, &View::from(domain))
            }
        }
    }
}

#[derive(Serialize)]
struct View {
    name: String,
    owner: String,
    description: String,
    etag: String,
    create_time: Option<Timestamp>,
    created_by: String,
}

impl From<Domain> for View {
    fn from(domain: Domain) -> Self {
        Self {
            name: domain.name,
            owner: domain.owner,
            description: domain.description,
            etag: domain.etag,
            create_time: words::time(domain.create_time),
            created_by: domain.created_by,
        }
    }
}

impl Row for View {
    const PLURAL: &'static str = "domains";
    const HEADER: &'static [&'static str] = &["NAME", "OWNER", "DESCRIPTION"];

    fn cells(&self) -> Vec<String> {
        vec![self.name.clone(), self.owner.clone(), self.description.clone()]
    }
}
