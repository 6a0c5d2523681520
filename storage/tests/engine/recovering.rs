//! All checkpoints are lost: what is left is served, what is not is named, nothing is made up.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meshlog_storage::disk::{CrashPlan, Disk, SimulatedDisk};
use meshlog_storage::{
    Control, Entry, ErrorKind, Offset, Policy, Salvage, Storage, StoredBatch, StreamId, recover,
};

use crate::support::{Machine, append, create, entry, lines, read_all, read_compacted, stamp};

fn lose_checkpoints(disk: &SimulatedDisk) {
    for name in disk.list(Path::new("data")).unwrap() {
        if name.starts_with("checkpoint") {
            disk.remove(&Path::new("data").join(name)).unwrap();
        }
    }
}

fn salvage(disk: &SimulatedDisk, write: bool) -> Salvage {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    recover(Path::new("data"), &disk, write).unwrap()
}

fn control(storage: &Storage, control: Control) {
    append(storage, Entry { controls: vec![control], ..Entry::default() }).unwrap();
}

fn pass(machine: &Machine, storage: &Storage, seconds: u64) {
    for _ in 0..seconds.div_ceil(10) {
        machine.clock.advance(Duration::from_secs(10));
        storage.drive();
    }
}

/// A storage that gave files back: one stream that lives from the beginning, one that was merged,
/// one deleted. Returns what is readable.
fn aged(seed: u64) -> (Machine, Storage, Vec<(StreamId, Vec<StoredBatch>)>) {
    let machine = Machine::new(seed);
    let storage = machine.open().unwrap();
    let (first, thin, gone) = (create(&storage), create(&storage), create(&storage));
    for tag in 0..10 {
        append(&storage, entry(vec![lines(first, tag, 1, 9000)])).unwrap();
    }
    for tag in 0..120 {
        let batches = vec![lines(thin, tag, 1, 200), lines(gone, tag, 1, 9000)];
        append(&storage, entry(batches)).unwrap();
        machine.clock.advance(Duration::from_secs(1));
    }
    control(&storage, Control::DeleteStream(gone));
    pass(&machine, &storage, 300);
    let late = create(&storage);
    let policy = Policy { max_count: Some(1000), ..Policy::default() };
    control(&storage, Control::SetPolicy(late, policy));
    for tag in 0..40 {
        let producer = Some(stamp(1, tag));
        let batches = vec![lines(late, tag, 1, 2000), lines(first, tag, 1, 100)];
        append(&storage, Entry { batches, producer, ..Entry::default() }).unwrap();
    }
    control(&storage, Control::SetState { key: "k".into(), value: Some("v".into()) });
    assert!(storage.stats().merges > 0);
    let all = [first, thin, late].map(|id| (id, read_all(&storage, id, Offset(0)).unwrap()));
    (machine, storage, all.into())
}

#[test]
fn nothing_is_done_while_a_checkpoint_or_the_whole_journal_is_there() {
    let machine = Machine::new(1);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    for tag in 0..50 {
        append(&storage, entry(vec![lines(stream, tag, 1, 4000)])).unwrap();
    }
    control(&storage, Control::TrimStream(stream, Offset(7)));
    let policy = Policy { max_count: Some(1000), ..Policy::default() };
    control(&storage, Control::SetPolicy(stream, policy));
    let producer = Some(stamp(1, 0));
    let batches = vec![lines(stream, 50, 1, 10)];
    append(&storage, Entry { batches, producer, ..Entry::default() }).unwrap();
    control(&storage, Control::SetState { key: "k".into(), value: Some("v".into()) });
    let before = read_all(&storage, stream, Offset(7)).unwrap();
    storage.close().unwrap();
    assert!(salvage(&machine.disk, true).is_needless());
    lose_checkpoints(&machine.disk);
    let image = machine.disk.image();
    assert!(salvage(&machine.disk, true).is_needless());
    assert_eq!(machine.disk.image(), image);

    let storage = machine.open().unwrap();
    assert!(storage.health().damage.is_empty());
    assert_eq!(storage.bounds(stream).unwrap().start, Offset(7));
    assert_eq!(read_all(&storage, stream, Offset(7)).unwrap(), before);
    assert_eq!(storage.state(), [("k".into(), "v".into())]);
    let batches = vec![lines(stream, 50, 1, 10)];
    let again = append(&storage, Entry { batches, producer, ..Entry::default() }).unwrap();
    assert!(again.duplicate);
}

#[test]
fn what_is_left_is_served_once_the_new_checkpoint_is_written_and_not_before() {
    let (machine, storage, before) = aged(2);
    storage.close().unwrap();
    lose_checkpoints(&machine.disk);
    let error = machine.open().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }));
    assert!(error.to_string().contains("meshlog recover data"), "{error}");

    let image = machine.disk.image();
    let dry = salvage(&machine.disk, false);
    assert_eq!(machine.disk.image(), image, "without `write` nothing changes");
    assert!(!dry.written && !dry.is_needless());
    assert!(dry.lost.is_empty(), "{:?}", dry.lost);
    assert!(dry.may_be_undone.iter().any(|words| words.contains("deletions")));
    machine.open().unwrap_err();

    let report = salvage(&machine.disk, true);
    assert!(report.written);
    assert_eq!(report.streams, dry.streams);
    let storage = machine.open().unwrap();
    assert!(storage.health().damage[0].contains("may be undone"), "{:?}", storage.health());
    for (stream, batches) in &before {
        let start = storage.bounds(*stream).unwrap().start;
        assert_eq!(read_compacted(&storage, *stream, start).unwrap(), *batches, "{stream}");
    }
    assert_eq!(storage.state(), [("k".into(), "v".into())]);
    // The producer is in the tail: its retry is known.
    let (late, first) = (before[2].0, before[0].0);
    let batches = vec![lines(late, 39, 1, 2000), lines(first, 39, 1, 100)];
    let producer = Some(stamp(1, 39));
    assert!(append(&storage, Entry { batches, producer, ..Entry::default() }).unwrap().duplicate);
    // Nobody gets the id or the epoch of somebody who is lost.
    assert!(create(&storage) > before[2].0);
    let batches = vec![lines(late, 0, 1, 10)];
    let producer = Some(stamp(9, 0));
    let error = append(&storage, Entry { batches, producer, ..Entry::default() }).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::ProducerUnknown { epoch: 1 });
    pass(&machine, &storage, 300);
    storage.close().unwrap();
    let storage = machine.open().unwrap();
    for (stream, batches) in &before {
        let start = storage.bounds(*stream).unwrap().start;
        let found = read_compacted(&storage, *stream, start).unwrap();
        assert_eq!(found[..batches.len()], batches[..], "{stream}");
    }
    assert!(salvage_of_open(&machine).is_none(), "an open directory is left alone");
}

