//! Where decoding a value ended, told from the inside outwards.
//!
//! Nothing of it exists while values conform: the path is put together on the way back out.

use std::fmt::Display;

use super::record_check::{Broken, Rejection, shown};

/// What is wrong with a value.
#[derive(Debug)]
pub(super) struct Fault {
    expected: String,
    found: String,
    /// Innermost first.
    path: Vec<String>,
}

/// The outcome of decoding a part of a value.
pub(super) type Step<T = ()> = Result<T, Box<Fault>>;

impl Fault {
    #[cold]
    pub(super) fn new(expected: impl Into<String>, found: impl Into<String>) -> Box<Self> {
        Box::new(Self { expected: expected.into(), found: found.into(), path: Vec::new() })
    }

    /// The same, seen from one level further out.
    #[cold]
    pub(super) fn inside(mut self: Box<Self>, place: impl Display) -> Box<Self> {
        self.path.push(place.to_string());
        self
    }

    /// As the answer about a record.
    pub(super) fn into_rejection(self) -> Rejection {
        let path = self.path.iter().rev();
        let path = path.map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1")));
        Rejection {
            path: path.collect(),
            expected: shown(&self.expected),
            found: shown(&self.found),
            broken: Broken::Schema,
        }
    }
}
