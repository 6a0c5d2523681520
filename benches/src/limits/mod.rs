//! What the machine itself can do: the disk without a log, the wire without a broker.

pub mod lag;
pub mod spread;

pub use meshlog_limits::{KIB, MIB, disk, wire};
