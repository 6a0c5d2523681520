//! Creating the breaking successor of a product.

use std::collections::HashSet;
use std::sync::Arc;

use meshlog_proto::v1;

use super::audit::Act;
use super::change;
use super::create::{Plan, check_key_rule};
use super::facts::{self, Facts};
use super::product::read_only;
use super::stored::Key;
use super::view::View;
use super::{Catalogue, aside, is_internal, lifecycle, references, rules, settings, tag_key};
use crate::Caller;
use crate::access::Rpc;
use crate::error::Result;
use crate::schema::{FieldPath, Schema};

impl Catalogue {
    /// Creates the successor, a draft, and deprecates the product, in one entry. What the request
    /// leaves out is taken from the product, as far as it fits the new schema.
    ///
    /// # Errors
    /// Those of creating the successor and of deprecating the product.
    pub async fn succeed_product(
        &self,
        caller: &Caller,
        request: v1::SucceedProductRequest,
    ) -> Result<v1::SucceedProductResponse> {
        let checked = self.resolve_for(caller, Rpc::SucceedProduct, &request.name, "")?;
        if is_internal(&checked.name) {
            return Err(read_only(&checked.name));
        }
        let old = checked.stored()?.product.unwrap_or_default();
        let asked = request.successor.unwrap_or_default();
        let (catalogue, handle) = (self.clone(), Arc::clone(&checked));
        let (value_source, key_source) = (request.value_schema, request.key_schema);
        let mut plan = aside(move || {
            let parse = |source, field| catalogue.parse(source, field);
            let current = handle.current();
            let value = match &value_source {
                Some(source) => parse(source, "value_schema")?,
                None => Arc::clone(&current.value),
            };
            let key = match &key_source {
                Some(source) => Some(parse(source, "key_schema")?),
                None => current.key.clone(),
            };
            let mut old = old;
            let name = {
                let view = catalogue.inner.view.read();
                references::by_name(&view, &mut old);
                old.tags.retain(|tag| tag_key::check(&view, tag).is_ok());
                next_name(&view, &old.name)
            };
            fit(&mut old, &value)?;
            Plan::of(inherit(asked, old, name), value, key)
        })
        .await?;

        let mut change = self
            .change_product(caller, Rpc::SucceedProduct, &request.name, &checked.id, &request.etag)
            .await?;
        plan.check_against(&self.inner.view.read())?;
        if change.handle.name.split('.').next() != Some(&*plan.domain) {
            self.allow_in_domain(caller, &plan.domain, false)?;
        }
        let name = plan.product.name.clone();
        lifecycle::deprecate(&mut change, &request.reason, name, request.sunset_time)?;
        let value = Arc::clone(&plan.value);
        let view = &self.inner.view;
        let mut successor = plan.add(view, &mut change.mutation, caller)?;
        let said = facts::differences(&Facts::new(), &facts::of_product(&successor));
        let (act, stored): (Act, _) = change.seal(caller, "succeed_product", Some(&successor))?;
        let act = act.along("successor", said);
        let mut product = change.product;
        change::finish(view, &mut product, &change.handle.current().value)?;
        change::finish(view, &mut successor, &value)?;
        if request.validate_only {
            product.etag.clear();
            successor.etag.clear();
            successor.id.clear();
        } else {
            let mut mutation = change.mutation;
            mutation.set(Key::Product(&product.id), &stored);
            mutation.commit(caller, act).await?;
        }
        Ok(v1::SucceedProductResponse { product: Some(product), successor: Some(successor) })
    }
}

/// The name with `-v2`, or with the next number that is free.
fn next_name(view: &View, name: &str) -> String {
    let (stem, number) = match name.rsplit_once("-v") {
        Some((stem, digits)) if !stem.ends_with('.') => match digits.parse::<u32>() {
            Ok(number) if !digits.starts_with('+') => (stem, number),
            _ => (name, 1),
        },
        _ => (name, 1),
    };
    let numbers = number.saturating_add(1)..=u32::MAX;
    let mut names = numbers.map(|number| format!("{stem}-v{number}"));
    names.find(|name| view.product(name).is_none()).unwrap_or_default()
}

/// Drops what the old product says and the schema of the new one does not allow: tags of fields
/// that it has no more, a key rule for such a field, an enforcement that its format lacks.
fn fit(old: &mut v1::Product, value: &Schema) -> Result<()> {
    let fields = value.fields().map_err(|malformed| malformed.in_field("value_schema"))?;
    let fields: HashSet<String> = fields.into_iter().map(|field| field.path).collect();
    // A schema that lists no fields may have any.
    let exists = |path: &String| path.is_empty() || fields.is_empty() || fields.contains(path);
    old.tags.retain(|tag| exists(&tag.field_path));
    old.rules.retain(|rule| rules::check(std::slice::from_ref(rule), value, &old.name).is_ok());
    old.key.take_if(|rule| check_key_rule(&FieldPath::new(&rule.field), value).is_err());
    if settings::resolve(old.settings.as_ref(), value.format()).is_err()
        && let Some(settings) = &mut old.settings
    {
        settings.enforcement = 0;
        settings.on_fail = 0;
        settings.framing = 0;
    }
    Ok(())
}

/// What is asked for, and for the rest what the old product says.
fn inherit(asked: v1::Product, old: v1::Product, name: String) -> v1::Product {
    fn or<T: Default + PartialEq>(asked: T, old: T) -> T {
        if asked == T::default() { old } else { asked }
    }
    v1::Product {
        name: or(asked.name, name),
        owner: or(asked.owner, old.owner),
        description: or(asked.description, old.description),
        classification: or(asked.classification, old.classification),
        state: v1::ProductState::Draft.into(),
        kind: or(asked.kind, old.kind),
        tags: or(asked.tags, old.tags),
        partitions: or(asked.partitions, old.partitions),
        settings: or(asked.settings, old.settings),
        key: or(asked.key, old.key),
        docs: or(asked.docs, old.docs),
        rules: or(asked.rules, old.rules),
        links: or(asked.links, old.links),
        support: or(asked.support, old.support),
        inputs: or(asked.inputs, old.inputs),
        ..Default::default()
    }
}
