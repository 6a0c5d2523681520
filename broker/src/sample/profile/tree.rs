//! The fields of values, by path.

use std::collections::HashMap;

use meshlog_proto::v1;
use prost::Message as _;

use super::field::{Field, Parts, Scalar};

/// Most fields of a profile; those beyond, and all below them, are left out.
const MAX_FIELDS: usize = 1_000;
/// Longest path; a field with a longer one is left out.
const MAX_PATH_BYTES: usize = 512;
/// Encoded bytes of a profile; beyond, the later fields have no examples.
const MAX_BYTES: usize = 1 << 20;

/// A field of the tree.
pub(crate) type Place = usize;

/// Every path seen or declared. The names are looked up one below the other, so that no path is put
/// together for a value.
#[derive(Debug)]
pub(crate) struct Tree(Vec<Node>);

#[derive(Debug, Default)]
struct Node {
    path: String,
    members: HashMap<Box<str>, Place>,
    items: Option<Place>,
    /// The values among which this one is there or absent: the records, or the items of an array.
    among: Place,
    /// Of the records, or of the items of an array: how many there were.
    count: u64,
    field: Field,
    is_declared: bool,
}

impl Default for Tree {
    fn default() -> Self {
        Self(vec![Node::default()])
    }
}

impl Tree {
    /// The value of a record as a whole.
    pub(crate) const RECORD: Place = 0;

    /// A field of the schema: its absence counts.
    pub(super) fn declare(&mut self, path: &str) {
        let mut place = Some(Self::RECORD);
        for part in path.split('.') {
            let name = part.trim_end_matches("[]");
            if !name.is_empty() {
                place = place.and_then(|place| self.member(place, name));
            }
            for _ in 0..(part.len() - name.len()) / 2 {
                place = place.and_then(|place| self.items(place));
            }
        }
        if let Some(place) = place {
            self.0[place].is_declared = true;
        }
    }

    /// One more record whose value can be read.
    pub(crate) fn begin(&mut self) {
        self.0[Self::RECORD].count += 1;
    }

    /// A member of an object; `None`: there are too many fields.
    pub(crate) fn member(&mut self, object: Place, name: &str) -> Option<Place> {
        if let Some(place) = self.0[object].members.get(name) {
            return Some(*place);
        }
        let path = match self.0[object].path.as_str() {
            "" => name.to_owned(),
            parent => format!("{parent}.{name}"),
        };
        let place = self.grow(path, self.0[object].among)?;
        self.0[object].members.insert(name.into(), place);
        Some(place)
    }

    /// The items of an array; `None`: there are too many fields.
    pub(crate) fn items(&mut self, array: Place) -> Option<Place> {
        if let Some(place) = self.0[array].items {
            return Some(place);
        }
        let place = self.grow(format!("{}[]", self.0[array].path), self.0.len())?;
        self.0[array].items = Some(place);
        Some(place)
    }

    /// One more item at the place of items.
    pub(crate) fn item(&mut self, items: Place) {
        self.0[items].count += 1;
    }

    pub(crate) fn scalar(&mut self, place: Place, scalar: Scalar<'_>) {
        self.0[place].field.add(scalar);
    }

    pub(crate) fn parts(&mut self, place: Place, parts: Parts) {
        self.0[place].field.add_parts(parts);
    }

    fn grow(&mut self, path: String, among: Place) -> Option<Place> {
        // The record itself is no field.
        if self.0.len() > MAX_FIELDS || path.len() > MAX_PATH_BYTES {
            return None;
        }
        self.0.push(Node { path, among, ..Node::default() });
        Some(self.0.len() - 1)
    }

    /// The fields by path, those of `personal` paths without their values.
    pub(crate) fn fields(self, personal: &[String]) -> Vec<v1::FieldProfile> {
        let counts: Vec<u64> = self.0.iter().map(|node| node.count).collect();
        let shown = self.0.into_iter().enumerate().filter(|(place, node)| match *place {
            Self::RECORD => node.items.is_some() || (node.members.is_empty() && node.count > 0),
            _ => node.is_declared || node.field.present > 0 || counts[node.among] > 0,
        });
        let mut fields: Vec<v1::FieldProfile> = shown
            .map(|(_, node)| {
                let is_personal = personal.iter().any(|path| covers(path, &node.path));
                node.field.message(node.path, counts[node.among], is_personal)
            })
            .collect();
        fields.sort_by(|a, b| a.path.cmp(&b.path));
        fields.truncate(MAX_FIELDS);
        let mut bytes = 0;
        for field in &mut fields {
            bytes += field.encoded_len() + 4;
            if bytes > MAX_BYTES {
                bytes -= field.encoded_len();
                field.examples.clear();
                field.min = None;
                field.max = None;
                bytes += field.encoded_len();
            }
        }
        fields
    }
}

/// Whether a tag at one path holds for another: at the same, and at all it contains.
fn covers(tagged: &str, path: &str) -> bool {
    match path.strip_prefix(tagged) {
        Some("") => true,
        Some(_) if tagged.is_empty() => true,
        Some(rest) => rest.starts_with('.') || rest.starts_with("[]"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_holds_for_what_its_field_contains() {
        for (tagged, path, holds) in [
            ("", "a", true),
            ("a", "a", true),
            ("a", "a.b", true),
            ("a", "a[].b", true),
            ("a", "ab", false),
            ("a.b", "a", false),
        ] {
            assert_eq!(covers(tagged, path), holds, "{tagged} {path}");
        }
    }
}
