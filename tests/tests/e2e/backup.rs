//! Backups of a broker under load, taken and restored through the public contract, and every record
//! compared with what its writer knows.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use meshlog_broker::Config;
use meshlog_broker::backup::{
    BackupFile, BackupFolder, BackupManifest, Lsn, OsDisk, Restore, StoredBackupFile, Timestamp,
};
use meshlog_broker::config::ByteSize;
use meshlog_client::Client;
use meshlog_proto::v1;
use meshlog_proto::v1::backup_response::Part;
use meshlog_proto::v1::subscription_service_client::SubscriptionServiceClient;
use meshlog_tests::{TestBroker, append, failure, positions, product, read};

const WRITERS: u8 = 3;
/// Backups, each restored and compared; `MESHLOG_BACKUP_ROUNDS` for another number.
const ROUNDS: u64 = 4;

/// What one writer sent and what was answered.
#[derive(Default)]
struct Ledger {
    sent: AtomicU64,
    acknowledged: Mutex<Vec<v1::AppendedRange>>,
}

fn record(writer: u8, sequence: u64) -> v1::Record {
    let length = 200 + (sequence * 97 % 3000) as usize;
    let mut value = format!("writer {writer} record {sequence} ").into_bytes();
    value.resize(length, b'a' + (sequence % 26) as u8);
    v1::Record {
        key: sequence.is_multiple_of(3).then(|| format!("key {sequence}").into()),
        value: (!sequence.is_multiple_of(30)).then(|| value.into()),
        headers: vec![v1::Header { name: "n".into(), value: format!("{sequence}").into() }],
        event_time_unix_nano: 1_000 + sequence,
    }
}

fn request(writer: u8, sequence: u64) -> v1::AppendRequest {
    append("ops.busy")
        .partition(writer.into())
        .record(record(writer, sequence))
        .producer(writer, 0, sequence)
        .request()
}

/// Appends until told to stop.
async fn write(broker: Arc<TestBroker>, writer: u8, ledger: Arc<Ledger>, stop: Arc<AtomicBool>) {
    let mut records = broker.records();
    for sequence in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        ledger.sent.store(sequence + 1, Ordering::SeqCst);
        let answer = records.append(request(writer, sequence)).await.unwrap().into_inner();
        assert_eq!(answer.durability(), v1::Durability::Synced);
        ledger.acknowledged.lock().unwrap().push(answer.ranges[0]);
    }
}

/// Small files, so that some are finished between any two backups.
fn config(directory: &Path) -> Config {
    let mut config = Config::at(directory);
    config.storage.group = ByteSize(64 << 10);
    config.storage.file_min = ByteSize(128 << 10);
    config.storage.file_max = ByteSize(512 << 10);
    config.storage.ring = ByteSize(256 << 10);
    config
}

#[derive(Debug)]
struct Taken {
    manifest: BackupManifest,
    fetched: usize,
    /// Sent by each writer when the point in time was known to be over.
    sent: Vec<u64>,
}

/// Fetches a backup into a folder.
async fn back_up(client: &Client, path: &Path, sent: impl Fn() -> Vec<u64>) -> Taken {
    let folder = BackupFolder::open(path, Arc::new(OsDisk::default())).unwrap();
    let have = folder.have().map(str::to_owned).collect();
    let mut parts = client.backup(have).await.unwrap();
    let mut next = async || parts.next().await.unwrap().unwrap().part.unwrap();
    let Part::Begin(begin) = next().await else { panic!("it begins with its size") };
    let sent = sent();
    let time = begin.time.unwrap();
    let mut manifest = BackupManifest {
        format_version: begin.format_version,
        lsn: Lsn(begin.lsn),
        taken_at: Timestamp(time.seconds as u64 * 1_000_000_000 + time.nanos as u64),
        damage: Vec::new(),
        files: Vec::new(),
    };
    let mut fetched = 0;
    loop {
        let file = match next().await {
            Part::File(file) => file,
            Part::End(end) => {
                manifest.damage = end.damage;
                break;
            }
            other => panic!("{other:?}"),
        };
        let was_sent = file.sent;
        let file = BackupFile::checked(file.name, file.id, file.bytes, file.size).unwrap();
        if !was_sent {
            let (_, sha256) = folder.held(&file.id).unwrap();
            manifest.files.push(StoredBackupFile { file, sha256 });
            continue;
        }
        fetched += 1;
        let mut writer = folder.create(&file.id).unwrap();
        let sha256 = loop {
            match next().await {
                Part::Chunk(bytes) => writer.write(&bytes).unwrap(),
                Part::FileEnd(end) => break end.sha256,
                other => panic!("{other:?}"),
            }
        };
        let (bytes, found) = writer.finish().unwrap();
        assert_eq!((bytes, &found[..]), (file.bytes, &sha256[..]));
        manifest.files.push(StoredBackupFile { file, sha256: found });
    }
    assert_eq!(manifest.files.len() as u64, begin.files);
    folder.commit(&manifest).unwrap();
    Taken { manifest, fetched, sent }
}

