//! Directories written by version 1, opened by every later version.
//!
//! `v1` holds a sealed, a recycled and an unsealed file, two checkpoints and a sidecar footer. It
//! was written with `MESHLOG_WRITE_FIXTURE=1`, which refuses to overwrite one that exists.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use meshlog_storage::disk::{ManualClock, OsDisk, SeededRandom, WriteMode};
use meshlog_storage::{
    Components, Control, Entry, NoObserver, Offset, Options, Storage, StreamId, Timestamp,
};

use crate::support::{Lines, append, entry, lines, read_all, stamp};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/v1")
}

fn open(directory: &Path, clock: &Arc<ManualClock>) -> Storage {
    let options = Options {
        directory: directory.to_owned(),
        group_bytes: 8 << 10,
        file_bytes_min: 32 << 10,
        file_bytes_max: 32 << 10,
        ring_bytes: 0,
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

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::starting_at(Timestamp(1_700_000_000_000_000_000)))
}

const ROUNDS: u64 = 24;

#[test]
fn a_directory_of_version_1_opens_for_ever() {
    if std::env::var_os("MESHLOG_WRITE_FIXTURE").is_some() {
        write_fixture();
    }
    let directory = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(fixture()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), directory.path().join(file.file_name())).unwrap();
    }
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

fn write_fixture() {
    let directory = fixture();
    assert!(!directory.exists(), "{} exists: a fixture is for ever", directory.display());
    let clock = clock();
    let storage = open(&directory, &clock);
    let controls = |controls| Entry { controls, ..Entry::default() };
    let (gone, kept, late) =
        (storage.allocate_stream(), storage.allocate_stream(), storage.allocate_stream());
    append(
        &storage,
        controls(vec![
            Control::CreateStream(gone),
            Control::CreateStream(kept),
            Control::SetState { key: "name".into(), value: Some("fixture".into()) },
        ]),
    )
    .unwrap();
    for tag in 0..12 {
        append(&storage, entry(vec![lines(gone, tag, 1, 3000)])).unwrap();
    }
    append(&storage, controls(vec![Control::DeleteStream(gone)])).unwrap();
    for _ in 0..3 {
        clock.advance(Duration::from_secs(11));
        append(&storage, controls(vec![Control::SetState { key: "x".into(), value: None }]))
            .unwrap();
        storage.drive();
    }
    for tag in 0..ROUNDS {
        append(&storage, entry(vec![lines(kept, tag, 2, 900)])).unwrap();
    }
    append(&storage, controls(vec![Control::TrimStream(kept, Offset(4))])).unwrap();
    storage.close().unwrap();
    drop(storage);
    // This life ends by a crash: its file has no seal.
    let storage = open(&directory, &clock);
    append(&storage, controls(vec![Control::CreateStream(late)])).unwrap();
    let last = Entry {
        batches: vec![lines(late, 99, 1, 40)],
        producer: Some(stamp(7, 0)),
        ..Entry::default()
    };
    append(&storage, last).unwrap();
    std::mem::forget(storage);
    // And so does the next: it carried the last group over and wrote the footer of that file.
    std::fs::remove_file(directory.join("meshlog.lock")).unwrap();
    std::mem::forget(open(&directory, &clock));
    let _ = std::fs::remove_file(directory.join("meshlog.lock"));
}
