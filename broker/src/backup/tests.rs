use std::time::Duration;

use meshlog_proto::v1::{self, backup_response::Part};

use super::{Backup, CHUNK_BYTES, HAVE_MAX, Patience};
use crate::{Broker, Caller, Reason};

/// A broker with a few megabytes in it.
async fn filled() -> Broker {
    let broker = Broker::in_memory().unwrap();
    let product = v1::Product { name: "sandbox.a".to_owned(), ..Default::default() };
    let request = v1::CreateProductRequest { product: Some(product), ..Default::default() };
    broker.catalogue().create_product(&Caller::default(), request).await.unwrap();
    for _ in 0..3 {
        let value = Some(vec![7; 1_000_000].into());
        let records = vec![v1::Record { value, ..Default::default() }];
        let batch = prost::Message::encode_to_vec(&v1::RecordBatch { records });
        let request = meshlog_proto::server_v1::AppendRequest {
            product: "sandbox.a".to_owned(),
            batch: vec![batch.into()],
            ..Default::default()
        };
        broker.append(&Caller::default(), request).await.unwrap();
    }
    broker
}

async fn begin(broker: &Broker, have: Vec<String>) -> Backup {
    broker.backup(&Caller::default(), v1::BackupRequest { have }).await.unwrap()
}

/// All parts of a backup that succeeds.
async fn parts(mut backup: Backup) -> Vec<Part> {
    let mut parts = Vec::new();
    while let Some(part) = backup.next().await {
        parts.push(part.unwrap().part.unwrap());
    }
    parts
}

fn files(parts: &[Part]) -> Vec<v1::BackupFile> {
    let file = |part: &Part| match part {
        Part::File(file) => Some(file.clone()),
        _ => None,
    };
    parts.iter().filter_map(file).collect()
}

#[tokio::test]
async fn a_backup_is_what_its_beginning_says_in_messages_that_every_client_takes() {
    let broker = filled().await;
    let parts = parts(begin(&broker, Vec::new()).await).await;
    let Some(Part::Begin(begin)) = parts.first() else { panic!("it begins with its size") };
    assert!(matches!(parts.last(), Some(Part::End(end)) if end.damage.is_empty()));
    let sent: usize = parts
        .iter()
        .map(|part| match part {
            Part::Chunk(bytes) => bytes.len(),
            _ => 0,
        })
        .sum();
    assert_eq!(begin.send_bytes, sent as u64);
    assert_eq!(begin.bytes, begin.send_bytes);
    assert!(sent > 3_000_000, "{sent}");
    let files = files(&parts);
    assert_eq!(files.len() as u64, begin.files);
    assert!(files.iter().all(|file| file.sent));
    for part in parts {
        let message = v1::BackupResponse { part: Some(part) };
        assert!(prost::Message::encoded_len(&message) <= CHUNK_BYTES + 64);
    }

    let have = files.iter().map(|file| file.id.clone()).collect();
    let again = self::parts(self::begin(&broker, have).await).await;
    let names: Vec<_> = self::files(&again).into_iter().filter(|file| file.sent).collect();
    let new: u64 = names.iter().map(|file| file.bytes).sum();
    assert!(new < 64 << 10, "a checkpoint, and what the audit log says of it: {names:?}");
}

#[tokio::test]
async fn only_some_backups_go_on_at_once_and_one_that_is_dropped_makes_room() {
    let broker = filled().await;
    let (first, second) = (begin(&broker, Vec::new()).await, begin(&broker, Vec::new()).await);
    let refused =
        broker.backup(&Caller::default(), v1::BackupRequest::default()).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::Overloaded);
    assert!(refused.metadata().contains_key("retry_after_ms"));
    drop(first);
    let third = begin(&broker, Vec::new()).await;
    drop((second, third));
    let have = vec![String::new(); HAVE_MAX + 1];
    let refused = broker.backup(&Caller::default(), v1::BackupRequest { have }).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::InvalidArgument);
}

#[tokio::test]
async fn a_client_that_takes_nothing_loses_its_backup_and_is_told_why() {
    let broker = filled().await;
    let short = Duration::from_millis(20);
    let long = Duration::from_secs(3600);
    for patience in [Patience { stall: short, whole: long }, Patience { stall: long, whole: short }]
    {
        let mut backup = broker
            .backup_with(&Caller::default(), v1::BackupRequest::default(), patience)
            .await
            .unwrap();
        while !backup.patience.is_over() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // What needs no file still comes.
        let error = loop {
            match backup.next().await.unwrap() {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.reason(), Reason::BackupExpired, "{error}");
        assert!(backup.next().await.is_none());
    }
}

#[tokio::test]
async fn closing_the_broker_ends_a_backup_with_the_reason() {
    let broker = filled().await;
    let mut backup = begin(&broker, Vec::new()).await;
    assert!(backup.next().await.unwrap().is_ok());
    broker.close().await.unwrap();
    assert_eq!(backup.next().await.unwrap().unwrap_err().reason(), Reason::ShuttingDown);
    let refused =
        broker.backup(&Caller::default(), v1::BackupRequest::default()).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::ShuttingDown);
}
