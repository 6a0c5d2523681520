//! Keys: making, listing and ending them.

use std::sync::Arc;

use bytes::Bytes;
use meshlog_proto::v1;
use meshlog_storage::Timestamp;

use super::audit::{Act, Kind};
use super::facts::{self, Facts};
use super::mutation::Mutation;
use super::page::Page;
use super::rights::{KnownKey, permissions_of};
use super::stored::{Key, StoredKey, StoredProtection};
use super::{Catalogue, check_length, domain, invalid, team};
use crate::Caller;
use crate::access::{Permission, Permissions, Resource, Rpc};
use crate::caller::Authority;
use crate::error::{Error, Reason, Result};
use crate::identity::{self, Limits, Proof, Session};
use crate::time::storage_time;

/// Most keys, those that have ended included: the oldest of those make room.
const MAX_KEYS: usize = 10_000;
/// Most products and domains that a key can be limited to.
const MAX_PLACES: usize = 100;
const MAX_DESCRIPTION_BYTES: usize = 1 << 10;

const ADMIN: Permissions = Permissions::of(&[Permission::Admin]);

impl Catalogue {
    /// Makes a key. The answer alone holds its secret. From the first key on, which must be an
    /// administrator's, every call says who makes it.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `STATE_INVALID` for a first key that is not an administrator's,
    /// `TEAM_NOT_FOUND`, `PRODUCT_NOT_FOUND`, `DOMAIN_NOT_FOUND`, `INVALID_ARGUMENT`, `LIMIT_REACHED`.
    pub async fn create_key(
        &self,
        caller: &Caller,
        request: v1::CreateKeyRequest,
    ) -> Result<v1::CreateKeyResponse> {
        let asked = request.key.ok_or_else(|| invalid("key", "it is missing"))?;
        let mut mutation = self.begin().await;
        let key = self.checked_key(caller, asked, &mutation)?;
        if request.validate_only {
            return Ok(v1::CreateKeyResponse { key: Some(key), secret: String::new() });
        }
        self.make_room_for_key(&mut mutation)?;
        let (id, secret, hash) = identity::fresh_key()?;
        let key = v1::ApiKey {
            id,
            create_time: Some(mutation.now()),
            created_by: caller.principal(),
            ..key
        };
        let hash = Bytes::copy_from_slice(&hash);
        mutation.set(Key::ApiKey(&key.id), &StoredKey { key: Some(key.clone()), hash });
        let is_first = !self.inner.view.read().rights.had_key;
        if is_first {
            let since = Some(mutation.now());
            mutation.set(Key::Protection, &StoredProtection { since });
        }
        let act = Act::new("create_key", Kind::ApiKey, &key.id)
            .changes(facts::differences(&Facts::new(), &facts::of_api_key(&key)));
        mutation.commit(caller, act).await?;
        if is_first {
            tracing::warn!("the first key exists: from now on every call must say who makes it");
        }
        Ok(v1::CreateKeyResponse { key: Some(key), secret: secret.reveal().to_owned() })
    }

    fn checked_key(
        &self,
        caller: &Caller,
        asked: v1::ApiKey,
        mutation: &Mutation<'_>,
    ) -> Result<v1::ApiKey> {
        let about = Resource::Team(&asked.team);
        match asked.admin {
            true => self.allow_with(caller, Rpc::CreateKey, Resource::Broker, ADMIN)?,
            false => self.allow(caller, Rpc::CreateKey, about)?,
        }
        check_length("key.application", &asked.application, Caller::MAX_APPLICATION_BYTES)?;
        check_length("key.description", &asked.description, MAX_DESCRIPTION_BYTES)?;
        if asked.application.chars().any(char::is_control) {
            return Err(invalid("key.application", "it is one line of text"));
        }
        let is_limited = !(asked.permissions.is_empty()
            && asked.products.is_empty()
            && asked.domains.is_empty());
        if asked.admin && is_limited {
            let what = "an administrator's key has no limits; leave permissions, products and \
                        domains out";
            return Err(invalid("key.admin", what));
        }
        if permissions_of(asked.permissions()).has_any(ADMIN) {
            let what = "ADMIN is given with `admin`, not as a permission";
            return Err(invalid("key.permissions", what));
        }
        if asked.products.len() + asked.domains.len() > MAX_PLACES {
            let what = format!("at most {MAX_PLACES} products and domains");
            return Err(invalid("key.products", what));
        }
        let now = storage_time(&mutation.now());
        if asked.expire_time.is_some_and(|ends| storage_time(&ends) <= now) {
            return Err(invalid("key.expire_time", "it is in the past"));
        }
        let mut product_ids = Vec::new();
        for name in &asked.products {
            let product = self.resolve_for(caller, Rpc::GetProduct, name, "")?;
            product.refuse_attached()?;
            product_ids.push(product.id.to_string());
        }
        {
            let view = self.inner.view.read();
            if !(asked.admin && asked.team.is_empty()) {
                team::check_owner(&view, &asked.team)?;
            }
            for name in &asked.domains {
                view.domain(name).ok_or_else(|| domain::not_found(name, None))?;
            }
            if !view.rights.is_protected && !asked.admin {
                return Err(Error::new(
                    Reason::StateInvalid,
                    "the first key must be an administrator's, because from then on nobody else \
                     can make keys: `meshlog init`, or `meshlog key create --admin`",
                ));
            }
        }
        let key = v1::ApiKey {
            team: asked.team,
            application: asked.application,
            description: asked.description,
            admin: asked.admin,
            permissions: asked.permissions,
            products: asked.products,
            domains: asked.domains,
            expire_time: asked.expire_time,
            product_ids,
            ..Default::default()
        };
        check_not_beyond(caller, &key)?;
        Ok(key)
    }

