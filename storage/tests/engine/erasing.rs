//! Erasing: nothing of what was deleted or trimmed is left in any file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meshlog_storage::disk::{CrashPlan, Disk as _, OsDisk, WriteMode};
use meshlog_storage::{
    Components, Control, Entry, Erased, ErrorKind, NoObserver, Options, Policy, Storage, StreamId,
};
use parking_lot::Mutex;

use crate::merging::{all, trim};
use crate::retaining::{pass, set_policy};
use crate::support::{Lines, Machine, append, create, entry, lines};
use crate::verifying::assert_undamaged;

pub(crate) type Told = Arc<Mutex<Option<meshlog_storage::Result<Erased>>>>;

pub(crate) fn ask(storage: &Storage, streams: Vec<StreamId>) -> Told {
    let told = Told::default();
    let slot = Arc::clone(&told);
    storage.erase(streams, move |outcome| *slot.lock() = Some(outcome));
    told
}

fn erase(
    machine: &Machine,
    storage: &Storage,
    streams: Vec<StreamId>,
) -> meshlog_storage::Result<Erased> {
    let told = ask(storage, streams);
    for _ in 0..2000 {
        machine.clock.advance(Duration::from_secs(1));
        storage.drive();
        if let Some(outcome) = told.lock().take() {
            return outcome;
        }
    }
    panic!("erasing comes to no end");
}

/// The files that hold a text.
fn holding(machine: &Machine, text: &str) -> Vec<String> {
    let mut names = machine.disk.list(Path::new("data")).unwrap();
    names.sort();
    names.retain(|name| {
        let mut is_there = false;
        machine.disk.rot(&Path::new("data").join(name), |bytes| {
            is_there = bytes.windows(text.len()).any(|part| part == text.as_bytes());
        });
        is_there
    });
    names
}

/// How a line begins. No stream in these tests has a number of two digits.
fn text(stream: StreamId, tag: u64, index: u32) -> String {
    format!("{stream} {tag} {index} xxxx")
}

/// Four streams that share all files; slots were used before, and are half used now.
fn written(seed: u64) -> (Machine, Storage, [StreamId; 4]) {
    let machine = Machine::new(seed);
    let storage = machine.open().unwrap();
    let streams = [(); 4].map(|()| create(&storage));
    for round in 0..3 {
        let gone = create(&storage);
        for tag in 0..20 {
            let tag = round * 20 + tag;
            let mut batches: Vec<_> = streams.map(|stream| lines(stream, tag, 3, 300)).to_vec();
            batches.push(lines(gone, tag, 1, 9000));
            append(&storage, entry(batches)).unwrap();
        }
        let controls = vec![Control::DeleteStream(gone)];
        append(&storage, Entry { controls, ..Entry::default() }).unwrap();
        pass(&machine, &storage, 100);
    }
    (machine, storage, streams)
}

