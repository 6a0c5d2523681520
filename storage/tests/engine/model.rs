//! The engine against a model, on a disk that loses power at every call.
//!
//! A run is a seeded list of operations. It is played once to count the disk calls, then once per
//! call with power lost there; what survives of unsynced sectors and names is drawn from the seed,
//! and also all and nothing. After each crash the directory is recovered, checked against the
//! model, recovered with a second crash inside the recovery, and checked again.
//!
//! `MESHLOG_CRASH_SEEDS` sets the number of runs (default 6); a failure names seed, call and plan.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meshlog_storage::disk::{Clock as _, CrashPlan, Disk as _, OpenMode, SeededRandom};
use meshlog_storage::{
    Applied, Control, Durability, Entry, ErrorKind, Offset, Policy, Storage, StreamId, Timestamp,
};

use crate::support::{Machine, Outcome, lines, read_all, stamp, submit};

/// One step of a run.
#[derive(Clone, Debug)]
enum Step {
    Create,
    /// Batches for these streams (by index), this long, with a producer, this durability.
    Append {
        streams: Vec<usize>,
        length: usize,
        producer: Option<u8>,
        durability: Durability,
    },
    Delete(usize),
    Trim(usize),
    SetState(u8, bool),
    Policy(usize, Policy),
    Drive,
    Idle,
    Wait(u64),
    Reopen,
    /// The process dies without closing, so that the next open carries the last group over.
    Kill,
}

fn steps(seed: u64, count: usize) -> Vec<Step> {
    let random = SeededRandom::new(seed);
    let pick = |bound: u64| random.next_u64() % bound;
    let mut steps = vec![Step::Create, Step::Create, Step::Drive];
    while steps.len() < count {
        steps.push(match pick(21) {
            0 => Step::Create,
            1 => Step::Delete(pick(4) as usize),
            2 => Step::Trim(pick(4) as usize),
            3 => Step::SetState(pick(3) as u8, pick(3) > 0),
            4 => Step::Idle,
            5 => Step::Wait(pick(12_000)),
            6 if pick(3) == 0 => Step::Reopen,
            7..=11 => Step::Drive,
            20 => Step::Policy(pick(4) as usize, policy(pick(4))),
            _ => Step::Append {
                streams: (0..=pick(3)).map(|_| pick(4) as usize).collect(),
                length: [20, 400, 3000, 9000, 20_000][pick(5) as usize],
                producer: (pick(3) == 0).then(|| pick(2) as u8),
                durability: if pick(5) == 0 { Durability::Written } else { Durability::Synced },
            },
        });
    }
    steps.push(Step::Drive);
    steps
}

fn policy(kind: u64) -> Policy {
    let none = Policy::default();
    match kind {
        0 => none,
        1 => Policy { max_count: Some(4), ..none },
        2 => Policy { max_bytes: Some(20_000), ..none },
        _ => Policy { max_age: Some(Duration::from_secs(15)), ..none },
    }
}

/// A run in which files of several streams are merged while appending goes on; one
/// stream is limited, one deleted, one trimmed. What it claims is asserted below.
fn merging() -> Vec<Step> {
    let append = |streams: Vec<usize>, length: usize| Step::Append {
        streams,
        length,
        producer: None,
        durability: Durability::Synced,
    };
    let mut steps = vec![Step::Create, Step::Create, Step::Create, Step::Create];
    steps.push(Step::Policy(2, policy(2)));
    for round in 0..3 {
        for _ in 0..4 {
            steps.extend([append(vec![0, 1], 9000), append(vec![2, 3], 7000), Step::Drive]);
            steps.push(append(vec![3], 300));
        }
        steps.extend([Step::Trim(0), Step::Trim(0), Step::Drive, Step::Wait(11_000)]);
        for _ in 0..6 {
            steps.extend([append(vec![1], 40), Step::Drive]);
        }
        steps.push(Step::Wait(11_000));
        if round == 1 {
            steps.extend([Step::Delete(0), Step::Drive, Step::Kill]);
        }
    }
    for _ in 0..30 {
        steps.extend([append(vec![3], 50), Step::Wait(3_000)]);
    }
    steps
}

