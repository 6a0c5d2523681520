use std::time::{Duration, Instant};

use meshlog_proto::v1;
use meshlog_tests::{TestBroker, append, failure, positions, product, subscribe, values};
use tonic::Streaming;

async fn open(
    broker: &TestBroker,
    request: v1::SubscribeRequest,
) -> Streaming<v1::SubscribeResponse> {
    broker.records().subscribe(request).await.unwrap().into_inner()
}

async fn next(stream: &mut Streaming<v1::SubscribeResponse>) -> v1::SubscribeResponse {
    let message = tokio::time::timeout(Duration::from_secs(20), stream.message());
    message.await.expect("a message in time").unwrap().expect("the stream goes on")
}

#[tokio::test]
async fn the_first_message_has_the_resolved_positions() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a").partitions(2)).await;
    broker.records().append(append("ops.a").value("x").partition(1)).await.unwrap();
    let latest = v1::start::At::Edge(v1::StartEdge::Latest.into());
    let request =
        v1::SubscribeRequest { start: Some(v1::Start { at: Some(latest) }), ..subscribe("ops.a") };
    let mut stream = open(&broker, request).await;
    let first = next(&mut stream).await;
    assert!(first.batches.is_empty());
    let next: Vec<u64> = first.partitions.iter().map(|state| state.next_offset).collect();
    assert_eq!(next, [0, 1]);
}

#[tokio::test]
async fn history_then_live_without_a_gap_or_a_repeat() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a").partitions(3)).await;
    let writer = broker.records();
    let write = |mut writer: meshlog_proto::v1::record_service_client::RecordServiceClient<_>,
                 range: std::ops::Range<u32>| async move {
        for n in range {
            let request = append("ops.a").value(n.to_string()).partition(n % 3);
            writer.append(request).await.unwrap();
        }
    };
    write(writer.clone(), 0..300).await;
    let live = tokio::spawn(write(writer, 300..1_500));
    let mut stream = open(&broker, subscribe("ops.a")).await;
    let mut seen: [Vec<u32>; 3] = Default::default();
    let mut expected = [0_u64; 3];
    while seen.iter().map(Vec::len).sum::<usize>() < 1_500 {
        let message = next(&mut stream).await;
        for batch in &message.batches {
            let partition = batch.partition as usize;
            assert_eq!(batch.base_offset + u64::from(batch.skip), expected[partition]);
            expected[partition] = batch.base_offset + u64::from(batch.count);
            let numbers = values(std::slice::from_ref(batch));
            seen[partition].extend(numbers.iter().map(|number| number.parse::<u32>().unwrap()));
        }
        for state in &message.partitions {
            assert_eq!(state.next_offset, expected[state.partition as usize]);
        }
    }
    live.await.unwrap();
    for (partition, numbers) in (0..).zip(&seen) {
        assert!(numbers.iter().copied().eq((0..1_500).filter(|n| n % 3 == partition)));
    }
}

#[tokio::test]
async fn an_idle_subscription_is_kept_alive_by_heartbeats_with_all_positions() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a").partitions(2)).await;
    let heartbeat_interval = Some(Duration::from_secs(1).try_into().unwrap());
    let request = v1::SubscribeRequest { heartbeat_interval, ..subscribe("ops.a") };
    let mut stream = open(&broker, request).await;
    next(&mut stream).await;
    let begun = Instant::now();
    for _ in 0..2 {
        let heartbeat = next(&mut stream).await;
        assert!(heartbeat.batches.is_empty());
        assert_eq!(heartbeat.partitions.len(), 2);
    }
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(1_900), "two heartbeats in {took:?}");

    let heartbeat_interval = Some(Duration::from_millis(10).try_into().unwrap());
    let request = v1::SubscribeRequest { heartbeat_interval, ..subscribe("ops.a") };
    let refused = broker.records().subscribe(request).await.unwrap_err();
    assert_eq!(failure(&refused).violations[0].0, "heartbeat_interval");
}

#[tokio::test]
async fn a_subscription_that_stops_at_the_end_sees_what_was_there_when_it_began() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    for n in 0..10 {
        broker.records().append(append("ops.a").value(n.to_string())).await.unwrap();
    }
    let request = v1::SubscribeRequest { stop_at_end: true, ..subscribe("ops.a") };
    let mut stream = open(&broker, request).await;
    let first = next(&mut stream).await;
    assert_eq!(first.partitions[0].durable_end, 10);
    broker.records().append(append("ops.a").value("too late")).await.unwrap();
    let mut seen = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        seen.extend(values(&message.batches));
    }
    assert_eq!(seen, (0..10).map(|n| n.to_string()).collect::<Vec<_>>());

    broker.create(product("ops.empty")).await;
    let request = v1::SubscribeRequest { stop_at_end: true, ..subscribe("ops.empty") };
    let mut stream = open(&broker, request).await;
    next(&mut stream).await;
    assert!(stream.message().await.unwrap().is_none(), "an empty product ends at once");
}

