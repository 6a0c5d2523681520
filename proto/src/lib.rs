//! The wire contract of Meshlog as Rust types: messages, client stubs and server traits, generated
//! from `proto/meshlog/v1/*.proto`. There is no logic here; the contract itself, field by field,
//! stands in those files and in the documentation of the generated types.
//!
//! | Module | What | For |
//! |---|---|---|
//! | [`v1`] | every message, client stubs of every service, server traits of catalogue, schema and admin | clients, tools, the server's catalogue |
//! | [`server_v1`] | the record service with record batches as opaque bytes: server trait and client stub | the server; clients that encode their batches themselves |
//!
//! Fields of type `bytes` are [`bytes::Bytes`]: slices of the buffer a message was received in,
//! so holding one keeps that whole buffer alive. Errors inside messages
//! (`google.rpc.Status`) are [`tonic_types::Status`].

/// The public messages, client stubs of every service, and the server traits of the catalogue,
/// schema and admin services.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    rustdoc::all,
    reason = "generated from the .proto files, whose comments are the documentation"
)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/public/meshlog.v1.rs"));
}

/// Without the secret: what is written to a log must not hold it.
impl std::fmt::Debug for v1::CreateKeyResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreateKeyResponse").field("key", &self.key).finish_non_exhaustive()
    }
}

/// The record service as the server sees it. On the wire nothing differs from [`v1`]; in memory the
/// record batch stays the bytes the producer sent, so that it is checked, hashed and stored without
/// being decoded and encoded again.
///
/// Only the messages that carry a batch exist here; every other type is the one of [`v1`].
///
/// - `AppendRequest::batch` is a `Vec<Bytes>`, one element per occurrence of the field. Exactly one
///   is valid, and the server must refuse any other number: protobuf merges repeated occurrences of
///   a message field, which the server does not.
/// - `StoredBatch::batch` is one `Bytes`, never empty.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    rustdoc::all,
    reason = "generated from the .proto files, whose comments are the documentation"
)]
pub mod server_v1 {
    include!(concat!(env!("OUT_DIR"), "/server/meshlog.v1.rs"));
}

/// The compiled public contract, an encoded `google.protobuf.FileDescriptorSet` with all imports
/// and without comments: what a server's reflection service offers.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
