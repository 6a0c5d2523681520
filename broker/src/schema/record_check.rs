//! What stands between a record and the log.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::validator::Validator;
use super::{FieldPath, Frame, json_text};
use crate::error::Reason;
use crate::rule::{Data, Rules, Source, Verdict};

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

    /// Whether a record that does not conform for this reason must not be stored in the product at all,
    /// also where it is only to be warned of.
    fn is_unacceptable(
        &self,
        _rejection: &Rejection,
        _key: Option<&[u8]>,
        _value: Option<&[u8]>,
    ) -> Option<Rejection> {
        None
    }
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
    /// Which rule is broken.
    pub broken: Broken,
}

/// A rule that a record can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The schema of its version.
    Schema,
    /// The key rule of the product.
    Key,
    /// That a product without compaction has no tombstones.
    Tombstone,
    /// That the schema id before a value is of the version of the request.
    Version,
    /// A rule of the product.
    Rule,
    /// That rules take no more steps than they may.
    RuleBudget,
}

impl Broken {
    /// As errors and answers say it.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::Schema => Reason::SchemaRejected,
            Self::Key => Reason::KeyMismatch,
            Self::Tombstone => Reason::TombstoneNotAllowed,
            Self::Version => Reason::SchemaVersionUnknown,
            Self::Rule => Reason::RuleFailed,
            Self::RuleBudget => Reason::RuleOverBudget,
        }
    }
}

/// What becomes of records that do not conform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// They are refused, and all of their request with them.
    Refuse,
    /// They are stored like others, and told of.
    Warn,
    /// They go to the attached product.
    Quarantine,
}

/// The checks of one schema version of one product.
#[derive(Default)]
pub(crate) struct RecordCheck<'a> {
    pub(crate) value: Option<Arc<Validator>>,
    pub(crate) key: Option<Arc<Validator>>,
    pub(crate) key_rule: Option<&'a FieldPath>,
    /// What stands before each value.
    pub(crate) frame: Option<Frame>,
    /// Whether a key without a value is refused.
    pub(crate) refuses_tombstones: bool,
    /// What values must meet beside the schema.
    pub(crate) rules: Option<&'a Rules>,
    /// Steps that rules have taken for records before.
    pub(crate) steps: AtomicU64,
}

/// A value that conforms, as rules see it.
enum Decoded {
    Json(serde_json::Value),
    /// `None`: it is too large to be decoded for rules.
    Data(Option<Data>),
}

impl Decoded {
    fn source(&self) -> Option<Source<'_>> {
        match self {
            Self::Json(value) => Some(Source::Json(value)),
            Self::Data(data) => data.as_ref().map(Source::Data),
        }
    }
}

impl RecordCheck<'_> {
    /// Whether there is nothing to check.
    pub(crate) fn is_empty(&self) -> bool {
        self.value.is_none()
            && self.key.is_none()
            && self.key_rule.is_none()
            && self.frame.is_none()
            && !self.refuses_tombstones
            && self.rules.is_none()
    }

    /// The value without what stands before it.
    fn unframed<'v>(&self, value: &'v [u8]) -> Result<&'v [u8], Rejection> {
        let Some(frame) = &self.frame else { return Ok(value) };
        let value = frame.strip(value)?;
        match self.value.as_deref() {
            Some(Validator::Protobuf(message)) => message.after_indexes(value),
            _ => Ok(value),
        }
    }

    fn check_value(&self, key: Option<&[u8]>, value: &[u8]) -> Result<(), Rejection> {
        let value = self.unframed(value)?;
        let checks_rules = self.rules.is_some();
        let Some(decoded) = self.decoded(key, value, checks_rules)? else { return Ok(()) };
        self.rules.map_or(Ok(()), |rules| rules.check(key, decoded.source(), &self.steps))
    }

    /// Checks a value without what stands before it; gives it, if it was decoded, or must be.
    fn decoded(
        &self,
        key: Option<&[u8]>,
        value: &[u8],
        must: bool,
    ) -> Result<Option<Decoded>, Rejection> {
        match self.value.as_deref() {
            Some(Validator::Avro(avro)) => {
                avro.check(value)?;
                return Ok(must.then(|| Decoded::Data(avro.data(value))));
            }
            Some(Validator::Protobuf(protobuf)) => {
                protobuf.check(value)?;
                return Ok(must.then(|| Decoded::Data(protobuf.data(value))));
            }
            Some(Validator::Json(_)) => {}
            None if self.key_rule.is_some() => {}
            None => return Ok(None),
        }
        let parsed = parse(value)?;
        if let Some(Validator::Json(validator)) = self.value.as_deref() {
            validator.check(&parsed)?;
        }
        if let Some(rule) = self.key_rule {
            rule.check(key, &parsed)?;
        }
        Ok(Some(Decoded::Json(parsed)))
    }

    /// What each rule makes of a value, with the steps it took; nothing is counted. `None`: the value
    /// does not conform.
    pub(crate) fn judge(
        &self,
        rules: &Rules,
        key: Option<&[u8]>,
        value: &[u8],
        spent: &mut u64,
    ) -> Option<Vec<(Verdict, u64)>> {
        let value = self.unframed(value).ok()?;
        let decoded = self.decoded(key, value, true).ok()??;
        let judged = rules.all().iter().map(|rule| {
            let (verdict, steps) = rule.verdict(key, decoded.source(), *spent);
            *spent += steps;
            (verdict, steps)
        });
        Some(judged.collect())
    }
}

