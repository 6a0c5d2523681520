//! `meshlog key` and `meshlog whoami`: who may call a broker.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use clap_complete::ArgValueCompleter;
use jiff::Timestamp;
use meshlog_client::proto::{
    ApiKey, CreateKeyRequest, CreateKeyResponse, ListKeysRequest, RevokeKeyRequest,
};
use serde::Serialize;

use crate::{
    change::DryRunArgs,
    completion,
    confirm::ConfirmArgs,
    credential::NewFile,
    exit::{Failure, Result},
    output::{Format, Out, OutputArgs, Row},
    permission::{self, Permission},
    settings::ServerArgs,
    words,
};

/// Make, list and revoke keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key; its secret is shown this once
    #[command(before_help = "Examples:
  meshlog key create --team billing --for-application nightly-report
  meshlog key create --team billing --permission consume --expires 90d
  meshlog key create --admin --description 'on call' --output-file admin.key")]
    Create(Create),
    /// List keys, without their secrets
    #[command(before_help = "Examples:
  meshlog key list
  meshlog key list --team billing --ended -o json")]
    List(List),
    /// End a key at once, also for streams that are open
    #[command(before_help = "Example:
  meshlog key revoke 01jx3m7v9k5t2q8w4r6y0z1a2b --yes")]
    Revoke(Revoke),
}

