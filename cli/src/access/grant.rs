//! Grants: giving permissions, listing them, taking them back.

use clap::Args;
use clap_complete::ArgValueCompleter;
use jiff::Timestamp;
use meshlog_client::proto::{
    AccessScope, CreateGrantRequest, Grant, ListGrantsRequest, RevokeGrantRequest,
    access_scope::What,
};
use serde::Serialize;

use crate::{
    change::DryRunArgs,
    completion,
    confirm::ConfirmArgs,
    exit::Result,
    output::{Out, OutputArgs, Row},
    permission::{self, Permission},
    settings::ServerArgs,
    words,
};

/// Arguments of `access grant`.
#[derive(Debug, Args)]
pub(crate) struct Give {
    /// Who gets them; `*` is every team
    #[arg(add = ArgValueCompleter::new(completion::teams))]
    team: String,
    /// What it allows
    #[arg(value_name = "PERMISSION", required = true, value_enum)]
    permissions: Vec<Permission>,
    #[command(flatten)]
    on: On,
    /// Only with this application of the team
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    for_application: String,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    purpose: String,
    /// When it ends by itself: a time from now such as 90d, or a day, or a time [default: never]
    #[arg(long, value_name = "WHEN", value_parser = words::parse_end)]
    expires: Option<Timestamp>,
    #[command(flatten)]
    change: DryRunArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What a grant is on.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct On {
    /// On this product
    #[arg(long, value_name = "NAME", add = ArgValueCompleter::new(completion::products))]
    product: Option<String>,
    /// On this domain and every product in it
    #[arg(long, value_name = "NAME", add = ArgValueCompleter::new(completion::domains))]
    domain: Option<String>,
    /// On every product with this tag: KEY or KEY=VALUE
    #[arg(long, value_name = "TAG", add = ArgValueCompleter::new(completion::tag_keys))]
    tag: Option<String>,
    /// On everything there is
    #[arg(long)]
    everything: bool,
}

/// Arguments of `access grants`.
#[derive(Debug, Args)]
pub(crate) struct Grants {
    /// Only those on this product itself
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true,
        add = ArgValueCompleter::new(completion::products))]
    product: String,
    /// Only of this team
    #[arg(long, value_name = "TEAM", default_value = "", hide_default_value = true,
        add = ArgValueCompleter::new(completion::teams))]
    team: String,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `access revoke`.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// The id of the grant
    #[arg(add = ArgValueCompleter::new(completion::grants))]
    id: String,
    #[command(flatten)]
    confirm: ConfirmArgs,
    #[command(flatten)]
    server: ServerArgs,
}

impl Grants {
    pub(super) async fn run(self, out: &mut Out) -> Result<()> {
        let governance = self.server.connect().await?.governance();
        let request =
            ListGrantsRequest { team: self.team, product: self.product, ..Default::default() };
        let grants = governance.list_grants(request).await?;
        let views: Vec<GrantView> = grants.into_iter().map(GrantView::from).collect();
        out.list(self.output.output, &views)
    }
}

impl Revoke {
    pub(super) async fn run(self, out: &mut Out) -> Result<()> {
        let governance = self.server.connect().await?.governance();
        let question = format!("Take the grant {} back?", self.id);
        self.confirm.ask(&question, "nothing was taken back")?;
        let grant = governance.revoke_grant(RevokeGrantRequest { id: self.id }).await?;
        out.note(format_args!("took {} back from {}", grant.id, grant.team));
        Ok(())
    }
}

impl Give {
    pub(super) async fn run(self, out: &mut Out) -> Result<()> {
        let On { product, domain, tag, everything } = self.on;
        let what = product.map(What::Product).or(domain.map(What::Domain)).or(tag.map(What::Tag));
        let what = what.or(everything.then_some(What::Everything(true)));
        let grant = Grant {
            team: self.team,
            application: self.for_application,
            permissions: self.permissions.into_iter().map(Permission::to_wire).collect(),
            scope: Some(AccessScope { what, ..AccessScope::default() }),
            purpose: self.purpose,
            expire_time: self.expires.map(words::to_wire),
            ..Grant::default()
        };
        let governance = self.server.connect().await?.governance();
        let request = CreateGrantRequest { grant: Some(grant), validate_only: self.change.dry_run };
        let grant = governance.create_grant(request).await?;
        out.created(self.output.output, self.change.dry_run, &GrantView::from(grant))
    }
}

/// A grant as the program shows it.
#[derive(Serialize)]
pub(super) struct GrantView {
    id: String,
    team: String,
    application: String,
    permissions: Vec<String>,
    on: String,
    purpose: String,
    expire_time: Option<Timestamp>,
    request_id: String,
    create_time: Option<Timestamp>,
    created_by: String,
}

impl From<Grant> for GrantView {
    fn from(grant: Grant) -> Self {
        let permissions = permission::words(grant.permissions());
        let on = match grant.scope.and_then(|scope| scope.what) {
            Some(What::Product(name)) => format!("product {name}"),
            Some(What::Domain(name)) => format!("domain {name}"),
            Some(What::Tag(tag)) => format!("tag {tag}"),
            Some(What::Everything(_)) => "everything".to_owned(),
            None => String::new(),
        };
        Self {
            id: grant.id,
            team: grant.team,
            application: grant.application,
            permissions,
            on,
            purpose: grant.purpose,
            expire_time: words::time(grant.expire_time),
            request_id: grant.request_id,
            create_time: words::time(grant.create_time),
            created_by: grant.created_by,
        }
    }
}

impl Row for GrantView {
    const PLURAL: &'static str = "grants";
    const HEADER: &'static [&'static str] = &["ID", "TEAM", "PERMISSIONS", "ON", "EXPIRES"];
    const WIDE: &'static [&'static str] = &["APPLICATION", "CREATED", "BY", "PURPOSE"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.team.clone(),
            self.permissions.join(", "),
            self.on.clone(),
            words::when(self.expire_time),
        ]
    }

    fn wide_cells(&self) -> Vec<String> {
        vec![
            self.application.clone(),
            words::when(self.create_time),
            self.created_by.clone(),
            self.purpose.clone(),
        ]
    }
}
