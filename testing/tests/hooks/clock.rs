use std::time::{Duration, SystemTime, UNIX_EPOCH};

use meshlog_client::StartAt;
use meshlog_testing::{TestBroker, product};

use super::record;

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn append_times_follow_the_clock_and_reading_by_time_finds_them() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.flights")).await;
    let client = broker.client().await;
    let producer = client.producer("ops.flights").build().unwrap();
    let first = producer.send(record(1)).await.unwrap();
    broker.clock().advance(30 * DAY);
    let second = producer.send(record(2)).await.unwrap();
    assert!(second.append_time >= first.append_time + 30 * DAY);

    let since = StartAt::Time(first.append_time + 29 * DAY);
    let mut consumer = client.consumer("ops.flights").from(since).stop_at_end(true).build();
    assert_eq!(consumer.next_record().await.unwrap().unwrap().record, record(2));
    assert_eq!(consumer.next_record().await.unwrap(), None);
}

#[tokio::test]
async fn a_stopped_clock_gives_exact_times_also_to_the_catalogue() {
    let broker = TestBroker::start().await;
    let noon = UNIX_EPOCH + Duration::from_secs(1_357_041_600);
    broker.clock().stop_at(noon);
    let created = broker.create(product("ops.flights")).await;
    assert_eq!(SystemTime::try_from(created.create_time.unwrap()).unwrap(), noon);
    let client = broker.client().await;
    let producer = client.producer("ops.flights").build().unwrap();
    assert_eq!(producer.send(record(1)).await.unwrap().append_time, noon);
    broker.clock().advance(Duration::from_secs(1));
    assert_eq!(broker.clock().now(), noon + Duration::from_secs(1));
    let ack = producer.send(record(2)).await.unwrap();
    assert_eq!(ack.append_time, noon + Duration::from_secs(1));
    // A clock that goes back does not take the times of a partition back.
    broker.clock().stop_at(noon);
    assert_eq!(producer.send(record(3)).await.unwrap().append_time, ack.append_time);
    broker.clock().reset();
    assert!(producer.send(record(4)).await.unwrap().append_time > ack.append_time + DAY);
}
