use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meshlog_broker::Config;
use meshlog_client::StartAt;
use meshlog_proto::v1;
use meshlog_proto::v1::subscription_service_client::SubscriptionServiceClient;
use meshlog_tests::{TestBroker, append, failure, product};
use tonic::transport::Channel;
use tonic::{Code, Request};

fn cursors(broker: &TestBroker) -> SubscriptionServiceClient<Channel> {
    SubscriptionServiceClient::new(broker.channel())
}

fn commit(etag: &str, positions: &[(u32, u64)]) -> v1::CommitOffsetsRequest {
    let position =
        |(partition, offset): &(u32, u64)| v1::Position { partition: *partition, offset: *offset };
    v1::CommitOffsetsRequest {
        cursor: "nightly-report".to_owned(),
        product: "ops.flights".to_owned(),
        positions: positions.iter().map(position).collect(),
        etag: etag.to_owned(),
        ..v1::CommitOffsetsRequest::default()
    }
}

fn get() -> v1::GetOffsetsRequest {
    v1::GetOffsetsRequest {
        cursor: "nightly-report".to_owned(),
        product: "ops.flights".to_owned(),
        ..v1::GetOffsetsRequest::default()
    }
}

#[tokio::test]
async fn a_cursor_is_kept_over_a_restart_and_says_how_far_behind_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let broker = TestBroker::start_with(Config::at(directory.path())).await;
    broker.create(product("ops.flights").partitions(2)).await;
    for n in 0..6_u32 {
        let request = append("ops.flights").partition(n % 2).value(format!("{n}"));
        broker.records().append(request).await.unwrap();
    }
    let mut request = Request::new(commit("0", &[(0, 2), (1, 3)]));
    request.metadata_mut().insert("meshlog-application", "report".parse().unwrap());
    let committed = cursors(&broker).commit_offsets(request).await.unwrap().into_inner();
    let committed = committed.cursor.unwrap();
    assert_eq!((committed.lag, committed.updated_by.as_str()), (1, "unverified:report"));
    broker.broker().close().await.unwrap();
    drop(broker);

    let broker = TestBroker::start_with(Config::at(directory.path())).await;
    let found = cursors(&broker).get_offsets(get()).await.unwrap().into_inner().cursor.unwrap();
    assert_eq!(found, committed);
    broker.records().append(append("ops.flights").partition(0).value("more")).await.unwrap();
    let listed = cursors(&broker).list_cursors(v1::ListCursorsRequest::default()).await.unwrap();
    let listed = listed.into_inner().cursors;
    assert_eq!((listed.len(), listed[0].lag), (1, 2));
    let next = commit(&committed.etag, &[(0, 4)]);
    cursors(&broker).commit_offsets(next).await.expect("the etag outlives the restart");

    let cursor = "nightly-report".to_owned();
    let delete = v1::DeleteCursorRequest { cursor, product: String::new() };
    cursors(&broker).delete_cursor(delete.clone()).await.unwrap();
    let gone = failure(&cursors(&broker).delete_cursor(delete).await.unwrap_err());
    assert_eq!((gone.code, gone.reason.as_str()), (Code::NotFound, "CURSOR_NOT_FOUND"));
    assert_eq!(gone.metadata["cursor"], "nightly-report");
    broker.broker().close().await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_with_a_commit_is_typed() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.flights")).await;
    let mut cursors = cursors(&broker);
    let above = failure(&cursors.commit_offsets(commit("", &[(0, 1)])).await.unwrap_err());
    assert_eq!((above.code, above.reason.as_str()), (Code::OutOfRange, "OFFSET_OUT_OF_RANGE"));
    assert_eq!((&*above.metadata["start_offset"], &*above.metadata["durable_end"]), ("0", "0"));
    let stale = failure(&cursors.commit_offsets(commit("7", &[(0, 0)])).await.unwrap_err());
    assert_eq!((stale.code, stale.reason.as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    assert_eq!((stale.metadata["etag"].as_str(), stale.applied.as_str()), ("0", "no"));
    let odd = v1::CommitOffsetsRequest { cursor: "Nightly".to_owned(), ..commit("", &[(0, 0)]) };
    let odd = failure(&cursors.commit_offsets(odd).await.unwrap_err());
    assert_eq!((odd.code, odd.reason.as_str()), (Code::InvalidArgument, "NAME_INVALID"));
}

/// A broker with records of two partitions, each its number.
async fn numbers(count: u32) -> meshlog_testing::TestBroker {
    let broker = meshlog_testing::TestBroker::start().await;
    broker.create(product("ops.flights").partitions(2)).await;
    let client = broker.client().await;
    let producer = client.producer("ops.flights").build().unwrap();
    for n in 0..count {
        let record = meshlog_client::Record::new(n.to_string()).key(n.to_string());
        producer.push(&record).await.unwrap();
    }
    producer.close().await.unwrap();
    broker
}

async fn next(consumer: &mut meshlog_client::Consumer, count: usize) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    while found.len() < count {
        let record = consumer.next_record().await.unwrap().expect("there are more");
        let value = record.record.value.unwrap();
        assert!(found.insert(std::str::from_utf8(&value).unwrap().parse().unwrap()));
    }
    found
}

