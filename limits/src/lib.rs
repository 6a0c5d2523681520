//! What the machine itself can do, for putting beside what a broker does on it.
//!
//! The limits of a shared machine move by half within minutes. So each of them is a function that takes a fraction of a
//! second, for calling in turn with the case it bounds:
//!
//! ```text
//! disk  D  durable bytes/s at a group size     F  durable 4 KiB writes/s
//! wire  T  loopback TCP bytes/s   G  bare gRPC stream bytes/s   g  bare gRPC unary calls/s
//! load  CPU time of this process, and what others used meanwhile
//! ```
//!
//! The programs of `benches/` and `meshlog bench` measure with it. For Linux only: it writes as the journal writes there.

pub mod disk;
pub mod load;
pub mod wire;

/// Bytes in one KiB.
pub const KIB: usize = 1024;
/// Bytes in one MiB.
pub const MIB: usize = 1024 * KIB;
