//! The edge: the only place that knows tonic, axum, hyper, http and tower.
//!
//! ```text
//! listener ─ connection (cap, timeouts, HTTP/1.1 or 2) ─ call (panics, foreign errors) ─ services
//! LocalConnector ──────┘ the same stack over a pipe in memory
//! ```
//!
//! Services are plain adapters of [`crate::Broker`]: a request goes in as it is, an
//! [`crate::Error`] comes out through `status`.

mod admin;
mod call;
mod catalog;
mod connection;
mod convert;
mod governance;
mod lineage;
mod local;
mod preface;
mod record;
mod schema;
mod server;
mod services;
mod status;
mod subscription;
mod watched;

pub use local::LocalConnector;
pub use server::serve;
