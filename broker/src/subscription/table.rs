//! The cursors in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use meshlog_storage::Control;
use parking_lot::RwLock;
use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use super::stored::{StoredCursor, key, parse};
use crate::error::{Error, Reason, Result};

/// Pairs of a cursor and a product that there may be. One takes some hundred bytes here, in the state
/// and in each checkpoint.
pub(super) const MAX_CURSORS: usize = 10_000;

/// Cursors take turns at this many gates: two that share one wait for each other's sync now and then.
const GATES: usize = 1024;

/// Positions in commits under way; a position takes about 16 bytes.
const MAX_POSITIONS_UNDER_WAY: usize = 1 << 18;

/// What the keys of the storage state say about cursors.
#[derive(Debug)]
pub(crate) struct CursorTable {
    cursors: RwLock<Cursors>,
    gates: Vec<Arc<Mutex<()>>>,
    under_way: Arc<Semaphore>,
    most: usize,
}

#[derive(Debug, Default)]
struct Cursors {
    /// By cursor, then by product id.
    by_name: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Arc<StoredCursor>>>,
    /// Names of cursors by product id.
    by_product: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// Pairs there are.
    count: usize,
    /// Pairs whose first commit is under way.
    coming: usize,
    last_revision: u64,
}

/// The turn of one cursor in one product.
pub(super) type Turn = OwnedMutexGuard<()>;

/// Room for a cursor that does not exist yet; given back when dropped.
pub(super) struct Place(Arc<CursorTable>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.cursors.write().coming -= 1;
    }
}

