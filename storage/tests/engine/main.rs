//! The engine through its handle: what a caller may rely on.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a failing run names its seed")]

mod appending;
mod bounds;
mod compacting;
mod erasing;
mod fixtures;
mod merging;
mod model;
mod reading;
mod real;
mod restarting;
mod retaining;
mod support;
mod verifying;
