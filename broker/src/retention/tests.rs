use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meshlog_proto::v1::trim_product_request::Which;
use meshlog_proto::{server_v1, v1};
use meshlog_storage::disk::{Clock, ManualClock, SimulatedDisk};
use meshlog_storage::{Components, Timestamp};
use prost::Message as _;

use crate::config::ByteSize;
use crate::{Broker, Caller, Config, Error, Reason, Result};

const DAY: Duration = Duration::from_secs(86_400);

/// A broker on a disk of small files, with a clock of its own.
struct Machine {
    broker: Broker,
    clock: Arc<ManualClock>,
}

fn machine() -> Machine {
    let disk = Arc::new(SimulatedDisk::new(256 << 20));
    let now = Timestamp(1_700_000_000_000_000_000);
    let clock = Arc::new(ManualClock::starting_at(now));
    let mut config = Config::at("/simulated");
    config.storage.file_min = ByteSize(64 << 10);
    config.storage.file_max = ByteSize(64 << 10);
    config.storage.group = ByteSize(32 << 10);
    config.storage.ring = ByteSize(64 << 10);
    config.storage.compaction_min = ByteSize(16 << 10);
    let of_machine: Arc<dyn Clock> = clock.clone();
    let broker = Broker::open_with(config, |codec, observer| Components {
        disk,
        clock: of_machine,
        ..Components::on_disk(codec, observer)
    });
    Machine { broker: broker.unwrap(), clock }
}

impl Machine {
    async fn create(&self, name: &str, partitions: u32, settings: v1::ProductSettings) {
        // Said, so that the sandbox fills in nothing.
        let retention_age = settings.retention_age.or(Some(prost_types::Duration::default()));
        let settings = Some(v1::ProductSettings { retention_age, ..settings });
        let product =
            v1::Product { name: name.to_owned(), partitions, settings, ..Default::default() };
        let request = v1::CreateProductRequest { product: Some(product), ..Default::default() };
        self.broker.catalogue().create_product(&caller(), request).await.unwrap();
    }

    async fn append(&self, product: &str, partition: u32, records: Vec<v1::Record>) -> u64 {
        let batch = v1::RecordBatch { records };
        let request = server_v1::AppendRequest {
            product: product.to_owned(),
            partition: Some(partition),
            batch: vec![Bytes::from(batch.encode_to_vec())],
            ..Default::default()
        };
        let appended = self.broker.append(&caller(), request).await.unwrap();
        appended.ranges[0].first_offset
    }

    /// Lets time pass, in steps that no guard takes for a jump, until something has happened.
    async fn until(&self, what: &str, mut happened: impl AsyncFnMut() -> bool) {
        for _ in 0..3_000 {
            self.clock.advance(Duration::from_secs(11));
            self.broker.wake();
            tokio::time::sleep(Duration::from_millis(10)).await;
            if happened().await {
                return;
            }
        }
        panic!("{what} did not happen");
    }

    fn bounds(&self, product: &str, partition: u32) -> (u64, u64) {
        let handle = self.broker.catalogue().resolve(product, "").unwrap();
        let bounds = self.broker.storage().bounds(handle.streams[partition as usize]).unwrap();
        (bounds.start.0, bounds.durable_end.0)
    }

    async fn trim(&self, which: Which) -> Result<v1::TrimProductResponse> {
        let request = v1::TrimProductRequest {
            product: "sandbox.a".to_owned(),
            which: Some(which),
            ..Default::default()
        };
        self.broker.trim_product(&caller(), request).await
    }

    async fn explain(&self) -> v1::PartitionRetention {
        let request =
            v1::ExplainRetentionRequest { product: "sandbox.a".to_owned(), ..Default::default() };
        self.broker
            .explain_retention(&Caller::default(), request)
            .await
            .unwrap()
            .partitions
            .remove(0)
    }
}

fn caller() -> Caller {
    Caller::new("tests")
}

fn keyed(key: &str, value: Option<&str>) -> v1::Record {
    v1::Record {
        key: (!key.is_empty()).then(|| Bytes::copy_from_slice(key.as_bytes())),
        value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
        ..Default::default()
    }
}

