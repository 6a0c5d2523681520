//! The log engine of Meshlog: many streams of opaque batches in one journal.
//!
//! Synchronous; knows no async runtime, no wire format and no products. [`Storage`] is the
//! handle. How it works and what an acknowledgement means stands in the module `journal`; how it
//! looks on disk in [`format_description`].

#![cfg_attr(test, allow(clippy::expect_used, reason = "tests fail by panicking"))]

mod admission;
mod backup;
mod checkpoint;
mod compaction;
pub mod disk;
mod durations;
mod engine;
mod entry;
mod error;
mod files;
mod format;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod journal;
mod keeper;
mod merge;
mod options;
mod position;
mod producers;
mod read;
mod recovery;
mod retention;
mod sabotage;
mod salvage;
mod state;
mod storage;
mod stream;
mod verify;

#[doc = include_str!("../FORMAT.md")]
pub mod format_description {}

pub use admission::Permit;
pub use backup::{
    BackupFile, BackupFolder, BackupManifest, BackupPins, BackupPoint, BackupReader, BackupWriter,
    MANIFEST_NAME, ReadBack, Restore, StoredBackupFile,
};
pub use durations::{DURATION_BOUNDS, DurationCounts, Durations};
pub use entry::{
    Appended, AppendedRange, Batch, Control, Durability, Entry, ProducerStamp, StoredBatch,
};
pub use error::{Applied, Error, ErrorKind, Result};
pub use format::FORMAT_VERSION;
pub use merge::Erased;
pub use options::{BatchCodec, Components, NoObserver, Observer, Options, RecordKey};
pub use position::{FileSequence, Lsn, Offset, StreamId, Timestamp};
pub use read::{Bounds, ReadHint, ReadRequest, ReadSlice};
pub use retention::{Compaction, Explanation, Holder, Limit, LimitState, Policy, Waiting};
#[cfg(sabotage)]
pub use sabotage::leave_out;
pub use salvage::{Salvage, SalvagedStream, recover};
pub use storage::{Health, Stats, Storage};
pub use verify::{
    CheckedFile, FileKind, Problem, Standing, VerifyProgress, VerifyReport, standing, verify,
};
