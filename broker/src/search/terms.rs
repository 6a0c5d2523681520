//! The words that occur, and where: the inverted part of the index.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::text::MAX_WORD_BYTES;

/// One document in which a term occurs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Posting {
    pub(super) doc: u32,
    /// How well the term describes the document, in steps of 1 / [`Posting::ONE`].
    pub(super) impact: u16,
    /// Bits of the places.
    pub(super) places: u16,
}

impl Posting {
    /// An impact of 1.
    pub(super) const ONE: f32 = 2000.0;
}

/// One word of the corpus.
#[derive(Default)]
struct Term {
    text: Arc<str>,
    /// Live documents in which it occurs.
    live: u32,
    /// By document; those of removed documents go with the next compaction.
    postings: Vec<Posting>,
}

/// All words. Numbers of words change with a compaction only.
#[derive(Default)]
pub(super) struct Terms {
    by_text: BTreeMap<Arc<str>, u32>,
    terms: Vec<Term>,
    /// Which letters a word has and how many, to pass over most words when one is looked for that
    /// is spelled like another. Apart from the terms: it is read from end to end.
    outlines: Vec<Outline>,
}

#[derive(Clone, Copy)]
struct Outline {
    letters: u32,
    length: u8,
}

impl Terms {
    /// The number of a word; new ones get one.
    pub(super) fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.by_text.get(text) {
            return *number;
        }
        let number = self.terms.len() as u32;
        let text: Arc<str> = Arc::from(text);
        self.by_text.insert(Arc::clone(&text), number);
        self.outlines.push(Outline::of(&text));
        self.terms.push(Term { text, ..Term::default() });
        number
    }

    /// A document that is newer than all others has the word.
    pub(super) fn add(&mut self, term: u32, posting: Posting) {
        let term = &mut self.terms[term as usize];
        debug_assert!(term.postings.last().is_none_or(|last| last.doc < posting.doc));
        term.live += 1;
        term.postings.push(posting);
    }

    /// A document with this word is gone.
    pub(super) fn release(&mut self, term: u32) {
        self.terms[term as usize].live -= 1;
    }

    /// The number of a word that a live document has.
    pub(super) fn exact(&self, text: &str) -> Option<u32> {
        self.by_text.get(text).copied().filter(|term| self.live(*term) > 0)
    }

    /// Words of live documents that begin so and go on.
    pub(super) fn prefixed<'a>(&'a self, text: &'a str) -> impl Iterator<Item = u32> + 'a {
        let from = self
            .by_text
            .range::<str, _>((std::ops::Bound::Excluded(text), std::ops::Bound::Unbounded));
        let those = from.take_while(move |(term, _)| term.starts_with(text));
        those.map(|(_, term)| *term).filter(|term| self.live(*term) > 0)
    }

    /// Words of live documents that are at most `most` changes away (a letter more, less or other,
    /// or two neighbours swapped), with the number of changes.
    pub(super) fn similar(&self, text: &str, most: u8) -> Vec<(u32, u8)> {
        let outline = Outline::of(text);
        let near = self.outlines.iter().zip(0..).filter(|(other, _)| outline.is_near(other, most));
        let near = near.filter(|(_, term)| self.live(*term) > 0).filter_map(|(_, term)| {
            let distance = distance(text, self.text(term), usize::from(most))?;
            (distance > 0).then_some((term, distance as u8))
        });
        near.collect()
    }

    pub(super) fn text(&self, term: u32) -> &Arc<str> {
        &self.terms[term as usize].text
    }

    /// Live documents that have the word.
    pub(super) fn live(&self, term: u32) -> u32 {
        self.terms[term as usize].live
    }

    pub(super) fn postings(&self, term: u32) -> &[Posting] {
        &self.terms[term as usize].postings
    }

    pub(super) fn len(&self) -> usize {
        self.terms.len()
    }

    /// Number of postings, and bytes of everything here.
    pub(super) fn size(&self) -> (usize, usize) {
        let mut postings = 0;
        let mut bytes = self.outlines.capacity() * size_of::<Outline>()
            + self.terms.capacity() * size_of::<Term>();
        for term in &self.terms {
            postings += term.postings.len();
            // The text with its counters, and a node of the tree that is two thirds full.
            bytes += term.postings.capacity() * size_of::<Posting>() + term.text.len() + 16 + 36;
        }
        (postings, bytes)
    }

    /// Drops removed documents, gives the others the numbers of `number`, and drops words without
    /// documents. Gives the new number of each word.
    pub(super) fn compact(&mut self, number: impl Fn(u32) -> Option<u32>) -> Vec<u32> {
        let mut renumbered = vec![u32::MAX; self.terms.len()];
        let before = std::mem::take(&mut self.terms);
        self.outlines.clear();
        self.by_text.clear();
        for (mut term, old) in before.into_iter().zip(0..) {
            if term.live == 0 {
                continue;
            }
            term.postings.retain_mut(|posting| match number(posting.doc) {
                Some(doc) => {
                    posting.doc = doc;
                    true
                }
                None => false,
            });
            term.postings.shrink_to_fit();
            renumbered[old as usize] = self.terms.len() as u32;
            self.by_text.insert(Arc::clone(&term.text), self.terms.len() as u32);
            self.outlines.push(Outline::of(&term.text));
            self.terms.push(term);
        }
        renumbered
    }
}

