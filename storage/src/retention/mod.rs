//! How long records stay: the start offset of a stream rises to where its limits allow.
//!
//! ```text
//!  keeper, every 10 s ─► which streams have something due? ─► first batch still wanted
//!                                                               (bisect the runs, read one run)
//!          ─► one entry with the new start offsets of many streams ─► synced ─► visible
//! ```
//!
//! A batch goes when one of the limits no longer wants any of it; batches are not cut. The rise of
//! a start offset is durable before it is visible, so no restart shows a record again that was
//! gone. The bytes go later: when a file holds nothing alive it is given back, when it is half
//! dead a merge takes what is alive elsewhere, and the file being written is finished early if
//! something in it has waited for an hour.

mod clock;
mod explain;
mod first_kept;
mod policy;
mod step;

pub(crate) use clock::Doubt;
pub use explain::{Explanation, Holder, Limit, LimitState, Waiting};
pub(crate) use explain::{explain, stored_bytes};
pub use policy::{Compaction, Policy};
pub(crate) use step::Retention;
