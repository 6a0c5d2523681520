//! Marks on domains, on products and on their fields.

use std::collections::HashSet;

use meshlog_proto::v1::Tag;

use super::name::shown;
use super::view::View;
use super::{invalid, tag_key};
use crate::error::Result;
use crate::schema::Schema;

const MAX_TAGS: usize = 200;
const MAX_KEY_BYTES: usize = 63;
pub(super) const MAX_VALUE_BYTES: usize = 256;

/// Checks the tags of a product. A field must be in one of its value schemas; where none lists
/// fields (OPAQUE), any path is taken.
pub(super) fn check<'a>(tags: &[Tag], schemas: impl Iterator<Item = &'a Schema>) -> Result<()> {
    check_shape(tags)?;
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
            format!("the schema has no field `{}`; it has {}", shown(path), examples.join(", ")),
        )
        .with("path", shown(path))),
        _ => Ok(()),
    }
}

/// Checks the tags of a domain, which has no fields.
pub(super) fn check_of_domain(tags: &[Tag]) -> Result<()> {
    check_shape(tags)?;
    match tags.iter().find(|tag| !tag.field_path.is_empty()) {
        Some(tag) => Err(invalid(
            "tags.field_path",
            format!("a domain has no fields; leave the path of `{}` out", tag.key),
        )),
        None => Ok(()),
    }
}

/// Checks tags against the vocabulary. Those that were there before stay as they are, whatever
/// the vocabulary says now.
pub(super) fn check_vocabulary(view: &View, tags: &[Tag], before: &[Tag]) -> Result<()> {
    tags.iter().filter(|tag| !before.contains(tag)).try_for_each(|tag| tag_key::check(view, tag))
}

fn check_shape(tags: &[Tag]) -> Result<()> {
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
                    shown(key)
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
    Ok(())
}

/// Where a tag stands, for a person: the product, and the field if it is on one.
pub(super) fn place(product: &str, tag: &Tag) -> String {
    match tag.field_path.as_str() {
        "" => product.to_owned(),
        path => format!("{product}@{path}"),
    }
}
