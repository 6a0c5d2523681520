//! How much one comparison may cost.

use std::fmt;

/// Pairs of subschemas that one comparison may look at. Ten thousand fields against ten thousand
/// take some tens of thousands; what needs more is a product of unions that nobody reads.
const STEPS: u64 = 1_000_000;

/// Deepest nesting that is followed, through references too.
const MAX_DEPTH: usize = 256;

/// The comparison was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooComplex;

impl fmt::Display for TooComplex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the two schemas cannot be compared within bounds ({STEPS} pairs of subschemas, {MAX_DEPTH} \
             levels): use smaller unions and flatter types, or a successor product"
        )
    }
}

/// What is left.
#[derive(Debug)]
pub(super) struct Budget {
    steps: u64,
    depth: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { steps: STEPS, depth: 0 }
    }
}

impl Budget {
    /// One pair more, one level deeper; [`Budget::leave`] comes up again.
    pub(super) fn enter(&mut self) -> Result<(), TooComplex> {
        self.spend(1)?;
        if self.depth >= MAX_DEPTH {
            return Err(TooComplex);
        }
        self.depth += 1;
        Ok(())
    }

    /// Comes up one level.
    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    /// Some steps at the same level.
    pub(super) fn spend(&mut self, steps: usize) -> Result<(), TooComplex> {
        self.steps = self.steps.checked_sub(steps as u64).ok_or(TooComplex)?;
        Ok(())
    }
}
