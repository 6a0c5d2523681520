//! What the tests share: a broker behind a real gRPC port, and builders for what they put into it.
//!
//! ```no_run
//! # async fn run() {
//! use meshlog_tests::{TestBroker, append, product};
//!
//! let broker = TestBroker::start().await;
//! broker.create(product("ops.flights").owner("ops").partitions(4)).await;
//! broker.records().append(append("ops.flights").value("{}")).await.unwrap();
//! # }
//! ```

mod binary;
mod broker;
mod failure;
mod mesh;
mod record;

pub use binary::binary;
pub use broker::TestBroker;
pub use failure::{Failure, failure};
pub use mesh::{MESH_TAG_KEYS, generated_company, generated_mesh};
pub use meshlog_testing::{ProductBuilder, product};
pub use record::{AppendBuilder, append, positions, read, subscribe, values};
