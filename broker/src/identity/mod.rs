//! Who is behind a call.
//!
//! The edge finds out once per call, from a key, a token or the certificate of the connection, and puts
//! a [`crate::Caller`] into the request.

mod certificate;

pub use certificate::PeerCertificate;
