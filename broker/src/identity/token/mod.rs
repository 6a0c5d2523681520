//! Tokens of an issuer (OpenID Connect, JWT): who sent one, and whether it is good.
//!
//! ```text
//! token ─► header: an algorithm that is allowed, the name of a key ─► key set ─► signature
//!                                                                       ▲           │
//!                             edge/issuer.rs: fetched, again and again ─┘           ▼
//!       Session ◄─ team, application, role ◄─ claims: issuer, audience, times ◄─ verified
//! ```
//!
//! - Whatever the token says, only the settings decide how it may be signed: never with `none`, never
//!   with a shared secret, and each key only with the algorithms of its own kind.
//! - An unknown name of a key asks for the key set again, but not more often than the settings say;
//!   how many calls may wait for that is bounded too.
//! - A key that the issuer takes back ends the tokens signed with it, also those remembered and those of
//!   open streams.

mod claims;
mod key_set;
mod provider;

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation};
use meshlog_storage::Timestamp;
use parking_lot::RwLock;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::{Notify, Semaphore, watch};

use super::error::{malformed, token_expired};
use super::session::Session;
use crate::config::TokenConfig;
use crate::error::{Error, Reason, Result};

pub(crate) use key_set::KeySet;
use key_set::PublicKey;

/// Calls that wait for the key set at a time; further ones are told to come back. Each holds no more
/// than its own request.
const WAITING_MAX: usize = 256;

/// How long a call waits for the key set.
const PATIENCE: Duration = Duration::from_secs(6);

/// The most that clocks may differ: with more, a token would not end when it says.
const LEEWAY_MAX: Duration = Duration::from_secs(300);

/// How tokens may be signed.
const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("EdDSA", Algorithm::EdDSA),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
];

/// The issuer whose tokens are taken.
#[derive(Debug)]
pub(crate) struct Tokens {
    config: TokenConfig,
    algorithms: Vec<Algorithm>,
    published: RwLock<Published>,
    /// Wakes whoever fetches the key set.
    asked: Notify,
    /// Rises with every attempt to fetch the key set.
    attempts: watch::Sender<u64>,
    waiting: Semaphore,
}

/// What the issuer publishes, as far as it is known.
#[derive(Debug, Default)]
struct Published {
    keys: KeySet,
    /// When the key set was last read.
    read: Option<Timestamp>,
    /// When that was last tried.
    tried: Option<Instant>,
    /// Why it could not be read the last time.
    problem: Option<String>,
}

/// What a token says about its signature.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood. None is.
    crit: Option<Value>,
}

/// Who a token says has issued it.
#[derive(Deserialize)]
struct Issued {
    iss: Option<Value>,
}

impl Tokens {
    /// As the settings say; none without an issuer.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for settings that cannot be meant.
    pub(crate) fn new(config: &TokenConfig) -> Result<Option<Self>> {
        let wrong = |what: &str| {
            Error::new(Reason::InvalidArgument, format!("`[broker.identity.tokens]`: {what}"))
        };
        if config.issuer.is_empty() {
            return match *config == TokenConfig::default() {
                true => Ok(None),
                false => Err(wrong("set `issuer`, or nothing of it is used")),
            };
        }
        if config.audience.is_empty() {
            let what = "set `audience`: without one, tokens that the issuer made for any other \
                        service would be taken here";
            return Err(wrong(what));
        }
        if Duration::from(config.leeway) > LEEWAY_MAX {
            let what = format!("`leeway` is at most {} s", LEEWAY_MAX.as_secs());
            return Err(wrong(&what));
        }
        if config.team_claim.is_empty() && config.members.is_empty() {
            return Err(wrong("set `team_claim` or `members`: nobody would have a team"));
        }
        if config.keys_file.is_some() && !config.keys_uri.is_empty() {
            return Err(wrong("set `keys_uri` or `keys_file`, not both"));
        }
        let algorithms = algorithms(&config.algorithms).map_err(|what| wrong(&what))?;
        claims::check(config)?;
        provider::install();
        let tokens = Self {
            config: config.clone(),
            algorithms,
            published: RwLock::default(),
            asked: Notify::new(),
            attempts: watch::Sender::new(0),
            waiting: Semaphore::new(WAITING_MAX),
        };
        if let Some(file) = &config.keys_file {
            let text = std::fs::read(file).map_err(|error| error.to_string());
            let keys = text.and_then(|text| KeySet::parse(&text));
            let shown = file.display();
            let keys = keys.map_err(|why| wrong(&format!("`keys_file` {shown}: {why}")))?;
            tokens.published.write().keys = keys;
        }
        Ok(Some(tokens))
    }

