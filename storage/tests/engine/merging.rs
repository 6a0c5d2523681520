//! Merging: records stay, bytes go.

use std::path::Path;
use std::time::Duration;

use meshlog_storage::disk::{CrashPlan, Disk as _};
use meshlog_storage::{
    Control, Entry, ErrorKind, Offset, ReadRequest, Storage, StoredBatch, StreamId,
};

use crate::retaining::pass;
use crate::support::{Machine, append, create, entry, lines, read, read_all};

fn control(storage: &Storage, control: Control) {
    append(storage, Entry { controls: vec![control], ..Entry::default() }).unwrap();
}

pub(crate) fn trim(storage: &Storage, stream: StreamId, start: u64) {
    control(storage, Control::TrimStream(stream, Offset(start)));
}

/// Everything readable of a stream.
pub(crate) fn all(storage: &Storage, stream: StreamId) -> Vec<StoredBatch> {
    read_all(storage, stream, storage.bounds(stream).unwrap().start).unwrap()
}

fn names(machine: &Machine, prefix: &str) -> Vec<String> {
    let mut names = machine.disk.list(Path::new("data")).unwrap();
    names.retain(|name| name.starts_with(prefix));
    names.sort();
    names
}

/// Three streams in common files; most of one of them is trimmed.
pub(crate) fn half_dead(machine: &Machine) -> (Storage, [StreamId; 3]) {
    let storage = machine.open().unwrap();
    let streams = [create(&storage), create(&storage), create(&storage)];
    for tag in 0..150 {
        let batches = vec![
            lines(streams[0], tag, 2, 2000),
            lines(streams[1], tag, 1, 300),
            lines(streams[2], tag, 1, 900),
        ];
        append(&storage, entry(batches)).unwrap();
        if tag % 10 == 0 {
            machine.clock.advance(Duration::from_secs(1));
        }
    }
    (storage, streams)
}

#[test]
fn a_merge_keeps_every_record_and_frees_what_is_dead() {
    let machine = Machine::new(1);
    let (storage, streams) = half_dead(&machine);
    pass(&machine, &storage, 60);
    assert_eq!(storage.stats().merges, 0, "nothing is dead, so nothing is rewritten");
    let before_bytes = machine.disk.used();
    trim(&storage, streams[0], 280);
    let before = streams.map(|stream| all(&storage, stream));
    pass(&machine, &storage, 300);
    assert!(storage.stats().merges > 0);
    assert_eq!(streams.map(|stream| all(&storage, stream)), before);
    let after_bytes = machine.disk.used();
    assert!(after_bytes < before_bytes * 2 / 3, "{before_bytes} bytes before, {after_bytes} after");
    for (stream, batches) in streams.iter().zip(&before) {
        for batch in batches {
            let request =
                ReadRequest { stream: *stream, from: batch.base_offset, max_bytes: 1, hint: None };
            assert_eq!(read(&storage, request).unwrap().batches, std::slice::from_ref(batch));
        }
    }
    let merged = storage.stats().merges;
    pass(&machine, &storage, 300);
    assert_eq!(storage.stats().merges, merged, "what was merged is not merged again");
    storage.close().unwrap();

    let storage = machine.open().unwrap();
    assert!(storage.health().damage.is_empty(), "{:?}", storage.health());
    assert_eq!(streams.map(|stream| all(&storage, stream)), before);
    append(&storage, entry(vec![lines(streams[0], 999, 1, 10)])).unwrap();
    assert_eq!(all(&storage, streams[0]).len(), before[0].len() + 1);
}

