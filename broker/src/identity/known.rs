//! Who was known before.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;

use super::key::KeyHash;
use super::session::Session;

/// Parts with a lock of their own, so that calls rarely meet at one.
const SHARDS: usize = 16;
/// Callers remembered in each part. When it is full it is emptied: whoever calls again is looked at
/// again.
const SHARD_MAX: usize = 1_024;

/// Sessions by the hash of what proved them: a call finds its own without a look at the catalogue.
pub(super) struct Known([RwLock<HashMap<KeyHash, Arc<Session>>>; SHARDS]);

impl Default for Known {
    fn default() -> Self {
        Self(std::array::from_fn(|_| RwLock::default()))
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Known")
    }
}

impl Known {
    pub(super) fn find(&self, hash: &KeyHash) -> Option<Arc<Session>> {
        self.shard(hash).read().get(hash).cloned()
    }

    pub(super) fn put(&self, hash: KeyHash, session: &Arc<Session>) {
        let mut shard = self.shard(&hash).write();
        if shard.len() >= SHARD_MAX {
            shard.clear();
        }
        shard.insert(hash, Arc::clone(session));
    }

    pub(super) fn forget(&self, hash: &KeyHash) {
        self.shard(hash).write().remove(hash);
    }

    fn shard(&self, hash: &KeyHash) -> &RwLock<HashMap<KeyHash, Arc<Session>>> {
        &self.0[usize::from(hash[0]) % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Proof;

    #[test]
    fn what_is_remembered_is_bounded() {
        let known = Known::default();
        let session = Arc::new(Session::new("certificate:x", Proof::Certificate, Arc::from("ops")));
        for number in 0..u32::try_from(SHARD_MAX).unwrap() + 10 {
            let mut hash = [0; 32];
            hash[1..5].copy_from_slice(&number.to_le_bytes());
            known.put(hash, &session);
            assert!(known.find(&hash).is_some());
        }
        assert!(known.0[0].read().len() <= SHARD_MAX);
        let last = known.0[0].read().keys().next().copied().unwrap();
        known.forget(&last);
        assert!(known.find(&last).is_none());
    }
}
