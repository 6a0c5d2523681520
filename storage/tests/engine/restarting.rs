//! Restarts: clean, by crash, with damage, in the wrong place.

use std::path::Path;
use std::time::Duration;

use meshlog_storage::disk::{CrashPlan, Disk, OpenMode};
use meshlog_storage::{Control, Entry, ErrorKind, Offset, ReadRequest, Storage};

use crate::support::{Machine, append, create, entry, lines, read, read_all};

#[test]
fn a_clean_restart_drops_nothing_and_a_deleted_stream_stays_deleted() {
    let machine = Machine::new(1);
    let storage = machine.open().unwrap();
    let (kept, deleted) = (create(&storage), create(&storage));
    append(&storage, entry(vec![lines(kept, 0, 5, 100), lines(deleted, 0, 5, 100)])).unwrap();
    let controls = vec![Control::DeleteStream(deleted)];
    append(&storage, Entry { controls, ..Entry::default() }).unwrap();
    storage.close().unwrap();

    let storage = machine.open().unwrap();
    assert_eq!(storage.streams(), [kept]);
    assert_eq!(read_all(&storage, kept, Offset(0)).unwrap()[0].count, 5);
    assert!(create(&storage) > deleted, "a stream id is never used again");
    assert!(storage.health().damage.is_empty());
}

#[test]
fn only_one_process_opens_a_directory() {
    let machine = Machine::new(2);
    let storage = machine.open().unwrap();
    assert_eq!(*machine.open().unwrap_err().kind(), ErrorKind::Locked);
    storage.close().unwrap();
    machine.open().unwrap();
}

#[test]
fn a_foreign_directory_and_another_version_are_refused_with_words() {
    let machine = Machine::new(3);
    let disk = &machine.disk;
    disk.open(Path::new("data/photo.jpg"), meshlog_storage::disk::OpenMode::CreateNew).unwrap();
    let error = machine.open().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Format);
    assert!(error.to_string().contains("photo.jpg"), "{error}");
    disk.remove(Path::new("data/photo.jpg")).unwrap();
    machine.open().unwrap().close().unwrap();
    disk.rot(Path::new("data/meshlog.format"), |bytes| {
        *bytes = b"meshlog data directory\nversion 7\nfeatures 00000000 00000000 00000000\n".into();
    });
    let error = machine.open().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Format);
    assert!(error.to_string().contains("version 7"), "{error}");
}

#[test]
fn files_whose_streams_are_all_deleted_are_used_again() {
    let machine = Machine::new(4);
    let storage = machine.open().unwrap();
    let mut streams = 0;
    let mut most = 0;
    for round in 0..60 {
        let stream = create(&storage);
        streams += 1;
        for tag in 0..40 {
            append(&storage, entry(vec![lines(stream, tag, 1, 4000)])).unwrap();
        }
        let controls = vec![
            Control::DeleteStream(stream),
            Control::SetState { key: "round".into(), value: Some(format!("{round}").into()) },
        ];
        append(&storage, Entry { controls, ..Entry::default() }).unwrap();
        for _ in 0..3 {
            machine.clock.advance(Duration::from_secs(11));
            storage.drive();
        }
        let slots = machine.disk.list(Path::new("data")).unwrap();
        most = most.max(slots.iter().filter(|name| name.starts_with("journal-")).count());
    }
    assert_eq!(streams, 60);
    assert!(most <= 8, "{most} journal files for data that is long deleted");
    storage.close().unwrap();
    let storage = machine.open().unwrap();
    assert_eq!(storage.state(), [("round".into(), "59".into())]);
    assert!(storage.health().damage.is_empty(), "{:?}", storage.health().damage);
    storage.close().unwrap();

    // The older checkpoint must not name a file that was used again.
    let mut names = machine.disk.list(Path::new("data")).unwrap();
    names.retain(|name| name.starts_with("checkpoint"));
    let newest = names.iter().max().unwrap();
    machine.disk.rot(&Path::new("data").join(newest), |bytes| bytes[30] ^= 4);
    let storage = machine.open().unwrap();
    let damage = storage.health().damage;
    assert_eq!(damage.len(), 1, "{damage:?}");
    assert_eq!(storage.state(), [("round".into(), "59".into())]);
}

/// Every checkpoint is gone: a journal that reaches back to its beginning still says everything.
#[test]
fn the_journal_alone_gives_the_same_state_as_its_checkpoints() {
    let machine = Machine::new(5);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    for tag in 0..100 {
        append(&storage, entry(vec![lines(stream, tag, 1, 2000)])).unwrap();
        machine.clock.advance(Duration::from_secs(1));
    }
    let before = read_all(&storage, stream, Offset(0)).unwrap();
    storage.close().unwrap();
    let names = machine.disk.list(Path::new("data")).unwrap();
    let checkpoints: Vec<_> = names.iter().filter(|name| name.starts_with("checkpoint")).collect();
    assert_eq!(checkpoints.len(), 2);
    for name in checkpoints {
        machine.disk.remove(&Path::new("data").join(name)).unwrap();
    }
    let storage = machine.open().unwrap();
    assert_eq!(read_all(&storage, stream, Offset(0)).unwrap(), before);
    assert!(storage.health().damage.is_empty());
}

