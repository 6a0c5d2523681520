//! A disk that fills up: what is refused, what goes on, and what makes room again.

use std::time::Duration;

use meshlog_storage::disk::CrashPlan;
use meshlog_storage::{Applied, Control, Entry, ErrorKind, Offset, Policy, Storage, StreamId};

use crate::support::{Machine, append, create, entry, lines, read_all};

fn control(storage: &Storage, control: Control) {
    append(storage, Entry { controls: vec![control], ..Entry::default() }).unwrap();
}

/// Appends until there is no space; answers how many.
fn fill(storage: &Storage, stream: StreamId) -> u64 {
    for count in 0..10_000 {
        if let Err(error) = append(storage, entry(vec![lines(stream, count, 1, 9000)])) {
            assert_eq!((error.kind(), error.applied()), (&ErrorKind::DiskFull, Applied::No));
            assert!(error.to_string().contains("resume by themselves"), "{error}");
            assert!(storage.health().appends_refused.is_some());
            return count;
        }
    }
    panic!("the disk never fills up");
}

/// A storage that is full, on a disk without a byte to spare: `small` holds one record.
fn full() -> (Machine, Storage, StreamId, StreamId) {
    let machine = Machine::new(1);
    machine.disk.set_capacity(2 << 20);
    let storage = machine.open().unwrap();
    let (large, small) = (create(&storage), create(&storage));
    append(&storage, entry(vec![lines(small, 0, 1, 100)])).unwrap();
    assert!(fill(&storage, large) > 50);
    machine.disk.set_capacity(machine.disk.used());
    (machine, storage, large, small)
}

fn pass(machine: &Machine, storage: &Storage, seconds: u64) {
    for _ in 0..seconds.div_ceil(10) {
        machine.clock.advance(Duration::from_secs(10));
        storage.drive();
    }
}

/// Appends go on, and everything that was there is.
fn goes_on(storage: &Storage, small: StreamId) {
    let before = storage.bounds(small).unwrap().durable_end;
    for tag in 0..20 {
        append(storage, entry(vec![lines(small, tag, 1, 9000)])).unwrap();
    }
    assert!(storage.health().appends_refused.is_none());
    assert_eq!(read_all(storage, small, Offset(0)).unwrap().len() as u64, before.0 + 20);
}

#[test]
fn trimming_makes_room_on_a_disk_without_a_byte_to_spare() {
    let (machine, storage, large, small) = full();
    let end = storage.bounds(large).unwrap().durable_end;
    control(&storage, Control::TrimStream(large, end));
    pass(&machine, &storage, 120);
    goes_on(&storage, small);
}

#[test]
fn retention_makes_room_on_a_disk_without_a_byte_to_spare() {
    let (machine, storage, large, small) = full();
    let policy = Policy { max_age: Some(Duration::from_secs(300)), ..Policy::default() };
    control(&storage, Control::SetPolicy(large, policy));
    let refused = append(&storage, entry(vec![lines(small, 1, 1, 9000)])).unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::DiskFull);
    pass(&machine, &storage, 600);
    let bounds = storage.bounds(large).unwrap();
    assert!(bounds.start > Offset(50), "{bounds:?}");
    goes_on(&storage, small);
}

/// The live record lies among dead ones in every file: only a merge makes room, and it writes.
#[test]
fn merging_makes_room_on_a_disk_without_a_byte_to_spare() {
    let machine = Machine::new(2);
    machine.disk.set_capacity(2 << 20);
    let storage = machine.open().unwrap();
    let (large, small) = (create(&storage), create(&storage));
    let mut there = 0;
    let batches = |tag| vec![lines(small, tag, 1, 100), lines(large, tag, 1, 9000)];
    while append(&storage, entry(batches(there))).is_ok() {
        there += 1;
    }
    machine.disk.set_capacity(machine.disk.used());
    control(&storage, Control::DeleteStream(large));
    pass(&machine, &storage, 600);
    assert!(storage.stats().merges > 0);
    assert_eq!(read_all(&storage, small, Offset(0)).unwrap().len() as u64, there);
    goes_on(&storage, small);
}

#[test]
fn others_may_take_the_space_and_give_it_back_again_and_again() {
    let machine = Machine::new(3);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    let mut appended = 0;
    for _ in 0..6 {
        machine.disk.set_capacity(machine.disk.used());
        appended += fill(&storage, stream);
        control(&storage, Control::SetState { key: "k".into(), value: Some("v".into()) });
        assert_eq!(read_all(&storage, stream, Offset(0)).unwrap().len() as u64, appended);
        machine.disk.set_capacity(64 << 20);
        pass(&machine, &storage, 10);
        append(&storage, entry(vec![lines(stream, appended, 1, 9000)])).unwrap();
        appended += 1;
    }
    storage.close().unwrap();
    let storage = machine.open().unwrap();
    assert_eq!(read_all(&storage, stream, Offset(0)).unwrap().len() as u64, appended);
    assert!(storage.health().damage.is_empty());
}

/// Each start takes a new journal file: the second one used to find no space for it.
#[test]
fn a_storage_without_a_byte_to_spare_starts_again_and_again_and_serves_what_it_has() {
    let (mut machine, mut storage, large, small) = full();
    let there = read_all(&storage, large, Offset(0)).unwrap();
    for round in 0..8 {
        if round % 2 == 0 {
            storage.close().unwrap();
        } else {
            std::mem::forget(storage);
            machine.disk = machine.disk.after_crash(CrashPlan::KeepNothing);
        }
        storage = machine.open().unwrap_or_else(|error| panic!("start {round}: {error}"));
        assert_eq!(read_all(&storage, large, Offset(0)).unwrap(), there);
        // There may be a file that was given back meanwhile, but not for ever.
        fill(&storage, small);
    }
    control(&storage, Control::DeleteStream(large));
    pass(&machine, &storage, 120);
    goes_on(&storage, small);
}

/// What is kept back is kept back from data, or nothing could be deleted once it is needed.
#[test]
fn appends_stop_while_there_is_still_room_for_what_makes_room() {
    let (_machine, storage, _large, small) = full();
    for number in 0..30_u64 {
        let value = Some(vec![7; 100].into());
        control(&storage, Control::SetState { key: number.to_le_bytes().to_vec().into(), value });
    }
    let refused = append(&storage, entry(vec![lines(small, 1, 1, 10)])).unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::DiskFull);
    storage.checkpoint();
    assert_eq!(storage.state().len(), 30);
}
