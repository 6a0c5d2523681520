//! JSON Schema: whether every value that conforms to one schema conforms to another.
//!
//! ```text
//!            ┌─ walk: where do the texts differ, keyword by keyword? nothing ──► compatible
//! writer ──► │                     │ something
//! reader ──► ├─ sets: does the reader's set cover the writer's? ── yes ────────► compatible
//!            │                     │ no, or unknown
//!            └─ witness: a value of the writer that the reader refuses ─ found ─► breaking, shown
//!                                                        none, unknown ─────────► not proven
//! ```
//!
//! The walk is cheap and knows places; the sets are exact where they answer. What is told are the
//! places of the walk; whether they break is decided by the sets and by the witness, which is checked
//! with the validators of both sides before anybody sees it.
//!
//! Where the broker checks values on write it refuses undeclared properties, so the writer's schema is
//! closed whatever its text says ([`JsonSchema::written`]): an optional property can be added and
//! removed in both directions.

mod lift;
mod sets;
mod walk;
mod witness;

use super::budget::TooComplex;
use super::difference::{Comparison, Difference, Weight};
use crate::schema::json_schema::JsonSchema;
use serde_json::Value;

/// Whether the schema `reader` accepts every value that conforms to the schema `writer`.
pub(super) fn compare(
    reader: &str,
    writer: &str,
    writes_are_checked: bool,
) -> Result<Comparison, TooComplex> {
    let (Ok(reader), Ok(writer)) = (JsonSchema::parse(reader), JsonSchema::parse(writer)) else {
        return Ok(super::unreadable());
    };
    let written = match writes_are_checked {
        true => writer.written(),
        false => writer.document().clone(),
    };
    let r = lift::lift(reader.document().clone(), reader.draft());
    let w = lift::lift(written, writer.draft());
    let mut found = walk::walk(&r, &w)?;
    if found.is_compatible() {
        return Ok(found);
    }
    let answer = sets::covers(&r, &w);
    if answer.covers == Some(true) {
        found.differences.retain(|one| one.weight == Weight::Warning);
        return Ok(found);
    }
    found.counterexample =
        counterexample(&reader, writer, writes_are_checked, (&r, &w), answer.lost.as_ref());
    let weight = match (answer.covers, &found.counterexample) {
        (Some(false), _) | (_, Some(_)) => Weight::Breaking,
        _ => Weight::Unproven,
    };
    for difference in &mut found.differences {
        if difference.weight != Weight::Warning {
            difference.weight = weight;
        }
    }
    Ok(found)
}

/// A value that the writer may write and the reader refuses, checked with the validators of both.
fn counterexample(
    reader: &JsonSchema,
    writer: JsonSchema,
    writes_are_checked: bool,
    (r, w): (&Value, &Value),
    lost: Option<&Value>,
) -> Option<String> {
    let reads = reader.compile().ok()?;
    let compiled = writer.compile().ok()?;
    let checked = writer.validator().ok()?;
    let is_written = |value: &Value| match writes_are_checked {
        true => checked.conforms(value),
        false => compiled.is_valid(value),
    };
    let mut candidates = lost.map(witness::values).unwrap_or_default();
    candidates.extend(witness::values(w));
    candidates.extend(witness::values_against(w, r));
    let fits = |value: &&Value| !reads.is_valid(value) && is_written(value);
    candidates.iter().filter(fits).map(Value::to_string).min_by_key(String::len)
}

/// A difference whose weight is decided when everything is known.
fn candidate(
    path: &str,
    rule: &'static str,
    reader: impl std::fmt::Display,
    writer: impl std::fmt::Display,
    hint: impl Into<String>,
) -> Difference {
    Difference::breaking(path, rule, reader, writer, hint)
}
