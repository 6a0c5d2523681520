//! Requests for access: asking the owner, and deciding.

use clap::Args;
use clap_complete::ArgValueCompleter;
use jiff::Timestamp;
use meshlog_client::proto::{
    AccessRequest, AccessRequestState, ApproveAccessRequest, DenyAccessRequest,
    ListAccessRequestsRequest, RequestAccessRequest,
};
use serde::Serialize;

use super::grant::GrantView;
use crate::{
    change::DryRunArgs,
    completion,
    exit::Result,
    output::{Out, OutputArgs, Row},
    permission::{self, Permission},
    settings::ServerArgs,
    words,
};

/// Arguments of `access requests`.
#[derive(Debug, Args)]
pub(crate) struct Requests {
    /// Only for this product
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true,
        add = ArgValueCompleter::new(completion::products))]
    product: String,
    /// Also those that are decided
    #[arg(long)]
    decided: bool,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `access approve`.
#[derive(Debug, Args)]
pub(crate) struct Approve {
    /// The id of the request
    #[arg(add = ArgValueCompleter::new(completion::access_requests))]
    id: String,
    /// When the grant ends by itself: a time from now such as 90d, or a day, or a time [default:
    /// what was asked for, or never]
    #[arg(long, value_name = "WHEN", value_parser = words::parse_end)]
    expires: Option<Timestamp>,
    /// What to say to it
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `access deny`.
#[derive(Debug, Args)]
pub(crate) struct Deny {
    /// The id of the request
    #[arg(add = ArgValueCompleter::new(completion::access_requests))]
    id: String,
    /// What to say to it
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `product request-access`.
#[derive(Debug, Args)]
pub(crate) struct RequestAccess {
    /// Name of the product
    #[arg(add = ArgValueCompleter::new(completion::products))]
    name: String,
    /// What it is for: the owner decides by it
    #[arg(long, value_name = "TEXT")]
    purpose: String,
    /// What to ask for; may be given several times [default: consume]
    #[arg(long = "permission", value_name = "PERMISSION", value_enum)]
    permissions: Vec<Permission>,
    /// Until when: a time from now such as 90d, or a day, or a time [default: without an end]
    #[arg(long, value_name = "WHEN", value_parser = words::parse_end)]
    expires: Option<Timestamp>,
    /// Only for this application of the team
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    for_application: String,
    #[command(flatten)]
    change: DryRunArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl Requests {
    pub(super) async fn run(self, out: &mut Out) -> Result<()> {
        let governance = self.server.connect().await?.governance();
        let request = ListAccessRequestsRequest {
            product: self.product,
            include_decided: self.decided,
            ..Default::default()
        };
        let requests = governance.list_access_requests(request).await?;
        let views: Vec<RequestView> = requests.into_iter().map(RequestView::from).collect();
        out.list(self.output.output, &views)
    }
}

impl Approve {
    pub(super) async fn run(self, out: &mut Out) -> Result<()> {
        let governance = self.server.connect().await?.governance();
        let request = ApproveAccessRequest {
            id: self.id,
            expire_time: self.expires.map(words::to_wire),
            reason: self.reason,
        };
        let approved = governance.approve_access(request).await?;
        out.one(self.output.output, &GrantView::from(approved.grant.unwrap_or_default()))
    }
}

impl Deny {
    pub(super) async fn run(self, out: &mut Out) -> Result<()> {
        let governance = self.server.connect().await?.governance();
        let request = DenyAccessRequest { id: self.id, reason: self.reason };
        out.one(self.output.output, &RequestView::from(governance.deny_access(request).await?))
    }
}

impl RequestAccess {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        let governance = self.server.connect().await?.governance();
        let request = RequestAccessRequest {
            product: self.name,
            permissions: self.permissions.into_iter().map(Permission::to_wire).collect(),
            purpose: self.purpose,
            application: self.for_application,
            validate_only: self.change.dry_run,
            expire_time: self.expires.map(words::to_wire),
        };
        let view = RequestView::from(governance.request_access(request).await?);
        out.created(self.output.output, self.change.dry_run, &view)?;
        if !self.change.dry_run {
            out.note(format_args!(
                "the team {} decides; `meshlog access requests --decided` shows where it stands",
                view.owner
            ));
        }
        Ok(())
    }
}

/// A request as the program shows it.
#[derive(Serialize)]
struct RequestView {
    id: String,
    product: String,
    owner: String,
    team: String,
    application: String,
    permissions: Vec<String>,
    purpose: String,
    state: String,
    create_time: Option<Timestamp>,
    created_by: String,
    decide_time: Option<Timestamp>,
    decided_by: String,
    reason: String,
    grant_id: String,
    expire_time: Option<Timestamp>,
}

impl From<AccessRequest> for RequestView {
    fn from(request: AccessRequest) -> Self {
        let state = AccessRequestState::as_str_name(&request.state());
        Self {
            permissions: permission::words(request.permissions()),
            state: words::word(state, "ACCESS_REQUEST_STATE_"),
            id: request.id,
            product: request.product,
            owner: request.owner,
            team: request.team,
            application: request.application,
            purpose: request.purpose,
            create_time: words::time(request.create_time),
            created_by: request.created_by,
            decide_time: words::time(request.decide_time),
            decided_by: request.decided_by,
            reason: request.reason,
            grant_id: request.grant_id,
            expire_time: words::time(request.expire_time),
        }
    }
}

impl Row for RequestView {
    const PLURAL: &'static str = "requests";
    const HEADER: &'static [&'static str] =
        &["ID", "PRODUCT", "TEAM", "PERMISSIONS", "STATE", "PURPOSE"];
    const WIDE: &'static [&'static str] =
        &["UNTIL", "OWNER", "CREATED", "BY", "DECIDED BY", "REASON"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.product.clone(),
            self.team.clone(),
            self.permissions.join(", "),
            self.state.clone(),
            self.purpose.clone(),
        ]
    }

    fn wide_cells(&self) -> Vec<String> {
        vec![
            words::when(self.expire_time),
            self.owner.clone(),
            words::when(self.create_time),
            self.created_by.clone(),
            self.decided_by.clone(),
            self.reason.clone(),
        ]
    }
}