impl RecordValidator for RecordCheck<'_> {
    fn check(&self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<(), Rejection> {
        if let Some(validator) = &self.key {
            let key = key.ok_or_else(|| Rejection {
                path: "key".to_owned(),
                expected: "a key".to_owned(),
                found: "no key".to_owned(),
                broken: Broken::Schema,
            })?;
            validator.check(key).map_err(|rejection| Rejection {
                path: format!("key{}", rejection.path),
                ..rejection
            })?;
        }
        match (key, value) {
            (_, Some(value)) => self.check_value(key, value),
            (Some(_), None) if self.refuses_tombstones => Err(Rejection {
                path: String::new(),
                expected: "a value; only a product with compaction takes a key without one"
                    .to_owned(),
                found: "a key without a value".to_owned(),
                broken: Broken::Tombstone,
            }),
            (Some(_), None) => Ok(()),
            (None, None) => Err(Rejection {
                path: String::new(),
                expected: "a value, or a key that it removes".to_owned(),
                found: "neither key nor value".to_owned(),
                broken: Broken::Schema,
            }),
        }
    }

    /// A key that is not the one in the value would hide or remove another record, and a schema id of no
    /// version can be read by nobody.
    fn is_unacceptable(
        &self,
        rejection: &Rejection,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Option<Rejection> {
        if matches!(rejection.broken, Broken::Key | Broken::Version) {
            return Some(rejection.clone());
        }
        let (rule, value) = (self.key_rule?, value?);
        match parse(self.unframed(value).unwrap_or(value)) {
            Ok(parsed) => rule.check(key, &parsed).err(),
            Err(rejection) => Some(Rejection { broken: Broken::Key, ..rejection }),
        }
    }
}

impl Validator {
    /// Whether the bytes are one value of the schema.
    ///
    /// # Errors
    /// With the first thing that is wrong.
    pub(super) fn check(&self, bytes: &[u8]) -> Result<(), Rejection> {
        match self {
            Self::Json(validator) => validator.check(&parse(bytes)?),
            Self::Avro(avro) => avro.check(bytes),
            Self::Protobuf(protobuf) => protobuf.check(bytes),
        }
    }
}

fn parse(bytes: &[u8]) -> Result<serde_json::Value, Rejection> {
    json_text::read(bytes, MAX_VALUE_DEPTH).map_err(|error| Rejection {
        path: String::new(),
        expected: "JSON".to_owned(),
        found: shown(&error.to_string()),
        broken: Broken::Schema,
    })
}

/// Text cut to what an error message can carry.
pub(crate) fn shown(text: &str) -> String {
    const MAX_CHARACTERS: usize = 119;
    match text.char_indices().nth(MAX_CHARACTERS + 1) {
        None => text.to_owned(),
        Some(_) => text.chars().take(MAX_CHARACTERS).chain(['…']).collect(),
    }
}
