//! Retention: what goes, when, and what survives clocks and restarts.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meshlog_storage::disk::Disk as _;
use meshlog_storage::{
    Control, Entry, Explanation, Limit, Offset, Policy, Storage, StreamId, Timestamp, Waiting,
};
use parking_lot::Mutex;

use crate::support::{Machine, append, create, entry, lines, read_all};

pub(crate) fn set_policy(storage: &Storage, stream: StreamId, policy: Policy) {
    let controls = vec![Control::SetPolicy(stream, policy)];
    append(storage, Entry { controls, ..Entry::default() }).unwrap();
}

/// Lets time pass, doing what is due every ten seconds.
pub(crate) fn pass(machine: &Machine, storage: &Storage, seconds: u64) {
    for _ in 0..seconds.div_ceil(10) {
        machine.clock.advance(Duration::from_secs(10));
        storage.drive();
    }
}

fn explain(storage: &Storage, stream: StreamId) -> Explanation {
    let found = Arc::new(Mutex::new(None));
    let slot = Arc::clone(&found);
    storage.explain(stream, move |outcome| *slot.lock() = Some(outcome));
    storage.drive();
    found.lock().take().unwrap().unwrap()
}

fn start(storage: &Storage, stream: StreamId) -> u64 {
    storage.bounds(stream).unwrap().start.0
}

fn age(seconds: u64) -> Policy {
    Policy { max_age: Some(Duration::from_secs(seconds)), ..Policy::default() }
}

#[test]
fn records_go_by_age_batch_by_batch_also_while_nothing_is_appended() {
    let machine = Machine::new(1);
    let storage = machine.open().unwrap();
    let (limited, other) = (create(&storage), create(&storage));
    set_policy(&storage, limited, age(100));
    for tag in 0..30 {
        append(&storage, entry(vec![lines(limited, tag, 2, 4000), lines(other, tag, 1, 10)]))
            .unwrap();
        machine.clock.advance(Duration::from_secs(5));
    }
    storage.drive();
    // The youngest batch that is 100 s old was appended 20 batches ago.
    let at = start(&storage, limited);
    assert!((18..=22).contains(&at) && at.is_multiple_of(2), "{at}");
    let first = read_all(&storage, limited, Offset(at)).unwrap();
    assert_eq!(first[0].base_offset, Offset(at));
    let mut before = at;
    for _ in 0..12 {
        pass(&machine, &storage, 10);
        let at = start(&storage, limited);
        assert!(at >= before && at.is_multiple_of(2));
        before = at;
    }
    assert_eq!(before, 60, "an idle log deletes as well");
    assert_eq!(storage.bounds(other).unwrap().start, Offset(0));
}

#[test]
fn the_newest_bytes_and_records_stay_whole_batches() {
    let machine = Machine::new(2);
    let storage = machine.open().unwrap();
    let (bytes, count, both) = (create(&storage), create(&storage), create(&storage));
    for tag in 0..200 {
        let batches = [bytes, count, both].map(|stream| lines(stream, tag, 3, 1000));
        append(&storage, entry(batches.to_vec())).unwrap();
    }
    set_policy(&storage, bytes, Policy { max_bytes: Some(10_000), ..Policy::default() });
    set_policy(&storage, count, Policy { max_count: Some(100), ..Policy::default() });
    set_policy(
        &storage,
        both,
        Policy { max_bytes: Some(10_000), max_count: Some(100), ..Policy::default() },
    );
    pass(&machine, &storage, 10);
    // 3,000 bytes a batch: the newest 10,000 reach into the fourth from the end.
    assert_eq!(start(&storage, bytes), 600 - 4 * 3);
    // The newest 100 reach into the 34th from the end.
    assert_eq!(start(&storage, count), 600 - 34 * 3);
    assert_eq!(start(&storage, both), 600 - 4 * 3, "the limit that wants less decides");
    storage.close().unwrap();

    let storage = machine.open().unwrap();
    assert_eq!(start(&storage, bytes), 600 - 4 * 3);
    append(&storage, entry(vec![lines(bytes, 200, 3, 1000)])).unwrap();
    pass(&machine, &storage, 10);
    assert_eq!(start(&storage, bytes), 603 - 4 * 3, "a policy survives a restart");
    let state = explain(&storage, both);
    assert_eq!(state.start, Offset(600 - 4 * 3));
    let wants: Vec<_> = state.limits.iter().map(|l| (l.limit, l.wants_from.0)).collect();
    assert_eq!(wants, [(Limit::Bytes, 600 - 4 * 3), (Limit::Count, 600 - 4 * 3)]);
}

#[cfg_attr(not(sabotage), test)]
pub(crate) fn a_raised_start_offset_is_durable_before_it_is_visible() {
    let mut machine = Machine::new(3);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    for tag in 0..10 {
        append(&storage, entry(vec![lines(stream, tag, 1, 100)])).unwrap();
    }
    // A write and a sync for the policy, then as many for what it allows.
    machine.disk.crash_at(machine.disk.calls() + 4, 0);
    set_policy(&storage, stream, Policy { max_count: Some(3), ..Policy::default() });
    assert!(machine.disk.has_crashed());
    assert_eq!(start(&storage, stream), 0);
    drop(storage);
    machine.disk = machine.disk.after_crash(meshlog_storage::disk::CrashPlan::KeepNothing);
    let storage = machine.open().unwrap();
    assert_eq!(start(&storage, stream), 0);
    pass(&machine, &storage, 10);
    assert_eq!(start(&storage, stream), 7);
}

