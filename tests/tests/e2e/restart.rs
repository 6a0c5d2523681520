use meshlog_broker::{Broker, Config, Reason};
use meshlog_proto::v1;
use meshlog_tests::{TestBroker, append, product, read, values};

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let broker = TestBroker::start_with(Config::at(directory.path())).await;
    let created = broker.create(product("ops.flights").partitions(2)).await;
    let mut sent = Vec::new();
    for sequence in 0..50 {
        let request = append("ops.flights")
            .partition((sequence % 2) as u32)
            .value(format!("record {sequence}"))
            .producer(9, 0, sequence);
        let appended = broker.records().append(request.clone()).await.unwrap().into_inner();
        assert_eq!(appended.durability(), v1::Durability::Synced);
        sent.push((request, appended));
    }
    let before = broker.records().read(read("ops.flights")).await.unwrap().into_inner();
    broker.broker().close().await.unwrap();
    drop(broker);

    let broker = TestBroker::start_with(Config::at(directory.path())).await;
    let after = broker.records().read(read("ops.flights")).await.unwrap().into_inner();
    assert_eq!(after.product_id, created.id);
    let by_partition = |response: &v1::ReadResponse, partition: u32| {
        let batches = response.batches.iter().filter(|batch| batch.partition == partition);
        batches.cloned().collect::<Vec<_>>()
    };
    for partition in 0..2 {
        let after = by_partition(&after, partition);
        assert_eq!(after, by_partition(&before, partition), "times and offsets included");
        assert_eq!(values(&after).len(), 25);
    }
    let (last, first_answer) = sent.last().unwrap();
    let again = broker.records().append(last.clone()).await.unwrap().into_inner();
    assert!(again.duplicate, "a retry across a restart is not appended twice");
    assert_eq!(again.ranges, first_answer.ranges);
    let next = append("ops.flights").partition(0).value("next").producer(9, 0, 50).expect(25);
    broker.records().append(next).await.unwrap();
    broker.broker().close().await.unwrap();
}

#[tokio::test]
async fn a_directory_that_is_open_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(Config::at(directory.path())).unwrap();
    let refused = Broker::open(Config::at(directory.path())).unwrap_err();
    assert_eq!(refused.reason(), Reason::DirectoryUnavailable);
    let path = directory.path().to_string_lossy();
    assert!(refused.to_string().contains(&*path), "{refused}");
    broker.close().await.unwrap();
    Broker::open(Config::at(directory.path())).unwrap().close().await.unwrap();
}

#[tokio::test]
async fn a_long_history_is_read_from_files_as_it_was_appended() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = Config::at(directory.path());
    config.storage.ring = meshlog_broker::config::ByteSize::mib(1);
    let broker = TestBroker::start_with(config).await;
    broker.create(product("ops.big").partitions(2)).await;
    for n in 0..40_u8 {
        let request = append("ops.big").partition(u32::from(n % 2)).value(vec![n; 500_000]);
        broker.records().append(request).await.unwrap();
    }
    let request = v1::SubscribeRequest { stop_at_end: true, ..meshlog_tests::subscribe("ops.big") };
    let mut stream = broker.records().subscribe(request).await.unwrap().into_inner();
    let mut seen: [Vec<u8>; 2] = Default::default();
    while let Some(message) = stream.message().await.unwrap() {
        for batch in &message.batches {
            let record = &batch.batch.as_ref().unwrap().records[0];
            let value = record.value.as_ref().unwrap();
            assert!(value.len() == 500_000 && value.iter().all(|byte| *byte == value[0]));
            seen[batch.partition as usize].push(value[0]);
        }
    }
    assert!(seen[0].iter().copied().eq((0..40).step_by(2)));
    assert!(seen[1].iter().copied().eq((1..40).step_by(2)));
    broker.broker().close().await.unwrap();
}
