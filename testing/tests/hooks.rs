//! What a test can do to its broker, seen from a client.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

#[path = "hooks/clock.rs"]
mod clock;
#[path = "hooks/disk.rs"]
mod disk;
#[path = "hooks/lifetime.rs"]
mod lifetime;
#[path = "hooks/network.rs"]
mod network;
#[path = "hooks/restart.rs"]
mod restart;

use std::time::Duration;

use meshlog_client::{Client, ClientConfig, Record};
use meshlog_testing::TestBroker;

fn record(number: u32) -> Record {
    Record::new(number.to_string()).key(format!("k{number}"))
}

/// Waits for something that happens by itself, within ten seconds.
async fn eventually<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..1_000 {
        if let Some(found) = found().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never happened: {what}")
}

/// A client that waits for an answer no longer than this.
async fn impatient(broker: &TestBroker, call_timeout: Duration) -> Client {
    let config = ClientConfig { call_timeout, ..ClientConfig::default() };
    Client::over_with(broker.connector(), config).await.unwrap()
}
