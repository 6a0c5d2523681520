//! Reading, changing and deleting products.

use std::collections::HashSet;
use std::ops::Bound;
use std::sync::Arc;

use meshlog_proto::v1;

use super::create::{check_texts, fill_sandbox, missing_fields};
use super::name::{Named, SANDBOX, check_label};
use super::page::Page;
use super::product::ProductHandle;
use super::stored::Key;
use super::view::View;
use super::{Catalogue, aside, check_etag, invalid, now, settings, tag, team};
use crate::Caller;
use crate::error::{Error, Reason, Result};
use crate::schema::Schema;

/// What an update can change.
const CHANGEABLE: &str = "owner, description, classification, tags, settings, docs, support";

impl Catalogue {
    /// One product.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`.
    pub fn get_product(&self, request: v1::GetProductRequest) -> Result<v1::GetProductResponse> {
        let handle = self.resolve(&request.name, "")?;
        let product = served(&self.inner.view, &handle)?;
        Ok(v1::GetProductResponse { product: Some(product) })
    }

    /// Products by name, of one domain or of all.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a page token of another list.
    pub fn list_products(
        &self,
        request: v1::ListProductsRequest,
    ) -> Result<v1::ListProductsResponse> {
        let list = format!("products {}", request.domain);
        let page = Page::asked(&list, request.page_size, &request.page_token)?;
        let prefix = match request.domain.as_str() {
            "" => String::new(),
            domain => format!("{domain}."),
        };
        let view = self.inner.view.read();
        let first = match page.after.as_str() {
            "" => Bound::Included(prefix.as_str()),
            after => Bound::Excluded(after),
        };
        let names = view.names.range::<str, _>((first, Bound::Unbounded));
        let names = names.take_while(|name| name.starts_with(&prefix)).take(page.size + 1);
        let mut handles: Vec<Arc<ProductHandle>> =
            names.filter_map(|name| view.products.get(name).cloned()).collect();
        drop(view);
        let next_page_token = page.cut(&mut handles, |handle| &handle.name);
        let served = handles.iter().map(|handle| served(&self.inner.view, handle));
        Ok(v1::ListProductsResponse { products: served.collect::<Result<_>>()?, next_page_token })
    }

    /// Changes the fields that the mask names; without a mask, those that are not empty.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `PRODUCT_RECREATED` (if the product's id is given), `ETAG_MISMATCH`,
    /// `FIELD_MISSING` (a mandatory field emptied), `TEAM_NOT_FOUND`, `INVALID_ARGUMENT`.
    pub async fn update_product(
        &self,
        caller: &Caller,
        request: v1::UpdateProductRequest,
    ) -> Result<v1::UpdateProductResponse> {
        let asked = request.product.ok_or_else(|| invalid("product", "it is missing"))?;
        let checked = self.resolve(&asked.name, &asked.id)?;
        let paths = match request.update_mask {
            Some(mask) if !mask.paths.is_empty() => mask.paths,
            _ => fields_given(&asked),
        };
        if paths.iter().any(|path| path == "tags") {
            let (tags, handle) = (asked.tags.clone(), Arc::clone(&checked));
            aside(move || tag::check(&tags, distinct_schemas(&handle).into_iter())).await?;
        }
        let mut mutation = self.begin().await;
        // Whoever did not pin an id meant the product that was checked.
        let handle = self.resolve(&asked.name, &checked.id)?;
        let mut stored = handle.stored()?;
        let mut product = stored.product.take().unwrap_or_default();
        check_etag(&format!("the product `{}`", asked.name), &asked.etag, &product.etag)?;

        if paths.is_empty() {
            return Err(invalid("update_mask", format!("name what to change: {CHANGEABLE}")));
        }
        for path in &paths {
            change(&mut product, &asked, path)?;
        }
        let domain = asked.name.split('.').next().unwrap_or_default();
        if domain == SANDBOX {
            fill_sandbox(caller, &mut product);
        }
        if let Some((field, path, _)) = missing_fields(&product, true).first() {
            let what = format!(
                "the {field} of `{}` cannot be emptied outside the domain `sandbox`; give a value, \
                 or leave `{field}` out of the update mask",
                asked.name
            );
            return Err(Error::new(Reason::FieldMissing, what.clone())
                .with("field", field)
                .with("product", &asked.name)
                .with_violation(*path, what));
        }
        check_texts(&product)?;
        settings::resolve(product.settings.as_ref(), handle.current().value.format())?;
        if domain != SANDBOX {
            check_label(Named::Team, &product.owner)?;
        }
        let owner = team::find(&self.inner.view.read(), &product.owner);
        let owner = owner.ok_or_else(|| team::not_found(&product.owner))?;

        product.update_time = Some(now());
        product.updated_by = caller.principal();
        product.etag = mutation.etag();
        let mut answer = product.clone();
        answer.schema_version = handle.current().number;
        answer.effective_settings =
            Some(settings::resolve(product.settings.as_ref(), handle.current().value.format())?);
        answer.contacts.clone_from(&owner.contacts);
        if request.validate_only {
            answer.etag.clear();
            return Ok(v1::UpdateProductResponse { product: Some(answer) });
        }
        stored.product = Some(product);
        mutation.set(Key::Product(&handle.id), &stored);
        mutation.commit().await?;
        Ok(v1::UpdateProductResponse { product: Some(answer) })
    }

