//! Reads: from memory, from files, by time, of damaged bytes.

use std::path::Path;
use std::time::Duration;

use meshlog_storage::{ErrorKind, Offset, ReadRequest, Timestamp};

use crate::support::{Machine, append, create, entry, lines, read, read_all};

#[test]
fn batches_come_back_from_memory_and_from_files_alike() {
    let machine = Machine::new(1);
    let storage = machine.open().unwrap();
    let streams: Vec<_> = (0..7).map(|_| create(&storage)).collect();
    let mut payloads = vec![Vec::new(); streams.len()];
    for round in 0..200_u64 {
        let index = (round * round % 7) as usize;
        let batch = lines(streams[index], round, 1 + (round % 3) as u32, 700);
        payloads[index].push(batch.payload[0].clone());
        append(&storage, entry(vec![batch])).unwrap();
    }
    for (stream, payloads) in streams.iter().zip(&payloads) {
        let batches = read_all(&storage, *stream, Offset(0)).unwrap();
        let found: Vec<_> = batches.into_iter().map(|batch| batch.payload).collect();
        assert_eq!(&found, payloads);
    }
    storage.close().unwrap();
    let storage = machine.open().unwrap();
    for (stream, payloads) in streams.iter().zip(&payloads) {
        let batches = read_all(&storage, *stream, Offset(0)).unwrap();
        let found: Vec<_> = batches.into_iter().map(|batch| batch.payload).collect();
        assert_eq!(&found, payloads);
    }
}

#[test]
fn a_read_in_the_middle_of_a_batch_returns_that_batch() {
    let machine = Machine::new(2);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    append(&storage, entry(vec![lines(stream, 0, 10, 30)])).unwrap();
    append(&storage, entry(vec![lines(stream, 1, 10, 30)])).unwrap();
    let request = ReadRequest { stream, from: Offset(13), max_bytes: 1, hint: None };
    let slice = read(&storage, request).unwrap();
    assert_eq!(slice.batches.len(), 1);
    assert_eq!(slice.batches[0].base_offset, Offset(10));
    for from in [21, 1000] {
        let request = ReadRequest { from: Offset(from), ..request };
        let error = read(&storage, request).unwrap_err();
        let bounds = ErrorKind::OffsetOutOfRange { start: Offset(0), durable_end: Offset(20) };
        assert_eq!(*error.kind(), bounds);
    }
}

#[test]
fn every_offset_of_every_file_can_be_found() {
    let machine = Machine::new(3);
    let storage = machine.open().unwrap();
    let (dense, sparse) = (create(&storage), create(&storage));
    for round in 0..150 {
        append(&storage, entry(vec![lines(dense, round, 2, 1500)])).unwrap();
        if round % 40 == 0 {
            append(&storage, entry(vec![lines(sparse, round, 1, 100)])).unwrap();
        }
    }
    for (stream, end) in [(dense, 300), (sparse, 4)] {
        for from in 0..end {
            let from = Offset(from);
            let request = ReadRequest { stream, from, max_bytes: 1, hint: None };
            let slice = read(&storage, request).unwrap();
            assert!(slice.batches[0].base_offset <= from && from < slice.batches[0].end());
        }
    }
}

#[test]
fn the_first_offset_at_a_time_is_found_in_memory_and_on_disk() {
    let machine = Machine::new(4);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    let mut times = Vec::new();
    for round in 0..120 {
        machine.clock.advance(Duration::from_millis(10));
        let appended = append(&storage, entry(vec![lines(stream, round, 2, 1500)])).unwrap();
        times.push(appended.ranges[0].append_time);
    }
    let at = |time| {
        let found = std::sync::Arc::new(parking_lot::Mutex::new(None));
        let slot = std::sync::Arc::clone(&found);
        storage.offset_at_time(stream, time, move |offset| *slot.lock() = Some(offset));
        storage.drive();
        found.lock().take().unwrap().unwrap()
    };
    for (index, time) in times.iter().enumerate() {
        assert_eq!(at(*time), Offset(index as u64 * 2));
        assert_eq!(at(Timestamp(time.0 + 1)), Offset(index as u64 * 2 + 2));
    }
    assert_eq!(at(Timestamp(0)), Offset(0));
}

#[test]
fn append_times_never_decrease_when_the_clock_goes_back() {
    let machine = Machine::new(5);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    let first = append(&storage, entry(vec![lines(stream, 0, 1, 10)])).unwrap();
    machine.clock.set(Timestamp(5));
    let second = append(&storage, entry(vec![lines(stream, 1, 1, 10)])).unwrap();
    assert_eq!(second.ranges[0].append_time, first.ranges[0].append_time);
    let batches = read_all(&storage, stream, Offset(0)).unwrap();
    assert_eq!(batches[1].broker_time, Timestamp(5));
}

#[test]
fn rot_in_a_record_is_reported_for_exactly_its_batch_and_the_rest_is_served() {
    let machine = Machine::new(6);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    for round in 0..60 {
        append(&storage, entry(vec![lines(stream, round, 2, 1500)])).unwrap();
    }
    storage.close().unwrap();
    drop(storage);
    let needle = format!("{stream} 7 1 ");
    for slot in 1..20 {
        let path = format!("data/journal-{slot:06}");
        machine.disk.rot(Path::new(&path), |bytes| {
            let found = bytes.windows(needle.len()).position(|part| part == needle.as_bytes());
            if let Some(at) = found {
                bytes[at + 20] ^= 1;
            }
        });
    }
    let storage = machine.open().unwrap();
    let error = read_all(&storage, stream, Offset(14)).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Corrupt { next_readable: Offset(16) });
    assert_eq!(read_all(&storage, stream, Offset(16)).unwrap().len(), 52);
    let request = ReadRequest { stream, from: Offset(0), max_bytes: 1 << 20, hint: None };
    let before = read(&storage, request).unwrap();
    assert_eq!(before.batches.last().unwrap().end(), Offset(14));
}
