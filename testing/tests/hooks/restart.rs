use std::time::Duration;

use meshlog_client::Durability;
use meshlog_testing::{TestBroker, product};

use super::record;

#[tokio::test]
async fn a_restart_keeps_the_data_and_clients_go_on_at_the_same_address() {
    for builder in [TestBroker::builder().on_disk(), TestBroker::builder().on_simulated_disk()] {
        for builder in [builder.clone(), builder.port()] {
            let broker = builder.start().await;
            let created = broker.create(product("ops.flights")).await;
            let client = broker.client().await;
            let producer = client.producer("ops.flights").build().unwrap();
            let mut consumer = client.consumer("ops.flights").build();
            assert_eq!(producer.send(record(1)).await.unwrap().durability, Durability::Synced);
            assert_eq!(consumer.next_record().await.unwrap().unwrap().record, record(1));
            broker.restart().await;
            // The same producer and the same consumer.
            assert_eq!(producer.send(record(2)).await.unwrap().offset, 1);
            assert_eq!(consumer.next_record().await.unwrap().unwrap().record, record(2));
            assert_eq!(broker.values("ops.flights").await, ["1", "2"]);
            let found = broker.client().await.catalog().get_product("ops.flights").await.unwrap();
            assert_eq!(found.id, created.id);
        }
    }
}

#[tokio::test]
async fn in_memory_a_restart_takes_everything() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.flights")).await;
    broker.restart().await;
    let client = broker.client().await;
    let error = client.catalog().get_product("ops.flights").await.unwrap_err();
    assert_eq!(error.reason(), "PRODUCT_NOT_FOUND");
}

#[tokio::test]
async fn a_crash_takes_what_was_not_synced_and_nothing_else() {
    let broker = TestBroker::builder().on_simulated_disk().start().await;
    broker.create(product("ops.flights")).await;
    let client = broker.client().await;
    let producer = client.producer("ops.flights").build().unwrap();
    assert_eq!(producer.send(record(1)).await.unwrap().durability, Durability::Synced);

    broker.disk().delay_syncs(Duration::from_secs(60));
    let hasty = client.producer("ops.flights").durability(Durability::Written).build().unwrap();
    assert_eq!(hasty.send(record(2)).await.unwrap().durability, Durability::Written);
    broker.crash().await;
    assert_eq!(broker.values("ops.flights").await, ["1"], "written is not synced");
    assert_eq!(producer.send(record(3)).await.unwrap().offset, 1);
}

#[tokio::test]
#[should_panic(expected = "on_simulated_disk()")]
async fn a_crash_without_the_simulated_disk_says_how_to_have_one() {
    TestBroker::builder().on_disk().start().await.crash().await;
}

#[tokio::test]
async fn a_reset_makes_it_as_new_at_the_same_address() {
    for builder in [
        TestBroker::builder(),
        TestBroker::builder().on_disk(),
        TestBroker::builder().on_simulated_disk(),
    ] {
        let broker = builder.port().start().await;
        let address = broker.address();
        let before = broker.create(product("ops.flights")).await;
        let client = broker.client().await;
        let producer = client.producer("ops.flights").build().unwrap();
        producer.send(record(1)).await.unwrap();
        broker.clock().advance(Duration::from_secs(1_000_000));
        broker.disk().fail_next_sync();
        broker.network().refuse();

        broker.reset().await;
        assert_eq!(broker.address(), address);
        let ahead = broker.clock().now().duration_since(std::time::SystemTime::now());
        assert!(ahead.unwrap_or_default() < Duration::from_secs(1));
        let client = broker.client().await;
        let gone = client.catalog().get_product("ops.flights").await.unwrap_err();
        assert_eq!(gone.reason(), "PRODUCT_NOT_FOUND");
        assert_ne!(broker.create(product("ops.flights")).await.id, before.id);
        let producer = client.producer("ops.flights").build().unwrap();
        assert_eq!(producer.send(record(2)).await.unwrap().offset, 0);
    }
}
