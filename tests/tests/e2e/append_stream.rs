use meshlog_proto::v1::{self, append_result::Outcome};
use meshlog_tests::{TestBroker, append, product, read, values};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic_types::pb;

fn reason(status: &tonic_types::Status) -> String {
    let info = status.details.iter().find(|any| any.type_url.ends_with("ErrorInfo")).unwrap();
    let info = <pb::ErrorInfo as prost::Message>::decode(&info.value[..]).unwrap();
    assert_eq!(info.metadata["applied"], "no");
    info.reason
}

async fn results(
    broker: &TestBroker,
    requests: Vec<v1::AppendStreamRequest>,
) -> Vec<v1::AppendResult> {
    let stream = tokio_stream::iter(requests);
    let mut responses = broker.records().append_stream(stream).await.unwrap().into_inner();
    let mut results = Vec::new();
    while let Some(response) = responses.next().await {
        let response = response.unwrap();
        assert!(!response.results.is_empty(), "no message is empty");
        results.extend(response.results);
    }
    results
}

#[tokio::test]
async fn every_request_has_one_result_in_the_order_of_the_requests() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.flights")).await;
    let requests: Vec<_> = (0..2_000)
        .map(|n| append("ops.flights").value(n.to_string()).producer(1, 0, n).numbered(n + 100))
        .collect();
    let results = results(&broker, requests).await;
    assert_eq!(results.len(), 2_000);
    for (n, result) in (0..).zip(&results) {
        assert_eq!(result.request_id, n + 100);
        let Some(Outcome::Appended(appended)) = &result.outcome else { panic!("{result:?}") };
        assert_eq!(appended.ranges[0].first_offset, n);
    }
}

#[tokio::test]
async fn after_a_failure_later_sequences_of_that_product_wait_for_it() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    broker.create(product("ops.b")).await;
    let results = results(
        &broker,
        vec![
            append("ops.a").value("0").producer(1, 0, 0).numbered(0),
            append("ops.a").value("1").producer(1, 0, 1).partition(7).numbered(1),
            append("ops.a").value("2").producer(1, 0, 2).numbered(2),
            append("ops.b").value("b").producer(1, 0, 0).numbered(3),
            append("ops.a").value("free").numbered(4),
            append("ops.a").value("1").producer(1, 0, 1).numbered(5),
            append("ops.a").value("2").producer(1, 0, 2).numbered(6),
        ],
    )
    .await;
    let outcomes: Vec<String> = results
        .iter()
        .map(|result| match result.outcome.as_ref().unwrap() {
            Outcome::Appended(_) => "ok".to_owned(),
            Outcome::Error(status) => reason(status),
        })
        .collect();
    assert_eq!(outcomes, ["ok", "PARTITION_NOT_FOUND", "PRECEDING_FAILED", "ok", "ok", "ok", "ok"]);
    let found = broker.records().read(read("ops.a")).await.unwrap().into_inner();
    assert_eq!(values(&found.batches), ["0", "free", "1", "2"]);
}

#[tokio::test]
async fn a_gap_seen_by_the_log_holds_back_what_follows_it() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    let results = results(
        &broker,
        vec![
            append("ops.a").value("0").producer(1, 0, 0).numbered(0),
            append("ops.a").value("2").producer(1, 0, 2).numbered(2),
            append("ops.a").value("3").producer(1, 0, 3).numbered(3),
            append("ops.a").value("1").producer(1, 0, 1).numbered(1),
            append("ops.a").value("2").producer(1, 0, 2).numbered(2),
        ],
    )
    .await;
    let failed: Vec<_> = results
        .iter()
        .filter_map(|result| match result.outcome.as_ref().unwrap() {
            Outcome::Appended(_) => None,
            Outcome::Error(status) => Some((result.request_id, reason(status))),
        })
        .collect();
    assert_eq!(failed, [(2, "SEQUENCE_GAP".to_owned()), (3, "PRECEDING_FAILED".to_owned())]);
}

#[tokio::test]
async fn results_that_are_ready_together_share_a_message() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    let requests = (0..500).map(|n| append("ops.a").value("x").numbered(n));
    let stream = tokio_stream::iter(requests.collect::<Vec<_>>());
    let mut responses = broker.records().append_stream(stream).await.unwrap().into_inner();
    let (mut messages, mut results) = (0, 0);
    while let Some(response) = responses.next().await {
        messages += 1;
        results += response.unwrap().results.len();
    }
    assert_eq!(results, 500);
    assert!(messages < 250, "{messages} messages for 500 results");
}

#[tokio::test]
async fn a_client_that_vanishes_mid_stream_leaves_whole_batches_and_a_running_broker() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    for round in 0..20 {
        let channel = broker.connect();
        let mut client =
            meshlog_proto::v1::record_service_client::RecordServiceClient::new(channel);
        let (sender, requests) = mpsc::channel(64);
        let call = client.append_stream(ReceiverStream::new(requests));
        let feed = async {
            for n in 0..=round {
                let request = append("ops.a").value("x").value("y").numbered(n);
                sender.send(request).await.unwrap();
            }
        };
        let (responses, ()) = tokio::join!(call, feed);
        // Both ends go away with requests in flight.
        drop((responses, sender, client));
    }
    let mut offset = 0;
    loop {
        let start = Some(meshlog_tests::positions(&[(0, offset)]));
        let request = v1::ReadRequest { start, ..read("ops.a") };
        let found = broker.records().read(request).await.unwrap().into_inner();
        if found.batches.is_empty() {
            break;
        }
        assert!(found.batches.iter().all(|batch| batch.count == 2), "a batch is whole");
        offset = found.partitions[0].next_offset;
    }
    broker.records().append(append("ops.a").value("alive")).await.unwrap();
}

/// An HTTP/2 connection is closed by some stacks when too many tiny frames wait unread: each
/// result here comes alone, and nobody reads until all are there.
#[tokio::test]
async fn results_that_nobody_reads_for_a_while_do_not_cost_the_connection() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", broker.address()));
    let channel = endpoint.unwrap().connect_lazy();
    let mut client = v1::record_service_client::RecordServiceClient::new(channel);
    let (sender, requests) = mpsc::channel(1);
    let call =
        tokio::spawn(async move { client.append_stream(ReceiverStream::new(requests)).await });
    for n in 0..500 {
        sender.send(append("ops.a").value("x").numbered(n)).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    drop(sender);
    let mut responses = call.await.unwrap().unwrap().into_inner();
    let mut next = 0;
    while let Some(response) = responses.next().await {
        for result in response.unwrap().results {
            assert_eq!(result.request_id, next);
            next += 1;
        }
    }
    assert_eq!(next, 500);
}