#[tokio::test]
async fn a_consumer_with_a_cursor_goes_on_after_what_it_committed() {
    let broker = numbers(100).await;
    let client = broker.client().await;
    let consumer = || client.consumer("ops.flights").cursor("nightly").stop_at_end(true).build();
    let mut first = consumer();
    let mut read = next(&mut first, 30).await;
    first.commit().await.unwrap();
    next(&mut first, 20).await;
    drop(first);
    let mut second = consumer();
    read.append(&mut next(&mut second, 70).await);
    assert_eq!(read, (0..100).collect(), "what was not committed comes again, all else once");
    assert!(second.next_record().await.unwrap().is_none());
    second.commit().await.unwrap();
    assert!(consumer().next_record().await.unwrap().is_none());

    let back = BTreeMap::from([(1, 0)]);
    second.commit_at(&back).await.unwrap();
    let again = next(&mut consumer(), 40).await;
    assert!(again.len() == 40 && again.is_subset(&read), "partition 1 from its beginning");
    let above = second.commit_at(&BTreeMap::from([(1, 1_000)])).await.unwrap_err();
    assert_eq!(above.reason(), "OFFSET_OUT_OF_RANGE");
    let mut plain = client.consumer("ops.flights").build();
    assert_eq!(plain.commit().await.unwrap_err().reason(), "INVALID_ARGUMENT");
}

#[tokio::test]
async fn a_partition_without_a_position_starts_where_the_consumer_says() {
    let broker = numbers(100).await;
    let client = broker.client().await;
    let builder = || client.consumer("ops.flights").cursor("nightly").stop_at_end(true);
    let mut only = builder().partitions([0]).from(StartAt::Latest).build();
    assert!(only.next_record().await.unwrap().is_none());
    only.commit_at(&BTreeMap::from([(0, 5)])).await.unwrap();
    let rest = |mut consumer: meshlog_client::Consumer| async move {
        let mut places = BTreeMap::new();
        while let Some(record) = consumer.next_record().await.unwrap() {
            places.entry(record.partition).or_insert(record.offset);
        }
        places
    };
    let first = rest(builder().from(StartAt::Latest).build()).await;
    assert_eq!(first, BTreeMap::from([(0, 5)]));
    let first = rest(builder().build()).await;
    assert_eq!(first, BTreeMap::from([(0, 5), (1, 0)]));
    let other = BTreeMap::from([(0, 1), (1, 7)]);
    let first = rest(builder().from(StartAt::Positions(other)).build()).await;
    assert_eq!(first, BTreeMap::from([(0, 5), (1, 7)]));
    let first = rest(builder().partitions([1]).build()).await;
    assert_eq!(first, BTreeMap::from([(1, 0)]), "positions of other partitions do not disturb");
}

#[tokio::test]
async fn a_consumer_is_told_that_another_program_uses_its_cursor() {
    let broker = numbers(100).await;
    let client = broker.client().await;
    let consumer = || client.consumer("ops.flights").cursor("nightly").build();
    let (mut first, mut second) = (consumer(), consumer());
    next(&mut first, 10).await;
    next(&mut second, 20).await;
    second.commit().await.unwrap();
    let told = first.commit().await.unwrap_err();
    assert_eq!(told.reason(), "ETAG_MISMATCH");
    assert!(told.message().contains("another program"), "{told}");
    assert!(first.next_record().await.unwrap().is_some(), "reading goes on");
    second.commit().await.unwrap();
}

/// An answer that is lost leaves in doubt whether the commit was made. Taking it for somebody
/// else's would stop the only program that uses the cursor.
#[tokio::test]
async fn cut_connections_neither_lose_a_commit_nor_look_like_another_program() {
    let broker = numbers(2_000).await;
    let client = broker.client().await;
    let mut consumer =
        client.consumer("ops.flights").cursor("nightly-report").stop_at_end(true).build();
    let mut read = BTreeSet::new();
    let mut abandoned = 0;
    for round in 0..40 {
        read.append(&mut next(&mut consumer, 50).await);
        broker.network().delay_answers(Duration::from_millis(round % 4));
        let cut = async {
            tokio::time::sleep(Duration::from_micros(200 * (round % 10))).await;
            broker.network().cut();
        };
        match round % 3 {
            0 => tokio::join!(consumer.commit(), cut).0.unwrap(),
            // The program does not wait for the answer, and commits again later.
            1 => {
                tokio::select! {
                    biased;
                    committed = consumer.commit() => committed.unwrap(),
                    () = cut => abandoned += 1,
                }
            }
            _ => consumer.commit().await.unwrap(),
        }
    }
    assert_eq!(read, (0..2_000).collect());
    consumer.commit().await.unwrap();
    assert!(abandoned > 0);
    let found = client.catalog().get_offsets(get()).await.unwrap();
    assert_eq!(found.lag, 0);
}