impl Outline {
    fn of(text: &str) -> Self {
        let mut letters = 0u32;
        let mut length = 0u8;
        for c in text.chars() {
            let bit = match c {
                'a'..='z' => c as u32 - u32::from(b'a'),
                _ => 26 + c as u32 % 6,
            };
            letters |= 1 << bit;
            length = length.saturating_add(1);
        }
        Self { letters, length }
    }

    /// False only if the words are more than `most` changes apart: one change takes at most one
    /// letter away and brings at most one.
    fn is_near(&self, other: &Self, most: u8) -> bool {
        let most = u32::from(most);
        u32::from(self.length.abs_diff(other.length)) <= most
            && (self.letters & !other.letters).count_ones() <= most
            && (other.letters & !self.letters).count_ones() <= most
    }
}

/// The optimal string alignment distance (Damerau 1964), if it is at most `most`.
fn distance(a: &str, b: &str, most: usize) -> Option<usize> {
    let fits = |distance: usize| (distance <= most).then_some(distance);
    let (left, right) = (a.as_bytes(), b.as_bytes());
    if !a.is_ascii() || !b.is_ascii() || right.len() > MAX_WORD_BYTES {
        return fits(strsim::osa_distance(a, b));
    }
    // The last three rows of the table; most pairs end within a few.
    let mut rows = [[0u8; MAX_WORD_BYTES + 1]; 3];
    for (column, cell) in rows[0].iter_mut().enumerate() {
        *cell = column as u8;
    }
    for row in 1..=left.len() {
        let [before, now, twice_before] = match row % 3 {
            0 => [2, 0, 1],
            1 => [0, 1, 2],
            _ => [1, 2, 0],
        };
        let mut best = row.min(usize::from(u8::MAX)) as u8;
        rows[now][0] = best;
        for column in 1..=right.len() {
            let changed = u8::from(left[row - 1] != right[column - 1]);
            let mut cell = (rows[before][column - 1] + changed)
                .min(rows[before][column] + 1)
                .min(rows[now][column - 1] + 1);
            let is_swapped = row > 1
                && column > 1
                && left[row - 1] == right[column - 2]
                && left[row - 2] == right[column - 1];
            if is_swapped {
                cell = cell.min(rows[twice_before][column - 2] + 1);
            }
            rows[now][column] = cell;
            best = best.min(cell);
        }
        if usize::from(best) > most {
            return None;
        }
    }
    fits(usize::from(rows[left.len() % 3][right.len()]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn terms(words: &[String]) -> Terms {
        let mut terms = Terms::default();
        for (word, doc) in words.iter().zip(0..) {
            let term = terms.number(word);
            terms.add(term, Posting { doc, impact: 1, places: 1 });
        }
        terms
    }

    proptest! {
        #[test]
        fn similar_words_are_exactly_those_within_the_distance(
            words in prop::collection::btree_set("[a-dß1]{1,7}", 1..40),
            text in "[a-dß1]{1,7}",
            most in 1..3u8,
        ) {
            let words: Vec<String> = words.into_iter().collect();
            let terms = terms(&words);
            let mut found: Vec<String> =
                terms.similar(&text, most).iter().map(|(term, _)| terms.text(*term).to_string()).collect();
            found.sort();
            let near = |word: &&String| {
                (1..=usize::from(most)).contains(&strsim::osa_distance(word, &text))
            };
            let expected: Vec<String> = words.iter().filter(near).cloned().collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn prefixed_words_are_exactly_those_that_go_on(
            words in prop::collection::btree_set("[ab]{1,6}", 1..40),
            text in "[ab]{1,4}",
        ) {
            let words: Vec<String> = words.into_iter().collect();
            let terms = terms(&words);
            let found: Vec<String> = terms.prefixed(&text).map(|term| terms.text(term).to_string()).collect();
            let goes_on = |word: &&String| word.starts_with(&text) && **word != text;
            let expected: Vec<String> = words.iter().filter(goes_on).cloned().collect();
            prop_assert_eq!(found, expected);
        }
    }
}
