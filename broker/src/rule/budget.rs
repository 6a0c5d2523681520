//! Steps that an evaluation may still take.

use std::borrow::Cow;

/// Why an evaluation ended without a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It took too many steps.
    OverBudget,
    /// It has no value, for instance because a field is not there.
    Fault(Cow<'static, str>),
}

impl Stop {
    pub(super) fn fault(what: impl Into<Cow<'static, str>>) -> Self {
        Self::Fault(what.into())
    }
}

/// Steps that are left.
#[derive(Debug)]
pub(crate) struct Budget {
    most: u64,
    left: u64,
}

impl Budget {
    pub(super) fn of(most: u64) -> Self {
        Self { most, left: most }
    }

    /// Takes steps, before the work is done that they stand for.
    pub(super) fn spend(&mut self, steps: usize) -> Result<(), Stop> {
        let left = self.left.checked_sub(steps as u64);
        self.left = left.unwrap_or_default();
        left.map(drop).ok_or(Stop::OverBudget)
    }

    /// Steps for work on so many bytes.
    pub(super) fn spend_bytes(&mut self, bytes: usize) -> Result<(), Stop> {
        self.spend(1 + bytes / 16)
    }

    /// Steps taken so far.
    pub(super) fn spent(&self) -> u64 {
        self.most - self.left
    }
}
