use meshlog_tests::{TestBroker, append, failure, product, read, values};
use tonic::Code;

#[tokio::test]
async fn a_retry_after_a_lost_answer_returns_the_first_offsets() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.flights")).await;
    let mut records = broker.records();
    let first = append("ops.flights").value("a").value("b").producer(7, 0, 0);
    let one = records.append(first.clone()).await.unwrap().into_inner();
    records.append(append("ops.flights").value("c").producer(7, 0, 1)).await.unwrap();
    let two = records.append(first).await.unwrap().into_inner();
    assert!(!one.duplicate);
    assert!(two.duplicate);
    assert_eq!(one.ranges, two.ranges);
    let found = records.read(read("ops.flights")).await.unwrap().into_inner();
    assert_eq!(values(&found.batches), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_split_retry_goes_to_the_same_partitions() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.flights").partitions(4)).await;
    let mut records = broker.records();
    let request = (0..20).fold(append("ops.flights").producer(7, 0, 0), |request, n| {
        if n % 3 == 0 { request.value("no key") } else { request.keyed(format!("k{n}"), "v") }
    });
    let one = records.append(request.clone()).await.unwrap().into_inner();
    let two = records.append(request).await.unwrap().into_inner();
    assert!(two.duplicate);
    assert_eq!(one.ranges, two.ranges);
    assert_eq!(one.record_partitions, two.record_partitions);
    assert_eq!(one.record_partitions.len(), 20);
}

#[tokio::test]
async fn sequences_are_counted_per_producer_and_product() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    broker.create(product("ops.b")).await;
    let mut records = broker.records();
    records.append(append("ops.a").value("x").producer(1, 0, 0)).await.unwrap();
    records.append(append("ops.b").value("x").producer(1, 0, 0)).await.unwrap();
    records.append(append("ops.a").value("x").producer(2, 0, 0)).await.unwrap();

    let gap = records.append(append("ops.a").value("x").producer(1, 0, 2)).await.unwrap_err();
    let gap = failure(&gap);
    assert_eq!((gap.code, gap.reason.as_str()), (Code::FailedPrecondition, "SEQUENCE_GAP"));
    assert_eq!(gap.metadata["expected_sequence"], "1");

    let unknown = records.append(append("ops.a").value("x").producer(3, 0, 5)).await.unwrap_err();
    assert_eq!(failure(&unknown).reason, "PRODUCER_UNKNOWN");

    records.append(append("ops.a").value("x").producer(1, 1, 0)).await.unwrap();
    let fenced = records.append(append("ops.a").value("x").producer(1, 0, 1)).await.unwrap_err();
    assert_eq!(failure(&fenced).reason, "PRODUCER_FENCED");
    assert_eq!(failure(&fenced).metadata["epoch"], "1");
}

#[tokio::test]
async fn a_refused_request_does_not_use_up_its_sequence() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    let mut records = broker.records();
    let refused = append("ops.a").producer(1, 0, 0).partition(9).value("x");
    records.append(refused).await.unwrap_err();
    let appended = records.append(append("ops.a").producer(1, 0, 0).value("x")).await.unwrap();
    assert!(!appended.into_inner().duplicate);
}

#[tokio::test]
async fn a_producer_id_of_another_length_is_refused_by_field() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    let mut request = append("ops.a").value("x").producer(1, 0, 0).request();
    request.producer.as_mut().unwrap().id = bytes::Bytes::from_static(b"short");
    let refused = broker.records().append(request).await.unwrap_err();
    assert_eq!(failure(&refused).violations[0].0, "producer.id");
}