    /// Forgets the oldest of the keys that have ended, if there are as many as there may be.
    fn make_room_for_key(&self, mutation: &mut Mutation<'_>) -> Result<()> {
        let now = self.inner.storage.now();
        let ended = {
            let view = self.inner.view.read();
            if view.rights.keys.len() < MAX_KEYS {
                return Ok(());
            }
            // Ids are in the order of time.
            let mut ended = view.rights.keys.iter().filter(|(_, key)| !key.is_live(now));
            ended.next().map(|(id, _)| Arc::clone(id))
        };
        let ended = ended.ok_or_else(|| {
            Error::new(
                Reason::LimitReached,
                format!("there are {MAX_KEYS} keys, the most there can be; revoke some first"),
            )
            .with("limit", MAX_KEYS)
        })?;
        mutation.remove(Key::ApiKey(&ended));
        Ok(())
    }

    /// Keys by id, oldest first: all for an administrator or a steward, else those of the caller's
    /// team.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a page token of another list.
    pub fn list_keys(
        &self,
        caller: &Caller,
        request: v1::ListKeysRequest,
    ) -> Result<v1::ListKeysResponse> {
        let list = format!("keys {} {}", request.team, request.include_ended);
        let page = Page::asked(&list, request.page_size, &request.page_token)?;
        let now = self.inner.storage.now();
        let view = self.inner.view.read();
        let governs = Permissions::of(&[Permission::Govern, Permission::Admin]);
        let sees_all = view.holds(caller, Resource::Broker, now).has_any(governs);
        let of_own = caller.team.as_deref().filter(|team| {
            self.inner.allows_in(&view, caller, Rpc::CreateKey, Resource::Team(team))
        });
        let shown = view.rights.keys.iter().filter(|(id, key)| {
            let key = &key.key;
            ***id > *page.after
                && (sees_all || Some(&*key.team) == of_own || caller.has_key(id))
                && (request.team.is_empty() || key.team == request.team)
        });
        let shown = shown.filter(|(_, key)| request.include_ended || key.is_live(now));
        let mut keys: Vec<v1::ApiKey> =
            shown.map(|(_, key)| key.key.clone()).take(page.size + 1).collect();
        drop(view);
        let next_page_token = page.cut(&mut keys, |key| &key.id);
        Ok(v1::ListKeysResponse { keys, next_page_token })
    }

    /// Ends a key, within a second also on streams that are open.
    ///
    /// # Errors
    /// `KEY_NOT_FOUND`, `PERMISSION_DENIED`.
    pub async fn revoke_key(
        &self,
        caller: &Caller,
        request: v1::RevokeKeyRequest,
    ) -> Result<v1::RevokeKeyResponse> {
        let mut mutation = self.begin().await;
        let known = self.inner.view.read().rights.keys.get(&*request.id).cloned();
        if !caller.has_key(&request.id) {
            let is_admin = known.as_ref().is_none_or(|known| known.key.admin);
            match (&known, is_admin) {
                (Some(known), false) => {
                    self.allow(caller, Rpc::RevokeKey, Resource::Team(&known.key.team))?;
                }
                // One that does not exist is for administrators to know.
                _ => self.allow_with(caller, Rpc::RevokeKey, Resource::Broker, ADMIN)?,
            }
        }
        let known = known.ok_or_else(|| not_found(&request.id))?;
        if known.is_revoked() {
            return Ok(v1::RevokeKeyResponse { key: Some(known.key.clone()) });
        }
        let key = mutation.revoke(caller, &known);
        let act = Act::new("revoke_key", Kind::ApiKey, &key.id)
            .changes(facts::differences(&facts::of_api_key(&known.key), &facts::of_api_key(&key)));
        mutation.commit(caller, act).await?;
        Ok(v1::RevokeKeyResponse { key: Some(key) })
    }

