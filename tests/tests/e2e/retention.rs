//! How long records stay, over gRPC.

use std::time::Duration;

use meshlog_broker::Config;
use meshlog_broker::config::ByteSize;
use meshlog_client::{Client, StartAt};
use meshlog_proto::v1;
use meshlog_proto::v1::trim_product_request::Which;
use meshlog_tests::{TestBroker, append, failure, positions, product, read, subscribe, values};
use tonic::Code;

const DAY: Duration = Duration::from_secs(86_400);

/// Waits for what happens by itself, in the background.
async fn until(what: &str, mut happened: impl AsyncFnMut() -> bool) {
    for _ in 0..6_000 {
        if happened().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not happen");
}

async fn starts(broker: &TestBroker, product: &str) -> Vec<u64> {
    let request =
        v1::ListOffsetsRequest { product: product.to_owned(), ..v1::ListOffsetsRequest::default() };
    let listed = broker.records().list_offsets(request).await.unwrap().into_inner();
    listed.partitions.iter().map(|one| one.start_offset).collect()
}

fn trim(which: Which) -> v1::TrimProductRequest {
    v1::TrimProductRequest {
        product: "ops.a".to_owned(),
        which: Some(which),
        ..v1::TrimProductRequest::default()
    }
}

fn before(partition: u32, offset: u64) -> Which {
    let positions = vec![v1::Position { partition, offset }];
    Which::BeforeOffsets(v1::Positions { positions })
}

#[tokio::test]
async fn records_go_when_their_time_is_over_and_stay_gone_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let broker = TestBroker::start_with(Config::at(directory.path())).await;
    broker.create(product("ops.a").partitions(2).retention_age(7 * DAY)).await;
    broker.create(product("ops.b")).await;
    for name in ["ops.a", "ops.b"] {
        broker.records().append(append(name).partition(0).value("old")).await.unwrap();
    }
    broker.clock().advance(4 * DAY);
    broker.records().append(append("ops.a").partition(1).value("newer")).await.unwrap();
    let explain = v1::ExplainRetentionRequest {
        product: "ops.a".to_owned(),
        ..v1::ExplainRetentionRequest::default()
    };
    let told = broker.admin().explain_retention(explain.clone()).await.unwrap().into_inner();
    assert_eq!(told.effective_settings.unwrap().retention_age.unwrap().seconds, 7 * 86_400);
    assert!(told.partitions.iter().all(|one| one.reason.contains("by age it goes at")));
    let due = |told: &v1::ExplainRetentionResponse, partition: usize| {
        let due = told.partitions[partition].limits[0].due_time.unwrap();
        due.seconds - told.partitions[partition].oldest_time.unwrap().seconds
    };
    assert_eq!((due(&told, 0), due(&told, 1)), (7 * 86_400, 7 * 86_400));

    broker.clock().advance(4 * DAY);
    until("the end of a week", async || starts(&broker, "ops.a").await == [1, 0]).await;
    assert_eq!(starts(&broker, "ops.b").await, [0], "nothing limits the other product");
    let request =
        v1::ReadRequest { start: Some(positions(&[(0, 0)])), partitions: vec![0], ..read("ops.a") };
    let refused = failure(&broker.records().read(request).await.unwrap_err());
    assert_eq!((refused.code, &*refused.reason), (Code::OutOfRange, "OFFSET_OUT_OF_RANGE"));
    assert_eq!((&*refused.metadata["start_offset"], &*refused.metadata["durable_end"]), ("1", "1"));
    broker.restart().await;
    assert_eq!(starts(&broker, "ops.a").await, [1, 0]);
    let told = broker.admin().explain_retention(explain).await.unwrap().into_inner();
    assert_eq!(told.partitions[0].reason, "there is no record");
}

#[tokio::test]
async fn a_limit_that_is_set_later_takes_effect_on_what_is_there() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    for n in 0..10_u32 {
        broker.records().append(append("ops.a").value(format!("{n}"))).await.unwrap();
    }
    let settings = v1::ProductSettings { retention_count: 3, ..v1::ProductSettings::default() };
    let request = v1::UpdateProductRequest {
        product: Some(v1::Product {
            name: "ops.a".to_owned(),
            settings: Some(settings),
            ..v1::Product::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["settings.retention_count".to_owned()],
        }),
        validate_only: false,
    };
    broker.catalog().update_product(request).await.unwrap();
    broker.broker().wake();
    until("the limit of three", async || starts(&broker, "ops.a").await == [7]).await;
    let left = broker.records().read(read("ops.a")).await.unwrap().into_inner();
    assert_eq!(values(&left.batches), ["7", "8", "9"]);
}

