//! The binary as its users meet it: arguments, standard streams, signals and exit codes.

#![allow(missing_docs, unreachable_pub, reason = "nobody uses a test binary as a library")]
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod access;
mod answers;
mod apply;
mod audit;
mod backup;
mod bad_input;
mod bench;
mod catalogue;
mod completion;
mod consume;
mod contexts;
mod cursors;
mod documents;
mod flights;
mod harness;
mod keys;
mod lineage;
mod man;
mod newcomer;
mod policy;
mod produce;
mod quickstart;
mod recover;
mod retention;
mod round_trip;
mod rule;
mod secrets;
mod serve;
mod settings;
mod snapshots;
mod terminal;
mod verify;
mod watch;
