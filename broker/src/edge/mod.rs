//! The edge: the only place that knows tonic, axum, hyper, http and tower.
//!
//! ```text
//! listener ─ tls ─ connection (cap, timeouts, HTTP/1.1 or 2) ─ call (panics, foreign errors) ─ services
//! LocalConnector ──────┘ the same stack over a pipe in memory
//! ```
//!
//! `limits` (with `places`, `memory`, `answers`, `quotas`, `body`) bounds what clients can make the broker hold: whatever
//! they do, they are answered with a type or closed.
//!
//! Services are plain adapters of [`crate::Broker`]: a request goes in as it is, an
//! [`crate::Error`] comes out through `status`.

mod admin;
mod answers;
mod body;
mod by_catalogue;
mod call;
mod catalog;
mod connection;
mod convert;
mod cut;
mod fetch;
mod gate;
mod governance;
mod http;
mod issuer;
mod limits;
mod lineage;
mod local;
mod memory;
mod messages;
mod places;
mod preface;
mod quotas;
mod record;
mod schema;
mod server;
mod services;
mod status;
mod subscription;
mod tls;
mod unread;
mod watched;
mod writes;

pub use local::LocalConnector;
pub(crate) use memory::Memory;
pub use server::{may_bind, may_listen, needs_keys, serve};
