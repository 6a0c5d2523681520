//! The catalogue over the wire: what readers and producers meet.

use std::time::Duration;

use meshlog_proto::v1;
use meshlog_tests::{TestBroker, append, failure, product, read, subscribe, values};
use tonic::Code;

use super::drain::Served;

async fn move_to(broker: &TestBroker, name: &str, new_name: &str) -> v1::Product {
    let request = v1::MoveProductRequest {
        name: name.to_owned(),
        new_name: new_name.to_owned(),
        ..Default::default()
    };
    broker.catalog().move_product(request).await.unwrap().into_inner().product.unwrap()
}

async fn deprecate(broker: &TestBroker, name: &str, successor: &str) {
    let request = v1::DeprecateProductRequest {
        name: name.to_owned(),
        reason: "The feed is switched off.".to_owned(),
        successor: successor.to_owned(),
        sunset_time: Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 }),
        ..Default::default()
    };
    broker.catalog().deprecate_product(request).await.unwrap();
}

fn kinds(notices: &[v1::Notice]) -> Vec<v1::NoticeKind> {
    notices.iter().map(v1::Notice::kind).collect()
}

#[tokio::test]
async fn who_uses_an_old_name_or_a_deprecated_product_is_told_with_every_answer() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.flights")).await;
    broker.create(product("ops.better")).await;
    let mut records = broker.records();
    let appended = records.append(append("ops.flights").value("1")).await.unwrap().into_inner();
    assert!(appended.notices.is_empty());
    let found = records.read(read("ops.flights")).await.unwrap().into_inner();
    assert!(found.notices.is_empty());

    move_to(&broker, "ops.flights", "ops.departures").await;
    let appended = records.append(append("ops.flights").value("2")).await.unwrap().into_inner();
    assert_eq!(kinds(&appended.notices), [v1::NoticeKind::Moved]);
    assert_eq!(appended.notices[0].product, "ops.departures");
    assert_eq!(appended.ranges[0].first_offset, 1, "the records stay");
    let found = records.read(read("ops.flights")).await.unwrap().into_inner();
    assert_eq!(
        (values(&found.batches).len(), kinds(&found.notices)),
        (2, vec![v1::NoticeKind::Moved])
    );
    let found = records.read(read("ops.departures")).await.unwrap().into_inner();
    assert!(found.notices.is_empty());
    let offsets =
        v1::ListOffsetsRequest { product: "ops.flights".to_owned(), ..Default::default() };
    records.list_offsets(offsets).await.unwrap();

    deprecate(&broker, "ops.departures", "ops.better").await;
    let appended = records.append(append("ops.flights").value("3")).await.unwrap().into_inner();
    assert_eq!(kinds(&appended.notices), [v1::NoticeKind::Moved, v1::NoticeKind::Deprecated]);
    let notice = &appended.notices[1];
    assert_eq!(notice.product, "ops.better");
    assert_eq!(notice.sunset_time.unwrap().seconds, 4_000_000_000);
    assert!(notice.message.contains("The feed is switched off."), "{}", notice.message);
    assert!(notice.message.contains("use `ops.better` instead"), "{}", notice.message);
    let requests = tokio_stream::iter([append("ops.departures").value("4").numbered(1)]);
    let mut results = records.append_stream(requests).await.unwrap().into_inner();
    let result = results.message().await.unwrap().unwrap().results.remove(0);
    let Some(v1::append_result::Outcome::Appended(appended)) = result.outcome else {
        panic!("{result:?}");
    };
    assert_eq!(kinds(&appended.notices), [v1::NoticeKind::Deprecated]);
}

#[tokio::test]
async fn a_subscription_is_told_at_once_and_again_when_it_changes() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    broker.create(product("ops.b")).await;
    let heartbeat_interval = Some(Duration::from_secs(1).try_into().unwrap());
    let request = v1::SubscribeRequest { heartbeat_interval, ..subscribe("ops.a") };
    let mut stream = broker.records().subscribe(request.clone()).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().unwrap().notices.is_empty());
    deprecate(&broker, "ops.a", "").await;
    let told = stream.message().await.unwrap().unwrap();
    assert_eq!(kinds(&told.notices), [v1::NoticeKind::Deprecated]);
    assert_eq!(told.notices[0].product, "");
    // Another product's change is not told, and what was told is not repeated.
    move_to(&broker, "ops.b", "ops.c").await;
    assert!(stream.message().await.unwrap().unwrap().notices.is_empty());
    move_to(&broker, "ops.a", "ops.z").await;
    broker.records().append(append("ops.z").value("x")).await.unwrap();
    let mut told = stream.message().await.unwrap().unwrap();
    if told.notices.is_empty() {
        told = stream.message().await.unwrap().unwrap();
    }
    assert_eq!(kinds(&told.notices), [v1::NoticeKind::Moved, v1::NoticeKind::Deprecated]);

    let mut late = broker.records().subscribe(request).await.unwrap().into_inner();
    let first = late.message().await.unwrap().unwrap();
    assert_eq!(kinds(&first.notices), [v1::NoticeKind::Moved, v1::NoticeKind::Deprecated]);
}

