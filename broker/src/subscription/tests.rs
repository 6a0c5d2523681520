use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use meshlog_proto::{server_v1, v1};
use meshlog_storage::Components;
use meshlog_storage::disk::{CrashPlan, Disk, DiskFile, OpenMode, SimulatedDisk};
use parking_lot::{Condvar, Mutex};
use prost::Message as _;

use super::stored::{StoredCursor, key, parse};
use super::table::MAX_CURSORS;
use crate::config::ByteSize;
use crate::{Applied, Broker, Caller, Config, Error, Reason, Result};

fn config() -> Config {
    let mut config = Config::at("/simulated");
    config.storage.file_min = ByteSize(256 << 10);
    config.storage.group = ByteSize(128 << 10);
    config
}

fn open_on(disk: Arc<dyn Disk>) -> Result<Broker> {
    Broker::open_with(config(), |codec, observer| Components {
        disk,
        ..Components::on_disk(codec, observer)
    })
}

async fn create(broker: &Broker, name: &str, partitions: u32) -> v1::Product {
    let product = v1::Product { name: name.to_owned(), partitions, ..Default::default() };
    let request = v1::CreateProductRequest { product: Some(product), ..Default::default() };
    let created = broker.catalogue().create_product(&Caller::default(), request).await;
    created.unwrap().product.unwrap()
}

async fn append(broker: &Broker, product: &str, partition: u32, records: usize) {
    let record = v1::Record { value: Some(Bytes::from_static(b"{}")), ..Default::default() };
    let batch = v1::RecordBatch { records: vec![record; records] };
    let request = server_v1::AppendRequest {
        product: product.to_owned(),
        partition: Some(partition),
        batch: vec![Bytes::from(batch.encode_to_vec())],
        ..Default::default()
    };
    broker.append(&Caller::default(), request).await.unwrap();
}

fn commit_of(cursor: &str, product: &str, positions: &[(u32, u64)]) -> v1::CommitOffsetsRequest {
    let position =
        |(partition, offset): &(u32, u64)| v1::Position { partition: *partition, offset: *offset };
    v1::CommitOffsetsRequest {
        cursor: cursor.to_owned(),
        product: product.to_owned(),
        positions: positions.iter().map(position).collect(),
        ..Default::default()
    }
}

async fn commit(broker: &Broker, request: v1::CommitOffsetsRequest) -> Result<v1::Cursor> {
    let committed = broker.commit_offsets(&Caller::new("tests"), request).await?;
    Ok(committed.cursor.unwrap())
}

fn get(broker: &Broker, cursor: &str, product: &str) -> v1::Cursor {
    let request = v1::GetOffsetsRequest {
        cursor: cursor.to_owned(),
        product: product.to_owned(),
        ..Default::default()
    };
    broker.get_offsets(&Caller::default(), request).unwrap().cursor.unwrap()
}

async fn delete(broker: &Broker, cursor: &str, product: &str) -> Result<()> {
    let (cursor, product) = (cursor.to_owned(), product.to_owned());
    let request = v1::DeleteCursorRequest { cursor, product };
    broker.delete_cursor(&Caller::default(), request).await.map(drop)
}

fn list(broker: &Broker, request: v1::ListCursorsRequest) -> (Vec<String>, String) {
    let page = broker.list_cursors(&Caller::default(), request).unwrap();
    let names = page.cursors.iter().map(|cursor| format!("{} {}", cursor.name, cursor.product));
    (names.collect(), page.next_page_token)
}

fn offsets(cursor: &v1::Cursor) -> Vec<(u32, u64)> {
    cursor.positions.iter().map(|at| (at.partition, at.offset)).collect()
}

/// Keys of cursors in the storage state.
fn keys(broker: &Broker) -> Vec<String> {
    let state = broker.storage().state();
    let cursors = state.iter().filter(|(key, _)| parse(key).is_some());
    cursors.map(|(key, _)| String::from_utf8(key.to_vec()).unwrap()).collect()
}

