use std::time::{Duration, Instant};

use meshlog_proto::v1;
use meshlog_tests::{TestBroker, append, failure, positions, product, read, values};
use tonic::Code;

fn within(millis: u64) -> Option<prost_types::Duration> {
    Some(Duration::from_millis(millis).try_into().unwrap())
}

#[tokio::test]
async fn a_read_from_the_middle_of_a_batch_says_what_to_skip() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    let request = ["0", "1", "2", "3"].into_iter().fold(append("ops.a"), |a, v| a.value(v));
    broker.records().append(request).await.unwrap();
    let request = v1::ReadRequest { start: Some(positions(&[(0, 2)])), ..read("ops.a") };
    let found = broker.records().read(request).await.unwrap().into_inner();
    assert_eq!((found.batches[0].base_offset, found.batches[0].skip), (0, 2));
    assert_eq!(values(&found.batches), ["2", "3"]);
    assert_eq!(found.partitions[0].next_offset, 4);
}

#[tokio::test]
async fn an_offset_outside_the_log_is_refused_with_both_bounds() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    broker.records().append(append("ops.a").value("x").value("y")).await.unwrap();
    let at = |offset| v1::ReadRequest { start: Some(positions(&[(0, offset)])), ..read("ops.a") };
    let refused = failure(&broker.records().read(at(3)).await.unwrap_err());
    assert_eq!((refused.code, refused.reason.as_str()), (Code::OutOfRange, "OFFSET_OUT_OF_RANGE"));
    assert_eq!(refused.metadata["start_offset"], "0");
    assert_eq!(refused.metadata["durable_end"], "2");
    assert!(refused.message.contains("offset 3 of ops.a partition 0"), "{}", refused.message);
    let at_the_end = broker.records().read(at(2)).await.unwrap().into_inner();
    assert!(at_the_end.batches.is_empty());
}

#[tokio::test]
async fn a_long_poll_is_woken_by_the_first_record() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a").partitions(3)).await;
    let mut reader = broker.records();
    let begun = Instant::now();
    let poll = tokio::spawn(async move {
        reader.read(v1::ReadRequest { max_wait: within(30_000), ..read("ops.a") }).await
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    broker.records().append(append("ops.a").value("late").partition(2)).await.unwrap();
    let found = poll.await.unwrap().unwrap().into_inner();
    assert_eq!(values(&found.batches), ["late"]);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_long_poll_without_records_ends_in_time_with_the_positions() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    let begun = Instant::now();
    let request = v1::ReadRequest { max_wait: within(200), ..read("ops.a") };
    let found = broker.records().read(request).await.unwrap().into_inner();
    assert!(found.batches.is_empty());
    assert_eq!(found.partitions.len(), 1);
    assert!(begun.elapsed() >= Duration::from_millis(200));
    let request = v1::ReadRequest { max_wait: within(61_000), ..read("ops.a") };
    let refused = failure(&broker.records().read(request).await.unwrap_err());
    assert_eq!(refused.violations[0].0, "max_wait");
}

#[tokio::test]
async fn a_read_returns_a_batch_however_small_its_budget() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    for _ in 0..3 {
        broker.records().append(append("ops.a").value(vec![0; 100_000])).await.unwrap();
    }
    let request = v1::ReadRequest { max_bytes: 1, ..read("ops.a") };
    let found = broker.records().read(request).await.unwrap().into_inner();
    assert_eq!(found.batches.len(), 1);
    let request = v1::ReadRequest { max_bytes: 250_000, ..read("ops.a") };
    let found = broker.records().read(request).await.unwrap().into_inner();
    assert_eq!(found.batches.len(), 2);
}

#[tokio::test]
async fn many_tiny_batches_stay_within_one_frame() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    let requests = (0..30_000).map(|n| append("ops.a").value("").numbered(n));
    let stream = tokio_stream::iter(requests.collect::<Vec<_>>());
    let mut acks = broker.records().append_stream(stream).await.unwrap().into_inner();
    while acks.message().await.unwrap().is_some() {}
    let mut client = broker.records().max_decoding_message_size(4 << 20);
    let request = v1::ReadRequest { max_bytes: u32::MAX, ..read("ops.a") };
    let found = client.read(request).await.unwrap().into_inner();
    assert!(found.batches.len() > 20_000, "{}", found.batches.len());
}

#[tokio::test]
async fn no_partition_starves_behind_a_full_one() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a").partitions(4)).await;
    for partition in 0..4 {
        for _ in 0..8 {
            let request = append("ops.a").value(vec![0; 200_000]).partition(partition);
            broker.records().append(request).await.unwrap();
        }
    }
    let found = broker.records().read(read("ops.a")).await.unwrap().into_inner();
    let seen: std::collections::BTreeSet<u32> =
        found.batches.iter().map(|batch| batch.partition).collect();
    assert_eq!(seen.len(), 4, "one read serves all four: {seen:?}");
}

#[tokio::test]
async fn a_read_starts_where_it_is_told() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    let mut records = broker.records();
    records.append(append("ops.a").value("old")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let second = records.append(append("ops.a").value("new")).await.unwrap().into_inner();
    let start = |at| v1::ReadRequest { start: Some(v1::Start { at: Some(at) }), ..read("ops.a") };
    let time = second.ranges[0].append_time.unwrap();
    let found = records.read(start(v1::start::At::AppendTime(time))).await.unwrap().into_inner();
    assert_eq!(values(&found.batches), ["new"]);
    let latest = v1::start::At::Edge(v1::StartEdge::Latest.into());
    let found = records.read(start(latest)).await.unwrap().into_inner();
    assert!(found.batches.is_empty());
    assert_eq!(found.partitions[0].next_offset, 2);
}