#[tokio::test]
async fn a_trim_is_seen_by_readers_and_leaves_others_alone() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a").partitions(2)).await;
    for n in 0..6_u32 {
        let request = append("ops.a").partition(n % 2).value(format!("{n}"));
        broker.records().append(request).await.unwrap();
    }
    let mut admin = broker.admin();
    let preview = v1::TrimProductRequest { validate_only: true, ..trim(before(1, 2)) };
    let preview = admin.trim_product(preview).await.unwrap().into_inner();
    assert_eq!(starts(&broker, "ops.a").await, [0, 0]);
    let done = admin.trim_product(trim(before(1, 2))).await.unwrap().into_inner();
    assert_eq!(done, preview);
    assert_eq!(starts(&broker, "ops.a").await, [0, 2]);
    let read = broker.records().read(read("ops.a")).await.unwrap().into_inner();
    let mut left = values(&read.batches);
    left.sort_unstable();
    assert_eq!(left, ["0", "2", "4", "5"]);

    let request = v1::SubscribeRequest {
        start: Some(positions(&[(1, 1)])),
        partitions: vec![1],
        ..subscribe("ops.a")
    };
    let refused = broker.records().subscribe(request).await;
    let refused = match refused {
        Ok(mut stream) => stream.get_mut().message().await.unwrap_err(),
        Err(status) => status,
    };
    assert_eq!(failure(&refused).metadata["start_offset"], "2");
    let refused = failure(&admin.trim_product(trim(before(0, 9))).await.unwrap_err());
    assert_eq!((refused.code, &*refused.reason), (Code::OutOfRange, "OFFSET_OUT_OF_RANGE"));
    assert_eq!((&*refused.applied, &*refused.metadata["durable_end"]), ("no", "3"));
}

/// Small files, so that little data is compacted.
fn small_files(config: &mut Config) {
    config.storage.file_min = ByteSize(64 << 10);
    config.storage.file_max = ByteSize(64 << 10);
    config.storage.group = ByteSize(64 << 10);
    config.storage.compaction_min = ByteSize(16 << 10);
    // What is in memory is told from there, as it was appended.
    config.storage.ring = ByteSize(64 << 10);
}

/// The Rust client reads a product that was compacted: every record has the offset it always had.
async fn what_is_left_is_read(mut config: Config) {
    small_files(&mut config);
    let broker = TestBroker::start_with(config).await;
    broker.create(product("ops.prices").compact()).await;
    for round in 0..100_u32 {
        let filler = ".".repeat(300);
        let records = (0..10).fold(append("ops.prices"), |request, key| {
            // Two keys of each batch come once, so something of it is left.
            let key = if key % 5 == 0 { format!("{round} {key}") } else { format!("k{key}") };
            request.keyed(key, format!("{round} {filler}"))
        });
        broker.records().append(records).await.unwrap();
    }
    let client = Client::connect(broker.address().to_string()).await.unwrap();
    let read = async |from: u64| {
        let mut consumer = client
            .consumer("ops.prices")
            .from(StartAt::Positions([(0, from)].into()))
            .stop_at_end(true)
            .build();
        let mut found = Vec::new();
        while let Some(record) = consumer.next_record().await.unwrap() {
            let text = String::from_utf8(record.record.value.unwrap().to_vec()).unwrap();
            let round: u64 = text.split(' ').next().unwrap().parse().unwrap();
            found.push((record.offset, round));
        }
        found
    };
    until("compaction", async || {
        broker.clock().advance(Duration::from_secs(11));
        read(0).await.len() < 500
    })
    .await;
    let found = read(0).await;
    assert!(found.is_sorted_by_key(|(offset, _)| *offset));
    assert!(found.iter().all(|(offset, round)| offset / 10 == *round), "offsets stay");
    assert!(found.ends_with(&(990..1000).map(|at| (at, 99)).collect::<Vec<_>>()));
    for from in [1, 17, 500, 985, 1000] {
        let rest = read(from).await;
        assert!(rest.iter().all(|(offset, _)| *offset >= from));
        let newest = found.iter().filter(|(offset, _)| *offset >= from.max(990));
        assert!(newest.clone().all(|one| rest.contains(one)), "{rest:?} from {from}");
    }
    let answer = broker.records().read(meshlog_tests::read("ops.prices")).await.unwrap();
    let batches = answer.into_inner().batches;
    assert!(batches.iter().any(|batch| !batch.offset_deltas.is_empty()), "real holes");
}

