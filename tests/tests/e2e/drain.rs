use std::time::{Duration, Instant};

use meshlog_proto::v1;
use meshlog_tests::{TestBroker, append, failure, product, read, subscribe};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

#[tokio::test]
async fn a_subscription_is_told_where_to_resume() {
    let mut broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    broker.records().append(append("ops.a").value("x").value("y")).await.unwrap();
    let mut stream = broker.records().subscribe(subscribe("ops.a")).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    stream.message().await.unwrap().unwrap();
    let server = broker.begin_shutdown();
    let last = stream.message().await.unwrap().unwrap();
    assert!(last.batches.is_empty());
    assert_eq!(last.partitions[0].next_offset, 2);
    let ended = failure(&stream.message().await.unwrap_err());
    assert_eq!(ended.reason, "SHUTTING_DOWN");
    assert_eq!(ended.metadata["resume"], "0:2");
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn calls_under_way_end_quickly_and_no_new_connection_is_taken() {
    let mut broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    let mut poller = broker.records();
    let wait = Some(Duration::from_secs(60).try_into().unwrap());
    let poll = tokio::spawn(async move {
        poller.read(v1::ReadRequest { max_wait: wait, ..read("ops.a") }).await
    });
    let (sender, requests) = mpsc::channel(4);
    let mut writer = broker.records();
    sender.send(append("ops.a").value("x").numbered(1)).await.unwrap();
    let mut acks = writer.append_stream(ReceiverStream::new(requests)).await.unwrap().into_inner();
    acks.message().await.unwrap().unwrap();
    let address = broker.address();
    let begun = Instant::now();
    broker.begin_shutdown().await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "drained in {:?}", begun.elapsed());
    // The poll may have been answered by the append.
    if let Err(status) = poll.await.unwrap() {
        assert_eq!(failure(&status).reason, "SHUTTING_DOWN");
    }
    let ended = acks.message().await.unwrap_err();
    assert_eq!(failure(&ended).reason, "SHUTTING_DOWN");
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens");
    drop(sender);
}

#[tokio::test]
async fn a_client_that_does_not_read_cannot_hold_up_the_end() {
    let mut config = meshlog_broker::Config::default();
    config.edge.drain_deadline = "500ms".parse().unwrap();
    let mut broker = TestBroker::start_with(config).await;
    broker.create(product("ops.a")).await;
    for _ in 0..12 {
        broker.records().append(append("ops.a").value(vec![0; 1_000_000])).await.unwrap();
    }
    let mut stalled = v1::record_service_client::RecordServiceClient::new(broker.connect());
    let stalled = stalled.subscribe(subscribe("ops.a")).await.unwrap();
    let begun = Instant::now();
    broker.begin_shutdown().await.unwrap().unwrap();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "drained in {took:?}");
    drop(stalled);
}

#[tokio::test]
async fn the_broker_survives_its_server() {
    let mut broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    broker.begin_shutdown().await.unwrap().unwrap();
    let request = v1::ReadRequest { product: "ops.a".to_owned(), ..v1::ReadRequest::default() };
    broker.broker().read(&meshlog_broker::Caller::default(), request).await.unwrap();
    broker.broker().close().await.unwrap();
}
