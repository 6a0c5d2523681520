//! Producers: a retry is stored once, whatever was forgotten, merged or lost meanwhile.

use std::time::Duration;

use meshlog_storage::disk::CrashPlan;
use meshlog_storage::{
    Appended, Applied, Control, Entry, ErrorKind, Offset, Policy, ProducerStamp, Result, Storage,
    StreamId,
};

use crate::support::{Machine, append, create, lines, read_all, stamp};

/// An append of one record under this stamp; a repeated one is the same to the letter.
fn send(storage: &Storage, stream: StreamId, stamp: ProducerStamp) -> Result<Appended> {
    let tag = u64::from(stamp.id[0]) * 1_000_000 + stamp.sequence;
    let batches = vec![lines(stream, tag, 1, 900)];
    append(storage, Entry { batches, producer: Some(stamp), ..Entry::default() })
}

fn numbered(id: u8, epoch: u32, sequence: u64) -> ProducerStamp {
    ProducerStamp { epoch, ..stamp(id, sequence) }
}

fn end(storage: &Storage, stream: StreamId) -> u64 {
    storage.bounds(stream).unwrap().durable_end.0
}

#[test]
fn a_producer_that_was_forgotten_is_never_taken_for_a_new_one() {
    let mut machine = Machine::new(1);
    machine.options.producers_max = 4;
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    send(&storage, stream, numbered(1, 2, 0)).unwrap();
    for id in 10..15 {
        send(&storage, stream, stamp(id, 0)).unwrap();
    }
    // While the process lives it is only the outcome that is not known any more.
    let retried = send(&storage, stream, numbered(1, 2, 0)).unwrap_err();
    assert_eq!((retried.kind(), retried.applied()), (&ErrorKind::SequenceTooOld, Applied::Unknown));
    storage.close().unwrap();

    let mut storage = machine.open().unwrap();
    for round in 0..3 {
        for (epoch, sequence) in [(2, 0), (0, 0), (2, 1), (1, 7)] {
            let error = send(&storage, stream, numbered(1, epoch, sequence)).unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::ProducerUnknown { epoch: 3 }, "round {round}");
            assert_eq!(error.applied(), Applied::Unknown, "the first attempt is in the log");
        }
        assert_eq!(end(&storage, stream), 6);
        if round == 0 {
            storage.close().unwrap();
        } else {
            machine.disk = machine.disk.after_crash(CrashPlan::KeepNothing);
            std::mem::forget(storage);
        }
        storage = machine.open().unwrap();
    }
    let error = send(&storage, stream, numbered(1, 3, 1)).unwrap_err();
    assert_eq!(error.applied(), Applied::No, "nothing was ever sent in that epoch");
    send(&storage, stream, numbered(1, 3, 0)).unwrap();
    let error = send(&storage, stream, numbered(1, 2, 1)).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::ProducerFenced { epoch: 3 });
    assert!(!send(&storage, stream, stamp(77, 0)).unwrap().duplicate, "a new one is welcome");
}

#[test]
fn the_last_thousand_sequences_are_remembered_and_older_ones_are_not_appended_again() {
    let mut machine = Machine::new(2);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    let mut firsts = Vec::new();
    for sequence in 0..1_100 {
        firsts.push(send(&storage, stream, stamp(1, sequence)).unwrap().ranges);
    }
    let check = |storage: &Storage| {
        for sequence in [76, 77, 600, 1_098, 1_099] {
            let again = send(storage, stream, stamp(1, sequence)).unwrap();
            assert!(again.duplicate);
            assert_eq!(again.ranges, firsts[sequence as usize]);
        }
        for sequence in [0, 75] {
            let error = send(storage, stream, stamp(1, sequence)).unwrap_err();
            assert_eq!(
                (error.kind(), error.applied()),
                (&ErrorKind::SequenceTooOld, Applied::Unknown)
            );
        }
        assert_eq!(end(storage, stream), 1_100);
    };
    check(&storage);
    std::mem::forget(storage);
    machine.disk = machine.disk.after_crash(CrashPlan::KeepNothing);
    let storage = machine.open().unwrap();
    check(&storage);
    storage.close().unwrap();
    check(&machine.open().unwrap());
}