    pub(crate) fn config(&self) -> &TokenConfig {
        &self.config
    }

    /// Resolves when a call needs the key set.
    pub(crate) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// The outcome of an attempt to read the key set. Gives whether keys were taken back, so that what
    /// was decided must be decided anew.
    pub(crate) fn learn(&self, outcome: Result<KeySet, String>, now: Timestamp) -> bool {
        let mut published = self.published.write();
        let is_over = match outcome {
            Ok(keys) => {
                let is_smaller = published.keys.replace(keys);
                (published.read, published.problem) = (Some(now), None);
                is_smaller
            }
            Err(problem) => {
                published.problem = Some(problem);
                let keep = Duration::from(self.config.keep_keys).as_nanos();
                let age = |read: Timestamp| u128::from(now.0.saturating_sub(read.0));
                let is_old = published.read.is_some_and(|read| age(read) > keep);
                is_old && published.keys.replace(KeySet::default())
            }
        };
        published.tried = Some(Instant::now());
        drop(published);
        self.attempts.send_modify(|attempts| *attempts += 1);
        is_over
    }

    /// Who has sent a token.
    ///
    /// # Errors
    /// `CREDENTIAL_MALFORMED`, `CREDENTIAL_UNMAPPED`, those that begin with `TOKEN_`, and
    /// `KEY_SET_UNAVAILABLE`.
    pub(crate) async fn session_of(&self, text: &str, now: Timestamp) -> Result<Session> {
        let (header, rest) = text.split_once('.').unwrap_or_default();
        let (payload, signature) = rest.split_once('.').unwrap_or_default();
        if signature.is_empty() || signature.contains('.') {
            let what = "it is no key, which begins with `mlk_`, and no signed token, which has \
                        three parts";
            return Err(malformed(what));
        }
        let header: Header = part(header, "the header of the token")?;
        let algorithm = self.algorithm(&header)?;
        // Tokens of others would only ask for keys that there are not.
        let issued: Issued = part(payload, "the claims of the token")?;
        self.check_issuer(issued.iss.as_ref())?;
        let key = self.key(header.kid.as_deref(), algorithm).await?;
        let claims = self.verified(text, &key, algorithm)?;
        let ends = self.check_times(&claims, now)?;
        claims::session_of(&self.config, &claims, &key.taken_back, ends)
    }

    fn algorithm(&self, header: &Header) -> Result<Algorithm> {
        if header.crit.is_some() {
            return Err(malformed("the header of the token has `crit`, which is not understood"));
        }
        let known = ALGORITHMS.iter().find(|(name, _)| *name == header.alg);
        let allowed = known.filter(|(_, algorithm)| self.algorithms.contains(algorithm));
        allowed.map(|(_, algorithm)| *algorithm).ok_or_else(|| {
            let names = ALGORITHMS.iter().filter(|(_, one)| self.algorithms.contains(one));
            let names: Vec<&str> = names.map(|(name, _)| *name).collect();
            Error::new(
                Reason::TokenAlgorithm,
                format!(
                    "the token is signed with `{}`; the settings allow {}",
                    shown(&header.alg),
                    names.join(", ")
                ),
            )
        })
    }

    fn check_issuer(&self, issuer: Option<&Value>) -> Result<()> {
        match issuer.and_then(Value::as_str) {
            Some(issuer) if issuer == self.config.issuer => Ok(()),
            other => Err(Error::new(
                Reason::TokenIssuer,
                format!(
                    "the token was issued by {}; tokens of `{}` are taken",
                    other.map_or_else(|| "nobody".to_owned(), |name| format!("`{}`", shown(name))),
                    self.config.issuer
                ),
            )),
        }
    }

