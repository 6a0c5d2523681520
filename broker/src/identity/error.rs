//! Why somebody is not known.

use crate::error::{Error, Reason};

/// The call says nothing about who makes it.
pub(crate) fn missing() -> Error {
    Error::new(
        Reason::CredentialMissing,
        "this broker wants to know who calls; send a key as `authorization: Bearer KEY` (with the \
         command line, `--key-file FILE` or MESHLOG_KEY)",
    )
}

/// What says who calls cannot be read.
pub(crate) fn malformed(what: &str) -> Error {
    Error::new(
        Reason::CredentialMalformed,
        format!("the authorization of the call cannot be read: {what}"),
    )
}

/// Who it is was proved, and nothing says for whom it works.
pub(crate) fn unmapped(what: &str) -> Error {
    Error::new(
        Reason::CredentialUnmapped,
        format!(
            "the caller proved who it is, but {what}; an administrator can say so in \
             `[broker.identity]` of the settings"
        ),
    )
}

/// The token is over.
pub(crate) fn token_expired() -> Error {
    Error::new(
        Reason::TokenExpired,
        "the token has expired or is not valid yet; get another one from its issuer, and see whether \
         the clocks agree",
    )
}

/// The issuer does not stand by the token any more.
pub(crate) fn token_key_gone() -> Error {
    Error::new(
        Reason::TokenKeyUnknown,
        "the token is signed with a key that its issuer no longer publishes; get another token",
    )
}
