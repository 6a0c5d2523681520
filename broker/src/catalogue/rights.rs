//! What the catalogue says about who may do what: who owns what, and the grants.
//!
//! ```text
//! owner of the product or of its domain ─┐
//! grants: product, domain, tag, all ─────┼─► permissions ─► within the limits of the key ─► held
//! role of the key (administrator) ───────┘                                              │
//!                                                       less what policies forbid ◄────┘
//! ```

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use meshlog_proto::v1::{self, access_scope::What};
use meshlog_storage::Timestamp;

use super::Catalogue;
use super::name::SANDBOX;
use super::product::ProductHandle;
use super::stored::StoredKey;
use super::view::View;
use super::{in_domain, is_internal};
use crate::access::{Permission, Permissions, Resource, Role};
use crate::caller::{Authority, Caller};
use crate::identity::{Proof, Session};
use crate::time::storage_time;

/// Who has a grant that every team has.
pub(super) const EVERY_TEAM: &str = "*";

/// A key, ready to be compared.
pub(super) struct KnownKey {
    pub(super) stored: StoredKey,
    pub(super) key: v1::ApiKey,
    pub(super) ends: Option<Timestamp>,
}

impl KnownKey {
    pub(super) fn new(stored: StoredKey) -> Self {
        let key = stored.key.clone().unwrap_or_default();
        Self { ends: key.expire_time.as_ref().map(storage_time), key, stored }
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.key.revoke_time.is_some()
    }

    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        !self.is_revoked() && self.ends.is_none_or(|ends| now < ends)
    }
}

/// A grant, ready to be decided by.
pub(super) struct KnownGrant {
    pub(super) grant: v1::Grant,
    permissions: Permissions,
    ends: Option<Timestamp>,
}

impl KnownGrant {
    pub(super) fn new(grant: v1::Grant) -> Self {
        Self {
            permissions: permissions_of(grant.permissions()),
            ends: grant.expire_time.as_ref().map(storage_time),
            grant,
        }
    }

    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        self.ends.is_none_or(|ends| now < ends)
    }

    fn of(&self, application: &str, now: Timestamp) -> Permissions {
        let is_for = self.grant.application.is_empty() || self.grant.application == application;
        match is_for && self.is_live(now) {
            true => self.permissions,
            false => Permissions::NONE,
        }
    }

    pub(super) fn what(&self) -> Option<&What> {
        self.grant.scope.as_ref()?.what.as_ref()
    }
}

/// The permissions of a message. What this version does not know allows nothing.
pub(super) fn permissions_of(named: impl Iterator<Item = v1::Permission>) -> Permissions {
    named.fold(Permissions::NONE, |all, named| {
        let one: &[Permission] = match named {
            v1::Permission::Unspecified => &[],
            v1::Permission::Discover => &[Permission::Discover],
            v1::Permission::Consume => &[Permission::Consume],
            v1::Permission::Produce => &[Permission::Produce],
            v1::Permission::Schema => &[Permission::Schema],
            v1::Permission::Manage => &[Permission::Manage],
            v1::Permission::Govern => &[Permission::Govern],
            v1::Permission::Admin => &Permission::ALL,
        };
        all.with(Permissions::of(one))
    })
}

/// By which names grants find the tags of a product, or of a domain: `key`, and `key=value`.
pub(super) fn tag_names(tags: &[v1::Tag]) -> impl Iterator<Item = Box<str>> + '_ {
    let whole = tags.iter().filter(|tag| tag.field_path.is_empty());
    whole.flat_map(|tag| {
        let valued = tag.value.as_ref().map(|value| format!("{}={value}", tag.key).into());
        [Some(tag.key.as_str().into()), valued].into_iter().flatten()
    })
}

/// As messages have them.
pub(super) fn named(permissions: Permissions) -> Vec<i32> {
    let named = permissions.iter().map(|permission| match permission {
        Permission::Discover => v1::Permission::Discover,
        Permission::Consume => v1::Permission::Consume,
        Permission::Produce => v1::Permission::Produce,
        Permission::Schema => v1::Permission::Schema,
        Permission::Manage => v1::Permission::Manage,
        Permission::Govern => v1::Permission::Govern,
        Permission::Admin => v1::Permission::Admin,
    });
    named.map(i32::from).collect()
}

type Grants = Vec<Arc<KnownGrant>>;

/// The grants of one team, by what they are on.
#[derive(Default)]
struct OfTeam {
    everything: Grants,
    /// By product id.
    products: HashMap<Box<str>, Grants>,
    domains: HashMap<Box<str>, Grants>,
    /// By `key` or `key=value`.
    tags: HashMap<Box<str>, Grants>,
}

