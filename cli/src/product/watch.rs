//! `meshlog product watch`.

use std::time::{Duration, Instant};

use clap::Args;
use clap_complete::ArgValueCompleter;
use futures_util::StreamExt;
use meshlog_client::proto::{ProductChange, WatchProductsRequest, WatchProductsResponse};
use serde::Serialize;

use super::View;
use crate::{
    completion,
    exit::{Exit, Failure, Result},
    output::{Format, Out, OutputArgs, Paint},
    settings::ServerArgs,
};

/// How long a broker may be away: it may be restarting.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two attempts to find it again.
const PAUSE: Duration = Duration::from_millis(500);

/// Arguments of `product watch`.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Only products of this domain
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        add = ArgValueCompleter::new(completion::domains)
    )]
    domain: String,
    /// Leave out the products there are, and begin with what changes
    #[arg(long)]
    only_changes: bool,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is told of one product.
#[derive(Serialize)]
struct Told {
    revision: u64,
    change: &'static str,
    name: String,
    product_id: String,
    product: Option<View>,
}

/// What has been told so far.
#[derive(Default)]
struct Progress {
    revision: u64,
    /// Everything there is has been told; what comes is a change.
    complete: bool,
}

impl Watch {
    /// Runs the command until it is interrupted.
    pub(super) async fn run(self, out: &mut Out) -> Result<()> {
        tokio::select! {
            result = self.watch(out) => result,
            _ = tokio::signal::ctrl_c() => Err(Failure::quiet(Exit::Interrupted)),
        }
    }

    async fn watch(&self, out: &mut Out) -> Result<()> {
        let mut progress = Progress::default();
        // A broker that was never there is an error at once.
        let mut client = Some(self.server.connect().await?);
        let mut last_seen = Instant::now();
        loop {
            let failure = match &client {
                None => match self.server.connect().await {
                    Ok(found) => {
                        client = Some(found);
                        continue;
                    }
                    Err(failure) => failure,
                },
                Some(found) => {
                    let request = WatchProductsRequest {
                        domain: self.domain.clone(),
                        after_revision: progress.revision,
                        heartbeat_interval: None,
                    };
                    match found.catalog().watch_products(request).await {
                        Err(error) => error.into(),
                        Ok(mut changes) => loop {
                            match changes.next().await {
                                Some(Ok(message)) => {
                                    last_seen = Instant::now();
                                    self.tell(message, &mut progress, out)?;
                                }
                                Some(Err(error)) => break error.into(),
                                None => {
                                    break Failure::new(
                                        Exit::Unavailable,
                                        "the broker ended the watch",
                                    );
                                }
                            }
                        },
                    }
                }
            };
            if failure.exit() != Exit::Unavailable || last_seen.elapsed() > PATIENCE {
                return Err(failure);
            }
            client = None;
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn tell(
        &self,
        message: WatchProductsResponse,
        progress: &mut Progress,
        out: &mut Out,
    ) -> Result<()> {
        if message.reset {
            if progress.revision != 0 {
                out.note("starting over with all products: changes were missed");
            }
            progress.complete = false;
        }
        for change in message.changes {
            if progress.complete || !self.only_changes {
                self.write(message.revision, progress.complete, change, out)?;
            }
        }
        if message.complete && !progress.complete {
            progress.complete = true;
            if self.output.output.is_for_people() {
                out.note("all products told; waiting for changes");
            }
        }
        progress.revision = message.revision;
        out.flush()
    }

    fn write(
        &self,
        revision: u64,
        is_change: bool,
        change: ProductChange,
        out: &mut Out,
    ) -> Result<()> {
        let told = Told {
            revision,
            change: match (&change.product, is_change) {
                (None, _) => "gone",
                (Some(_), true) => "changed",
                (Some(_), false) => "there",
            },
            name: change.name,
            product_id: change.product_id,
            product: change.product.map(View::from),
        };
        match self.output.output {
            Format::Table | Format::Wide => {
                let facts = told.product.as_ref().map(|product| {
                    format!("{:<10}  {:<20}  {}", product.state, product.owner, product.description)
                });
                let facts = facts.unwrap_or_default();
                let line = format!("{:<7}  {:<30}  {facts}", told.change, told.name);
                match told.change {
                    "gone" => out.paint(Paint::Red, line.trim_end()),
                    "changed" => out.paint(Paint::Yellow, line.trim_end()),
                    _ => out.line(line.trim_end()),
                }
            }
            Format::Name => out.line(told.name),
            Format::Yaml => {
                out.line("---")?;
                out.one(Format::Yaml, &told)
            }
            // There is no end, so there is no one document either.
            Format::Json | Format::Jsonl => out.one(Format::Jsonl, &told),
        }
    }
}