/// A run in which files are rolled, given back and used again, checkpoints written, and a group
/// carried over. What it claims is asserted below.
fn scripted() -> Vec<Step> {
    let append = |stream: usize, length: usize| Step::Append {
        streams: vec![stream],
        length,
        producer: None,
        durability: Durability::Synced,
    };
    let mut steps = Vec::new();
    for round in 0..7 {
        steps.push(Step::Create);
        for _ in 0..5 {
            steps.extend([append(round, 30_000), Step::Drive]);
        }
        steps.extend([Step::Delete(round), Step::SetState(1, true), Step::Drive]);
        for _ in 0..3 {
            steps.extend([Step::Wait(11_000), Step::SetState(2, round % 2 == 0)]);
        }
        steps.push(if round == 3 { Step::Kill } else { Step::Drive });
    }
    steps.extend([Step::Create, append(7, 400), Step::Idle, append(7, 9000), Step::Drive]);
    steps
}

/// What one append put into one stream.
#[derive(Clone, Debug)]
struct Piece {
    entry: usize,
    payload: Bytes,
    count: u32,
}

/// One submitted entry, in the order of submission.
struct Sent {
    outcome: Outcome,
    pieces: Vec<(StreamId, Piece)>,
    controls: Vec<Control>,
    wanted: Durability,
    producer: Option<(u8, u64)>,
    at: Timestamp,
}

/// What was asked for, and what was answered.
#[derive(Default)]
struct Model {
    sent: Vec<Sent>,
    streams: Vec<StreamId>,
    sequences: BTreeMap<u8, u64>,
    /// What readers saw before the crash: never to change.
    seen: BTreeMap<StreamId, Vec<(Offset, Bytes)>>,
    /// The start offsets they saw: never to fall.
    starts: BTreeMap<StreamId, Offset>,
    /// When the run ended.
    now: Timestamp,
    merges: u64,
}

/// The state after the first `entries` of those not refused.
#[derive(Clone, Debug, Default, PartialEq)]
struct Expected {
    streams: BTreeMap<StreamId, (Offset, Vec<Piece2>)>,
    state: BTreeMap<Bytes, Bytes>,
    /// Every policy that a stream ever had.
    policies: BTreeMap<StreamId, Vec<Policy>>,
}

#[derive(Clone, Debug)]
struct Piece2 {
    base: Offset,
    payload: Bytes,
    /// When it was submitted.
    at: Timestamp,
}

impl PartialEq for Piece2 {
    fn eq(&self, other: &Self) -> bool {
        (self.base, &self.payload) == (other.base, &other.payload)
    }
}

impl Model {
    fn is_refused(sent: &Sent) -> bool {
        matches!(&*sent.outcome.lock(), Some(Err(error)) if error.applied() == Applied::No)
    }

    fn is_acknowledged(sent: &Sent) -> bool {
        matches!(&*sent.outcome.lock(), Some(Ok(ok)) if ok.durability > Durability::Written)
    }

    /// The states that a prefix of the entries not refused gives, by number of entries.
    fn prefixes(&self) -> Vec<(usize, Expected)> {
        let mut expected = Expected::default();
        let mut prefixes = vec![(0, expected.clone())];
        for (index, sent) in self.sent.iter().enumerate() {
            if Self::is_refused(sent) {
                continue;
            }
            for control in &sent.controls {
                match control {
                    Control::CreateStream(stream) => {
                        expected.streams.insert(*stream, (Offset(0), Vec::new()));
                    }
                    Control::DeleteStream(stream) => drop(expected.streams.remove(stream)),
                    Control::SetPolicy(stream, policy) => {
                        expected.policies.entry(*stream).or_default().push(*policy);
                    }
                    Control::TrimStream(stream, start) => {
                        if let Some((first, _)) = expected.streams.get_mut(stream) {
                            *first = (*first).max(*start);
                        }
                    }
                    Control::SetState { key, value: Some(value) } => {
                        expected.state.insert(key.clone(), value.clone());
                    }
                    Control::SetState { key, value: None } => drop(expected.state.remove(key)),
                }
            }
            for (stream, piece) in &sent.pieces {
                if let Some((_, pieces)) = expected.streams.get_mut(stream) {
                    let base = pieces.iter().map(|p: &Piece2| lines_in(&p.payload)).sum();
                    let payload = piece.payload.clone();
                    assert_eq!(lines_in(&payload), u64::from(piece.count), "{}", piece.entry);
                    pieces.push(Piece2 { base: Offset(base), payload, at: sent.at });
                }
            }
            prefixes.push((index + 1, expected.clone()));
        }
        prefixes
    }

