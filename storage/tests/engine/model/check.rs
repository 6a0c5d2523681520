//! What must hold on the disk that a crash left.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use meshlog_storage::disk::{
    CrashPlan, Disk as _, ManualClock, Moment, SeededRandom, SimulatedDisk,
};
use meshlog_storage::{Batch, Entry, ErrorKind, Options, ProducerStamp, Storage};

use super::history::{History, Promise};
use super::observed::Observed;
use super::reference::Log;
use crate::support::{Machine, submit};

/// Checks the images of one run.
pub(crate) struct Checker<'a> {
    pub(crate) history: &'a History,
    pub(crate) options: &'a Options,
    pub(crate) seed: u64,
    /// Images checked, of this and all earlier runs.
    pub(crate) images: &'a mut BTreeSet<u64>,
    checked: BTreeSet<(u64, (usize, usize, usize))>,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(
        history: &'a History,
        options: &'a Options,
        seed: u64,
        images: &'a mut BTreeSet<u64>,
    ) -> Self {
        Self { history, options, seed, images, checked: BTreeSet::new() }
    }

    /// Power is lost during this call: recovers what may be left.
    pub(crate) fn crash(&mut self, call: u64, moment: &Moment) {
        let promise = self.history.at(call);
        let dice = SeededRandom::new(self.seed << 32 ^ call);
        let cut = moment.cut(dice.next_u64());
        let plans = [
            CrashPlan::KeepNothing,
            CrashPlan::KeepAll,
            CrashPlan::InOrder(dice.next_u64()),
            CrashPlan::Random(dice.next_u64()),
        ];
        for plan in plans {
            let disk = cut.after_crash(plan);
            let image = disk.image();
            if self.checked.insert((image, promise.fingerprint)) {
                self.images.insert(image);
                let context = format!(
                    "seed {}, power lost in call {call} ({}), {plan:?}",
                    self.seed,
                    moment.call()
                );
                said(&context, || self.recover(&disk, &promise, dice.next_u64()));
            }
        }
    }

    fn machine(&self, disk: &SimulatedDisk, promise: &Promise<'_>, salt: u64) -> Machine {
        Machine {
            disk: disk.after_crash(CrashPlan::KeepAll),
            clock: Arc::new(ManualClock::starting_at(promise.now().wall)),
            random: Arc::new(SeededRandom::new(salt)),
            options: self.options.clone(),
        }
    }

    fn recover(&mut self, disk: &SimulatedDisk, promise: &Promise<'_>, dice: u64) {
        let machine = self.machine(disk, promise, dice);
        if dice.is_multiple_of(8) {
            crate::verifying::assert_undamaged(&machine);
        }
        machine.disk.record();
        let storage = machine.open().unwrap_or_else(|error| panic!("it does not open: {error}"));
        let recovery = machine.disk.recorded();
        let (observed, log) = check(&storage, promise);

        if (dice >> 3).is_multiple_of(2) && !recovery.is_empty() {
            self.crash_again(&recovery, promise, &observed, dice >> 4);
        }
        if (dice >> 8).is_multiple_of(8) {
            let again = self.machine(disk, promise, dice);
            let same = again.open().unwrap();
            assert_eq!(machine.disk.image(), again.disk.image(), "the same image, recovered twice");
            drop(same);
        }
        if (dice >> 12).is_multiple_of(8) {
            self.without_caches(disk, promise, dice);
        }
        if (dice >> 16).is_multiple_of(3) {
            ask_producers(&storage, promise, &log);
            reopen_changes_nothing(&machine, storage);
        } else {
            machine.disk.cut_power();
        }
    }

    /// Power is lost a second time, in the recovery: it comes to the same.
    fn crash_again(
        &mut self,
        recovery: &[Moment],
        promise: &Promise<'_>,
        first: &Observed,
        dice: u64,
    ) {
        let index = dice as usize % recovery.len();
        let cut = recovery[index].cut(dice);
        for plan in [CrashPlan::Random(dice), CrashPlan::KeepAll] {
            let disk = cut.after_crash(plan);
            if !self.images.insert(disk.image()) {
                continue;
            }
            let context = format!(
                "and again in call {} of the recovery ({}), {plan:?}",
                index + 1,
                recovery[index].call()
            );
            said(&context, || {
                let machine = self.machine(&disk, promise, dice);
                let storage =
                    machine.open().unwrap_or_else(|error| panic!("it does not open: {error}"));
                let (observed, _) = check(&storage, promise);
                assert_eq!(&observed, first, "the second recovery came to something else");
                machine.disk.cut_power();
            });
        }
    }

    /// Footers beside the files and one of two checkpoints are no evidence: without them it comes
    /// to the same.
    fn without_caches(&self, disk: &SimulatedDisk, promise: &Promise<'_>, dice: u64) {
        let machine = self.machine(disk, promise, dice);
        let names = machine.disk.list(Path::new("data")).unwrap();
        for name in names.iter().filter(|name| name.starts_with("footer-")) {
            machine.disk.lose(&Path::new("data").join(name));
        }
        let mut checkpoints: Vec<_> = names
            .iter()
            .filter(|name| name.starts_with("checkpoint-") && !name.ends_with("unfinished"))
            .collect();
        checkpoints.sort();
        if let [.., _, newest] = checkpoints[..] {
            machine.disk.rot(&Path::new("data").join(newest), |bytes| bytes[30] ^= 4);
        }
        let storage = machine.open().unwrap_or_else(|error| panic!("it does not open: {error}"));
        let damage = storage.health().damage;
        assert!(damage.iter().all(|sentence| sentence.contains("checkpoint")), "{damage:?}");
        compare(&storage, promise);
        machine.disk.cut_power();
    }
}

