//! `meshlog product move`, `transfer`, `accept` and `cancel-transfer`: another name, another owner.

use clap::Args;
use clap_complete::ArgValueCompleter;
use meshlog_client::proto::{
    AcceptProductTransferRequest, CancelProductTransferRequest, MoveProductRequest,
    TransferProductRequest,
};

use super::Target;
use crate::{completion, exit::Result, output::Out};

/// Arguments of `product move`.
#[derive(Debug, Args)]
pub(crate) struct Move {
    #[command(flatten)]
    target: Target,
    /// `<domain>.<name>` it shall have; the domain must exist
    #[arg(value_name = "NEW_NAME")]
    new_name: String,
}

impl Move {
    /// Runs the command.
    pub(super) async fn run(self, out: &mut Out) -> Result<()> {
        let (catalog, before) = self.target.read().await?;
        let request = MoveProductRequest {
            name: before.name.clone(),
            etag: before.etag.clone(),
            validate_only: self.target.change.dry_run,
            new_name: self.new_name,
        };
        let after = catalog.move_product(request).await?;
        self.target.show(before, after, out)
    }
}

/// Arguments of `product transfer`.
#[derive(Debug, Args)]
pub(crate) struct Transfer {
    #[command(flatten)]
    target: Target,
    /// The team that is to own it
    #[arg(value_name = "TEAM", add = ArgValueCompleter::new(completion::teams))]
    new_owner: String,
    /// Why, for that team
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

impl Transfer {
    /// Runs the command.
    pub(super) async fn run(self, out: &mut Out) -> Result<()> {
        let (catalog, before) = self.target.read().await?;
        let dry_run = self.target.change.dry_run;
        let request = TransferProductRequest {
            name: before.name.clone(),
            etag: before.etag.clone(),
            validate_only: dry_run,
            new_owner: self.new_owner.clone(),
            reason: self.reason,
        };
        let name = before.name.clone();
        let after = catalog.transfer_product(request).await?;
        self.target.show(before, after, out)?;
        if !dry_run {
            let team = &self.new_owner;
            out.note(format_args!("{team} takes it with `meshlog product accept {name} {team}`"));
        }
        Ok(())
    }
}

/// Arguments of `product accept`.
#[derive(Debug, Args)]
pub(crate) struct Accept {
    #[command(flatten)]
    target: Target,
    /// The team that takes it: the one it was offered to
    #[arg(value_name = "TEAM", add = ArgValueCompleter::new(completion::teams))]
    team: String,
}

impl Accept {
    /// Runs the command.
    pub(super) async fn run(self, out: &mut Out) -> Result<()> {
        let (catalog, before) = self.target.read().await?;
        let request = AcceptProductTransferRequest {
            name: before.name.clone(),
            etag: before.etag.clone(),
            validate_only: self.target.change.dry_run,
            new_owner: self.team,
        };
        let after = catalog.accept_product_transfer(request).await?;
        self.target.show(before, after, out)
    }
}

/// Arguments of `product cancel-transfer`.
#[derive(Debug, Args)]
pub(crate) struct CancelTransfer {
    #[command(flatten)]
    target: Target,
}

impl CancelTransfer {
    /// Runs the command.
    pub(super) async fn run(self, out: &mut Out) -> Result<()> {
        let (catalog, before) = self.target.read().await?;
        let request = CancelProductTransferRequest {
            name: before.name.clone(),
            etag: before.etag.clone(),
            validate_only: self.target.change.dry_run,
        };
        let after = catalog.cancel_product_transfer(request).await?;
        self.target.show(before, after, out)
    }
}
