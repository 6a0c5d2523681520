//! Which of two names comes first, without looking at the names.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Name and id: while a product gives its name to another one, there are two of a name.
type Name = (Arc<str>, Arc<str>);

const STEP: u64 = 1 << 20;
const APART: u64 = 1 << 40;

/// Names in order. Each has a label, and labels order as names do.
#[derive(Default)]
pub(super) struct NameOrder {
    /// Document and label.
    names: BTreeMap<Name, (u32, u64)>,
    last: u64,
}

impl NameOrder {
    /// Adds a name. `None`: there was no room between its neighbours, and all have new labels
    /// ([`NameOrder::labels`]).
    pub(super) fn insert(&mut self, name: Name, doc: u32) -> Option<u64> {
        let before = self.names.range(..&name).next_back().map(|(_, (_, label))| *label);
        let after = (Bound::Excluded(&name), Bound::Unbounded);
        let after = self.names.range(after).next().map(|(_, (_, label))| *label);
        let label = match (before, after) {
            (None, None) => Some(u64::MAX / 2),
            (Some(before), None) => before.checked_add(APART),
            (None, Some(after)) => after.checked_sub(APART),
            // Names come in runs: stay near the last one, and leave the room to its successors.
            (Some(before), Some(after)) => match after - before {
                0 | 1 => None,
                gap if before == self.last => Some(before + STEP.min(gap / 2)),
                gap if after == self.last => Some(after - STEP.min(gap / 2)),
                gap => Some(before + gap / 2),
            },
        };
        self.names.insert(name, (doc, label.unwrap_or_default()));
        match label {
            Some(label) => self.last = label,
            None => self.spread(),
        }
        label
    }

    pub(super) fn remove(&mut self, name: &Name) {
        self.names.remove(name);
    }

    /// Gives documents new numbers.
    pub(super) fn renumber(&mut self, number: impl Fn(u32) -> u32) {
        for (doc, _) in self.names.values_mut() {
            *doc = number(*doc);
        }
    }

    /// Document and label of every name.
    pub(super) fn labels(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.names.values().copied()
    }

    fn spread(&mut self) {
        let apart = (u64::MAX / 2) / (self.names.len() as u64 + 1);
        let first = u64::MAX / 4;
        for ((_, label), number) in self.names.values_mut().zip(0..) {
            *label = first + number * apart;
        }
        self.last = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn labels_order_as_names_do(
            start in prop::collection::vec("[a-c]{1,6}", 0..40),
            run in 0..400u32,
            down: bool,
        ) {
            let mut order = NameOrder::default();
            let mut insert = |name: String, doc| {
                order.insert((Arc::from(name), Arc::from("")), doc);
                let labels: Vec<u64> = order.labels().map(|(_, label)| label).collect();
                assert!(labels.is_sorted_by(|a, b| a < b));
            };
            for (doc, name) in (0..).zip(start) {
                insert(name, doc);
            }
            for number in 0..run {
                let number = if down { run - number } else { number };
                insert(format!("b{number:05}"), 1000 + number);
            }
        }
    }

    #[test]
    fn a_run_of_names_between_two_others_seldom_needs_new_labels() {
        for down in [false, true] {
            let mut order = NameOrder::default();
            order.insert((Arc::from("a"), Arc::from("")), 0);
            order.insert((Arc::from("z"), Arc::from("")), 1);
            let mut spread = 0;
            for number in 0..10_000 {
                let number = if down { 10_000 - number } else { number };
                let name = (Arc::from(format!("m{number:05}")), Arc::from(""));
                spread += u32::from(order.insert(name, 2).is_none());
            }
            assert!(spread <= 2, "{spread}");
        }
    }
}
