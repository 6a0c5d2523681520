use meshlog_broker::Config;
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
