//! Appends: offsets, atomicity, producers, limits.

use meshlog_storage::{Applied, Control, Durability, Entry, ErrorKind, Offset};

use crate::support::{Machine, append, create, entry, lines, read_all, stamp, submit};

#[test]
fn offsets_are_dense_and_nothing_is_readable_before_the_sync() {
    let machine = Machine::new(1);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    let outcomes: Vec<_> =
        (0..5).map(|tag| submit(&storage, entry(vec![lines(stream, tag, 3, 50)]))).collect();
    assert_eq!(storage.bounds(stream).unwrap().durable_end, Offset(0));
    assert!(outcomes.iter().all(|outcome| outcome.lock().is_none()));
    storage.drive();
    for (index, outcome) in outcomes.iter().enumerate() {
        let appended = outcome.lock().take().unwrap().unwrap();
        assert_eq!(appended.ranges[0].first_offset, Offset(index as u64 * 3));
        assert_eq!(appended.durability, Durability::Synced);
    }
    assert_eq!(storage.bounds(stream).unwrap().durable_end, Offset(15));
    assert_eq!(storage.stats().groups, 2, "entries that wait together share one sync");
}

#[test]
fn an_entry_over_several_streams_is_whole_or_absent() {
    let machine = Machine::new(2);
    let storage = machine.open().unwrap();
    let (a, b) = (create(&storage), create(&storage));
    let mut late = lines(b, 1, 1, 20);
    late.expected_offset = Some(Offset(7));
    let error = append(&storage, entry(vec![lines(a, 1, 1, 20), late])).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::OffsetMismatch { stream: b, next_offset: Offset(0) });
    assert_eq!(error.applied(), Applied::No);
    let good = entry(vec![lines(a, 2, 2, 20), lines(b, 2, 1, 20), lines(a, 3, 1, 20)]);
    let appended = append(&storage, good).unwrap();
    let firsts: Vec<_> = appended.ranges.iter().map(|range| range.first_offset.0).collect();
    assert_eq!(firsts, [0, 0, 2], "the refused entry took no offset");
}

#[test]
fn a_retry_answers_with_the_first_offsets_also_after_a_restart() {
    let machine = Machine::new(3);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    let send = |storage: &_, sequence, tag| {
        let batches = vec![lines(stream, tag, 2, 30)];
        append(storage, Entry { batches, producer: Some(stamp(1, sequence)), ..Entry::default() })
    };
    let first = send(&storage, 0, 0).unwrap();
    let second = send(&storage, 1, 1).unwrap();
    let again = send(&storage, 0, 0).unwrap();
    assert!(again.duplicate && !first.duplicate);
    assert_eq!(again.ranges, first.ranges);
    assert_eq!(*send(&storage, 3, 3).unwrap_err().kind(), ErrorKind::SequenceGap { expected: 2 });
    storage.close().unwrap();

    let storage = machine.open().unwrap();
    let again = send(&storage, 1, 1).unwrap();
    assert!(again.duplicate);
    assert_eq!(again.ranges, second.ranges);
    assert!(!send(&storage, 2, 2).unwrap().duplicate);
    assert_eq!(storage.bounds(stream).unwrap().durable_end, Offset(6));
}

#[test]
fn a_retry_of_what_is_under_way_waits_for_its_sync() {
    let machine = Machine::new(4);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    let attempt = || Entry {
        batches: vec![lines(stream, 0, 1, 30)],
        producer: Some(stamp(1, 0)),
        ..Entry::default()
    };
    let first = submit(&storage, attempt());
    let retry = submit(&storage, attempt());
    assert!(retry.lock().is_none());
    storage.drive();
    let (first, retry) =
        (first.lock().take().unwrap().unwrap(), retry.lock().take().unwrap().unwrap());
    assert_eq!(first.ranges, retry.ranges);
    assert!(retry.duplicate && !first.duplicate);
    assert_eq!(storage.bounds(stream).unwrap().durable_end, Offset(1));
}

#[test]
fn producers_are_fenced_and_unknown_ones_start_at_zero() {
    let machine = Machine::new(5);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    let send = |epoch, sequence| {
        let stamp = meshlog_storage::ProducerStamp { epoch, ..stamp(1, sequence) };
        let batches = vec![lines(stream, 0, 1, 30)];
        append(&storage, Entry { batches, producer: Some(stamp), ..Entry::default() })
    };
    let error = send(0, 4).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::ProducerUnknown { epoch: 1 });
    assert_eq!(error.applied(), Applied::No, "nobody was ever forgotten");
    send(0, 0).unwrap();
    send(2, 0).unwrap();
    assert_eq!(*send(0, 1).unwrap_err().kind(), ErrorKind::ProducerFenced { epoch: 2 });
    assert_eq!(*send(3, 1).unwrap_err().kind(), ErrorKind::SequenceGap { expected: 0 });
}

#[test]
fn what_cannot_fit_a_file_is_refused_and_what_can_makes_the_file_fit() {
    let machine = Machine::new(6);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    let error = append(&storage, entry(vec![lines(stream, 0, 1, 300 << 10)])).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::TooLarge);
    append(&storage, entry(vec![lines(stream, 1, 1, 150 << 10)])).unwrap();
    assert_eq!(read_all(&storage, stream, Offset(0)).unwrap()[0].payload.len(), 150 << 10);
}