    /// Deletes a product with its records. Its domain and its team stay.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `PRODUCT_RECREATED`, `ETAG_MISMATCH`.
    pub async fn delete_product(
        &self,
        _caller: &Caller,
        request: v1::DeleteProductRequest,
    ) -> Result<v1::DeleteProductResponse> {
        let mut mutation = self.begin().await;
        let handle = self.resolve(&request.name, &request.product_id)?;
        let etag = handle.stored()?.product.unwrap_or_default().etag;
        check_etag(&format!("the product `{}`", request.name), &request.etag, &etag)?;
        if request.validate_only {
            return Ok(v1::DeleteProductResponse {});
        }
        for stream in &handle.streams {
            mutation.delete_stream(*stream);
        }
        mutation.remove(Key::Product(&handle.id));
        for digest in self.inner.view.read().schemas_only_of(&handle) {
            mutation.remove(Key::Schema(&digest.to_string()));
        }
        mutation.commit().await?;
        Ok(v1::DeleteProductResponse {})
    }
}

/// A product as clients see it.
pub(super) fn served(
    view: &parking_lot::RwLock<View>,
    handle: &ProductHandle,
) -> Result<v1::Product> {
    let mut product = handle.message()?;
    let owner = team::find(&view.read(), &product.owner);
    product.contacts = owner.map(|team| team.contacts.clone()).unwrap_or_default();
    Ok(product)
}

/// The value schemas of a product, the newest first.
fn distinct_schemas(handle: &ProductHandle) -> Vec<&Schema> {
    let mut seen = HashSet::new();
    let newest_first = handle.versions().iter().rev().map(|version| &*version.value);
    newest_first.filter(|schema| seen.insert(schema.digest())).collect()
}

fn fields_given(asked: &v1::Product) -> Vec<String> {
    let given = [
        ("owner", !asked.owner.is_empty()),
        ("description", !asked.description.is_empty()),
        ("classification", asked.classification != 0),
        ("tags", !asked.tags.is_empty()),
        ("settings", asked.settings.is_some()),
        ("docs", !asked.docs.is_empty()),
        ("support", !asked.support.is_empty()),
    ];
    given.into_iter().filter(|(_, given)| *given).map(|(path, _)| path.to_owned()).collect()
}

fn change(product: &mut v1::Product, asked: &v1::Product, path: &str) -> Result<()> {
    match path {
        "owner" => product.owner.clone_from(&asked.owner),
        "description" => product.description.clone_from(&asked.description),
        "classification" => product.classification = asked.classification,
        "tags" => product.tags.clone_from(&asked.tags),
        "settings" => product.settings = asked.settings,
        "settings.enforcement" => {
            let settings = product.settings.get_or_insert_default();
            settings.enforcement = asked.settings.unwrap_or_default().enforcement;
        }
        "settings.minimum_durability" => {
            let settings = product.settings.get_or_insert_default();
            settings.minimum_durability = asked.settings.unwrap_or_default().minimum_durability;
        }
        "docs" => product.docs.clone_from(&asked.docs),
        "support" => product.support.clone_from(&asked.support),
        other => {
            let shown: String = other.chars().take(80).flat_map(char::escape_debug).collect();
            return Err(invalid(
                "update_mask",
                format!("`{shown}` cannot be changed; what can is: {CHANGEABLE}"),
            ));
        }
    }
    Ok(())
}
