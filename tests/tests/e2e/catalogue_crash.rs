//! A power cut during a change of the catalogue: the change and its record in the audit log are
//! both there, or neither is.

use std::collections::BTreeMap;
use std::sync::Arc;

use meshlog_broker::{Broker, Caller, Config};
use meshlog_proto::v1;
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
    let request = v1::ReadRequest { product: "meshlog.audit".to_owned(), ..Default::default() };
    let response = broker.read(&meshlog_broker::Caller::default(), request).await.unwrap();
    let (mut teams, mut count) = (BTreeMap::new(), 0);
    for batch in response.batches {
        for record in v1::RecordBatch::decode(batch.batch).unwrap().records {
            let value: Value = serde_json::from_slice(&record.value.unwrap()).unwrap();
            let name = value["name"].as_str().unwrap().to_owned();
            teams.insert(name, value["action"] == "create_team");
            count += 1;
        }
    }
    (teams, count)
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
            let teams = broker.catalogue().list_teams(v1::ListTeamsRequest::default()).unwrap();
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