    /// Who has a key.
    ///
    /// # Errors
    /// `CREDENTIAL_MALFORMED`; `KEY_UNKNOWN`, also for a wrong secret; `KEY_REVOKED`, `KEY_EXPIRED`.
    pub(crate) fn session_of_key(&self, text: &str) -> Result<Session> {
        let id = identity::key_id(text)?;
        let hash = identity::key_hash(text);
        let known = self.inner.view.read().rights.keys.get(id).cloned();
        let known = known.filter(|known| {
            identity::KeyHash::try_from(&*known.stored.hash)
                .is_ok_and(|stored| identity::is_same_hash(&stored, &hash))
        });
        let known = known.ok_or_else(|| {
            Error::new(
                Reason::KeyUnknown,
                "there is no such key on this broker; ask whoever gave it to you for another one",
            )
        })?;
        known.check_live(self.inner.storage.now())?;
        Ok(session_of(&known))
    }

    /// Whether whoever called may still call.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check_caller(&self, caller: &Caller) -> Result<()> {
        let session = match &caller.authority {
            Authority::Trusted => return Ok(()),
            Authority::Open if !self.is_protected() => return Ok(()),
            Authority::Open => return Err(identity::missing()),
            Authority::Proven(session) => session,
        };
        let now = self.inner.storage.now();
        if let Proof::Key(id) = &session.proof {
            let known = self.inner.view.read().rights.keys.get(id).cloned();
            let known = known.ok_or_else(|| revoked(id))?;
            return known.check_live(now);
        }
        if session.ends.is_some_and(|ends| now >= ends) {
            return Err(identity::token_expired());
        }
        if matches!(&session.proof, Proof::Token(taken_back) if taken_back.is_cancelled()) {
            return Err(identity::token_key_gone());
        }
        match self.inner.view.read().is_live(session, now) {
            true => Ok(()),
            false => {
                Err(identity::unmapped(&format!("the team `{}` does not exist", session.team)))
            }
        }
    }
}

impl Mutation<'_> {
    /// Ends a key.
    pub(super) fn revoke(&mut self, caller: &Caller, known: &KnownKey) -> v1::ApiKey {
        let key = v1::ApiKey {
            revoke_time: Some(self.now()),
            revoked_by: caller.principal(),
            ..known.key.clone()
        };
        let hash = known.stored.hash.clone();
        self.set(Key::ApiKey(&key.id), &StoredKey { key: Some(key.clone()), hash });
        key
    }
}

impl KnownKey {
    fn check_live(&self, now: Timestamp) -> Result<()> {
        if self.is_revoked() {
            return Err(revoked(&self.key.id));
        }
        match self.is_live(now) {
            true => Ok(()),
            false => Err(Error::new(
                Reason::KeyExpired,
                format!(
                    "the key {} expired; make a new one with `meshlog key create`, or ask for one",
                    self.key.id
                ),
            )
            .with("key", &self.key.id)),
        }
    }
}

fn session_of(known: &KnownKey) -> Session {
    let key = &known.key;
    let principal = format!("key:{}", key.id);
    let mut session =
        Session::new(principal, Proof::Key(Arc::from(&*key.id)), Arc::from(&*key.team));
    session.application = (!key.application.is_empty()).then(|| Arc::from(&*key.application));
    session.is_admin = key.admin;
    session.ends = known.ends;
    if !key.permissions.is_empty() {
        session.limits.permissions = permissions_of(key.permissions());
    }
    let shared = |names: &[String]| names.iter().map(|name| Arc::from(&**name)).collect();
    session.limits.products = shared(&key.product_ids);
    session.limits.domains = shared(&key.domains);
    session
}

/// Nobody makes a key that can do more, or lasts longer, than what made it.
fn check_not_beyond(caller: &Caller, key: &v1::ApiKey) -> Result<()> {
    let Authority::Proven(maker) = &caller.authority else { return Ok(()) };
    if maker.limits.is_local() {
        let what = "your key is limited to some products or domains, and cannot make others";
        return Err(invalid("key", what));
    }
    let asked = match key.permissions.is_empty() {
        true => Limits::default().permissions,
        false => permissions_of(key.permissions()),
    };
    if !maker.limits.permissions.has_all(asked) {
        let what = format!(
            "your key is limited to {}; the new one can have no more",
            maker.limits.permissions
        );
        return Err(invalid("key.permissions", what));
    }
    let ends = key.expire_time.as_ref().map(storage_time);
    // Tokens last for minutes. Who has one asks for a key that outlasts it.
    let limit = maker.ends.filter(|_| matches!(maker.proof, Proof::Key(_)));
    let lasts = limit.is_some_and(|limit| ends.is_none_or(|ends| ends > limit));
    match lasts {
        true => Err(invalid("key.expire_time", "it must not be later than that of your own key")),
        false => Ok(()),
    }
}

fn revoked(id: &str) -> Error {
    Error::new(
        Reason::KeyRevoked,
        format!("the key {id} was revoked; ask whoever gave it to you for another one"),
    )
    .with("key", id)
}

fn not_found(id: &str) -> Error {
    let shown = super::name::shown(id);
    Error::new(
        Reason::KeyNotFound,
        format!("there is no key `{shown}`; `meshlog key list` shows those there are"),
    )
    .with("key", shown)
}
