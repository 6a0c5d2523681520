//! The catalogue in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use meshlog_proto::v1;
use meshlog_storage::Control;

use super::product::ProductHandle;
use super::recent::{Changed, Recent};
use super::rights::{KnownGrant, KnownKey, Rights};
use super::stored::{self, Chain, Counters, Key, StoredSchema};
use super::{attached, builtin, is_internal};
use crate::error::Result;
use crate::schema::{Fingerprint, Schema};
use crate::{Traffic, lineage};

/// What the keys of the storage state say. Changed only by [`View::apply`], with what
/// [`View::decode`] made of the same keys that storage keeps: so the view that a restart rebuilds
/// is this one.
#[derive(Default)]
pub(super) struct View {
    pub(super) counters: Counters,
    /// Where the audit log stands.
    pub(super) chain: Chain,
    pub(super) teams: BTreeMap<Arc<str>, Arc<v1::Team>>,
    pub(super) domains: BTreeMap<Arc<str>, Arc<v1::Domain>>,
    pub(super) tag_keys: BTreeMap<Arc<str>, Arc<v1::TagKey>>,
    /// By name; aliases are apart.
    pub(super) products: HashMap<Arc<str>, Arc<ProductHandle>>,
    /// Names of products, in order.
    pub(super) names: BTreeSet<Arc<str>>,
    /// Of the broker's own products.
    pub(super) internal: usize,
    by_id: HashMap<Arc<str>, Arc<ProductHandle>>,
    /// Earlier names, with the id of the product that each leads to.
    aliases: HashMap<Arc<str>, Arc<str>>,
    /// Products by the teams, tag keys and other products that they name.
    pub(super) by_team: Index,
    pub(super) by_tag_key: Index,
    by_product: Index,
    /// Ids of products that not everybody may know of.
    pub(super) restricted: BTreeSet<Arc<str>>,
    /// Schemas by digest, with the number of uses by versions of products.
    schemas: HashMap<Fingerprint, (Arc<Schema>, usize)>,
    /// Id of the product and version in it, by storage id.
    pub(super) versions: HashMap<u32, (Arc<str>, u32)>,
    /// What changed last, for those who watch.
    pub(super) recent: Recent,
    /// Who may do what.
    pub(super) rights: Rights,
    /// Which products an application touches.
    lineage: Arc<lineage::Index>,
}

/// Ids of products, by what they name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Index(BTreeMap<Arc<str>, BTreeSet<Arc<str>>>);

impl Index {
    /// Ids of the products that name it.
    pub(super) fn of(&self, named: &str) -> impl Iterator<Item = &Arc<str>> + Clone {
        self.0.get(named).into_iter().flatten()
    }

    fn add(&mut self, named: &Arc<str>, id: &Arc<str>) {
        self.0.entry(Arc::clone(named)).or_default().insert(Arc::clone(id));
    }

    fn remove(&mut self, named: &Arc<str>, id: &Arc<str>) {
        if let Some(ids) = self.0.get_mut(named) {
            ids.remove(id);
            if ids.is_empty() {
                self.0.remove(named);
            }
        }
    }
}

