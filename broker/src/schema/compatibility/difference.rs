//! One thing that is not the same on both sides, and what it means for a reader.

use std::fmt;

/// How much a difference counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Values exist that the reader cannot read.
    Breaking,
    /// Nobody could prove that the reader reads every value, nor that it does not; counts as breaking.
    Unproven,
    /// The reader reads every value, but may take it for something else. Refuses nothing.
    Warning,
}

/// One difference between what a reader expects and what a writer writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// As in the field table: names joined by dots, `[]` for items; empty: the whole value.
    pub path: String,
    /// The rule that it touches, for instance `AVRO_READER_FIELD_MISSING_DEFAULT`.
    pub rule: &'static str,
    /// What the reader's schema says there.
    pub reader: String,
    /// What the writer's schema says there.
    pub writer: String,
    /// What to do about it.
    pub hint: String,
    /// How much it counts.
    pub weight: Weight,
}

/// What came of asking whether one schema reads what another one wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// In the order of the reader's schema; at most [`MAX_DIFFERENCES`].
    pub differences: Vec<Difference>,
    /// How many more there are.
    pub omitted: usize,
    /// A value, as JSON, that the writer writes and the reader refuses: checked on both sides.
    pub counterexample: Option<String>,
}

/// Most differences of one comparison that are told; people read the first ones.
pub const MAX_DIFFERENCES: usize = 100;

/// Longest text of one side of a difference.
const MAX_SIDE: usize = 200;

impl Comparison {
    /// Whether every value that the writer writes is known to be readable.
    #[must_use]
    pub fn is_compatible(&self) -> bool {
        self.differences.iter().all(|one| one.weight == Weight::Warning)
    }

    /// Whether some value is known not to be readable.
    #[must_use]
    pub fn is_breaking(&self) -> bool {
        self.differences.iter().any(|one| one.weight == Weight::Breaking)
    }

    /// Adds one, or counts it.
    pub(super) fn push(&mut self, difference: Difference) {
        // What refuses must not be crowded out by what only warns.
        if self.differences.len() >= MAX_DIFFERENCES {
            self.omitted += 1;
            if difference.weight != Weight::Warning
                && let Some(last) =
                    self.differences.iter_mut().rfind(|one| one.weight == Weight::Warning)
            {
                *last = difference;
            }
            return;
        }
        if !self.differences.contains(&difference) {
            self.differences.push(difference);
        }
    }
}

impl Difference {
    /// A difference that breaks; the sides are cut to what people read.
    pub(super) fn breaking(
        path: &str,
        rule: &'static str,
        reader: impl fmt::Display,
        writer: impl fmt::Display,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            path: path.to_owned(),
            rule,
            reader: cut(&reader.to_string()),
            writer: cut(&writer.to_string()),
            hint: hint.into(),
            weight: Weight::Breaking,
        }
    }

    /// The same with another weight.
    pub(super) fn weighing(self, weight: Weight) -> Self {
        Self { weight, ..self }
    }
}

/// Text cut to what one side of a difference shows.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_SIDE) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}
