//! Directories written by earlier versions, opened by every later one.
//!
//! `v1` holds a sealed, a recycled and an unsealed file, two checkpoints and a sidecar footer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use meshlog_storage::disk::{ManualClock, OsDisk, SeededRandom, WriteMode};
use meshlog_storage::{
    Components, Entry, NoObserver, Offset, Options, Storage, StreamId, Timestamp,
};

use crate::support::{Lines, append, entry, lines, read_all, stamp};

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