#[tokio::test]
async fn a_retired_product_takes_reads_and_no_appends() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    let mut records = broker.records();
    records.append(append("ops.a").value("last")).await.unwrap();
    deprecate(&broker, "ops.a", "").await;
    let retire =
        |force| v1::RetireProductRequest { name: "ops.a".to_owned(), force, ..Default::default() };
    let early = failure(&broker.catalog().retire_product(retire(false)).await.unwrap_err());
    assert_eq!((early.code, early.reason.as_str()), (Code::FailedPrecondition, "STATE_INVALID"));
    broker.catalog().retire_product(retire(true)).await.unwrap();

    let refused = failure(&records.append(append("ops.a").value("late")).await.unwrap_err());
    assert_eq!((refused.reason.as_str(), refused.applied.as_str()), ("STATE_INVALID", "no"));
    assert_eq!(refused.metadata["state"], "RETIRED");
    let requests = tokio_stream::iter([append("ops.a").value("late").numbered(1)]);
    let mut results = records.append_stream(requests).await.unwrap().into_inner();
    let result = results.message().await.unwrap().unwrap().results.remove(0);
    assert!(matches!(result.outcome, Some(v1::append_result::Outcome::Error(_))), "{result:?}");
    let found = records.read(read("ops.a")).await.unwrap().into_inner();
    assert_eq!(
        (values(&found.batches), kinds(&found.notices)),
        (vec!["last".to_owned()], vec![v1::NoticeKind::Deprecated])
    );
}

#[tokio::test]
async fn the_audit_log_is_read_as_any_product_and_written_by_the_broker_alone() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    let mut records = broker.records();
    let found = records.read(read("meshlog.audit")).await.unwrap().into_inner();
    let found = values(&found.batches);
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("\"action\":\"create_product\""), "{}", found[0]);
    let forged = append("meshlog.audit").value(found[0].clone());
    let refused = failure(&records.append(forged.clone()).await.unwrap_err());
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::FailedPrecondition, "PRODUCT_READ_ONLY")
    );
    let requests = tokio_stream::iter([forged.numbered(1)]);
    let mut results = records.append_stream(requests).await.unwrap().into_inner();
    let result = results.message().await.unwrap().unwrap().results.remove(0);
    assert!(matches!(result.outcome, Some(v1::append_result::Outcome::Error(_))), "{result:?}");
    let request = v1::DeleteProductRequest {
        name: "meshlog.audit".to_owned(),
        force: true,
        ..Default::default()
    };
    let refused = failure(&broker.catalog().delete_product(request).await.unwrap_err());
    assert_eq!(refused.reason, "PRODUCT_READ_ONLY");
    assert_eq!(broker.broker().server_info().products, 1);
}

#[tokio::test]
async fn a_watch_over_the_wire_follows_changes_and_ends_with_the_drain() {
    let broker = Served::start(meshlog_broker::Config::default()).await;
    let request = v1::WatchProductsRequest { domain: "ops".to_owned(), ..Default::default() };
    let mut watch = broker.catalog().watch_products(request).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().unwrap();
    assert!(first.reset && first.complete && first.changes.len() == 1);
    broker.catalog().create_product(product("ops.b").request()).await.unwrap();
    let told = watch.message().await.unwrap().unwrap();
    assert_eq!(told.changes[0].product.as_ref().unwrap().name, "ops.b");
    let stopped = broker.begin_shutdown();
    let ended = failure(&watch.message().await.unwrap_err());
    assert_eq!(ended.reason, "SHUTTING_DOWN");
    drop(watch);
    stopped.await.unwrap().unwrap();
}
