//! The field of a JSON value that is the record key.

use serde_json::Value;

use super::record_check::{Broken, Rejection, shown};

/// A path of object members, written with dots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldPath {
    names: Vec<Box<str>>,
}

impl FieldPath {
    /// From its text; names themselves hold no dots.
    pub(crate) fn new(text: &str) -> Self {
        Self { names: text.split('.').map(Box::from).collect() }
    }

    /// The names, outermost first.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }

    /// The record key must be the text of this field.
    pub(super) fn check(&self, key: Option<&[u8]>, value: &Value) -> Result<(), Rejection> {
        let found = self.names().try_fold(value, |at, name| at.get(name));
        let text = match found {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) if !number.is_f64() => number.to_string(),
            other => {
                return Err(Rejection {
                    path: self.pointer(),
                    expected: "a string or an integer, which is the record key".to_owned(),
                    found: other.map_or_else(|| "nothing".to_owned(), |v| shown(&v.to_string())),
                    broken: Broken::Key,
                });
            }
        };
        match key {
            Some(key) if key == text.as_bytes() => Ok(()),
            key => Err(Rejection {
                path: self.pointer(),
                expected: format!("the record key {}", shown(&text)),
                found: key.map_or_else(
                    || "no key".to_owned(),
                    |key| format!("the key {}", shown(&String::from_utf8_lossy(key))),
                ),
                broken: Broken::Key,
            }),
        }
    }

    fn pointer(&self) -> String {
        self.names()
            .map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1")))
            .collect()
    }
}
