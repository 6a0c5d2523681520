//! Meshlog under load: a broker on a real directory, a client on loopback, each on a runtime of its own.
//!
//! The client speaks the generated types directly and sends batches encoded beforehand, so that what is measured is the
//! broker and the wire, not the making of records.

mod broker;
mod load;
mod process;

pub use broker::UnderTest;
pub use load::{Appended, Load};
pub use process::{Started, start_binary};
