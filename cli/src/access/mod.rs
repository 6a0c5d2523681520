//! `meshlog access` and `meshlog product request-access`: who may do what, and asking for it.

mod grant;
mod request;

use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;
use meshlog_client::proto::CheckAccessRequest;
use serde::Serialize;

pub(crate) use request::RequestAccess;

use crate::{
    completion,
    exit::{Exit, Failure, Result},
    output::{Out, OutputArgs},
    permission::{self, Permission},
    settings::ServerArgs,
};

/// Requests for access, and grants.
#[derive(Debug, Subcommand)]
pub(crate) enum AccessCommand {
    /// List requests for access: one's own, and those that one may decide
    #[command(before_help = "Examples:
  meshlog access requests
  meshlog access requests --product ops.flights --decided -o json")]
    Requests(request::Requests),
    /// List grants: one's own, and those on what one manages
    #[command(before_help = "Examples:
  meshlog access grants
  meshlog access grants --product ops.flights -o wide
  meshlog access grants --team billing -o json")]
    Grants(grant::Grants),
    /// Grant what was asked for
    #[command(before_help = "Examples:
  meshlog access approve 01jx3m7v9k5t2q8w4r6y0z1a2b --expires 90d
  meshlog access approve 01jx3m7v9k5t2q8w4r6y0z1a2b --reason 'for the report'")]
    Approve(request::Approve),
    /// Refuse what was asked for
    #[command(before_help = "Example:
  meshlog access deny 01jx3m7v9k5t2q8w4r6y0z1a2b --reason 'use ops.summary'")]
    Deny(request::Deny),
    /// Take a grant back at once, also for streams that are open
    #[command(before_help = "Example:
  meshlog access revoke 01jx3m7v9k5t2q8w4r6y0z1a2b --yes")]
    Revoke(grant::Revoke),
    /// Give a team permissions without a request
    #[command(before_help = "Examples:
  meshlog access grant billing consume --product ops.flights --expires 90d
  meshlog access grant data-office govern --everything
  meshlog access grant '*' consume --tag open=yes --purpose 'open data'")]
    Grant(grant::Give),
    /// Say what somebody may do with something, and why
    #[command(before_help = "Examples:
  meshlog access check consume --product ops.flights
  meshlog access check produce --product ops.flights --team billing -o json")]
    Check(Check),
}

/// Arguments of `access check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Which permission
    #[arg(value_enum)]
    permission: Permission,
    /// On this product [default: on the broker as a whole]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true,
        add = ArgValueCompleter::new(completion::products))]
    product: String,
    /// On this domain
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true,
        conflicts_with = "product", add = ArgValueCompleter::new(completion::domains))]
    domain: String,
    /// Of this team [default: of whoever asks]
    #[arg(long, value_name = "TEAM", default_value = "", hide_default_value = true,
        add = ArgValueCompleter::new(completion::teams))]
    team: String,
    /// Of this application of the team
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    for_application: String,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl AccessCommand {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        match self {
            Self::Requests(args) => args.run(out).await,
            Self::Grants(args) => args.run(out).await,
            Self::Approve(args) => args.run(out).await,
            Self::Deny(args) => args.run(out).await,
            Self::Revoke(args) => args.run(out).await,
            Self::Grant(args) => args.run(out).await,
            Self::Check(args) => args.run(out).await,
        }
    }
}

impl Check {
    async fn run(self, out: &mut Out) -> Result<()> {
        let governance = self.server.connect().await?.governance();
        let request = CheckAccessRequest {
            permission: self.permission.to_wire(),
            product: self.product,
            domain: self.domain,
            team: self.team,
            application: self.for_application,
        };
        let decision = governance.check_access(request).await?;
        let view = Decision {
            allowed: decision.allowed,
            permissions: permission::words(decision.permissions()),
            reasons: decision.reasons.clone(),
        };
        out.one(self.output.output, &view)?;
        match decision.allowed {
            true => Ok(()),
            false => Err(Failure::new(Exit::Denied, "it is not allowed")),
        }
    }
}

/// A decision as the program shows it.
#[derive(Serialize)]
struct Decision {
    allowed: bool,
    permissions: Vec<String>,
    reasons: Vec<String>,
}
