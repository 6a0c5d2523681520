//! The chain of the audit log over power cuts: it goes on where it was, and never twice from one
//! place.

use std::sync::Arc;

use meshlog_broker::audit::{Denial, Refused};
use meshlog_broker::{Broker, Caller, Config};
use meshlog_proto::v1;
use meshlog_storage::Components;
use meshlog_storage::disk::{CrashPlan, SimulatedDisk};

fn open(disk: &Arc<SimulatedDisk>) -> Broker {
    Broker::open_with(Config::at("/simulated"), |codec, observer| Components {
        disk: disk.clone(),
        ..Components::on_disk(codec, observer)
    })
    .unwrap()
}

/// Changes and refused calls, until a call of the disk fails; gives how many changes were answered
/// and the newest head.
async fn work(broker: &Broker, round: &str) -> (usize, String) {
    let (mut answered, mut head) = (0, String::new());
    for number in 0..5 {
        let denial = Denial {
            refused: Refused::Access,
            action: "append",
            resource: "product/ops.a",
            reason: "no grant",
        };
        broker.refused_call(&Caller::new("greedy"), denial);
        let team = v1::Team {
            name: format!("{round}-{number}"),
            contacts: vec!["a@example.org".to_owned()],
            ..Default::default()
        };
        let request = v1::CreateTeamRequest { team: Some(team), validate_only: false };
        if broker.catalogue().create_team(&Caller::new("tests"), request).await.is_err() {
            break;
        }
        answered += 1;
        if let Ok(verified) =
            broker.verify_audit(&Caller::new("tests"), v1::VerifyAuditRequest::default()).await
        {
            assert_eq!(verified.broken, None);
            head = verified.head;
        }
    }
    (answered, head)
}

async fn verify(broker: &Broker, noted_head: String) -> v1::VerifyAuditResponse {
    broker.verify_audit(&Caller::new("tests"), v1::VerifyAuditRequest { noted_head }).await.unwrap()
}

#[tokio::test]
async fn a_power_cut_in_any_call_leaves_one_chain_that_goes_on() {
    let disk = Arc::new(SimulatedDisk::new(64 << 20));
    let broker = open(&disk);
    let begun = disk.calls();
    assert_eq!(work(&broker, "a").await.0, 5);
    broker.close().await.unwrap();
    let calls = disk.calls() - begun;

    let mut cut_short = 0;
    for at in 1..=calls {
        let disk = Arc::new(SimulatedDisk::new(64 << 20));
        let broker = open(&disk);
        disk.crash_at(disk.calls() + at, at);
        let (answered, head) = work(&broker, "a").await;
        cut_short += usize::from(answered < 5);
        let _ = broker.close().await;
        drop(broker);
        for plan in [CrashPlan::KeepNothing, CrashPlan::KeepAll, CrashPlan::Random(at)] {
            let after = Arc::new(disk.after_crash(plan));
            let broker = open(&after);
            let verified = verify(&broker, head.clone()).await;
            assert_eq!(verified.broken, None, "cut at {at}, {plan:?}");
            assert!(verified.records as usize >= answered, "cut at {at}, {plan:?}");
            let (more, _) = work(&broker, "b").await;
            assert_eq!(more, 5);
            let verified = verify(&broker, verified.head).await;
            assert_eq!(verified.broken, None, "after more, cut at {at}, {plan:?}");
            broker.close().await.unwrap();
        }
    }
    assert!(cut_short > 3, "{cut_short} of {calls}");
}
