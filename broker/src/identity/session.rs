//! Somebody who proved who it is.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use meshlog_storage::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::access::Permissions;

/// Decisions remembered, a power of two: 2 KiB for each caller.
const DECISIONS: usize = 256;

/// What somebody proved, and what was decided about it so far. All calls of one program made with one
/// proof share one.
pub(crate) struct Session {
    /// `key:<id>`, `token:<subject>` or `certificate:<name>`.
    pub(crate) principal: Arc<str>,
    /// How it proved it.
    pub(crate) proof: Proof,
    /// The team it works for.
    pub(crate) team: Arc<str>,
    /// The program; `None`: the one that the call names.
    pub(crate) application: Option<Arc<str>>,
    /// Whether it may do everything.
    pub(crate) is_admin: bool,
    /// Permissions that it has on everything, beside those of its team.
    pub(crate) role: Permissions,
    /// What it can be used for at most.
    pub(crate) limits: Limits,
    /// When the proof ends by itself.
    pub(crate) ends: Option<Timestamp>,
    decisions: Decisions,
    /// The epoch in which it was last found to be valid.
    checked: AtomicU64,
}

/// How a caller proved who it is.
#[derive(Clone, Debug)]
pub(crate) enum Proof {
    /// With the key of this id.
    Key(Arc<str>),
    /// With the certificate of its connection.
    Certificate,
    /// With a token. Cancelled when its issuer takes back the key that signed it.
    #[cfg_attr(not(feature = "edge"), expect(dead_code, reason = "only the edge reads key sets"))]
    Token(CancellationToken),
}

/// What a proof can be used for at most.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Of these.
    pub(crate) permissions: Permissions,
    /// Ids of products; with `domains`, empty: on all.
    pub(crate) products: Vec<Arc<str>>,
    /// Names of domains.
    pub(crate) domains: Vec<Arc<str>>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { permissions: Permissions::ALL, products: Vec::new(), domains: Vec::new() }
    }
}

impl Limits {
    /// Whether it is for some products or domains only.
    pub(crate) fn is_local(&self) -> bool {
        !(self.products.is_empty() && self.domains.is_empty())
    }
}

impl Session {
    /// Somebody of a team.
    pub(crate) fn new(principal: impl Into<Arc<str>>, proof: Proof, team: Arc<str>) -> Self {
        Self {
            principal: principal.into(),
            proof,
            team,
            application: None,
            is_admin: false,
            role: Permissions::NONE,
            limits: Limits::default(),
            ends: None,
            decisions: Decisions::default(),
            checked: AtomicU64::new(0),
        }
    }

    /// The same, about which nothing was decided yet.
    pub(crate) fn undecided(&self) -> Self {
        Self {
            principal: Arc::clone(&self.principal),
            proof: self.proof.clone(),
            team: Arc::clone(&self.team),
            application: self.application.clone(),
            is_admin: self.is_admin,
            role: self.role,
            limits: self.limits.clone(),
            ends: self.ends,
            decisions: Decisions::default(),
            checked: AtomicU64::new(0),
        }
    }

    /// Whether it was found to be valid in this epoch.
    pub(crate) fn was_checked_in(&self, epoch: u64) -> bool {
        self.checked.load(Ordering::Relaxed) == epoch
    }

    /// It was found to be valid.
    pub(crate) fn checked_in(&self, epoch: u64) {
        self.checked.store(epoch, Ordering::Relaxed);
    }

    /// What was decided about a product in this epoch.
    pub(crate) fn decided(&self, product: u64, epoch: u64) -> Option<Permissions> {
        self.decisions.find(product, epoch)
    }

    /// Remembers a decision.
    pub(crate) fn decide(&self, product: u64, epoch: u64, held: Permissions) {
        self.decisions.put(product, epoch, held);
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("principal", &self.principal)
            .field("team", &self.team)
            .finish_non_exhaustive()
    }
}

/// Permissions by product, each in one word, so that nothing is locked:
///
/// ```text
/// epoch (32) | number of the product without its last 8 bits (24) | 1 | permissions (7)
/// ```
///
/// The last bits of the number are the place. What does not fit (the product 2^32, the epoch 2^32) is
/// not remembered, and decided anew each time.
struct Decisions([AtomicU64; DECISIONS]);

impl Default for Decisions {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; DECISIONS])
    }
}

const FILLED: u64 = 1 << 7;

impl Decisions {
    fn word(product: u64, epoch: u64) -> Option<u64> {
        let epoch = u32::try_from(epoch).ok()?;
        let product = u32::try_from(product).ok()? / DECISIONS as u32;
        Some(u64::from(epoch) << 32 | u64::from(product) << 8 | FILLED)
    }

    fn place(&self, product: u64) -> &AtomicU64 {
        &self.0[product as usize % DECISIONS]
    }

    fn find(&self, product: u64, epoch: u64) -> Option<Permissions> {
        let wanted = Self::word(product, epoch)?;
        let found = self.place(product).load(Ordering::Relaxed);
        (found & !(FILLED - 1) == wanted)
            .then(|| Permissions::from_bits((found & (FILLED - 1)) as u8))
    }

    fn put(&self, product: u64, epoch: u64, held: Permissions) {
        if let Some(word) = Self::word(product, epoch) {
            self.place(product).store(word | u64::from(held.bits()), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::access::Role;

    #[test]
    fn a_decision_is_for_its_product_and_its_epoch_alone() {
        let decisions = Decisions::default();
        let held = Role::Owner.permissions();
        decisions.put(7, 3, held);
        assert_eq!(decisions.find(7, 3), Some(held));
        assert_eq!(decisions.find(7, 4), None, "another epoch");
        assert_eq!(decisions.find(7 + 256, 3), None, "another product of the same place");
        assert_eq!(decisions.find(7 + (1 << 32), 3), None, "one whose number does not fit");
        assert_eq!(decisions.find(7, 3 + (1 << 32)), None, "an epoch that does not fit");
        decisions.put(7, 3, Permissions::NONE);
        assert_eq!(decisions.find(7, 3), Some(Permissions::NONE), "nothing is a decision too");
        assert_eq!(Decisions::default().find(0, 0), None);
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_was_put(
            puts in prop::collection::vec((0_u64..2000, 0_u64..3, 0_u8..128), 1..200)
        ) {
            let decisions = Decisions::default();
            let mut last = std::collections::HashMap::new();
            for (product, epoch, bits) in puts {
                decisions.put(product, epoch, Permissions::from_bits(bits));
                last.insert((product, epoch), bits);
            }
            for ((product, epoch), bits) in last {
                if let Some(held) = decisions.find(product, epoch) {
                    prop_assert_eq!(held.bits(), bits);
                }
            }
        }
    }
}
