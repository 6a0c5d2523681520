//! The keys that an issuer publishes (RFC 7517).

use std::sync::Arc;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// Most keys of one issuer; they have a handful.
const KEYS_MAX: usize = 100;

/// Keys of an issuer.
#[derive(Debug, Default)]
pub(crate) struct KeySet(Vec<Arc<PublicKey>>);

/// One key.
#[derive(Debug)]
pub(super) struct PublicKey {
    id: Option<String>,
    parameters: AlgorithmParameters,
    /// How what it signs may be signed.
    algorithms: Vec<Algorithm>,
    pub(super) key: DecodingKey,
    /// Cancelled when the issuer publishes it no more.
    pub(super) taken_back: CancellationToken,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a key set. Keys that nothing here could be verified with are left out.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        let document: Document = serde_json::from_slice(text)
            .map_err(|error| format!("it is not a set of keys (JWKS): {error}"))?;
        if document.keys.len() > KEYS_MAX {
            return Err(format!(
                "it has {} keys, more than the {KEYS_MAX} that are read",
                document.keys.len()
            ));
        }
        let keys = document.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok());
        let keys: Vec<_> = keys.filter_map(PublicKey::new).map(Arc::new).collect();
        match keys.is_empty() {
            true => Err("it has no public key for signatures".to_owned()),
            false => Ok(Self(keys)),
        }
    }

    /// The key of this name; without a name, the only one that fits.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<Arc<PublicKey>> {
        let fits = |key: &&Arc<PublicKey>| {
            key.algorithms.contains(&algorithm) && (id.is_none() || key.id.as_deref() == id)
        };
        let mut found = self.0.iter().filter(fits);
        let first = found.next()?;
        (id.is_some() || found.next().is_none()).then(|| Arc::clone(first))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the place of what was published before; gives whether keys were taken back. Those that
    /// stay are the same as before, so that what they have signed stays known.
    pub(super) fn replace(&mut self, newer: Self) -> bool {
        let before = std::mem::take(&mut self.0);
        self.0 = newer.0.into_iter().map(|key| key.or_same(&before)).collect();
        let gone = before.iter().filter(|old| !self.0.iter().any(|key| Arc::ptr_eq(key, old)));
        let gone: Vec<_> = gone.collect();
        gone.iter().for_each(|key| key.taken_back.cancel());
        !gone.is_empty()
    }
}

impl PublicKey {
    /// A key that signatures can be verified with.
    fn new(key: Jwk) -> Option<Self> {
        use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        let of_kind: &[Algorithm] = match &key.algorithm {
            AlgorithmParameters::RSA(_) => &[RS256, RS384, RS512, PS256, PS384, PS512],
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => &[ES256],
                EllipticCurve::P384 => &[ES384],
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                &[EdDSA]
            }
            // A shared secret has no business among public keys.
            _ => return None,
        };
        if key.common.public_key_use.as_ref().is_some_and(|of| *of != PublicKeyUse::Signature) {
            return None;
        }
        let algorithms: Vec<Algorithm> = match key.common.key_algorithm {
            None => of_kind.to_vec(),
            Some(named) => {
                let named = Algorithm::try_from(named).ok()?;
                of_kind.iter().copied().filter(|one| *one == named).collect()
            }
        };
        let decoding = DecodingKey::from_jwk(&key).ok()?;
        (!algorithms.is_empty()).then(|| Self {
            id: key.common.key_id,
            parameters: key.algorithm,
            algorithms,
            key: decoding,
            taken_back: CancellationToken::new(),
        })
    }

    fn or_same(self: Arc<Self>, before: &[Arc<Self>]) -> Arc<Self> {
        let same = before.iter().find(|old| {
            (&old.id, &old.parameters, &old.algorithms)
                == (&self.id, &self.parameters, &self.algorithms)
        });
        same.map_or_else(|| Arc::clone(&self), Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn elliptic(id: &str, x: &str) -> Value {
        json!({"kty": "EC", "crv": "P-256", "kid": id, "x": x, "y": x})
    }

    fn parse(keys: &Value) -> Result<KeySet, String> {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    #[test]
    fn what_cannot_verify_a_signature_is_left_out() {
        let keys = parse(&json!([
            {"kty": "oct", "kid": "secret", "k": "AAAA"},
            {"kty": "EC", "crv": "P-521", "kid": "large", "x": "AA", "y": "AA"},
            {"kty": "RSA", "kid": "enc", "use": "enc", "n": "AQAB", "e": "AQAB"},
            {"kty": "RSA", "kid": "ps", "alg": "PS256", "n": "AQAB", "e": "AQAB"},
            {"kty": "RSA", "kid": "odd", "alg": "HS256", "n": "AQAB", "e": "AQAB"},
            {"kty": "quantum", "kid": "q"},
            elliptic("good", "AA"),
        ]))
        .unwrap();
        assert_eq!(keys.0.len(), 2);
        assert!(keys.find(Some("good"), Algorithm::ES256).is_some());
        assert!(keys.find(Some("good"), Algorithm::RS256).is_none(), "of another kind");
        assert!(keys.find(Some("ps"), Algorithm::RS256).is_none(), "it says for what it is");
        assert!(keys.find(None, Algorithm::ES256).is_some(), "there is no other");
        for odd in ["", "[]", "{}", r#"{"keys": []}"#, r#"{"keys": [{"kty": "oct", "k": "AA"}]}"#] {
            assert!(KeySet::parse(odd.as_bytes()).is_err(), "{odd}");
        }
        let many: Vec<Value> = (0..101).map(|id| elliptic(&id.to_string(), "AA")).collect();
        assert!(parse(&many.into()).unwrap_err().contains("101 keys"));
    }

    #[test]
    fn a_key_that_stays_is_the_same_and_one_that_goes_is_taken_back() {
        let mut keys = parse(&json!([elliptic("a", "AA"), elliptic("b", "AA")])).unwrap();
        assert!(keys.find(None, Algorithm::ES256).is_none(), "it could be either");
        let find = |keys: &KeySet, id| keys.find(Some(id), Algorithm::ES256).unwrap();
        let (a, b) = (find(&keys, "a"), find(&keys, "b"));
        assert!(!keys.replace(parse(&json!([elliptic("b", "AA"), elliptic("a", "AA")])).unwrap()));
        assert!(Arc::ptr_eq(&a, &find(&keys, "a")));
        assert!(keys.replace(parse(&json!([elliptic("a", "AA"), elliptic("b", "AQ")])).unwrap()));
        assert!(b.taken_back.is_cancelled(), "another key under the same name");
        assert!(!a.taken_back.is_cancelled() && !find(&keys, "b").taken_back.is_cancelled());
        assert!(keys.replace(KeySet::default()) && a.taken_back.is_cancelled());
    }
}
