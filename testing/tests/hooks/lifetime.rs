use std::time::{Duration, Instant};

use meshlog_client::Client;
use meshlog_testing::{TestBroker, product};

use super::record;

/// The fastest of several, because the machine runs other tests at the same time.
async fn fastest(mut work: impl AsyncFnMut()) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..20 {
        let begun = Instant::now();
        work().await;
        best = best.min(begun.elapsed());
    }
    best
}

#[tokio::test]
async fn a_broker_in_memory_is_there_at_once() {
    let start = fastest(async || drop(TestBroker::start().await)).await;
    let broker = TestBroker::start().await;
    let reset = fastest(async || broker.reset().await).await;
    println!("start and drop: {start:?}, reset: {reset:?} (goal: 5 ms each)");
    let bound = if cfg!(debug_assertions) { 100 } else { 5 };
    assert!(start < Duration::from_millis(bound), "start and drop took {start:?}");
    assert!(reset < Duration::from_millis(bound), "reset took {reset:?}");
}

async fn writes_and_reads(broker: &TestBroker) {
    broker.create(product("ops.flights")).await;
    let client = broker.client().await;
    let producer = client.producer("ops.flights").build().unwrap();
    producer.send(record(7)).await.unwrap();
    let mut consumer = client.consumer("ops.flights").build();
    assert_eq!(consumer.next_record().await.unwrap().unwrap().record, record(7));
    assert_eq!(broker.values("ops.flights").await, ["7"]);
}

#[tokio::test]
async fn it_works_on_one_thread() {
    writes_and_reads(&TestBroker::start().await).await;
    writes_and_reads(&TestBroker::builder().port().start().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_works_on_several_threads() {
    writes_and_reads(&TestBroker::builder().on_disk().start().await).await;
    writes_and_reads(&TestBroker::builder().on_simulated_disk().port().start().await).await;
}

#[tokio::test]
async fn many_live_in_one_process_and_know_nothing_of_each_other() {
    let mut tasks = Vec::new();
    for _ in 0..40 {
        tasks.push(tokio::spawn(async { writes_and_reads(&TestBroker::start().await).await }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn it_answers_while_the_test_blocks() {
    let broker = TestBroker::builder().port().start().await;
    let address = broker.address();
    let other = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = Client::connect(address.to_string()).await.unwrap();
            client.catalog().server_info().await.unwrap().api_version
        })
    });
    assert_eq!(other.join().unwrap(), "v1");
}

/// Threads of brokers in this process.
#[cfg(target_os = "linux")]
fn directory_of(broker: &TestBroker) -> std::path::PathBuf {
    broker.broker().config().data_dir.clone().unwrap()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_test_that_panics_leaves_nothing_behind() {
    let broker = TestBroker::builder().on_disk().port().start().await;
    let (directory, address) = (directory_of(&broker), broker.address());
    assert!(directory.exists());
    let client = broker.client().await;
    let embedded = broker.broker();
    let panicked = tokio::spawn(async move {
        let _broker = broker;
        panic!("a failed assertion");
    });
    assert!(panicked.await.unwrap_err().is_panic());
    assert!(!directory.exists(), "the directory stayed");
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "somebody listens");
    client.catalog().server_info().await.unwrap_err();
    // The storage is closed although somebody still has a handle.
    let refused = embedded
        .read(&meshlog_broker::Caller::default(), meshlog_client::proto::ReadRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), meshlog_broker::Reason::ShuttingDown);
}

#[tokio::test]
async fn a_broker_is_dropped_at_once_under_open_streams_and_slow_syncs() {
    let broker = TestBroker::builder().on_disk().port().start().await;
    broker.create(product("ops.flights")).await;
    let client = broker.client().await;
    let mut consumer = client.consumer("ops.flights").build();
    let producer = client.producer("ops.flights").build().unwrap();
    producer.send(record(1)).await.unwrap();
    consumer.next_record().await.unwrap();
    broker.disk().delay_syncs(Duration::from_secs(60));
    let _under_way = producer.enqueue(&record(2)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let begun = Instant::now();
    drop(broker);
    assert!(begun.elapsed() < Duration::from_secs(2), "dropped in {:?}", begun.elapsed());
}

#[tokio::test]
#[should_panic(expected = "this broker has no port")]
async fn an_address_without_a_port_says_how_to_have_one() {
    let _ = TestBroker::start().await.address();
}
