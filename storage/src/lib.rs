//! The log engine of Meshlog: many streams of opaque batches in one journal.
//!
//! Synchronous; knows no async runtime, no wire format and no products.

mod admission;
mod entry;
mod error;
mod options;
mod position;
mod storage;

pub use admission::Permit;
pub use entry::{
    Appended, AppendedRange, Batch, Control, Durability, Entry, ProducerStamp, StoredBatch,
};
pub use error::{Applied, Error, ErrorKind, Result};
pub use options::{BatchCodec, Components, NoObserver, Observer, Options};
pub use position::{FileSequence, Lsn, Offset, StreamId, Timestamp};
pub use storage::{Bounds, Health, ReadHint, ReadRequest, ReadSlice, Stats, Storage};
