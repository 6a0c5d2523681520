//! Compaction: the newest record of each key, and holes where the others were.

use std::collections::BTreeMap;
use std::time::Duration;

use meshlog_storage::disk::{CrashPlan, SeededRandom};
use meshlog_storage::{Batch, Compaction, Offset, Policy, ReadRequest, Storage, StreamId};

use crate::merging::trim;
use crate::retaining::{pass, set_policy};
use crate::support::{Machine, append, create, entry, lines, lines_of, read, read_compacted};

pub(crate) fn compacted(tombstone_seconds: u64) -> Policy {
    let tombstone_min_age = Duration::from_secs(tombstone_seconds);
    Policy { compact: Some(Compaction { tombstone_min_age }), ..Policy::default() }
}

fn batch(stream: StreamId, records: &[String]) -> Batch {
    let payload = records.iter().map(|record| format!("{record}\n")).collect::<String>();
    Batch { payload: vec![payload.into()], count: records.len() as u32, ..lines(stream, 0, 1, 10) }
}

/// Every record with its offset.
fn records(storage: &Storage, stream: StreamId) -> BTreeMap<u64, String> {
    let start = storage.bounds(stream).unwrap().start;
    let mut found = BTreeMap::new();
    for batch in read_compacted(storage, stream, start).unwrap() {
        let lines: Vec<_> = lines_of(&batch.payload).collect();
        assert_eq!(lines.len(), batch.count as usize);
        for (index, line) in lines.into_iter().enumerate() {
            let delta = batch.offset_deltas.get(index).map_or(index as u64, |d| u64::from(*d));
            let text = String::from_utf8(line.to_vec()).unwrap();
            found.insert(batch.base_offset.0 + delta, text);
        }
    }
    found
}

fn key(record: &str) -> Option<&str> {
    record.strip_prefix('@').map(|rest| rest.split(' ').next().unwrap())
}

/// What must stay, and what may be gone.
fn check(all: &BTreeMap<u64, String>, found: &BTreeMap<u64, String>, may_drop_tombstones: bool) {
    for (offset, record) in found {
        assert!(all.get(offset) == Some(record), "offset {offset} keeps its record");
    }
    let end = *all.keys().last().unwrap();
    for (offset, record) in all {
        let is_newest = key(record)
            .is_none_or(|k| !all.range(offset + 1..).any(|(_, later)| key(later) == Some(k)));
        let is_tombstone = key(record).is_some() && !record.contains(' ');
        if is_newest && (!is_tombstone || !may_drop_tombstones || *offset == end) {
            let short = &record[..record.len().min(20)];
            assert!(found.contains_key(offset), "{short} at {offset} is gone");
        }
    }
}

/// Appends batches of random records of a few keys.
fn fill(
    machine: &Machine,
    storage: &Storage,
    stream: StreamId,
    all: &mut BTreeMap<u64, String>,
    seed: u64,
) {
    let random = SeededRandom::new(seed);
    let pick = |bound: u64| random.next_u64() % bound;
    for tag in 0..60 {
        let filler = "x".repeat(900);
        let records: Vec<String> = (0..1 + pick(5))
            .map(|_| match pick(12) {
                0 => format!("no key {tag}"),
                1 => format!("@{}", pick(12)),
                _ => format!("@{} {tag} {filler}", pick(12)),
            })
            .collect();
        let appended = append(storage, entry(vec![batch(stream, &records)])).unwrap();
        let first = appended.ranges[0].first_offset.0;
        all.extend((first..).zip(records));
        machine.clock.advance(Duration::from_millis(300));
    }
}