#[cfg_attr(not(sabotage), test)]
pub(crate) fn a_clock_that_jumps_deletes_nothing_for_an_hour_and_health_says_so() {
    let machine = Machine::new(4);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    set_policy(&storage, stream, age(600));
    append(&storage, entry(vec![lines(stream, 0, 1, 100)])).unwrap();
    pass(&machine, &storage, 60);
    let day = 86_400_000_000_000;
    machine.clock.set(Timestamp(1_700_000_000_000_000_000 + day));
    pass(&machine, &storage, 1800);
    assert_eq!(start(&storage, stream), 0);
    let health = storage.health();
    assert!(health.notes[0].contains("ahead"), "{health:?}");
    assert!(explain(&storage, stream).clock.is_some());
    // Somebody sets it right.
    machine.clock.set(Timestamp(1_700_000_000_000_000_000 + 70_000_000_000));
    pass(&machine, &storage, 400);
    assert_eq!(start(&storage, stream), 0);
    pass(&machine, &storage, 3300);
    assert_eq!(start(&storage, stream), 1);
    assert!(storage.health().notes.is_empty());
}

#[test]
fn a_start_with_a_clock_far_ahead_of_the_log_waits_an_hour() {
    let machine = Machine::new(5);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    set_policy(&storage, stream, age(600));
    append(&storage, entry(vec![lines(stream, 0, 1, 100)])).unwrap();
    storage.close().unwrap();
    machine.clock.advance(Duration::from_secs(700));
    let storage = machine.open().unwrap();
    pass(&machine, &storage, 3000);
    assert_eq!(start(&storage, stream), 0);
    pass(&machine, &storage, 700);
    assert_eq!(start(&storage, stream), 1);
}

/// What a wrong clock has written into the log agreed with it after a restart, and everything went.
#[cfg_attr(not(sabotage), test)]
pub(crate) fn a_jump_that_the_log_knows_already_is_not_trusted_after_a_restart_either() {
    for (closes, is_seen) in [(true, true), (false, true), (true, false), (false, false)] {
        let mut machine = Machine::new(7);
        let storage = machine.open().unwrap();
        let stream = create(&storage);
        set_policy(&storage, stream, age(600));
        append(&storage, entry(vec![lines(stream, 0, 1, 100)])).unwrap();
        pass(&machine, &storage, 60);
        let ahead = Timestamp(1_700_000_000_000_000_000 + 86_400_000_000_000);
        machine.clock.set(ahead);
        let appended = append(&storage, entry(vec![lines(stream, 1, 1, 100)])).unwrap();
        assert_eq!(appended.ranges[0].append_time, ahead);
        if is_seen {
            pass(&machine, &storage, 120);
        }
        let mut storage = Some(storage);
        for _ in 0..3 {
            match storage.take() {
                Some(storage) if closes => storage.close().unwrap(),
                running => {
                    std::mem::forget(running);
                    let plan = meshlog_storage::disk::CrashPlan::KeepNothing;
                    machine.disk = machine.disk.after_crash(plan);
                }
            }
            let again = machine.open().unwrap();
            pass(&machine, &again, 1200);
            assert_eq!(start(&again, stream), 0, "closed: {closes}, seen: {is_seen}");
            assert!(again.health().notes[0].contains("the clock"), "{:?}", again.health());
            storage = Some(again);
        }
        let storage = storage.unwrap();
        pass(&machine, &storage, 2500);
        assert_eq!(start(&storage, stream), 2, "after an hour nobody doubts it");
        assert!(storage.health().notes.is_empty());
    }
}

/// What is deleted in the file being written would stay there for ever in a quiet log.
#[test]
fn a_file_in_which_deletion_waits_for_an_hour_is_finished_early_and_given_back() {
    let machine = Machine::new(6);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    set_policy(&storage, stream, age(60));
    append(&storage, entry(vec![lines(stream, 7, 1, 100)])).unwrap();
    pass(&machine, &storage, 120);
    assert_eq!(start(&storage, stream), 1);
    let holders = explain(&storage, stream).holders;
    assert!(matches!(holders[0].waiting, Waiting::Writing(_)), "{holders:?}");
    let files = |machine: &Machine| {
        let names = machine.disk.list(Path::new("data")).unwrap();
        names.into_iter().filter(|name| name.starts_with("journal-")).collect::<Vec<_>>()
    };
    pass(&machine, &storage, 3500);
    assert!(!explain(&storage, stream).holders.is_empty(), "not before the hour");
    pass(&machine, &storage, 200);
    assert_eq!(explain(&storage, stream).holders, [], "{:?}", files(&machine));
    // A quiet log without anything to delete is left alone.
    let before = files(&machine);
    let calls = machine.disk.calls();
    pass(&machine, &storage, 8000);
    assert_eq!((files(&machine), machine.disk.calls()), (before, calls));
}

#[test]
fn a_directory_of_version_1_is_limited_by_bytes_only_in_what_it_appends_from_now_on() {
    let directory = tempfile::tempdir().unwrap();
    crate::fixtures::copy("v1", directory.path());
    let clock = crate::fixtures::clock();
    let storage = crate::fixtures::open(directory.path(), &clock);
    let stream = StreamId(2);
    set_policy(&storage, stream, Policy { max_bytes: Some(5_000), ..Policy::default() });
    let step = || {
        clock.advance(Duration::from_secs(10));
        storage.drive();
    };
    append(&storage, entry(vec![lines(stream, 100, 2, 1000)])).unwrap();
    step();
    assert_eq!(start(&storage, stream), 4, "nobody knows how many bytes are before it");
    for tag in 101..104 {
        append(&storage, entry(vec![lines(stream, tag, 2, 1000)])).unwrap();
    }
    step();
    assert_eq!(start(&storage, stream), 50, "2,000 bytes a batch: the newest three stay");
}
