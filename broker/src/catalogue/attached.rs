//! What hangs on a product and goes with it: its cursors and its counts.

use std::sync::Arc;

use super::Catalogue;
use super::mutation::Mutation;
use super::presence::Present;
use super::product::ProductHandle;
use crate::error::Result;
use crate::subscription::CursorTable;

impl Catalogue {
    /// The named cursors.
    pub(crate) fn cursors(&self) -> &Arc<CursorTable> {
        &self.inner.cursors
    }

    /// The product with this id.
    pub(crate) fn find(&self, product_id: &str) -> Option<Arc<ProductHandle>> {
        self.inner.view.read().product_of(product_id).cloned()
    }

    /// As [`Catalogue::resolve`], and the product is not deleted while its presence is held.
    pub(crate) async fn keep(
        &self,
        name: &str,
        product_id: &str,
    ) -> Result<(Arc<ProductHandle>, Present)> {
        let asked = self.resolve(name, product_id)?;
        let present = self.inner.presence.keep(&asked.id).await;
        Ok((self.resolve(name, &asked.id)?, present))
    }
}

impl Mutation<'_> {
    /// The product goes, and what hangs on it in the same entry.
    pub(super) async fn detach(&mut self, product: &ProductHandle) {
        let inner = &self.catalogue().inner;
        let leaving = inner.presence.leave(&product.id).await;
        let cursors = Arc::clone(&inner.cursors);
        self.controls().extend(cursors.removals(&product.id));
        let id = Arc::clone(&product.id);
        self.then(move |is_durable| {
            if is_durable {
                cursors.forget(&id);
            }
            drop(leaving);
        });
    }
}
