//! What the machine itself can do: the disk without a log, the wire without a broker.

pub mod disk;
pub mod lag;
pub mod spread;
pub mod wire;

/// Bytes in one KiB.
pub const KIB: usize = 1024;
/// Bytes in one MiB.
pub const MIB: usize = 1024 * KIB;
