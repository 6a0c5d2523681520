//! The broker of Meshlog: data products, their schemas and their records over one log engine.

mod caller;
pub mod catalogue;
mod error;
pub mod schema;

pub use caller::Caller;
pub use error::{Applied, Error, Reason, Result, Violation};
