//! `meshlog product activate`, `deprecate` and `retire`: where a product is in its life.

use clap::Args;
use clap_complete::ArgValueCompleter;
use jiff::Timestamp;
use meshlog_client::proto::{
    ActivateProductRequest, DeprecateProductRequest, RetireProductRequest,
};

use super::Target;
use crate::{completion, confirm::ConfirmArgs, exit::Result, output::Out, words};

/// Arguments of `product activate`.
#[derive(Debug, Args)]
pub(crate) struct Activate {
    #[command(flatten)]
    target: Target,
}

impl Activate {
    /// Runs the command.
    pub(super) async fn run(self, out: &mut Out) -> Result<()> {
        let (catalog, before) = self.target.read().await?;
        let request = ActivateProductRequest {
            name: before.name.clone(),
            etag: before.etag.clone(),
            validate_only: self.target.change.dry_run,
        };
        let after = catalog.activate_product(request).await?;
        self.target.show(before, after, out)
    }
}

/// Arguments of `product deprecate`.
#[derive(Debug, Args)]
pub(crate) struct Deprecate {
    #[command(flatten)]
    target: Target,
    /// Why, for those who use it
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// What to use instead
    #[arg(long, value_name = "PRODUCT", add = ArgValueCompleter::new(completion::products))]
    successor: Option<String>,
    /// When it may be retired: a day, or a time in RFC 3339
    #[arg(long, value_name = "TIME", value_parser = words::parse_time)]
    sunset: Option<Timestamp>,
}

impl Deprecate {
    /// Runs the command.
    pub(super) async fn run(self, out: &mut Out) -> Result<()> {
        let (catalog, before) = self.target.read().await?;
        let request = DeprecateProductRequest {
            name: before.name.clone(),
            etag: before.etag.clone(),
            validate_only: self.target.change.dry_run,
            reason: self.reason,
            successor: self.successor.unwrap_or_default(),
            sunset_time: self.sunset.map(words::to_wire),
        };
        let after = catalog.deprecate_product(request).await?;
        self.target.show(before, after, out)
    }
}

/// Arguments of `product retire`.
#[derive(Debug, Args)]
pub(crate) struct Retire {
    #[command(flatten)]
    target: Target,
    /// Retire it also before its sunset time and from under those who read it
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

impl Retire {
    /// Runs the command.
    pub(super) async fn run(self, out: &mut Out) -> Result<()> {
        let (catalog, before) = self.target.read().await?;
        let dry_run = self.target.change.dry_run;
        if !dry_run {
            let question = format!(
                "Retire {} of team {}? It takes no records any more.",
                before.name, before.owner
            );
            self.confirm.ask(&question, "nothing was retired")?;
        }
        let request = RetireProductRequest {
            name: before.name.clone(),
            etag: before.etag.clone(),
            validate_only: dry_run,
            force: self.force,
        };
        let after = catalog.retire_product(request).await?;
        self.target.show(before, after, out)
    }
}
