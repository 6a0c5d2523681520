//! A power cut during a change of the catalogue: the change and its record in the audit log are
//! both there, or neither is.

use std::collections::BTreeMap;
use std::sync::Arc;

use meshlog_broker::{Broker, Caller, Config};
use meshlog_proto::{server_v1, v1};
use meshlog_storage::Components;
use meshlog_storage::disk::{CrashPlan, SimulatedDisk};
use prost::Message as _;
use serde_json::Value;

fn open(disk: &Arc<SimulatedDisk>) -> meshlog_broker::Result<Broker> {
    Broker::open_with(Config::at("/simulated"), |codec, observer| Components {
        disk: disk.clone(),
        ..Components::on_disk(codec, observer)
    })
}

/// Sets limits, moves the beginning and takes limits away until a call fails; gives how many were
/// answered.
async fn limit(broker: &Broker) -> usize {
    let caller = Caller::new("crash");
    let name = "sandbox.a".to_owned();
    let age = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let settings = |number: u64| match number % 3 {
        0 => v1::ProductSettings { retention_count: 100, ..Default::default() },
        1 => v1::ProductSettings {
            retention_bytes: 1 << 30,
            retention_age: age(86_400),
            ..Default::default()
        },
        _ => v1::ProductSettings::default(),
    };
    let product = v1::Product { name: name.clone(), partitions: 2, ..Default::default() };
    let request = v1::CreateProductRequest { product: Some(product), ..Default::default() };
    if broker.catalogue().create_product(&caller, request).await.is_err() {
        return 0;
    }
    for number in 0..6 {
        let batch = v1::RecordBatch { records: vec![v1::Record::default(); 2] };
        let request = server_v1::AppendRequest {
            product: name.clone(),
            partition: Some(0),
            batch: vec![batch.encode_to_vec().into()],
            ..Default::default()
        };
        if broker.append(&caller, request).await.is_err() {
            return number * 2 + 1;
        }
        let product = Some(v1::Product {
            name: name.clone(),
            settings: Some(settings(number as u64)),
            ..Default::default()
        });
        let update_mask = Some(prost_types::FieldMask { paths: vec!["settings".to_owned()] });
        let request = v1::UpdateProductRequest { product, update_mask, validate_only: false };
        if broker.catalogue().update_product(&caller, request).await.is_err() {
            return number * 2 + 1;
        }
        let offset = number as u64 + 1;
        let positions = v1::Positions { positions: vec![v1::Position { partition: 0, offset }] };
        let request = v1::TrimProductRequest {
            product: name.clone(),
            which: Some(v1::trim_product_request::Which::BeforeOffsets(positions)),
            ..Default::default()
        };
        if broker.trim_product(&caller, request).await.is_err() {
            return number * 2 + 2;
        }
    }
    13
}

/// What the audit log says of limits and of the beginning: the names of the limits that are set,
/// the first offset, and how many records there are.
async fn limits_told(broker: &Broker) -> (Vec<String>, u64, usize) {
    let (mut limits, mut start, mut count) = (BTreeMap::new(), 0, 0);
    for value in audit(broker).await {
        count += 1;
        for change in value["changes"].as_array().unwrap() {
            let path = change["path"].as_str().unwrap();
            if path == "partitions[0].start_offset" {
                start = change["after"].as_u64().unwrap();
            } else if let Some(limit) = path.strip_prefix("settings.retention_") {
                limits.insert(limit.to_owned(), change.get("after").is_some());
            }
        }
    }
    let set = limits.into_iter().filter(|(_, is_set)| *is_set).map(|(limit, _)| limit);
    (set.collect(), start, count)
}