#[tokio::test]
async fn a_subscription_starts_in_the_middle_of_a_batch() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    let request = ["0", "1", "2"].into_iter().fold(append("ops.a"), |a, v| a.value(v));
    broker.records().append(request).await.unwrap();
    let request = v1::SubscribeRequest { start: Some(positions(&[(0, 1)])), ..subscribe("ops.a") };
    let mut stream = open(&broker, request).await;
    assert_eq!(next(&mut stream).await.partitions[0].next_offset, 1);
    assert_eq!(values(&next(&mut stream).await.batches), ["1", "2"]);
}

#[tokio::test]
async fn a_start_outside_the_log_is_refused_before_anything_is_sent() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    let request = v1::SubscribeRequest { start: Some(positions(&[(0, 1)])), ..subscribe("ops.a") };
    let refused = broker.records().subscribe(request).await.unwrap_err();
    assert_eq!(failure(&refused).reason, "OFFSET_OUT_OF_RANGE");
}

#[tokio::test]
async fn a_deleted_product_ends_its_subscriptions_with_the_reason() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    let heartbeat_interval = Some(Duration::from_secs(1).try_into().unwrap());
    let request = v1::SubscribeRequest { heartbeat_interval, ..subscribe("ops.a") };
    let mut stream = open(&broker, request).await;
    next(&mut stream).await;
    let request = v1::DeleteProductRequest {
        name: "ops.a".to_owned(),
        ..v1::DeleteProductRequest::default()
    };
    broker.catalog().delete_product(request).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), stream.message()).await;
    let ended = failure(&ended.expect("an end in time").unwrap_err());
    assert_eq!(ended.reason, "PRODUCT_NOT_FOUND");
    assert!(ended.message.contains("ops.a was deleted"), "{}", ended.message);
}

#[tokio::test]
async fn a_consumer_that_does_not_read_holds_up_nobody() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    for _ in 0..20 {
        broker.records().append(append("ops.a").value(vec![0; 1_000_000])).await.unwrap();
    }
    let mut stalled =
        meshlog_proto::v1::record_service_client::RecordServiceClient::new(broker.connect());
    let stalled = stalled.subscribe(subscribe("ops.a")).await.unwrap();
    let request = v1::SubscribeRequest { stop_at_end: true, ..subscribe("ops.a") };
    let mut stream = open(&broker, request).await;
    let mut records = 0;
    while let Some(message) = stream.message().await.unwrap() {
        records += values(&message.batches).len();
    }
    assert_eq!(records, 20);
    broker.records().append(append("ops.a").value("goes on")).await.unwrap();
    drop(stalled);
}

struct Wakes(std::sync::atomic::AtomicUsize);

impl std::task::Wake for Wakes {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

#[tokio::test]
async fn an_idle_subscription_is_woken_by_nothing_until_a_record_comes() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a").partitions(4)).await;
    broker.create(product("ops.b")).await;
    let mut subscription = broker
        .broker()
        .subscribe(&meshlog_broker::Caller::default(), subscribe("ops.a"))
        .await
        .unwrap();
    subscription.next().await.unwrap().unwrap();
    let mut message = Box::pin(subscription.next());
    let wakes = std::sync::Arc::new(Wakes(0.into()));
    let waker = std::task::Waker::from(std::sync::Arc::clone(&wakes));
    let mut context = std::task::Context::from_waker(&waker);
    assert!(message.as_mut().poll(&mut context).is_pending());
    let count = || wakes.0.load(std::sync::atomic::Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(500)).await;
    broker.records().append(append("ops.b").value("another product")).await.unwrap();
    assert_eq!(count(), 0, "nobody wakes an idle subscription");
    broker.records().append(append("ops.a").value("x").partition(3)).await.unwrap();
    // The acknowledgement may come a moment before the wake-up.
    for _ in 0..1_000 {
        if count() > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(count(), 1);
    let std::task::Poll::Ready(Some(Ok(message))) = message.as_mut().poll(&mut context) else {
        panic!("one wake-up, one message");
    };
    assert_eq!(message.batches.len(), 1);
}
