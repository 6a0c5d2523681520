use std::time::{Duration, Instant};

use meshlog_broker::{Caller, Reason};
use meshlog_client::{Applied, Record, proto};
use meshlog_proto::server_v1;
use meshlog_testing::{TestBroker, TestBrokerBuilder, product};
use prost::Message as _;

use super::{eventually, record};

/// An append as a careful producer sends it: it can be sent again, to the letter.
fn numbered(sequence: u64) -> server_v1::AppendRequest {
    let value = Some(format!("record {sequence}").into());
    let records = vec![proto::Record { value, ..proto::Record::default() }];
    let id = vec![7; 16].into();
    server_v1::AppendRequest {
        product: "ops.flights".to_owned(),
        batch: vec![proto::RecordBatch { records }.encode_to_vec().into()],
        producer: Some(proto::Producer { id, epoch: 0, sequence }),
        ..server_v1::AppendRequest::default()
    }
}

async fn failed_sync(builder: TestBrokerBuilder, crash: bool) {
    let broker = builder.start().await;
    broker.create(product("ops.flights")).await;
    let append = async |request| broker.broker().append(&Caller::default(), request).await;
    append(numbered(0)).await.unwrap();

    broker.disk().fail_next_sync();
    let failed = append(numbered(1)).await.unwrap_err();
    assert_eq!(failed.reason(), Reason::JournalFailed);
    assert_eq!(failed.applied(), meshlog_broker::Applied::Unknown);
    let refused = append(numbered(1)).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::JournalFailed);
    assert_eq!(broker.values("ops.flights").await, ["record 0"], "what is not synced is not read");

    match crash {
        true => broker.crash().await,
        false => broker.restart().await,
    }
    let retried = append(numbered(1)).await.unwrap();
    assert_eq!(retried.duplicate, !crash, "written and found again, or gone");
    assert_eq!(broker.values("ops.flights").await, ["record 0", "record 1"], "stored once");
}

#[tokio::test]
async fn after_a_failed_sync_and_a_restart_the_retry_is_stored_once() {
    failed_sync(TestBroker::builder().on_disk(), false).await;
    failed_sync(TestBroker::builder().on_simulated_disk(), false).await;
    failed_sync(TestBroker::builder().on_simulated_disk(), true).await;
}

#[tokio::test]
async fn a_clients_producer_gets_over_a_failed_sync_by_itself_once_the_broker_is_back() {
    let broker = TestBroker::builder().on_disk().port().start().await;
    broker.create(product("ops.flights")).await;
    let client = broker.client().await;
    let producer = client.producer("ops.flights").build().unwrap();
    producer.send(record(1)).await.unwrap();
    broker.disk().fail_next_sync();
    let delivery = producer.enqueue(&record(2)).await.unwrap();
    eventually("the broker refuses appends", async || {
        let info = client.catalog().server_info().await.unwrap();
        (!info.storage.unwrap().appends_refused.is_empty()).then_some(())
    })
    .await;
    broker.restart().await;
    let ack = delivery.await.unwrap();
    assert_eq!(ack.offset, 1);
    assert_eq!(broker.values("ops.flights").await, ["1", "2"]);
}

#[tokio::test]
async fn a_failed_write_leaves_nothing_of_the_append() {
    let broker = TestBroker::builder().on_disk().start().await;
    broker.create(product("ops.flights")).await;
    let client = broker.client().await;
    let builder = client.producer("ops.flights").delivery_timeout(Duration::from_millis(300));
    let producer = builder.build().unwrap();
    broker.disk().fail_next_write();
    let failed = producer.send(record(1)).await.unwrap_err();
    assert_eq!(failed.applied(), Applied::Unknown, "{failed}");
    broker.restart().await;
    assert_eq!(broker.values("ops.flights").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_full_disk_refuses_appends_until_it_is_freed() {
    for builder in [
        TestBroker::builder(),
        TestBroker::builder().on_disk(),
        TestBroker::builder().on_simulated_disk(),
    ] {
        let broker = builder.start().await;
        broker.create(product("ops.flights")).await;
        let client = broker.client().await;
        broker.disk().fill();
        let records = vec![proto::Record {
            value: Some(vec![b'x'; 100_000].into()),
            ..proto::Record::default()
        }];
        let request = server_v1::AppendRequest {
            product: "ops.flights".to_owned(),
            batch: vec![proto::RecordBatch { records }.encode_to_vec().into()],
            ..server_v1::AppendRequest::default()
        };
        let append = async || broker.broker().append(&Caller::default(), request.clone()).await;
        let mut appended = 0;
        let refused = loop {
            match append().await {
                Ok(_) => appended += 1,
                Err(refused) => break refused,
            }
            assert!(appended < 20, "2 MB went onto a full disk");
        };
        assert_eq!(refused.reason(), Reason::DiskFull, "{refused}");
        assert_eq!(refused.applied(), meshlog_broker::Applied::No);
        assert_eq!(broker.values("ops.flights").await.len(), appended, "reads go on");
        append().await.unwrap_err();

        // A client's producer waits for the space.
        let producer = client.producer("ops.flights").build().unwrap();
        let delivery = producer.enqueue(&Record::new(vec![b'x'; 100_000])).await.unwrap();
        broker.disk().free();
        assert_eq!(delivery.await.unwrap().offset, appended as u64);
    }
}

#[tokio::test]
async fn a_slow_disk_holds_acknowledgements_back_until_it_is_fast_again() {
    let broker = TestBroker::builder().on_disk().start().await;
    broker.create(product("ops.flights")).await;
    let client = broker.client().await;
    let producer = client.producer("ops.flights").build().unwrap();
    producer.send(record(1)).await.unwrap();
    broker.disk().delay_syncs(Duration::from_millis(300));
    let begun = Instant::now();
    producer.send(record(2)).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());

    broker.disk().delay_syncs(Duration::from_secs(60));
    let delivery = producer.enqueue(&record(3)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(broker.values("ops.flights").await, ["1", "2"], "readable after the sync");
    broker.disk().delay_syncs(Duration::ZERO);
    delivery.await.unwrap();
    assert_eq!(broker.values("ops.flights").await, ["1", "2", "3"]);
}