impl OfTeam {
    fn place(&mut self, scope: &v1::AccessScope) -> Option<&mut Grants> {
        Some(match scope.what.as_ref()? {
            What::Everything(_) => &mut self.everything,
            What::Product(_) => self.products.entry((&*scope.product_id).into()).or_default(),
            What::Domain(name) => self.domains.entry((&**name).into()).or_default(),
            What::Tag(tag) => self.tags.entry((&**tag).into()).or_default(),
        })
    }
}

/// Keys, grants and requests for access.
#[derive(Default)]
pub(super) struct Rights {
    /// Whether calls must say who makes them: there was a key once, or the settings have an issuer of
    /// tokens.
    pub(super) is_protected: bool,
    /// Whether there was a key. Once true, for ever.
    pub(super) had_key: bool,
    pub(super) keys: BTreeMap<Arc<str>, Arc<KnownKey>>,
    pub(super) grants: BTreeMap<Arc<str>, Arc<KnownGrant>>,
    pub(super) requests: BTreeMap<Arc<str>, Arc<v1::AccessRequest>>,
    by_team: HashMap<Box<str>, OfTeam>,
    /// What takes away.
    pub(super) policies: super::policies::Layer,
    /// Rises with every change of who may do what.
    pub(super) changes: u64,
}

impl Rights {
    pub(super) fn put_key(&mut self, id: Arc<str>, key: Option<Arc<KnownKey>>) {
        match key {
            Some(key) => drop(self.keys.insert(id, key)),
            None => drop(self.keys.remove(&id)),
        }
        self.changes += 1;
    }

    pub(super) fn put_grant(&mut self, id: &Arc<str>, grant: Option<Arc<KnownGrant>>) {
        if let Some(before) = self.grants.remove(id)
            && let Some(of_team) = self.by_team.get_mut(before.grant.team.as_str())
            && let Some(scope) = &before.grant.scope
            && let Some(grants) = of_team.place(scope)
        {
            grants.retain(|grant| grant.grant.id != before.grant.id);
        }
        if let Some(grant) = grant {
            let of_team = self.by_team.entry((&*grant.grant.team).into()).or_default();
            if let Some(grants) = grant.grant.scope.as_ref().and_then(|scope| of_team.place(scope))
            {
                grants.push(Arc::clone(&grant));
            }
            self.grants.insert(Arc::clone(id), grant);
        }
        self.changes += 1;
    }

    pub(super) fn put_request(&mut self, id: Arc<str>, request: Option<Arc<v1::AccessRequest>>) {
        match request {
            Some(request) => drop(self.requests.insert(id, request)),
            None => drop(self.requests.remove(&id)),
        }
    }

    /// When the next key or grant ends by itself.
    pub(super) fn next_end(&self, now: Timestamp) -> Option<Timestamp> {
        let keys = self.keys.values().filter(|key| !key.is_revoked()).filter_map(|key| key.ends);
        let grants = self.grants.values().filter_map(|grant| grant.ends);
        keys.chain(grants).filter(|ends| *ends > now).min()
    }

    /// The grants of a team and of every team, each with what it gives to an application.
    fn of<'a>(
        &'a self,
        who: &Who<'a>,
        pick: impl Fn(&'a OfTeam) -> Option<&'a Grants>,
    ) -> impl Iterator<Item = (&'a KnownGrant, Permissions)> {
        let Who { team, application, now } = *who;
        let teams = [team, EVERY_TEAM].into_iter().filter(|team| !team.is_empty());
        let grants = teams.filter_map(|team| self.by_team.get(team)).filter_map(pick).flatten();
        grants
            .map(move |grant| (&**grant, grant.of(application, now)))
            .filter(|(_, permissions)| !permissions.is_empty())
    }
}

/// For whom it is decided.
#[derive(Clone, Copy)]
pub(super) struct Who<'a> {
    /// Empty: none.
    pub(super) team: &'a str,
    pub(super) application: &'a str,
    pub(super) now: Timestamp,
}

/// One reason for having permissions.
pub(super) struct Because<'a> {
    pub(super) permissions: Permissions,
    pub(super) why: Why<'a>,
}

/// Where permissions come from.
pub(super) enum Why<'a> {
    /// Everybody who says who it is may see it.
    Visible,
    OwnsProduct,
    OwnsDomain,
    OwnsIt,
    Offered,
    Sandbox,
    Granted(&'a KnownGrant),
}