#[tokio::test]
async fn limits_of_a_product_and_of_its_partitions_survive_a_power_cut_together() {
    let disk = Arc::new(SimulatedDisk::new(64 << 20));
    let broker = open(&disk).unwrap();
    let begun = disk.calls();
    assert_eq!(limit(&broker).await, 13);
    let calls = disk.calls() - begun;
    broker.close().await.unwrap();

    let mut lost = 0;
    for at in 1..=calls {
        let disk = Arc::new(SimulatedDisk::new(64 << 20));
        let broker = open(&disk).unwrap();
        disk.crash_at(disk.calls() + at, at);
        let answered = limit(&broker).await;
        let _ = broker.close().await;
        drop(broker);
        for plan in [CrashPlan::KeepNothing, CrashPlan::KeepAll, CrashPlan::Random(at)] {
            let after = Arc::new(disk.after_crash(plan));
            let broker = open(&after).unwrap();
            let (limits, start, count) = limits_told(&broker).await;
            assert!(count >= answered, "what was answered is there: cut at {at}, {plan:?}");
            lost += usize::from(count < 13);
            let request = v1::ExplainRetentionRequest {
                product: "sandbox.a".to_owned(),
                ..Default::default()
            };
            if count > 0 {
                let told = broker
                    .explain_retention(&meshlog_broker::Caller::default(), request)
                    .await
                    .unwrap();
                assert_eq!(told.partitions[0].start_offset, start, "cut at {at}, {plan:?}");
                for partition in &told.partitions {
                    let mut kept: Vec<String> = partition
                        .limits
                        .iter()
                        .map(|limit| limit.kind().as_str_name().to_lowercase())
                        .map(|name| name.trim_start_matches("retention_limit_kind_").to_owned())
                        .collect();
                    kept.sort_unstable();
                    assert_eq!(kept, limits, "cut at {at}, {plan:?}");
                }
            } else {
                broker
                    .explain_retention(&meshlog_broker::Caller::default(), request)
                    .await
                    .unwrap_err();
            }
            let _ = broker.close().await;
        }
    }
    assert!(lost > 0, "some cut came before the last change");
}

/// Makes changes one after the other until one fails; gives how many were answered.
async fn change(broker: &Broker) -> usize {
    let (catalogue, caller) = (broker.catalogue(), Caller::new("crash"));
    let mut answered = 0;
    for number in 0..12 {
        let name = format!("t{number}");
        let team =
            v1::Team { name: name.clone(), contacts: vec!["x".to_owned()], ..Default::default() };
        let request = v1::CreateTeamRequest { team: Some(team), validate_only: false };
        if catalogue.create_team(&caller, request).await.is_err() {
            return answered;
        }
        answered += 1;
        if number % 3 == 2 {
            let name = format!("t{}", number - 1);
            let request = v1::DeleteTeamRequest { name, ..Default::default() };
            if catalogue.delete_team(&caller, request).await.is_err() {
                return answered;
            }
            answered += 1;
        }
    }
    answered
}

/// The teams that the audit log says exist, and the number of its records.
async fn told(broker: &Broker) -> (BTreeMap<String, bool>, usize) {
    let (mut teams, mut count) = (BTreeMap::new(), 0);
    for value in audit(broker).await {
        let name = value["name"].as_str().unwrap().to_owned();
        teams.insert(name, value["action"] == "create_team");
        count += 1;
    }
    (teams, count)
}

/// The records of the audit log.
async fn audit(broker: &Broker) -> Vec<Value> {
    let request = v1::ReadRequest { product: "meshlog.audit".to_owned(), ..Default::default() };
    let response = broker.read(&meshlog_broker::Caller::default(), request).await.unwrap();
    let batches = response.batches.into_iter();
    let records = batches.flat_map(|batch| v1::RecordBatch::decode(batch.batch).unwrap().records);
    records.map(|record| serde_json::from_slice(&record.value.unwrap()).unwrap()).collect()
}

#[tokio::test]
async fn a_change_and_its_audit_record_survive_a_power_cut_together() {
    // How many calls the whole run takes.
    let disk = Arc::new(SimulatedDisk::new(64 << 20));
    let broker = open(&disk).unwrap();
    let begun = disk.calls();
    assert_eq!(change(&broker).await, 16);
    let calls = disk.calls() - begun;
    broker.close().await.unwrap();

    let mut lost = 0;
    for at in 1..=calls {
        let disk = Arc::new(SimulatedDisk::new(64 << 20));
        let Ok(broker) = open(&disk) else { panic!("an empty disk opens") };
        disk.crash_at(disk.calls() + at, at);
        let answered = change(&broker).await;
        let _ = broker.close().await;
        drop(broker);
        for plan in [CrashPlan::KeepNothing, CrashPlan::KeepAll, CrashPlan::Random(at)] {
            let after = Arc::new(disk.after_crash(plan));
            let broker = open(&after).unwrap();
            let (told, count) = told(&broker).await;
            let teams = broker
                .catalogue()
                .list_teams(&meshlog_broker::Caller::default(), v1::ListTeamsRequest::default())
                .unwrap();
            let names: Vec<String> = teams.teams.into_iter().map(|team| team.name).collect();
            for (name, exists) in &told {
                assert_eq!(names.contains(name), *exists, "{name}, cut at {at}, {plan:?}");
            }
            // The two that are built in have no record.
            assert_eq!(names.len() - 2, told.values().filter(|exists| **exists).count());
            assert!(count >= answered, "what was answered is there: cut at {at}, {plan:?}");
            lost += usize::from(count < 16);
            let _ = broker.close().await;
        }
    }
    assert!(lost > 0, "some cut came before the last change");
}