fn refused<T: std::fmt::Debug>(result: Result<T>, reason: Reason, words: &[&str]) -> Error {
    let error = result.unwrap_err();
    assert_eq!(error.reason(), reason, "{error}");
    assert_eq!(error.applied(), Applied::No);
    for word in words {
        assert!(error.to_string().contains(word), "`{word}` is not in: {error}");
    }
    error
}

#[test]
fn the_stored_form_is_the_one_that_format_md_describes() {
    let cursor = StoredCursor {
        revision: 0x1234,
        positions: vec![
            v1::Position { partition: 0, offset: 7 },
            v1::Position { partition: 3, offset: 0 },
        ],
        update_time: Some(prost_types::Timestamp { seconds: 5, nanos: 6 }),
        updated_by: "unverified:app".to_owned(),
    };
    let golden = b"\x08\xb4\x24\x12\x02\x10\x07\x12\x02\x08\x03\x1a\x04\x08\x05\x10\x06\x22\x0eunverified:app";
    assert_eq!(cursor.encode_to_vec(), golden);
    assert_eq!(StoredCursor::decode(&golden[..]).unwrap(), cursor);
    assert_eq!(cursor.etag(), "1234");
    assert_eq!(key("nightly", "01ABC"), &b"cursor/nightly/01ABC"[..]);
    assert_eq!(parse(b"cursor/nightly/01ABC"), Some(("nightly", "01ABC")));
    assert_eq!(parse(b"product/01ABC"), None);
}

#[tokio::test]
async fn a_cursor_comes_to_be_with_its_first_commit_and_keeps_what_is_not_named() {
    let broker = Broker::in_memory().unwrap();
    let product = create(&broker, "sandbox.a", 3).await;
    append(&broker, "sandbox.a", 0, 10).await;
    append(&broker, "sandbox.a", 2, 5).await;

    let none = get(&broker, "nightly", "sandbox.a");
    assert_eq!((none.etag.as_str(), none.positions.len(), none.lag), ("0", 0, 15));
    assert!(keys(&broker).is_empty(), "looking makes no cursor");

    let first = commit(&broker, commit_of("nightly", "sandbox.a", &[(0, 4)])).await.unwrap();
    assert_eq!(first.product_id, product.id);
    assert_eq!(first.updated_by, "unverified:tests");
    assert!(first.update_time.is_some());
    let position = v1::CursorPosition { partition: 0, offset: 4, lag: 6, lost: 0 };
    assert_eq!(first.positions, [position]);
    assert_eq!(first.lag, 11, "a partition without a position counts from its start");

    let request = commit_of("nightly", "sandbox.a", &[(2, 5), (0, 1)]);
    let second = commit(&broker, request).await.unwrap();
    assert_eq!(offsets(&second), [(0, 1), (2, 5)], "positions may go back");
    let number = |cursor: &v1::Cursor| u64::from_str_radix(&cursor.etag, 16).unwrap();
    assert!(number(&second) > number(&first));
    assert_eq!(get(&broker, "nightly", "sandbox.a"), second);
    append(&broker, "sandbox.a", 1, 2).await;
    assert_eq!(get(&broker, "nightly", "sandbox.a").lag, 11, "9 of partition 0, 2 of partition 1");
}

