//! The size of the directory follows what is retained, not what was written, at any load.

use std::time::Duration;

use meshlog_storage::{Batch, Control, Entry, Policy, Storage, StreamId};

use crate::compacting::compacted;
use crate::support::{Machine, append, entry, lines};

/// Slots kept for the next files, the reserves and the checkpoints.
const POOL: u64 = (3 + 2) * (256 << 10) + (512 << 10);

/// Writes ten times what is retained; the directory never takes more than 2.5 times that and the
/// pool. `batch` says which stream the nth batch is for, and its length.
fn stays_bounded(
    machine: &Machine,
    policies: &[(usize, u64)],
    retained: u64,
    per_entry: u64,
    batch: impl Fn(u64) -> (usize, usize),
) {
    let storage = machine.open().unwrap();
    let mut streams: Vec<StreamId> = Vec::new();
    let mut controls = Vec::new();
    for (count, bytes) in policies {
        for _ in 0..*count {
            let stream = storage.allocate_stream();
            controls.push(Control::CreateStream(stream));
            let policy = Policy { max_bytes: Some(*bytes), ..Policy::default() };
            controls.push(Control::SetPolicy(stream, policy));
            streams.push(stream);
        }
    }
    // A group of its own for each stream would be many times what the streams are to hold.
    for controls in controls.chunks(100) {
        append(&storage, Entry { controls: controls.to_vec(), ..Entry::default() }).unwrap();
    }
    let (mut written, mut most, mut tag) = (0, 0, 0);
    while written < 10 * retained {
        // Several batches a group, as a busy broker has them.
        let batches: Vec<_> = (0..per_entry)
            .map(|_| {
                tag += 1;
                let (index, length) = batch(tag);
                written += length as u64;
                lines(streams[index], tag, 1, length)
            })
            .collect();
        append(&storage, entry(batches)).unwrap();
        // What is retained passes in some minutes.
        machine.clock.advance(Duration::from_millis(200 * per_entry));
        storage.drive();
        most = most.max(machine.disk.used());
    }
    let bound = retained * 5 / 2 + POOL;
    assert!(most <= bound, "{most} bytes for {retained} retained; {:?}", storage.stats());
}

#[test]
fn one_large_stream_takes_no_more_than_it_retains() {
    let machine = Machine::new(1);
    stays_bounded(&machine, &[(1, 2 << 20)], 2 << 20, 8, |_| (0, 4000));
}

/// Slow streams keep their records in files of which the fast one's are long gone.
#[test]
fn a_mixture_of_fast_and_slow_streams_takes_no_more_than_it_retains() {
    let machine = Machine::new(3);
    let retained = (1 << 20) + 100 * 12_000;
    stays_bounded(&machine, &[(1, 1 << 20), (100, 10_000)], retained, 8, |tag| {
        if tag % 10 == 0 { (1 + (tag / 10 % 100) as usize, 1000) } else { (0, 3000) }
    });
}

/// Every file holds a little of many streams, and each of them goes at its own time.
#[test]
fn a_thousand_small_streams_take_no_more_than_they_retain() {
    let machine = Machine::new(2);
    stays_bounded(&machine, &[(1000, 2_500)], 1000 * 2_500, 20, |tag| ((tag % 1000) as usize, 500));
}

/// Journal files of the tests under load, 512 times smaller than a busy broker's.
const FILE: u64 = 256 << 10;
/// Streams under load; the first ones have policies of their own.
const STREAMS: u64 = 16;
/// Bytes of a batch, which is one record with one of a few keys.
const BATCH: u64 = 1000;
/// What most streams keep, and what the first of eight keeps.
const KEPT: u64 = 128 << 10;
const KEPT_LONG: u64 = 8 * KEPT;

