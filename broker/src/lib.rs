//! The broker of Meshlog: data products, their schemas and their records over one log engine.
//!
//! Start with [`Broker`]. With the cargo feature `edge` (default) it also speaks gRPC, over TCP
//! with [`edge::serve`] or inside the process with `Broker::local_connector`.

pub mod access;
pub mod audit;
pub mod backup;
mod broker;
mod caller;
pub mod catalogue;
mod certificates;
mod compatibility;
pub mod config;
#[cfg(feature = "edge")]
pub mod edge;
mod error;
#[cfg(test)]
mod fixtures;
pub mod identity;
mod lineage;
pub mod metrics;
pub mod record;
pub mod recover;
mod retained;
mod retention;
mod rule;
mod sample;
pub mod schema;
mod search;
mod space;
mod subscription;
mod time;
pub mod trace;
pub mod verify;

pub use broker::Broker;
pub use caller::Caller;
pub use compatibility::CompatibilityCheck;
pub use config::Config;
pub use error::{Applied, Error, Reason, Result, Violation};
pub use lineage::{OpenReader, Traffic};
pub use search::IndexSize;
