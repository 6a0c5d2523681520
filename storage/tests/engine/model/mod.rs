//! The engine against a model, on a disk that loses power at every call and fails in every call.
//!
//! A run is a list of steps drawn from a seed, played once on a disk that records. For every call
//! of the run the disk is then taken as it was, power is lost in the middle of the call, and what
//! survives is drawn: nothing, everything, a beginning, any subset of sectors and names. Each such
//! image is recovered and compared with what was promised until then, which the history says to
//! the call; in half of them power is lost again during the recovery.
//!
//! | Checked | By |
//! |---|---|
//! | L1–L4, L9, L12, L13, R2 | `Observed::is` some log of `Promise::find` |
//! | L5, I1, I3, I4 | `Play::append`, `Play::settle`: order, places and refusals as in the reference |
//! | L6, L7, L8, L10 | `Play::look`: what was seen is promised from then on |
//! | L11, L15 | `Play::follow`, and reading in small and large steps |
//! | L14 | `Stream::highest_start`, `Stream::may_lack` |
//! | R1, R4, R6, R7 | `crash_again`, `without_caches`, `reopen_changes_nothing`, the same image twice |
//! | R5, I1–I3, I5 | `ask_producers` |
//!
//! R3 is the corruption sweep's (`tests/corruption.rs`), C1 and C2 are the catalogue's (the tests
//! in `broker/src/catalogue/tests`).
//!
//! The steps come from a generator of its own and not from proptest: a run must be replayed call
//! by call, and what is minimised is not the list of steps but the one call that matters, which a
//! failure names. `MESHLOG_MODEL_SEED=17` replays the run of seed 17, `MESHLOG_MODEL_IMAGES` sets
//! how many distinct images are enough, `MESHLOG_MODEL_RUNS` how many runs end without a crash.

mod check;
pub(crate) mod faults;
mod history;
mod observed;
mod play;
mod reference;
mod step;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use meshlog_storage::disk::{Disk as _, OpenMode, SeededRandom};

use crate::support::Machine;
use check::{Checker, said};
#[allow(unused_imports, reason = "for the sabotage list")]
pub(crate) use observed::read_some;
use play::Play;
use step::{Step, scripted, steps};

const IMAGES: usize = 10_000;
const RUNS: u64 = 100;

