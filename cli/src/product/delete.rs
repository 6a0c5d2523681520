//! `meshlog product delete`.

use clap::Args;
use clap_complete::ArgValueCompleter;
use meshlog_client::proto::DeleteProductRequest;

use super::erase;
use crate::{
    change::ChangeArgs,
    completion,
    confirm::ConfirmArgs,
    exit::Result,
    output::{Out, Paint},
    settings::ServerArgs,
    words,
};

/// Arguments of `product delete`.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// `<domain>.<name>`
    #[arg(add = ArgValueCompleter::new(completion::products))]
    name: String,
    /// Delete it also from under those who read it
    #[arg(long)]
    force: bool,
    /// Wait until no file of the broker holds a byte of its records any more
    #[arg(long)]
    erase: bool,
    #[command(flatten)]
    confirm: ConfirmArgs,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    server: ServerArgs,
}

impl Delete {
    /// Runs the command.
    pub(super) async fn run(self, out: &mut Out) -> Result<()> {
        let catalog = self.server.connect().await?.catalog();
        let product = catalog.get_product(self.name.as_str()).await?;
        let offsets = catalog.list_offsets(self.name.as_str(), &[], None).await?;
        let records = offsets.iter().map(|offsets| offsets.durable_end - offsets.start_offset);
        let records = words::counted(records.sum(), "record");
        let request = DeleteProductRequest {
            name: product.name.clone(),
            product_id: product.id,
            etag: self.change.etag(&product.etag),
            validate_only: self.change.dry_run,
            force: self.force,
            erase: self.erase,
            ..DeleteProductRequest::default()
        };
        if self.change.dry_run {
            catalog.delete_product(request).await?;
            out.paint(Paint::Red, &format!("- product: {} with {records}", product.name))?;
            out.note("dry run: nothing was changed");
            return Ok(());
        }
        let readers = product.r#use.map(|used| used.live_readers.len()).unwrap_or_default();
        let readers = match readers {
            0 => String::new(),
            readers => format!(", read by {}", words::counted(readers as u64, "application")),
        };
        let question =
            format!("Delete {} of team {} with {records}{readers}?", product.name, product.owner);
        self.confirm.ask(&question, "nothing was deleted")?;
        let erased = catalog.delete_product(request).await?.erased;
        out.note(format_args!("deleted {}", product.name));
        erase::tell(erased, out);
        Ok(())
    }
}
