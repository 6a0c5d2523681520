//! Order, retries and failures of a producer.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use meshlog_client::{Applied, BatchOutcome, Client, OnFailure, ProducerBuilder, Record};
use parking_lot::Mutex;
use tonic::Code;

use crate::{
    broker::{Broker, Fault},
    proxy::CuttingProxy,
};

async fn producer(broker: &Broker) -> ProducerBuilder {
    let client = Client::connect(broker.address.to_string()).await.expect("a broker");
    client.producer("ops.flights")
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// One batch per record, so that tests decide which one fails.
async fn send_singly(builder: ProducerBuilder, count: u32) -> Vec<BatchOutcome> {
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let seen = outcomes.clone();
    let builder = builder.batch_bytes(1).on_outcome(move |one| seen.lock().push(one.clone()));
    let producer = builder.build().expect("valid");
    for value in numbers(0..count) {
        // A producer told to stop takes no more.
        if producer.push(value.as_str()).await.is_err() {
            break;
        }
    }
    let _ = producer.close().await;
    let outcomes = outcomes.lock();
    outcomes.clone()
}

#[tokio::test]
async fn records_are_acknowledged_with_their_offsets_in_the_order_of_handing_over() {
    let broker = Broker::start().await;
    let producer = producer(&broker).await.build().unwrap();
    let mut deliveries = Vec::new();
    for value in numbers(0..1000) {
        deliveries.push(producer.enqueue(value.as_str()).await.unwrap());
    }
    for (offset, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(delivery.await.unwrap().offset, offset as u64);
    }
    let ack = producer.send(Record::new("1000").key("k")).await.unwrap();
    assert_eq!((ack.partition, ack.offset, ack.duplicate), (0, 1000, false));
    producer.close().await.unwrap();
    assert_eq!(broker.values(), numbers(0..1001));
    let state = broker.shared.state.lock();
    assert!(
        state.appends < 500,
        "{} requests for 1001 records: nothing was batched",
        state.appends
    );
}

#[tokio::test]
async fn a_batch_is_appended_by_itself_behind_what_was_handed_over_before() {
    let broker = Broker::start().await;
    let producer = producer(&broker).await.linger(Duration::from_secs(5)).build().unwrap();
    producer.push("0").await.unwrap();
    producer.push("1").await.unwrap();
    let ack = producer.send_batch(["2", "3", "4"]).await.unwrap();
    assert_eq!((ack.ranges[0].first_offset, ack.ranges[0].last_offset()), (2, 4));
    assert_eq!(ack.count(), 3);
    producer.close().await.unwrap();
    assert_eq!(broker.values(), numbers(0..5));
}

#[tokio::test]
async fn a_batch_whose_acknowledgement_was_lost_is_sent_again_and_appended_once() {
    let faults = [Fault::None, Fault::AppendAndHangUp];
    let broker = Broker::with_faults(faults).await;
    let outcomes = send_singly(producer(&broker).await, 20).await;
    assert_eq!(broker.values(), numbers(0..20));
    let duplicates = |one: &&BatchOutcome| one.result.as_ref().unwrap().duplicate;
    assert_eq!(outcomes.iter().filter(duplicates).count(), 1);
    assert_eq!(broker.shared.state.lock().duplicates, 1);
}

#[tokio::test]
async fn an_overloaded_broker_gets_everything_later_and_in_order() {
    let faults = [Fault::None, Fault::None, Fault::overloaded(), Fault::overloaded(), Fault::None];
    let broker = Broker::with_faults(faults).await;
    let outcomes = send_singly(producer(&broker).await, 50).await;
    assert!(outcomes.iter().all(|one| one.result.is_ok()));
    assert_eq!(broker.values(), numbers(0..50));
}

#[tokio::test]
async fn a_refused_batch_fails_alone_and_its_place_is_taken_by_the_next() {
    let broker = Broker::with_faults([Fault::None, Fault::None, Fault::rejected()]).await;
    let outcomes = send_singly(producer(&broker).await, 30).await;
    let mut expected = numbers(0..30);
    expected.remove(2);
    assert_eq!(broker.values(), expected);

    assert_eq!(outcomes.len(), 30);
    for (n, one) in outcomes.iter().enumerate() {
        assert_eq!((one.first_record, one.count), (n as u64, 1));
        assert_eq!(one.result.is_err(), n == 2);
    }
    let error = outcomes[2].result.as_ref().unwrap_err();
    assert_eq!((error.reason(), error.applied()), ("SCHEMA_REJECTED", Applied::No));
    assert!(error.message().contains("ops.flights"), "{error}");
    assert_eq!(broker.shared.state.lock().epochs, 0, "a definite refusal needs no new epoch");
}

#[tokio::test]
async fn a_producer_told_to_stop_appends_nothing_behind_a_failure() {
    let broker = Broker::with_faults([Fault::None, Fault::None, Fault::rejected()]).await;
    let builder = producer(&broker).await.on_failure(OnFailure::Stop);
    let outcomes = send_singly(builder, 30).await;
    assert_eq!(broker.values(), numbers(0..2));
    assert_eq!(outcomes[2].result.as_ref().unwrap_err().reason(), "SCHEMA_REJECTED");
    for one in &outcomes[3..] {
        let error = one.result.as_ref().unwrap_err();
        assert_eq!((error.reason(), error.applied()), ("PRECEDING_FAILED", Applied::No));
    }
}

#[tokio::test]
async fn flush_waits_for_everything_and_tells_the_first_failure_once() {
    let broker = Broker::with_faults([Fault::rejected()]).await;
    let producer = producer(&broker).await.linger(Duration::from_secs(60)).build().unwrap();
    producer.push("bad").await.unwrap();
    assert_eq!(producer.flush().await.unwrap_err().reason(), "SCHEMA_REJECTED");
    producer.push("good").await.unwrap();
    producer.flush().await.unwrap();
    assert_eq!(broker.values(), ["good"]);
    producer.flush().await.unwrap();
}

#[tokio::test]
async fn a_forgotten_producer_comes_back_in_a_new_epoch() {
    let broker = Broker::with_faults([Fault::None, Fault::unknown_producer()]).await;
    let outcomes = send_singly(producer(&broker).await, 10).await;
    assert!(outcomes.iter().all(|one| one.result.is_ok()));
    assert_eq!(broker.values(), numbers(0..10));
    assert_eq!(broker.shared.state.lock().epochs, 1);
}

#[tokio::test]
async fn an_unknown_outcome_that_stays_unknown_fails_as_unknown_and_the_rest_goes_on() {
    let broker = Broker::with_faults([Fault::None, Fault::Swallow]).await;
    let builder = producer(&broker).await.delivery_timeout(Duration::from_millis(300));
    let producer = builder.linger(Duration::ZERO).build().unwrap();
    producer.send(Record::new("0")).await.unwrap();
    let error = producer.send(Record::new("lost")).await.unwrap_err();
    assert_eq!((error.reason(), error.applied()), ("DELIVERY_TIMEOUT", Applied::Unknown));
    // In a new epoch: the old sequence must never stand for other records.
    producer.send(Record::new("1")).await.unwrap();
    assert_eq!(broker.values(), numbers(0..2));
    assert_eq!(broker.shared.state.lock().epochs, 1);
}

#[tokio::test]
async fn a_failure_that_may_have_been_applied_is_never_called_not_applied() {
    let code = Code::DataLoss;
    let fault = Fault::Refuse { code, reason: "JOURNAL_FAILED", applied: "unknown", retry: None };
    let broker = Broker::with_faults([Fault::None, fault]).await;
    let outcomes = send_singly(producer(&broker).await, 5).await;
    let error = outcomes[1].result.as_ref().unwrap_err();
    assert_eq!((error.reason(), error.applied()), ("JOURNAL_FAILED", Applied::Unknown));
    assert_eq!(broker.values(), ["0", "2", "3", "4"]);
}

#[tokio::test]
async fn without_a_broker_records_fail_in_time_and_certainly_not_applied() {
    let broker = Broker::start().await;
    let builder = producer(&broker).await.delivery_timeout(Duration::from_millis(300));
    let producer = builder.build().unwrap();
    drop(broker);
    let error = producer.send(Record::new("0")).await.unwrap_err();
    assert_eq!((error.reason(), error.applied()), ("DELIVERY_TIMEOUT", Applied::No));
    assert!(error.message().contains("no broker answers"), "{error}");
}

#[tokio::test]
async fn handing_over_waits_while_too_many_bytes_are_under_way() {
    let broker = Broker::with_faults([Fault::Swallow]).await;
    let builder = producer(&broker).await.max_in_flight_bytes(1000).batch_bytes(100);
    let producer = builder.build().unwrap();
    let value = "x".repeat(90);
    let mut taken = 0;
    while tokio::time::timeout(Duration::from_millis(200), producer.push(value.as_str()))
        .await
        .is_ok()
    {
        taken += 1;
        assert!(taken < 100, "nothing ever waits");
    }
    assert_eq!(taken, 10, "94 bytes each, 1000 under way");
}

#[tokio::test]
async fn a_producer_expecting_an_offset_notices_another_writer() {
    let broker = Broker::start().await;
    broker.append(&numbers(0..3));
    let owner = producer(&broker).await.expected_offset(3).build().unwrap();
    assert_eq!(owner.send(Record::new("3")).await.unwrap().offset, 3);
    assert_eq!(owner.send_batch(["4", "5"]).await.unwrap().ranges[0].first_offset, 4);
    assert_eq!(owner.send(Record::new("6")).await.unwrap().offset, 6);
    broker.append(&["intruder".to_owned()]);
    assert_eq!(owner.send(Record::new("7")).await.unwrap_err().reason(), "OFFSET_MISMATCH");
}

#[tokio::test]
async fn a_record_too_large_is_refused_before_it_is_sent_and_harms_nothing() {
    let broker = Broker::start().await;
    let producer = producer(&broker).await.build().unwrap();
    let error = producer.push(&vec![b'x'; (1 << 20) + 1][..]).await.unwrap_err();
    assert_eq!((error.reason(), error.applied()), ("TOO_LARGE", Applied::No));
    producer.push(&vec![b'x'; (1 << 20) - 10][..]).await.unwrap();
    producer.close().await.unwrap();
    assert_eq!(broker.values().len(), 1);
}

#[tokio::test]
async fn a_dropped_producer_finishes_in_the_background_and_a_closed_one_takes_nothing() {
    let broker = Broker::start().await;
    let builder = producer(&broker).await.linger(Duration::from_secs(60));
    let producer = builder.build().unwrap();
    producer.push("0").await.unwrap();
    let delivery = producer.enqueue("1").await.unwrap();
    drop(producer);
    assert_eq!(delivery.await.unwrap().offset, 1);
    assert_eq!(broker.values(), numbers(0..2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cuts_at_any_byte_lose_nothing_repeat_nothing_and_keep_the_order() {
    const CUTS: u64 = 60;
    let value = |n: usize| format!("{n:0>100}");
    let broker = Broker::start().await;
    let proxy = CuttingProxy::start(broker.address, 7, CUTS, 400_000).await;
    // The first connection of a client is for single calls, and may be cut while it is made.
    let client = loop {
        if let Ok(client) = Client::connect(proxy.address.to_string()).await {
            break client;
        }
    };
    let builder = client.producer("ops.flights").batch_bytes(2_000);
    let producer = builder.max_in_flight_bytes(500_000).build().unwrap();
    let mut count = 0;
    // The connection for single calls stays idle and so is never cut.
    while proxy.cuts.load(Ordering::Relaxed) < CUTS - 1 {
        for _ in 0..50 {
            producer.push(value(count).as_str()).await.unwrap();
            count += 1;
        }
        tokio::task::yield_now().await;
        assert!(count < 1_000_000, "the proxy does not cut");
    }
    producer.close().await.unwrap();
    let values = broker.values();
    assert_eq!(values.len(), count);
    assert!(values.iter().enumerate().all(|(n, text)| *text == value(n)));
    assert!(broker.shared.state.lock().duplicates > 0, "no acknowledgement was ever lost");
}