fn salvage_of_open(machine: &Machine) -> Option<Salvage> {
    let disk: Arc<dyn Disk> = Arc::new(machine.disk.clone());
    recover(Path::new("data"), &disk, true).ok()
}

/// A journal file in the middle is lost with the checkpoints: opening used to go on as if it had
/// never been there.
#[test]
fn a_gap_in_the_journal_without_checkpoints_is_refused_and_then_quarantined_exactly() {
    let machine = Machine::new(3);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    for tag in 0..200 {
        append(&storage, entry(vec![lines(stream, tag, 2, 4000)])).unwrap();
    }
    let before = read_all(&storage, stream, Offset(0)).unwrap();
    storage.close().unwrap();
    lose_checkpoints(&machine.disk);
    machine.disk.remove(Path::new("data/journal-000003")).unwrap();
    machine.open().unwrap_err();
    let report = salvage(&machine.disk, true);
    let storage = machine.open().unwrap();
    let [(lost_of, lost)] = &report.lost[..] else { panic!("{:?}", report.lost) };
    assert_eq!(*lost_of, stream);
    for batch in &before {
        let request = meshlog_storage::ReadRequest {
            stream,
            from: batch.base_offset,
            max_bytes: 1,
            hint: None,
        };
        match crate::support::read(&storage, request) {
            Ok(slice) => {
                assert_eq!(slice.batches[0], *batch);
                assert!(!lost.contains(&batch.base_offset));
            }
            Err(error) => {
                let next = ErrorKind::Corrupt { next_readable: lost.end };
                assert_eq!(*error.kind(), next, "{error}");
                assert!(lost.contains(&batch.base_offset), "{}", batch.base_offset);
            }
        }
    }
    assert!(lost.end.0 - lost.start.0 < 200);
}

/// Power is lost at any moment of a run with merges, and all checkpoints with it: everything
/// acknowledged that was not deleted is there, under its offset.
#[test]
fn nothing_alive_is_lost_with_the_checkpoints_wherever_the_run_was_cut() {
    let run = |machine: &Machine, storage: &Storage| -> Option<(StreamId, u64)> {
        let (thin, gone) = (try_create(storage)?, try_create(storage)?);
        let mut there = 0;
        for round in 0..3 {
            for tag in 0..40 {
                let batches = vec![lines(thin, there, 1, 200), lines(gone, tag, 1, 6000)];
                if append(storage, entry(batches)).is_err() {
                    return Some((thin, there));
                }
                there += 1;
                machine.clock.advance(Duration::from_secs(1));
            }
            let end = storage.bounds(gone).unwrap().durable_end;
            let trim = Control::TrimStream(gone, Offset(end.0 - round));
            let trim = Entry { controls: vec![trim], ..Entry::default() };
            if append(storage, trim).is_err() {
                return Some((thin, there));
            }
            for _ in 0..12 {
                machine.clock.advance(Duration::from_secs(10));
                storage.drive();
            }
        }
        assert!(storage.stats().merges > 0 || machine.disk.has_crashed());
        Some((thin, there))
    };
    let whole = Machine::new(4);
    let storage = whole.open().unwrap();
    run(&whole, &storage).unwrap();
    let calls = whole.disk.calls();
    let (mut salvaged, mut opened) = (0, 0);
    for call in (20..calls).step_by(3) {
        let mut machine = Machine::new(4);
        let storage = machine.open().unwrap();
        machine.disk.crash_at(call, call);
        let Some((thin, there)) = run(&machine, &storage) else { continue };
        std::mem::forget(storage);
        machine.disk = machine.disk.after_crash(CrashPlan::Random(call));
        lose_checkpoints(&machine.disk);
        let report = salvage(&machine.disk, true);
        match report.is_needless() {
            true => opened += 1,
            false => salvaged += 1,
        }
        let storage = machine.open().unwrap_or_else(|error| panic!("call {call}: {error}"));
        let batches = read_compacted(&storage, thin, Offset(0))
            .unwrap_or_else(|error| panic!("call {call}: {error}, {report:?}"));
        let offsets: Vec<u64> = batches.iter().map(|batch| batch.base_offset.0).collect();
        let expected: Vec<u64> = (0..offsets.len() as u64).collect();
        assert_eq!(offsets, expected, "call {call}: {report:?}");
        assert!(offsets.len() as u64 >= there, "call {call}: {} of {there}", offsets.len());
    }
    assert!(salvaged > 50 && opened > 20, "{salvaged} salvaged, {opened} opened as they were");
}

fn try_create(storage: &Storage) -> Option<StreamId> {
    let stream = storage.allocate_stream();
    let controls = vec![Control::CreateStream(stream)];
    append(storage, Entry { controls, ..Entry::default() }).ok().map(|_| stream)
}
