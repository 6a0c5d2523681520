//! Positions are types: none can be passed for another.

use std::fmt;

macro_rules! position {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

position!(
    /// One ordered log. Never used again after its stream is deleted.
    StreamId
);
position!(
    /// The place of one record in its stream. Dense at append; ranges are half-open.
    Offset
);
position!(
    /// The number of a group in the journal. Rises by one, never reused for other bytes.
    Lsn
);
position!(
    /// The number of a journal file in the order of writing, whatever slot it lives in.
    FileSequence
);

impl Offset {
    /// The offset `count` records later.
    #[must_use]
    pub fn plus(self, count: u32) -> Self {
        Self(self.0 + u64::from(count))
    }
}

impl Lsn {
    /// The number of the next group.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl FileSequence {
    /// The number of the next file.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Which file of records, in the order of searching: for every stream, a file with a higher key
/// holds later offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileKey {
    /// The journal file whose place it has: itself, or the last one whose records it holds.
    pub(crate) rank: FileSequence,
    /// The merge that wrote it; 0 for a journal file.
    pub(crate) merge: u64,
    /// Counts the outputs of a merge.
    pub(crate) part: u32,
}

impl FileKey {
    /// The key of a journal file.
    pub(crate) fn journal(rank: FileSequence) -> Self {
        Self { rank, merge: 0, part: 0 }
    }
}

impl fmt::Display for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.merge {
            0 => write!(f, "journal file {}", self.rank),
            merge => write!(f, "segment {merge}-{}", self.part),
        }
    }
}

/// Nanoseconds since 1970 UTC, as the broker's clock tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);
