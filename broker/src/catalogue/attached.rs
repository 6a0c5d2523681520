//! What hangs on a product and goes with it: its cursors and its edges.

use std::sync::Arc;

use bytes::Bytes;
use meshlog_storage::{Control, Storage};

use super::Catalogue;
use super::is_internal;
use super::mutation::Mutation;
use super::presence::Present;
use super::product::ProductHandle;
use super::view::View;
use crate::error::Result;
use crate::lineage::{self, StoredTraffic};
use crate::schema::Schema;
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

    /// The product with this id, if there is one, is not deleted while the answer is held.
    pub(crate) async fn keep_id(&self, product_id: &str) -> Present {
        self.inner.presence.keep(product_id).await
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

/// Gives the products their edges, from the storage state; what the log has more than they count, a
/// crash came before.
pub(super) fn restore_traffic<'a>(
    view: &View,
    storage: &Storage,
    state: impl Iterator<Item = (&'a Bytes, &'a Bytes)>,
) -> Result<()> {
    for (key, value) in state {
        if let Some(product) = lineage::parse(key).and_then(|id| view.product_of(id)) {
            product.traffic.restore(StoredTraffic::decode_value(key, value)?);
        }
    }
    // The broker's own products have no edges for what the broker writes.
    for product in view.products.values().filter(|product| !is_internal(&product.name)) {
        let ends = product.streams.iter().filter_map(|stream| storage.bounds(*stream).ok());
        product.traffic.complete(ends.map(|bounds| bounds.durable_end.0).sum());
    }
    Ok(())
}

impl ProductHandle {
    /// The schema of the values of a version; 0 is the current one.
    pub(crate) fn value_schema(&self, version: u32) -> Option<Arc<Schema>> {
        let version = match version {
            0 => self.current(),
            number => self.version(number).ok()?,
        };
        Some(Arc::clone(&version.value))
    }
}

impl Mutation<'_> {
    /// The product goes, and what hangs on it in the same entry.
    pub(super) async fn detach(&mut self, product: &ProductHandle) {
        let inner = &self.catalogue().inner;
        let leaving = inner.presence.leave(&product.id).await;
        let cursors = Arc::clone(&inner.cursors);
        self.controls().extend(cursors.removals(&product.id));
        if product.traffic.is_stored() {
            let key = lineage::key(&product.id);
            self.controls().push(Control::SetState { key, value: None });
        }
        let id = Arc::clone(&product.id);
        self.then(move |is_durable| {
            if is_durable {
                cursors.forget(&id);
            }
            drop(leaving);
        });
    }
}
