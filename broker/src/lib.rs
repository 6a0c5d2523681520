//! The broker of Meshlog: data products, their schemas and their records over one log engine.
//!
//! Start with [`Broker`].

mod broker;
mod caller;
pub mod catalogue;
pub mod config;
mod error;
pub mod record;
pub mod schema;
mod time;

pub use broker::Broker;
pub use caller::Caller;
pub use config::Config;
pub use error::{Applied, Error, Reason, Result, Violation};