#[tokio::test]
async fn a_commit_that_cannot_be_right_is_refused_and_changes_nothing() {
    let broker = Broker::in_memory().unwrap();
    create(&broker, "sandbox.a", 2).await;
    append(&broker, "sandbox.a", 0, 3).await;
    let long = "n".repeat(129);
    for name in ["", "Nightly", "a/b", "-a", ".a", "a b", "é", long.as_str()] {
        let request = commit_of(name, "sandbox.a", &[(0, 1)]);
        refused(commit(&broker, request).await, Reason::NameInvalid, &["nightly-report"]);
    }
    let try_commit = |product: &str, positions: &[(u32, u64)]| {
        let request = commit_of("nightly", product, positions);
        let broker = broker.clone();
        async move { commit(&broker, request).await }
    };
    refused(try_commit("sandbox.b", &[(0, 1)]).await, Reason::ProductNotFound, &["sandbox.b"]);
    refused(try_commit("sandbox.a", &[]).await, Reason::InvalidArgument, &["at least one"]);
    let twice = try_commit("sandbox.a", &[(1, 0), (1, 0)]).await;
    refused(twice, Reason::InvalidArgument, &["partition 1", "twice"]);
    refused(try_commit("sandbox.a", &[(2, 0)]).await, Reason::PartitionNotFound, &["0 to 1"]);
    let above = try_commit("sandbox.a", &[(0, 4)]).await;
    let error = refused(above, Reason::OffsetOutOfRange, &["4", "0 and 3"]);
    assert_eq!(error.metadata()["durable_end"], "3");
    assert_eq!(error.metadata()["partition"], "0");
    let mut pinned = commit_of("nightly", "sandbox.a", &[(0, 1)]);
    pinned.product_id = "01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned();
    refused(commit(&broker, pinned).await, Reason::ProductRecreated, &["sandbox.a"]);
    assert!(keys(&broker).is_empty());
    try_commit("sandbox.a", &[(0, 3), (1, 0)]).await.unwrap();
    let longest = commit_of(&long[..128], "sandbox.a", &[(0, 1)]);
    commit(&broker, longest).await.unwrap();
}

#[tokio::test]
async fn an_etag_tells_two_programs_with_one_cursor_of_each_other() {
    let broker = Broker::in_memory().unwrap();
    create(&broker, "sandbox.a", 1).await;
    append(&broker, "sandbox.a", 0, 9).await;
    let with_etag = |etag: &str, offset: u64| {
        let etag = etag.to_owned();
        v1::CommitOffsetsRequest { etag, ..commit_of("nightly", "sandbox.a", &[(0, offset)]) }
    };
    refused(commit(&broker, with_etag("1", 1)).await, Reason::EtagMismatch, &["does not exist"]);
    let first = commit(&broker, with_etag("0", 1)).await.unwrap();
    let again = refused(commit(&broker, with_etag("0", 2)).await, Reason::EtagMismatch, &["tests"]);
    assert_eq!(again.metadata()["etag"], first.etag);
    let second = commit(&broker, with_etag(&first.etag, 2)).await.unwrap();
    refused(commit(&broker, with_etag(&first.etag, 3)).await, Reason::EtagMismatch, &[]);
    assert_eq!(offsets(&get(&broker, "nightly", "sandbox.a")), [(0, 2)]);

    // A cursor that was deleted and made again is another one.
    delete(&broker, "nightly", "").await.unwrap();
    let third = commit(&broker, with_etag("0", 5)).await.unwrap();
    assert!(![first.etag, second.etag.clone()].contains(&third.etag));
    refused(commit(&broker, with_etag(&second.etag, 6)).await, Reason::EtagMismatch, &[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_commits_with_one_etag_exactly_one_wins() {
    let disk = Arc::new(SimulatedDisk::new(64 << 20));
    let broker = open_on(disk).unwrap();
    create(&broker, "sandbox.a", 1).await;
    append(&broker, "sandbox.a", 0, 100).await;
    let mut etag = "0".to_owned();
    for _ in 0..25 {
        let race = (1..=4).map(|program| {
            let request = commit_of("nightly", "sandbox.a", &[(0, program)]);
            let request = v1::CommitOffsetsRequest { etag: etag.clone(), ..request };
            let broker = broker.clone();
            tokio::spawn(async move { commit(&broker, request).await })
        });
        let outcomes = join_all(race.collect::<Vec<_>>()).await;
        let outcomes: Vec<_> = outcomes.into_iter().map(|outcome| outcome.unwrap()).collect();
        let winners: Vec<&v1::Cursor> = outcomes.iter().flatten().collect();
        assert_eq!(winners.len(), 1);
        assert_eq!(get(&broker, "nightly", "sandbox.a"), *winners[0]);
        for lost in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert_eq!(lost.reason(), Reason::EtagMismatch);
        }
        etag.clone_from(&winners[0].etag);
    }
    broker.close().await.unwrap();
}

#[tokio::test]
async fn commits_of_one_cursor_take_effect_in_the_order_of_the_calls() {
    let disk = Arc::new(SimulatedDisk::new(64 << 20));
    let broker = open_on(disk.clone()).unwrap();
    create(&broker, "sandbox.a", 1).await;
    append(&broker, "sandbox.a", 0, 100).await;
    let commits = (1..=50).map(|n| commit(&broker, commit_of("nightly", "sandbox.a", &[(0, n)])));
    let cursors = join_all(commits).await.into_iter().map(Result::unwrap);
    let etags: Vec<u64> =
        cursors.map(|cursor| u64::from_str_radix(&cursor.etag, 16).unwrap()).collect();
    assert!(etags.is_sorted_by(|a, b| a < b));
    assert_eq!(offsets(&get(&broker, "nightly", "sandbox.a")), [(0, 50)]);
    broker.close().await.unwrap();
    let again = open_on(disk).unwrap();
    assert_eq!(offsets(&get(&again, "nightly", "sandbox.a")), [(0, 50)]);
    again.close().await.unwrap();
}

/// A disk whose syncs wait while it is held.
struct HeldDisk {
    inner: SimulatedDisk,
    held: Arc<(Mutex<bool>, Condvar)>,
}

struct HeldFile {
    inner: Arc<dyn DiskFile>,
    held: Arc<(Mutex<bool>, Condvar)>,
}

impl HeldDisk {
    fn hold(&self, hold: bool) {
        *self.held.0.lock() = hold;
        self.held.1.notify_all();
    }
}

impl Disk for HeldDisk {
    fn lock(&self, directory: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.inner.lock(directory)
    }
    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.inner.list(directory)
    }
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let inner = self.inner.open(path, mode)?;
        Ok(Arc::new(HeldFile { inner, held: Arc::clone(&self.held) }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }
    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.inner.sync_directory(directory)
    }
}

impl DiskFile for HeldFile {
    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }
    fn allocate(&self, size: u64) -> io::Result<()> {
        self.inner.allocate(size)
    }
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_at(position, bytes)
    }
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(position, buffer)
    }
    fn sync(&self) -> io::Result<()> {
        let mut held = self.held.0.lock();
        while *held {
            self.held.1.wait(&mut held);
        }
        drop(held);
        self.inner.sync()
    }
}

