//! What a change changes, member by member, as updates and `--dry-run` show it:
//!
//! ```text
//! ~ description: "Flights" → "Flights from New York City"
//! + tags: region=nyc
//! - contacts: #ops
//! ```

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    exit::Result,
    output::{self, Format, Out, Paint},
};

/// For commands that make something new.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct DryRunArgs {
    /// Check everything and show what would change, but change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// For commands that change what is there.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ChangeArgs {
    /// Check everything and show what would change, but change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Change it only if it still has this etag [default: the one it had when this command read it]
    #[arg(long, value_name = "ETAG")]
    pub(crate) etag: Option<String>,
}

impl ChangeArgs {
    /// The etag to send: the one asked for, or the one that was read.
    pub(crate) fn etag(&self, read: &str) -> String {
        self.etag.clone().unwrap_or_else(|| read.to_owned())
    }
}

/// A change that was made, or with `dry_run` one that would be.
pub(crate) struct Change<'a, T> {
    /// Nothing was changed.
    pub(crate) dry_run: bool,
    /// As it was; absent: it did not exist.
    pub(crate) before: Option<&'a T>,
    /// As it is, or would be; absent: it is gone.
    pub(crate) after: Option<&'a T>,
}

impl<T: Serialize> Change<'_, T> {
    /// Shows the change: to people the members that differ, to programs the thing as it is then.
    pub(crate) fn show(&self, format: Format, out: &mut Out) -> Result<()> {
        if !format.is_for_people() {
            if let Some(after) = self.after {
                out.one(format, after)?;
            }
        } else {
            let lines = self.lines()?;
            if lines.is_empty() {
                out.note("nothing is different");
            }
            for line in lines {
                out.paint(line.paint(), &line.to_string())?;
            }
        }
        self.remind(out);
        Ok(())
    }

    /// Says that nothing happened, if nothing did.
    pub(crate) fn remind(&self, out: &mut Out) {
        if self.dry_run {
            out.note("dry run: nothing was changed");
        }
    }

    fn lines(&self) -> Result<Vec<Line>> {
        lines(self.before, self.after)
    }
}

/// What is different between two states of a thing, member by member.
pub(crate) fn lines<T: Serialize>(before: Option<&T>, after: Option<&T>) -> Result<Vec<Line>> {
    let members = |thing: Option<&T>| -> Result<Map<String, Value>> {
        Ok(match thing.map(output::value).transpose()? {
            Some(Value::Object(members)) => members,
            _ => Map::new(),
        })
    };
    let mut lines = Vec::new();
    compare("", &members(before)?, &members(after)?, &mut lines);
    Ok(lines)
}

impl Out {
    /// What was created; with `dry_run`, what would be.
    pub(crate) fn created<T: Serialize>(
        &mut self,
        format: Format,
        dry_run: bool,
        thing: &T,
    ) -> Result<()> {
        if dry_run {
            return Change { dry_run, before: None, after: Some(thing) }.show(format, self);
        }
        self.one(format, thing)
    }
}

/// Members that change with every change, or follow from others.
const FOLLOWING: [&str; 11] = [
    "id",
    "etag",
    "create_time",
    "created_by",
    "update_time",
    "updated_by",
    "effective_tags",
    "missing",
    "use",
    "request_time",
    "requested_by",
];

/// Longest text in a line, in characters.
const TEXT_WIDTH: usize = 80;

/// One difference.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Where, and what.
    Added(String, String),
    /// Where, and what.
    Removed(String, String),
    /// Where, what it was, and what it is.
    Changed(String, String, String),
}

impl Line {
    /// Its colour.
    pub(crate) fn paint(&self) -> Paint {
        match self {
            Self::Added(..) => Paint::Green,
            Self::Removed(..) => Paint::Red,
            Self::Changed(..) => Paint::Yellow,
        }
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Added(path, value) => write!(f, "+ {path}: {value}"),
            Self::Removed(path, value) => write!(f, "- {path}: {value}"),
            Self::Changed(path, before, after) => write!(f, "~ {path}: {before} → {after}"),
        }
    }
}

