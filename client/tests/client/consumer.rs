//! Positions, resuming and ends of a consumer.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use meshlog_client::{Client, Consumer, ConsumerBuilder, StartAt};
use meshlog_proto::v1::start::At;

use crate::{
    broker::Broker,
    proxy::{CuttingProxy, Random},
};

async fn consumer(broker: &Broker) -> ConsumerBuilder {
    let client = Client::connect(broker.address.to_string()).await.expect("a broker");
    client.consumer("ops.flights")
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

async fn rest(mut consumer: Consumer) -> Vec<String> {
    let mut values = Vec::new();
    while let Some(record) = consumer.next_record().await.expect("readable") {
        values
            .push(String::from_utf8(record.record.value.expect("a value").to_vec()).expect("text"));
    }
    values
}

#[tokio::test]
async fn a_consumer_reads_to_the_end_seen_at_the_start_or_follows() {
    let broker = Broker::start().await;
    broker.append(&numbers(0..10));
    broker.append(&numbers(10..15));
    assert_eq!(rest(consumer(&broker).await.stop_at_end(true).build()).await, numbers(0..15));

    let mut follower = consumer(&broker).await.from(StartAt::Latest).build();
    let waiting = tokio::time::timeout(Duration::from_millis(100), follower.next_record()).await;
    assert!(waiting.is_err(), "nothing new yet");
    broker.append(&numbers(15..17));
    let record = follower.next_record().await.unwrap().unwrap();
    assert_eq!((record.offset, record.record.value.unwrap()), (15, "15".into()));
}

#[tokio::test]
async fn an_empty_product_ends_at_once() {
    let broker = Broker::start().await;
    assert!(rest(consumer(&broker).await.stop_at_end(true).build()).await.is_empty());
}

#[tokio::test]
async fn a_position_inside_a_batch_gives_the_record_at_that_offset_first() {
    let broker = Broker::start().await;
    broker.append(&numbers(0..10));
    for start in 0..=10 {
        let builder = consumer(&broker).await.from(StartAt::Offset(start)).stop_at_end(true);
        assert_eq!(rest(builder.build()).await, numbers(start as u32..10));
    }
}

#[tokio::test]
async fn records_outside_the_range_asked_for_are_dropped_even_if_the_broker_sends_them() {
    let broker = Broker::start().await;
    broker.append(&numbers(0..10));
    broker.append(&numbers(10..20));
    {
        let mut state = broker.shared.state.lock();
        state.careless = true;
        // The durable end lies within the second batch.
        state.end = 15;
    }
    let builder = consumer(&broker).await.from(StartAt::Offset(3)).stop_at_end(true);
    assert_eq!(rest(builder.build()).await, numbers(3..15));
}

#[tokio::test]
async fn what_arrives_while_reading_to_the_end_is_not_part_of_it() {
    let broker = Broker::start().await;
    (0..4).for_each(|n| broker.append(&numbers(n * 10..n * 10 + 10)));
    broker.shared.state.lock().end_after = Some(2);
    let mut consumer = consumer(&broker).await.stop_at_end(true).build();
    consumer.next_record().await.unwrap();
    broker.append(&numbers(40..50));
    assert_eq!(rest(consumer).await, numbers(1..40));
}

#[tokio::test]
async fn positions_say_where_to_go_on() {
    let broker = Broker::start().await;
    broker.append(&numbers(0..10));
    let mut first = consumer(&broker).await.from(StartAt::Offset(3)).build();
    assert!(first.positions().is_empty());
    for _ in 0..4 {
        first.next_record().await.unwrap();
    }
    assert_eq!(first.positions(), &BTreeMap::from([(0, 7)]));
    assert_eq!(first.product_id(), "01PRODUCT");
    let at = StartAt::Positions(first.positions().clone());
    let second = consumer(&broker).await.from(at).stop_at_end(true).build();
    assert_eq!(rest(second).await, numbers(7..10));
}

#[tokio::test]
async fn an_offset_outside_the_log_is_an_error_and_then_the_end() {
    let broker = Broker::start().await;
    broker.append(&numbers(0..10));
    let mut consumer = consumer(&broker).await.from(StartAt::Offset(11)).build();
    let error = consumer.next().await.unwrap_err();
    assert_eq!(error.reason(), "OFFSET_OUT_OF_RANGE");
    assert!(consumer.next().await.unwrap().is_none());
    assert_eq!(broker.shared.state.lock().subscriptions.len(), 1, "not worth a second try");
}

#[tokio::test]
async fn a_broker_that_ends_streams_is_asked_again_from_the_next_record_of_the_same_product() {
    let broker = Broker::start().await;
    for n in 0..30 {
        broker.append(&numbers(n * 10..n * 10 + 10));
    }
    broker.shared.state.lock().end_after = Some(4);
    assert_eq!(rest(consumer(&broker).await.stop_at_end(true).build()).await, numbers(0..300));
    let state = broker.shared.state.lock();
    assert_eq!(state.subscriptions.len(), 8);
    for (n, request) in state.subscriptions.iter().enumerate().skip(1) {
        assert_eq!(request.product_id, "01PRODUCT");
        let at = request.start.clone().and_then(|start| start.at);
        let Some(At::Positions(at)) = at else { panic!("{at:?}") };
        assert_eq!(at.positions[0].offset, n as u64 * 40);
    }
}

#[tokio::test]
async fn three_missed_heartbeats_are_a_dead_connection() {
    let broker = Broker::start().await;
    broker.shared.state.lock().mute = true;
    broker.append(&numbers(0..3));
    let builder = consumer(&broker).await.heartbeat_interval(Duration::from_millis(200));
    let mut consumer = builder.stop_at_end(true).build();
    let begun = tokio::time::Instant::now();
    let reading = tokio::spawn(async move { consumer.next().await });
    while broker.shared.state.lock().subscriptions.len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_millis(600), "gave up after {waited:?}");
    broker.shared.state.lock().mute = false;
    assert_eq!(reading.await.unwrap().unwrap().unwrap().len(), 3);
}