#[test]
fn the_newest_record_of_each_key_stays_at_its_offset_and_holes_are_read_over() {
    let machine = Machine::new(1);
    let storage = machine.open().unwrap();
    let (stream, other) = (create(&storage), create(&storage));
    set_policy(&storage, stream, compacted(1_000_000));
    let mut all = BTreeMap::new();
    for round in 0..3 {
        fill(&machine, &storage, stream, &mut all, round);
        append(&storage, entry(vec![lines(other, round, 1, 30_000)])).unwrap();
        pass(&machine, &storage, 400);
        let found = records(&storage, stream);
        check(&all, &found, false);
        assert!(found.len() < all.len() / 2 + 60, "{} of {}", found.len(), all.len());
    }
    let found = records(&storage, stream);
    let bounds = storage.bounds(stream).unwrap();
    assert_eq!(bounds.start, Offset(0), "compaction moves no bound");
    for from in 0..bounds.durable_end.0 {
        let request = ReadRequest { stream, from: Offset(from), max_bytes: 1, hint: None };
        let slice = read(&storage, request).unwrap();
        let (next, _) = found.range(from..).next().unwrap();
        let batch = &slice.batches[0];
        assert!(batch.base_offset.0 <= *next && *next < batch.end().0, "{from} leads to {next}");
    }
    storage.close().unwrap();
    let storage = machine.open().unwrap();
    // What the restart sealed may be compacted by now.
    check(&all, &records(&storage, stream), false);
    assert!(storage.health().damage.is_empty());
}

#[cfg_attr(not(sabotage), test)]
pub(crate) fn a_tombstone_stays_until_its_age_and_the_newest_record_for_ever() {
    let machine = Machine::new(2);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    set_policy(&storage, stream, compacted(500));
    let mut all = BTreeMap::new();
    let send = |records: &[String], all: &mut BTreeMap<u64, String>| {
        let appended = append(&storage, entry(vec![batch(stream, records)])).unwrap();
        all.extend((appended.ranges[0].first_offset.0..).zip(records.iter().cloned()));
    };
    let filler = "x".repeat(3000);
    let round = |all: &mut _| {
        for index in 0..40 {
            send(&[format!("@filler {index} {filler}")], all);
        }
    };
    send(&["@a 1".into(), "@b 1".into(), "@a".into()], &mut all);
    round(&mut all);
    pass(&machine, &storage, 200);
    let found = records(&storage, stream);
    check(&all, &found, false);
    assert!(!found.contains_key(&0) && found.contains_key(&2), "the tombstone tells readers");
    pass(&machine, &storage, 500);
    round(&mut all);
    pass(&machine, &storage, 300);
    let found = records(&storage, stream);
    check(&all, &found, true);
    assert!(!found.contains_key(&2), "it is old, and nothing of its key is left");
    assert!(found.contains_key(&1));

    // A stream that ends in a tombstone keeps it: readers need an end.
    let last = create(&storage);
    set_policy(&storage, last, compacted(0));
    append(&storage, entry(vec![batch(last, &["@k 1".into(), "@k".into()])])).unwrap();
    round(&mut all);
    pass(&machine, &storage, 300);
    assert_eq!(records(&storage, last), BTreeMap::from([(1, "@k".into())]));
}

#[test]
fn bytes_are_counted_as_they_are_after_compaction() {
    let machine = Machine::new(3);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    set_policy(&storage, stream, compacted(1_000_000));
    let mut all = BTreeMap::new();
    fill(&machine, &storage, stream, &mut all, 7);
    fill(&machine, &storage, stream, &mut all, 8);
    pass(&machine, &storage, 400);
    let bytes = |storage: &Storage| -> usize {
        let start = storage.bounds(stream).unwrap().start;
        read_compacted(storage, stream, start).unwrap().iter().map(|b| b.payload.len()).sum()
    };
    let before = bytes(&storage);
    let policy = Policy { max_bytes: Some(before as u64), ..compacted(1_000_000) };
    set_policy(&storage, stream, policy);
    pass(&machine, &storage, 60);
    assert_eq!(bytes(&storage), before, "what exists fits the limit");
    set_policy(&storage, stream, Policy { max_bytes: Some(before as u64 / 2), ..policy });
    pass(&machine, &storage, 60);
    let after = bytes(&storage);
    assert!(after >= before / 2 && after < before / 2 + 6_000, "{after} of {before}");
}

