//! Directories written by earlier versions, opened by every later one.
//!
//! `v1` holds a sealed, a recycled and an unsealed file, two checkpoints and a sidecar footer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use meshlog_storage::disk::{ManualClock, OsDisk, SeededRandom, WriteMode};
use meshlog_storage::{
    Compaction, Components, Control, Entry, NoObserver, Offset, Options, Policy, Storage, StreamId,
    Timestamp,
};

use crate::support::{Lines, append, entry, lines, read_all, read_compacted, stamp};

fn fixture(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(version)
}

/// Copies a fixture to where it can be written.
pub(crate) fn copy(version: &str, to: &Path) {
    for file in std::fs::read_dir(fixture(version)).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

pub(crate) fn open(directory: &Path, clock: &Arc<ManualClock>) -> Storage {
    let options = Options {
        directory: directory.to_owned(),
        group_bytes: 8 << 10,
        file_bytes_min: 32 << 10,
        file_bytes_max: 32 << 10,
        ring_bytes: 0,
        compaction_bytes_min: 0,
        merge_bytes_per_second: u64::MAX,
        ..Options::default()
    };
    let parts = Components {
        disk: Arc::new(OsDisk { write_mode: WriteMode::Buffered }),
        clock: Arc::clone(clock) as _,
        random: Arc::new(SeededRandom::new(1)),
        codec: Arc::new(Lines),
        observer: Arc::new(NoObserver),
    };
    Storage::open_without_threads(options, parts).unwrap()
}

pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::starting_at(Timestamp(1_700_000_000_000_000_000)))
}

const ROUNDS: u64 = 24;

#[test]
fn a_directory_of_version_1_opens_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    copy("v1", directory.path());
    let storage = open(directory.path(), &clock());
    assert!(storage.health().damage.is_empty(), "{:?}", storage.health().damage);
    assert_eq!(storage.state(), [("name".into(), "fixture".into())]);
    assert_eq!(storage.streams(), [StreamId(2), StreamId(3)]);
    let batches = read_all(&storage, StreamId(2), Offset(4)).unwrap();
    let tags: Vec<u64> = (2..ROUNDS).collect();
    assert_eq!(batches.len(), tags.len());
    for (batch, tag) in batches.iter().zip(tags) {
        assert_eq!(batch.payload, lines(StreamId(2), tag, 2, 900).payload[0]);
        assert_eq!((batch.base_offset, batch.schema, batch.application), (Offset(tag * 2), 1, 2));
    }
    assert_eq!(storage.bounds(StreamId(2)).unwrap().start, Offset(4));
    let last = &read_all(&storage, StreamId(3), Offset(0)).unwrap()[0];
    assert_eq!(last.producer, Some(stamp(7, 0)));
    let retry = Entry {
        batches: vec![lines(StreamId(3), 99, 1, 40)],
        producer: Some(stamp(7, 0)),
        ..Entry::default()
    };
    assert!(append(&storage, retry).unwrap().duplicate);
    append(&storage, entry(vec![lines(StreamId(2), 100, 1, 40)])).unwrap();
}

/// `v2` holds journal files with byte counts, segments of two merges, one of them compacted,
/// policies, and an unsealed file. Written with `MESHLOG_WRITE_FIXTURE=1`, which refuses to
/// overwrite one that exists.
#[test]
fn a_directory_of_version_2_opens_for_ever() {
    if std::env::var_os("MESHLOG_WRITE_FIXTURE").is_some() {
        write_fixture();
    }
    let directory = tempfile::tempdir().unwrap();
    copy("v2", directory.path());
    let names: Vec<String> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|file| file.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert!(names.iter().any(|name| name.starts_with("segment-")), "{names:?}");
    let clock = clock();
    let storage = open(directory.path(), &clock);
    assert!(storage.health().damage.is_empty(), "{:?}", storage.health().damage);
    assert_eq!(storage.streams(), [StreamId(1), StreamId(2), StreamId(3)]);
    let kept = read_all(&storage, StreamId(1), Offset(0)).unwrap();
    assert_eq!(kept.len(), 21);
    for (batch, tag) in kept.iter().zip(0..) {
        assert_eq!(batch.payload, lines(StreamId(1), tag, 1, 900).payload[0]);
    }
    assert_eq!(storage.bounds(StreamId(2)).unwrap().start, Offset(18), "retention by count");
    let compacted = read_compacted(&storage, StreamId(3), Offset(0)).unwrap();
    let first = &compacted[0];
    assert_eq!((first.base_offset, &first.offset_deltas[..]), (Offset(0), &[0, 2][..]));
    assert_eq!(first.payload, "once\n@b 0\n");
    assert_eq!(compacted.last().unwrap().end(), Offset(60));
    append(&storage, entry(vec![lines(StreamId(2), 100, 1, 40)])).unwrap();
    clock.advance(Duration::from_secs(10));
    storage.drive();
    assert_eq!(storage.bounds(StreamId(2)).unwrap().start, Offset(19), "the policy is in force");
}

fn write_fixture() {
    let directory = fixture("v2");
    assert!(!directory.exists(), "{} exists: a fixture is for ever", directory.display());
    let clock = clock();
    let storage = open(&directory, &clock);
    let streams = [(); 3].map(|()| storage.allocate_stream());
    let mut controls: Vec<Control> = streams.map(Control::CreateStream).to_vec();
    let compact = Some(Compaction { tombstone_min_age: Duration::from_secs(1_000_000) });
    controls.extend([
        Control::SetPolicy(streams[1], Policy { max_count: Some(3), ..Policy::default() }),
        Control::SetPolicy(streams[2], Policy { compact, ..Policy::default() }),
    ]);
    append(&storage, Entry { controls, ..Entry::default() }).unwrap();
    let round = |tag: u64| {
        let records = match tag {
            0 => "once\n@a 0\n@b 0\n".to_owned(),
            _ => format!("@a {tag}\n@c {tag}\n@d {tag}\n"),
        };
        let keyed = meshlog_storage::Batch {
            payload: vec![records.into()],
            count: 3,
            ..lines(streams[2], 0, 1, 10)
        };
        let batches = vec![lines(streams[0], tag, 1, 900), lines(streams[1], tag, 1, 2500), keyed];
        append(&storage, entry(batches)).unwrap();
        clock.advance(Duration::from_secs(4));
    };
    (0..20).for_each(&round);
    while storage.stats().merges < 2 {
        clock.advance(Duration::from_secs(10));
        storage.drive();
    }
    // Two checkpoints later the inputs are gone; this life ends by a crash.
    for _ in 0..5 {
        clock.advance(Duration::from_secs(10));
        storage.drive();
    }
    append(&storage, entry(vec![lines(streams[0], 20, 1, 900), lines(streams[1], 20, 1, 10)]))
        .unwrap();
    std::mem::forget(storage);
    let _ = std::fs::remove_file(directory.join("meshlog.lock"));
}
