//! The encoded messages in `languages/scenarios.json`, which programs in other languages decode, are what this contract
//! encodes. They hold what a broker does not answer soon: many holes in one batch, offsets above 2^53.

use meshlog_proto::v1;

fn record(key: &str, value: Option<&str>) -> v1::Record {
    v1::Record {
        key: Some(key.as_bytes().to_vec().into()),
        value: value.map(|value| value.as_bytes().to_vec().into()),
        ..v1::Record::default()
    }
}

fn batch(base_offset: u64, records: &[(&str, Option<&str>)]) -> v1::StoredBatch {
    v1::StoredBatch {
        base_offset,
        count: records.len() as u32,
        batch: Some(v1::RecordBatch {
            records: records.iter().map(|(key, value)| record(key, *value)).collect(),
        }),
        ..v1::StoredBatch::default()
    }
}

fn hex(message: &impl prost::Message) -> String {
    message.encode_to_vec().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn scenario(name: &str) -> serde_json::Value {
    let file: serde_json::Value =
        serde_json::from_str(include_str!("../../languages/scenarios.json")).unwrap();
    let scenarios = file["scenarios"].as_array().unwrap();
    scenarios.iter().find(|scenario| scenario["name"] == name).unwrap().clone()
}

/// Compares what the scenario gives and expects with what these states encode to.
fn check(name: &str, response: &v1::ReadResponse) {
    let scenario = scenario(name);
    assert_eq!(scenario["read_response"], hex(response), "{name}");
    let positions = response
        .partitions
        .iter()
        .map(|state| v1::Position { partition: state.partition, offset: state.next_offset });
    let positions = v1::Positions { positions: positions.collect() };
    assert_eq!(scenario["expect"]["positions"], hex(&positions), "{name}");
    let next: Vec<_> =
        response.partitions.iter().map(|state| state.next_offset.to_string()).collect();
    assert_eq!(scenario["expect"]["next_offsets"], serde_json::json!(next), "{name}");
}

#[test]
fn the_compacted_batch_of_the_language_scenarios_is_encoded_by_this_contract() {
    let compacted = v1::StoredBatch {
        skip: 1,
        offset_deltas: vec![0, 3, 4, 9],
        schema_version: 1,
        ..batch(
            100,
            &[("a", Some("first")), ("b", Some("second")), ("c", None), ("d", Some("fourth"))],
        )
    };
    let dense = v1::StoredBatch {
        schema_version: 1,
        ..batch(110, &[("e", Some("fifth")), ("f", Some("sixth"))])
    };
    let response = v1::ReadResponse {
        product_id: "01JD0000000000000000000000".to_owned(),
        batches: vec![compacted, dense],
        partitions: vec![v1::PartitionState {
            partition: 0,
            next_offset: 112,
            start_offset: 40,
            durable_end: 112,
        }],
        ..v1::ReadResponse::default()
    };
    check("a compacted batch keeps the offsets of the records that are left", &response);
}

#[test]
fn the_large_offsets_of_the_language_scenarios_are_encoded_by_this_contract() {
    const BEYOND_DOUBLES: u64 = (1 << 53) + 1;
    const NEAR_THE_END: u64 = u64::MAX - 5;
    let state = |partition, next_offset| v1::PartitionState {
        partition,
        next_offset,
        ..v1::PartitionState::default()
    };
    let response = v1::ReadResponse {
        batches: vec![
            batch(BEYOND_DOUBLES, &[("a", Some("1")), ("b", Some("2"))]),
            v1::StoredBatch { partition: 1, ..batch(NEAR_THE_END, &[("c", Some("3"))]) },
        ],
        partitions: vec![state(0, BEYOND_DOUBLES + 2), state(1, NEAR_THE_END + 1)],
        ..v1::ReadResponse::default()
    };
    check("an offset above 2^53 stays what it is", &response);
}
