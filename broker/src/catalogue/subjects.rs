//! Schema versions as a schema registry sees them: by subject, which is one side of a product, and by
//! the number that is unique in the broker.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use meshlog_proto::v1::{self, SchemaFormat};

use super::name::check_product;
use super::product::{ProductHandle, Version};
use super::{Catalogue, aside};
use crate::Caller;
use crate::access::Rpc;
use crate::error::Result;
use crate::schema::{Malformed, Schema, protobuf_text_of, protobuf_top_messages};

/// Which schema of a product's versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Value,
    Key,
}

/// One schema of one version.
#[derive(Clone, Debug)]
pub(crate) struct SidedVersion {
    pub(crate) product: Arc<str>,
    pub(crate) side: Side,
    /// As clients count.
    pub(crate) number: u32,
    /// Its number in this broker.
    pub(crate) schema_id: u32,
    pub(crate) schema: Arc<Schema>,
    /// Whether it takes no more appends.
    is_closed: bool,
}

impl SidedVersion {
    /// `None` if the version has no such schema: keys may be free, and values anything.
    fn of(product: &ProductHandle, version: &Version, side: Side) -> Option<Self> {
        let schema = match side {
            Side::Value => Some(&version.value),
            Side::Key => version.key.as_ref(),
        };
        let schema = schema.filter(|schema| schema.format() != SchemaFormat::Opaque)?;
        Some(Self {
            product: Arc::clone(&product.name),
            side,
            number: version.number,
            schema_id: version.storage_id,
            schema: Arc::clone(schema),
            is_closed: version.closed,
        })
    }
}

/// What is looked for among the versions of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Likeness {
    /// The words, documentation included; layout does not count.
    Words,
    /// What it means on the wire: for a schema that lost its comments on the way.
    Meaning,
}

impl Catalogue {
    /// Names of the products that the caller may see and that have a schema now, in order, and whether
    /// it is there for their values and for their keys.
    pub(crate) fn products_with_schemas(&self, caller: &Caller) -> Vec<(Arc<str>, bool, bool)> {
        let now = self.inner.storage.now();
        let view = self.inner.view.read();
        let handles = view.names.iter().filter_map(|name| view.products.get(name));
        let seen = handles.filter(|handle| view.sees(caller, handle, now));
        seen.filter_map(|handle| {
            let current = handle.current();
            let has = |side| SidedVersion::of(handle, current, side).is_some();
            let (value, key) = (has(Side::Value), has(Side::Key));
            (value || key).then(|| (Arc::clone(&handle.name), value, key))
        })
        .collect()
    }

    /// The versions of a product that have a schema on this side, oldest first.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`.
    pub(crate) fn sided_versions(
        &self,
        caller: &Caller,
        product: &str,
        side: Side,
    ) -> Result<Vec<SidedVersion>> {
        let handle = self.resolve_for(caller, Rpc::ListSchemaVersions, product, "")?;
        let versions = handle.versions().iter();
        Ok(versions.filter_map(|version| SidedVersion::of(&handle, version, side)).collect())
    }

    /// The version of a product that has this schema on this side: the current one if it has, else the
    /// newest that still takes appends.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `SCHEMA_MALFORMED`.
    pub(crate) async fn find_sided_version(
        &self,
        caller: &Caller,
        product: &str,
        side: Side,
        source: v1::SchemaSource,
        likeness: Likeness,
    ) -> Result<Option<SidedVersion>> {
        let mut versions = self.sided_versions(caller, product, side)?;
        // Newest first; those that take no more appends come last.
        versions.reverse();
        versions.sort_by_key(|version| version.is_closed);
        let catalogue = self.clone();
        aside(move || {
            let asked = catalogue.parse(&source, "schema")?;
            let is_alike = |schema: &Schema| match likeness {
                Likeness::Words => schema.says_the_same(&asked),
                Likeness::Meaning => {
                    schema.format() == asked.format() && schema.fingerprint() == asked.fingerprint()
                }
            };
            Ok(versions.into_iter().find(|version| is_alike(&version.schema)))
        })
        .await
    }

    /// The schemas of the version with this number in the broker, that of the values first; empty if
    /// there is none that the caller may see.
    pub(crate) fn schemas_of_id(&self, caller: &Caller, schema_id: u32) -> Vec<SidedVersion> {
        let view = self.inner.view.read();
        let found = view
            .versions
            .get(&schema_id)
            .and_then(|(id, number)| Some((Arc::clone(view.product_of(id)?), *number)));
        drop(view);
        let Some((handle, number)) = found else { return Vec::new() };
        if self.resolve_for(caller, Rpc::GetSchemaVersion, &handle.name, &handle.id).is_err() {
            return Vec::new();
        }
        let Ok(version) = handle.version(number) else { return Vec::new() };
        let sides = [Side::Value, Side::Key].into_iter();
        sides.filter_map(|side| SidedVersion::of(&handle, version, side)).collect()
    }
}

/// Whether a product can have this name.
pub(crate) fn is_product_name(name: &str) -> bool {
    check_product(name).is_ok()
}

impl Catalogue {
    /// A schema as a client of a schema registry sends it, as it would be written here. Protobuf may come
    /// compiled, in base64; of a file with several messages the record is the one of the current version,
    /// or else the first.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `SCHEMA_MALFORMED`.
    pub(crate) async fn sided_source(
        &self,
        caller: &Caller,
        product: &str,
        side: Side,
        format: SchemaFormat,
        text: String,
    ) -> Result<(v1::SchemaSource, Likeness)> {
        let source = v1::SchemaSource { format: format.into(), text, ..Default::default() };
        if format != SchemaFormat::Protobuf {
            return Ok((source, Likeness::Words));
        }
        let current = self.sided_versions(caller, product, side)?.pop();
        aside(move || {
            let malformed = |malformed: Malformed| malformed.in_field("schema");
            let mut source = source;
            let mut likeness = Likeness::Words;
            if let Ok(compiled) = BASE64_STANDARD.decode(source.text.trim()) {
                source.text = protobuf_text_of(&compiled).map_err(malformed)?;
                likeness = Likeness::Meaning;
            }
            let messages = protobuf_top_messages(&source.text).map_err(malformed)?;
            if let [first, _, ..] = &messages[..] {
                let before = current.map(|version| version.schema.source().message_name);
                let before = before.filter(|name| messages.contains(name));
                source.message_name = before.unwrap_or_else(|| first.clone());
            }
            Ok((source, likeness))
        })
        .await
    }
}
