//! The broker of Meshlog: data products, their schemas and their records over one log engine.

mod caller;
mod error;

pub use caller::Caller;
pub use error::{Applied, Error, Reason, Result, Violation};