    /// Everything before this entry must be there.
    fn acknowledged(&self) -> usize {
        self.sent.iter().rposition(Self::is_acknowledged).map_or(0, |index| index + 1)
    }
}

fn lines_in(payload: &Bytes) -> u64 {
    payload.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// What a storage holds, seen through its handle.
fn observe(storage: &Storage) -> Expected {
    let mut observed =
        Expected { state: storage.state().into_iter().collect(), ..Expected::default() };
    for stream in storage.streams() {
        // Reading drives the storage, which may raise the start offset.
        let (bounds, batches) = loop {
            let bounds = storage.bounds(stream).unwrap();
            match read_all(storage, stream, bounds.start) {
                Ok(batches) => break (bounds, batches),
                Err(error) if matches!(error.kind(), ErrorKind::OffsetOutOfRange { .. }) => {}
                Err(error) => panic!("stream {stream} cannot be read: {error}"),
            }
        };
        let pieces = batches
            .into_iter()
            .map(|batch| Piece2 {
                base: batch.base_offset,
                payload: batch.payload,
                at: batch.append_time,
            })
            .collect();
        observed.streams.insert(stream, (bounds.start, pieces));
    }
    observed
}

/// Whether what is observed is this prefix; pieces wholly before the start offset are gone, and
/// that is no higher than a trim or a limit allows.
fn matches(observed: &Expected, expected: &Expected, all: &Expected, now: Timestamp) -> bool {
    observed.state == expected.state
        && observed.streams.len() == expected.streams.len()
        && observed.streams.iter().all(|(stream, (start, pieces))| {
            expected.streams.get(stream).is_some_and(|(first, every)| {
                let kept: Vec<_> = every
                    .iter()
                    .filter(|piece| piece.base.0 + lines_in(&piece.payload) > start.0)
                    .cloned()
                    .collect();
                let most = allowed(*stream, expected, all, now).max(*first);
                *first <= *start && *start <= most && *pieces == kept
            })
        })
}

/// The highest start offset that the limits a stream ever had allow, however much of what was
/// submitted is there.
fn allowed(stream: StreamId, expected: &Expected, all: &Expected, now: Timestamp) -> Offset {
    let Some((_, pieces)) = all.streams.get(&stream).or_else(|| expected.streams.get(&stream))
    else {
        return Offset(0);
    };
    let policies = all.policies.get(&stream).into_iter().flatten();
    let (mut bytes, mut count, mut highest) = (0, 0, Offset(0));
    let mut most = Offset(0);
    let policies: Vec<_> = policies.collect();
    for piece in pieces.iter().rev() {
        let end = Offset(piece.base.0 + lines_in(&piece.payload));
        let age = Duration::from_nanos(now.0 - piece.at.0);
        let goes = policies.iter().any(|policy| {
            policy.max_age.is_some_and(|most| age >= most)
                || policy.max_bytes.is_some_and(|most| bytes >= most)
                || policy.max_count.is_some_and(|most| count >= most)
        });
        if goes {
            most = most.max(end);
        }
        bytes += piece.payload.len() as u64;
        count += lines_in(&piece.payload);
        highest = highest.max(end);
    }
    most.min(highest)
}

/// Plays a run until it ends or power is lost.
fn play(machine: &Machine, steps: &[Step]) -> Model {
    let mut model = Model::default();
    let Ok(mut storage) = machine.open() else { return model };
    for (tag, step) in steps.iter().enumerate() {
        if machine.disk.has_crashed() {
            break;
        }
        machine.clock.advance(Duration::from_millis(1));
        model.now = machine.clock.now();
        match step {
            Step::Create => {
                let stream = storage.allocate_stream();
                model.streams.push(stream);
                let controls = vec![Control::CreateStream(stream)];
                send(&mut model, &storage, Entry { controls, ..Entry::default() }, None);
            }
            Step::Append { streams, length, producer, durability } => {
                let batches: Vec<_> = streams
                    .iter()
                    .filter_map(|index| model.streams.get(*index))
                    .enumerate()
                    .map(|(n, stream)| lines(*stream, (tag * 10 + n) as u64, 1 + n as u32, *length))
                    .collect();
                if batches.is_empty() {
                    continue;
                }
                let producer = producer.map(|id| (id, *model.sequences.entry(id).or_default()));
                let entry = Entry {
                    batches,
                    producer: producer.map(|(id, sequence)| stamp(id, sequence)),
                    durability: *durability,
                    ..Entry::default()
                };
                send(&mut model, &storage, entry, producer);
            }
            Step::Delete(index) => {
                if let Some(stream) = model.streams.get(*index).copied() {
                    let controls = vec![Control::DeleteStream(stream)];
                    send(&mut model, &storage, Entry { controls, ..Entry::default() }, None);
                }
            }
            Step::Trim(index) => {
                if let Some(stream) = model.streams.get(*index).copied()
                    && let Ok(bounds) = storage.bounds(stream)
                {
                    let start = Offset(bounds.start.0.midpoint(bounds.durable_end.0));
                    let controls = vec![Control::TrimStream(stream, start)];
                    send(&mut model, &storage, Entry { controls, ..Entry::default() }, None);
                }
            }
            Step::Policy(index, policy) => {
                if let Some(stream) = model.streams.get(*index).copied() {
                    let controls = vec![Control::SetPolicy(stream, *policy)];
                    send(&mut model, &storage, Entry { controls, ..Entry::default() }, None);
                }
            }
            Step::SetState(key, set) => {
                let value = set.then(|| Bytes::from(format!("value {tag}")));
                let controls = vec![Control::SetState { key: Bytes::from(vec![*key]), value }];
                send(&mut model, &storage, Entry { controls, ..Entry::default() }, None);
            }
            Step::Drive => storage.drive(),
            Step::Idle => storage.drive_idle(),
            Step::Wait(millis) => {
                machine.clock.advance(Duration::from_millis(*millis));
                storage.drive();
            }
            Step::Kill => {
                storage.drive();
                model.merges += storage.stats().merges;
                std::mem::forget(storage);
                machine.disk.kill();
                match machine.open() {
                    Ok(opened) => storage = opened,
                    Err(_) => return model,
                }
            }
            Step::Reopen => {
                storage.drive();
                drop(storage.close());
                drop(storage);
                match machine.open() {
                    Ok(opened) => storage = opened,
                    Err(_) => return model,
                }
            }
        }
        if !machine.disk.has_crashed() && tag % 7 == 0 {
            look(&mut model, &storage);
        }
        model.now = machine.clock.now();
    }
    model.merges += storage.stats().merges;
    drop(storage);
    model
}

fn send(model: &mut Model, storage: &Storage, entry: Entry, producer: Option<(u8, u64)>) {
    let index = model.sent.len();
    let pieces = entry
        .batches
        .iter()
        .map(|batch| {
            let payload = batch.payload[0].clone();
            (batch.stream, Piece { entry: index, payload, count: batch.count })
        })
        .collect();
    let (controls, wanted) = (entry.controls.clone(), entry.durability);
    let outcome = submit(storage, entry);
    let sent = Sent { outcome, pieces, controls, wanted, producer, at: model.now };
    if !Model::is_refused(&sent)
        && let Some((id, sequence)) = producer
    {
        model.sequences.insert(id, sequence + 1);
    }
    model.sent.push(sent);
}

fn look(model: &mut Model, storage: &Storage) {
    for stream in storage.streams() {
        // Reading drives the storage, which may commit the stream's deletion.
        if let Ok(bounds) = storage.bounds(stream) {
            model.starts.insert(stream, bounds.start);
        }
        if let Ok(bounds) = storage.bounds(stream)
            && let Ok(batches) = read_all(storage, stream, bounds.start)
        {
            let seen = batches.into_iter().map(|b| (b.base_offset, b.payload)).collect();
            model.seen.insert(stream, seen);
        }
    }
}

/// Everything that must hold after recovery.
fn check(model: &Model, storage: &Storage, clean: bool) -> Expected {
    let damage = storage.health().damage;
    assert!(damage.is_empty(), "a crash is not damage: {damage:?}");
    check_content(model, storage, clean)
}

fn check_content(model: &Model, storage: &Storage, clean: bool) -> Expected {
    let observed = observe(storage);
    let least = model.acknowledged();
    let prefixes = model.prefixes();
    let (_, all) = prefixes.last().unwrap();
    let candidates = prefixes.iter().filter(|(entries, _)| *entries >= least);
    let found = candidates.clone().any(|(_, one)| matches(&observed, one, all, model.now));
    assert!(
        found,
        "what was recovered is no prefix that holds all {least} acknowledged entries\n\
         observed {:#?}",
        summary(&observed)
    );
    if clean {
        assert!(matches(&observed, all, all, model.now), "a clean restart drops nothing");
    }
    for (stream, start) in &model.starts {
        if let Some((now, _)) = observed.streams.get(stream) {
            assert!(now >= start, "the start of {stream} fell from {start} to {now}");
        }
    }
    // What a reader saw is still there, unless deleted or trimmed since.
    for (stream, seen) in &model.seen {
        let Some((start, pieces)) = observed.streams.get(stream) else { continue };
        for (base, payload) in seen {
            if base.0 + lines_in(payload) > start.0 {
                let is_there = pieces.iter().any(|p| p.base == *base && p.payload == *payload);
                assert!(is_there, "offset {base} of stream {stream} was read and is gone");
            }
        }
    }
    observed
}

fn summary(observed: &Expected) -> BTreeMap<StreamId, (Offset, Vec<(Offset, usize)>)> {
    observed
        .streams
        .iter()
        .map(|(stream, (start, pieces))| {
            let pieces = pieces.iter().map(|piece| (piece.base, piece.payload.len())).collect();
            (*stream, (*start, pieces))
        })
        .collect()
}

/// Retries of everything a producer sent answer without a second record.
fn retry(model: &Model, storage: &Storage, observed: &Expected) {
    let mut last: BTreeMap<u8, &Sent> = BTreeMap::new();
    for sent in model.sent.iter().filter(|sent| !Model::is_refused(sent)) {
        if let Some((id, _)) = sent.producer {
            last.insert(id, sent);
        }
    }
    for (id, sent) in last {
        let Some((_, sequence)) = sent.producer else { continue };
        let is_there = sent.pieces.iter().any(|(stream, piece)| {
            observed
                .streams
                .get(stream)
                .is_some_and(|(_, pieces)| pieces.iter().any(|p| p.payload == piece.payload))
        });
        let entry = Entry {
            batches: sent
                .pieces
                .iter()
                .map(|(stream, piece)| meshlog_storage::Batch {
                    stream: *stream,
                    payload: vec![piece.payload.clone()],
                    count: piece.count,
                    schema: 1,
                    application: 2,
                    expected_offset: None,
                })
                .collect(),
            producer: Some(stamp(id, sequence)),
            ..Entry::default()
        };
        let outcome = submit(storage, entry);
        storage.drive();
        let result = outcome.lock().take().unwrap();
        if is_there {
            let appended = result.expect("a retry of what is there is answered");
            assert!(appended.duplicate, "producer {id} sequence {sequence} was appended twice");
        }
    }
}

fn crash_everywhere(seed: u64, steps: &[Step], stride: u64, images: &mut BTreeSet<u64>) -> u64 {
    let count = steps.len();
    let machine = Machine::new(seed);
    let model = play(&machine, steps);
    let calls = machine.disk.calls();
    // Played to its end it restarts cleanly.
    let storage = machine.open().unwrap();
    check(&model, &storage, true);
    drop(storage);

    let mut crashes = 0;
    let mut call = 1 + seed % stride;
    while call <= calls {
        let random = [1, 2, 3].map(|n| CrashPlan::Random(seed ^ call << 20 ^ n << 50));
        let plans = [CrashPlan::KeepNothing, CrashPlan::KeepAll].into_iter().chain(random);
        let mut crashed = Machine::new(seed);
        crashed.disk.crash_at(call, seed);
        let model = play(&crashed, steps);
        assert!(crashed.disk.has_crashed(), "a run of the same seed makes the same calls");
        for plan in plans {
            let context = format!("seed {seed}, {count} steps, call {call} of {calls}, {plan:?}");
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                recover_and_check(&crashed, &model, plan, seed ^ call)
            }));
            match outcome {
                Ok(image) => {
                    crashes += 1;
                    images.insert(image);
                }
                Err(panic) => {
                    eprintln!("FAILED: {context}");
                    std::panic::resume_unwind(panic);
                }
            }
        }
        crashed.options.directory = "data".into();
        call += stride;
    }
    crashes
}

