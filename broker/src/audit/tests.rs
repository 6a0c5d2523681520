use bytes::Bytes;
use meshlog_proto::v1;
use meshlog_storage::{Batch, Entry};
use prost::Message as _;

use super::{Denial, HASH_HEADER, Link, Refused, hash_of};
use crate::catalogue::AUDIT_PRODUCT;
use crate::{Broker, Caller, Config};

async fn team(broker: &Broker, name: &str) {
    let contacts = vec!["a@example.org".to_owned()];
    let team = v1::Team { name: name.to_owned(), contacts, ..Default::default() };
    let request = v1::CreateTeamRequest { team: Some(team), validate_only: false };
    broker.catalogue().create_team(&Caller::new("tests"), request).await.unwrap();
}

async fn verify(broker: &Broker, noted_head: &str) -> v1::VerifyAuditResponse {
    let request = v1::VerifyAuditRequest { noted_head: noted_head.to_owned() };
    broker.verify_audit(&Caller::default(), request).await.unwrap()
}

async fn list(broker: &Broker, request: v1::ListAuditRequest) -> Vec<v1::AuditRecord> {
    let mut request = v1::ListAuditRequest { page_size: 7, ..request };
    let mut all = Vec::new();
    loop {
        let page = broker.list_audit(&Caller::default(), request.clone()).await.unwrap();
        assert!(page.records.len() <= 7);
        all.extend(page.records);
        if page.next_page_token.is_empty() {
            return all;
        }
        request.page_token = page.next_page_token;
    }
}

fn denial(action: &str) -> Denial<'_> {
    Denial { refused: Refused::Access, action, resource: "product/ops.a", reason: "no grant" }
}

#[tokio::test]
async fn a_log_that_is_as_it_was_written_leads_through_every_head_noted_before() {
    let directory = tempfile::tempdir().unwrap();
    let mut heads = Vec::new();
    for run in 0..3 {
        let broker = Broker::open(Config::at(directory.path())).unwrap();
        for number in 0..4 {
            team(&broker, &format!("team-{run}-{number}")).await;
            heads.push(verify(&broker, "").await.head);
        }
        for head in &heads {
            let verified = verify(&broker, head).await;
            assert_eq!(verified.broken, None, "{head}");
            assert_eq!(verified.anchor, Link::start().to_string());
        }
        broker.close().await.unwrap();
    }
    assert!(heads.last().unwrap().starts_with("12:"), "{heads:?}");
    let broker = Broker::open(Config::at(directory.path())).unwrap();
    let other = Link { sequence: 3, hash: hash_of(b"other") };
    let broken = verify(&broker, &other.to_string()).await.broken.unwrap();
    assert_eq!(broken.offset, 2, "{}", broken.what);
    let later = Link { sequence: 13, hash: hash_of(b"later") };
    assert!(verify(&broker, &later.to_string()).await.broken.is_some());
    broker.close().await.unwrap();
}