/// A broker under a load that fills a file in so many milliseconds, where merges keep their pace.
/// Writes ten times what is retained; answers the storage and the most the directory took.
fn most_under_load(
    policies: &dyn Fn(u64) -> Policy,
    retained: u64,
    file_millis: u64,
) -> (Storage, u64) {
    let mut machine = Machine::new(4);
    let options = &mut machine.options;
    (options.file_bytes_min, options.file_bytes_max) = (FILE, FILE);
    (options.group_bytes, options.segment_bytes_min) = (64 << 10, FILE / 32);
    options.compaction_bytes_min = FILE / 32;
    // As much smaller than by default as the files.
    options.merge_bytes_per_second = (64 << 20) / 512;
    let storage = machine.open().unwrap();
    let streams: Vec<StreamId> = (0..STREAMS).map(|_| storage.allocate_stream()).collect();
    let policies = streams.iter().zip(0..).flat_map(|(stream, index)| {
        [Control::CreateStream(*stream), Control::SetPolicy(*stream, policies(index))]
    });
    append(&storage, Entry { controls: policies.collect(), ..Entry::default() }).unwrap();
    let (mut written, mut most, mut tag) = (0, 0, 0);
    while written < 10 * retained {
        let batches: Vec<Batch> = (0..2 * STREAMS)
            .map(|_| {
                tag += 1;
                let line = format!("@{} {:x<width$}\n", tag % 37, "", width = BATCH as usize - 5);
                let batch = lines(streams[(tag % STREAMS) as usize], tag, 1, 10);
                Batch { payload: vec![line.into()], ..batch }
            })
            .collect();
        let bytes = 2 * STREAMS * BATCH;
        append(&storage, entry(batches)).unwrap();
        written += bytes;
        // Each time the merging thread gets to a step or two; a real one gets to more.
        for _ in 0..2 {
            machine.clock.advance(Duration::from_micros(file_millis * 1000 * bytes / FILE / 2));
            storage.drive();
        }
        most = most.max(machine.disk.used());
    }
    (storage, most)
}

/// From a file in two seconds to ten files a second: from a busy broker to more than a disk does.
fn stays_bounded_under_load(policies: &dyn Fn(u64, u64) -> Policy, retained: u64) {
    for file_millis in [2000, 400, 100] {
        let (storage, most) =
            most_under_load(&|index| policies(index, file_millis), retained, file_millis);
        let bound = retained * 5 / 2 + 5 * FILE + (512 << 10);
        let stats = storage.stats();
        assert!(stats.merges > 0, "{stats:?}");
        let ratio = most as f64 / retained as f64;
        println!("{file_millis} ms a file: {ratio:.2} times what is retained at most");
        assert!(most <= bound, "{file_millis} ms a file: {most} bytes, not {bound}; {stats:?}");
    }
}

/// What 16 streams retain of which two retain eight times as much as the others.
const RETAINED: u64 = 14 * KEPT + 2 * KEPT_LONG;

#[test]
fn under_load_the_directory_follows_limits_of_bytes() {
    let bytes = |bytes| Policy { max_bytes: Some(bytes), ..Policy::default() };
    let policy = |index, _| if index % 8 == 0 { bytes(KEPT_LONG) } else { bytes(KEPT) };
    stays_bounded_under_load(&policy, RETAINED);
}

#[test]
fn under_load_the_directory_follows_limits_of_counts() {
    let count = |bytes: u64| Policy { max_count: Some(bytes / BATCH), ..Policy::default() };
    let policy = |index, _| if index % 8 == 0 { count(KEPT_LONG) } else { count(KEPT) };
    stays_bounded_under_load(&policy, RETAINED);
}

#[test]
fn under_load_the_directory_follows_limits_of_age() {
    let policy = |index: u64, file_millis: u64| {
        // A stream gets a sixteenth of what is written.
        let millis = |bytes: u64| bytes * STREAMS * file_millis / FILE;
        let age = if index.is_multiple_of(8) { millis(KEPT_LONG) } else { millis(KEPT) };
        Policy { max_age: Some(Duration::from_millis(age)), ..Policy::default() }
    };
    stays_bounded_under_load(&policy, RETAINED);
}

#[test]
fn under_load_the_directory_follows_what_compaction_keeps() {
    let bytes = |bytes| Policy { max_bytes: Some(bytes), ..Policy::default() };
    let policy = |index, _| match index % 8 {
        0 => bytes(KEPT_LONG),
        1 => compacted(60),
        _ => bytes(KEPT),
    };
    // 37 keys of each of the two that are compacted.
    stays_bounded_under_load(&policy, RETAINED - 2 * KEPT + 2 * 37 * BATCH);
}