/// Sixty-four readers that each commit once a second must not wait for sixty-four syncs.
#[tokio::test]
async fn commits_of_different_cursors_share_a_sync_and_none_is_answered_before_it() {
    let disk = HeldDisk { inner: SimulatedDisk::new(64 << 20), held: Arc::default() };
    let disk = Arc::new(disk);
    let broker = open_on(disk.clone()).unwrap();
    create(&broker, "sandbox.a", 1).await;
    append(&broker, "sandbox.a", 0, 100).await;

    disk.hold(true);
    // The committer takes this one and waits in its sync; what comes now is one group.
    let first = commit(&broker, commit_of("first", "sandbox.a", &[(0, 1)]));
    let names: Vec<String> = (0..64).map(|n| format!("reader-{n}")).collect();
    let rest = names.iter().map(|name| commit(&broker, commit_of(name, "sandbox.a", &[(0, 2)])));
    let mut all = Box::pin(async { tokio::join!(first, join_all(rest)) });
    let waited = tokio::time::timeout(std::time::Duration::from_millis(50), &mut all).await;
    let seen = get(&broker, "reader-0", "sandbox.a");
    let before = broker.storage().stats();
    disk.hold(false);
    assert!(waited.is_err(), "nothing is answered before it is synced");
    assert_eq!(seen.etag, "0", "nor seen");
    let (first, rest) = all.await;
    first.unwrap();
    assert!(rest.into_iter().all(|outcome| outcome.is_ok()));
    let after = broker.storage().stats();
    assert_eq!(after.entries - before.entries, 65);
    // The first, the rest, and a marker whenever the journal has nothing to write for a moment: on a
    // busy machine more than once.
    assert!(after.groups - before.groups < 8, "{before:?} {after:?}");
    broker.close().await.unwrap();
}

