//! The server's variant of the record messages and the public one are the same bytes on the wire.

use bytes::Bytes;
use meshlog_proto::{server_v1, v1};
use prost::Message;

fn batch() -> v1::RecordBatch {
    let record = |n: u8| v1::Record {
        key: Some(Bytes::from(vec![n; 3])),
        value: (n != 2).then(|| Bytes::from(vec![n; 40])),
        headers: vec![v1::Header { name: "origin".into(), value: Bytes::from_static(b"test") }],
        event_time_unix_nano: 1_700_000_000_000_000_000 + u64::from(n),
    };
    v1::RecordBatch { records: (0..5).map(record).collect() }
}

fn public_append() -> v1::AppendRequest {
    v1::AppendRequest {
        product: "ops.flights".into(),
        product_id: "01JABCDEF".into(),
        partition: Some(0),
        batch: Some(batch()),
        schema_version: 3,
        durability: v1::Durability::Written.into(),
        producer: Some(v1::Producer { id: Bytes::from(vec![7; 16]), epoch: 1, sequence: 42 }),
        expected_offset: Some(0),
    }
}

fn server_append() -> server_v1::AppendRequest {
    let public = public_append();
    server_v1::AppendRequest {
        product: public.product,
        product_id: public.product_id,
        partition: public.partition,
        batch: vec![batch().encode_to_vec().into()],
        schema_version: public.schema_version,
        durability: public.durability,
        producer: public.producer,
        expected_offset: public.expected_offset,
    }
}

fn public_stored() -> v1::StoredBatch {
    v1::StoredBatch {
        partition: 2,
        base_offset: 1 << 40,
        count: 5,
        skip: 1,
        offset_deltas: vec![0, 2, 3, 300, 70_000],
        append_time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5 }),
        schema_version: 3,
        batch: Some(batch()),
    }
}

fn server_stored() -> server_v1::StoredBatch {
    let public = public_stored();
    server_v1::StoredBatch {
        partition: public.partition,
        base_offset: public.base_offset,
        count: public.count,
        skip: public.skip,
        offset_deltas: public.offset_deltas,
        append_time: public.append_time,
        schema_version: public.schema_version,
        batch: batch().encode_to_vec().into(),
    }
}

#[test]
fn an_append_is_the_same_bytes_in_both_variants() {
    let public = v1::AppendStreamRequest { request_id: 9, append: Some(public_append()) };
    let server = server_v1::AppendStreamRequest { request_id: 9, append: Some(server_append()) };
    assert_eq!(public.encode_to_vec(), server.encode_to_vec());

    let read = server_v1::AppendStreamRequest::decode(public.encode_to_vec().as_slice()).unwrap();
    assert_eq!(read, server);
    let read = v1::AppendStreamRequest::decode(server.encode_to_vec().as_slice()).unwrap();
    assert_eq!(read, public);
}

#[test]
fn stored_batches_are_the_same_bytes_in_both_variants() {
    let states =
        vec![v1::PartitionState { partition: 2, next_offset: 9, start_offset: 1, durable_end: 10 }];
    let public = v1::ReadResponse {
        product_id: "01J".into(),
        batches: vec![public_stored(), public_stored()],
        partitions: states.clone(),
        notices: notices(),
    };
    let server = server_v1::ReadResponse {
        product_id: "01J".into(),
        batches: vec![server_stored(), server_stored()],
        partitions: states.clone(),
        notices: notices(),
    };
    assert_eq!(public.encode_to_vec(), server.encode_to_vec());

    let public = v1::SubscribeResponse {
        product_id: "01J".into(),
        batches: vec![public_stored()],
        partitions: states.clone(),
        notices: notices(),
    };
    let server = server_v1::SubscribeResponse {
        product_id: "01J".into(),
        batches: vec![server_stored()],
        partitions: states,
        notices: notices(),
    };
    assert_eq!(public.encode_to_vec(), server.encode_to_vec());
}

#[test]
fn an_empty_batch_is_seen_and_differs_from_an_absent_one() {
    let mut public = public_append();
    public.batch = Some(v1::RecordBatch::default());
    let read = server_v1::AppendRequest::decode(public.encode_to_vec().as_slice()).unwrap();
    assert_eq!(read.batch, [Bytes::new()]);

    public.batch = None;
    let read = server_v1::AppendRequest::decode(public.encode_to_vec().as_slice()).unwrap();
    assert!(read.batch.is_empty());
}

#[test]
fn the_server_sees_a_batch_that_occurs_twice() {
    let mut twice = public_append().encode_to_vec();
    twice.extend(v1::AppendRequest { batch: Some(batch()), ..Default::default() }.encode_to_vec());
    let read = server_v1::AppendRequest::decode(twice.as_slice()).unwrap();
    assert_eq!(read.batch.len(), 2);
    // A reader of the public contract would have merged them.
    let merged = v1::AppendRequest::decode(twice.as_slice()).unwrap();
    assert_eq!(merged.batch.unwrap().records.len(), 10);
}

#[test]
fn unknown_fields_of_a_record_reach_the_server() {
    // A record with field 15, which this version does not know, inside a batch.
    let record = [0x12, 0x01, b'v', 0x7a, 0x02, b'h', b'i'];
    let mut encoded = vec![0x0a, record.len() as u8];
    encoded.extend(record);
    let mut request =
        v1::AppendRequest { product: "a.b".into(), ..Default::default() }.encode_to_vec();
    request.extend([0x22, encoded.len() as u8]);
    request.extend(&encoded);
    let read = server_v1::AppendRequest::decode(request.as_slice()).unwrap();
    assert_eq!(read.batch, [Bytes::from(encoded)]);
}

#[test]
fn a_received_batch_is_a_slice_of_the_message_and_not_a_copy() {
    let message = Bytes::from(server_append().encode_to_vec());
    let read = server_v1::AppendRequest::decode(message.clone()).unwrap();
    assert!(message.as_ptr_range().contains(&read.batch[0].as_ptr()));
}

#[test]
fn reflection_offers_the_public_contract() {
    let set = prost_types::FileDescriptorSet::decode(meshlog_proto::FILE_DESCRIPTOR_SET).unwrap();
    let record = set.file.iter().find(|f| f.name() == "meshlog/v1/record.proto").unwrap();
    let append = record.message_type.iter().find(|m| m.name() == "AppendRequest").unwrap();
    let batch = append.field.iter().find(|f| f.number() == 4).unwrap();
    assert_eq!(batch.type_name(), ".meshlog.v1.RecordBatch");
    let imported = |name: &str| set.file.iter().any(|file| file.name() == name);
    for file in &set.file {
        assert!(
            file.dependency.iter().all(|name| imported(name)),
            "{}: import missing",
            file.name()
        );
    }
}

fn notices() -> Vec<v1::Notice> {
    vec![v1::Notice {
        kind: v1::NoticeKind::Moved.into(),
        message: "moved".into(),
        product: "ops.flights".into(),
        sunset_time: None,
    }]
}