impl Catalogue {
    /// What a caller may do with something.
    #[must_use]
    pub fn holds(&self, caller: &Caller, resource: Resource<'_>) -> Permissions {
        let session = match &caller.authority {
            Authority::Trusted => return Permissions::ALL,
            Authority::Open if !self.inner.epoch.is_protected() => return Permissions::ALL,
            Authority::Open => return Permissions::NONE,
            Authority::Proven(session) => session,
        };
        let Resource::Product(product) = resource else {
            return self.decide(caller, resource);
        };
        let epoch = self.epoch();
        match session.decided(product.number, epoch) {
            // The audit log and others of the broker share a number.
            Some(held) if product.number != 0 => held,
            _ => {
                let held = self.decide(caller, resource);
                session.decide(product.number, epoch, held);
                held
            }
        }
    }

    fn decide(&self, caller: &Caller, resource: Resource<'_>) -> Permissions {
        self.inner.view.read().holds(caller, resource, self.inner.storage.now())
    }

    /// The epoch of decisions that are made now.
    pub(crate) fn epoch(&self) -> u64 {
        loop {
            let now = self.inner.storage.now();
            match self.inner.epoch.at(now) {
                Some(epoch) => return epoch,
                None => self.decide_anew(),
            }
        }
    }

    /// From now on every call must say who makes it, also before there is a key.
    pub(crate) fn protect(&self) {
        self.inner.view.write().rights.is_protected = true;
        self.decide_anew();
    }

    /// Ends the epoch: what was decided about callers and products is decided again.
    pub(crate) fn decide_anew(&self) {
        let now = self.inner.storage.now();
        let view = self.inner.view.read();
        self.inner.epoch.raise(view.rights.is_protected, view.rights.next_end(now));
    }
}

impl View {
    /// Whether a caller need not be asked who it is.
    pub(super) fn trusts(&self, caller: &Caller) -> bool {
        match caller.authority {
            Authority::Trusted => true,
            Authority::Open => !self.rights.is_protected,
            Authority::Proven(_) => false,
        }
    }

    /// What a caller may do with something.
    pub(super) fn holds(
        &self,
        caller: &Caller,
        resource: Resource<'_>,
        now: Timestamp,
    ) -> Permissions {
        let held = self.held_by_table(caller, resource, now);
        self.left_by_policies(caller, resource, held)
    }

    /// What a caller may do with something, before policies are asked.
    pub(super) fn held_by_table(
        &self,
        caller: &Caller,
        resource: Resource<'_>,
        now: Timestamp,
    ) -> Permissions {
        let session = match &caller.authority {
            Authority::Proven(session) if self.is_live(session, now) => session,
            Authority::Proven(_) => return Permissions::NONE,
            _ if self.trusts(caller) => return Permissions::ALL,
            _ => return Permissions::NONE,
        };
        if session.is_admin {
            return Permissions::ALL;
        }
        let who = Who { team: &session.team, application: &caller.application, now };
        let mut held = session.role.with(self.held_by(&who, resource, |_| {}));
        if held.has_any(Permissions::of(&[Permission::Admin])) {
            held = Permissions::ALL;
        }
        self.limited(session, resource, held)
    }

    /// Whether a caller may know that a product exists. Policies have no say in it.
    pub(super) fn sees(&self, caller: &Caller, product: &ProductHandle, now: Timestamp) -> bool {
        !product.is_restricted() && self.is_known(caller, now)
            || !self.held_by_table(caller, Resource::Product(product), now).is_empty()
    }

    fn is_known(&self, caller: &Caller, now: Timestamp) -> bool {
        match &caller.authority {
            Authority::Proven(session) => self.is_live(session, now),
            _ => self.trusts(caller),
        }
    }

    /// Ids of the products that a caller may not know of.
    pub(super) fn hidden_from(&self, caller: &Caller, now: Timestamp) -> Vec<Arc<str>> {
        if self.trusts(caller) {
            return Vec::new();
        }
        let handles = self.restricted.iter().filter_map(|id| self.product_of(id));
        let hidden = handles.filter(|handle| !self.sees(caller, handle, now));
        hidden.map(|handle| Arc::clone(&handle.id)).collect()
    }

    /// Whether a proof is still one.
    pub(super) fn is_live(&self, session: &Session, now: Timestamp) -> bool {
        let is_over = session.ends.is_some_and(|ends| now >= ends);
        let has_team = session.team.is_empty() || self.teams.contains_key(&session.team);
        let is_valid = match &session.proof {
            Proof::Key(id) => self.rights.keys.get(id).is_some_and(|key| key.is_live(now)),
            Proof::Certificate => true,
            Proof::Token(taken_back) => !taken_back.is_cancelled(),
        };
        !is_over && has_team && is_valid
    }

