//! `meshlog team`: the people who answer for products.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use meshlog_client::proto::{CreateTeamRequest, Team};
use serde::Serialize;

use crate::{
    exit::Result,
    output::{Out, OutputArgs, Row},
    settings::ServerArgs,
    words,
};

/// Create, list and show teams.
#[derive(Debug, Subcommand)]
pub(crate) enum TeamCommand {
    /// Create a team
    #[command(before_help = "Example:
  meshlog team create flight-operations --contact ops@nyc.example \\
    --description 'Plans departures'")]
    Create(Create),
    /// List all teams
    List(List),
    /// Show one team
    Show(Show),
}

/// Arguments of `team create`.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Name of the team
    name: String,
    /// Where to reach it: a mail address, a chat channel, a telephone number; at least one
    #[arg(long = "contact", value_name = "CONTACT", required = true)]
    contacts: Vec<String>,
    /// One sentence
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `team list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `team show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Name of the team
    name: String,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl TeamCommand {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        match self {
            Self::Create(args) => {
                let team = Team {
                    name: args.name,
                    contacts: args.contacts,
                    description: args.description,
                    ..Team::default()
                };
                let request = CreateTeamRequest { team: Some(team), ..Default::default() };
                let team = args.server.connect().await?.catalog().create_team(request).await?;
                out.one(args.output.output, &View::from(team))
            }
            Self::List(args) => {
                let teams = args.server.connect().await?.catalog().list_teams().await?;
                let views: Vec<_> = teams.into_iter().map(View::from).collect();
                out.list(args.output.output, &views)
            }
            Self::Show(args) => {
                let team = args.server.connect().await?.catalog().get_team(args.name).await?;
                out.one(args.output.output, &View::from(team))
            }
        }
    }
}

#[derive(Serialize)]
struct View {
    name: String,
    description: String,
    contacts: Vec<String>,
    etag: String,
    create_time: Option<Timestamp>,
    created_by: String,
}

impl From<Team> for View {
    fn from(team: Team) -> Self {
        Self {
            name: team.name,
            description: team.description,
            contacts: team.contacts,
            etag: team.etag,
            create_time: words::time(team.create_time),
            created_by: team.created_by,
        }
    }
}

impl Row for View {
    const PLURAL: &'static str = "teams";
    const HEADER: &'static [&'static str] = &["NAME", "CONTACTS", "DESCRIPTION"];

    fn cells(&self) -> Vec<String> {
        vec![self.name.clone(), self.contacts.join(", "), self.description.clone()]
    }
}
