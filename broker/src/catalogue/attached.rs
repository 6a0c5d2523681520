//! What hangs on a product and goes with it: its cursors, its edges, and the product attached to it.
//!
//! `<name>$quarantine` has no key of its own in the storage state. It is worked out from its product
//! whenever that changes, so name, owner, classification, access and retention are those of the
//! product at any time; it is not listed, counted or searched, and nobody but the broker writes it.

use std::sync::Arc;

use bytes::Bytes;
use meshlog_proto::v1;
use meshlog_storage::{Control, Storage, StreamId};

use super::Catalogue;
use super::mutation::Mutation;
use super::presence::Present;
use super::product::ProductHandle;
use super::view::View;
use super::{is_internal, settings};
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

/// Marks names and ids of attached products.
const MARK: char = '$';
const QUARANTINE: &str = "quarantine";

/// The name, or the id, of the quarantine of a product.
pub(super) fn quarantine_of(product: &str) -> String {
    format!("{product}{MARK}{QUARANTINE}")
}

/// The product of a name, or an id, of a quarantine.
pub(super) fn product_of_quarantine(name: &str) -> Option<&str> {
    let (product, attached) = name.split_once(MARK)?;
    (attached == QUARANTINE).then_some(product)
}

/// Makes room for quarantined records; gives the stream.
pub(super) fn add_quarantine(
    mutation: &mut Mutation<'_>,
    settings: Option<&v1::ProductSettings>,
) -> u64 {
    let stream = mutation.create_stream();
    let policy = settings::quarantine_policy(settings);
    if policy != meshlog_storage::Policy::default() {
        mutation.set_policy(&[stream], policy);
    }
    stream.0
}

/// What the quarantine of a product says of itself.
pub(super) fn described(product: &v1::Product) -> v1::Product {
    let limits = product.settings.unwrap_or_default();
    v1::Product {
        name: quarantine_of(&product.name),
        id: quarantine_of(&product.id),
        etag: product.etag.clone(),
        owner: product.owner.clone(),
        description: format!(
            "Records that `{}` did not take, each with the reason in its headers.",
            product.name
        ),
        classification: product.classification,
        state: product.state,
        tags: product.tags.clone(),
        partitions: 1,
        settings: Some(v1::ProductSettings {
            enforcement: v1::Enforcement::Off.into(),
            retention_age: limits.retention_age,
            retention_bytes: limits.retention_bytes,
            retention_count: limits.retention_count,
            ..v1::ProductSettings::default()
        }),
        support: product.support.clone(),
        create_time: product.create_time,
        created_by: product.created_by.clone(),
        update_time: product.update_time,
        updated_by: product.updated_by.clone(),
        ..v1::Product::default()
    }
}

impl ProductHandle {
    /// Its partitions, and that of what is attached to it.
    pub(super) fn all_streams(&self) -> impl Iterator<Item = StreamId> + '_ {
        self.streams.iter().copied().chain(self.quarantine_stream())
    }

    /// Where the records go that it does not take.
    pub(crate) fn quarantine_stream(&self) -> Option<StreamId> {
        self.quarantine.as_ref().map(|attached| attached.streams[0])
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
        let attached = product.quarantine.as_ref().map(|attached| Arc::clone(&attached.id));
        self.controls().extend(cursors.removals(&product.id));
        if let Some(attached) = &attached {
            self.controls().extend(cursors.removals(attached));
        }
        self.controls().extend(inner.redriven.removals(&product.id));
        if product.traffic.is_stored() {
            let key = lineage::key(&product.id);
            self.controls().push(Control::SetState { key, value: None });
        }
        let id = Arc::clone(&product.id);
        let redriven = Arc::clone(&inner.redriven);
        self.then(move |is_durable| {
            if is_durable {
                cursors.forget(&id);
                attached.iter().for_each(|attached| cursors.forget(attached));
                redriven.forget(&id);
            }
            drop(leaving);
        });
    }
}
