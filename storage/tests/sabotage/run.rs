//! Leaves each mechanism out in turn and shows what noticed.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use meshlog_storage::leave_out;

use crate::image::Image;
use crate::list::{Detector, MECHANISMS, Mechanism};
use crate::outcome::{self, Outcome};
use crate::{checks, fault, model};

/// Runs in which power is lost in every call.
const SEEDS: std::ops::Range<u64> = 0..6;
/// A detector that takes this long has noticed too: what was left out made something endless.
const PATIENCE: Duration = Duration::from_secs(600);

thread_local! {
    static WHY: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Panics if one of them is not noticed, or if something is noticed while nothing is left out.
/// `MESHLOG_SABOTAGE` names those to try, by a part of their names.
pub(crate) fn all() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        // The first line says where, the second what.
        let what = text.lines().nth(1).or(text.lines().next()).unwrap_or_default();
        WHY.with(|why| *why.borrow_mut() = what.trim().chars().take(100).collect());
    }));
    let only = std::env::var("MESHLOG_SABOTAGE").unwrap_or_default();
    let chosen: Vec<&Mechanism> =
        MECHANISMS.iter().filter(|mechanism| mechanism.name.contains(&only)).collect();
    if only.is_empty() {
        let all = [Detector::Crashes, Detector::Faults, Detector::Lies, Detector::Rot];
        let own = checks::NAMES.iter().map(|name| Detector::Check(name));
        for detector in all.into_iter().chain(own) {
            if let Some(why) = notices("", detector) {
                eprintln!("nothing is left out, and yet {detector:?} says: {why}");
                std::process::exit(1);
            }
        }
        println!("nothing left out: nothing noticed");
    }
    let mut missed = 0;
    for mechanism in &chosen {
        let begun = Instant::now();
        let found = mechanism
            .detectors
            .iter()
            .find_map(|detector| notices(mechanism.name, *detector).map(|why| (*detector, why)));
        let seconds = begun.elapsed().as_secs();
        match found {
            Some((by, why)) => {
                let by = match by {
                    Detector::Check(name) => name.to_owned(),
                    other => format!("{other:?}").to_lowercase(),
                };
                println!(
                    "| {} | {} | {by} | {why} | {seconds} s |",
                    mechanism.section, mechanism.name
                );
            }
            None => {
                missed += 1;
                println!(
                    "| {} | {} | NOT NOTICED | | {seconds} s |",
                    mechanism.section, mechanism.name
                );
            }
        }
    }
    println!("{} of {} noticed", chosen.len() - missed, chosen.len());
    if missed > 0 {
        std::process::exit(1);
    }
}

/// What a detector says while this is left out.
fn notices(mechanism: &'static str, detector: Detector) -> Option<String> {
    let (sender, receiver) = sync_channel(1);
    let work = move || {
        leave_out(mechanism);
        let outcome = catch_unwind(AssertUnwindSafe(|| detect(detector)));
        let why = outcome.err().map(|_| WHY.with(|why| why.borrow().clone()));
        drop(sender.send(why));
    };
    std::thread::Builder::new().stack_size(16 << 20).spawn(work).unwrap();
    match receiver.recv_timeout(PATIENCE) {
        Ok(why) => why,
        Err(RecvTimeoutError::Timeout) => Some("it does not end".to_owned()),
        Err(RecvTimeoutError::Disconnected) => Some("the thread is gone".to_owned()),
    }
}

fn detect(detector: Detector) {
    match detector {
        Detector::Crashes => {
            // What a run notices by itself is noticed at once.
            for seed in SEEDS {
                model::crash_everywhere(seed, &mut BTreeSet::new(), 0);
            }
            let mut images = BTreeSet::new();
            for seed in SEEDS {
                model::crash_everywhere(seed, &mut images, usize::MAX);
            }
        }
        Detector::Faults => model::faults::fail_everywhere(2, 7),
        Detector::Lies => drop(model::faults::lie_everywhere(2)),
        Detector::Rot => {
            let images = Image::all();
            let bits = fault::stratified_bits(&images, 2500);
            let others = fault::sampled(&images, 500);
            for (index, fault) in bits.into_iter().chain(others) {
                let machine = images[index].with(&fault);
                if let Outcome::Broken(why) = outcome::of(&images[index], &machine) {
                    panic!("{} {fault}: {why}", images[index].name);
                }
            }
        }
        Detector::Check(name) => checks::run(name),
    }
}
