//! The engine with its threads, on a real directory and in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use meshlog_storage::{
    Components, Control, Durability, Entry, ErrorKind, NoObserver, Observer, Offset, Options,
    ReadRequest, Storage, StoredBatch, StreamId,
};

use crate::support::{Lines, entry, lines};

fn on_disk(directory: &std::path::Path) -> Storage {
    let options = Options { directory: directory.to_owned(), ..Options::default() };
    let parts = Components::on_disk(Arc::new(Lines), Arc::new(NoObserver));
    Storage::open(options, parts).unwrap()
}

fn create(storage: &Storage) -> StreamId {
    let stream = storage.allocate_stream();
    let controls = vec![Control::CreateStream(stream)];
    storage.append_and_wait(Entry { controls, ..Entry::default() }).unwrap();
    stream
}

fn read_all(storage: &Storage, stream: StreamId) -> Vec<StoredBatch> {
    let (mut from, mut batches) = (Offset(0), Vec::new());
    loop {
        let (sender, receiver) = mpsc::channel();
        let request = ReadRequest { stream, from, max_bytes: 1 << 20, hint: None };
        let slice = storage
            .read(request, move |slice| sender.send(slice).unwrap())
            .unwrap_or_else(|| receiver.recv().unwrap())
            .unwrap();
        let Some(last) = slice.batches.last() else { return batches };
        from = last.end();
        batches.extend(slice.batches);
    }
}

#[test]
fn many_threads_append_and_everything_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let storage = on_disk(directory.path());
    let streams: Vec<_> = (0..4).map(|_| create(&storage)).collect();
    std::thread::scope(|scope| {
        for stream in &streams {
            let storage = storage.clone();
            scope.spawn(move || {
                for tag in 0..300 {
                    let length = if tag % 50 == 0 { 300_000 } else { 200 };
                    storage.append_and_wait(entry(vec![lines(*stream, tag, 2, length)])).unwrap();
                }
            });
        }
    });
    let stats = storage.stats();
    assert!(stats.groups < stats.entries, "threads that append together share syncs: {stats:?}");
    let check = |storage: &Storage| {
        for stream in &streams {
            let batches = read_all(storage, *stream);
            assert_eq!(batches.len(), 300);
            for (tag, batch) in batches.iter().enumerate() {
                let length = if tag % 50 == 0 { 300_000 } else { 200 };
                assert_eq!(batch.payload, lines(*stream, tag as u64, 2, length).payload[0]);
            }
        }
    };
    check(&storage);
    storage.close().unwrap();
    check(&on_disk(directory.path()));
}

#[test]
fn one_sync_serves_many_entries() {
    let directory = tempfile::tempdir().unwrap();
    let storage = on_disk(directory.path());
    let stream = create(&storage);
    let before = storage.stats();
    let (sender, receiver) = mpsc::channel();
    let mut under_way = 0;
    for tag in 0..2000 {
        let sender = sender.clone();
        storage.append(entry(vec![lines(stream, tag, 1, 100)]), move |outcome| {
            outcome.unwrap();
            sender.send(()).unwrap();
        });
        under_way += 1;
        if under_way == 64 {
            receiver.recv().unwrap();
            under_way -= 1;
        }
    }
    for _ in 0..under_way {
        receiver.recv().unwrap();
    }
    let syncs = storage.stats().syncs - before.syncs;
    assert!(syncs <= 400, "{syncs} syncs for 2,000 acknowledgements with 64 under way");
}

#[test]
fn an_empty_directory_is_small_and_a_second_process_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let storage = on_disk(directory.path());
    let stream = create(&storage);
    storage.append_and_wait(entry(vec![lines(stream, 0, 1, 10)])).unwrap();
    // Long enough for the reserve and the marker.
    let deadline = Instant::now() + Duration::from_secs(5);
    while storage.stats().groups < 3 && Instant::now() < deadline {
        std::thread::yield_now();
    }
    let bytes: u64 = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(bytes <= 10 << 20, "{bytes} bytes");
    let options = Options { directory: directory.path().to_owned(), ..Options::default() };
    let parts = Components::on_disk(Arc::new(Lines), Arc::new(NoObserver));
    assert_eq!(*Storage::open(options, parts).unwrap_err().kind(), ErrorKind::Locked);
}

#[derive(Default)]
struct Counting(AtomicU64);

impl Observer for Counting {
    fn advanced(&self, streams: &[StreamId]) {
        self.0.fetch_add(streams.len() as u64, Ordering::SeqCst);
    }
}

#[test]
fn memory_acknowledges_memory_and_the_observer_is_told() {
    let observer = Arc::new(Counting::default());
    let parts = Components::in_memory(Arc::new(Lines), Arc::clone(&observer) as _);
    let storage = Storage::open(Options::default(), parts).unwrap();
    let stream = create(&storage);
    let appended = storage.append_and_wait(entry(vec![lines(stream, 0, 3, 10)])).unwrap();
    assert_eq!(appended.durability, Durability::Memory);
    assert_eq!(storage.bounds(stream).unwrap().durable_end, Offset(3));
    // The observer is told after the acknowledgement.
    let deadline = Instant::now() + Duration::from_secs(5);
    while observer.0.load(Ordering::SeqCst) == 0 && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(observer.0.load(Ordering::SeqCst), 1);
    storage.close().unwrap();
    let error = storage.append_and_wait(entry(vec![lines(stream, 1, 1, 10)])).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Closed);
}

#[test]
fn memory_is_bounded_says_so_and_takes_appends_again_once_there_is_room() {
    let parts = Components {
        disk: Arc::new(meshlog_storage::disk::MemoryDisk::with_capacity(12 << 20)),
        ..Components::in_memory(Arc::new(Lines), Arc::new(NoObserver))
    };
    let options =
        Options { file_bytes_min: 2 << 20, file_bytes_max: 2 << 20, ..Options::default() };
    let storage = Storage::open(options, parts).unwrap();
    let stream = create(&storage);
    let error = (0..100)
        .find_map(|tag| storage.append_and_wait(entry(vec![lines(stream, tag, 1, 900_000)])).err())
        .unwrap();
    assert_eq!(*error.kind(), ErrorKind::DiskFull);

    let delete = Entry { controls: vec![Control::DeleteStream(stream)], ..Entry::default() };
    storage.append_and_wait(delete).unwrap();
    let stream = create(&storage);
    let accepted = (0..1_000).any(|_| {
        std::thread::yield_now();
        storage.append_and_wait(entry(vec![lines(stream, 0, 1, 900_000)])).is_ok()
    });
    assert!(accepted, "{:?}", storage.health());
}

/// In memory the appending thread commits; an outcome may be told inside of a commit, and who is
/// told may append at once.
#[test]
fn an_append_from_inside_an_outcome_is_answered() {
    let parts = Components::in_memory(Arc::new(Lines), Arc::new(NoObserver));
    let storage = Storage::open(Options::default(), parts).unwrap();
    let stream = create(&storage);
    let (sender, receiver) = mpsc::channel();
    let inner = storage.clone();
    storage.append(entry(vec![lines(stream, 0, 1, 10)]), move |first| {
        first.unwrap();
        inner.append(entry(vec![lines(stream, 1, 1, 10)]), move |second| {
            sender.send(second).unwrap();
        });
    });
    let second = receiver.recv_timeout(Duration::from_secs(5)).unwrap().unwrap();
    assert_eq!(second.ranges[0].first_offset, Offset(1));
}
