//! The values that filters take: each with its documents.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::doc_set::DocSet;

/// Values of one filter, in lower case.
#[derive(Default)]
pub(super) struct Values {
    by_text: BTreeMap<Arc<str>, u32>,
    values: Vec<Value>,
}

#[derive(Default)]
struct Value {
    text: Arc<str>,
    /// Rising; removed documents stay until the next compaction.
    docs: Vec<u32>,
}

/// What a filter asks of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// The whole value.
    Is(String),
    /// Its beginning.
    Begins(String),
}

impl Values {
    /// A document that is newer than all others has this value. Gives the value's number.
    pub(super) fn add(&mut self, text: &str, doc: u32) -> u32 {
        let number = match self.by_text.get(text) {
            Some(number) => *number,
            None => {
                let number = self.values.len() as u32;
                let text: Arc<str> = Arc::from(text);
                self.by_text.insert(Arc::clone(&text), number);
                self.values.push(Value { text, docs: Vec::new() });
                number
            }
        };
        let docs = &mut self.values[number as usize].docs;
        if docs.last() != Some(&doc) {
            docs.push(doc);
        }
        number
    }

    /// Documents, also removed ones, with a value that fits.
    pub(super) fn docs(&self, pattern: &Pattern) -> DocSet {
        let mut found = DocSet::default();
        match pattern {
            Pattern::Is(text) => {
                let value = self.by_text.get(text.as_str());
                found.extend(value.into_iter().flat_map(|at| self.docs_of(*at)));
            }
            Pattern::Begins(text) => {
                let from = self
                    .by_text
                    .range::<str, _>((Bound::Included(text.as_str()), Bound::Unbounded));
                for (_, at) in from.take_while(|(value, _)| value.starts_with(text.as_str())) {
                    found.extend(self.docs_of(*at));
                }
            }
        }
        found
    }

    fn docs_of(&self, value: u32) -> impl Iterator<Item = u32> + '_ {
        self.values[value as usize].docs.iter().copied()
    }

    pub(super) fn text(&self, value: u32) -> &str {
        &self.values[value as usize].text
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// Bytes of everything here.
    pub(super) fn size(&self) -> usize {
        let each =
            self.values.iter().map(|value| value.docs.capacity() * 4 + value.text.len() + 52);
        self.values.capacity() * size_of::<Value>() + each.sum::<usize>()
    }

    /// Drops removed documents, gives the others the numbers of `number`, and drops values without
    /// documents. Gives the new number of each value.
    pub(super) fn compact(&mut self, number: impl Fn(u32) -> Option<u32>) -> Vec<u32> {
        let mut renumbered = vec![u32::MAX; self.values.len()];
        self.by_text.clear();
        for (mut value, old) in std::mem::take(&mut self.values).into_iter().zip(0..) {
            value.docs = value.docs.iter().filter_map(|doc| number(*doc)).collect();
            if !value.docs.is_empty() {
                let new = self.values.len() as u32;
                renumbered[old as usize] = new;
                self.by_text.insert(Arc::clone(&value.text), new);
                self.values.push(value);
            }
        }
        renumbered
    }
}

impl Pattern {
    pub(super) fn fits(&self, text: &str) -> bool {
        match self {
            Self::Is(wanted) => text == wanted,
            Self::Begins(beginning) => text.starts_with(beginning.as_str()),
        }
    }
}
