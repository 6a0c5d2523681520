//! `meshlog schema diff`: what is different between two versions of a product's schema.

use std::collections::BTreeMap;

use clap::Args;
use clap_complete::ArgValueCompleter;
use meshlog_client::{
    Catalog,
    proto::{AddSchemaVersionRequest, SchemaField, SchemaVersion},
};
use serde::Serialize;
use similar::TextDiff;

use crate::{
    change::Line,
    completion,
    exit::{Exit, Failure, Result},
    output::{Format, Out, OutputArgs, Paint, Row},
    settings::ServerArgs,
};

/// Arguments of `schema diff`.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// `<domain>.<name>` of the product
    #[arg(add = ArgValueCompleter::new(completion::products))]
    product: String,
    /// The older version [default: the one before the newer]
    #[arg(long, value_name = "N", add = ArgValueCompleter::new(completion::schema_versions))]
    from: Option<u32>,
    /// The newer version [default: the current one]
    #[arg(long, value_name = "N", add = ArgValueCompleter::new(completion::schema_versions))]
    to: Option<u32>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl Diff {
    /// Runs the command.
    pub(super) async fn run(self, out: &mut Out) -> Result<()> {
        let catalog = self.server.connect().await?.catalog();
        let product = self.product.as_str();
        let to = catalog.get_schema_version(product, self.to.unwrap_or(0)).await?;
        let from = match self.from {
            Some(from) => from,
            None if to.version > 1 => to.version - 1,
            None => {
                return Err(Failure::new(
                    Exit::NotFound,
                    format!(
                        "{product} has no schema version before {}; add another one with \
                         `meshlog schema add {product} FILE`",
                        to.version
                    ),
                ));
            }
        };
        let from = catalog.get_schema_version(product, from).await?;
        Differences::new(&from, &to).show(self.output.output, out)
    }
}

/// What adding a version would make different.
pub(super) async fn dry_run(
    catalog: &Catalog,
    request: AddSchemaVersionRequest,
    format: Format,
    out: &mut Out,
) -> Result<()> {
    let current = catalog.get_schema_version(request.product.as_str(), 0).await?;
    let version = catalog.add_schema_version(request).await?;
    Differences::new(&current, &version).show(format, out)?;
    out.note("dry run: nothing was changed");
    Ok(())
}

/// Two versions side by side.
#[derive(Serialize)]
struct Differences {
    from: u32,
    to: u32,
    fields: Vec<FieldDifference>,
    /// The texts as a unified diff; empty if they are equal.
    text: String,
}

/// A field that is not the same in both.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct FieldDifference {
    path: String,
    change: &'static str,
    from: String,
    to: String,
}

impl Differences {
    fn new(from: &SchemaVersion, to: &SchemaVersion) -> Self {
        let text = |version: &SchemaVersion| {
            readable(&version.value.as_ref().map(|source| source.text.clone()).unwrap_or_default())
        };
        let (old, new) = (text(from), text(to));
        let text = if old == new {
            String::new()
        } else {
            TextDiff::from_lines(&old, &new)
                .unified_diff()
                .header(&format!("version {}", from.version), &format!("version {}", to.version))
                .to_string()
        };
        let fields = fields(&from.fields, &to.fields);
        Self { from: from.version, to: to.version, fields, text }
    }

    fn show(&self, format: Format, out: &mut Out) -> Result<()> {
        match format {
            Format::Table | Format::Wide => {}
            Format::Name => {
                return self.fields.iter().try_for_each(|field| out.line(&field.path));
            }
            Format::Jsonl => return out.list(format, &self.fields),
            Format::Json | Format::Yaml => return out.one(format, self),
        }
        if self.text.is_empty() && self.fields.is_empty() {
            out.note(format_args!("versions {} and {} are equal", self.from, self.to));
            return Ok(());
        }
        if self.fields.is_empty() {
            out.note("the fields are the same");
        } else {
            out.list(format, &self.fields)?;
        }
        if !self.text.is_empty() {
            out.line("")?;
        }
        for line in self.text.lines() {
            match line.as_bytes().first() {
                Some(b'+') => out.paint(Paint::Green, line)?,
                Some(b'-') => out.paint(Paint::Red, line)?,
                _ => out.line(line)?,
            }
        }
        Ok(())
    }
}