#[tokio::test]
async fn a_broker_that_stays_away_is_given_up() {
    let broker = Broker::start().await;
    broker.append(&numbers(0..1));
    let proxy = CuttingProxy::start(broker.address, 0, 0, 1).await;
    let client = Client::connect(proxy.address.to_string()).await.unwrap();
    let builder = client.consumer("ops.flights").give_up_after(Duration::from_millis(300));
    let mut consumer = builder.build();
    consumer.next().await.unwrap();
    drop(proxy);
    let error = consumer.next().await.unwrap_err();
    assert!(["UNREACHABLE", "CONNECTION_LOST"].contains(&error.reason()), "{error}");
    assert!(error.message().contains("ops.flights"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cuts_at_any_byte_leave_no_gap_and_repeat_nothing() {
    const CUTS: u64 = 60;
    const RECORDS: u32 = 40_000;
    let broker = Broker::start().await;
    let mut random = Random::new(3);
    let mut from = 0;
    while from < RECORDS {
        let until = RECORDS.min(from + 1 + random.below(200) as u32);
        broker.append(&numbers(from..until));
        from = until;
    }
    let proxy = CuttingProxy::start(broker.address, 11, CUTS, 15_000).await;
    let client = loop {
        if let Ok(client) = Client::connect(proxy.address.to_string()).await {
            break client;
        }
    };
    let mut consumer = client.consumer("ops.flights").stop_at_end(true).build();
    let mut expected = 0;
    while let Some(record) = consumer.next_record().await.unwrap() {
        assert_eq!(record.offset, expected);
        assert_eq!(record.record.value.unwrap(), expected.to_string());
        expected += 1;
    }
    assert_eq!(expected, u64::from(RECORDS));
    let cuts = proxy.cuts.load(Ordering::Relaxed);
    assert!(cuts > 20, "only {cuts} cuts fell into {RECORDS} records");
}
