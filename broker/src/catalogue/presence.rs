//! Keeps a product from being deleted while something that hangs on it is on its way to the journal.
//!
//! Whoever writes a cursor or a count of a product holds its presence, shared, until the entry is
//! durable; whoever deletes the product waits for them and holds it alone until the deletion is. So no
//! key of a product can enter the journal behind the entry that deletes the product with its keys.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// Products share this many locks: a deletion may hold up others for the time of a sync.
const SHARDS: usize = 64;

#[derive(Debug)]
pub(super) struct Presence(Vec<Arc<RwLock<()>>>);

/// The product stays as long as this is held.
pub(crate) type Present = OwnedRwLockReadGuard<()>;

/// Nobody writes to the product as long as this is held.
pub(super) type Leaving = OwnedRwLockWriteGuard<()>;

impl Default for Presence {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Arc::default()).collect())
    }
}

impl Presence {
    pub(super) async fn keep(&self, product_id: &str) -> Present {
        self.shard(product_id).read_owned().await
    }

    pub(super) async fn leave(&self, product_id: &str) -> Leaving {
        self.shard(product_id).write_owned().await
    }

    fn shard(&self, product_id: &str) -> Arc<RwLock<()>> {
        let mut hasher = DefaultHasher::new();
        product_id.hash(&mut hasher);
        Arc::clone(&self.0[(hasher.finish() % SHARDS as u64) as usize])
    }
}