#[test]
fn times_and_bytes_are_found_in_merged_files_as_before() {
    let machine = Machine::new(2);
    let (storage, streams) = half_dead(&machine);
    let times: Vec<_> = all(&storage, streams[2]).iter().map(|b| b.append_time).collect();
    trim(&storage, streams[0], 290);
    pass(&machine, &storage, 200);
    assert!(storage.stats().merges > 0);
    for time in times.iter().step_by(13) {
        let found = std::sync::Arc::new(parking_lot::Mutex::new(None));
        let slot = std::sync::Arc::clone(&found);
        storage.offset_at_time(streams[2], *time, move |offset| *slot.lock() = Some(offset));
        storage.drive();
        let first = times.iter().position(|other| other == time).unwrap();
        assert_eq!(found.lock().take().unwrap().unwrap(), Offset(first as u64));
    }
    let policy = meshlog_storage::Policy { max_bytes: Some(9_000), ..Default::default() };
    crate::retaining::set_policy(&storage, streams[2], policy);
    pass(&machine, &storage, 20);
    assert_eq!(storage.bounds(streams[2]).unwrap().start, Offset(140), "900 bytes each");
}

/// Whenever a start rises, before, between or after the steps of a merge, the newest bytes stay.
#[cfg_attr(not(sabotage), test)]
pub(crate) fn a_start_that_rises_under_a_merge_takes_no_bytes_from_what_stays() {
    let start_after = |trimmed_at: usize| {
        let machine = Machine::new(12);
        let (storage, streams) = half_dead(&machine);
        trim(&storage, streams[0], 280);
        let mut steps = 0;
        while storage.stats().merges == 0 || steps <= trimmed_at {
            if steps == trimmed_at {
                trim(&storage, streams[2], 75);
            }
            machine.clock.advance(Duration::from_secs(1));
            storage.drive();
            steps += 1;
        }
        let policy = meshlog_storage::Policy { max_bytes: Some(45_000), ..Default::default() };
        crate::retaining::set_policy(&storage, streams[2], policy);
        pass(&machine, &storage, 20);
        (steps, storage.bounds(streams[2]).unwrap().start)
    };
    let (last, _) = start_after(0);
    for trimmed_at in 0..last {
        assert_eq!(start_after(trimmed_at).1, Offset(100), "trimmed at step {trimmed_at}");
    }
}

#[test]
fn a_large_stream_gets_files_of_its_own_that_later_merges_leave_alone() {
    let machine = Machine::new(3);
    let storage = machine.open().unwrap();
    let large = create(&storage);
    let mut expected = Vec::new();
    let mut small = Vec::new();
    for round in 0..3 {
        let doomed = create(&storage);
        for tag in 0..60 {
            let batch = lines(large, round * 100 + tag, 1, 3000);
            expected.push(batch.payload[0].clone());
            append(&storage, entry(vec![batch, lines(doomed, tag, 1, 6000)])).unwrap();
        }
        small.push(create(&storage));
        append(&storage, entry(vec![lines(small[round as usize], 0, 1, 100)])).unwrap();
        control(&storage, Control::DeleteStream(doomed));
        pass(&machine, &storage, 100);
    }
    let stats = storage.stats();
    assert!(stats.merges >= 2, "{stats:?}");
    let payloads: Vec<_> = all(&storage, large).into_iter().map(|batch| batch.payload).collect();
    assert_eq!(payloads, expected);
    // 540,000 bytes are alive; rewriting all of them in each round would be twice as much.
    assert!(stats.merged_bytes < 800_000, "{stats:?}");
}

#[test]
fn a_thousand_small_streams_share_a_few_files() {
    let machine = Machine::new(4);
    let storage = machine.open().unwrap();
    let streams: Vec<_> = (0..1000).map(|_| create(&storage)).collect();
    let doomed = create(&storage);
    for tag in 0..4 {
        for group in streams.chunks(50) {
            let mut batches: Vec<_> =
                group.iter().map(|stream| lines(*stream, tag, 1, 60)).collect();
            batches.push(lines(doomed, tag, 1, 15_000));
            append(&storage, entry(batches)).unwrap();
        }
    }
    control(&storage, Control::DeleteStream(doomed));
    let calls = machine.disk.calls();
    pass(&machine, &storage, 3000);
    assert!(storage.stats().merges > 0);
    let segments = names(&machine, "segment-");
    assert!(segments.len() <= 8, "{segments:?}");
    assert!(machine.disk.calls() - calls < 400, "calls do not grow with the streams");
    for stream in &streams {
        assert_eq!(all(&storage, *stream).len(), 4);
    }
}

