use meshlog_proto::v1;
use meshlog_tests::{TestBroker, append, failure, product};

#[tokio::test]
async fn offsets_are_listed_per_partition_and_by_time() {
    let broker = TestBroker::start().await;
    let created = broker.create(product("ops.a").partitions(2)).await;
    let mut records = broker.records();
    records.append(append("ops.a").value("0").value("1").partition(1)).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let second = records.append(append("ops.a").value("2").partition(1)).await.unwrap();
    let append_time = second.into_inner().ranges[0].append_time;
    let request = v1::ListOffsetsRequest {
        product: "ops.a".to_owned(),
        append_time,
        ..v1::ListOffsetsRequest::default()
    };
    let listed = records.list_offsets(request).await.unwrap().into_inner();
    if !created.id.is_empty() {
        assert_eq!(listed.product_id, created.id);
    }
    let ends: Vec<_> =
        listed.partitions.iter().map(|one| (one.partition, one.durable_end)).collect();
    assert_eq!(ends, [(0, 0), (1, 3)]);
    assert_eq!(listed.partitions[1].offset_at_time, Some(2));
    assert_eq!(listed.partitions[0].offset_at_time, Some(0), "the end, if nothing is younger");

    let request = v1::ListOffsetsRequest {
        product: "ops.a".to_owned(),
        partitions: vec![1],
        ..v1::ListOffsetsRequest::default()
    };
    let listed = records.list_offsets(request).await.unwrap().into_inner();
    assert_eq!(listed.partitions.len(), 1);
    assert_eq!(listed.partitions[0].offset_at_time, None);

    let request = v1::ListOffsetsRequest {
        product: "ops.a".to_owned(),
        partitions: vec![2],
        ..v1::ListOffsetsRequest::default()
    };
    let refused = records.list_offsets(request).await.unwrap_err();
    assert_eq!(failure(&refused).reason, "PARTITION_NOT_FOUND");
}
