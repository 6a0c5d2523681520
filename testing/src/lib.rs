//! A real broker inside a test: the one that `meshlog serve` runs, in memory and in this process,
//! started in a few milliseconds.
//!
//! ```
//! use meshlog_client::{Record, StartAt};
//! use meshlog_testing::{TestBroker, product};
//!
//! #[tokio::test]
//! # async fn hidden() {}
//! # #[tokio::main(flavor = "current_thread")]
//! async fn a_flight_is_read_back() {
//!     let broker = TestBroker::start().await;
//!     broker.create(product("ops.flights").owner("ops")).await;
//!
//!     let client = broker.client().await;
//!     let producer = client.producer("ops.flights").build().unwrap();
//!     producer.send(Record::new(r#"{"flight":1545}"#).key("N14228")).await.unwrap();
//!
//!     let mut consumer = client.consumer("ops.flights").from(StartAt::Earliest).build();
//!     let found = consumer.next_record().await.unwrap().unwrap();
//!     assert_eq!(found.record.key.unwrap(), "N14228");
//!     assert_eq!(broker.values("ops.flights").await, [r#"{"flight":1545}"#]);
//! }
//! # fn main() { a_flight_is_read_back() }
//! ```
//!
//! | To have | Write |
//! |---|---|
//! | a gRPC port on loopback | `TestBroker::builder().port().start().await`, then [`TestBroker::address`] |
//! | data on disk | `.on_disk()`: a temporary directory, removed at the end |
//! | data that a power cut can take | `.on_simulated_disk()`, then [`TestBroker::crash`] |
//! | a restart, everything gone | [`TestBroker::restart`], [`TestBroker::reset`] |
//! | a failed sync or write, a full or slow disk | [`TestBroker::disk`] |
//! | cut or refused connections, late answers | [`TestBroker::network`] |
//! | another time | [`TestBroker::clock`] |
//!
//! - The broker lives on a thread of its own, so it answers while a test blocks, works under every
//!   flavour of `#[tokio::test]`, and many brokers can be in one process.
//! - Dropping it, also in a test that panics, cuts its connections, ends its threads and removes
//!   its directory before `drop` returns.
//! - What goes wrong in the test's own set-up panics with a sentence; what the application under
//!   test sees are the errors of the real thing.
//! - Do not pause tokio's time (`start_paused`): the broker works in real time and outside of the
//!   paused runtime, so every time limit of the client would pass while it waits for an answer.

mod broker;
mod builder;
mod clock;
mod disk;
mod host;
mod network;
mod product;

pub use broker::TestBroker;
pub use builder::TestBrokerBuilder;
pub use clock::TestClock;
pub use disk::TestDisk;
pub use network::{TestConnector, TestNetwork};
pub use product::{ProductBuilder, product};
