//! `meshlog product`: everything one can do with a data product but write and read its records.
//!
//! | File | What |
//! |---|---|
//! | `create.rs`, `update.rs`, `delete.rs` | what an owner says about a product |
//! | `values.rs` | those sayings as they are written on the command line |
//! | `limits.rs`, `trim.rs`, `retention.rs` | how long its records stay, and why they are still there |
//! | `lifecycle.rs` | activate, deprecate, retire |
//! | `hand_over.rs` | move, transfer, accept, cancel-transfer |
//! | `succeed.rs` | the breaking successor |
//! | `show.rs`, `list.rs`, `view.rs` | what is known about it |
//! | `sample.rs`, `profile.rs` | what its records look like |
//! | `watch.rs` | changes as they happen |
//! | `../access/` | asking the owner for access |

mod create;
mod delete;
mod erase;
mod hand_over;
mod lifecycle;
mod limits;
mod list;
mod profile;
mod retention;
mod sample;
mod show;
mod succeed;
mod trim;
mod update;
mod values;
mod view;
mod watch;

use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;
use meshlog_client::{Catalog, proto::Product};

pub(crate) use erase::tell as tell_erased;
pub(crate) use values::{Compatibility, Link};
pub(crate) use view::View;

use crate::{
    access,
    change::{Change, ChangeArgs},
    completion,
    exit::Result,
    output::{Out, OutputArgs},
    settings::ServerArgs,
};

/// Create, find out about, change and end data products.
#[derive(Debug, Subcommand)]
pub(crate) enum ProductCommand {
    /// Create a product
    ///
    /// Outside the domain `sandbox` a product needs an owner, a description, a classification and a
    /// schema. In `sandbox` a name is enough.
    #[command(before_help = "Examples:
  meshlog product create sandbox.notes
  meshlog product create ops.flights --owner flight-operations \\
    --description 'Flights from New York' --classification internal \\
    --schema flights.json --new-domain --contact ops@nyc.example
  meshlog product create sandbox.prices --compact --retention-age unlimited")]
    Create(Box<create::Create>),
    /// List products
    #[command(before_help = "Examples:
  meshlog product list
  meshlog product list --domain ops -o wide
  meshlog product list -o name")]
    List(list::List),
    /// Show one product: its facts, where its partitions stand, its fields, who uses it
    #[command(before_help = "Examples:
  meshlog product show ops.flights
  meshlog product show ops.flights --provenance
  meshlog product show ops.flights --profile -o json")]
    Show(show::Show),
    /// Change what is said about a product
    #[command(before_help = "Examples:
  meshlog product update ops.flights --description 'Flights as they went'
  meshlog product update ops.flights --tag region=nyc --untag draft \\
    --field-tag tailnum:pii --dry-run
  meshlog product update ops.flights --docs flights.md \\
    --link 'Runbook=https://wiki.example/flights'
  meshlog product update ops.flights --retention-age 30d --retention-bytes 9GiB
  meshlog product update ops.flights --retention-age unlimited --no-compact")]
    Update(Box<update::Update>),
    /// Begin to keep promises: compatible schemas, notices before it ends
    #[command(before_help = "Example:
  meshlog product activate ops.flights")]
    Activate(lifecycle::Activate),
    /// Say that a product will end, why, and what to use instead
    #[command(before_help = "Example:
  meshlog product deprecate ops.flights --reason 'Times were local' \\
    --successor ops.flights-v2 --sunset 2027-06-30")]
    Deprecate(lifecycle::Deprecate),
    /// End appends to a deprecated product; its records can still be read
    #[command(before_help = "Examples:
  meshlog product retire ops.flights
  meshlog product retire ops.flights --force --yes")]
    Retire(lifecycle::Retire),
    /// Give a product another name; the old one stays as an alias
    #[command(before_help = "Examples:
  meshlog product move ops.flights departures.flights
  meshlog product move sandbox.notes ops.notes --dry-run")]
    Move(hand_over::Move),
    /// Offer a product to another team
    #[command(before_help = "Example:
  meshlog product transfer ops.flights night-operations \\
    --reason 'They run it since May'")]
    Transfer(hand_over::Transfer),
    /// Take a product that was offered to one's team
    #[command(before_help = "Example:
  meshlog product accept ops.flights night-operations")]
    Accept(hand_over::Accept),
    /// Call a transfer off
    #[command(before_help = "Example:
  meshlog product cancel-transfer ops.flights")]
    CancelTransfer(hand_over::CancelTransfer),
    /// Create the breaking successor of a product and deprecate the product
    #[command(before_help = "Examples:
  meshlog product succeed ops.flights --schema flights-2.json \\
    --reason 'Times are UTC now' --sunset 2027-06-30
  meshlog product succeed ops.flights --name ops.departures \\
    --schema flights-2.json --reason 'Times are UTC now' --dry-run")]
    Succeed(Box<succeed::Succeed>),
    /// Show some records of a product and what its fields look like
    #[command(before_help = "Examples:
  meshlog product sample ops.flights
  meshlog product sample ops.flights --key N14228 --max 3
  meshlog product sample ops.flights --around 2026-11-20T12:00:00Z
  meshlog product sample ops.flights --profile 10000")]
    Sample(sample::Sample),
    /// Say why the oldest records are still there, when they go, and what holds the bytes of those
    /// that are gone
    #[command(before_help = "Examples:
  meshlog product retention ops.flights
  meshlog product retention ops.flights -o json")]
    Retention(retention::Retention),
    /// Take the oldest records of a product away, for good
    #[command(before_help = "Examples:
  meshlog product trim ops.flights --before 2026-11-01
  meshlog product trim ops.flights --to 5000 --partition 1 --dry-run
  meshlog product trim ops.flights --to 5000 --partition 1 --yes
  meshlog product trim ops.flights --before 2026-11-01 --erase")]
    Trim(trim::Trim),
    /// Ask the owner of a product for access to it
    #[command(before_help = "Examples:
  meshlog product request-access ops.flights --purpose 'Delay report'
  meshlog product request-access ops.flights --purpose 'Backfill' \\
    --permission consume --permission produce --expires 90d")]
    RequestAccess(access::RequestAccess),
    /// Tell which products there are, then every change of one as it happens
    #[command(before_help = "Examples:
  meshlog product watch
  meshlog product watch --domain ops --only-changes -o jsonl")]
    Watch(watch::Watch),
    /// Delete a product with its records
    #[command(before_help = "Examples:
  meshlog product delete sandbox.notes
  meshlog product delete ops.flights --force --yes
  meshlog product delete ops.flights --erase")]
    Delete(delete::Delete),
}

