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

/// Nanoseconds since 1970 UTC, as the broker's clock tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);