#[cfg_attr(not(sabotage), test)]
pub(crate) fn nothing_of_what_is_gone_is_in_any_file_and_everything_else_is() {
    let (machine, storage, [kept, trimmed, deleted, other]) = written(1);
    // In the middle of a batch: its first record goes, two stay.
    trim(&storage, trimmed, 31);
    let controls = vec![Control::DeleteStream(deleted)];
    append(&storage, Entry { controls, ..Entry::default() }).unwrap();
    let before = [kept, other].map(|stream| all(&storage, stream));
    assert!(!holding(&machine, &text(deleted, 12, 1)).is_empty());
    assert!(!holding(&machine, &text(trimmed, 10, 0)).is_empty());

    let erased = erase(&machine, &storage, vec![trimmed, deleted]).unwrap();
    assert!(erased.rewritten_bytes > 0 && erased.zeroed_bytes > 0, "{erased:?}");
    assert_eq!((erased.unsplit_batches, &erased.set_aside[..]), (0, &[][..]));
    // Not even a crash brings it back.
    let crashed = |plan| Machine { disk: machine.disk.after_crash(plan), ..Machine::new(1) };
    let images = [CrashPlan::KeepAll, CrashPlan::KeepNothing].map(crashed);
    for (tag, index) in (0..60).flat_map(|tag| (0..3).map(move |index| (tag, index))) {
        for machine in &images {
            assert_eq!(holding(machine, &text(deleted, tag, index)), [""; 0], "{tag} {index}");
            let is_gone = tag * 3 + u64::from(index) < 31;
            let found = holding(machine, &text(trimmed, tag, index));
            assert_eq!(found.is_empty(), is_gone, "{tag} {index}: {found:?}");
        }
    }
    assert_eq!([kept, other].map(|stream| all(&storage, stream)), before);
    let rest = all(&storage, trimmed);
    assert_eq!((rest[0].base_offset.0, rest[0].count), (31, 2));
    assert_eq!(rest.iter().map(|batch| batch.count).sum::<u32>(), 180 - 31);

    storage.close().unwrap();
    assert_undamaged(&machine);
    let storage = machine.open().unwrap();
    assert_eq!([kept, other].map(|stream| all(&storage, stream)), before);
    assert_eq!(all(&storage, trimmed), rest);
    assert_eq!(holding(&machine, &text(deleted, 59, 2)), [""; 0]);
}

/// The bytes that went from a batch made all that follow it in its file older.
#[test]
fn what_goes_from_a_batch_takes_no_bytes_from_those_that_follow() {
    let (machine, storage, [_, trimmed, ..]) = written(6);
    // 900 bytes a batch: of the first one that stays a third does.
    trim(&storage, trimmed, 32);
    assert!(erase(&machine, &storage, vec![trimmed]).unwrap().rewritten_bytes > 0);
    let rest = all(&storage, trimmed);
    assert_eq!((rest[0].base_offset.0, rest[0].count, rest.len()), (32, 1, 50));
    // The newest bytes reach a little into the one after it.
    let policy = Policy { max_bytes: Some(48 * 900 + 100), ..Policy::default() };
    set_policy(&storage, trimmed, policy);
    pass(&machine, &storage, 20);
    assert_eq!(storage.bounds(trimmed).unwrap().start.0, 33);
}

/// Files that merges wrote are removed, not used again. Most often a checkpoint syncs the directory
/// after that, but nothing promises one: whoever is told that all is gone must not depend on it.
#[cfg_attr(not(sabotage), test)]
pub(crate) fn nobody_is_told_before_the_names_of_removed_files_are_synced() {
    let (machine, storage, [_, trimmed, ..]) = written(3);
    trim(&storage, trimmed, 31);
    machine.disk.keep_trace();
    let last = Arc::new(Mutex::new(None));
    let (disk, slot) = (machine.disk.clone(), Arc::clone(&last));
    storage.erase(vec![trimmed], move |outcome| {
        outcome.unwrap();
        *slot.lock() = disk.trace().lines().last().map(str::to_owned);
    });
    for _ in 0..2000 {
        machine.clock.advance(Duration::from_secs(1));
        storage.drive();
        if let Some(last) = last.lock().take() {
            return assert!(last.contains("sync directory"), "{last}");
        }
    }
    panic!("erasing comes to no end");
}

