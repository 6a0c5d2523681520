//! Reading, changing and deleting products.

use std::collections::HashSet;
use std::ops::Bound;
use std::sync::Arc;

use meshlog_proto::v1::{self, ProductState};

use super::audit::{Act, Kind};
use super::change::{served, served_whole};
use super::create::{check_texts, fill_sandbox, missing_fields};
use super::lifecycle::check_unread;
use super::name::SANDBOX;
use super::page::Page;
use super::product::ProductHandle;
use super::stored::Key;
use super::{Catalogue, aside, facts, invalid, mask, provenance, references, rules, settings, tag};
use crate::Caller;
use crate::access::Rpc;
use crate::error::{Error, Reason, Result};
use crate::schema::Schema;

impl Catalogue {
    /// One product, with its provenance, its use and the tags that apply to its fields.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`.
    pub fn get_product(
        &self,
        caller: &Caller,
        request: v1::GetProductRequest,
    ) -> Result<v1::GetProductResponse> {
        let handle = self.resolve_for(caller, Rpc::GetProduct, &request.name, "")?;
        let mut product = served_whole(&self.inner.view, &handle)?;
        if let Some(usage) = &mut product.r#use {
            self.add_lineage(caller, &handle, usage)?;
        }
        Ok(v1::GetProductResponse { product: Some(product) })
    }

    /// Products by name, of one domain or of all; those that the caller may see.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a page token of another list.
    pub fn list_products(
        &self,
        caller: &Caller,
        request: v1::ListProductsRequest,
    ) -> Result<v1::ListProductsResponse> {
        let list = format!("products {}", request.domain);
        let page = Page::asked(&list, request.page_size, &request.page_token)?;
        let prefix = match request.domain.as_str() {
            "" => String::new(),
            domain => format!("{domain}."),
        };
        let now = self.inner.storage.now();
        let view = self.inner.view.read();
        let first = match page.after.as_str() {
            "" => Bound::Included(prefix.as_str()),
            after => Bound::Excluded(after),
        };
        let names = view.names.range::<str, _>((first, Bound::Unbounded));
        let names = names.take_while(|name| name.starts_with(&prefix));
        let handles = names.filter_map(|name| view.products.get(name).cloned());
        let seen = handles.filter(|handle| view.sees(caller, handle, now));
        let mut handles: Vec<Arc<ProductHandle>> = seen.take(page.size + 1).collect();
        drop(view);
        let next_page_token = page.cut(&mut handles, |handle| &handle.name);
        let served = handles.iter().map(|handle| served(&self.inner.view, handle));
        Ok(v1::ListProductsResponse { products: served.collect::<Result<_>>()?, next_page_token })
    }

    /// Changes the fields that the mask names; without a mask, those that are not empty.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `PRODUCT_RECREATED` (if the product's id is given), `PRODUCT_READ_ONLY`,
    /// `ETAG_MISMATCH`, `FIELD_MISSING` (a mandatory field emptied), `TAG_KEY_NOT_FOUND`,
    /// `TAG_VALUE_INVALID`, `INVALID_ARGUMENT`.
    pub async fn update_product(
        &self,
        caller: &Caller,
        request: v1::UpdateProductRequest,
    ) -> Result<v1::UpdateProductResponse> {
        let asked = request.product.ok_or_else(|| invalid("product", "it is missing"))?;
        let given = given(&asked);
        let checked = self.resolve_for(caller, Rpc::UpdateProduct, &asked.name, &asked.id)?;
        let has_mask = request.update_mask.as_ref().is_some_and(|mask| !mask.paths.is_empty());
        if !has_mask && !asked.owner.is_empty() && *asked.owner != *checked.owner() {
            return Err(owner_is_transferred(&asked.name));
        }
        let paths = mask::paths(request.update_mask, &given)?;
        if paths.iter().any(|path| path == "tags") {
            let (tags, handle) = (asked.tags.clone(), Arc::clone(&checked));
            aside(move || tag::check(&tags, distinct_schemas(&handle).into_iter())).await?;
        }
        if paths.iter().any(|path| path == "rules") {
            let (rules, handle) = (asked.rules.clone(), Arc::clone(&checked));
            let check = move || rules::check(&rules, &handle.current().value, &handle.name);
            aside(check).await?;
        }
        // Whoever did not pin an id meant the product that was checked.
        let mut change = self
            .change_product(caller, Rpc::UpdateProduct, &asked.name, &checked.id, &asked.etag)
            .await?;
        let now = change.mutation.now();
        let product = &mut change.product;
        for path in &paths {
            set(product, &asked, path, &given)?;
        }
        if paths.iter().any(|path| path == "managed_by") {
            change.said = provenance::said(&asked);
        }
        let in_sandbox = product.name.split('.').next() == Some(SANDBOX);
        if in_sandbox {
            change.inferred = fill_sandbox(caller, product);
            let said = paths.iter().filter(|path| !change.inferred.contains(&path.as_str()));
            let said: Vec<String> = said.cloned().collect();
            provenance::declare(&mut product.provenance, &said, change.said, caller, now);
        }
        if let Some((field, path, _)) = missing_fields(product, true).first() {
            let what = format!(
                "the {field} of `{}` cannot be emptied outside the domain `sandbox`; give a value, \
                 or leave `{field}` out of the update mask",
                product.name
            );
            return Err(Error::new(Reason::FieldMissing, what.clone())
                .with("field", field)
                .with("product", &product.name)
                .with_violation(*path, what));
        }
        check_texts(product)?;
        settings::resolve(product.settings.as_ref(), change.handle.current().value.format())?;
        {
            let view = self.inner.view.read();
            tag::check_vocabulary(&view, &product.tags, &change.before.tags)?;
            if paths.iter().any(|path| path == "inputs") {
                references::check_inputs(&view, product)?;
            }
        }
        let product = change.finish(caller, "update_product", request.validate_only).await?;
        Ok(v1::UpdateProductResponse { product: Some(product) })
    }

    /// Deletes a product with its records. Its domain and its team stay. `erase` is the broker's:
    /// [`crate::Broker::delete_product`].
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `PRODUCT_RECREATED`, `PRODUCT_READ_ONLY`, `ETAG_MISMATCH`; without
    /// `force`, `IN_USE` for one that is not a draft and has live readers; `IN_USE` for what
    /// `only_unread` and `only_empty` keep.
    pub async fn delete_product(
        &self,
        caller: &Caller,
        request: v1::DeleteProductRequest,
    ) -> Result<v1::DeleteProductResponse> {
        let change = self
            .change_product(
                caller,
                Rpc::DeleteProduct,
                &request.name,
                &request.product_id,
                &request.etag,
            )
            .await?;
        let (mut mutation, handle, before) = (change.mutation, change.handle, change.before);
        if !request.force && handle.state() != ProductState::Draft {
            check_unread(&handle, "delete")?;
        }
        if request.only_unread && !request.force {
            check_unread(&handle, "delete")?;
        }
        if request.only_empty {
            self.check_empty(&handle)?;
        }
        if request.validate_only {
            return Ok(v1::DeleteProductResponse::default());
        }
        for stream in handle.all_streams() {
            mutation.delete_stream(stream);
        }
        mutation.remove(Key::Product(&handle.id));
        mutation.detach(&handle).await;
        mutation.remove_rights(
            |grant| grant.scope.as_ref().is_some_and(|scope| *scope.product_id == *handle.id),
            |request| *request.product_id == *handle.id,
        );
        for digest in self.inner.view.read().schemas_only_of(&handle) {
            mutation.remove(Key::Schema(&digest.to_string()));
        }
        let changes = facts::differences(&facts::of_product(&before), &facts::Facts::new());
        let act = Act::new("delete_product", Kind::Product, &before.name)
            .id(&before.id)
            .etag_before(&before.etag)
            .gone()
            .changes(changes);
        mutation.commit(caller, act).await?;
        Ok(v1::DeleteProductResponse::default())
    }
}

