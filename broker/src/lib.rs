//! The broker of Meshlog: data products, their schemas and their records over one log engine.

mod error;

pub use error::{Applied, Error, Reason, Result};