/// What a slot held in an earlier life lies behind the groups of the file that lives in it now.
#[cfg_attr(not(sabotage), test)]
pub(crate) fn remains_of_earlier_lives_go_with_the_rest() {
    let machine = Machine::new(2);
    let storage = machine.open().unwrap();
    let (kept, deleted) = (create(&storage), create(&storage));
    for tag in 0..400 {
        append(&storage, entry(vec![lines(deleted, tag, 1, 4000)])).unwrap();
    }
    let controls = vec![Control::DeleteStream(deleted)];
    append(&storage, Entry { controls, ..Entry::default() }).unwrap();
    pass(&machine, &storage, 60);
    for tag in 0..80 {
        append(&storage, entry(vec![lines(kept, tag, 1, 2000)])).unwrap();
    }
    // A restart finishes the file that was being written, half full.
    storage.close().unwrap();
    let storage = machine.open().unwrap();
    let finished = holding(&machine, &text(kept, 79, 0)).remove(0);
    machine.disk.rot(&Path::new("data").join(&finished), |bytes| {
        let text = text(deleted, 7, 0);
        let at = bytes.len() - text.len();
        bytes[at..].copy_from_slice(text.as_bytes());
    });
    let remains = |machine: &Machine| -> Vec<String> {
        (0..400).step_by(7).flat_map(|tag| holding(machine, &text(deleted, tag, 0))).collect()
    };
    erase(&machine, &storage, vec![deleted]).unwrap();
    // Not even a crash brings it back. Looking at a file comes last: it makes the file durable.
    let disk = machine.disk.after_crash(CrashPlan::KeepNothing);
    assert_eq!(remains(&Machine { disk, ..Machine::new(2) }), [""; 0]);
    assert_eq!(remains(&machine), [""; 0]);
    assert_eq!(all(&storage, kept).len(), 80);
    let again = erase(&machine, &storage, vec![deleted]).unwrap();
    assert_eq!(again.rewritten_bytes, 0, "nothing is left to be rewritten");
}

/// A checkpoint names only streams that exist. After a restart the file that was being written
/// seemed to hold nothing of a stream deleted before it, and was left as it was.
#[test]
fn what_was_deleted_before_a_checkpoint_goes_also_after_a_restart() {
    for crashes in [false, true] {
        let mut machine = Machine::new(5);
        let storage = machine.open().unwrap();
        let (kept, deleted) = (create(&storage), create(&storage));
        append(&storage, entry(vec![lines(deleted, 7, 1, 4000), lines(kept, 7, 1, 100)])).unwrap();
        let controls = vec![Control::DeleteStream(deleted)];
        append(&storage, Entry { controls, ..Entry::default() }).unwrap();
        storage.checkpoint();
        append(&storage, entry(vec![lines(kept, 8, 1, 100)])).unwrap();
        if crashes {
            std::mem::forget(storage);
            machine.disk = machine.disk.after_crash(CrashPlan::KeepAll);
        } else {
            storage.close().unwrap();
        }
        let storage = machine.open().unwrap();
        erase(&machine, &storage, vec![deleted]).unwrap();
        assert_eq!(holding(&machine, &text(deleted, 7, 0)), [""; 0], "crashes: {crashes}");
        assert_eq!(all(&storage, kept).len(), 2);
    }
}

#[test]
fn a_damaged_file_is_not_rewritten_and_erasing_says_so() {
    let (machine, storage, [kept, deleted, ..]) = written(3);
    let controls = vec![Control::DeleteStream(deleted)];
    append(&storage, Entry { controls, ..Entry::default() }).unwrap();
    let names = holding(&machine, &text(kept, 30, 1));
    for name in &names {
        machine.disk.rot(&Path::new("data").join(name), |bytes| {
            let needle = text(kept, 30, 1);
            let at = bytes.windows(needle.len()).position(|part| part == needle.as_bytes());
            bytes[at.unwrap() + 12] ^= 1;
        });
    }
    let error = erase(&machine, &storage, vec![deleted]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("is damaged, so what is to be erased"), "{error}");
    let there = machine.disk.list(Path::new("data")).unwrap();
    assert!(names.iter().any(|name| there.contains(name)), "it stays");
}

#[test]
fn who_waits_for_erasing_is_told_when_the_storage_closes() {
    let (_machine, storage, [stream, ..]) = written(4);
    let told = [ask(&storage, vec![stream]), ask(&storage, vec![stream])];
    storage.drive();
    storage.close().unwrap();
    for told in told {
        assert_eq!(*told.lock().take().unwrap().unwrap_err().kind(), ErrorKind::Closed);
    }
}

