//! How the journal looks on disk; described in `FORMAT.md`.

mod checkpoint;
mod control;
mod copies;
mod directory;
mod file_header;
mod footer;
mod frame;
mod group;
mod policy;
mod segment_header;
mod source;

#[cfg(test)]
mod golden;

pub(crate) use checkpoint::{
    Checkpoint, FileRecord, ProducerRecord, QuarantineRecord, RecentRecord, SegmentRecord,
    StreamRecord,
};
pub(crate) use control::{ControlRecord, MergedRecord};
pub use directory::FORMAT_VERSION;
pub(crate) use directory::{DirectoryFormat, FORMAT_FILE, FORMAT_VERSION_MIN};
pub(crate) use file_header::{FILE_HEADER_BYTES, FileHeader, PreviousFile};
pub(crate) use footer::{Footer, FooterStream, RUN_SPAN, Run};
pub(crate) use frame::{FRAME_BYTES, Frame, FrameKind, StreamEnd, Table};
pub(crate) use group::{GROUP_HEADER_BYTES, GroupHeader, Salted, round_up};
pub(crate) use segment_header::{SEGMENT_HEADER_BYTES, SegmentHeader};
pub(crate) use source::Malformed;