/// A reader that began before the merge goes on where it was, in the old file or the new one.
#[test]
fn a_reader_goes_through_a_merge_without_noticing() {
    let machine = Machine::new(5);
    let (storage, streams) = half_dead(&machine);
    let expected = all(&storage, streams[1]);
    trim(&storage, streams[0], 280);
    let (mut next, mut hint, mut found) = (Offset(0), None, Vec::new());
    while next < Offset(150) {
        let request = ReadRequest { stream: streams[1], from: next, max_bytes: 700, hint };
        let slice = read(&storage, request).unwrap();
        next = slice.batches.last().unwrap().end();
        hint = slice.hint;
        found.extend(slice.batches);
        pass(&machine, &storage, 20);
    }
    assert!(storage.stats().merges > 0);
    assert_eq!(found, expected);
}

#[test]
fn a_damaged_input_is_never_merged_and_its_range_is_quarantined() {
    let machine = Machine::new(6);
    let (storage, streams) = half_dead(&machine);
    storage.close().unwrap();
    let needle = format!("{} 20 0 ", streams[1]);
    for name in names(&machine, "journal-") {
        machine.disk.rot(&Path::new("data").join(&name), |bytes| {
            let found = bytes.windows(needle.len()).position(|part| part == needle.as_bytes());
            if let Some(at) = found {
                bytes[at + 20] ^= 1;
            }
        });
    }
    let storage = machine.open().unwrap();
    trim(&storage, streams[0], 280);
    pass(&machine, &storage, 600);
    let check = |storage: &Storage| {
        let error = read_all(storage, streams[1], Offset(20)).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Corrupt { next_readable: Offset(21) });
        assert_eq!(read_all(storage, streams[1], Offset(21)).unwrap().len(), 129);
        assert_eq!(all(storage, streams[2]).len(), 150);
    };
    check(&storage);
    assert!(storage.stats().merges > 0, "the other files are merged");
    storage.close().unwrap();
    // Also if somebody made the damage look well: it is known for good.
    for name in names(&machine, "journal-") {
        machine.disk.rot(&Path::new("data").join(&name), |bytes| {
            let found = bytes.windows(needle.len()).position(|part| part == needle.as_bytes());
            if let Some(at) = found {
                bytes[at + 20] ^= 1;
            }
        });
    }
    check(&machine.open().unwrap());
}

#[test]
fn an_unfinished_merge_leaves_nothing_behind_and_an_error_is_told_and_tried_again() {
    let mut machine = Machine::new(7);
    let (storage, streams) = half_dead(&machine);
    trim(&storage, streams[0], 280);
    let before = streams.map(|stream| all(&storage, stream));
    for _ in 0..100 {
        if names(&machine, "segment-").is_empty() {
            pass(&machine, &storage, 10);
        }
    }
    assert_eq!(storage.stats().merges, 0);
    machine.disk.fail_at(machine.disk.calls() + 1, std::io::ErrorKind::Other);
    storage.drive();
    assert!(storage.health().notes[0].contains("merge"), "{:?}", storage.health());
    assert_eq!(names(&machine, "segment-"), [""; 0]);
    pass(&machine, &storage, 60);
    for _ in 0..100 {
        if names(&machine, "segment-").is_empty() {
            pass(&machine, &storage, 10);
        }
    }
    std::mem::forget(storage);
    machine.disk = machine.disk.after_crash(CrashPlan::KeepAll);
    assert!(!names(&machine, "segment-").is_empty());
    let storage = machine.open().unwrap();
    assert_eq!(names(&machine, "segment-"), [""; 0]);
    assert_eq!(streams.map(|stream| all(&storage, stream)), before);
    pass(&machine, &storage, 100);
    assert!(storage.stats().merges > 0);
    assert!(storage.health().notes.is_empty());
}