#[tokio::test]
async fn the_client_reads_what_compaction_left_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    what_is_left_is_read(Config::at(directory.path())).await;
}

#[tokio::test]
async fn the_client_reads_what_compaction_left_in_memory() {
    what_is_left_is_read(Config::default()).await;
}

/// How many files of a directory have these bytes in them.
fn files_with(directory: &std::path::Path, pattern: &[u8]) -> usize {
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let has = |file: &std::path::PathBuf| {
        let bytes = std::fs::read(file).unwrap();
        bytes.windows(pattern.len()).any(|window| window == pattern)
    };
    files.filter(|file| file.is_file()).filter(has).count()
}

#[tokio::test]
async fn what_is_erased_is_in_no_file_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let broker = TestBroker::start_with(Config::at(directory.path())).await;
    for name in ["ops.a", "ops.b", "ops.c"] {
        broker.create(product(name)).await;
    }
    for (name, value) in [
        ("ops.a", "Ada Lovelace"),
        ("ops.b", "Grace Hopper"),
        ("ops.c", "Mary Keller"),
        ("ops.a", "kept"),
    ] {
        broker.records().append(append(name).value(value)).await.unwrap();
    }
    let found = |name: &str| files_with(directory.path(), name.as_bytes());
    assert!(found("Ada Lovelace") > 0 && found("Grace Hopper") > 0 && found("Mary Keller") > 0);

    let request = v1::TrimProductRequest { erase: true, ..trim(before(0, 1)) };
    let trimmed = broker.admin().trim_product(request).await.unwrap().into_inner();
    assert!(trimmed.erased.is_some());
    assert_eq!(found("Ada Lovelace"), 0);
    let delete = |name: &str, erase| v1::DeleteProductRequest {
        name: name.to_owned(),
        erase,
        ..v1::DeleteProductRequest::default()
    };
    let preview = v1::DeleteProductRequest { validate_only: true, ..delete("ops.b", true) };
    let preview = broker.catalog().delete_product(preview).await.unwrap().into_inner();
    assert_eq!(preview.erased, None);
    let deleted = broker.catalog().delete_product(delete("ops.b", true)).await.unwrap();
    assert!(deleted.into_inner().erased.is_some());
    assert_eq!(found("Grace Hopper"), 0);
    broker.catalog().delete_product(delete("ops.c", false)).await.unwrap();
    let everything = v1::EraseDeletedRecordsRequest::default();
    broker.admin().erase_deleted_records(everything).await.unwrap();
    assert_eq!(found("Mary Keller"), 0);

    assert!(found("kept") > 0);
    let left = broker.records().read(read("ops.a")).await.unwrap().into_inner();
    assert_eq!(values(&left.batches), ["kept"]);
    broker.restart().await;
    let left = broker.records().read(read("ops.a")).await.unwrap().into_inner();
    assert_eq!(values(&left.batches), ["kept"]);
    let unknown = v1::EraseDeletedRecordsRequest { product: "ops.b".to_owned() };
    let refused = broker.admin().erase_deleted_records(unknown).await.unwrap_err();
    assert_eq!(failure(&refused).reason, "PRODUCT_NOT_FOUND");
}

#[tokio::test]
async fn the_server_says_how_much_room_there_is() {
    let directory = tempfile::tempdir().unwrap();
    let broker = TestBroker::start_with(Config::at(directory.path())).await;
    let storage = async || {
        let info = broker.admin().get_server_info(v1::GetServerInfoRequest {}).await.unwrap();
        info.into_inner().storage.unwrap()
    };
    let space = storage().await.space.unwrap();
    assert!(space.total_bytes > 0 && space.free_bytes <= space.total_bytes);
    broker.disk().fill();
    let full = storage().await;
    assert_eq!(full.space.unwrap().free_bytes, 0);
    assert!(full.notes.iter().any(|note| note.contains("0 MiB left")), "{:?}", full.notes);
    let in_memory = TestBroker::start().await;
    let info = in_memory.admin().get_server_info(v1::GetServerInfoRequest {}).await.unwrap();
    assert_eq!(info.into_inner().storage.unwrap().space, None);
}
