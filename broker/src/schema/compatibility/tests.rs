//! What can be read, what is said if not, and what others say of the same schemas.

mod avro;
mod bounds;
mod conformance;
mod json;
mod laws;
mod protobuf;

use meshlog_proto::v1::{SchemaFormat, SchemaSource};

use super::*;

fn schema(format: SchemaFormat, text: &str) -> Schema {
    let source =
        SchemaSource { format: format.into(), text: text.to_owned(), ..SchemaSource::default() };
    Schema::parse(&source).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn reads(format: SchemaFormat, reader: &str, writer: &str) -> Comparison {
    let terms = Terms { writes_are_checked: true, ..Terms::default() };
    can_read(&schema(format, reader), &schema(format, writer), terms).unwrap()
}

/// Rules and paths of what breaks.
fn breaks(comparison: &Comparison) -> Vec<(&'static str, &str)> {
    let breaking = comparison.differences.iter().filter(|one| one.weight != Weight::Warning);
    breaking.map(|one| (one.rule, one.path.as_str())).collect()
}