fn restore(from: &Path, to: &Path) {
    let folder = BackupFolder::existing(from, Arc::new(OsDisk::default())).unwrap();
    let manifest = folder.manifest().unwrap().clone();
    let mut restoring = Restore::begin(to, Arc::new(OsDisk::default())).unwrap();
    for stored in &manifest.files {
        restoring.add(&stored.file.name, &mut folder.read(stored).unwrap()).unwrap();
    }
    let report = restoring.finish(&manifest, &mut |_| {}).unwrap();
    assert!(report.is_clean(), "{:?}", report.all_problems().collect::<Vec<_>>());
    assert!(report.known_damage.is_empty());
}

/// Everything of one partition, in order.
async fn everything(broker: &TestBroker, partition: u32) -> Vec<v1::StoredBatch> {
    let mut found: Vec<v1::StoredBatch> = Vec::new();
    let mut next = 0;
    loop {
        let request = v1::ReadRequest {
            start: Some(positions(&[(partition, next)])),
            partitions: vec![partition],
            ..read("ops.busy")
        };
        let answer = broker.records().read(request).await.unwrap().into_inner();
        if answer.batches.is_empty() {
            return found;
        }
        for batch in answer.batches {
            assert_eq!((batch.base_offset, batch.skip), (next, 0), "dense and in order");
            next += u64::from(batch.count);
            found.push(batch);
        }
    }
}

fn cursors(broker: &TestBroker) -> SubscriptionServiceClient<tonic::transport::Channel> {
    SubscriptionServiceClient::new(broker.channel())
}

/// A product that comes, is filled and goes, so that files die and are merged.
async fn come_and_go(broker: &TestBroker, round: u64) {
    let name = format!("ops.passing-{round}");
    broker.create(product(&name)).await;
    for _ in 0..40 {
        let request = append(&name).value(vec![b'x'; 50_000]).request();
        broker.records().append(request).await.unwrap();
    }
    let request = v1::DeleteProductRequest { name, force: true, ..Default::default() };
    broker.catalog().delete_product(request).await.unwrap();
}

