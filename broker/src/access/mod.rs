//! Who may do what: one table, one decision.
//!
//! ```text
//! call ─► Caller (identity) ─► row of the call (table) ─► what the caller holds (decision) ─► go on, or Denied
//!                                                              less what policies forbid
//! ```
//!
//! - A call without a row is refused, and so is a caller without one of the permissions of the row.
//! - Every method of the broker that a client can reach asks [`crate::catalogue::Catalogue::allow`], so gRPC and HTTP
//!   share it. Callers inside the process are trusted.
//! - A refusal says which permission is missing on what, and how to ask for it. Whatever one may not
//!   even see is answered as if it did not exist.

mod decision;
mod epoch;
mod permission;
#[cfg(feature = "cedar")]
pub mod policy;
mod recheck;
mod table;
#[cfg(test)]
mod tests;

pub use decision::Resource;
pub(crate) use epoch::Epoch;
pub use permission::{Permission, Permissions, Role};
pub(crate) use recheck::Recheck;
pub use table::{Need, On, Row, Rpc, TABLE};
