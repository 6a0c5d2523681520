//! The paths of fields, met one after the other.

use std::collections::HashMap;

/// Most fields; those beyond, and all below them, are left out.
pub(super) const MAX_FIELDS: usize = 1_000;
/// Longest path; a field with a longer one is left out.
const MAX_PATH_BYTES: usize = 512;

/// A field, by the order in which fields were met.
pub(crate) type Place = usize;

/// Every path met. The names are looked up one below the other, so that no path is put together for
/// a value.
#[derive(Debug)]
pub(crate) struct Paths(Vec<Node>);

#[derive(Debug, Default)]
struct Node {
    path: String,
    members: HashMap<Box<str>, Place>,
    items: Option<Place>,
}

impl Default for Paths {
    fn default() -> Self {
        Self(vec![Node::default()])
    }
}

impl Paths {
    /// The value of a record as a whole.
    pub(crate) const RECORD: Place = 0;

    /// A member of an object; `None`: there are too many fields.
    pub(crate) fn member(&mut self, object: Place, name: &str) -> Option<Place> {
        if let Some(place) = self.0[object].members.get(name) {
            return Some(*place);
        }
        let path = match self.0[object].path.as_str() {
            "" => name.to_owned(),
            parent => format!("{parent}.{name}"),
        };
        let place = self.grow(path)?;
        self.0[object].members.insert(name.into(), place);
        Some(place)
    }

    /// The items of an array; `None`: there are too many fields.
    pub(crate) fn items(&mut self, array: Place) -> Option<Place> {
        if let Some(place) = self.0[array].items {
            return Some(place);
        }
        let place = self.grow(format!("{}[]", self.0[array].path))?;
        self.0[array].items = Some(place);
        Some(place)
    }

    /// A path; empty for the record itself.
    pub(crate) fn path(&self, place: Place) -> &str {
        &self.0[place].path
    }

    /// Whether items were met at a place.
    pub(super) fn has_items(&self, place: Place) -> bool {
        self.0[place].items.is_some()
    }

    /// Whether members were met at a place.
    pub(super) fn has_members(&self, place: Place) -> bool {
        !self.0[place].members.is_empty()
    }

    fn grow(&mut self, path: String) -> Option<Place> {
        // The record itself is no field.
        if self.0.len() > MAX_FIELDS || path.len() > MAX_PATH_BYTES {
            return None;
        }
        self.0.push(Node { path, ..Node::default() });
        Some(self.0.len() - 1)
    }
}