/// Trimming is what a full disk asks for, though the trimmed records share files with others.
#[test]
fn trimming_makes_room_on_a_full_disk_by_merging() {
    let machine = Machine::new(8);
    machine.disk.set_capacity(2 << 20);
    let storage = machine.open().unwrap();
    let (large, small) = (create(&storage), create(&storage));
    let mut appended = 0;
    let both = |tag| entry(vec![lines(large, tag, 1, 9000), lines(small, tag, 1, 200)]);
    while append(&storage, both(appended)).is_ok() {
        appended += 1;
        machine.clock.advance(Duration::from_millis(50));
    }
    machine.disk.set_capacity(machine.disk.used());
    trim(&storage, large, appended - 2);
    pass(&machine, &storage, 600);
    assert!(storage.health().appends_refused.is_none(), "{:?}", storage.health());
    for tag in appended..appended + 20 {
        append(&storage, both(tag)).unwrap();
    }
    assert_eq!(all(&storage, small).len() as u64, appended + 20);
}

/// A disk that is full to the last block of the last journal file; `spare` controls fewer than fit
/// were appended, then most of a stream is trimmed.
fn full(spare: usize) -> (Machine, Storage, [StreamId; 2], usize) {
    let machine = Machine::new(10);
    machine.disk.set_capacity(2 << 20);
    let storage = machine.open().unwrap();
    let (large, small) = (create(&storage), create(&storage));
    let mut appended = 0;
    while append(
        &storage,
        entry(vec![lines(large, appended, 1, 9000), lines(small, appended, 1, 200)]),
    )
    .is_ok()
    {
        appended += 1;
        machine.clock.advance(Duration::from_millis(50));
    }
    machine.disk.set_capacity(machine.disk.used());
    let nothing =
        || Entry { controls: vec![Control::TrimStream(small, Offset(0))], ..Entry::default() };
    let mut fit = 0;
    while (spare == 0 || fit < spare) && append(&storage, nothing()).is_ok() {
        fit += 1;
    }
    if spare > 0 {
        trim(&storage, large, appended - 2);
    }
    (machine, storage, [large, small], fit)
}

/// The outputs are written, and the record that would put them in use finds no room: then the
/// inputs stay in use.
#[test]
fn a_merge_whose_record_finds_no_room_never_was() {
    let (.., fit) = full(0);
    let (machine, storage, [_, small], _) = full(fit - 1);
    let before = all(&storage, small);
    for _ in 0..60 {
        pass(&machine, &storage, 10);
        assert_eq!(all(&storage, small), before);
    }
    assert_eq!(storage.stats().merges, 0);
    assert!(storage.health().notes[0].contains("merge"), "{:?}", storage.health());
    machine.disk.set_capacity(64 << 20);
    pass(&machine, &storage, 300);
    assert!(storage.stats().merges > 0, "{:?}", storage.health());
    assert_eq!(all(&storage, small), before);
    storage.close().unwrap();
    assert_eq!(all(&machine.open().unwrap(), small), before);
}

/// Two checkpoints are kept, so that one may rot: the older one names the inputs of a merge.
#[test]
fn the_inputs_stay_until_no_kept_checkpoint_names_them() {
    let machine = Machine::new(9);
    let (storage, streams) = half_dead(&machine);
    pass(&machine, &storage, 30);
    trim(&storage, streams[0], 280);
    let before = streams.map(|stream| all(&storage, stream));
    for _ in 0..40 {
        machine.clock.advance(Duration::from_secs(3));
        storage.drive();
        let image =
            Machine { disk: machine.disk.after_crash(CrashPlan::KeepAll), ..machine_of(&machine) };
        let newest = names(&image, "checkpoint-").pop().unwrap();
        image.disk.rot(&Path::new("data").join(newest), |bytes| bytes[30] ^= 4);
        let storage = image.open().unwrap();
        let damage = storage.health().damage;
        assert_eq!(damage.len(), 1, "{damage:?}");
        assert_eq!(streams.map(|stream| all(&storage, stream)), before);
    }
    assert!(storage.stats().merges > 0);
}

fn machine_of(machine: &Machine) -> Machine {
    Machine {
        disk: machine.disk.clone(),
        clock: std::sync::Arc::clone(&machine.clock),
        random: std::sync::Arc::clone(&machine.random),
        options: machine.options.clone(),
    }
}