#[test]
fn state_keeps_the_newest_value_of_a_key() {
    let machine = Machine::new(7);
    let storage = machine.open().unwrap();
    let set = |storage: &_, key: &'static str, value: Option<&'static str>| {
        let controls = vec![Control::SetState { key: key.into(), value: value.map(Into::into) }];
        append(storage, Entry { controls, ..Entry::default() }).unwrap();
    };
    set(&storage, "a", Some("1"));
    set(&storage, "b", Some("2"));
    set(&storage, "a", Some("3"));
    set(&storage, "b", None);
    let expected = vec![("a".into(), "3".into())];
    assert_eq!(storage.state(), expected);
    storage.close().unwrap();
    assert_eq!(machine.open().unwrap().state(), expected);
}

#[test]
fn a_full_disk_refuses_data_lets_control_work_go_on_and_resumes_by_itself() {
    let machine = Machine::new(8);
    machine.disk.set_capacity(600 << 10);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    let mut appended = 0;
    let error = loop {
        match append(&storage, entry(vec![lines(stream, appended, 1, 4000)])) {
            Ok(_) => appended += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(*error.kind(), ErrorKind::DiskFull);
    assert_eq!(error.applied(), Applied::No);
    assert!(storage.health().appends_refused.is_some());
    create(&storage);
    assert_eq!(read_all(&storage, stream, Offset(0)).unwrap().len() as u64, appended);

    machine.disk.set_capacity(64 << 20);
    machine.clock.advance(std::time::Duration::from_secs(2));
    storage.drive();
    let next = append(&storage, entry(vec![lines(stream, appended, 1, 4000)])).unwrap();
    assert_eq!(next.ranges[0].first_offset, Offset(appended));
    assert!(storage.health().appends_refused.is_none());
}

/// Deleting is what a full disk asks for, and it must help: the files are given back only after
/// two checkpoints, which need space themselves.
#[test]
fn deleting_a_stream_makes_room_on_a_disk_that_is_full_to_the_last_byte() {
    let machine = Machine::new(10);
    machine.disk.set_capacity(3 << 19);
    let storage = machine.open().unwrap();
    let (large, small) = (create(&storage), create(&storage));
    append(&storage, entry(vec![lines(small, 0, 1, 100)])).unwrap();
    let mut appended = 0;
    while append(&storage, entry(vec![lines(large, appended, 1, 9000)])).is_ok() {
        appended += 1;
    }
    // Nothing is free but what is reserved.
    machine.disk.set_capacity(machine.disk.used());
    let delete = Entry { controls: vec![Control::DeleteStream(large)], ..Entry::default() };
    append(&storage, delete).unwrap();
    for _ in 0..6 {
        machine.clock.advance(std::time::Duration::from_secs(11));
        storage.drive();
    }
    for tag in 1..20 {
        append(&storage, entry(vec![lines(small, tag, 1, 9000)])).unwrap();
    }
    assert_eq!(read_all(&storage, small, Offset(0)).unwrap().len(), 20);
    assert!(storage.health().appends_refused.is_none());
}

/// The retry found its sequence still under way and waited for a group that nobody would settle.
#[test]
fn a_retry_after_a_failed_sync_is_answered() {
    let machine = Machine::new(11);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    let numbered =
        || Entry { producer: Some(stamp(1, 0)), ..entry(vec![lines(stream, 0, 1, 100)]) };
    machine.disk.fail_at(machine.disk.calls() + 2, std::io::ErrorKind::Other);
    append(&storage, numbered()).unwrap_err();
    let error = append(&storage, numbered()).unwrap_err();
    assert_eq!((error.kind(), error.applied()), (&ErrorKind::JournalFailed, Applied::Unknown));
}

#[test]
fn a_written_acknowledgement_comes_before_the_sync_and_says_so() {
    let machine = Machine::new(11);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    let written = Entry { durability: Durability::Written, ..entry(vec![lines(stream, 0, 1, 50)]) };
    let outcome = submit(&storage, written);
    // The write is the next call, the sync the one after it.
    machine.disk.crash_at(machine.disk.calls() + 2, 0);
    storage.drive();
    let appended = outcome.lock().take().unwrap().unwrap();
    assert_eq!(appended.durability, Durability::Written);
    assert_eq!(storage.bounds(stream).unwrap().durable_end, Offset(0));
}

#[test]
fn after_a_failed_sync_nothing_is_accepted_until_the_next_open() {
    let machine = Machine::new(9);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    append(&storage, entry(vec![lines(stream, 0, 1, 100)])).unwrap();
    let under_way = submit(&storage, entry(vec![lines(stream, 1, 1, 100)]));
    // The next calls are the write and the sync of that group.
    machine.disk.fail_at(machine.disk.calls() + 2, std::io::ErrorKind::Other);
    storage.drive();
    let error = under_way.lock().take().unwrap().unwrap_err();
    assert_eq!((error.kind(), error.applied()), (&ErrorKind::JournalFailed, Applied::Unknown));
    let error = append(&storage, entry(vec![lines(stream, 2, 1, 100)])).unwrap_err();
    assert_eq!((error.kind(), error.applied()), (&ErrorKind::JournalFailed, Applied::No));
    assert_eq!(read_all(&storage, stream, Offset(0)).unwrap().len(), 1, "reads go on");
    drop(storage);

    let storage = machine.open().unwrap();
    let readable = storage.bounds(stream).unwrap().durable_end;
    assert!(readable >= Offset(1));
    append(&storage, entry(vec![lines(stream, 3, 1, 100)])).unwrap();
    let batches = read_all(&storage, stream, Offset(0)).unwrap();
    assert_eq!(batches.last().unwrap().base_offset, readable);
}