#[test]
fn one_damaged_checkpoint_falls_back_to_the_other_and_says_so() {
    let machine = Machine::new(6);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    for tag in 0..50 {
        append(&storage, entry(vec![lines(stream, tag, 1, 2000)])).unwrap();
        machine.clock.advance(Duration::from_secs(2));
    }
    storage.close().unwrap();
    let mut names = machine.disk.list(Path::new("data")).unwrap();
    names.retain(|name| name.starts_with("checkpoint"));
    names.sort();
    let newest = Path::new("data").join(&names[1]);
    machine.disk.rot(&newest, |bytes| bytes[30] ^= 4);
    let storage = machine.open().unwrap();
    assert_eq!(read_all(&storage, stream, Offset(0)).unwrap().len(), 50);
    assert!(storage.health().damage[0].contains("checkpoint"));
}

fn open_after_crash(machine: &mut Machine, plan: CrashPlan) -> Storage {
    machine.disk = machine.disk.after_crash(plan);
    machine.open().unwrap()
}

/// A broker that was idle for 100 ms has a marker behind its last group: rot there is damage,
/// not the torn end of the journal.
#[test]
fn rot_in_the_newest_group_of_an_idle_journal_is_damage() {
    let mut machine = Machine::new(7);
    let storage = machine.open().unwrap();
    let (stream, other) = (create(&storage), create(&storage));
    append(&storage, entry(vec![lines(stream, 0, 1, 100)])).unwrap();
    append(&storage, entry(vec![lines(stream, 1, 3, 100)])).unwrap();
    storage.drive_idle();
    append(&storage, entry(vec![lines(other, 2, 1, 100)])).unwrap();
    std::mem::forget(storage);
    let needle = format!("{stream} 1 0 ");
    machine.disk.rot(Path::new("data/journal-000001"), |bytes| {
        let at = bytes.windows(needle.len()).position(|part| part == needle.as_bytes()).unwrap();
        // The group's own header, at the start of its block.
        bytes[at / 4096 * 4096 + 8] ^= 1;
    });
    let storage = open_after_crash(&mut machine, CrashPlan::KeepAll);
    assert_eq!(storage.health().damage.len(), 1, "{:?}", storage.health().damage);
    // The marker says how far the stream went: what is lost is not appended again.
    assert_eq!(storage.bounds(stream).unwrap().durable_end, Offset(4));
    let request = ReadRequest { stream, from: Offset(1), max_bytes: 1, hint: None };
    assert_eq!(
        *read(&storage, request).unwrap_err().kind(),
        ErrorKind::Corrupt { next_readable: Offset(4) }
    );
    assert_eq!(read_all(&storage, other, Offset(0)).unwrap().len(), 1);
}

/// Damage in the middle: the lost offsets are known from what follows, and answered as damage.
#[test]
fn a_damaged_group_in_the_middle_is_quarantined_exactly() {
    let mut machine = Machine::new(8);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    for tag in 0..6 {
        append(&storage, entry(vec![lines(stream, tag, 2, 100)])).unwrap();
    }
    std::mem::forget(storage);
    let needle = format!("{stream} 2 0 ");
    machine.disk.rot(Path::new("data/journal-000001"), |bytes| {
        let at = bytes.windows(needle.len()).position(|part| part == needle.as_bytes()).unwrap();
        bytes[at / 4096 * 4096] ^= 1;
    });
    let storage = open_after_crash(&mut machine, CrashPlan::KeepAll);
    assert_eq!(storage.bounds(stream).unwrap().durable_end, Offset(12));
    let error = read_all(&storage, stream, Offset(4)).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Corrupt { next_readable: Offset(6) });
    assert_eq!(read_all(&storage, stream, Offset(6)).unwrap().len(), 3);
    // And so it stays.
    storage.close().unwrap();
    let storage = machine.open().unwrap();
    let error = read_all(&storage, stream, Offset(5)).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Corrupt { next_readable: Offset(6) });
    assert_eq!(storage.health().damage.len(), 1);
}

/// Damages the groups that hold the first record of these streams.
fn damage_groups_of(machine: &Machine, streams: &[meshlog_storage::StreamId], tag: u64) {
    for stream in streams {
        let needle = format!("{stream} {tag} 0 ");
        machine.disk.rot(Path::new("data/journal-000001"), |bytes| {
            let at =
                bytes.windows(needle.len()).position(|part| part == needle.as_bytes()).unwrap();
            bytes[at / 4096 * 4096 + 8] ^= 1;
        });
    }
}