    /// The key that a token names; asks the issuer for one that is not known.
    async fn key(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Arc<PublicKey>> {
        if let Some(key) = self.published.read().keys.find(id, algorithm) {
            return Ok(key);
        }
        let mut attempts = self.attempts.subscribe();
        let pause = Duration::from(self.config.min_refresh);
        let tried = self.published.read().tried;
        if tried.is_none_or(|tried| tried.elapsed() >= pause) {
            let _place = self.waiting.try_acquire().map_err(|_| {
                let why = "too many calls wait for them already".to_owned();
                unavailable(&self.config.issuer, Some(why))
            })?;
            self.asked.notify_one();
            drop(tokio::time::timeout(PATIENCE, attempts.changed()).await);
        }
        let published = self.published.read();
        if let Some(key) = published.keys.find(id, algorithm) {
            return Ok(key);
        }
        if published.keys.is_empty() {
            return Err(unavailable(&self.config.issuer, published.problem.clone()));
        }
        let named = id.map_or_else(|| "no key".to_owned(), |id| format!("the key `{}`", shown(id)));
        Err(Error::new(
            Reason::TokenKeyUnknown,
            format!(
                "the token names {named}, and `{}` publishes no such key for its algorithm; get \
                 another token",
                self.config.issuer
            ),
        ))
    }

    fn verified(
        &self,
        text: &str,
        key: &PublicKey,
        algorithm: Algorithm,
    ) -> Result<Map<String, Value>> {
        let mut validation = Validation::new(algorithm);
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_audience(&[&self.config.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // By the broker's own clock, as everything else that ends: `check_times`.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let decoded = jsonwebtoken::decode(text, &key.key, &validation);
        decoded.map(|token| token.claims).map_err(|error| match error.kind() {
            ErrorKind::InvalidSignature => Error::new(
                Reason::TokenSignature,
                "the signature of the token is wrong; send it as its issuer gave it",
            ),
            ErrorKind::InvalidAudience => Error::new(
                Reason::TokenAudience,
                format!(
                    "the token is for somebody else; ask its issuer for one with the audience `{}`",
                    self.config.audience
                ),
            ),
            ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => Error::new(
                Reason::TokenAudience,
                format!(
                    "the token does not say whom it is for; ask its issuer for one with the audience \
                     `{}`",
                    self.config.audience
                ),
            ),
            ErrorKind::InvalidIssuer => Error::new(
                Reason::TokenIssuer,
                format!("the token was not issued by `{}`", self.config.issuer),
            ),
            ErrorKind::InvalidAlgorithm => Error::new(
                Reason::TokenAlgorithm,
                "the token is not signed in the way of the key that it names",
            ),
            ErrorKind::MissingRequiredClaim(claim) => {
                malformed(&format!("the token has no claim `{claim}`"))
            }
            _ => malformed("the token is damaged"),
        })
    }

    /// When a token ends, if it is valid now.
    fn check_times(&self, claims: &Map<String, Value>, now: Timestamp) -> Result<Timestamp> {
        let leeway = Duration::from(self.config.leeway).as_nanos() as u64;
        let time = |name: &str| match claims.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64() {
                Some(seconds) if seconds >= 0.0 => {
                    Ok(Some((seconds as u64).saturating_mul(1_000_000_000)))
                }
                _ => Err(malformed(&format!("`{name}` of the token is no time"))),
            },
        };
        let ends = time("exp")?.ok_or_else(|| malformed("the token has no claim `exp`"))?;
        let ends = ends.saturating_add(leeway);
        let begins = time("nbf")?.unwrap_or_default();
        match now.0 < ends && begins <= now.0.saturating_add(leeway) {
            true => Ok(Timestamp(ends)),
            false => Err(token_expired()),
        }
    }
}

/// Algorithms by name; all if none is named.
fn algorithms(names: &[String]) -> Result<Vec<Algorithm>, String> {
    if names.is_empty() {
        return Ok(ALGORITHMS.iter().map(|(_, algorithm)| *algorithm).collect());
    }
    let known = |name: &String| {
        let found = ALGORITHMS.iter().find(|(known, _)| known == name);
        found.map(|(_, algorithm)| *algorithm).ok_or_else(|| {
            let all: Vec<&str> = ALGORITHMS.iter().map(|(name, _)| *name).collect();
            format!(
                "`{}` is not an algorithm that a key can be published for; there are {}",
                shown(name),
                all.join(", ")
            )
        })
    };
    names.iter().map(known).collect()
}

/// A part of a token, as JSON.
fn part<T: serde::de::DeserializeOwned>(text: &str, what: &str) -> Result<T> {
    let bytes = URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| malformed(&format!("{what} is not in base64 for URLs")))?;
    serde_json::from_slice(&bytes).map_err(|_| malformed(&format!("{what} is not what it must be")))
}

/// What a stranger wrote, as much of it as can be shown.
fn shown(text: &str) -> String {
    text.chars().filter(|one| !one.is_control()).take(64).collect()
}

fn unavailable(issuer: &str, why: Option<String>) -> Error {
    let why = why.unwrap_or_else(|| "they have not been read yet".to_owned());
    Error::new(
        Reason::KeySetUnavailable,
        format!("the keys of `{issuer}` cannot be read, so its tokens cannot be checked: {why}"),
    )
}
