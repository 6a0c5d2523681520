//! What stands between a record and the log.

use std::sync::Arc;

use super::json_schema::JsonValidator;
use super::{FieldPath, json_text};

/// Deepest nesting of a value that is checked.
pub(super) const MAX_VALUE_DEPTH: usize = 64;

/// Checks records against the schemas of one version of a product. Called for each record on the
/// append path; never blocks, and never panics whatever the bytes.
pub trait RecordValidator: Send + Sync {
    /// Whether the record conforms.
    ///
    /// A key without a value is a tombstone: its key is checked. A record with neither is refused.
    ///
    /// # Errors
    /// With the first thing that is wrong.
    fn check(&self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<(), Rejection>;
}

/// Why a record was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// JSON pointer into the value; `key`, or `key` and a pointer, for the key.
    pub path: String,
    /// What would have conformed.
    pub expected: String,
    /// What was there instead, at most 120 characters.
    pub found: String,
    /// Whether it is the key rule of the product that is broken.
    pub key_mismatch: bool,
}

/// The checks of one schema version of one product.
pub(crate) struct RecordCheck {
    pub(crate) value: Option<Arc<JsonValidator>>,
    pub(crate) key: Option<Arc<JsonValidator>>,
    pub(crate) key_rule: Option<FieldPath>,
}

impl RecordCheck {
    /// Whether there is nothing to check.
    pub(crate) fn is_empty(&self) -> bool {
        self.value.is_none() && self.key.is_none() && self.key_rule.is_none()
    }
}

impl RecordValidator for RecordCheck {
    fn check(&self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<(), Rejection> {
        if let Some(validator) = &self.key {
            let in_key = |rejection: Rejection| Rejection {
                path: format!("key{}", rejection.path),
                ..rejection
            };
            let key = key.ok_or_else(|| Rejection {
                path: "key".to_owned(),
                expected: "a key".to_owned(),
                found: "no key".to_owned(),
                key_mismatch: false,
            })?;
            let key = parse(key).map_err(in_key)?;
            validator.check(&key).map_err(in_key)?;
        }
        let Some(value) = value else {
            return match key {
                Some(_) => Ok(()),
                None => Err(Rejection {
                    path: String::new(),
                    expected: "a value, or a key that it removes".to_owned(),
                    found: "neither key nor value".to_owned(),
                    key_mismatch: false,
                }),
            };
        };
        if self.value.is_none() && self.key_rule.is_none() {
            return Ok(());
        }
        let parsed = parse(value)?;
        if let Some(validator) = &self.value {
            validator.check(&parsed)?;
        }
        self.key_rule.as_ref().map_or(Ok(()), |rule| rule.check(key, &parsed))
    }
}

fn parse(bytes: &[u8]) -> Result<serde_json::Value, Rejection> {
    json_text::read(bytes, MAX_VALUE_DEPTH).map_err(|error| Rejection {
        path: String::new(),
        expected: "JSON".to_owned(),
        found: shown(&error.to_string()),
        key_mismatch: false,
    })
}

/// Text cut to what an error message can carry.
pub(super) fn shown(text: &str) -> String {
    const MAX_CHARACTERS: usize = 119;
    match text.char_indices().nth(MAX_CHARACTERS + 1) {
        None => text.to_owned(),
        Some(_) => text.chars().take(MAX_CHARACTERS).chain(['…']).collect(),
    }
}