/// What compaction left out of a file counted as if it had stood last in it, and newer batches in
/// the same file went by it as soon as the stream started behind all that was compacted.
#[cfg_attr(not(sabotage), test)]
pub(crate) fn what_compaction_left_out_takes_no_bytes_from_what_follows_in_its_file() {
    let machine = Machine::new(6);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    set_policy(&storage, stream, compacted(1_000_000));
    let filler = "x".repeat(3000);
    for tag in 0..120 {
        let key = if tag == 0 { "first" } else { "k" };
        append(&storage, entry(vec![batch(stream, &[format!("@{key} {tag} {filler}")])])).unwrap();
    }
    pass(&machine, &storage, 400);
    let merged = storage.stats().merges;
    assert!(merged > 0 && records(&storage, stream).len() < 60, "most of it is superseded");
    set_policy(&storage, stream, Policy::default());
    let doomed = create(&storage);
    for tag in 0..100 {
        append(&storage, entry(vec![lines(stream, tag, 1, 1000), lines(doomed, tag, 1, 6000)]))
            .unwrap();
    }
    trim(&storage, doomed, 99);
    pass(&machine, &storage, 400);
    assert!(storage.stats().merges > merged, "older and newer ones share a file now");
    trim(&storage, stream, 120);
    let policy = Policy { max_bytes: Some(80_500), ..Policy::default() };
    set_policy(&storage, stream, policy);
    pass(&machine, &storage, 60);
    assert_eq!(storage.bounds(stream).unwrap().start, Offset(120 + 19), "1,000 bytes each");
}

#[test]
fn trimming_into_a_hole_starts_at_the_next_record() {
    let machine = Machine::new(4);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    set_policy(&storage, stream, compacted(1_000_000));
    let mut all = BTreeMap::new();
    fill(&machine, &storage, stream, &mut all, 9);
    fill(&machine, &storage, stream, &mut all, 10);
    pass(&machine, &storage, 400);
    let found = records(&storage, stream);
    let hole = (0..).find(|offset| !found.contains_key(offset)).unwrap();
    trim(&storage, stream, hole);
    let request = ReadRequest { stream, from: Offset(hole), max_bytes: 1, hint: None };
    let slice = read(&storage, request).unwrap();
    let (next, _) = found.range(hole..).next().unwrap();
    assert!(slice.batches[0].base_offset.0 <= *next && *next < slice.batches[0].end().0);
}

/// Power is lost at every call of a run that compacts; nothing newest is missing, and what was
/// left out does not come back in another form.
#[test]
fn a_crash_while_compacting_loses_no_newest_record() {
    let run = |machine: &Machine| {
        let mut all = BTreeMap::new();
        let Ok(storage) = machine.open() else { return all };
        let stream = storage.allocate_stream();
        let controls = vec![
            meshlog_storage::Control::CreateStream(stream),
            meshlog_storage::Control::SetPolicy(stream, compacted(1_000_000)),
        ];
        let create = meshlog_storage::Entry { controls, ..Default::default() };
        if append(&storage, create).is_err() {
            return all;
        }
        let filler = "x".repeat(5000);
        for tag in 0..36 {
            let record = format!("@{} {tag} {filler}", tag % 5);
            let outcome =
                append(&storage, entry(vec![batch(stream, std::slice::from_ref(&record))]));
            let Ok(appended) = outcome else { break };
            all.insert(appended.ranges[0].first_offset.0, record);
            machine.clock.advance(Duration::from_secs(2));
        }
        for _ in 0..16 {
            machine.clock.advance(Duration::from_secs(4));
            storage.drive();
        }
        std::mem::forget(storage);
        machine.disk.kill();
        all
    };
    let whole = Machine::new(5);
    run(&whole);
    let storage = whole.open().unwrap();
    assert!(records(&storage, StreamId(1)).len() < 30, "it was compacted");
    drop(storage);
    for call in 12..=whole.disk.calls() {
        let machine = Machine::new(5);
        machine.disk.crash_at(call, call);
        let all = run(&machine);
        if all.is_empty() {
            continue;
        }
        for plan in [CrashPlan::KeepNothing, CrashPlan::KeepAll, CrashPlan::Random(call)] {
            let after = Machine { disk: machine.disk.after_crash(plan), ..Machine::new(call) };
            let storage = after.open().unwrap();
            assert!(storage.health().damage.is_empty(), "call {call}, {plan:?}");
            let mut found = records(&storage, StreamId(1));
            // One append may be there that was not acknowledged.
            let last = *all.keys().last().unwrap();
            found.retain(|offset, _| *offset <= last);
            let mut may_miss = all.clone();
            let end = storage.bounds(StreamId(1)).unwrap().durable_end.0;
            if end > last + 1 {
                may_miss.insert(last + 1, format!("@{} unknown", (last + 1) % 5));
                found.insert(last + 1, format!("@{} unknown", (last + 1) % 5));
            }
            check(&may_miss, &found, false);
        }
    }
}