fn recover_and_check(crashed: &Machine, model: &Model, plan: CrashPlan, seed: u64) -> u64 {
    let machine = Machine {
        disk: crashed.disk.after_crash(plan),
        clock: Arc::clone(&crashed.clock),
        random: Arc::new(SeededRandom::new(seed)),
        options: crashed.options.clone(),
    };
    let image = machine.disk.image();
    crate::verifying::assert_undamaged(&machine);
    // A second crash, somewhere in the recovery.
    let twice = Machine {
        disk: machine.disk.after_crash(CrashPlan::KeepAll),
        clock: Arc::clone(&machine.clock),
        random: Arc::new(SeededRandom::new(seed ^ 1)),
        options: machine.options.clone(),
    };
    twice.disk.crash_at(1 + seed % 24, seed);
    drop(twice.open());
    let again = Machine { disk: twice.disk.after_crash(CrashPlan::Random(seed)), ..twice };
    let storage = again.open().unwrap();
    let after_two = check(model, &storage, false);
    drop(storage);

    // The newest checkpoint rots: the older one and the journal say the same.
    let rotten = Machine {
        disk: machine.disk.after_crash(CrashPlan::KeepAll),
        clock: Arc::clone(&machine.clock),
        random: Arc::new(SeededRandom::new(seed ^ 2)),
        options: machine.options.clone(),
    };
    if let Some(newest) = second_checkpoint(&rotten) {
        rotten.disk.rot(&newest, |bytes| bytes[30] ^= 4);
        let storage = rotten.open().unwrap();
        let damage = storage.health().damage;
        assert!(damage.iter().all(|sentence| sentence.contains("checkpoint")), "{damage:?}");
        check_content(model, &storage, false);
    }

    let storage = machine.open().unwrap();
    let observed = check(model, &storage, false);
    retry(model, &storage, &observed);
    drop(storage);
    // Recovering what a clean close left changes nothing.
    let before = observe_closed(&machine);
    crate::verifying::assert_undamaged(&machine);
    assert_eq!(before, observe_closed(&machine));
    drop(after_two);
    image
}