/// Everything that must hold after recovery.
pub(crate) fn check(storage: &Storage, promise: &Promise<'_>) -> (Observed, Log) {
    let damage = storage.health().damage;
    assert!(damage.is_empty(), "a crash is not damage: {damage:?}");
    compare(storage, promise)
}

fn compare(storage: &Storage, promise: &Promise<'_>) -> (Observed, Log) {
    let observed = Observed::of(storage, 1 << 20);
    let now = promise.now().restarted();
    let found = promise.find(|log| observed.is(log, &promise.most, now));
    let (log, _) =
        found.unwrap_or_else(|why| panic!("what was recovered is not promised:\n  {why}"));
    for (stream, start) in promise.starts() {
        if let Some((bounds, _)) = observed.streams.get(&stream) {
            assert!(bounds.start.0 >= start, "the start of {stream} fell from {start}");
        }
    }
    (observed, log)
}

/// The last entry of each producer again, one too far, and one in an epoch that is over.
fn ask_producers(storage: &Storage, promise: &Promise<'_>, log: &Log) {
    let Some(stream) = log.streams.keys().next().copied() else { return };
    let ask = |id: [u8; 16], epoch: u32, sequence: u64| {
        let batch = Batch {
            stream,
            payload: vec![Bytes::from_static(b"asked\n")],
            count: 1,
            schema: 1,
            application: 2,
            expected_offset: None,
        };
        let producer = Some(ProducerStamp { scope: 9, id, epoch, sequence });
        let outcome = submit(storage, Entry { batches: vec![batch], producer, ..Entry::default() });
        storage.drive();
        outcome.lock().take().expect("driving a storage answers what waits")
    };
    for (id, window) in &log.producers {
        let again = ask(*id, window.epoch, window.next - 1).expect("a retry is answered");
        assert!(again.duplicate, "producer {id:?} was appended twice");
        let mut places: Vec<_> = again
            .ranges
            .iter()
            .map(|range| (range.stream, range.first_offset, range.count))
            .filter(|(stream, ..)| log.streams.contains_key(stream))
            .collect();
        places.sort_unstable();
        let entry = window.last.expect("a producer is known by an entry");
        assert_eq!(places, log.places(entry), "a retry answers with the first offsets");
        let far = ask(*id, window.epoch, window.next + 1).expect_err("a gap is refused");
        assert_eq!(*far.kind(), ErrorKind::SequenceGap { expected: window.next });
        if let Some(before) = window.epoch.checked_sub(1) {
            let late = ask(*id, before, window.next).expect_err("the epoch is over");
            assert_eq!(*late.kind(), ErrorKind::ProducerFenced { epoch: window.epoch });
        }
        let next = ask(*id, window.epoch, window.next).expect("the next sequence is taken");
        assert!(!next.duplicate, "sequence {} of {id:?} was never acknowledged", window.next);
    }
    let _ = promise;
}

/// A clean stop and a start drop nothing.
fn reopen_changes_nothing(machine: &Machine, storage: Storage) {
    storage.drive();
    let before = Observed::of(&storage, 1 << 20);
    storage.close().unwrap();
    drop(storage);
    let storage = machine.open().unwrap();
    assert_eq!(before, Observed::of(&storage, 1 << 20), "a clean restart changes nothing");
    machine.disk.cut_power();
}

/// Says what was under way if it panics.
pub(crate) fn said<T>(context: &str, work: impl FnOnce() -> T) -> T {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        eprintln!("FAILED: {context}");
        std::panic::resume_unwind(panic)
    })
}
