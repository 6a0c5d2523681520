//! A disk that fails or fills up.

use meshlog_tests::{TestBroker, append, failure, product, read, values};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

#[tokio::test]
async fn after_a_failed_write_appends_are_refused_and_reads_go_on() {
    let broker = TestBroker::start_on_simulated_disk().await;
    broker.create(product("ops.a")).await;
    let mut records = broker.records();
    records.append(append("ops.a").value("safe")).await.unwrap();
    broker.disk().fail_next_write();
    let failed = records.append(append("ops.a").value("lost?")).await.unwrap_err();
    let failed = failure(&failed);
    assert_eq!((failed.code, failed.reason.as_str()), (Code::Unavailable, "JOURNAL_FAILED"));
    assert_eq!(failed.applied, "unknown");
    let refused = records.append(append("ops.a").value("after")).await.unwrap_err();
    let refused = failure(&refused);
    assert_eq!((refused.reason.as_str(), refused.applied.as_str()), ("JOURNAL_FAILED", "no"));
    let found = records.read(read("ops.a")).await.unwrap().into_inner();
    assert_eq!(values(&found.batches)[0], "safe");

    let mut health = HealthClient::new(broker.channel());
    let mut status = ServingStatus::Serving;
    for _ in 0..500 {
        let request = HealthCheckRequest { service: "meshlog.v1.RecordService".to_owned() };
        status = health.check(request).await.unwrap().into_inner().status();
        if status == ServingStatus::NotServing {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(status, ServingStatus::NotServing);
    let info = broker.admin().get_server_info(meshlog_proto::v1::GetServerInfoRequest {}).await;
    assert!(!info.unwrap().into_inner().storage.unwrap().appends_refused.is_empty());
}

#[tokio::test]
async fn a_full_disk_refuses_appends_until_there_is_room_again() {
    // Where a megabyte finds no room, less may still find some, and records are still taken.
    const SMALL: usize = 60_000;
    let broker = TestBroker::start_on_simulated_disk().await;
    broker.create(product("ops.a")).await;
    let mut records = broker.records();
    broker.disk().fill();
    let mut appended = 0;
    let refused = loop {
        match records.append(append("ops.a").value(vec![7; SMALL])).await {
            Ok(_) => appended += 1,
            Err(status) => break status,
        }
        assert!(appended < 400, "nothing more can be allocated");
    };
    let retry = refused.get_error_details();
    let refused = failure(&refused);
    assert_eq!((refused.code, refused.reason.as_str()), (Code::ResourceExhausted, "DISK_FULL"));
    assert_eq!(refused.applied, "no");
    assert!(retry.retry_info().is_some(), "waiting helps");
    for name in ["meshlog.v1.RecordService", "meshlog.disk"] {
        health_becomes(&broker, name, ServingStatus::NotServing).await;
    }
    health_becomes(&broker, "meshlog.v1.CatalogService", ServingStatus::Serving).await;
    let found = records.read(read("ops.a")).await.unwrap().into_inner();
    assert_eq!(found.partitions[0].durable_end, appended, "reads go on");

    broker.disk().free();
    for attempt in 0.. {
        match records.append(append("ops.a").value(vec![7; SMALL])).await {
            Ok(response) => {
                assert_eq!(response.into_inner().ranges[0].first_offset, appended);
                break;
            }
            Err(status) => assert_eq!(failure(&status).reason, "DISK_FULL"),
        }
        assert!(attempt < 1_000, "appends resume by themselves");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    for name in ["meshlog.v1.RecordService", "meshlog.disk"] {
        health_becomes(&broker, name, ServingStatus::Serving).await;
    }
}

async fn health_becomes(broker: &TestBroker, name: &str, expected: ServingStatus) {
    let mut health = HealthClient::new(broker.channel());
    for _ in 0..1_000 {
        let request = HealthCheckRequest { service: name.to_owned() };
        if health.check(request).await.unwrap().into_inner().status() == expected {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{name} is not {expected:?} after 20 s");
}

/// A change of the catalogue has a batch, its audit record, and is control work all the same.
#[tokio::test]
async fn a_product_can_be_deprecated_and_deleted_while_the_disk_is_full() {
    let broker = TestBroker::start_on_simulated_disk().await;
    broker.create(product("ops.a")).await;
    let mut records = broker.records();
    broker.disk().fill();
    let refused = loop {
        if let Err(status) = records.append(append("ops.a").value(vec![7; 1_000_000])).await {
            break failure(&status);
        }
    };
    assert_eq!(refused.reason, "DISK_FULL");
    let request = meshlog_proto::v1::DeprecateProductRequest {
        name: "ops.a".to_owned(),
        reason: "full".to_owned(),
        ..Default::default()
    };
    broker.catalog().deprecate_product(request).await.unwrap();
    let request = meshlog_proto::v1::DeleteProductRequest {
        name: "ops.a".to_owned(),
        force: true,
        ..Default::default()
    };
    broker.catalog().delete_product(request).await.unwrap();
    let found = records.read(read("meshlog.audit")).await.unwrap().into_inner();
    assert_eq!(values(&found.batches).len(), 3);
}
