//! Who is behind a call.
//!
//! ```text
//! authorization: Bearer mlk_… ─► key    ─┐
//! authorization: Bearer eyJ…  ─► token  ─┼─► Session (one per proof, shared by its calls) ─► Caller
//! authorization: Basic …      ─► either ─┤   (the password; where clients can send nothing else)
//! certificate of the client   ─► name   ─┘
//! nothing ─► in process, or no keys yet: trusted; else refused
//! ```
//!
//! The edge asks [`Broker::authenticate`](crate::Broker) once per call and puts the
//! [`Caller`](crate::Caller) into the request. What was proved before is looked up by the hash of what
//! was sent; secrets are compared in constant time, kept nowhere but as hashes, and shown nowhere.

mod authenticate;
mod certificate;
mod error;
mod key;
mod known;
mod secret;
mod session;
#[cfg(feature = "edge")]
mod token;

#[cfg(feature = "edge")]
pub(crate) use authenticate::Credentials;
pub(crate) use authenticate::Identity;
pub use certificate::PeerCertificate;
pub(crate) use error::{missing, token_expired, token_key_gone, unmapped};
pub(crate) use key::{
    KeyHash, fresh as fresh_key, hash as key_hash, id_of as key_id, is_same as is_same_hash,
};
pub use secret::Secret;
pub(crate) use session::{Limits, Proof, Session};
#[cfg(feature = "edge")]
pub(crate) use token::KeySet;
