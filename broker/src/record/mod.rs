//! Records: append, read, subscribe.
//!
//! ```text
//! append:    request ─ resolve product ─ room (bytes) ─ walk + validate + cut ─► storage entry ─► ack
//! read:      cursors (one per partition) ─ fair fill ─► stored batches, the bytes as appended
//! subscribe: the same cursors, and a wake-up from the committing thread when they reach the end
//! ```

mod ahead;
mod append;
mod append_stream;
mod batch;
mod cursor;
pub mod envelope;
pub mod limits;
mod offsets;
mod partitioner;
mod quarantine;
mod read;
mod redrive;
mod split;
mod stored;
mod subscribe;
mod waiting;
mod wakeup;
mod wire;

pub(crate) use ahead::AheadRoom;
pub(crate) use append::unknown_partition;
pub use append_stream::{AppendOutcome, AppendStream};
pub use batch::{
    BatchError, Fault, RecordBatchCodec, RecordView, Records, records, stored_records,
};
pub(crate) use cursor::{
    bounds_of, explain, no_answer, offset_at_time, out_of_range, partitions_of,
};
pub use partitioner::{murmur2, partition_of};
pub(crate) use stored::Stored;
pub use subscribe::Subscription;
pub(crate) use waiting::Waiting;
pub(crate) use wakeup::Wakeups;
