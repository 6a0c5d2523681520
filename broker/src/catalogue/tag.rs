//! Marks on a product and on its fields.

use std::collections::HashSet;

use meshlog_proto::v1::Tag;

use super::invalid;
use crate::error::Result;
use crate::schema::Schema;

const MAX_TAGS: usize = 200;
const MAX_KEY_BYTES: usize = 63;
const MAX_VALUE_BYTES: usize = 256;

/// Checks the tags of a product. A field must be in one of its value schemas; where none lists
/// fields (OPAQUE), any path is taken.
pub(super) fn check<'a>(tags: &[Tag], schemas: impl Iterator<Item = &'a Schema>) -> Result<()> {
    if tags.len() > MAX_TAGS {
        return Err(invalid("tags", format!("at most {MAX_TAGS}, there are {}", tags.len())));
    }
    let mut seen = HashSet::new();
    for tag in tags {
        let key = &tag.key;
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        if key.is_empty() || key.len() > MAX_KEY_BYTES || !key.bytes().all(allowed) {
            return Err(invalid(
                "tags.key",
                format!(
                    "`{}` is not a tag key: 1 to {MAX_KEY_BYTES} of a to z, 0 to 9 and `._-`",
                    key.chars().take(80).flat_map(char::escape_debug).collect::<String>()
                ),
            ));
        }
        if tag.value.as_ref().is_some_and(|value| value.len() > MAX_VALUE_BYTES) {
            return Err(invalid(
                "tags.value",
                format!("the value of `{key}` is longer than {MAX_VALUE_BYTES} bytes"),
            ));
        }
        if !seen.insert((key, &tag.field_path)) {
            return Err(invalid("tags", format!("`{key}` stands there twice for the same field")));
        }
    }
    let tagged = tags.iter().map(|tag| tag.field_path.as_str()).filter(|path| !path.is_empty());
    let mut unknown: HashSet<&str> = tagged.collect();
    let mut examples = Vec::new();
    for schema in schemas {
        if unknown.is_empty() {
            break;
        }
        let fields = schema.fields().map_err(|malformed| malformed.in_field("value_schema"))?;
        for field in fields {
            unknown.remove(field.path.as_str());
            if examples.len() < 8 {
                examples.push(field.path);
            }
        }
    }
    match unknown.into_iter().min() {
        Some(path) if !examples.is_empty() => Err(invalid(
            "tags.field_path",
            format!("the schema has no field `{path}`; it has {}", examples.join(", ")),
        )
        .with("path", path)),
        _ => Ok(()),
    }
}
