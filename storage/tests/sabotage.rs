//! The tests, tested: each mechanism that keeps a promise is left out in turn, and some test must
//! notice.
//!
//! Mechanisms can only be left out in a build of its own (`just sabotage`), which shows a table of
//! what noticed. Every other build compares the list with the code: a sync, a checksum or a fence
//! that is switched but not listed, listed but not switched, or a sync that is not switched, fails.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is the outcome")]
#![allow(dead_code, unused_imports, reason = "shares the tests of the engine, not all of them")]

#[path = "sabotage/list.rs"]
mod list;

#[cfg(sabotage)]
#[path = "engine/backing_up.rs"]
mod backing_up;
#[cfg(sabotage)]
#[path = "sabotage/checks.rs"]
mod checks;
#[cfg(sabotage)]
#[path = "engine/compacting.rs"]
mod compacting;
#[cfg(sabotage)]
#[path = "engine/erasing.rs"]
mod erasing;
#[cfg(sabotage)]
#[path = "corruption/fault.rs"]
mod fault;
#[cfg(sabotage)]
#[path = "corruption/image.rs"]
mod image;
#[cfg(sabotage)]
#[path = "engine/merging.rs"]
mod merging;
#[cfg(sabotage)]
#[path = "engine/model/mod.rs"]
mod model;
#[cfg(sabotage)]
#[path = "corruption/outcome.rs"]
mod outcome;
#[cfg(sabotage)]
#[path = "engine/restarting.rs"]
mod restarting;
#[cfg(sabotage)]
#[path = "engine/retaining.rs"]
mod retaining;
#[cfg(sabotage)]
#[path = "sabotage/run.rs"]
mod run;
#[cfg(sabotage)]
#[path = "engine/support.rs"]
mod support;
#[cfg(sabotage)]
#[path = "engine/verifying.rs"]
mod verifying;

fn main() {
    list::is_complete();
    #[cfg(sabotage)]
    run::all();
    #[cfg(not(sabotage))]
    println!(
        "{} mechanisms are listed, and so is every sync; `just sabotage` leaves each out in turn",
        list::MECHANISMS.len()
    );
}
