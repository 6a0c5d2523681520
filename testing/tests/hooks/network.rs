use std::time::{Duration, Instant};

use meshlog_client::Client;
use meshlog_testing::{TestBroker, product};

use super::{eventually, impatient, record};

#[tokio::test]
async fn producers_and_consumers_get_over_a_cut_without_gap_or_repeat() {
    for builder in [TestBroker::builder(), TestBroker::builder().port()] {
        let broker = builder.start().await;
        broker.create(product("ops.flights")).await;
        let client = broker.client().await;
        let producer = client.producer("ops.flights").build().unwrap();
        let mut consumer = client.consumer("ops.flights").build();
        for number in 0..30 {
            // In the middle of what is under way.
            let delivery = producer.enqueue(&record(number)).await.unwrap();
            if number % 3 == 0 {
                broker.network().cut();
            }
            delivery.await.unwrap();
            let found = consumer.next_record().await.unwrap().unwrap();
            assert_eq!((found.offset, found.record), (u64::from(number), record(number)));
        }
        assert_eq!(broker.values("ops.flights").await.len(), 30);
    }
}

#[tokio::test]
async fn a_call_that_is_cut_says_so_and_the_next_one_goes_through() {
    for builder in [TestBroker::builder(), TestBroker::builder().port()] {
        let broker = builder.start().await;
        let client = broker.client().await;
        broker.network().delay_answers(Duration::from_secs(60));
        let asking = tokio::spawn({
            let client = client.clone();
            async move { client.catalog().server_info().await }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        broker.network().cut();
        broker.network().delay_answers(Duration::ZERO);
        assert_eq!(asking.await.unwrap().unwrap_err().reason(), "CONNECTION_LOST");
        client.catalog().server_info().await.unwrap();
    }
}

#[tokio::test]
async fn refused_connections_are_unreachable_and_open_ones_go_on() {
    for (builder, has_port) in
        [(TestBroker::builder(), false), (TestBroker::builder().port(), true)]
    {
        let broker = builder.start().await;
        let open = broker.client().await;
        broker.network().refuse();
        open.catalog().server_info().await.unwrap();
        let refused = Client::over(broker.connector()).await.unwrap_err();
        assert_eq!(refused.reason(), "UNREACHABLE");
        if has_port {
            // Over TCP a connection is closed as soon as it is made.
            let refused = async {
                let client = Client::connect(broker.address().to_string()).await?;
                client.catalog().server_info().await
            };
            let refused = tokio::time::timeout(Duration::from_secs(5), refused).await.unwrap();
            assert_eq!(refused.unwrap_err().reason(), "CONNECTION_LOST");
        }
        broker.network().accept();
        broker.client().await.catalog().server_info().await.unwrap();
    }
}

#[tokio::test]
async fn answers_come_late_and_a_client_with_less_patience_gives_up() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    client.catalog().server_info().await.unwrap();
    broker.network().delay_answers(Duration::from_millis(200));
    let begun = Instant::now();
    client.catalog().server_info().await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(200), "{:?}", begun.elapsed());
    let impatient = impatient(&broker, Duration::from_millis(100)).await;
    let error = impatient.catalog().server_info().await.unwrap_err();
    assert_eq!(error.reason(), "CONNECTION_LOST", "{error}");
    broker.network().delay_answers(Duration::ZERO);
    eventually("it is fast again", async || impatient.catalog().server_info().await.ok()).await;
}

#[tokio::test]
async fn a_client_over_the_port_and_one_in_the_process_see_the_same_broker() {
    let broker = TestBroker::builder().port().start().await;
    broker.create(product("ops.flights")).await;
    let inside = Client::over(broker.connector()).await.unwrap();
    let outside = Client::connect(broker.address().to_string()).await.unwrap();
    inside.producer("ops.flights").build().unwrap().send(record(1)).await.unwrap();
    let mut consumer = outside.consumer("ops.flights").build();
    assert_eq!(consumer.next_record().await.unwrap().unwrap().record, record(1));
}
