//! Measurements of Meshlog and of the limits it runs against.
//!
//! A figure means little without the limit beside it, and the limits of a shared machine move by half within minutes.
//! So every limit here is a function that takes a fraction of a second, for calling in turn with the case it bounds:
//!
//! ```text
//! limits/disk   D  durable bytes/s at a group size     F  durable 4 KiB writes/s
//! limits/lag    the journal's write pattern while a reader follows at a distance
//! limits/spread one commit spread over N files
//! limits/wire   T  loopback TCP bytes/s   G  bare gRPC stream bytes/s   g  bare gRPC unary calls/s
//! meshlog       a broker and a client on loopback
//! rounds        runs all cases of a series in turn, several times over
//! report        median and range of each case, as a table or as JSON
//! ```
//!
//! The programs in `src/bin/` print one series each.

pub mod limits;
pub mod meshlog;
pub mod report;
pub mod rounds;

pub use meshlog_limits::load;