fn compare(
    prefix: &str,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
    lines: &mut Vec<Line>,
) {
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    for name in after.keys().chain(gone).filter(|name| !FOLLOWING.contains(&name.as_str())) {
        let path = format!("{prefix}{}", name.replace('_', " "));
        let (was, is) = (before.get(name), after.get(name));
        let (was, is) = (was.unwrap_or(&Value::Null), is.unwrap_or(&Value::Null));
        if was == is || (output::is_empty(was) && output::is_empty(is)) {
            continue;
        }
        match (was, is) {
            (Value::Object(_) | Value::Null, Value::Object(_) | Value::Null) => {
                let members = |thing: &Value| thing.as_object().cloned().unwrap_or_default();
                compare(&format!("{path} "), &members(was), &members(is), lines);
            }
            (Value::Array(_) | Value::Null, Value::Array(_) | Value::Null) => {
                let items = |list: &Value| list.as_array().cloned().unwrap_or_default();
                let (was, is) = (items(was), items(is));
                let mut left = is.iter().filter(|item| !was.contains(item)).peekable();
                if left.peek().is_none() && was.iter().all(|item| is.contains(item)) {
                    lines.push(Line::Changed(path, "one order".into(), "another order".into()));
                    continue;
                }
                for item in was.iter().filter(|item| !is.contains(item)) {
                    lines.push(Line::Removed(path.clone(), cut(&output::plain(item))));
                }
                left.for_each(|item| {
                    lines.push(Line::Added(path.clone(), cut(&output::plain(item))));
                });
            }
            (was, is) if output::is_empty(was) => lines.push(Line::Added(path, text(is))),
            (was, is) if output::is_empty(is) => lines.push(Line::Removed(path, text(was))),
            (was, is) => lines.push(Line::Changed(path, text(was), text(is))),
        }
    }
}

/// A text in quotes, anything else plain.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) if text.contains(char::is_whitespace) => cut(&format!("{text:?}")),
        other => cut(&output::plain(other)),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT_WIDTH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lines(before: Value, after: Value) -> Vec<String> {
        let change = Change { dry_run: false, before: Some(&before), after: Some(&after) };
        change.lines().unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_member_that_differs_has_a_line_that_says_how() {
        assert_eq!(
            lines(
                json!({"etag": "1", "description": "a b", "docs": "", "support": "#x", "tags": ["a", "b"]}),
                json!({"etag": "2", "description": "c d", "docs": "d", "support": null, "tags": ["b", "c=1"]}),
            ),
            [
                "~ description: \"a b\" → \"c d\"",
                "+ docs: d",
                "- support: #x",
                "- tags: a",
                "+ tags: c=1"
            ]
        );
        assert_eq!(
            lines(json!({"use": {"n": 1}, "s": {"a": 1, "b": 2}}), json!({"s": {"a": 1, "b": 3}})),
            ["~ s b: 2 → 3"]
        );
        assert_eq!(lines(json!({"s": null}), json!({"s": {"a": 1, "b": ""}})), ["+ s a: 1"]);
    }

    #[test]
    fn the_etag_sent_is_the_one_read_unless_another_is_named() {
        let args = |etag: Option<&str>| ChangeArgs { dry_run: false, etag: etag.map(Into::into) };
        assert_eq!(args(None).etag("1a"), "1a");
        assert_eq!(args(Some("2b")).etag("1a"), "2b");
    }

    #[test]
    fn nothing_different_has_no_lines_and_long_texts_are_cut() {
        assert!(lines(json!({"etag": "1", "a": [1]}), json!({"etag": "2", "a": [1]})).is_empty());
        let long = "é".repeat(500);
        let shown = lines(json!({"docs": ""}), json!({"docs": long}));
        assert_eq!(shown[0].chars().count(), "+ docs: ".len() + TEXT_WIDTH + 1);
    }

    #[test]
    fn what_is_new_is_shown_whole_and_without_what_says_nothing() {
        let after = json!({"name": "ops", "docs": "", "tags": [], "owner": "x"});
        let change = Change { dry_run: true, before: None, after: Some(&after) };
        let lines: Vec<_> = change.lines().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(lines, ["+ name: ops", "+ owner: x"]);
    }
}
