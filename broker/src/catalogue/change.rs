//! One product on its way from what it was to what it will be.

use std::sync::Arc;

use meshlog_proto::v1;
use parking_lot::RwLock;

use super::audit::{Act, Kind};
use super::mutation::Mutation;
use super::product::{ProductHandle, read_only};
use super::stored::{Key, StoredProduct};
use super::view::View;
use super::{
    Catalogue, attached, check_etag, completeness, facts, inheritance, is_internal, provenance,
    references, settings,
};
use crate::Caller;
use crate::access::Rpc;
use crate::error::Result;
use crate::schema::{Handling, Schema};

/// A change of one product. Its `product` is what the caller edits; names of other products stand
/// in it, not ids.
pub(super) struct ProductChange<'a> {
    pub(super) mutation: Mutation<'a>,
    pub(super) handle: Arc<ProductHandle>,
    /// What else is stored; without the product itself.
    pub(super) stored: StoredProduct,
    pub(super) before: Box<v1::Product>,
    pub(super) product: v1::Product,
    /// How what differs came to be.
    pub(super) said: v1::ProvenanceKind,
    /// Paths that the broker filled in.
    pub(super) inferred: Vec<&'static str>,
}

impl Catalogue {
    /// Begins a change of a product; no other change is under way until it is done.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `PERMISSION_DENIED`, `PRODUCT_RECREATED`, `PRODUCT_READ_ONLY`,
    /// `ETAG_MISMATCH`.
    pub(super) async fn change_product(
        &self,
        caller: &Caller,
        rpc: Rpc,
        name: &str,
        id: &str,
        etag: &str,
    ) -> Result<ProductChange<'_>> {
        let mutation = self.begin().await;
        let handle = self.resolve_for(caller, rpc, name, id)?;
        if is_internal(&handle.name) || handle.is_attached() {
            return Err(read_only(&handle.name));
        }
        let mut stored = handle.stored()?;
        let mut product = stored.product.take().unwrap_or_default();
        check_etag(&format!("the product `{}`", handle.name), etag, &product.etag)?;
        product.schema_version = handle.current().number;
        references::by_name(&self.inner.view.read(), &mut product);
        let before = Box::new(product.clone());
        let said = v1::ProvenanceKind::Declared;
        let inferred = Vec::new();
        Ok(ProductChange { mutation, handle, stored, before, product, said, inferred })
    }
}

impl ProductChange<'_> {
    /// Makes the change durable and answers with the product; `validate_only` answers the same and
    /// changes nothing.
    pub(super) async fn finish(
        mut self,
        caller: &Caller,
        action: &'static str,
        validate_only: bool,
    ) -> Result<v1::Product> {
        let catalogue = self.mutation.catalogue();
        let format = self.handle.current().value.format();
        let limits = self.product.settings.as_ref();
        if settings::handling(limits, format) == Some(Handling::Quarantine)
            && self.stored.quarantine.is_none()
            && !validate_only
        {
            self.stored.quarantine = Some(attached::add_quarantine(&mut self.mutation, limits));
        }
        let (act, stored) = self.seal(caller, action, None)?;
        let policy = |product: &v1::Product| settings::policy(product.settings.as_ref());
        if policy(&self.before) != policy(&self.product) {
            self.mutation.set_policy(&self.handle.streams, policy(&self.product));
            if let Some(stream) = self.handle.quarantine_stream() {
                let policy = settings::quarantine_policy(self.product.settings.as_ref());
                self.mutation.set_policy(&[stream], policy);
            }
        }
        let mut answer = self.product;
        finish(&catalogue.inner.view, &mut answer, &self.handle.current().value)?;
        if validate_only {
            answer.etag.clear();
            return Ok(answer);
        }
        self.mutation.set(Key::Product(&self.handle.id), &stored);
        self.mutation.commit(caller, act).await?;
        Ok(answer)
    }

    /// Stamps the product: who changed it and when, its etag, its provenance. Gives what the audit
    /// log says of it, and what is to be stored.
    pub(super) fn seal(
        &mut self,
        caller: &Caller,
        action: &'static str,
        fresh: Option<&v1::Product>,
    ) -> Result<(Act, StoredProduct)> {
        let time = self.mutation.now();
        let product = &mut self.product;
        product.update_time = Some(time);
        product.updated_by = caller.principal();
        product.etag = self.mutation.etag();
        let changes =
            facts::differences(&facts::of_product(&self.before), &facts::of_product(product));
        let (said, inferred) = (self.said, &self.inferred);
        provenance::renew(&mut product.provenance, &changes, said, inferred, caller, time);
        let mut stored = self.stored.clone();
        stored.product = Some(for_storage(&self.mutation.catalogue().inner.view, product, fresh)?);
        let act = Act::new(action, Kind::Product, &product.name)
            .id(&product.id)
            .etag_before(&self.before.etag)
            .changes(changes);
        Ok((act, stored))
    }
}

/// As it is stored: with ids of other products, and without what is worked out at reading.
/// `fresh` is being created in the same change.
pub(super) fn for_storage(
    view: &RwLock<View>,
    product: &v1::Product,
    fresh: Option<&v1::Product>,
) -> Result<v1::Product> {
    let mut product = product.clone();
    product.schema_version = 0;
    references::by_id(&view.read(), &mut product, fresh)?;
    Ok(product)
}

/// A product as clients see it in lists.
pub(super) fn served(view: &RwLock<View>, handle: &ProductHandle) -> Result<v1::Product> {
    let mut product = handle.stored()?.product.unwrap_or_default();
    product.schema_version = handle.current().number;
    references::by_name(&view.read(), &mut product);
    finish(view, &mut product, &handle.current().value)?;
    Ok(product)
}

/// As [`served`], with what only the answer about one product has: provenance, use, and the tags
/// that apply to its fields.
pub(super) fn served_whole(view: &RwLock<View>, handle: &ProductHandle) -> Result<v1::Product> {
    let schema = &handle.current().value;
    let mut product = handle.stored()?.product.unwrap_or_default();
    product.schema_version = handle.current().number;
    references::by_name(&view.read(), &mut product);
    let provenance = std::mem::take(&mut product.provenance);
    finish(view, &mut product, schema)?;
    product.provenance = provenance;
    product.r#use = Some(handle.traffic.message());
    let domain = domain_tags(view, &product.name);
    // Reading the schema is not free, and most products have no tags.
    if !(domain.is_empty() && product.tags.is_empty()) {
        let fields = schema.fields().map_err(|malformed| malformed.in_field("value_schema"))?;
        let paths = fields.into_iter().map(|field| field.path);
        let of_fields = inheritance::of_fields(&domain, &product.tags, paths);
        product.effective_tags.extend(of_fields);
    }
    Ok(product)
}

/// Fills in what is worked out at reading.
pub(super) fn finish(
    view: &RwLock<View>,
    product: &mut v1::Product,
    schema: &Schema,
) -> Result<()> {
    product.provenance.clear();
    product.effective_settings =
        Some(settings::resolve(product.settings.as_ref(), schema.format())?);
    let owner = view.read().team(&product.owner);
    product.contacts = owner.map(|team| team.contacts.clone()).unwrap_or_default();
    let domain = domain_tags(view, &product.name);
    product.effective_tags = inheritance::of_product(&domain, &product.tags);
    product.completeness = Some(completeness::of(product, schema.format()));
    Ok(())
}

fn domain_tags(view: &RwLock<View>, product: &str) -> Vec<v1::Tag> {
    let domain = product.split('.').next().unwrap_or_default();
    view.read().domain(domain).map(|domain| domain.tags.clone()).unwrap_or_default()
}