/// A damaged part of a file holds many small groups. Only the last of them was repeated in the
/// group behind it, and in a file without a seal the offsets of the others were given again.
#[cfg_attr(not(sabotage), test)]
pub(crate) fn offsets_of_several_damaged_groups_in_a_row_are_not_given_again() {
    let mut machine = Machine::new(9);
    (machine.options.file_bytes_min, machine.options.file_bytes_max) = (1 << 20, 1 << 20);
    let storage = machine.open().unwrap();
    let streams: Vec<_> = (0..20).map(|_| create(&storage)).collect();
    for tag in 0..2 {
        for stream in &streams {
            append(&storage, entry(vec![lines(*stream, tag, 3, 50)])).unwrap();
        }
    }
    let after = create(&storage);
    append(&storage, entry(vec![lines(after, 0, 1, 50)])).unwrap();
    std::mem::forget(storage);
    damage_groups_of(&machine, &streams, 1);
    let storage = open_after_crash(&mut machine, CrashPlan::KeepAll);
    for stream in &streams {
        let request = ReadRequest { stream: *stream, from: Offset(3), max_bytes: 1, hint: None };
        let error = read(&storage, request).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Corrupt { next_readable: Offset(6) }, "{stream}");
        let next = append(&storage, entry(vec![lines(*stream, 2, 1, 50)])).unwrap();
        assert_eq!(next.ranges[0].first_offset, Offset(6), "{stream}");
    }
    assert_eq!(storage.bounds(after).unwrap().durable_end, Offset(1));
}

/// More groups in a row than any group remembers: nobody can tell whose records they held, so
/// more offsets are given up than there were, and none is given again.
#[cfg_attr(not(sabotage), test)]
pub(crate) fn of_very_many_damaged_groups_in_a_row_no_offset_is_given_again_either() {
    let mut machine = Machine::new(10);
    (machine.options.file_bytes_min, machine.options.file_bytes_max) = (2 << 20, 2 << 20);
    let storage = machine.open().unwrap();
    let streams: Vec<_> = (0..200).map(|_| create(&storage)).collect();
    let (idle, after) = (create(&storage), create(&storage));
    for stream in &streams {
        append(&storage, entry(vec![lines(*stream, 1, 3, 50)])).unwrap();
    }
    append(&storage, entry(vec![lines(after, 0, 2, 50)])).unwrap();
    append(&storage, entry(vec![lines(streams[5], 2, 2, 50)])).unwrap();
    std::mem::forget(storage);
    damage_groups_of(&machine, &streams, 1);
    let storage = open_after_crash(&mut machine, CrashPlan::KeepAll);
    let damage = storage.health().damage.join("; ");
    assert!(damage.contains("given up"), "{damage}");
    for (index, stream) in streams.iter().enumerate() {
        let end = storage.bounds(*stream).unwrap().durable_end;
        // The newest are named; of the one that went on its own later group tells.
        let is_exact = index >= 100 || index == 5;
        assert!(end >= Offset(3) && (!is_exact || end <= Offset(5)), "{stream} ends at {end}");
        let next = append(&storage, entry(vec![lines(*stream, 3, 1, 50)])).unwrap();
        assert_eq!(next.ranges[0].first_offset, end);
    }
    assert_eq!(read_all(&storage, after, Offset(0)).unwrap().len(), 1);
    assert!(storage.bounds(idle).unwrap().durable_end > Offset(0), "nobody knows better");
    let before: Vec<_> = streams.iter().map(|s| storage.bounds(*s).unwrap()).collect();
    storage.close().unwrap();
    let storage = machine.open().unwrap();
    let again: Vec<_> = streams.iter().map(|s| storage.bounds(*s).unwrap()).collect();
    assert_eq!(again, before, "the next start says the same");
}

/// Fuzzing put a file of the highest name beside the checkpoints: the next one got a digit more,
/// was not recognised by the start after it, and had replaced one that was.
#[test]
fn a_stranger_named_like_the_last_checkpoint_there_can_be_does_no_harm() {
    let machine = Machine::new(14);
    let storage = machine.open().unwrap();
    let (stream, gone) = (create(&storage), create(&storage));
    for tag in 0..12 {
        append(&storage, entry(vec![lines(gone, tag, 1, 20_000)])).unwrap();
    }
    append(&storage, entry(vec![lines(stream, 0, 1, 100)])).unwrap();
    let controls = vec![Control::DeleteStream(gone)];
    append(&storage, Entry { controls, ..Entry::default() }).unwrap();
    for _ in 0..4 {
        machine.clock.advance(Duration::from_secs(11));
        append(&storage, Entry { controls: vec![set_state()], ..Entry::default() }).unwrap();
        storage.drive();
    }
    storage.close().unwrap();
    drop(storage);
    let stranger = std::path::Path::new("data/checkpoint-9999999999999999");
    machine.disk.open(stranger, OpenMode::CreateNew).unwrap();
    for _ in 0..4 {
        let storage = machine.open().unwrap();
        assert_eq!(read_all(&storage, stream, Offset(0)).unwrap().len(), 1);
        machine.clock.advance(Duration::from_secs(11));
        append(&storage, Entry { controls: vec![set_state()], ..Entry::default() }).unwrap();
        storage.close().unwrap();
    }
}

fn set_state() -> Control {
    Control::SetState { key: "k".into(), value: Some("v".into()) }
}
