//! Why a schema cannot be used.

use std::fmt;

use crate::error::{Error, Reason};

/// What is wrong with a schema, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// `line 3 column 7`, or a JSON pointer such as `/properties/id`; empty: the whole text.
    pub at: String,
    /// One sentence without a full stop.
    pub what: String,
}

impl Malformed {
    pub(crate) fn new(at: impl Into<String>, what: impl Into<String>) -> Self {
        Self { at: at.into(), what: what.into() }
    }

    pub(crate) fn whole(what: impl Into<String>) -> Self {
        Self::new("", what)
    }

    /// As the answer to a request in whose `field` the schema stood.
    #[must_use]
    pub fn in_field(self, field: &'static str) -> Error {
        Error::new(Reason::SchemaMalformed, format!("{field}: {self}"))
            .with("field", field)
            .with("at", &self.at)
            .with_violation(field, self.to_string())
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at.as_str() {
            "" => f.write_str(&self.what),
            at => write!(f, "at {at}: {}", self.what),
        }
    }
}
