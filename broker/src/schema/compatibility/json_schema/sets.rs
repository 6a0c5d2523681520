//! Schemas as sets of values: whether one holds the other, decided by the library's canonical form.

use jsonschema::canonical::{self, CanonicalSchema, Containment};
use jsonschema::{Draft, PatternOptions};
use serde_json::Value;

/// Larger texts are not given to the set operations, whose cost is not linear.
const MAX_BYTES: usize = 64 << 10;

/// What the sets say.
#[derive(Default)]
pub(super) struct Answer {
    /// `None`: unknown.
    pub(super) covers: Option<bool>,
    /// What is written and not read, as a schema.
    pub(super) lost: Option<Value>,
}

/// Whether the reader's set covers the writer's.
pub(super) fn covers(reader: &Value, writer: &Value) -> Answer {
    let (Some(r), Some(w)) = (canonicalize(reader), canonicalize(writer)) else {
        return Answer::default();
    };
    let covers = match r.covers(&w) {
        Ok(Containment::Yes) => Some(true),
        Ok(Containment::No) => Some(false),
        Ok(Containment::Unknown) | Err(_) => None,
    };
    let lost = match covers {
        Some(true) => None,
        _ => w.subtract(&r).ok().map(|lost| lost.to_json_schema()),
    };
    Answer { covers, lost }
}

fn canonicalize(schema: &Value) -> Option<CanonicalSchema> {
    if schema.to_string().len() > MAX_BYTES {
        return None;
    }
    canonical::options()
        .offline()
        .with_draft(Draft::Draft202012)
        .should_validate_formats(true)
        .with_pattern_options(PatternOptions::regex())
        .canonicalize(schema)
        .ok()
}
