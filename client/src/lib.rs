//! The Rust client of Meshlog.
//!
//! ```no_run
//! # async fn run() -> meshlog_client::Result<()> {
//! use meshlog_client::{Client, Record, StartAt};
//!
//! let client = Client::connect("127.0.0.1:7420").await?;
//!
//! let producer = client.producer("ops.flights").build()?;
//! let ack = producer.send(Record::new(r#"{"flight":"UA1545"}"#).key("UA1545")).await?;
//! println!("partition {} offset {}", ack.partition, ack.offset);
//! producer.close().await?;
//!
//! let mut consumer = client.consumer("ops.flights").from(StartAt::Earliest).build();
//! while let Some(record) = consumer.next_record().await? {
//!     println!("{} {:?}", record.offset, record.record.value);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | Type | What |
//! |---|---|
//! | [`Client`] | a broker, over TCP or inside this process; cheap to clone |
//! | [`Producer`] | appends records of one product in order: batches, pipelines, retries without duplicates |
//! | [`Consumer`] | reads one product from a position and then live; resumes after a lost connection |
//! | [`Catalog`] | products, schemas, domains, teams, and facts about the broker |
//! | [`Governance`] | keys, grants and requests for access; who one is |
//! | [`Key`] | what says who calls; sent with every call, shown nowhere |
//! | [`Error`] | what failed, why, and whether an append may be in the log all the same |
//!
//! Every producer and every consumer has a connection of its own, because a few stalled streams can
//! fill the window of a connection and stop everything else on it.
//!
//! Only `transport` knows the gRPC library; everything else would survive another one.

mod ack;
mod backoff;
mod batch;
mod calls;
mod catalog;
mod client;
mod config;
mod consumer;
mod error;
mod governance;
mod key;
mod producer;
mod record;
mod time;
mod transport;

pub use ack::{Ack, AckedRange, BatchAck};
pub use batch::{BatchBuilder, EncodedBatch};
pub use catalog::{Catalog, ReadOptions, ReadResult};
pub use client::Client;
pub use config::{ClientConfig, TlsConfig};
pub use consumer::{ConsumedBatch, ConsumedRecord, Consumer, ConsumerBuilder, Records, StartAt};
pub use error::{Applied, Code, Error, Result, Violation};
pub use governance::Governance;
pub use key::Key;
pub use meshlog_proto::v1 as proto;
pub use meshlog_proto::v1::Durability;
pub use producer::{BatchDelivery, BatchOutcome, Delivery, OnFailure, Producer, ProducerBuilder};
pub use record::{Header, Record, RecordRef};
pub use transport::Connector;
