//! Bounds that appends must keep; `GetServerInfo` tells them to clients.

/// One encoded append request.
pub const MAX_REQUEST_BYTES: usize = 4 << 20;
/// One encoded record.
pub const MAX_RECORD_BYTES: usize = 1 << 20;
/// One stored batch, in bytes; a longer request is cut at record boundaries.
pub const MAX_BATCH_BYTES: usize = 2 << 20;
/// One stored batch, in records.
pub const MAX_BATCH_RECORDS: u32 = 10_000;
/// Headers of one record.
pub const MAX_HEADERS: u32 = 64;
/// One header name.
pub const MAX_HEADER_NAME_BYTES: usize = 256;
/// Partitions of one product.
pub const MAX_PARTITIONS: u32 = 1_024;
/// One schema text.
pub const MAX_SCHEMA_BYTES: usize = 256 << 10;
/// Bad records listed in one refusal.
pub const MAX_LISTED_RECORDS: usize = 100;
/// Records of one request that go to quarantine; each may grow by [`MAX_ADDED_BYTES`].
pub const MAX_QUARANTINED_RECORDS: usize = 1_000;
/// Headers that the broker adds to a record.
pub const MAX_ADDED_HEADERS: u32 = 16;
/// What those headers take at most.
pub const MAX_ADDED_BYTES: usize = 8 << 10;
/// Batches of one read or subscription message, so that a frame stays below the 4 MiB that
/// clients accept by default even when it ends with a batch of [`MAX_BATCH_BYTES`].
pub const MAX_READ_BYTES: usize = 3 << 20;
/// Batches of one read or subscription message, if the client does not say.
pub const DEFAULT_READ_BYTES: usize = 1 << 20;
/// Longest wait of a read at the durable end.
pub const MAX_READ_WAIT: std::time::Duration = std::time::Duration::from_secs(60);