/// Loses power at every call to the disk of a run of commits: what was acknowledged is there.
#[tokio::test]
async fn an_acknowledged_commit_survives_a_power_cut_at_any_moment() {
    let mut crashed = 0;
    for call in 1.. {
        let disk = Arc::new(SimulatedDisk::new(16 << 20));
        let broker = open_on(disk.clone()).unwrap();
        create(&broker, "sandbox.a", 1).await;
        append(&broker, "sandbox.a", 0, 10).await;
        disk.crash_at(disk.calls() + call, call);
        let (mut acknowledged, mut attempted, mut failed) = (0, 0, None);
        for offset in 1..=6 {
            attempted = offset;
            match commit(&broker, commit_of("nightly", "sandbox.a", &[(0, offset)])).await {
                Ok(_) => acknowledged = offset,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
            let shown = get(&broker, "nightly", "sandbox.a");
            assert_eq!(offsets(&shown), [(0, offset)], "seen once it is acknowledged");
        }
        let closed = broker.close().await;
        for plan in [CrashPlan::KeepNothing, CrashPlan::KeepAll, CrashPlan::Random(call)] {
            let again = open_on(Arc::new(disk.after_crash(plan))).unwrap();
            let found = offsets(&get(&again, "nightly", "sandbox.a"));
            let found = found.first().map_or(0, |(_, offset)| *offset);
            assert!(
                (acknowledged..=attempted).contains(&found),
                "call {call}, {plan:?}: {acknowledged} was acknowledged, {found} is there"
            );
            if failed.as_ref().is_some_and(|error| error.applied() == Applied::No) {
                assert_eq!(found, acknowledged, "call {call}: it said that nothing was applied");
            }
            again.close().await.unwrap();
        }
        crashed += u32::from(failed.is_some());
        if !disk.has_crashed() {
            assert!(closed.is_ok() && acknowledged == 6);
            break;
        }
    }
    assert!(crashed > 10, "only {crashed} runs lost a commit");
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_no_durable_commit_unseen() {
    let disk = Arc::new(SimulatedDisk::new(64 << 20));
    let broker = open_on(disk).unwrap();
    create(&broker, "sandbox.a", 1).await;
    append(&broker, "sandbox.a", 0, 100).await;
    for offset in 1..=50 {
        let request = commit_of("nightly", "sandbox.a", &[(0, offset)]);
        tokio::select! {
            biased;
            _ = commit(&broker, request) => {}
            () = std::future::ready(()) => {}
        }
        // Waits for the turn of the one that was abandoned.
        delete(&broker, "nightly", "sandbox.a").await.unwrap();
        assert_eq!(get(&broker, "nightly", "sandbox.a").etag, "0");
        assert!(keys(&broker).is_empty());
    }
    broker.close().await.unwrap();
}

#[tokio::test]
async fn a_deleted_product_takes_its_cursors_with_it_and_a_new_one_begins_without() {
    let disk = Arc::new(SimulatedDisk::new(64 << 20));
    let broker = open_on(disk.clone()).unwrap();
    for product in ["sandbox.a", "sandbox.b"] {
        create(&broker, product, 1).await;
        append(&broker, product, 0, 3).await;
        for cursor in ["nightly", "hourly"] {
            commit(&broker, commit_of(cursor, product, &[(0, 2)])).await.unwrap();
        }
    }
    let before = broker.storage().stats().entries;
    let request = v1::DeleteProductRequest { name: "sandbox.a".to_owned(), ..Default::default() };
    broker.catalogue().delete_product(&Caller::default(), request).await.unwrap();
    assert_eq!(broker.storage().stats().entries, before + 1, "one entry");
    assert_eq!(keys(&broker).len(), 2);
    let all = ["hourly sandbox.b", "nightly sandbox.b"];
    assert_eq!(list(&broker, Default::default()).0, all);
    create(&broker, "sandbox.a", 1).await;
    assert_eq!(get(&broker, "nightly", "sandbox.a").etag, "0");
    broker.close().await.unwrap();
    let again = open_on(disk).unwrap();
    assert_eq!(list(&again, Default::default()).0, all);
    again.close().await.unwrap();
}

/// A commit that is decided before a deletion and written after it would leave a key that nothing
/// ever removes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_races_with_the_deletion_of_its_product_leaves_nothing_behind() {
    let disk = Arc::new(SimulatedDisk::new(64 << 20));
    let broker = open_on(disk).unwrap();
    for _ in 0..20 {
        create(&broker, "sandbox.a", 1).await;
        append(&broker, "sandbox.a", 0, 3).await;
        let commits = (0..8).map(|n| {
            let broker = broker.clone();
            tokio::spawn(async move {
                let name = format!("reader-{n}");
                while commit(&broker, commit_of(&name, "sandbox.a", &[(0, 1)])).await.is_ok() {}
            })
        });
        let commits: Vec<_> = commits.collect();
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        let name = "sandbox.a".to_owned();
        let request = v1::DeleteProductRequest { name, ..Default::default() };
        broker.catalogue().delete_product(&Caller::default(), request).await.unwrap();
        join_all(commits).await.into_iter().for_each(|commit| commit.unwrap());
        assert!(keys(&broker).is_empty(), "{:?}", keys(&broker));
        assert_eq!(broker.catalogue().cursors().count(), 0);
    }
    broker.close().await.unwrap();
}

#[tokio::test]
async fn a_cursor_is_deleted_in_one_product_or_in_all() {
    let broker = Broker::in_memory().unwrap();
    for product in ["sandbox.a", "sandbox.b", "sandbox.c"] {
        create(&broker, product, 1).await;
        commit(&broker, commit_of("nightly", product, &[(0, 0)])).await.unwrap();
    }
    commit(&broker, commit_of("hourly", "sandbox.a", &[(0, 0)])).await.unwrap();
    delete(&broker, "nightly", "sandbox.b").await.unwrap();
    let names = ["hourly sandbox.a", "nightly sandbox.a", "nightly sandbox.c"];
    assert_eq!(list(&broker, Default::default()).0, names);
    let again = delete(&broker, "nightly", "sandbox.b").await;
    refused(again, Reason::CursorNotFound, &["nightly", "sandbox.b", "cursor list"]);
    delete(&broker, "nightly", "").await.unwrap();
    assert_eq!(list(&broker, Default::default()).0, ["hourly sandbox.a"]);
    refused(delete(&broker, "nightly", "").await, Reason::CursorNotFound, &["nightly"]);
    refused(delete(&broker, "\u{1b}[31m", "").await, Reason::CursorNotFound, &["\\u{1b}"]);
    refused(delete(&broker, "hourly", "sandbox.x").await, Reason::ProductNotFound, &["sandbox.x"]);
    assert_eq!(keys(&broker).len(), 1);
}

#[tokio::test]
async fn pages_give_every_cursor_once_in_order_whatever_the_filter() {
    let broker = Broker::in_memory().unwrap();
    let products = ["sandbox.a", "sandbox.a-b", "sandbox.z"];
    let cursors = ["a", "a-1", "a.1", "b", "nightly"];
    let mut all = Vec::new();
    // Later products have later ids; their names sort otherwise.
    for product in products.iter().rev() {
        create(&broker, product, 1).await;
        for cursor in cursors {
            commit(&broker, commit_of(cursor, product, &[(0, 0)])).await.unwrap();
        }
    }
    for cursor in cursors {
        all.extend(products.map(|product| format!("{cursor} {product}")));
    }
    for (product, cursor) in
        [("", ""), ("sandbox.a", ""), ("", "a"), ("sandbox.z", "b"), ("", "none")]
    {
        let wanted: Vec<&String> = all
            .iter()
            .filter(|name| {
                let (of, to) = name.split_once(' ').unwrap();
                (cursor.is_empty() || of == cursor) && (product.is_empty() || to == product)
            })
            .collect();
        for page_size in [1, 2, 7, 100] {
            let mut request = v1::ListCursorsRequest {
                product: product.to_owned(),
                cursor: cursor.to_owned(),
                page_size,
                ..Default::default()
            };
            let mut found = Vec::new();
            loop {
                let (names, token) = list(&broker, request.clone());
                assert!(names.len() <= page_size as usize);
                found.extend(names);
                if token.is_empty() {
                    break;
                }
                request.page_token = token;
            }
            assert_eq!(found.iter().collect::<Vec<_>>(), wanted, "{product} {cursor} {page_size}");
        }
    }
    let request = v1::ListCursorsRequest { page_size: 1, ..Default::default() };
    let (_, token) = list(&broker, request);
    let foreign =
        v1::ListCursorsRequest { cursor: "a".to_owned(), page_token: token, ..Default::default() };
    refused(
        broker.list_cursors(&Caller::default(), foreign),
        Reason::InvalidArgument,
        &["page_token"],
    );
}

#[tokio::test]
async fn a_page_ends_before_it_is_too_large_for_a_frame() {
    let broker = Broker::in_memory().unwrap();
    create(&broker, "sandbox.wide", 1024).await;
    let positions: Vec<(u32, u64)> = (0..1024).map(|partition| (partition, 0)).collect();
    for n in 0..600 {
        let cursor = format!("reader-{n:03}");
        commit(&broker, commit_of(&cursor, "sandbox.wide", &positions)).await.unwrap();
    }
    let mut request = v1::ListCursorsRequest { page_size: 1000, ..Default::default() };
    let (mut seen, mut pages) = (0, 0);
    loop {
        let page = broker.list_cursors(&Caller::default(), request.clone()).unwrap();
        assert!(page.encoded_len() < 3 << 20, "{}", page.encoded_len());
        (seen, pages) = (seen + page.cursors.len(), pages + 1);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(seen, 600);
    assert!(pages > 1);
}

#[tokio::test]
async fn there_are_only_so_many_cursors_and_a_deleted_one_makes_room() {
    let broker = Broker::in_memory().unwrap();
    create(&broker, "sandbox.a", 1).await;
    for n in 0..MAX_CURSORS {
        commit(&broker, commit_of(&format!("c-{n}"), "sandbox.a", &[(0, 0)])).await.unwrap();
    }
    let full = commit(&broker, commit_of("one-more", "sandbox.a", &[(0, 0)])).await;
    let error = refused(full, Reason::LimitReached, &["10000", "cursor delete"]);
    assert_eq!(error.metadata()["limit"], "10000");
    commit(&broker, commit_of("c-7", "sandbox.a", &[(0, 0)])).await.unwrap();
    delete(&broker, "c-0", "").await.unwrap();
    commit(&broker, commit_of("one-more", "sandbox.a", &[(0, 0)])).await.unwrap();
    let name = "sandbox.a".to_owned();
    let request = v1::DeleteProductRequest { name, ..Default::default() };
    broker.catalogue().delete_product(&Caller::default(), request).await.unwrap();
    assert!(keys(&broker).is_empty());
}

#[tokio::test]
async fn a_refused_first_commit_gives_its_place_back() {
    let table = super::CursorTable::empty(1);
    drop(table.place().unwrap());
    let place = table.place().unwrap();
    assert_eq!(table.place().err().unwrap().reason(), Reason::LimitReached);
    drop(place);
    table.place().unwrap();
}

#[tokio::test]
async fn after_the_broker_is_closed_commits_are_refused() {
    let disk = Arc::new(SimulatedDisk::new(64 << 20));
    let broker = open_on(disk).unwrap();
    create(&broker, "sandbox.a", 1).await;
    commit(&broker, commit_of("nightly", "sandbox.a", &[(0, 0)])).await.unwrap();
    broker.close().await.unwrap();
    let late = commit(&broker, commit_of("nightly", "sandbox.a", &[(0, 0)])).await;
    refused(late, Reason::ShuttingDown, &[]);
    refused(delete(&broker, "nightly", "").await, Reason::ShuttingDown, &[]);
}
