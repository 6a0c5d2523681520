//! The shipped binary and the real kernel: processes killed, calls failed and power cut under load,
//! and what was acknowledged held against what is there afterwards.
//!
//! Not a libtest: some of it needs root, loop devices or strace, and what is missing is named
//! loudly. With `MESHLOG_REQUIRE=all` (as in `.ci/run`) a skip is a failure, and strace is
//! installed where that is possible.
//!
//! | Variable | Meaning |
//! |---|---|
//! | `MESHLOG_CRASH_CYCLES` | kills and power cuts, each; default 20 |
//! | `MESHLOG_CRASH_SEED` | of the moments and sizes; printed, by default the time |
//! | `MESHLOG_CRASH_ONLY` | runs only the groups whose name contains this |

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the report is this program's output")]

#[path = "crash/inject.rs"]
mod inject;
#[path = "crash/kill.rs"]
mod kill;
#[path = "crash/ledger.rs"]
mod ledger;
#[path = "crash/load.rs"]
mod load;
#[path = "crash/mount.rs"]
mod mount;
#[path = "crash/pause.rs"]
mod pause;
#[path = "crash/power.rs"]
mod power;
#[path = "crash/random.rs"]
mod random;
#[path = "crash/read_only.rs"]
mod read_only;
#[path = "crash/server.rs"]
mod server;
#[path = "crash/space.rs"]
mod space;

use std::process::ExitCode;
use std::time::{Instant, SystemTime};

/// How often, from which seed, and what may be done for it.
pub(crate) struct Plan {
    pub(crate) cycles: u64,
    pub(crate) seed: u64,
    pub(crate) may_install: bool,
}

/// What a group did, or why it could not.
pub(crate) enum Outcome {
    Passed(String),
    Skipped(String),
}

type Group = fn(&Plan) -> Outcome;

fn main() -> ExitCode {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let is_required = std::env::var("MESHLOG_REQUIRE").is_ok_and(|value| value == "all");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let plan = Plan {
        cycles: number("MESHLOG_CRASH_CYCLES").unwrap_or(20),
        seed: number("MESHLOG_CRASH_SEED").unwrap_or(now.as_secs()),
        may_install: is_required,
    };
    println!("seed {} (MESHLOG_CRASH_SEED repeats its choices, not the kernel's)", plan.seed);
    let groups: &[(&str, Group)] = &[
        ("killed under load and in recovery", kill::under_load),
        ("stopped, continued and ended under load", pause::under_load),
        ("calls that fail at every step of a run", inject::at_every_step),
        ("power cut by the kernel", power::cut),
        ("a disk that fails below the file system", power::failing_disk),
        ("a file system that turns read-only under load", read_only::under_load),
        ("a disk that is full to the last byte", space::to_the_last_byte),
    ];
    let only = std::env::var("MESHLOG_CRASH_ONLY").unwrap_or_default();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (name, group) in groups.iter().filter(|(name, _)| name.contains(&only)) {
        let begun = Instant::now();
        let outcome = std::panic::catch_unwind(|| group(&plan));
        let seconds = begun.elapsed().as_secs_f32();
        match outcome {
            Ok(Outcome::Passed(what)) => {
                println!("ok       {name}: {what} ({seconds:.1} s)");
                passed += 1;
            }
            Ok(Outcome::Skipped(why)) if !is_required => {
                println!("SKIPPED  {name}: {why}");
                skipped += 1;
            }
            Ok(Outcome::Skipped(why)) => {
                println!("FAILED   {name}: {why}");
                failed += 1;
            }
            Err(_) => {
                println!("FAILED   {name} (seed {})", plan.seed);
                failed += 1;
            }
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    let ground = server::ground();
    if failed > 0 {
        println!("what a failed group left is in {}", ground.display());
        return ExitCode::FAILURE;
    }
    let _ = std::fs::remove_dir_all(ground);
    ExitCode::SUCCESS
}