/// Arguments of `key create`.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The team that answers for it
    #[arg(long, value_name = "TEAM", required_unless_present = "admin", default_value = "",
        hide_default_value = true, add = ArgValueCompleter::new(completion::teams))]
    team: String,
    /// The program that uses it [default: the one that each call names]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    for_application: String,
    /// What it is for
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
    /// It may do everything
    #[arg(long)]
    admin: bool,
    /// It can be used for this only; may be given several times [default: all that the team may]
    #[arg(long = "permission", value_name = "PERMISSION", value_enum)]
    permissions: Vec<Permission>,
    /// It can be used on this product only; may be given several times
    #[arg(long = "product", value_name = "NAME",
        add = ArgValueCompleter::new(completion::products))]
    products: Vec<String>,
    /// It can be used in this domain only; may be given several times
    #[arg(long = "domain", value_name = "NAME",
        add = ArgValueCompleter::new(completion::domains))]
    domains: Vec<String>,
    /// When it ends by itself: a time from now such as 90d, or a day, or a time [default: never]
    #[arg(long, value_name = "WHEN", value_parser = words::parse_end)]
    expires: Option<Timestamp>,
    /// Write the key into this new file, readable by its owner alone, and do not show it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output_file: Option<PathBuf>,
    #[command(flatten)]
    change: DryRunArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `key list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only of this team
    #[arg(long, value_name = "TEAM", default_value = "", hide_default_value = true,
        add = ArgValueCompleter::new(completion::teams))]
    team: String,
    /// Also those that were revoked or have expired
    #[arg(long)]
    ended: bool,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `key revoke`.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// Its id, as `key list` shows it
    #[arg(add = ArgValueCompleter::new(completion::keys))]
    id: String,
    #[command(flatten)]
    confirm: ConfirmArgs,
    #[command(flatten)]
    server: ServerArgs,
}

impl KeyCommand {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        match self {
            Self::Create(args) => args.run(out).await,
            Self::List(args) => args.run(out).await,
            Self::Revoke(args) => args.run(out).await,
        }
    }
}

impl Create {
    async fn run(self, out: &mut Out) -> Result<()> {
        let dry_run = self.change.dry_run;
        if self.output_file.is_none() && !dry_run {
            shows_secret(self.output.output)?;
        }
        let key = ApiKey {
            team: self.team,
            application: self.for_application,
            description: self.description,
            admin: self.admin,
            permissions: self.permissions.into_iter().map(Permission::to_wire).collect(),
            products: self.products,
            domains: self.domains,
            expire_time: self.expires.map(words::to_wire),
            ..ApiKey::default()
        };
        let governance = self.server.connect().await?.governance();
        let is_first = self.admin && !governance.who_am_i().await?.authentication_required;
        let path = self.output_file.filter(|_| !dry_run);
        let file = path.as_deref().map(NewFile::create).transpose()?;
        let request = CreateKeyRequest { key: Some(key), validate_only: dry_run };
        let created = governance.create_key(request).await?;
        let view = View::made(created, file, out)?;
        out.created(self.output.output, dry_run, &view)?;
        if is_first && !dry_run {
            out.note(FIRST);
        }
        Ok(())
    }
}

/// What the first key of a broker changes.
pub(crate) const FIRST: &str = "from now on every call must say who makes it (--key-file FILE)";

/// Refuses a format in which the secret, which is shown once, would not be seen.
pub(crate) fn shows_secret(format: Format) -> Result<()> {
    match format {
        Format::Name => Err(Failure::usage(
            "-o name would not show the secret, and nothing shows it later; choose another format, or \
             add --output-file FILE",
        )),
        _ => Ok(()),
    }
}

impl List {
    async fn run(self, out: &mut Out) -> Result<()> {
        let governance = self.server.connect().await?.governance();
        let request =
            ListKeysRequest { team: self.team, include_ended: self.ended, ..Default::default() };
        let keys = governance.list_keys(request).await?;
        let views: Vec<View> = keys.into_iter().map(View::from).collect();
        out.list(self.output.output, &views)
    }
}

impl Revoke {
    async fn run(self, out: &mut Out) -> Result<()> {
        let governance = self.server.connect().await?.governance();
        let question = format!("Revoke the key {}?", self.id);
        self.confirm.ask(&question, "nothing was revoked")?;
        let key = governance.revoke_key(RevokeKeyRequest { id: self.id }).await?;
        out.note(format_args!("revoked {}", key.id));
        Ok(())
    }
}

/// Arguments of `whoami`.
#[derive(Debug, Args)]
pub(crate) struct WhoAmI {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl WhoAmI {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        let who = self.server.connect().await?.governance().who_am_i().await?;
        let permissions = permission::words(who.permissions());
        if !who.authentication_required {
            out.note(
                "this broker asks nobody who it is, and everybody may do everything; the first key \
                 changes that: `meshlog init`, or `meshlog key create --admin`",
            );
        }
        out.one(
            self.output.output,
            &Who {
                principal: who.principal,
                team: who.team,
                application: who.application,
                authenticated: who.authenticated,
                admin: who.admin,
                limited_to: permissions,
                expire_time: words::time(who.expire_time),
                authentication_required: who.authentication_required,
            },
        )
    }
}

/// Who the caller is, as the program shows it.
#[derive(Serialize)]
struct Who {
    principal: String,
    team: String,
    application: String,
    authenticated: bool,
    admin: bool,
    limited_to: Vec<String>,
    expire_time: Option<Timestamp>,
    authentication_required: bool,
}

/// A key as the program shows it.
#[derive(Serialize)]
pub(crate) struct View {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<String>,
    team: String,
    application: String,
    description: String,
    admin: bool,
    permissions: Vec<String>,
    products: Vec<String>,
    domains: Vec<String>,
    expire_time: Option<Timestamp>,
    create_time: Option<Timestamp>,
    created_by: String,
    revoke_time: Option<Timestamp>,
    revoked_by: String,
}

impl View {
    /// A key that was made, with its secret: in the file if there is one, else to be shown.
    pub(crate) fn made(
        created: CreateKeyResponse,
        file: Option<NewFile<'_>>,
        out: &mut Out,
    ) -> Result<Self> {
        let view = Self::from(created.key.unwrap_or_default());
        match file {
            Some(file) => {
                out.note(format_args!("the key is in {}", file.path().display()));
                file.write(&created.secret)?;
                Ok(view)
            }
            None if created.secret.is_empty() => Ok(view),
            None => {
                out.note("keep the secret now: it is shown this once");
                Ok(Self { secret: Some(created.secret), ..view })
            }
        }
    }
}

impl From<ApiKey> for View {
    fn from(key: ApiKey) -> Self {
        Self {
            permissions: permission::words(key.permissions()),
            id: key.id,
            secret: None,
            team: key.team,
            application: key.application,
            description: key.description,
            admin: key.admin,
            products: key.products,
            domains: key.domains,
            expire_time: words::time(key.expire_time),
            create_time: words::time(key.create_time),
            created_by: key.created_by,
            revoke_time: words::time(key.revoke_time),
            revoked_by: key.revoked_by,
        }
    }
}

impl Row for View {
    const PLURAL: &'static str = "keys";
    const HEADER: &'static [&'static str] = &["ID", "TEAM", "APPLICATION", "ADMIN", "EXPIRES"];
    const WIDE: &'static [&'static str] = &["CREATED", "BY", "REVOKED", "FOR"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.team.clone(),
            self.application.clone(),
            self.admin.to_string(),
            words::when(self.expire_time),
        ]
    }

    fn wide_cells(&self) -> Vec<String> {
        vec![
            words::when(self.create_time),
            self.created_by.clone(),
            words::when(self.revoke_time),
            self.description.clone(),
        ]
    }
}