/// Power is lost while erasing is under way: nothing else is lost, and asked again it is done.
#[test]
fn a_crash_while_erasing_loses_nothing_and_it_can_be_asked_for_again() {
    let run = |machine: &Machine, storage: &Storage, streams: [StreamId; 4]| {
        let controls = vec![Control::DeleteStream(streams[2])];
        let outcome = append(storage, Entry { controls, ..Entry::default() });
        if outcome.is_ok() {
            drop(erase(machine, storage, vec![streams[2]]));
        }
    };
    let (whole, storage, streams) = written(5);
    let begun = whole.disk.calls();
    run(&whole, &storage, streams);
    drop(storage);
    let calls = whole.disk.calls();
    assert!(calls > begun + 20);
    for call in (begun + 1..=calls).step_by(3) {
        let (machine, storage, streams) = written(5);
        let [kept, _, deleted, other] = streams;
        let before = [kept, other].map(|stream| all(&storage, stream));
        machine.disk.crash_at(call, call);
        run(&machine, &storage, streams);
        std::mem::forget(storage);
        for plan in [CrashPlan::KeepNothing, CrashPlan::KeepAll, CrashPlan::Random(call)] {
            let after = Machine { disk: machine.disk.after_crash(plan), ..Machine::new(call) };
            assert_undamaged(&after);
            let storage = after.open().unwrap();
            assert!(storage.health().damage.is_empty(), "call {call}, {plan:?}");
            assert_eq!([kept, other].map(|stream| all(&storage, stream)), before, "call {call}");
            if storage.streams().contains(&deleted) {
                continue;
            }
            erase(&after, &storage, vec![deleted]).unwrap();
            for tag in [0, 25, 59] {
                assert_eq!(holding(&after, &text(deleted, tag, 1)), [""; 0], "call {call}");
            }
        }
    }
}

#[test]
fn a_real_directory_is_erased_while_it_is_appended_to() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        directory: directory.path().to_owned(),
        file_bytes_min: 256 << 10,
        file_bytes_max: 1 << 20,
        ..Options::default()
    };
    let parts = Components {
        disk: Arc::new(OsDisk { write_mode: WriteMode::Buffered }),
        ..Components::on_disk(Arc::new(Lines), Arc::new(NoObserver))
    };
    let storage = Storage::open(options, parts).unwrap();
    let [kept, deleted] = [(); 2].map(|()| {
        let stream = storage.allocate_stream();
        let controls = vec![Control::CreateStream(stream)];
        storage.append_and_wait(Entry { controls, ..Entry::default() }).unwrap();
        stream
    });
    let both = |tag| entry(vec![lines(kept, tag, 1, 3000), lines(deleted, tag, 1, 3000)]);
    for tag in 0..400 {
        storage.append_and_wait(both(tag)).unwrap();
    }
    let controls = vec![Control::DeleteStream(deleted)];
    storage.append_and_wait(Entry { controls, ..Entry::default() }).unwrap();
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    storage.erase(vec![deleted], move |outcome| drop(sender.send(outcome)));
    let mut tag = 400;
    let outcome = loop {
        storage.append_and_wait(entry(vec![lines(kept, tag, 1, 3000)])).unwrap();
        tag += 1;
        match receiver.recv_timeout(Duration::from_millis(5)) {
            Ok(outcome) => break outcome,
            Err(_) => assert!(tag < 60_000, "erasing comes to no end"),
        }
    };
    outcome.unwrap();
    let needle = format!("{deleted} 1");
    for file in std::fs::read_dir(directory.path()).unwrap() {
        let file = file.unwrap();
        let bytes = std::fs::read(file.path()).unwrap();
        let is_there = bytes
            .split(|byte| *byte == b'\n')
            .any(|line| line.starts_with(needle.as_bytes()) && line.ends_with(b"xxxxxxxx"));
        assert!(!is_there, "{:?} holds erased records", file.file_name());
    }
    assert_eq!(storage.bounds(kept).unwrap().durable_end.0, tag);
    storage.close().unwrap();
}
