//! A fault in every call of a run: what is told is true, and nothing promised is lost.

use std::io::ErrorKind::{Other, StorageFull};
use std::time::{Duration, Instant};

use meshlog_storage::disk::{CrashPlan, Fault, SimulatedDisk};

use super::play::Play;
use super::step::{Step, steps};
use super::{machine, number};

const STEPS: usize = 200;

/// Where a fault happens.
#[derive(Clone, Copy, Debug)]
enum At {
    Call(u64),
    Read(u64),
}

/// Plays the run of a seed with a fault in it, then loses power after it, twice over: nothing that
/// was not synced survives, and everything does.
fn play_with(seed: u64, at: At, fault: Fault) {
    let context = format!("seed {seed}, {fault:?} in {at:?}");
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let machine = slow_machine(seed);
        match at {
            At::Call(call) => machine.disk.fault_at(call, fault),
            At::Read(read) => machine.disk.fault_at_read(read, fault),
        }
        let play = Play::new(machine).run(&steps(seed, STEPS), 25);
        assert!(play.machine.disk.is_past_faults() || matches!(fault, Fault::Short(_)));
        play.survives(CrashPlan::KeepNothing);
        play.survives(CrashPlan::KeepAll);
    }));
    if let Err(panic) = outcome {
        eprintln!("FAILED: {context}");
        std::panic::resume_unwind(panic);
    }
}

fn slow_machine(seed: u64) -> crate::support::Machine {
    let mut machine = machine(seed);
    let clock = std::sync::Arc::clone(&machine.clock);
    machine.disk = SimulatedDisk::new(64 << 20).with_clock(clock);
    machine
}

/// The calls and reads of a run without faults.
fn measure(seed: u64) -> (u64, u64) {
    let play = Play::new(slow_machine(seed)).run(&steps(seed, STEPS), 25);
    (play.machine.disk.calls(), play.machine.disk.reads())
}

/// The kinds that fail, in this call.
fn failing(call: u64) -> [Fault; 4] {
    let torn = Fault::Torn(Other, call);
    [Fault::Error(Other), torn, Fault::Short(StorageFull), Fault::Short(Other)]
}

/// Lets every so many-th call of a run fail.
#[allow(dead_code, reason = "for the sabotage list")]
pub(crate) fn fail_everywhere(seed: u64, stride: usize) {
    let (calls, reads) = measure(seed);
    for call in (1..=calls).step_by(stride) {
        play_with(seed, At::Call(call), failing(call)[call as usize % 4]);
    }
    for read in (1..=reads).step_by(stride) {
        play_with(seed, At::Read(read), Fault::Error(Other));
    }
}

/// All kinds of faults in all calls with `MESHLOG_MODEL_FAULTS=all`; by default each call meets one
/// kind that fails and every fifth one that does not.
#[test]
fn a_fault_in_any_call_is_told_truly_and_loses_nothing() {
    let begun = Instant::now();
    let seed = number("MESHLOG_MODEL_SEED").unwrap_or(2);
    let all = std::env::var("MESHLOG_MODEL_FAULTS").is_ok_and(|value| value == "all");
    let (calls, reads) = measure(seed);
    let harmless = [Fault::Interrupted, Fault::Partial, Fault::Slow(Duration::from_secs(5))];
    let mut played = 0;
    let mut play = |at, fault| {
        play_with(seed, at, fault);
        played += 1;
    };
    for call in 1..=calls {
        for (kind, fault) in (0..).zip(failing(call)) {
            if all || call % 4 == kind {
                play(At::Call(call), fault);
            }
        }
        for (kind, fault) in (0..).zip(harmless) {
            if all || call % 15 == kind * 5 {
                play(At::Call(call), fault);
            }
        }
    }
    for read in 1..=reads {
        for (kind, fault) in (0..).zip([Fault::Error(Other), Fault::Short(Other)]) {
            if all || read % 2 == kind {
                play(At::Read(read), fault);
            }
        }
        for (kind, fault) in (0..).zip(harmless) {
            if all || read % 15 == kind * 5 {
                play(At::Read(read), fault);
            }
        }
    }
    println!(
        "{played} runs of {STEPS} steps, a fault in each of {calls} calls and {reads} reads, {} s",
        begun.elapsed().as_secs()
    );
}

/// Sectors that are not written though the disk says so, or that arrive elsewhere too, in each call
/// of a run. What is readable afterwards is what was appended, and what is not is said to be
/// damaged. Answers how many runs there were and in how many something was damaged.
pub(crate) fn lie_everywhere(seed: u64) -> (u64, u64) {
    let mut steps = steps(seed, STEPS);
    // While it runs nobody looks, and at the end the last group is proven to have been there.
    steps.retain(|step| {
        !matches!(step, Step::Kill | Step::Reopen | Step::Delete(_) | Step::SetPolicy(..))
    });
    steps.push(Step::Idle);
    let calls = Play::new(slow_machine(seed)).run(&steps, usize::MAX).machine.disk.calls();
    let (mut runs, mut damaged) = (0, 0);
    for call in 1..=calls {
        for fault in [Fault::Stale(call), Fault::Misdirected(call)] {
            let context = format!("seed {seed}, {fault:?} in call {call}");
            let machine = slow_machine(seed);
            machine.disk.fault_at(call, fault);
            let play = Play::new(machine).run(&steps, usize::MAX);
            damaged += u64::from(play.is_honest(&context));
            runs += 1;
        }
    }
    (runs, damaged)
}

#[test]
fn a_sector_that_lies_never_gives_a_wrong_byte() {
    let begun = Instant::now();
    let (runs, damaged) = lie_everywhere(number("MESHLOG_MODEL_SEED").unwrap_or(2));
    println!("{runs} runs, {damaged} damaged, {} s", begun.elapsed().as_secs());
    assert!(damaged * 25 > runs, "hardly anything was hit");
}