/// JSON on one line is laid out, so that a difference has a line of its own.
fn readable(text: &str) -> String {
    if text.trim().lines().count() > 1 {
        return text.to_owned();
    }
    let json = serde_json::from_str::<serde_json::Value>(text).ok();
    match json.and_then(|json| serde_json::to_string_pretty(&json).ok()) {
        Some(pretty) => format!("{pretty}\n"),
        None => text.to_owned(),
    }
}

/// A line for each field that differs.
pub(super) fn lines(from: &[SchemaField], to: &[SchemaField]) -> Vec<Line> {
    let line = |field: FieldDifference| {
        let place = format!("schema field {}", field.path);
        match field.change {
            "added" => Line::Added(place, field.to),
            "removed" => Line::Removed(place, field.from),
            _ => Line::Changed(place, field.from, field.to),
        }
    };
    fields(from, to).into_iter().map(line).collect()
}

fn fields(from: &[SchemaField], to: &[SchemaField]) -> Vec<FieldDifference> {
    let describe = |field: &SchemaField| {
        format!("{}{}", field.r#type, if field.optional { ", optional" } else { "" })
    };
    let by_path = |fields: &[SchemaField]| -> BTreeMap<String, SchemaField> {
        fields.iter().map(|field| (field.path.clone(), field.clone())).collect()
    };
    let (old, new) = (by_path(from), by_path(to));
    let mut paths: Vec<&String> = old.keys().chain(new.keys()).collect();
    paths.sort();
    paths.dedup();
    let mut differences = Vec::new();
    for path in paths {
        let (was, is) = (old.get(path), new.get(path));
        let change = match (was, is) {
            (None, _) => "added",
            (_, None) => "removed",
            (Some(was), Some(is)) if describe(was) != describe(is) => "changed",
            (Some(was), Some(is)) if was.docs != is.docs => "described",
            _ => continue,
        };
        let side = |field: Option<&SchemaField>| match field {
            Some(field) if change == "described" => field.docs.clone(),
            Some(field) => describe(field),
            None => String::new(),
        };
        differences.push(FieldDifference {
            path: path.clone(),
            change,
            from: side(was),
            to: side(is),
        });
    }
    differences
}

impl Row for FieldDifference {
    const PLURAL: &'static str = "fields that differ";
    const HEADER: &'static [&'static str] = &["FIELD", "CHANGE", "FROM", "TO"];

    fn cells(&self) -> Vec<String> {
        let or_dash = |text: &String| if text.is_empty() { "-".into() } else { text.clone() };
        vec![self.path.clone(), self.change.into(), or_dash(&self.from), or_dash(&self.to)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(path: &str, of_type: &str, optional: bool, docs: &str) -> SchemaField {
        SchemaField { path: path.into(), r#type: of_type.into(), optional, docs: docs.into() }
    }

    #[test]
    fn each_field_that_differs_says_how() {
        let from = [
            field("a", "string", false, "A"),
            field("b", "integer", false, ""),
            field("c", "x", true, ""),
        ];
        let to = [
            field("a", "string", false, "An a"),
            field("b", "integer", true, ""),
            field("d", "x", true, ""),
        ];
        let found: Vec<_> = fields(&from, &to)
            .into_iter()
            .map(|field| (field.path, field.change, field.from, field.to))
            .collect();
        let row = |path: &str, change, from: &str, to: &str| {
            (path.to_owned(), change, from.to_owned(), to.to_owned())
        };
        assert_eq!(
            found,
            [
                row("a", "described", "A", "An a"),
                row("b", "changed", "integer", "integer, optional"),
                row("c", "removed", "x, optional", ""),
                row("d", "added", "", "x, optional"),
            ]
        );
        assert!(fields(&from, &from).is_empty());
    }

    #[test]
    fn json_on_one_line_is_compared_line_by_line() {
        assert_eq!(readable("{\"a\":1,\"b\":[2]}").lines().count(), 6);
        assert_eq!(readable("{\n\"a\":1}"), "{\n\"a\":1}");
        assert_eq!(readable("syntax = \"proto3\";"), "syntax = \"proto3\";");
    }
}