impl Catalogue {
    /// Refuses to take a product away that holds records.
    fn check_empty(&self, handle: &ProductHandle) -> Result<()> {
        let mut records = 0;
        for stream in &handle.streams {
            let bounds = self.inner.storage.bounds(*stream)?;
            records += bounds.durable_end.0 - bounds.start.0;
        }
        if records == 0 {
            return Ok(());
        }
        Err(Error::new(
            Reason::InUse,
            format!(
                "the product `{0}` holds records ({records} by offset), and only an empty one was \
                 to be deleted; to lose them with it: `meshlog product delete {0}`",
                handle.name
            ),
        )
        .with("name", &handle.name)
        .with("records", records))
    }
}

/// The value schemas of a product, the newest first.
fn distinct_schemas(handle: &ProductHandle) -> Vec<&Schema> {
    let mut seen = HashSet::new();
    let newest_first = handle.versions().iter().rev().map(|version| &*version.value);
    newest_first.filter(|schema| seen.insert(schema.digest())).collect()
}

/// What an update can change, and what of it was given a value.
fn given(asked: &v1::Product) -> [(&'static str, bool); 12] {
    [
        ("description", !asked.description.is_empty()),
        ("classification", asked.classification != 0),
        ("kind", asked.kind != 0),
        ("tags", !asked.tags.is_empty()),
        ("settings", asked.settings.is_some()),
        ("docs", !asked.docs.is_empty()),
        ("links", !asked.links.is_empty()),
        ("support", !asked.support.is_empty()),
        ("inputs", !asked.inputs.is_empty()),
        ("aliases", !asked.aliases.is_empty()),
        ("rules", !asked.rules.is_empty()),
        ("managed_by", !asked.managed_by.is_empty()),
    ]
}

fn set(
    product: &mut v1::Product,
    asked: &v1::Product,
    path: &str,
    given: &[(&str, bool)],
) -> Result<()> {
    match path {
        "description" => product.description.clone_from(&asked.description),
        "classification" => product.classification = asked.classification,
        "kind" => product.kind = asked.kind,
        "tags" => product.tags.clone_from(&asked.tags),
        "settings" => product.settings = asked.settings,
        one if one.starts_with("settings.") => {
            let settings = product.settings.get_or_insert_default();
            let asked = asked.settings.unwrap_or_default();
            match one.trim_start_matches("settings.") {
                "enforcement" => settings.enforcement = asked.enforcement,
                "minimum_durability" => settings.minimum_durability = asked.minimum_durability,
                "retention_age" => settings.retention_age = asked.retention_age,
                "retention_bytes" => settings.retention_bytes = asked.retention_bytes,
                "retention_count" => settings.retention_count = asked.retention_count,
                "compaction" => settings.compaction = asked.compaction,
                "compatibility" => settings.compatibility = asked.compatibility,
                "protobuf_profile" => settings.protobuf_profile = asked.protobuf_profile,
                "on_fail" => settings.on_fail = asked.on_fail,
                "framing" => settings.framing = asked.framing,
                _ => return Err(mask::unknown(one, given)),
            }
        }
        "docs" => product.docs.clone_from(&asked.docs),
        "links" => product.links.clone_from(&asked.links),
        "support" => product.support.clone_from(&asked.support),
        "inputs" => product.inputs.clone_from(&asked.inputs),
        "aliases" => {
            if let Some(new) = asked.aliases.iter().find(|alias| !product.aliases.contains(alias)) {
                let what = format!(
                    "`{}` is not an earlier name of `{1}`; an update can only give aliases up, \
                     `meshlog product move {1} NAME` makes one",
                    super::name::shown(new),
                    product.name
                );
                return Err(invalid("product.aliases", what));
            }
            product.aliases.retain(|alias| asked.aliases.contains(alias));
        }
        "rules" => rules::set(product, &asked.rules),
        "managed_by" => product.managed_by.clone_from(&asked.managed_by),
        "owner" => return Err(owner_is_transferred(&product.name)),
        other => return Err(mask::unknown(other, given)),
    }
    Ok(())
}

fn owner_is_transferred(name: &str) -> Error {
    invalid(
        "update_mask",
        format!(
            "the owner changes when the new one accepts: `meshlog product transfer {} TEAM`",
            super::name::shell_word(name)
        ),
    )
}
