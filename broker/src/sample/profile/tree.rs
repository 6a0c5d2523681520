//! The fields of values, by path.

use meshlog_proto::v1;
use prost::Message as _;

use super::super::paths::{MAX_FIELDS, Paths, Place};
use super::field::{Field, Parts, Scalar};
use crate::sample::Listener;

/// Encoded bytes of a profile; beyond, the later fields have no examples.
const MAX_BYTES: usize = 1 << 20;

/// Every path seen or declared, and what was seen there.
#[derive(Debug)]
pub(crate) struct Tree {
    paths: Paths,
    /// By place.
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    /// The values among which this one is there or absent: the records, or the items of an array.
    among: Place,
    /// Of the records, or of the items of an array: how many there were.
    count: u64,
    field: Field,
    is_declared: bool,
}

impl Default for Tree {
    fn default() -> Self {
        Self { paths: Paths::default(), nodes: vec![Node::default()] }
    }
}

impl Tree {
    /// A field of the schema: its absence counts.
    pub(super) fn declare(&mut self, path: &str) {
        let mut place = Some(Paths::RECORD);
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
            self.nodes[place].is_declared = true;
        }
    }

    /// One more record whose value can be read.
    pub(crate) fn begin(&mut self) {
        self.nodes[Paths::RECORD].count += 1;
    }

    /// A node for a path, if it was met just now.
    fn grow(&mut self, place: Place, among: Place) {
        if place == self.nodes.len() {
            self.nodes.push(Node { among, ..Node::default() });
        }
    }

    /// The fields by path, those of `personal` paths without their values.
    pub(crate) fn fields(self, personal: &[String]) -> Vec<v1::FieldProfile> {
        let Self { paths, nodes } = self;
        let counts: Vec<u64> = nodes.iter().map(|node| node.count).collect();
        let shown = nodes.into_iter().enumerate().filter(|(place, node)| match *place {
            Paths::RECORD => {
                paths.has_items(*place) || (!paths.has_members(*place) && node.count > 0)
            }
            _ => node.is_declared || node.field.present > 0 || counts[node.among] > 0,
        });
        let mut fields: Vec<v1::FieldProfile> = shown
            .map(|(place, node)| {
                let path = paths.path(place);
                let is_personal = personal.iter().any(|personal| covers(personal, path));
                node.field.message(path.to_owned(), counts[node.among], is_personal)
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

impl Listener for Tree {
    fn member(&mut self, object: Place, name: &str) -> Option<Place> {
        let place = self.paths.member(object, name)?;
        self.grow(place, self.nodes[object].among);
        Some(place)
    }

    fn items(&mut self, array: Place) -> Option<Place> {
        let place = self.paths.items(array)?;
        self.grow(place, place);
        Some(place)
    }

    fn item(&mut self, items: Place) {
        self.nodes[items].count += 1;
    }

    fn scalar(&mut self, place: Place, scalar: Scalar<'_>) {
        self.nodes[place].field.add(scalar);
    }

    fn parts(&mut self, place: Place, parts: Parts) {
        self.nodes[place].field.add_parts(parts);
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