/// A machine on which files are small, so that little work does everything.
fn machine(seed: u64) -> Machine {
    let mut machine = Machine::new(seed);
    let dice = SeededRandom::new(seed ^ 0x5eed);
    let pick = |bound: u64| dice.next_u64() % bound;
    machine.options.group_bytes = 16 << 10;
    machine.options.file_bytes_min = 32 << 10;
    machine.options.file_bytes_max = [32 << 10, 64 << 10, 128 << 10][pick(3) as usize];
    machine.options.ring_bytes = [0, 16 << 10, 64 << 10][pick(3) as usize];
    machine.options.chunk_cache_bytes = [0, 64 << 10][pick(2) as usize];
    machine.options.segment_bytes_min = 16 << 10;
    machine
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// The run of a seed: the first is the scripted one.
fn run_of(seed: u64) -> Vec<Step> {
    if seed == 0 { scripted() } else { steps(seed, 200) }
}

/// Crashes everywhere in the run of a seed; answers how many calls it has.
pub(crate) fn crash_everywhere(seed: u64, images: &mut BTreeSet<u64>, enough: usize) -> u64 {
    let machine = machine(seed);
    let options = machine.options.clone();
    machine.disk.record();
    let run = || Play::new(machine).run(&run_of(seed), 7).die();
    let (machine, history) = said(&format!("seed {seed}, before power is lost"), run);
    let moments = machine.disk.recorded();
    let mut checker = Checker::new(&history, &options, seed, images);
    for (call, moment) in (1..).zip(&moments) {
        checker.crash(call, moment);
        if checker.images.len() >= enough {
            return call;
        }
    }
    moments.len() as u64
}

#[test]
fn a_crash_in_any_call_leaves_what_was_promised() {
    let begun = Instant::now();
    let mut images = BTreeSet::new();
    if let Some(seed) = number("MESHLOG_MODEL_SEED") {
        let calls = crash_everywhere(seed, &mut images, usize::MAX);
        println!("seed {seed}: power lost in {calls} calls, {} distinct disk images", images.len());
        return;
    }
    let enough = number("MESHLOG_MODEL_IMAGES").map_or(IMAGES, |images| images as usize);
    let (mut seeds, mut calls) = (0, 0);
    while images.len() < enough {
        calls += crash_everywhere(seeds, &mut images, enough);
        seeds += 1;
    }
    println!(
        "{} distinct disk images: power lost in {calls} calls of {seeds} runs, {} s",
        images.len(),
        begun.elapsed().as_secs()
    );
}

/// Far more runs than there is time to lose power in.
#[test]
fn runs_without_a_crash_are_what_was_promised() {
    let begun = Instant::now();
    let runs = number("MESHLOG_MODEL_RUNS").unwrap_or(RUNS);
    for seed in 0..runs {
        let run = || Play::new(machine(seed)).run(&run_of(seed), 7).die();
        said(&format!("seed {seed}, without a crash"), run);
    }
    println!("{runs} runs without a crash, {} s", begun.elapsed().as_secs());
}

/// 432: while a merge copied a stream its start rose, and the last batch before it was left out. The
/// next one counted as older than it was by those bytes, and went by a limit that wanted it.
#[test]
fn a_run_that_failed_once_is_what_was_promised() {
    let run = || Play::new(machine(432)).run(&run_of(432), 7).die();
    said("seed 432, without a crash", run);
}

#[test]
fn the_same_seed_makes_the_same_calls() {
    let trace = |seed| {
        let machine = machine(seed);
        machine.disk.keep_trace();
        let (machine, _) = Play::new(machine).run(&run_of(seed), 7).die();
        machine.disk.trace()
    };
    let (first, second) = (trace(3), trace(3));
    assert!(first.lines().count() > 500, "{} lines", first.lines().count());
    let pairs = (1..).zip(first.lines().zip(second.lines()));
    for (number, (one, other)) in pairs {
        assert_eq!(one, other, "line {number} of two runs of one seed");
    }
    assert!(first == second, "one of two runs of one seed goes on");
    assert!(first != trace(4));
}

/// How often what happens in a run.
#[derive(Debug, Default)]
struct Contents {
    used_again: u64,
    checkpoints: u64,
    merges: u64,
    restarts: u64,
    alive: u64,
}

impl Contents {
    fn of(seed: u64) -> Self {
        let machine = machine(seed);
        machine.disk.keep_trace();
        let play = Play::new(machine).run(&run_of(seed), 7);
        let (merges, restarts) = (play.merges(), play.restarts);
        let (machine, history) = play.die();
        let trace = machine.disk.trace();
        let count = |what: &str| trace.lines().filter(|line| line.contains(what)).count() as u64;
        // Which journal files the slots hold now.
        let names = machine.disk.list(Path::new("data")).unwrap();
        let newest = names.iter().filter(|name| name.starts_with("journal-")).map(|name| {
            let path = Path::new("data").join(name);
            let file = machine.disk.open(&path, OpenMode::Existing).unwrap();
            let mut header = [0; 24];
            file.read_at(0, &mut header).unwrap();
            u64::from_le_bytes(header[16..24].try_into().unwrap())
        });
        let files = newest.max().unwrap_or(0);
        let log = history.at_end().most;
        let alive = log.streams.values().map(|stream| stream.end - stream.trimmed).sum();
        Self {
            used_again: files.saturating_sub(count("create data/journal-")),
            checkpoints: count("rename data/checkpoint-"),
            merges,
            restarts,
            alive,
        }
    }
}

#[test]
fn runs_do_everything_there_is() {
    let contents: Vec<_> = (0..12).map(Contents::of).collect();
    for (seed, contents) in contents.iter().enumerate() {
        println!("{seed}: {contents:?}");
    }
    let scripted = &contents[0];
    assert!(scripted.merges >= 2 && scripted.used_again >= 1 && scripted.checkpoints >= 6);
    let sum = |what: fn(&Contents) -> u64| contents.iter().map(what).sum::<u64>();
    assert!(sum(|run| run.used_again) >= 15, "slots are used again");
    assert!(sum(|run| run.merges) > 20, "files are merged");
    assert!(sum(|run| run.restarts) > 20, "restarts happen");
    assert!(sum(|run| run.alive) > 400, "records stay");
}