/// One change of the view, ready to be made.
pub(super) enum Change {
    Counters(Counters),
    Chain(Chain),
    Team(Arc<str>, Option<Arc<v1::Team>>),
    Domain(Arc<str>, Option<Arc<v1::Domain>>),
    TagKey(Arc<str>, Option<Arc<v1::TagKey>>),
    Product(Arc<ProductHandle>),
    ProductGone(Arc<str>),
    Schema(Fingerprint, Arc<Schema>),
    SchemaGone(Fingerprint),
    ApiKey(Arc<str>, Option<Arc<KnownKey>>),
    Grant(Arc<str>, Option<Arc<KnownGrant>>),
    AccessRequest(Arc<str>, Option<Arc<v1::AccessRequest>>),
    Protected,
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
                (Key::Chain, Some(value)) => Change::Chain(stored::decode(key, value.clone())?),
                (Key::Team(name), value) => Change::Team(Arc::from(name), message(key, value)?),
                (Key::Domain(name), value) => Change::Domain(Arc::from(name), message(key, value)?),
                (Key::TagKey(name), value) => Change::TagKey(Arc::from(name), message(key, value)?),
                (Key::Product(_), Some(value)) => {
                    let handle = ProductHandle::from_stored(key, value.clone(), schema, |id| {
                        match self.product_of(id) {
                            Some(known) => Arc::clone(&known.traffic),
                            // What is attached has no edges: it is no place that data flows to.
                            None if attached::product_of_quarantine(id).is_some() => {
                                Arc::new(Traffic::new(id, &Arc::default()))
                            }
                            None => Arc::new(Traffic::new(id, &self.lineage)),
                        }
                    })?;
                    Change::Product(Arc::new(handle))
                }
                (Key::Product(id), None) => Change::ProductGone(Arc::from(id)),
                (Key::ApiKey(id), value) => {
                    let stored = value.map(|value| stored::decode(key, value.clone()));
                    let known = stored.transpose()?.map(|stored| Arc::new(KnownKey::new(stored)));
                    Change::ApiKey(Arc::from(id), known)
                }
                (Key::Grant(id), value) => {
                    let grant = value.map(|value| stored::decode(key, value.clone()));
                    let known = grant.transpose()?.map(|grant| Arc::new(KnownGrant::new(grant)));
                    Change::Grant(Arc::from(id), known)
                }
                (Key::AccessRequest(id), value) => {
                    Change::AccessRequest(Arc::from(id), message(key, value)?)
                }
                (Key::Protection, Some(_)) => Change::Protected,
                (
                    Key::Counters
                    | Key::Chain
                    | Key::Schema(_)
                    | Key::Application(_)
                    | Key::Protection,
                    _,
                ) => {
                    continue;
                }
            };
            changes.push(change);
        }
        changes.append(&mut last);
        Ok(changes)
    }

    /// Makes the changes, and notes which products they change for those who watch.
    pub(super) fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Counters(counters) => self.counters = counters,
                Change::Chain(chain) => self.chain = chain,
                Change::Team(name, team) => {
                    let after = team.as_ref().map(|team| team.contacts.clone());
                    let is_gone = team.is_none();
                    let before = put_or_remove(&mut self.teams, &name, team);
                    self.rights.changes += u64::from(is_gone);
                    if before.map(|team| team.contacts.clone()) != after {
                        self.note_all(self.by_team.of(&name).cloned().collect());
                    }
                }
                Change::Domain(name, domain) => {
                    let after = domain.as_ref().map(|domain| domain.tags.clone());
                    let before = put_or_remove(&mut self.domains, &name, domain);
                    self.rights.changes += 1;
                    if before.map(|domain| domain.tags.clone()).unwrap_or_default()
                        != after.unwrap_or_default()
                    {
                        let ids = self.of_domain(&name).map(|handle| Arc::clone(&handle.id));
                        self.note_all(ids.collect());
                    }
                }
                Change::TagKey(name, key) => {
                    put_or_remove(&mut self.tag_keys, &name, key);
                    self.note_all(self.by_tag_key.of(&name).cloned().collect());
                }
                Change::Schema(digest, schema) => {
                    self.schemas.entry(digest).or_insert((schema, 0));
                }
                Change::SchemaGone(digest) => drop(self.schemas.remove(&digest)),
                Change::ApiKey(id, key) => self.rights.put_key(id, key),
                Change::Grant(id, grant) => self.rights.put_grant(&id, grant),
                Change::AccessRequest(id, request) => self.rights.put_request(id, request),
                Change::Protected => {
                    self.rights.is_protected = true;
                    self.rights.had_key = true;
                    self.rights.changes += 1;
                }
                Change::Product(handle) => self.put(handle),
                Change::ProductGone(id) => {
                    if let Some(handle) = self.by_id.remove(&id) {
                        handle.traffic.forget();
                        self.release(&handle);
                        self.recent.note(Changed {
                            id: Arc::clone(&id),
                            name: Arc::clone(&handle.name),
                            before: None,
                            was_hidden: handle.is_restricted(),
                        });
                        self.note_all(self.by_product.of(&id).cloned().collect());
                    }
                }
            }
        }
    }

    fn put(&mut self, handle: Arc<ProductHandle>) {
        let before = self.by_id.insert(Arc::clone(&handle.id), Arc::clone(&handle));
        if let Some(before) = &before {
            self.release(before);
        }
        for digest in handle.digests() {
            if let Some((_, uses)) = self.schemas.get_mut(&digest) {
                *uses += 1;
            }
        }
        for version in handle.versions() {
            let place = (Arc::clone(&handle.id), version.number);
            self.versions.insert(version.storage_id, place);
        }
        let id = &handle.id;
        for alias in &handle.names.aliases {
            self.aliases.insert(Arc::clone(alias), Arc::clone(id));
        }
        handle.names.teams.iter().for_each(|team| self.by_team.add(team, id));
        handle.names.tag_keys.iter().for_each(|key| self.by_tag_key.add(key, id));
        handle.names.products.iter().for_each(|other| self.by_product.add(other, id));
        if handle.is_restricted() {
            self.restricted.insert(Arc::clone(id));
        }
        self.internal += usize::from(is_internal(&handle.name));
        self.names.insert(Arc::clone(&handle.name));
        self.products.insert(Arc::clone(&handle.name), Arc::clone(&handle));

        // Policies may look at everything that a product says of itself.
        let is_looked_into = self.rights.policies.is_there();
        // One that is new has not been decided about.
        if before
            .as_ref()
            .is_some_and(|before| is_looked_into || !before.gives_the_same_rights(&handle))
        {
            self.rights.changes += 1;
        }
        let was_hidden = before.as_ref().is_none_or(|before| before.is_restricted());
        let moved = before.filter(|before| before.name != handle.name);
        let moved = moved.map(|before| Arc::clone(&before.name));
        let has_moved = moved.is_some();
        self.recent.note(Changed {
            id: Arc::clone(id),
            name: Arc::clone(&handle.name),
            before: moved,
            was_hidden,
        });
        if has_moved {
            self.note_all(self.by_product.of(id).cloned().collect());
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
        let id = &handle.id;
        for alias in &handle.names.aliases {
            self.aliases.remove(alias);
        }
        handle.names.teams.iter().for_each(|team| self.by_team.remove(team, id));
        handle.names.tag_keys.iter().for_each(|key| self.by_tag_key.remove(key, id));
        handle.names.products.iter().for_each(|other| self.by_product.remove(other, id));
        self.restricted.remove(id);
        self.internal -= usize::from(is_internal(&handle.name));
        self.names.remove(&handle.name);
        self.products.remove(&handle.name);
    }

    fn note_all(&mut self, ids: Vec<Arc<str>>) {
        for id in ids {
            if let Some(handle) = self.by_id.get(&id) {
                let was_hidden = handle.is_restricted();
                let name = Arc::clone(&handle.name);
                self.recent.note(Changed { id, name, before: None, was_hidden });
            }
        }
    }

    /// The product of this name, or of this earlier name.
    pub(super) fn product(&self, name: &str) -> Option<&Arc<ProductHandle>> {
        let plain = self.products.get(name);
        plain.or_else(|| self.by_id.get(self.aliases.get(name)?)).or_else(|| {
            let product = self.product(attached::product_of_quarantine(name)?)?;
            product.quarantine.as_ref()
        })
    }

    /// The product with this id.
    pub(super) fn product_of(&self, id: &str) -> Option<&Arc<ProductHandle>> {
        self.by_id.get(id).or_else(|| {
            let product = self.by_id.get(attached::product_of_quarantine(id)?)?;
            product.quarantine.as_ref()
        })
    }

    /// The products that name this one as an input or a successor.
    pub(super) fn naming(&self, id: &str) -> Vec<Arc<ProductHandle>> {
        self.by_product.of(id).filter_map(|id| self.by_id.get(id).cloned()).collect()
    }

    pub(super) fn index(&self) -> &Arc<lineage::Index> {
        &self.lineage
    }

    /// The products of a domain, by name.
    pub(super) fn of_domain(&self, domain: &str) -> impl Iterator<Item = &Arc<ProductHandle>> {
        let prefix = format!("{domain}.");
        let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
        let names = self.names.range::<str, _>(from);
        let names: Vec<_> = names.take_while(|name| name.starts_with(&prefix)).collect();
        names.into_iter().filter_map(|name| self.products.get(name))
    }

    /// A team, built in or not.
    pub(super) fn team(&self, name: &str) -> Option<Arc<v1::Team>> {
        builtin::team(name).or_else(|| self.teams.get(name).cloned())
    }

    /// A domain, built in or not.
    pub(super) fn domain(&self, name: &str) -> Option<Arc<v1::Domain>> {
        builtin::domain(name).or_else(|| self.domains.get(name).cloned())
    }

    /// A key of the tag vocabulary, built in or not.
    pub(super) fn tag_key(&self, name: &str) -> Option<Arc<v1::TagKey>> {
        builtin::tag_key(name).or_else(|| self.tag_keys.get(name).cloned())
    }

    pub(super) fn schema(&self, digest: &Fingerprint) -> Option<&Arc<Schema>> {
        self.schemas.get(digest).map(|(schema, _)| schema)
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

/// The value of a key that holds a message; `None`: the key is gone.
fn message<M: prost::Message + Default>(
    key: Key<'_>,
    value: Option<&Bytes>,
) -> Result<Option<Arc<M>>> {
    value.map(|value| stored::decode(key, value.clone()).map(Arc::new)).transpose()
}

fn put_or_remove<T>(
    map: &mut BTreeMap<Arc<str>, Arc<T>>,
    name: &Arc<str>,
    value: Option<Arc<T>>,
) -> Option<Arc<T>> {
    match value {
        Some(value) => map.insert(Arc::clone(name), value),
        None => map.remove(name),
    }
}

#[cfg(test)]
impl View {
    /// The number of uses of each schema.
    pub(super) fn schema_uses(&self) -> BTreeMap<Fingerprint, usize> {
        self.schemas.iter().map(|(digest, (_, uses))| (*digest, *uses)).collect()
    }

    /// The parts that are only for looking up, as text.
    pub(super) fn indexes(&self) -> String {
        let aliases: BTreeMap<_, _> = self.aliases.iter().collect();
        let by_id: BTreeMap<_, _> =
            self.by_id.iter().map(|(id, handle)| (id, &handle.name)).collect();
        format!(
            "{aliases:?} {by_id:?} {:?} {:?} {:?} {:?} {:?} {}",
            self.by_team,
            self.by_tag_key,
            self.by_product,
            self.names,
            self.restricted,
            self.internal
        )
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