    /// What a team may do with something, and `tell` each reason.
    pub(super) fn held_by<'a>(
        &'a self,
        who: &Who<'a>,
        resource: Resource<'a>,
        mut tell: impl FnMut(Because<'a>),
    ) -> Permissions {
        let mut held = Permissions::NONE;
        let mut add = |permissions: Permissions, why: Why<'a>| {
            held = held.with(permissions);
            tell(Because { permissions, why });
        };
        let discover = Permissions::of(&[Permission::Discover]);
        let owner = Role::Owner.permissions();
        let is_member = |team: &str| !who.team.is_empty() && who.team == team;
        let internal = matches!(resource, Resource::Product(product) if is_internal(&product.name));
        for (grant, permissions) in self.rights.of(who, |team| Some(&team.everything)) {
            // The broker's own products are for those who govern.
            let governs = Permissions::of(&[Permission::Govern, Permission::Admin]);
            match internal {
                true if permissions.has_any(governs) => {
                    add(Role::Consumer.permissions(), Why::Granted(grant));
                }
                true => {}
                false => add(permissions, Why::Granted(grant)),
            }
        }
        match resource {
            Resource::Broker => {}
            Resource::Product(_) if internal => {}
            Resource::Product(product) => {
                if !product.is_restricted() {
                    add(discover, Why::Visible);
                }
                if is_member(product.owner()) {
                    add(owner, Why::OwnsProduct);
                } else if product.names.teams.iter().any(|team| is_member(team)) {
                    add(discover, Why::Offered);
                }
                if product.owner() == SANDBOX && !who.team.is_empty() {
                    add(owner, Why::Sandbox);
                }
                let domain = product.name.split('.').next().unwrap_or_default();
                let known = self.domains.get(domain);
                if known.is_some_and(|domain| is_member(&domain.owner)) {
                    add(owner, Why::OwnsDomain);
                }
                let grants = self.rights.of(who, |team| team.products.get(product.access_id()));
                grants.for_each(|(grant, permissions)| add(permissions, Why::Granted(grant)));
                let grants = self.rights.of(who, move |team| team.domains.get(domain));
                grants.for_each(|(grant, permissions)| add(permissions, Why::Granted(grant)));
                let inherited = known.map(|domain| domain.tags.as_slice()).unwrap_or_default();
                let inherited: Vec<Box<str>> = tag_names(inherited).collect();
                for tag in product.tags.iter().chain(&inherited) {
                    let grants = self.rights.of(who, |team| team.tags.get(tag));
                    grants.for_each(|(grant, permissions)| add(permissions, Why::Granted(grant)));
                }
            }
            Resource::Domain(name) => {
                add(discover, Why::Visible);
                if name == SANDBOX && !who.team.is_empty() {
                    add(owner, Why::Sandbox);
                }
                if self.domains.get(name).is_some_and(|domain| is_member(&domain.owner)) {
                    add(owner, Why::OwnsIt);
                }
                let grants = self.rights.of(who, move |team| team.domains.get(name));
                grants.for_each(|(grant, permissions)| add(permissions, Why::Granted(grant)));
            }
            Resource::Team(name) => {
                add(discover, Why::Visible);
                if is_member(name) {
                    add(owner, Why::OwnsIt);
                }
            }
            Resource::TagKey(name) => {
                add(discover, Why::Visible);
                if self.tag_keys.get(name).is_some_and(|key| is_member(&key.owner)) {
                    add(owner, Why::OwnsIt);
                }
            }
        }
        held
    }

    /// What is left of permissions within the limits of a key.
    fn limited(&self, session: &Session, resource: Resource<'_>, held: Permissions) -> Permissions {
        let limits = &session.limits;
        let discover = Permissions::of(&[Permission::Discover]);
        let within = held.within(limits.permissions.with(discover));
        let is_in = match resource {
            _ if !limits.is_local() => true,
            Resource::Product(product) => {
                limits.products.iter().any(|id| **id == *product.access_id())
                    || limits.domains.iter().any(|domain| in_domain(&product.name, domain))
            }
            Resource::Domain(name) => limits.domains.iter().any(|domain| **domain == *name),
            Resource::Broker | Resource::Team(_) | Resource::TagKey(_) => false,
        };
        match is_in {
            true => within,
            false => within.within(discover),
        }
    }
}