impl CursorTable {
    /// From the storage state.
    pub(crate) fn open<'a>(
        state: impl Iterator<Item = (&'a Bytes, &'a Bytes)>,
    ) -> Result<Arc<Self>> {
        let table = Self::empty(MAX_CURSORS);
        for (key, value) in state {
            if let Some((name, product)) = parse(key) {
                let cursor = StoredCursor::decode_value(key, value)?;
                table.put(&Arc::from(name), &Arc::from(product), Arc::new(cursor));
            }
        }
        Ok(table)
    }

    pub(super) fn empty(most: usize) -> Arc<Self> {
        Arc::new(Self {
            cursors: RwLock::default(),
            gates: (0..GATES).map(|_| Arc::default()).collect(),
            under_way: Arc::new(Semaphore::new(MAX_POSITIONS_UNDER_WAY)),
            most,
        })
    }

    /// Room for a commit of this many positions, or `OVERLOADED`.
    pub(super) fn room(&self, positions: usize) -> Result<OwnedSemaphorePermit> {
        let positions = positions.clamp(1, MAX_POSITIONS_UNDER_WAY) as u32;
        Arc::clone(&self.under_way).try_acquire_many_owned(positions).map_err(|_| {
            Error::new(
                Reason::Overloaded,
                "more commits of cursors are under way than the broker has room for; try again \
                 after the delay given",
            )
            .with("retry_after_ms", 250)
        })
    }

    /// Waits until no other change of this cursor in this product is under way; who came first goes
    /// first.
    pub(super) async fn turn(&self, name: &str, product_id: &str) -> Turn {
        Arc::clone(&self.gates[gate(name, product_id)]).lock_owned().await
    }

    /// The turns of one cursor in several products.
    pub(super) async fn turns(&self, name: &str, product_ids: &[Arc<str>]) -> Vec<Turn> {
        // In one order for all, each once: so nobody waits in a circle.
        let gates: BTreeSet<usize> = product_ids.iter().map(|id| gate(name, id)).collect();
        let mut turns = Vec::with_capacity(gates.len());
        for gate in gates {
            turns.push(Arc::clone(&self.gates[gate]).lock_owned().await);
        }
        turns
    }

    pub(super) fn find(&self, name: &str, product_id: &str) -> Option<Arc<StoredCursor>> {
        self.cursors.read().by_name.get(name)?.get(product_id).cloned()
    }

    /// Room for one more cursor.
    pub(super) fn place(self: &Arc<Self>) -> Result<Place> {
        let mut cursors = self.cursors.write();
        if cursors.count + cursors.coming >= self.most {
            return Err(Error::new(
                Reason::LimitReached,
                format!(
                    "there are {} cursors (one per name and product), as many as there may be; \
                     delete those that nobody needs with `meshlog cursor delete`",
                    self.most
                ),
            )
            .with("limit", self.most));
        }
        cursors.coming += 1;
        Ok(Place(Arc::clone(self)))
    }

    /// A number above all that were given, in this process and, unless the clock went back, ever.
    pub(super) fn next_revision(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        let mut cursors = self.cursors.write();
        cursors.last_revision = now.max(cursors.last_revision.saturating_add(1));
        cursors.last_revision
    }

    pub(super) fn put(&self, name: &Arc<str>, product_id: &Arc<str>, cursor: Arc<StoredCursor>) {
        let mut cursors = self.cursors.write();
        cursors.last_revision = cursors.last_revision.max(cursor.revision);
        let products = cursors.by_name.entry(Arc::clone(name)).or_default();
        if products.insert(Arc::clone(product_id), cursor).is_none() {
            cursors.count += 1;
            let names = cursors.by_product.entry(Arc::clone(product_id)).or_default();
            names.insert(Arc::clone(name));
        }
    }

    pub(super) fn remove(&self, name: &str, product_id: &str) {
        self.cursors.write().remove(name, product_id);
    }

    /// What removes the cursors of a product from the state, for the entry that deletes the product.
    pub(crate) fn removals(&self, product_id: &str) -> Vec<Control> {
        let cursors = self.cursors.read();
        let names = cursors.by_product.get(product_id).into_iter().flatten();
        names.map(|name| Control::SetState { key: key(name, product_id), value: None }).collect()
    }

    /// The product is gone, and its cursors with it.
    pub(crate) fn forget(&self, product_id: &str) {
        let mut cursors = self.cursors.write();
        for name in cursors.by_product.get(product_id).cloned().unwrap_or_default() {
            cursors.remove(&name, product_id);
        }
    }

    /// The products in which a cursor stands, by id.
    pub(super) fn products_of(&self, name: &str) -> Vec<Arc<str>> {
        let cursors = self.cursors.read();
        cursors.by_name.get(name).into_iter().flat_map(BTreeMap::keys).cloned().collect()
    }

    /// The first name at or behind a bound, with its cursors by product id.
    pub(super) fn next_name(&self, from: Bound<&str>) -> Option<(Arc<str>, Positions)> {
        let cursors = self.cursors.read();
        let mut names = cursors.by_name.range::<str, _>((from, Bound::Unbounded));
        names.next().map(|(name, products)| {
            let found = products.iter().map(|(id, cursor)| (Arc::clone(id), Arc::clone(cursor)));
            (Arc::clone(name), found.collect())
        })
    }

    /// The cursors in one product by name, from a bound on.
    pub(super) fn in_product(&self, product_id: &str, from: Bound<&str>, most: usize) -> Positions {
        let cursors = self.cursors.read();
        let Some(names) = cursors.by_product.get(product_id) else { return Vec::new() };
        let names = names.range::<str, _>((from, Bound::Unbounded)).take(most);
        let found = names.filter_map(|name| {
            let cursor = cursors.by_name.get(name)?.get(product_id)?;
            Some((Arc::clone(name), Arc::clone(cursor)))
        });
        found.collect()
    }

    /// Every cursor, with the id of its product.
    pub(super) fn all(&self) -> Positions {
        let cursors = self.cursors.read();
        let by_product = cursors.by_name.values().flatten();
        by_product.map(|(id, cursor)| (Arc::clone(id), Arc::clone(cursor))).collect()
    }

    /// Pairs of a cursor and a product.
    pub(crate) fn count(&self) -> usize {
        self.cursors.read().count
    }
}

/// Cursors by the name or the id that tells them apart.
pub(super) type Positions = Vec<(Arc<str>, Arc<StoredCursor>)>;

impl Cursors {
    fn remove(&mut self, name: &str, product_id: &str) {
        let Some(products) = self.by_name.get_mut(name) else { return };
        if products.remove(product_id).is_none() {
            return;
        }
        self.count -= 1;
        if products.is_empty() {
            self.by_name.remove(name);
        }
        if let Some(names) = self.by_product.get_mut(product_id) {
            names.remove(name);
            if names.is_empty() {
                self.by_product.remove(product_id);
            }
        }
    }
}

fn gate(name: &str, product_id: &str) -> usize {
    let mut hasher = DefaultHasher::new();
    (name, product_id).hash(&mut hasher);
    (hasher.finish() % GATES as u64) as usize
}