/// The records are gone, the files that held them hold others: the outcome is still known.
#[test]
fn a_retry_is_known_after_retention_and_merging_removed_what_it_appended() {
    let machine = Machine::new(3);
    let storage = machine.open().unwrap();
    let (limited, merged) = (create(&storage), create(&storage));
    let policy = Policy { max_age: Some(Duration::from_secs(60)), ..Policy::default() };
    let controls = vec![Control::SetPolicy(limited, policy)];
    append(&storage, Entry { controls, ..Entry::default() }).unwrap();
    let first = send(&storage, limited, stamp(1, 0)).unwrap();
    let second = send(&storage, merged, stamp(2, 0)).unwrap();
    for tag in 0..600 {
        let batches = vec![lines(limited, tag, 1, 4000), lines(merged, tag, 1, 50)];
        append(&storage, Entry { batches, ..Entry::default() }).unwrap();
        machine.clock.advance(Duration::from_secs(2));
        storage.drive();
    }
    assert!(storage.bounds(limited).unwrap().start > Offset(1));
    assert!(storage.stats().merges > 0);
    let check = |storage: &Storage| {
        let ends = [end(storage, limited), end(storage, merged)];
        for (stream, stamp, appended) in
            [(limited, stamp(1, 0), &first), (merged, stamp(2, 0), &second)]
        {
            let again = send(storage, stream, stamp).unwrap();
            assert!(again.duplicate);
            assert_eq!(again.ranges, appended.ranges);
        }
        assert_eq!([end(storage, limited), end(storage, merged)], ends);
    };
    check(&storage);
    storage.close().unwrap();
    let storage = machine.open().unwrap();
    check(&storage);
    assert_eq!(read_all(&storage, merged, Offset(0)).unwrap().len(), 601);
}

/// Memory keeps few outcomes of producers that are idle: the others of the window are in the log.
#[test]
fn an_outcome_that_memory_gave_up_is_told_from_the_log() {
    let mut machine = Machine::new(4);
    machine.options.producers_max = 8;
    let storage = machine.open().unwrap();
    let (a, b) = (create(&storage), create(&storage));
    let request = |id: u8, sequence: u64| {
        let tag = u64::from(id) * 1_000_000 + sequence;
        let mut batches = vec![lines(a, tag, 2, 60), lines(b, tag, 1, 60)];
        if sequence.is_multiple_of(3) {
            batches.push(lines(a, tag, 1, 60));
        }
        Entry { batches, producer: Some(stamp(id, sequence)), ..Entry::default() }
    };
    let mut firsts = Vec::new();
    for sequence in 0..900 {
        firsts.push(append(&storage, request(1, sequence)).unwrap().ranges);
    }
    for id in 2..5 {
        for sequence in 0..900 {
            append(&storage, request(id, sequence)).unwrap();
        }
    }
    let ends = [end(&storage, a), end(&storage, b)];
    let check = |storage: &Storage| {
        for sequence in [0, 1, 300, 301, 897, 899] {
            let again = append(storage, request(1, sequence)).unwrap();
            assert!(again.duplicate);
            assert_eq!(again.ranges, firsts[sequence as usize], "sequence {sequence}");
        }
        assert_eq!([end(storage, a), end(storage, b)], ends, "stored once");
    };
    check(&storage);
    // A request for another stream is not the one that was appended under that sequence.
    let c = create(&storage);
    let other = Entry { batches: vec![lines(a, 0, 2, 60), lines(c, 0, 1, 60)], ..request(1, 10) };
    let error = append(&storage, other).unwrap_err();
    assert_eq!((error.kind(), error.applied()), (&ErrorKind::SequenceTooOld, Applied::Unknown));
    storage.close().unwrap();
    let storage = machine.open().unwrap();
    check(&storage);
    // Merged: the batches lie elsewhere, with the stamps they came with.
    append(
        &storage,
        Entry { controls: vec![Control::TrimStream(b, Offset(200))], ..Entry::default() },
    )
    .unwrap();
    for _ in 0..40 {
        machine.clock.advance(Duration::from_secs(10));
        storage.drive();
    }
    let again = append(&storage, request(1, 301)).unwrap();
    assert_eq!(again.ranges, firsts[301]);
    let error = append(&storage, request(1, 100)).unwrap_err();
    assert_eq!((error.kind(), error.applied()), (&ErrorKind::SequenceTooOld, Applied::Unknown));
    assert_eq!([end(&storage, a), end(&storage, b)], ends);
}
