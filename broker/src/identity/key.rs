//! The text of a key: `mlk_<id>_<secret>`.
//!
//! The secret is 256 random bits, so its plain SHA-256 is as good as a slow hash: there is nothing to
//! guess. Only the hash is kept.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use ulid::Ulid;
use zeroize::Zeroize as _;

use super::secret::Secret;
use crate::error::{Error, Reason, Result};

/// What every key begins with, so that people and scanners know one when they see it.
pub(crate) const PREFIX: &str = "mlk_";

/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;
/// Characters of a secret: base64 without padding.
const SECRET_CHARS: usize = 43;
/// Characters of an id: a ULID in lower case.
const ID_CHARS: usize = 26;

/// The hash of a whole key.
pub(crate) type KeyHash = [u8; 32];

/// A fresh key: its id, its text, its hash.
pub(crate) fn fresh() -> Result<(String, Secret, KeyHash)> {
    let id = Ulid::generate().to_string().to_lowercase();
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::new(Reason::Internal, format!("the system gives no random numbers: {error}"))
    })?;
    let mut secret = URL_SAFE_NO_PAD.encode(bytes);
    bytes.zeroize();
    let text = Secret::from(format!("{PREFIX}{id}_{secret}"));
    secret.zeroize();
    let hash = hash(text.reveal());
    Ok((id, text, hash))
}

/// The hash of a key.
pub(crate) fn hash(text: &str) -> KeyHash {
    Sha256::digest(text.as_bytes()).into()
}

/// The hash by which whoever sent a proof is remembered. Different programs with one key are different
/// callers: a grant may be for one of them.
pub(crate) fn hash_of_caller(proof: &str, application: Option<&str>) -> KeyHash {
    let mut hash = Sha256::new();
    hash.update(proof.as_bytes());
    // No proof has this byte in it, so nobody can move the border.
    hash.update([0]);
    hash.update(application.unwrap_or_default().as_bytes());
    hash.finalize().into()
}

/// The id in a key.
///
/// # Errors
/// `CREDENTIAL_MALFORMED` for a text that no key can have.
pub(crate) fn id_of(text: &str) -> Result<&str> {
    let rest = text.strip_prefix(PREFIX).and_then(|rest| rest.split_at_checked(ID_CHARS));
    let parts = rest.and_then(|(id, rest)| Some((id, rest.strip_prefix('_')?)));
    match parts {
        Some((id, secret))
            if secret.len() == SECRET_CHARS
                && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) =>
        {
            Ok(id)
        }
        _ => Err(malformed()),
    }
}

/// Whether two hashes are equal; takes the same time whatever is in them.
pub(crate) fn is_same(one: &KeyHash, other: &KeyHash) -> bool {
    one.ct_eq(other).into()
}

fn malformed() -> Error {
    Error::new(
        Reason::CredentialMalformed,
        "this is not a whole key: one has the form `mlk_<id>_<secret>`; send it as it was shown, as \
         `authorization: Bearer KEY`",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_names_its_id_and_no_two_are_alike() {
        let (id, text, hashed) = fresh().unwrap();
        assert_eq!(id_of(text.reveal()).unwrap(), id);
        assert!(is_same(&hash(text.reveal()), &hashed));
        let (other, another, _) = fresh().unwrap();
        assert!(other != id && another != text);
        assert!(!is_same(&hash(another.reveal()), &hashed));
        assert_eq!(text.reveal().len(), PREFIX.len() + ID_CHARS + 1 + SECRET_CHARS);
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd_to_be_refused(text in ".{0,100}|mlk_[a-z0-9é_-]{0,90}") {
            match id_of(&text) {
                Ok(id) => prop_assert!(text.starts_with(&["mlk_", id, "_"].concat())),
                Err(error) => prop_assert_eq!(error.reason(), Reason::CredentialMalformed),
            }
        }
    }
}