impl ProductCommand {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        match self {
            Self::Create(args) => Box::pin(args.run(out)).await,
            Self::List(args) => args.run(out).await,
            Self::Show(args) => args.run(out).await,
            Self::Update(args) => args.run(out).await,
            Self::Activate(args) => args.run(out).await,
            Self::Deprecate(args) => args.run(out).await,
            Self::Retire(args) => args.run(out).await,
            Self::Move(args) => args.run(out).await,
            Self::Transfer(args) => args.run(out).await,
            Self::Accept(args) => args.run(out).await,
            Self::CancelTransfer(args) => args.run(out).await,
            Self::Succeed(args) => args.run(out).await,
            Self::Sample(args) => args.run(out).await,
            Self::Retention(args) => args.run(out).await,
            Self::Trim(args) => args.run(out).await,
            Self::RequestAccess(args) => args.run(out).await,
            Self::Watch(args) => args.run(out).await,
            Self::Delete(args) => args.run(out).await,
        }
    }
}

/// The product that a command changes, and how it answers.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// `<domain>.<name>`
    #[arg(add = ArgValueCompleter::new(completion::products))]
    name: String,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl Target {
    /// The product as it is; its etag is the one that the change must send.
    async fn read(&self) -> Result<(Catalog, Product)> {
        let catalog = self.server.connect().await?.catalog();
        let mut product = catalog.get_product(self.name.as_str()).await?;
        product.etag = self.change.etag(&product.etag);
        Ok((catalog, product))
    }

    /// Shows what the change gave, or would give.
    fn show(&self, before: Product, after: Product, out: &mut Out) -> Result<()> {
        let (before, after) = (View::from(before), View::from(after));
        let dry_run = self.change.dry_run;
        let change = Change { dry_run, before: Some(&before), after: Some(&after) };
        change.show(self.output.output, out)
    }
}
