//! `meshlog team`: the people who answer for products.

use std::ffi::OsStr;

use clap::{Args, Subcommand};
use clap_complete::{ArgValueCompleter, CompletionCandidate};
use jiff::Timestamp;
use meshlog_client::{
    Catalog,
    proto::{CreateTeamRequest, DeleteTeamRequest, Team, UpdateTeamRequest},
};
use serde::Serialize;

use crate::{
    change::{Change, ChangeArgs, DryRunArgs},
    completion,
    exit::Result,
    noun::{self, Noun},
    output::{Out, OutputArgs, Row},
    settings::ServerArgs,
    words,
};

/// Create, list, show, update and delete teams.
#[derive(Debug, Subcommand)]
pub(crate) enum TeamCommand {
    /// Create a team
    #[command(before_help = "Example:
  meshlog team create flight-operations --contact ops@nyc.example \\
    --description 'Plans departures'")]
    Create(Create),
    /// List all teams
    #[command(before_help = "Examples:
  meshlog team list
  meshlog team list -o name")]
    List(noun::List),
    /// Show one team
    #[command(before_help = "Example:
  meshlog team show flight-operations")]
    Show(noun::Show<Teams>),
    /// Change a team
    #[command(before_help = "Examples:
  meshlog team update flight-operations --description 'Plans departures'
  meshlog team update flight-operations --add-contact '#ops' \\
    --remove-contact ops@nyc.example --dry-run")]
    Update(Update),
    /// Delete a team that owns nothing
    #[command(before_help = "Example:
  meshlog team delete flight-operations")]
    Delete(noun::Delete<Teams>),
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
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
    #[command(flatten)]
    change: DryRunArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `team update`.
#[derive(Debug, Args)]
pub(crate) struct Update {
    /// Name of the team
    #[arg(add = ArgValueCompleter::new(completion::teams))]
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
    /// One sentence
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// A further contact
    #[arg(long = "add-contact", value_name = "CONTACT")]
    add_contacts: Vec<String>,
    /// A contact that goes; one must stay
    #[arg(long = "remove-contact", value_name = "CONTACT")]
    remove_contacts: Vec<String>,
}

impl TeamCommand {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        match self {
            Self::Create(args) => create(args, out).await,
            Self::List(args) => args.run::<Teams>(out).await,
            Self::Show(args) => args.run(out).await,
            Self::Update(args) => update(args, out).await,
            Self::Delete(args) => args.run(out).await,
        }
    }
}

async fn create(args: Create, out: &mut Out) -> Result<()> {
    let team = Team {
        name: args.name,
        contacts: args.contacts,
        description: args.description,
        ..Team::default()
    };
    let dry_run = args.change.dry_run;
    let request = CreateTeamRequest { team: Some(team), validate_only: dry_run };
    let team = args.server.connect().await?.catalog().create_team(request).await?;
    out.created(args.output.output, dry_run, &View::from(team))
}

async fn update(args: Update, out: &mut Out) -> Result<()> {
    let catalog = args.server.connect().await?.catalog();
    let mut team = catalog.get_team(args.name.as_str()).await?;
    let before = View::from(team.clone());
    let mut mask = words::Mask::default();
    if let Some(description) = args.values.description {
        team.description = description;
        mask.add("description");
    }
    if !args.values.add_contacts.is_empty() || !args.values.remove_contacts.is_empty() {
        words::remove_all("contact", &mut team.contacts, &args.values.remove_contacts)?;
        words::add_all(&mut team.contacts, args.values.add_contacts);
        mask.add("contacts");
    }
    team.etag = args.change.etag(&team.etag);
    let dry_run = args.change.dry_run;
    let request = UpdateTeamRequest {
        team: Some(team),
        update_mask: Some(mask.done()),
        validate_only: dry_run,
    };
    let after = View::from(catalog.update_team(request).await?);
    let change = Change { dry_run, before: Some(&before), after: Some(&after) };
    change.show(args.output.output, out)
}

/// Teams among the things that have a name.
#[derive(Clone, Debug)]
pub(crate) struct Teams;

impl Noun for Teams {
    type View = View;

    const WORD: &'static str = "team";

    async fn list(catalog: &Catalog) -> Result<Vec<View>> {
        Ok(catalog.list_teams().await?.into_iter().map(View::from).collect())
    }

    async fn find(catalog: &Catalog, name: &str) -> Result<View> {
        Ok(catalog.get_team(name).await?.into())
    }

    async fn delete(catalog: &Catalog, name: &str, etag: String, dry_run: bool) -> Result<()> {
        let request = DeleteTeamRequest { name: name.into(), etag, validate_only: dry_run };
        Ok(catalog.delete_team(request).await?)
    }

    fn etag(view: &View) -> &str {
        &view.etag
    }

    fn complete(word: &OsStr) -> Vec<CompletionCandidate> {
        completion::teams(word)
    }
}

/// A team as the program shows it.
#[derive(Serialize)]
pub(crate) struct View {
    name: String,
    description: String,
    contacts: Vec<String>,
    etag: String,
    create_time: Option<Timestamp>,
    created_by: String,
    update_time: Option<Timestamp>,
    updated_by: String,
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
            update_time: words::time(team.update_time),
            updated_by: team.updated_by,
        }
    }
}

impl Row for View {
    const PLURAL: &'static str = "teams";
    const HEADER: &'static [&'static str] = &["NAME", "CONTACTS", "DESCRIPTION"];
    const WIDE: &'static [&'static str] = &["CREATED", "BY"];

    fn cells(&self) -> Vec<String> {
        vec![self.name.clone(), self.contacts.join(", "), self.description.clone()]
    }

    fn wide_cells(&self) -> Vec<String> {
        vec![words::when(self.create_time), self.created_by.clone()]
    }
}