/// The newest checkpoint, if there is an older one.
fn second_checkpoint(machine: &Machine) -> Option<PathBuf> {
    let mut names = machine.disk.list(Path::new("data")).unwrap();
    names.retain(|name| name.starts_with("checkpoint-") && !name.ends_with("unfinished"));
    names.sort();
    let newest = names.pop()?;
    (!names.is_empty()).then(|| Path::new("data").join(newest))
}

fn observe_closed(machine: &Machine) -> Expected {
    let storage = machine.open().unwrap();
    storage.drive();
    storage.drive();
    let observed = observe(&storage);
    storage.close().unwrap();
    observed
}

fn seeds() -> u64 {
    std::env::var("MESHLOG_CRASH_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6)
}

#[test]
fn a_crash_at_any_call_loses_nothing_acknowledged() {
    let mut images = BTreeSet::new();
    let mut crashes = 0;
    for seed in 0..seeds() {
        crashes += crash_everywhere(seed, &steps(seed, 36), 1, &mut images);
    }
    println!("{crashes} crashes, {} distinct disk images", images.len());
    assert!(images.len() as u64 > 60 * seeds(), "the runs are too much alike: {}", images.len());
}

#[test]
fn a_crash_in_a_long_run_loses_nothing_acknowledged() {
    let mut images = BTreeSet::new();
    for seed in 1000..1000 + seeds() / 2 {
        crash_everywhere(seed, &steps(seed, 400), 37, &mut images);
    }
}

#[test]
fn a_crash_while_files_are_rolled_and_used_again_loses_nothing_acknowledged() {
    let machine = Machine::new(5);
    play(&machine, &scripted());
    let names = machine.disk.list(Path::new("data")).unwrap();
    let slots = names.iter().filter(|name| name.starts_with("journal-")).count();
    let mut sequences = BTreeSet::new();
    for name in names.iter().filter(|name| name.starts_with("journal-")) {
        let file = machine.disk.open(&Path::new("data").join(name), OpenMode::Existing).unwrap();
        let mut header = [0; 24];
        file.read_at(0, &mut header).unwrap();
        sequences.insert(u64::from_le_bytes(header[16..24].try_into().unwrap()));
    }
    let newest = sequences.last().copied().unwrap();
    assert!(newest > slots as u64 + 2, "{newest} files in {slots} slots: none was used again");
    let checkpoints: Vec<u64> =
        names.iter().filter_map(|name| name.strip_prefix("checkpoint-")?.parse().ok()).collect();
    assert!(checkpoints.iter().any(|number| *number >= 6), "{checkpoints:?}");

    let mut images = BTreeSet::new();
    let crashes = crash_everywhere(5, &scripted(), 1, &mut images);
    println!("{crashes} crashes, {} distinct disk images", images.len());
}

#[test]
fn a_crash_while_files_are_merged_loses_nothing_and_brings_nothing_back() {
    let machine = Machine::new(6);
    let model = play(&machine, &merging());
    assert!(model.merges >= 2, "{} merges", model.merges);
    let mut images = BTreeSet::new();
    let crashes = crash_everywhere(6, &merging(), 1, &mut images);
    println!("{crashes} crashes, {} distinct disk images", images.len());
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let image = |seed| {
        let machine = Machine::new(seed);
        play(&machine, &steps(seed, 200));
        (machine.disk.image(), machine.disk.calls())
    };
    assert_eq!(image(77), image(77));
    assert_ne!(image(77), image(78));
}

#[test]
fn a_written_acknowledgement_comes_before_the_sync_and_says_so() {
    let machine = Machine::new(11);
    let model = play(&machine, &[Step::Create, Step::Drive]);
    let storage = machine.open().unwrap();
    let entry = Entry {
        batches: vec![lines(model.streams[0], 0, 1, 50)],
        durability: Durability::Written,
        ..Entry::default()
    };
    let outcome = submit(&storage, entry);
    // The write is the next call, the sync the one after it.
    machine.disk.crash_at(machine.disk.calls() + 2, 0);
    storage.drive();
    let appended = outcome.lock().take().unwrap().unwrap();
    assert_eq!(appended.durability, Durability::Written);
    assert_eq!(storage.bounds(model.streams[0]).unwrap().durable_end, Offset(0));
    assert!(Timestamp(0) < appended.ranges[0].append_time);
    assert!(model.sent.iter().all(|sent| sent.wanted == Durability::Synced));
}
