use meshlog_proto::v1;
use meshlog_tests::{TestBroker, append, failure, product, read, values};
use tonic::Code;

#[tokio::test]
async fn records_come_back_as_they_were_appended() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.flights")).await;
    let record = v1::Record {
        key: Some("UA1".into()),
        value: None,
        headers: vec![
            v1::Header { name: "trace".to_owned(), value: vec![0, 255].into() },
            v1::Header { name: "trace".to_owned(), value: "again".into() },
        ],
        event_time_unix_nano: 1_357_034_400_000_000_000,
    };
    let request = append("ops.flights")
        .record(record.clone())
        .value("plain")
        .record(v1::Record { value: Some(bytes::Bytes::new()), ..v1::Record::default() });
    let sent = request.clone().request().batch.unwrap().records;
    let appended = broker.records().append(request).await.unwrap().into_inner();
    assert_eq!(appended.ranges.len(), 1);
    assert_eq!((appended.ranges[0].first_offset, appended.ranges[0].count), (0, 3));
    assert!(appended.ranges[0].append_time.is_some());
    assert_eq!(appended.durability(), v1::Durability::Memory);
    assert_eq!(appended.schema_version, 1);
    assert!(appended.record_partitions.is_empty());

    let found = broker.records().read(read("ops.flights")).await.unwrap().into_inner();
    assert_eq!(found.product_id, appended.product_id);
    assert_eq!(found.batches.len(), 1);
    assert_eq!(found.batches[0].schema_version, 1);
    let records = &found.batches[0].batch.as_ref().unwrap().records;
    assert_eq!(*records, sent);
    assert_eq!(records[0], record);
    assert_eq!(records[2].value.as_deref(), Some(&b""[..]), "empty is not absent");
}

#[tokio::test]
async fn a_batch_without_a_partition_is_split_by_key_as_kafka_does() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.flights").partitions(3)).await;
    // murmur2("21") & 0x7fffffff = 1173551340, of "foobar" 1357151166, of "abc" 479470107
    let request = append("ops.flights")
        .keyed("21", "a")
        .keyed("foobar", "b")
        .keyed("abc", "c")
        .keyed("21", "d");
    let appended = broker.records().append(request).await.unwrap().into_inner();
    let expected = [1_173_551_340 % 3, 1_357_151_166 % 3, 479_470_107 % 3, 1_173_551_340 % 3];
    let partitions: Vec<u32> = if appended.record_partitions.is_empty() {
        vec![appended.ranges[0].partition; 4]
    } else {
        appended.record_partitions.clone()
    };
    assert_eq!(partitions, expected);
    for range in &appended.ranges {
        let count = expected.iter().filter(|partition| **partition == range.partition).count();
        assert_eq!(range.count as usize, count);
    }
    let request = v1::ReadRequest { partitions: vec![expected[0]], ..read("ops.flights") };
    let found = broker.records().read(request).await.unwrap().into_inner();
    let found = values(&found.batches);
    assert_eq!(found.first().map(String::as_str), Some("a"));
    assert_eq!(found.last().map(String::as_str), Some("d"), "order within a key is kept");
}

#[tokio::test]
async fn records_without_a_key_stay_together_and_batches_take_turns() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.flights").partitions(4)).await;
    let mut partitions = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let request = append("ops.flights").value("a").value("b");
        let appended = broker.records().append(request).await.unwrap().into_inner();
        assert_eq!(appended.ranges.len(), 1);
        assert_eq!(appended.ranges[0].count, 2);
        assert!(appended.record_partitions.is_empty());
        partitions.insert(appended.ranges[0].partition);
    }
    assert_eq!(partitions.len(), 4);
}

#[tokio::test]
async fn an_expected_offset_admits_one_of_two_writers() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.flights")).await;
    let mut records = broker.records();
    records.append(append("ops.flights").value("first").expect(0)).await.unwrap();
    let refused = records.append(append("ops.flights").value("late").expect(0)).await.unwrap_err();
    let refused = failure(&refused);
    assert_eq!((refused.code, refused.reason.as_str()), (Code::Aborted, "OFFSET_MISMATCH"));
    assert_eq!(refused.metadata["next_offset"], "1");
    assert_eq!(refused.applied, "no");
    records.append(append("ops.flights").value("next").expect(1)).await.unwrap();
}

#[tokio::test]
async fn an_expected_offset_needs_a_partition_where_there_are_several() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.flights").partitions(2)).await;
    let mut records = broker.records();
    let refused = records.append(append("ops.flights").value("x").expect(0)).await.unwrap_err();
    assert_eq!(failure(&refused).violations[0].0, "expected_offset");
    let request = append("ops.flights").value("x").expect(0).partition(1);
    records.append(request).await.unwrap();
}

#[tokio::test]
async fn a_request_is_cut_into_stored_batches_that_all_clients_can_read() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.big")).await;
    let request = (0..4).fold(append("ops.big"), |request, n| request.value(vec![n; 1_000_000]));
    let appended = broker.records().append(request).await.unwrap().into_inner();
    assert_eq!(appended.ranges.len(), 1, "one range, however it is stored");
    assert_eq!(appended.ranges[0].count, 4);
    // The default of generated clients: no message above 4 MiB is accepted.
    let mut client = broker.records().max_decoding_message_size(4 << 20);
    let mut next = 0;
    let mut seen = Vec::new();
    while next < 4 {
        let start = Some(meshlog_tests::positions(&[(0, next)]));
        let request = v1::ReadRequest { start, max_bytes: u32::MAX, ..read("ops.big") };
        let found = client.read(request).await.unwrap().into_inner();
        for batch in &found.batches {
            seen.push(batch.count);
        }
        next = found.partitions[0].next_offset;
    }
    assert_eq!(seen, [2, 2]);
}

#[tokio::test]
async fn an_embedded_append_and_a_remote_read_are_one_log() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.flights")).await;
    let batch = append("ops.flights").value("embedded").request().batch.unwrap();
    let request = meshlog_proto::server_v1::AppendRequest {
        product: "ops.flights".to_owned(),
        batch: vec![prost::Message::encode_to_vec(&batch).into()],
        ..Default::default()
    };
    let caller = meshlog_broker::Caller::new("a test");
    broker.broker().append(&caller, request).await.unwrap();
    let found = broker.records().read(read("ops.flights")).await.unwrap().into_inner();
    assert_eq!(values(&found.batches), ["embedded"]);
}
