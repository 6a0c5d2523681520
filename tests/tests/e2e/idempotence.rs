use std::time::Duration;

use meshlog_proto::v1::record_service_client::RecordServiceClient;
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

/// Whoever sends a request again before it was answered waits for the same sync.
#[tokio::test]
async fn a_retry_of_what_is_under_way_is_answered_with_it_and_stored_once() {
    let broker = TestBroker::start_on_simulated_disk().await;
    broker.create(product("ops.flights")).await;
    let mut records = broker.records();
    records.append(append("ops.flights").value("before").producer(7, 0, 0)).await.unwrap();
    broker.disk().delay_syncs(Duration::from_secs(600));
    let request = append("ops.flights").value("a").producer(7, 0, 1).request();
    let send = |channel| {
        let mut client = RecordServiceClient::new(channel);
        let request = request.clone();
        tokio::spawn(async move { client.append(request).await.unwrap().into_inner() })
    };
    let attempts = [send(broker.connect()), send(broker.connect()), send(broker.connect())];
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(attempts.iter().all(|attempt| !attempt.is_finished()), "an answer before the sync");
    broker.disk().delay_syncs(Duration::ZERO);
    let mut answers = Vec::new();
    for attempt in attempts {
        answers.push(attempt.await.unwrap());
    }
    assert!(answers.iter().all(|answer| answer.ranges == answers[0].ranges));
    assert_eq!(answers.iter().filter(|answer| !answer.duplicate).count(), 1);
    let found = records.read(read("ops.flights")).await.unwrap().into_inner();
    assert_eq!(values(&found.batches), ["before", "a"]);
}

#[tokio::test]
async fn a_retry_after_a_power_cut_finds_its_first_offsets() {
    let broker = TestBroker::start_on_simulated_disk().await;
    broker.create(product("ops.flights").partitions(3)).await;
    let request = (0..9).fold(append("ops.flights").producer(7, 4, 0), |request, n| {
        request.keyed(format!("k{n}"), "v")
    });
    let first = broker.records().append(request.clone()).await.unwrap().into_inner();
    broker.crash().await;
    let mut records = RecordServiceClient::new(broker.connect());
    let again = records.append(request).await.unwrap().into_inner();
    assert!(again.duplicate && !first.duplicate);
    assert_eq!((again.ranges, again.record_partitions), (first.ranges, first.record_partitions));
    let old = records.append(append("ops.flights").value("x").producer(7, 3, 0)).await.unwrap_err();
    assert_eq!(failure(&old).reason, "PRODUCER_FENCED");
    assert_eq!(failure(&old).applied, "no");
}

#[tokio::test]
async fn a_sequence_older_than_the_window_is_not_appended_and_may_be_there() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.flights")).await;
    let mut records = broker.records();
    for sequence in 0..1_030 {
        let request = append("ops.flights").value(format!("{sequence}")).producer(7, 0, sequence);
        records.append(request).await.unwrap();
    }
    let resend =
        |sequence: u64| append("ops.flights").value(format!("{sequence}")).producer(7, 0, sequence);
    let known = records.append(resend(6)).await.unwrap().into_inner();
    assert!(known.duplicate);
    assert_eq!(known.ranges[0].first_offset, 6);
    let old = records.append(resend(5)).await.unwrap_err();
    let old = failure(&old);
    assert_eq!((old.code, old.reason.as_str()), (Code::FailedPrecondition, "SEQUENCE_TOO_OLD"));
    assert_eq!(old.applied, "unknown");
    let unknown =
        records.append(append("ops.flights").value("x").producer(8, 2, 3)).await.unwrap_err();
    assert_eq!(failure(&unknown).metadata["epoch"], "3");
    assert_eq!(failure(&unknown).applied, "no");
}
