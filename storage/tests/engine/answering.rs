//! What an answer says of an append is true, whichever call of the disk fails: acknowledged is
//! there, `No` is not there and never will be, `Unknown` is there once or not at all.

use std::io;
use std::time::Duration;

use meshlog_storage::disk::{CrashPlan, Fault, SimulatedDisk};
use meshlog_storage::{Applied, Control, Entry, ErrorKind, Offset, Result, Storage, StreamId};

use crate::support::{Machine, append, create, lines, lines_of, read_all, stamp, submit};

const APPENDS: u64 = 60;

/// What was said of the append with this tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Acknowledged(Offset),
    No,
    Unknown,
}

fn said(result: Result<meshlog_storage::Appended>) -> Said {
    match result {
        Ok(appended) => Said::Acknowledged(appended.ranges[0].first_offset),
        Err(error) if error.applied() == Applied::No => Said::No,
        Err(_) => Said::Unknown,
    }
}

/// Records of one append: numbered if `producer`, of a size that makes files roll.
fn request(stream: StreamId, tag: u64, producer: Option<u64>) -> Entry {
    let length = if tag.is_multiple_of(7) { 20_000 } else { 3_000 };
    Entry {
        batches: vec![lines(stream, tag, 1, length)],
        producer: producer.map(|sequence| stamp(1, sequence)),
        ..Entry::default()
    }
}

/// Appends, several in a group, with control work in between; what was said of each tag, and the
/// sequence that the last one was sent with if the answer leaves it in doubt.
fn work(machine: &Machine, storage: &Storage, plain: StreamId, safe: StreamId) -> Vec<Said> {
    let mut all = Vec::new();
    let mut sequence = 0;
    while (all.len() as u64) < APPENDS {
        let tag = all.len() as u64;
        let outcomes: Vec<_> =
            (tag..tag + 3).map(|tag| submit(storage, request(plain, tag, None))).collect();
        let numbered = submit(storage, request(safe, tag + 3, Some(sequence)));
        storage.drive();
        let take = |outcome: crate::support::Outcome| {
            said(outcome.lock().take().expect("every append is answered"))
        };
        all.extend(outcomes.into_iter().map(take));
        all.push(take(numbered));
        match all[all.len() - 1] {
            Said::Acknowledged(_) => sequence += 1,
            // It stays in doubt, and the sequence stays with it.
            Said::Unknown => return all,
            Said::No => {}
        }
        if tag.is_multiple_of(5) {
            let value = Some(tag.to_le_bytes().to_vec().into());
            let controls = vec![Control::SetState { key: "k".into(), value }];
            drop(append(storage, Entry { controls, ..Entry::default() }));
        }
        machine.clock.advance(Duration::from_secs(4));
    }
    all
}

#[track_caller]
fn tags(storage: &Storage, stream: StreamId, context: &str) -> Vec<(Offset, u64)> {
    let batches = read_all(storage, stream, Offset(0));
    let batches = batches.unwrap_or_else(|error| panic!("{context}: {error}"));
    let tag = |payload: &[u8]| {
        let line = lines_of(payload).next().unwrap();
        std::str::from_utf8(line).unwrap().split(' ').nth(1).unwrap().parse().unwrap()
    };
    batches.iter().map(|batch| (batch.base_offset, tag(&batch.payload))).collect()
}

fn check(said: &[Said], found: &[(Offset, u64)], stream: usize, context: &str) {
    for (tag, said) in (0_u64..).zip(said).filter(|(tag, _)| usize::from(tag % 4 == 3) == stream) {
        let places: Vec<_> = found.iter().filter(|(_, t)| *t == tag).map(|(at, _)| *at).collect();
        let is_true = match said {
            Said::Acknowledged(offset) => places == [*offset],
            Said::No => places.is_empty(),
            Said::Unknown => places.len() <= 1,
        };
        assert!(is_true, "{context}: append {tag} was answered {said:?}, found at {places:?}");
    }
}

/// A machine on which two streams exist, and they.
fn prepared(seed: u64) -> (Machine, Storage, StreamId, StreamId) {
    let machine = Machine::new(seed);
    let storage = machine.open().unwrap();
    let (plain, safe) = (create(&storage), create(&storage));
    (machine, storage, plain, safe)
}