/// The names of what the catalogue has.
async fn catalogue(broker: &TestBroker) -> Vec<String> {
    let list = v1::ListProductsRequest::default();
    let products = broker.catalog().list_products(list).await.unwrap().into_inner().products;
    let teams = broker.catalog().list_teams(v1::ListTeamsRequest::default()).await.unwrap();
    let products = products.into_iter().map(|product| format!("{} {}", product.name, product.id));
    products.chain(teams.into_inner().teams.into_iter().map(|team| team.name)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_backup_under_load_has_every_acknowledged_record_and_none_of_later() {
    let home = tempfile::tempdir().unwrap();
    let broker = Arc::new(TestBroker::start_with(config(&home.path().join("data"))).await);
    let created = broker.create(product("ops.busy").partitions(WRITERS.into())).await;
    let stop = Arc::new(AtomicBool::new(false));
    let ledgers: Vec<Arc<Ledger>> = (0..WRITERS).map(|_| Arc::default()).collect();
    let writers: Vec<_> = (0..WRITERS)
        .zip(&ledgers)
        .map(|(writer, ledger)| {
            let (broker, ledger, stop) = (Arc::clone(&broker), ledger.clone(), stop.clone());
            tokio::spawn(write(broker, writer, ledger, stop))
        })
        .collect();
    let sent = || ledgers.iter().map(|ledger| ledger.sent.load(Ordering::SeqCst)).collect();
    let client = broker.client().await;
    let folder = home.path().join("backup");
    let rounds = std::env::var("MESHLOG_BACKUP_ROUNDS")
        .map_or(ROUNDS, |rounds| rounds.parse().expect("MESHLOG_BACKUP_ROUNDS is a number"));
    let (mut files, mut fetched, mut merged) = (0, 0, 0);
    for round in 0..rounds {
        come_and_go(&broker, round).await;
        let team = v1::Team {
            name: format!("team-{round}"),
            contacts: vec!["mail@nyc.example".into()],
            ..Default::default()
        };
        let request = v1::CreateTeamRequest { team: Some(team), ..Default::default() };
        broker.catalog().create_team(request).await.unwrap();
        let until = ledgers[0].acknowledged.lock().unwrap().len() as u64;
        let commit = v1::CommitOffsetsRequest {
            cursor: "nightly".to_owned(),
            product: "ops.busy".to_owned(),
            positions: vec![v1::Position { partition: 0, offset: until }],
            ..Default::default()
        };
        cursors(&broker).commit_offsets(commit).await.unwrap();

        let before: Vec<Vec<_>> =
            ledgers.iter().map(|ledger| ledger.acknowledged.lock().unwrap().clone()).collect();
        let known = catalogue(&broker).await;
        let taken = back_up(&client, &folder, sent).await;
        assert!(taken.manifest.damage.is_empty(), "{:?}", taken.manifest.damage);
        assert!(taken.fetched < taken.manifest.files.len() || round == 0, "{taken:?}");
        files += taken.manifest.files.len();
        fetched += taken.fetched;
        let is_merged = |stored: &&StoredBackupFile| stored.file.name.starts_with("segment-");
        merged += taken.manifest.files.iter().filter(is_merged).count();

        let data = home.path().join(format!("restored-{round}"));
        restore(&folder, &data);
        let copy = TestBroker::start_with(config(&data)).await;
        assert_eq!(catalogue(&copy).await, known, "round {round}");
        let mut catalog = copy.catalog();
        let request = v1::GetProductRequest { name: "ops.busy".to_owned() };
        let product = catalog.get_product(request).await.unwrap().into_inner().product.unwrap();
        assert_eq!(product.id, created.id);
        for writer in 0..WRITERS {
            let found = everything(&copy, writer.into()).await;
            check(writer, &found, &before[usize::from(writer)], taken.sent[usize::from(writer)]);
            retry(&copy, writer, found.len() as u64).await;
        }
        let request = v1::GetOffsetsRequest {
            cursor: "nightly".to_owned(),
            product: "ops.busy".to_owned(),
            ..Default::default()
        };
        let cursor = cursors(&copy).get_offsets(request).await.unwrap().into_inner().cursor;
        assert_eq!(cursor.unwrap().positions[0].offset, until);
        copy.broker().close().await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let appended: usize = ledgers.iter().map(|l| l.acknowledged.lock().unwrap().len()).sum();
    assert!(appended > 100, "{appended}");
    println!(
        "{rounds} backups under load with {files} files, {fetched} of them fetched, {merged} merged \
         ones; {appended} acknowledged appends, all there"
    );
    broker.broker().close().await.unwrap();
}

/// One request is one record here: what is found is a dense beginning of what was sent, every
/// acknowledged request in it where its answer said.
fn check(writer: u8, found: &[v1::StoredBatch], before: &[v1::AppendedRange], sent: u64) {
    let count = found.len();
    assert!(count >= before.len(), "writer {writer}: {count} of {} acknowledged", before.len());
    assert!(count as u64 <= sent, "writer {writer}: {count}, but only {sent} were sent before");
    for (sequence, batch) in (0..).zip(found) {
        let expected = v1::RecordBatch { records: vec![record(writer, sequence)] };
        assert_eq!(batch.batch.as_ref(), Some(&expected), "writer {writer}, record {sequence}");
        assert_eq!((batch.base_offset, batch.schema_version), (sequence, 1));
    }
    for (range, batch) in before.iter().zip(found) {
        assert_eq!((range.first_offset, range.count), (batch.base_offset, batch.count));
        assert_eq!(range.append_time, batch.append_time);
    }
}

/// Where the copy stops, its producers go on: the last request is a duplicate, the next one is not,
/// one further on is a gap.
async fn retry(copy: &TestBroker, writer: u8, count: u64) {
    let mut records = copy.records();
    if let Some(last) = count.checked_sub(1) {
        let again = records.append(request(writer, last)).await.unwrap().into_inner();
        assert!(again.duplicate);
        assert_eq!(again.ranges[0].first_offset, last);
    }
    let gap = records.append(request(writer, count + 1)).await.unwrap_err();
    let expected = if count == 0 { "PRODUCER_UNKNOWN" } else { "SEQUENCE_GAP" };
    assert_eq!(failure(&gap).reason, expected);
    let next = records.append(request(writer, count)).await.unwrap().into_inner();
    assert_eq!((next.duplicate, next.ranges[0].first_offset), (false, count));
}

/// What is kept for a client that goes away is let go.
#[tokio::test]
async fn a_backup_that_is_cancelled_makes_room_for_the_next() {
    let home = tempfile::tempdir().unwrap();
    let broker = TestBroker::start_with(config(&home.path().join("data"))).await;
    broker.create(product("ops.a")).await;
    for _ in 0..40 {
        let request = append("ops.a").value(vec![b'x'; 100_000]);
        broker.records().append(request).await.unwrap();
    }
    let begin = async || {
        let mut parts = broker.admin().backup(v1::BackupRequest::default()).await?.into_inner();
        let first = parts.message().await?;
        assert!(matches!(first.unwrap().part, Some(Part::Begin(_))));
        Ok::<_, tonic::Status>(parts)
    };
    let (first, second) = (begin().await.unwrap(), begin().await.unwrap());
    let refused = failure(&begin().await.unwrap_err());
    assert_eq!(refused.reason, "OVERLOADED");
    drop((first, second));
    for attempt in 0.. {
        match begin().await {
            Ok(_) => break,
            Err(status) => assert_eq!(failure(&status).reason, "OVERLOADED"),
        }
        assert!(attempt < 5_000, "the broker notices that its clients are gone");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
