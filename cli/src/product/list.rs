//! `meshlog product list`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use super::View;
use crate::{
    completion,
    exit::Result,
    output::{Out, OutputArgs},
    settings::ServerArgs,
};

/// Arguments of `product list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only products of this domain
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        add = ArgValueCompleter::new(completion::domains)
    )]
    domain: String,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl List {
    /// Runs the command.
    pub(super) async fn run(self, out: &mut Out) -> Result<()> {
        let client = self.server.connect().await?;
        let products = client.catalog().list_products(self.domain).await?;
        let views: Vec<_> = products.into_iter().map(View::from).collect();
        out.list(self.output.output, &views)
    }
}