fn plain(count: usize) -> Vec<v1::Record> {
    (0..count).map(|number| keyed("", Some(&number.to_string()))).collect()
}

fn at(positions: &[(u32, u64)]) -> v1::Positions {
    let position =
        |(partition, offset): &(u32, u64)| v1::Position { partition: *partition, offset: *offset };
    v1::Positions { positions: positions.iter().map(position).collect() }
}

fn from(partition: u32, offset: u64) -> Option<v1::Start> {
    let positions = at(&[(partition, offset)]);
    Some(v1::Start { at: Some(v1::start::At::Positions(positions)) })
}

/// The records of some batches that lie at or behind the position asked for.
fn told(batches: Vec<server_v1::StoredBatch>) -> Vec<(u64, v1::Record)> {
    let mut told = Vec::new();
    for batch in batches {
        let records = v1::RecordBatch::decode(batch.batch).unwrap().records;
        assert_eq!(records.len(), batch.count as usize);
        for (index, record) in records.into_iter().enumerate().skip(batch.skip as usize) {
            let delta =
                batch.offset_deltas.get(index).map_or(index as u64, |delta| u64::from(*delta));
            told.push((batch.base_offset + delta, record));
        }
    }
    told
}

/// Everything in one partition from an offset on.
async fn read(broker: &Broker, product: &str, mut offset: u64) -> Result<Vec<(u64, v1::Record)>> {
    let mut all = Vec::new();
    loop {
        let request = v1::ReadRequest {
            product: product.to_owned(),
            start: from(0, offset),
            partitions: vec![0],
            max_bytes: 4_000,
            ..Default::default()
        };
        let answer = broker.read(&caller(), request).await?;
        let state = &answer.partitions[0];
        offset = state.next_offset;
        let is_end = state.next_offset >= state.durable_end;
        all.extend(told(answer.batches));
        if is_end {
            return Ok(all);
        }
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T>, reason: Reason) -> Error {
    let error = result.unwrap_err();
    assert_eq!(error.reason(), reason, "{error}");
    error
}

#[tokio::test]
async fn a_trim_moves_the_beginning_of_several_partitions_in_one_entry_and_is_audited() {
    let machine = machine();
    machine.create("sandbox.a", 3, Default::default()).await;
    for partition in 0..3 {
        machine.append("sandbox.a", partition, plain(10)).await;
    }
    let entries = machine.broker.storage().stats().entries;
    let trimmed = machine.trim(Which::BeforeOffsets(at(&[(2, 10), (0, 4)]))).await.unwrap();
    assert_eq!(machine.broker.storage().stats().entries, entries + 1);
    let began = |trimmed: &v1::TrimProductResponse| -> Vec<(u32, u64, u64, u64)> {
        let partitions = trimmed.partitions.iter();
        let one = |at: &v1::TrimmedPartition| {
            (at.partition, at.previous_start_offset, at.start_offset, at.durable_end)
        };
        partitions.map(one).collect()
    };
    assert_eq!(began(&trimmed), [(0, 0, 4, 10), (2, 0, 10, 10)]);
    let bounds: Vec<_> = (0..3).map(|partition| machine.bounds("sandbox.a", partition)).collect();
    assert_eq!(bounds, [(4, 10), (0, 10), (10, 10)]);
    assert_eq!(read(&machine.broker, "sandbox.a", 4).await.unwrap().len(), 6);

    // Again, and less than before: nothing happens, and nothing is written.
    let again = machine.trim(Which::BeforeOffsets(at(&[(0, 2), (2, 10)]))).await.unwrap();
    assert_eq!(began(&again), [(0, 4, 4, 10), (2, 10, 10, 10)]);
    assert_eq!(machine.broker.storage().stats().entries, entries + 1);

    let product = machine.broker.catalogue().resolve("sandbox.a", "").unwrap();
    let records = read(&machine.broker, "meshlog.audit", 0).await.unwrap();
    let (_, record) = records.last().unwrap();
    assert_eq!(record.key.as_deref(), Some(&b"product/sandbox.a"[..]));
    let value: serde_json::Value = serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
    assert_eq!(value["action"], "trim_product");
    assert_eq!(value["id"], *product.id);
    assert_eq!(value["etag_after"], value["etag_before"], "what is said of it is as before");
    let request = v1::GetProductRequest { name: "sandbox.a".to_owned() };
    let whole = machine
        .broker
        .catalogue()
        .get_product(&Caller::default(), request)
        .unwrap()
        .product
        .unwrap();
    assert_eq!(value["etag_after"], whole.etag);
    assert_eq!(
        value["changes"],
        serde_json::json!([
            {"path": "partitions[0].start_offset", "before": 0, "after": 4},
            {"path": "partitions[2].start_offset", "before": 0, "after": 10},
        ])
    );
}

#[tokio::test]
async fn a_trim_before_a_time_takes_what_was_appended_before_it() {
    let machine = machine();
    machine.create("sandbox.a", 2, Default::default()).await;
    machine.append("sandbox.a", 0, plain(3)).await;
    machine.clock.advance(DAY);
    let noon = crate::time::proto_time(machine.clock.now());
    machine.append("sandbox.a", 0, plain(2)).await;
    machine.append("sandbox.a", 1, plain(7)).await;
    let preview = v1::TrimProductRequest {
        product: "sandbox.a".to_owned(),
        which: Some(Which::BeforeTime(noon)),
        validate_only: true,
        ..Default::default()
    };
    let preview = machine.broker.trim_product(&caller(), preview).await.unwrap();
    assert_eq!(machine.bounds("sandbox.a", 0), (0, 5), "a preview changes nothing");
    let trimmed = machine.trim(Which::BeforeTime(noon)).await.unwrap();
    assert_eq!(trimmed, preview);
    assert_eq!(machine.bounds("sandbox.a", 0), (3, 5));
    assert_eq!(machine.bounds("sandbox.a", 1), (0, 7));
    let request = v1::TrimProductRequest {
        product: "sandbox.a".to_owned(),
        which: Some(Which::BeforeTime(crate::time::proto_time(Timestamp(u64::MAX)))),
        partitions: vec![1],
        ..Default::default()
    };
    machine.broker.trim_product(&caller(), request).await.unwrap();
    assert_eq!(machine.bounds("sandbox.a", 0), (3, 5));
    assert_eq!(machine.bounds("sandbox.a", 1), (7, 7));
    assert_eq!(machine.append("sandbox.a", 1, plain(1)).await, 7, "offsets go on");
}

#[tokio::test]
async fn a_trim_that_cannot_be_is_refused_whole() {
    let machine = machine();
    machine.create("sandbox.a", 2, Default::default()).await;
    machine.append("sandbox.a", 0, plain(5)).await;
    let error = refused(
        machine.trim(Which::BeforeOffsets(at(&[(0, 2), (1, 1)]))).await,
        Reason::OffsetOutOfRange,
    );
    let bounds = ["partition", "start_offset", "durable_end"].map(|key| &*error.metadata()[key]);
    assert_eq!(bounds, ["1", "0", "0"]);
    assert_eq!(machine.bounds("sandbox.a", 0), (0, 5));
    refused(machine.trim(Which::BeforeOffsets(at(&[(2, 0)]))).await, Reason::PartitionNotFound);
    refused(
        machine.trim(Which::BeforeOffsets(at(&[(0, 1), (0, 2)]))).await,
        Reason::InvalidArgument,
    );
    refused(machine.trim(Which::BeforeOffsets(at(&[]))).await, Reason::InvalidArgument);
    let request = |product: &str| v1::TrimProductRequest {
        product: product.to_owned(),
        ..Default::default()
    };
    let trim = |request| machine.broker.trim_product(&CALLER, request);
    static CALLER: std::sync::LazyLock<Caller> = std::sync::LazyLock::new(caller);
    refused(trim(request("sandbox.a")).await, Reason::InvalidArgument);
    refused(trim(request("sandbox.none")).await, Reason::ProductNotFound);
    let which = Some(Which::BeforeOffsets(at(&[(0, 1)])));
    let audit = v1::TrimProductRequest { which: which.clone(), ..request("meshlog.audit") };
    refused(trim(audit).await, Reason::ProductReadOnly);
    let both = v1::TrimProductRequest {
        which: which.clone(),
        partitions: vec![0],
        ..request("sandbox.a")
    };
    refused(trim(both).await, Reason::InvalidArgument);
    let other =
        v1::TrimProductRequest { which, product_id: "x".to_owned(), ..request("sandbox.a") };
    refused(trim(other).await, Reason::ProductRecreated);
}

#[tokio::test]
async fn readers_behind_a_trim_are_told_the_bounds_and_others_notice_nothing() {
    let machine = machine();
    machine.create("sandbox.a", 1, Default::default()).await;
    machine.append("sandbox.a", 0, plain(10)).await;
    let subscribe = |offset| {
        let request = v1::SubscribeRequest {
            product: "sandbox.a".to_owned(),
            start: from(0, offset),
            ..Default::default()
        };
        let broker = machine.broker.clone();
        async move { broker.subscribe(&caller(), request).await }
    };
    let (mut behind, mut ahead) = (subscribe(2).await.unwrap(), subscribe(10).await.unwrap());
    behind.next().await.unwrap().unwrap();
    ahead.next().await.unwrap().unwrap();
    let commit = |offset| v1::CommitOffsetsRequest {
        cursor: "nightly".to_owned(),
        product: "sandbox.a".to_owned(),
        positions: at(&[(0, offset)]).positions,
        ..Default::default()
    };
    machine.broker.commit_offsets(&caller(), commit(2)).await.unwrap();
    machine.trim(Which::BeforeOffsets(at(&[(0, 6)]))).await.unwrap();

    let error = refused(behind.next().await.unwrap(), Reason::OffsetOutOfRange);
    assert_eq!(
        (&*error.metadata()["start_offset"], &*error.metadata()["durable_end"]),
        ("6", "10")
    );
    machine.append("sandbox.a", 0, plain(1)).await;
    let message = ahead.next().await.unwrap().unwrap();
    assert_eq!(told(message.batches)[0].0, 10);
    refused(read(&machine.broker, "sandbox.a", 5).await, Reason::OffsetOutOfRange);
    assert_eq!(read(&machine.broker, "sandbox.a", 6).await.unwrap()[0].0, 6);
    let get = v1::GetOffsetsRequest {
        cursor: "nightly".to_owned(),
        product: "sandbox.a".to_owned(),
        ..Default::default()
    };
    let cursor = machine.broker.get_offsets(&Caller::default(), get).unwrap().cursor.unwrap();
    let place = &cursor.positions[0];
    assert_eq!((place.offset, place.lag, place.lost), (2, 5, 4));
    let listed = v1::ListOffsetsRequest {
        product: "sandbox.a".to_owned(),
        append_time: Some(prost_types::Timestamp::default()),
        ..Default::default()
    };
    let listed = machine.broker.list_offsets(&Caller::default(), listed).await.unwrap();
    assert_eq!(
        (listed.partitions[0].start_offset, listed.partitions[0].offset_at_time),
        (6, Some(6))
    );
}

#[tokio::test]
async fn records_go_when_a_limit_no_longer_wants_them_and_it_is_explained_before() {
    let machine = machine();
    let age = prost_types::Duration { seconds: 7 * 86_400, nanos: 0 };
    let week = v1::ProductSettings { retention_age: Some(age), ..Default::default() };
    machine.create("sandbox.a", 1, week).await;
    assert_eq!(machine.explain().await.reason, "there is no record");
    machine.append("sandbox.a", 0, plain(4)).await;
    let appended = machine.clock.now();
    let explained = machine.explain().await;
    assert!(explained.reason.starts_with("every limit still wants it; by age it goes at "));
    assert_eq!(explained.oldest_time, Some(crate::time::proto_time(appended)));
    let limit = &explained.limits[0];
    assert_eq!((limit.kind(), limit.first_wanted_offset), (v1::RetentionLimitKind::Age, 0));
    let due = crate::time::storage_time(&limit.due_time.unwrap());
    assert_eq!(due.0 - appended.0, 7 * 86_400 * 1_000_000_000);

    machine.clock.advance(6 * DAY);
    machine.append("sandbox.a", 0, plain(3)).await;
    machine.until("a look", async || true).await;
    assert_eq!(machine.bounds("sandbox.a", 0), (0, 7), "nothing goes early");
    machine.clock.advance(DAY);
    machine.until("the end of a week", async || machine.bounds("sandbox.a", 0).0 == 4).await;
    let explained = machine.explain().await;
    assert_eq!((explained.start_offset, explained.durable_end), (4, 7));
    assert!(!explained.holders.is_empty(), "the bytes are in the file that is being written");
    assert_eq!(explained.holders[0].wait(), v1::StorageWait::Writing);

    let update = |settings, path: &str| {
        let product = v1::Product {
            name: "sandbox.a".to_owned(),
            settings: Some(settings),
            ..Default::default()
        };
        let paths = vec![path.to_owned()];
        let request = v1::UpdateProductRequest {
            product: Some(product),
            update_mask: Some(prost_types::FieldMask { paths }),
            validate_only: false,
        };
        let broker = machine.broker.clone();
        async move { broker.catalogue().update_product(&caller(), request).await.unwrap() }
    };
    for _ in 0..3 {
        machine.append("sandbox.a", 0, plain(2)).await;
    }
    let three = v1::ProductSettings { retention_count: 3, ..Default::default() };
    update(three, "settings").await;
    // Offsets 10 to 12 are wanted; 9 is in the batch of 9 and 10.
    machine.until("the limit of three", async || machine.bounds("sandbox.a", 0).0 == 9).await;
    let explained = machine.explain().await;
    assert_eq!(explained.reason, "every limit still wants it");
    assert_eq!(explained.limits[0].kind(), v1::RetentionLimitKind::Count);
    let one = v1::ProductSettings { retention_bytes: 1, ..Default::default() };
    update(one, "settings").await;
    machine.until("the limit of a byte", async || machine.bounds("sandbox.a", 0).0 == 11).await;
    update(Default::default(), "settings").await;
    assert_eq!(machine.explain().await.reason, "nothing limits how long records stay");
}

/// The newest record of each key stays where it was; readers get over the holes, from wherever
/// they begin.
#[tokio::test]
async fn a_compacted_product_is_read_from_every_offset() {
    let machine = machine();
    let compaction = Some(v1::Compaction::default());
    machine.create("sandbox.a", 1, v1::ProductSettings { compaction, ..Default::default() }).await;
    let mut all: BTreeMap<u64, (String, Option<String>)> = BTreeMap::new();
    // The last of these has a key that comes again: there will be a hole where the reader stops.
    for round in 0..61 {
        let records: Vec<(String, Option<String>)> = (0..5)
            .map(|number| match (round * 5 + number) % 13 {
                0 => (String::new(), Some(format!("no key {round}"))),
                12 => ("k7".to_owned(), None),
                key => (format!("k{key}"), Some(format!("{round} {}", "x".repeat(600)))),
            })
            .collect();
        let batch = records.iter().map(|(key, value)| keyed(key, value.as_deref())).collect();
        let first = machine.append("sandbox.a", 0, batch).await;
        all.extend((first..).zip(records));
    }
    // A reader who wants what is there now, and gets to it when some of it has gone.
    let request = v1::SubscribeRequest {
        product: "sandbox.a".to_owned(),
        stop_at_end: true,
        max_bytes: 1,
        ..Default::default()
    };
    let mut late = machine.broker.subscribe(&caller(), request).await.unwrap();
    late.next().await.unwrap().unwrap();
    let commit = v1::CommitOffsetsRequest {
        cursor: "nightly".to_owned(),
        product: "sandbox.a".to_owned(),
        positions: at(&[(0, 3)]).positions,
        ..Default::default()
    };
    machine.broker.commit_offsets(&caller(), commit).await.unwrap();
    for round in 0..40 {
        let value = Some(format!("later {round} {}", "y".repeat(600)));
        let keys: Vec<String> = (1..12).map(|key| format!("k{key}")).collect();
        let batch = keys.iter().map(|key| keyed(key, value.as_deref())).collect();
        let first = machine.append("sandbox.a", 0, batch).await;
        all.extend((first..).zip(keys.into_iter().map(|key| (key, value.clone()))));
    }
    let broker = &machine.broker;
    machine
        .until("compaction", async || {
            read(broker, "sandbox.a", 0).await.unwrap().len() < all.len() / 3
        })
        .await;

    // Compaction may go on meanwhile: older records of a key may be there or not.
    let is_newest = |offset: u64| {
        let key = &all[&offset].0;
        key.is_empty() || !all.range(offset + 1..).any(|(_, (later, _))| later == key)
    };
    let check = |found: &[u64], from: u64| {
        assert!(found.is_sorted() && found.first().is_none_or(|first| *first >= from));
        let due = all.range(from..).map(|(offset, _)| *offset).filter(|offset| is_newest(*offset));
        let missing: Vec<u64> = due.filter(|offset| !found.contains(offset)).collect();
        assert!(missing.is_empty(), "{missing:?} are gone, from {from}");
    };
    let text = |bytes: &Option<Bytes>| {
        bytes.as_ref().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    };
    let end = *all.keys().last().unwrap() + 1;
    for from in 0..=end {
        let found = read(broker, "sandbox.a", from).await.unwrap();
        for (offset, record) in &found {
            let (key, value) = &all[offset];
            assert!(text(&record.key).unwrap_or_default() == *key && text(&record.value) == *value);
        }
        check(&found.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), from);
    }

    // Whatever order things happened in, a reader that stops at the end comes to it.
    let mut heard = Vec::new();
    let to_the_end = async {
        while let Some(message) = late.next().await {
            heard.extend(told(message.unwrap().batches));
        }
    };
    tokio::time::timeout(Duration::from_secs(120), to_the_end).await.expect("it ends");
    assert!(heard.is_sorted_by_key(|(offset, _)| *offset));
    assert!(heard.iter().all(|(offset, _)| *offset < 304));

    assert_eq!(machine.bounds("sandbox.a", 0), (0, end), "compaction moves no bound");
    let get = v1::GetOffsetsRequest {
        cursor: "nightly".to_owned(),
        product: "sandbox.a".to_owned(),
        ..Default::default()
    };
    let cursor = broker.get_offsets(&Caller::default(), get).unwrap().cursor.unwrap();
    assert_eq!((cursor.positions[0].lost, cursor.lag), (0, end - 3), "nothing is lost");

    let sample = v1::SampleProductRequest {
        product: "sandbox.a".to_owned(),
        max_records: 1_000,
        ..Default::default()
    };
    let sample = broker.sample_product(&Caller::default(), sample).await.unwrap();
    check(&sample.records.iter().map(|record| record.offset).collect::<Vec<_>>(), 0);
    let sample = v1::SampleProductRequest {
        product: "sandbox.a".to_owned(),
        which: Some(v1::sample_product_request::Which::Key(Bytes::from_static(b"k7"))),
        ..Default::default()
    };
    let sample = broker.sample_product(&Caller::default(), sample).await.unwrap();
    let of_key: Vec<u64> = sample.records.iter().map(|record| record.offset).collect();
    assert!(of_key.iter().all(|offset| all[offset].0 == "k7") && of_key.len() <= 10);
    assert!(is_newest(*of_key.last().unwrap()));

    let explained = machine.explain().await;
    assert!(explained.compacted_offset > 0 && explained.compacted_offset <= end);
    assert_eq!(explained.reason, "nothing but a newer record of the same key lets a record go");
}
