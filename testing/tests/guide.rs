//! docs/testing.md and docs/guide: every block of Rust in them stands here, and runs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::collections::BTreeMap;

const SCHEMA: &str = r#"{
    "type": "object", "required": ["tailnum"],
    "properties": {"tailnum": {"type": "string"}}
}"#;

use meshlog_client::{Client, Record, StartAt};
use meshlog_testing::{TestBroker, product};
use std::time::Duration;

#[tokio::test]
async fn a_flight_is_read_back() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.flights").owner("ops").key("tailnum").json_schema(SCHEMA)).await;

    let client = broker.client().await;
    let producer = client.producer("ops.flights").build().unwrap();
    producer.send(Record::new(r#"{"tailnum":"N14228"}"#).key("N14228")).await.unwrap();

    let mut consumer = client.consumer("ops.flights").from(StartAt::Earliest).build();
    assert_eq!(consumer.next_record().await.unwrap().unwrap().record.key.unwrap(), "N14228");
    assert_eq!(broker.values("ops.flights").await, [r#"{"tailnum":"N14228"}"#]);
}

#[tokio::test]
async fn a_program_connects_to_an_address() {
    let broker = TestBroker::builder().port().start().await;
    let client = Client::connect(broker.address().to_string()).await.unwrap();
    assert_eq!(client.catalog().server_info().await.unwrap().api_version, "v1");
}

#[tokio::test]
async fn a_record_whose_sync_failed_is_stored_once() {
    let broker = TestBroker::builder().on_disk().start().await;
    broker.create(product("ops.flights")).await;
    let producer = broker.client().await.producer("ops.flights").build().unwrap();

    broker.disk().fail_next_sync();
    let delivery = producer.enqueue(&Record::new("one")).await.unwrap();
    while broker.broker().server_info().storage.unwrap().appends_refused.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    broker.restart().await;

    delivery.await.unwrap();
    assert_eq!(broker.values("ops.flights").await, ["one"]);
}

#[tokio::test]
async fn records_go_after_a_week() {
    let week = Duration::from_secs(7 * 24 * 3600);
    let broker = TestBroker::start().await;
    broker.create(product("ops.flights").retention_age(week)).await;
    broker.append("ops.flights", [Record::new("old")]).await;
    broker.clock().advance(week + Duration::from_secs(24 * 3600));
    broker.append("ops.flights", [Record::new("new")]).await;

    while broker.values("ops.flights").await != ["new"] {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn records_of_the_last_hour_are_found() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.flights")).await;
    broker.append("ops.flights", [Record::new("old")]).await;
    broker.clock().advance(Duration::from_secs(3 * 3600));
    broker.append("ops.flights", [Record::new("new")]).await;

    let since = StartAt::Time(broker.clock().now() - Duration::from_secs(3600));
    let client = broker.client().await;
    let mut consumer = client.consumer("ops.flights").from(since).build();
    assert_eq!(consumer.next_record().await.unwrap().unwrap().record, Record::new("new"));
}

async fn read_everything_and_go_on(client: &Client) -> meshlog_client::Result<()> {
    let mut consumer = client.consumer("ops.flights").from(StartAt::Earliest).build();
    while let Some(found) = consumer.next_record().await? {
        let value = found.record.value.unwrap_or_default();
        handle(found.partition, found.offset, &value);
    }
    Ok(())
}

async fn write(client: &Client) -> meshlog_client::Result<()> {
    let producer = client.producer("ops.flights").build()?;
    let ack = producer.send(Record::new(r#"{"flight":1545}"#).key("N14228")).await?;
    handle(ack.partition, ack.offset, b"is on disk");
    producer.close().await
}

async fn resume(client: &Client, next_offsets: BTreeMap<u32, u64>) -> meshlog_client::Result<()> {
    let mut consumer =
        client.consumer("ops.flights").from(StartAt::Positions(next_offsets)).build();
    while let Some(found) = consumer.next_record().await? {
        let value = found.record.value.unwrap_or_default();
        // One transaction: the result, and that partition `found.partition` goes on behind it.
        handle(found.partition, found.offset + 1, &value);
    }
    Ok(())
}

async fn report(client: &Client) -> meshlog_client::Result<()> {
    let mut consumer = client.consumer("ops.flights").cursor("nightly-report").build();
    while let Some(batch) = consumer.next().await? {
        for found in batch.records() {
            let found = found?;
            let value = found.record.value.unwrap_or_default();
            handle(found.partition, found.offset, &value);
        }
        consumer.commit().await?;
    }
    Ok(())
}

const SPAN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test]
async fn a_record_keeps_its_trace() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.flights")).await;
    broker.append("ops.flights", [Record::new("{}").trace_parent(SPAN)]).await;
    let mut consumer =
        broker.client().await.consumer("ops.flights").from(StartAt::Earliest).build();
    let record = consumer.next_record().await.unwrap().unwrap().record;
    assert_eq!(record.find_trace_parent(), Some(SPAN));
}

/// What a program does with a record.
fn handle(_partition: u32, _offset: u64, _value: &[u8]) {}

#[tokio::test]
async fn the_loops_of_the_guide_read_and_write() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.flights")).await;
    let client = broker.client().await;
    write(&client).await.unwrap();
    assert_eq!(broker.values("ops.flights").await.len(), 1);
    // They follow for ever, so being cut off in time is right, and an answer is an error.
    let brief = Duration::from_millis(300);
    tokio::time::timeout(brief, read_everything_and_go_on(&client)).await.unwrap_err();
    let beyond = BTreeMap::from([(0, 7)]);
    resume(&client, beyond).await.unwrap_err();
    tokio::time::timeout(brief, resume(&client, BTreeMap::new())).await.unwrap_err();
    tokio::time::timeout(brief, report(&client)).await.unwrap_err();
    let cursor = client.catalog().list_cursors("", "nightly-report").await.unwrap();
    assert_eq!(cursor[0].positions[0].offset, 1, "committed after the record");
}

#[test]
fn every_block_of_the_guide_stands_here() {
    let here = include_str!("guide.rs");
    for guide in [
        include_str!("../../docs/testing.md"),
        include_str!("../../docs/guide/read-a-product.md"),
        include_str!("../../docs/guide/keep-a-position.md"),
        include_str!("../../docs/guide/watch-a-broker.md"),
    ] {
        let blocks = guide.split("```rust\n").skip(1);
        for block in blocks.map(|rest| rest.split("```").next().unwrap()) {
            assert!(here.contains(block), "{block}");
        }
    }
}
