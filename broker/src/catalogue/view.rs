//! The catalogue in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use meshlog_proto::v1;
use meshlog_storage::Control;

use super::product::ProductHandle;
use super::stored::{self, Counters, Key, StoredSchema};
use crate::error::Result;
use crate::schema::{Fingerprint, Schema};

/// What the keys of the storage state say. Changed only by [`View::apply`], with what
/// [`View::decode`] made of the same keys that storage keeps: so the view that a restart rebuilds
/// is this one.
#[derive(Default)]
pub(super) struct View {
    pub(super) counters: Counters,
    pub(super) teams: BTreeMap<Arc<str>, Arc<v1::Team>>,
    pub(super) domains: BTreeMap<Arc<str>, Arc<v1::Domain>>,
    pub(super) products: HashMap<Arc<str>, Arc<ProductHandle>>,
    /// Names of products, in order.
    pub(super) names: BTreeSet<Arc<str>>,
    by_id: HashMap<Arc<str>, Arc<str>>,
    /// Schemas by digest, with the number of uses by versions of products.
    schemas: HashMap<Fingerprint, (Arc<Schema>, usize)>,
    /// Version of the product, by storage id.
    pub(super) versions: HashMap<u32, u32>,
}

/// One change of the view, ready to be made.
pub(super) enum Change {
    Counters(Counters),
    Team(Arc<str>, Arc<v1::Team>),
    Domain(Arc<str>, Arc<v1::Domain>),
    Product(Arc<ProductHandle>),
    ProductGone(Arc<str>),
    Schema(Fingerprint, Arc<Schema>),
    SchemaGone(Fingerprint),
}

impl View {
    /// The changes that these keys mean. Schemas come first, because products refer to them.
    pub(super) fn decode<'a>(
        &self,
        keys: impl Iterator<Item = (&'a Bytes, Option<&'a Bytes>)> + Clone,
    ) -> Result<Vec<Change>> {
        let mut fresh: HashMap<Fingerprint, Arc<Schema>> = HashMap::new();
        let (mut changes, mut last) = (Vec::new(), Vec::new());
        for (key, value) in keys.clone() {
            let Some(key @ Key::Schema(name)) = Key::parse(key) else { continue };
            let Some(value) = value else {
                last.extend(Fingerprint::from_text(name).map(Change::SchemaGone));
                continue;
            };
            let stored: StoredSchema = stored::decode(key, value.clone())?;
            let fingerprint = stored::digest(key, &stored.fingerprint)?;
            let schema = Arc::new(Schema::stored(stored.source, fingerprint));
            if schema.digest().to_string() != name {
                return Err(stored::unreadable(key, "it is not the text that its name says"));
            }
            fresh.insert(schema.digest(), Arc::clone(&schema));
            changes.push(Change::Schema(schema.digest(), schema));
        }
        let schema = |digest: &Fingerprint| {
            fresh.get(digest).cloned().or_else(|| self.schema(digest).cloned())
        };
        for (key, value) in keys {
            let Some(key) = Key::parse(key) else { continue };
            let change = match (key, value) {
                (Key::Counters, Some(value)) => {
                    Change::Counters(stored::decode(key, value.clone())?)
                }
                (Key::Team(name), Some(value)) => {
                    Change::Team(Arc::from(name), Arc::new(stored::decode(key, value.clone())?))
                }
                (Key::Domain(name), Some(value)) => {
                    Change::Domain(Arc::from(name), Arc::new(stored::decode(key, value.clone())?))
                }
                (Key::Product(_), Some(value)) => {
                    let handle = ProductHandle::from_stored(key, value.clone(), schema, |id| {
                        let name = self.by_id.get(id)?;
                        Some(Arc::clone(&self.products.get(name)?.usage))
                    })?;
                    Change::Product(Arc::new(handle))
                }
                (Key::Product(id), None) => Change::ProductGone(Arc::from(id)),
                (Key::Schema(_) | Key::Application(_), _) | (_, None) => continue,
            };
            changes.push(change);
        }
        changes.append(&mut last);
        Ok(changes)
    }

    pub(super) fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Counters(counters) => self.counters = counters,
                Change::Team(name, team) => drop(self.teams.insert(name, team)),
                Change::Domain(name, domain) => drop(self.domains.insert(name, domain)),
                Change::Schema(digest, schema) => {
                    self.schemas.entry(digest).or_insert((schema, 0));
                }
                Change::SchemaGone(digest) => drop(self.schemas.remove(&digest)),
                Change::Product(handle) => self.put(handle),
                Change::ProductGone(id) => {
                    if let Some(handle) =
                        self.by_id.remove(&id).and_then(|name| self.products.remove(&name))
                    {
                        self.names.remove(&handle.name);
                        self.release(&handle);
                    }
                }
            }
        }
    }

    fn put(&mut self, handle: Arc<ProductHandle>) {
        for digest in handle.digests() {
            if let Some((_, uses)) = self.schemas.get_mut(&digest) {
                *uses += 1;
            }
        }
        for version in handle.versions() {
            self.versions.insert(version.storage_id, version.number);
        }
        self.names.insert(Arc::clone(&handle.name));
        self.by_id.insert(Arc::clone(&handle.id), Arc::clone(&handle.name));
        // The key stays the name that is shared with `names` and `by_id`.
        match self.products.insert(Arc::clone(&handle.name), Arc::clone(&handle)) {
            Some(before) if before.id == handle.id => {
                for digest in before.digests() {
                    if let Some((_, uses)) = self.schemas.get_mut(&digest) {
                        *uses -= 1;
                    }
                }
            }
            _ => {}
        }
    }

    fn release(&mut self, handle: &ProductHandle) {
        for digest in handle.digests() {
            if let Some((_, uses)) = self.schemas.get_mut(&digest) {
                *uses -= 1;
            }
        }
        for version in handle.versions() {
            self.versions.remove(&version.storage_id);
        }
    }

    pub(super) fn schema(&self, digest: &Fingerprint) -> Option<&Arc<Schema>> {
        self.schemas.get(digest).map(|(schema, _)| schema)
    }

    /// The product with this id.
    pub(super) fn product_of(&self, id: &str) -> Option<&Arc<ProductHandle>> {
        self.products.get(self.by_id.get(id)?)
    }

    /// The schemas that nothing would use without this product.
    pub(super) fn schemas_only_of(&self, handle: &ProductHandle) -> Vec<Fingerprint> {
        let mut own: BTreeMap<Fingerprint, usize> = BTreeMap::new();
        handle.digests().for_each(|digest| *own.entry(digest).or_default() += 1);
        let only = own
            .into_iter()
            .filter(|(digest, uses)| self.schemas.get(digest).is_some_and(|(_, all)| all == uses));
        only.map(|(digest, _)| digest).collect()
    }
}

#[cfg(test)]
impl View {
    /// The number of uses of each schema.
    pub(super) fn schema_uses(&self) -> BTreeMap<Fingerprint, usize> {
        self.schemas.iter().map(|(digest, (_, uses))| (*digest, *uses)).collect()
    }
}

/// The state keys among controls.
pub(super) fn state_keys(
    controls: &[Control],
) -> impl Iterator<Item = (&Bytes, Option<&Bytes>)> + Clone {
    controls.iter().filter_map(|control| match control {
        Control::SetState { key, value } => Some((key, value.as_ref())),
        _ => None,
    })
}
