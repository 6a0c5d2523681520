//! The engine through its handle: what a caller may rely on.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a failing run names its seed")]

mod answering;
mod appending;
mod backing_up;
mod bounds;
mod compacting;
mod erasing;
mod filling;
mod fixtures;
mod merging;
mod model;
mod producing;
mod reading;
mod real;
mod recovering;
mod restarting;
mod retaining;
mod starting;
mod support;
mod verifying;
