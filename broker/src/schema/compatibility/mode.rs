//! Which pairs of versions must be able to read each other.

use meshlog_proto::v1::Compatibility;

/// What a product promises to those who read and write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    None,
    /// The new schema reads what the last version wrote.
    Backward,
    /// The new schema reads what every version wrote.
    BackwardTransitive,
    /// The last version reads what is written with the new schema.
    Forward,
    /// Every version reads what is written with the new schema.
    ForwardTransitive,
    /// Both, with the last version.
    Full,
    /// Both, with every version.
    FullTransitive,
    /// The new schema reads every record that is still in the log, and what every live reader reads.
    Retained,
}

/// Who reads whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The new schema reads what an existing version wrote.
    Backward,
    /// An existing version reads what the new schema writes.
    Forward,
}

impl Mode {
    /// As it stands in settings; `None` for a value that is not set or not known.
    #[must_use]
    pub fn of(compatibility: Compatibility) -> Option<Self> {
        Some(match compatibility {
            Compatibility::Unspecified => return None,
            Compatibility::None => Self::None,
            Compatibility::Backward => Self::Backward,
            Compatibility::BackwardTransitive => Self::BackwardTransitive,
            Compatibility::Forward => Self::Forward,
            Compatibility::ForwardTransitive => Self::ForwardTransitive,
            Compatibility::Full => Self::Full,
            Compatibility::FullTransitive => Self::FullTransitive,
            Compatibility::Retained => Self::Retained,
        })
    }

    /// As it stands in settings.
    #[must_use]
    pub fn setting(self) -> Compatibility {
        match self {
            Self::None => Compatibility::None,
            Self::Backward => Compatibility::Backward,
            Self::BackwardTransitive => Compatibility::BackwardTransitive,
            Self::Forward => Compatibility::Forward,
            Self::ForwardTransitive => Compatibility::ForwardTransitive,
            Self::Full => Compatibility::Full,
            Self::FullTransitive => Compatibility::FullTransitive,
            Self::Retained => Compatibility::Retained,
        }
    }

    /// Who must read whom.
    #[must_use]
    pub fn directions(self) -> &'static [Direction] {
        match self {
            Self::None => &[],
            Self::Backward | Self::BackwardTransitive | Self::Retained => &[Direction::Backward],
            Self::Forward | Self::ForwardTransitive => &[Direction::Forward],
            Self::Full | Self::FullTransitive => &[Direction::Backward, Direction::Forward],
        }
    }

    /// Whether it looks at every version and not only at the last one.
    #[must_use]
    pub fn is_transitive(self) -> bool {
        matches!(
            self,
            Self::BackwardTransitive
                | Self::ForwardTransitive
                | Self::FullTransitive
                | Self::Retained
        )
    }
}