/// Whoever can write into the stream but not with the catalogue's own entry.
#[tokio::test]
async fn a_record_that_the_broker_did_not_write_is_found() {
    let broker = Broker::in_memory().unwrap();
    team(&broker, "before").await;
    let head = broker.catalogue().audit_chain().link();
    let value = format!(r#"{{"sequence":2,"previous":"{}","kind":"team","name":"x"}}"#, head.hash);
    let header = v1::Header {
        name: HASH_HEADER.to_owned(),
        value: hash_of(value.as_bytes()).to_string().into(),
    };
    let record = v1::Record {
        key: Some(Bytes::from_static(b"team/x")),
        value: Some(value.into()),
        headers: vec![header],
        ..Default::default()
    };
    let forged = v1::RecordBatch { records: vec![record] };
    let product = broker.catalogue().resolve(AUDIT_PRODUCT, "").unwrap();
    let batch = Batch {
        stream: product.streams[0],
        payload: vec![forged.encode_to_vec().into()],
        count: 1,
        schema: 1,
        application: 0,
        expected_offset: None,
    };
    broker.storage().append_and_wait(Entry { batches: vec![batch], ..Entry::default() }).unwrap();
    team(&broker, "after").await;
    let broken = verify(&broker, "").await.broken.unwrap();
    assert_eq!(broken.offset, 1, "{}", broken.what);
}

#[tokio::test]
async fn ten_thousand_refused_calls_are_some_records_with_counts() {
    let broker = Broker::in_memory().unwrap();
    let caller = Caller::new("greedy");
    for number in 0..10_000 {
        broker.refused_call(&caller, denial(if number % 4 == 0 { "read" } else { "append" }));
        if number % 1_000 == 0 {
            // Changes go on between them.
            team(&broker, &format!("team-{number}")).await;
        }
    }
    broker.catalogue().write_denials(true).await;
    let of = |kind: &str| v1::ListAuditRequest { kind: kind.to_owned(), ..Default::default() };
    let denials = list(&broker, of("denial")).await;
    assert!((6..=12).contains(&denials.len()), "{}", denials.len());
    let count = |record: &v1::AuditRecord| {
        let value: serde_json::Value = serde_json::from_str(&record.json).unwrap();
        assert_eq!(value["reason"], "no grant");
        value["count"].as_u64().unwrap_or(1)
    };
    assert_eq!(denials.iter().map(count).sum::<u64>(), 10_000);
    assert!(denials.iter().all(|record| record.principal == "unverified:greedy"));
    assert_eq!(list(&broker, of("team")).await.len(), 10);
    let verified = verify(&broker, "").await;
    assert_eq!(verified.broken, None);
    assert_eq!(verified.records as usize, denials.len() + 10);
}

#[tokio::test]
async fn the_first_refused_calls_are_written_without_waiting_for_more() {
    let broker = Broker::in_memory().unwrap();
    let refused = Refused::Authentication;
    broker.refused_call(&Caller::new("who"), Denial { refused, ..denial("read") });
    let asked =
        || v1::ListAuditRequest { principal: "unverified:who".into(), ..Default::default() };
    tokio::time::timeout(std::time::Duration::from_secs(20), async {
        while list(&broker, asked()).await.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let record = list(&broker, asked()).await.remove(0);
    assert_eq!((record.kind.as_str(), record.name.as_str()), ("authentication", "product/ops.a"));
}

#[tokio::test]
async fn closing_writes_what_was_only_counted() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(Config::at(directory.path())).unwrap();
    for _ in 0..100 {
        broker.refused_call(&Caller::new("a"), denial("read"));
    }
    broker.close().await.unwrap();
    let broker = Broker::open(Config::at(directory.path())).unwrap();
    let records = list(&broker, v1::ListAuditRequest::default()).await;
    let last: serde_json::Value = serde_json::from_str(&records.last().unwrap().json).unwrap();
    assert_eq!((records.len(), last["count"].as_u64()), (6, Some(95)), "{last}");
    assert_eq!(verify(&broker, "").await.broken, None);
    broker.close().await.unwrap();
}

#[tokio::test]
async fn the_log_is_filtered_by_who_what_and_when() {
    let broker = Broker::in_memory().unwrap();
    for number in 0..20 {
        team(&broker, &format!("team-{number}")).await;
    }
    let backup = broker.backup(&Caller::new("nightly"), v1::BackupRequest::default()).await;
    drop(backup.unwrap());
    let all = list(&broker, v1::ListAuditRequest::default()).await;
    assert_eq!(all.len(), 21);
    let last = all.last().unwrap();
    let told = (&*last.principal, &*last.action, &*last.kind);
    assert_eq!(told, ("unverified:nightly", "backup", "broker"));
    for (index, record) in all.iter().enumerate() {
        assert_eq!((record.offset, record.sequence), (index as u64, index as u64 + 1));
        assert_eq!(record.hash, hash_of(record.json.as_bytes()).to_string());
    }
    let found = |request| list(&broker, request);
    let nanos = |record: &v1::AuditRecord| crate::time::storage_time(&record.time.unwrap());
    let asked = v1::ListAuditRequest { action: "backup".into(), ..Default::default() };
    assert_eq!(found(asked).await.len(), 1);
    let asked = v1::ListAuditRequest { name: "team-7".into(), ..Default::default() };
    assert_eq!(found(asked).await[0].sequence, 8);
    let asked = v1::ListAuditRequest { since_time: all[15].time, ..Default::default() };
    let since = found(asked).await;
    assert!(since.len() >= 6 && nanos(&since[0]) >= nanos(&all[15]), "{}", since.len());
    let asked = v1::ListAuditRequest { until_time: all[15].time, ..Default::default() };
    assert!(found(asked).await.iter().all(|record| nanos(record) < nanos(&all[15])));
    let page_token = "odd".to_owned();
    let wrong = v1::ListAuditRequest { page_token, ..Default::default() };
    assert!(broker.list_audit(&Caller::default(), wrong).await.is_err());
}
