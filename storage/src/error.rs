//! One error type; its kind says what the caller can do.

use std::error::Error as StdError;
use std::fmt;

use crate::position::{FileKey, Offset, StreamId};

/// Whether a failed append may nevertheless be in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is not, and never will be.
    No,
    /// It may appear after a restart, once or not at all.
    Unknown,
}

/// What went wrong, by what the caller can do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// No such stream; it was never created or is deleted.
    UnknownStream(StreamId),
    /// Ask for an offset within these bounds.
    OffsetOutOfRange {
        /// First readable offset.
        start: Offset,
        /// One past the last durable record.
        durable_end: Offset,
    },
    /// Somebody else appended first.
    OffsetMismatch {
        /// The stream.
        stream: StreamId,
        /// The offset the next record will get.
        next_offset: Offset,
    },
    /// This producer is not known (any more): start a new epoch with sequence 0.
    ProducerUnknown {
        /// The lowest epoch in which it may begin.
        epoch: u32,
    },
    /// An earlier sequence is missing: send it first.
    SequenceGap {
        /// The sequence that may come next.
        expected: u64,
    },
    /// The outcome of this old sequence is no longer known.
    SequenceTooOld,
    /// A producer with a higher epoch took over: stop.
    ProducerFenced {
        /// The epoch in force.
        epoch: u32,
    },
    /// The entry is larger than the journal can hold: send less at once.
    TooLarge,
    /// Free some space; appends resume by themselves.
    DiskFull,
    /// A write or sync failed; appends are refused until the directory is opened again.
    JournalFailed,
    /// Stored bytes are damaged; reading may go on at `next_readable`.
    Corrupt {
        /// The next offset that can be read.
        next_readable: Offset,
    },
    /// Another process has the directory open.
    Locked,
    /// The directory was written by an incompatible version, or is not ours.
    Format,
    /// The operating system refused a call outside the journal's write path.
    Io,
    /// The storage is closed.
    Closed,
}

/// What went wrong, where, and what to do next.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    applied: Applied,
    source: Option<std::sync::Arc<std::io::Error>>,
}

/// The result of a storage call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error after which nothing was applied.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), applied: Applied::No, source: None }
    }

    /// The storage is closed.
    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the storage is closed; open it again")
    }

    /// Appends wait for space.
    pub(crate) fn disk_full(source: std::io::Error) -> Self {
        let message = if lacks_space(&source) {
            "the disk is full: free some space, delete or trim what is no longer needed; appends \
             resume by themselves"
        } else {
            "no journal file can be made ready; appends resume by themselves once one can"
        };
        Self::new(ErrorKind::DiskFull, message).caused_by(source)
    }

    /// The stream was never created or is deleted.
    pub(crate) fn unknown_stream(stream: StreamId) -> Self {
        let message = format!("stream {stream} does not exist or was deleted");
        Self::new(ErrorKind::UnknownStream(stream), message)
    }

    /// A file that should be there is not.
    pub(crate) fn missing_file(key: FileKey) -> Self {
        let kind = ErrorKind::Corrupt { next_readable: Offset(0) };
        Self::new(kind, format!("{key} is missing"))
    }

    /// The same error with the operating system's own words kept as its source.
    #[must_use]
    pub fn caused_by(mut self, source: std::io::Error) -> Self {
        self.source = Some(std::sync::Arc::new(source));
        self
    }

    /// The same error for an append that may be in the log.
    #[must_use]
    pub fn with_applied(mut self, applied: Applied) -> Self {
        self.applied = applied;
        self
    }

    /// What the caller can do.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// The operating system's own words.
    pub(crate) fn source_error(&self) -> Option<std::io::Error> {
        let source = self.source.as_ref()?;
        Some(std::io::Error::new(source.kind(), source.to_string()))
    }

    /// True if the operating system said that there is no space.
    pub(crate) fn is_lack_of_space(&self) -> bool {
        self.source.as_ref().is_some_and(|error| lacks_space(error))
    }

    /// For an append: whether it may be in the log all the same.
    #[must_use]
    pub fn applied(&self) -> Applied {
        self.applied
    }
}

/// True if there is no space, on the disk or in the quota.
pub(crate) fn lacks_space(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// True if something is short that comes back by itself: space, open files, memory.
pub(crate) fn is_passing(error: &std::io::Error) -> bool {
    const OPEN_FILES: [i32; 2] = [23, 24];
    let passes = [std::io::ErrorKind::OutOfMemory, std::io::ErrorKind::Interrupted];
    lacks_space(error)
        || passes.contains(&error.kind())
        || error.raw_os_error().is_some_and(|number| OPEN_FILES.contains(&number))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn StdError + 'static))
    }
}