#[test]
fn what_a_failed_append_says_is_what_recovery_finds_for_every_call_that_fails() {
    let (machine, storage, plain, safe) = prepared(1);
    let first = machine.disk.calls();
    work(&machine, &storage, plain, safe);
    let last = machine.disk.calls();
    assert!(last - first > 80, "{} calls", last - first);
    drop(storage);
    let (mut unknown, mut no) = (0, 0);
    for call in first + 1..=last {
        for fault in [
            Fault::Error(io::ErrorKind::Other),
            Fault::Error(io::ErrorKind::StorageFull),
            Fault::Short(io::ErrorKind::StorageFull),
            Fault::Interrupted,
        ] {
            let (mut machine, storage, plain, safe) = prepared(1);
            machine.disk.fault_at(call, fault);
            let said = work(&machine, &storage, plain, safe);
            unknown += said.iter().filter(|said| **said == Said::Unknown).count();
            no += said.iter().filter(|said| **said == Said::No).count();
            // Readers of the running storage see nothing that was denied either.
            let context = format!("call {call} meets {fault:?}, running");
            check(&said, &tags(&storage, plain, &context), 0, &context);
            check(&said, &tags(&storage, safe, &context), 1, &context);
            std::mem::forget(storage);
            let before: SimulatedDisk = machine.disk.clone();
            let cuts = [CrashPlan::KeepNothing, CrashPlan::KeepAll, CrashPlan::Random(call)];
            // Last the process dies alone: what it wrote is there, synced or not.
            for plan in cuts.map(Some).into_iter().chain([None]) {
                match plan {
                    Some(plan) => machine.disk = before.after_crash(plan),
                    None => {
                        before.kill();
                        machine.disk = before.clone();
                    }
                }
                let context = format!("call {call} meets {fault:?}, then {plan:?}");
                let storage = machine.open().unwrap_or_else(|error| panic!("{context}: {error}"));
                check(&said, &tags(&storage, plain, &context), 0, &context);
                let found = tags(&storage, safe, &context);
                check(&said, &found, 1, &context);
                retry_what_is_in_doubt(&storage, safe, &said, found.len() as u64, &context);
                check(&said, &tags(&storage, safe, &context), 1, &context);
            }
        }
    }
    assert!(unknown > 50 && no > 50, "{unknown} unknown, {no} not applied: the sweep tests little");
}

/// Sent again under its sequence, it is there once, and the answer names its place.
fn retry_what_is_in_doubt(
    storage: &Storage,
    stream: StreamId,
    said: &[Said],
    there: u64,
    context: &str,
) {
    let numbered = || said.iter().skip(3).step_by(4);
    if said.len() % 4 != 0 || numbered().next_back() != Some(&Said::Unknown) {
        return;
    }
    let tag = said.len() as u64 - 1;
    let sequence = numbered().filter(|said| matches!(said, Said::Acknowledged(_))).count() as u64;
    let appended = append(storage, request(stream, tag, Some(sequence)))
        .unwrap_or_else(|error| panic!("{context}: the retry is refused: {error}"));
    assert_eq!(appended.duplicate, there > sequence, "{context}");
    let found = tags(storage, stream, context);
    let places: Vec<_> = found.iter().filter(|(_, t)| *t == tag).collect();
    assert_eq!(places, [&(appended.ranges[0].first_offset, tag)], "{context}");
}

/// Nothing of a refused append may be read once there is space, and its offset goes to another.
#[test]
fn appends_refused_for_lack_of_space_leave_no_trace_when_there_is_space_again() {
    let (machine, storage, plain, safe) = prepared(2);
    machine.disk.set_capacity(machine.disk.used() + (200 << 10));
    let said = work(&machine, &storage, plain, safe);
    assert!(said.contains(&Said::No) && !said.contains(&Said::Unknown), "{said:?}");
    let refusal = append(&storage, request(plain, 999, None)).unwrap_err();
    assert_eq!(*refusal.kind(), ErrorKind::DiskFull);
    machine.disk.set_capacity(64 << 20);
    machine.clock.advance(Duration::from_secs(2));
    storage.drive();
    append(&storage, request(plain, 1_000, None)).unwrap();
    check(&said, &tags(&storage, plain, "running"), 0, "running");
    check(&said, &tags(&storage, safe, "running"), 1, "running");
    storage.close().unwrap();
    let storage = machine.open().unwrap();
    check(&said, &tags(&storage, plain, "after a restart"), 0, "after a restart");
    check(&said, &tags(&storage, safe, "after a restart"), 1, "after a restart");
}
