//! What a match is worth. The formula stands in the module documentation of `search`.

use meshlog_proto::v1::ProductState;

use super::document::Place;
use crate::Traffic;

/// A word of the query is the other number: `flight` for `flights`.
pub(super) const OTHER_NUMBER: f32 = 0.95;

/// All words stand in the name.
const ALL_IN_NAME: f32 = 1.25;
/// All words stand in another place.
const ALL_IN_ONE: f32 = 1.15;
/// The words are the name.
const IS_THE_NAME: f32 = 1.6;
/// Most that use adds.
pub(super) const MOST_USE: f32 = 0.2;
/// Records read at which use counts in full.
const MANY_READ: f32 = 1e7;
/// Live readers at which use counts in full.
const MANY_READERS: f32 = 20.0;

/// What a word in this place is worth, how many words such a place usually has, and how much its
/// length matters.
pub(super) fn weight(place: Place) -> (f32, f32, f32) {
    match place {
        Place::Name => (10.0, 2.0, 0.75),
        Place::Tag => (6.0, 6.0, 0.2),
        Place::Field => (5.0, 12.0, 0.2),
        Place::Domain => (4.0, 1.0, 0.0),
        Place::Owner => (4.0, 2.0, 0.2),
        Place::Description => (3.0, 12.0, 0.4),
        Place::FieldDocs => (1.6, 60.0, 0.3),
        Place::Contact => (1.0, 6.0, 0.2),
        Place::Docs => (1.0, 100.0, 0.4),
    }
}

/// What a word is worth that stands `times` in a place of `length` words: BM25's term weight
/// (Robertson and Zaragoza 2009) with k = 0.6, scaled to 1 for one time in a place of usual length.
/// The usual length is a constant, so that a document's worth does not depend on the others.
pub(super) fn value(place: Place, times: usize, length: usize) -> f32 {
    const K: f32 = 0.6;
    let (weight, usual, matters) = weight(place);
    let times = times as f32;
    let norm = 1.0 - matters + matters * length.max(1) as f32 / usual;
    weight * times * (K + 1.0) / (times + K * norm)
}

/// What a word is worth to a document: its best place, and a tenth of the others.
pub(super) fn impact(values: &[f32; Place::COUNT]) -> f32 {
    let best = values.iter().copied().fold(0.0, f32::max);
    best + 0.1 * (values.iter().sum::<f32>() - best)
}

/// A word of the query is the beginning of the document's word.
pub(super) fn prefix(asked: usize, found: usize) -> f32 {
    0.5 + 0.3 * asked as f32 / found as f32
}

/// A word of the query is spelled like the document's word.
pub(super) fn typo(distance: u8) -> f32 {
    match distance {
        1 => 0.4,
        _ => 0.25,
    }
}

/// Changes that a word of this many letters may be away from what is meant.
pub(super) fn typos_allowed(letters: usize) -> u8 {
    match letters {
        0..4 => 0,
        4..8 => 1,
        _ => 2,
    }
}

/// How much a word says that `found` of `all` documents have: the idf of BM25, never negative.
pub(super) fn idf(all: usize, found: usize) -> f32 {
    let (all, found) = (all as f32, found as f32);
    (1.0 + (all - found + 0.5) / (found + 0.5)).ln()
}

/// What it is worth that all words stand in the same place, most of all if they are the name.
pub(super) fn together(words: usize, common: u16, name_pieces: u8) -> f32 {
    match common & Place::Name.bit() != 0 {
        true if words == usize::from(name_pieces) => IS_THE_NAME,
        true => ALL_IN_NAME,
        false if common != 0 && words > 1 => ALL_IN_ONE,
        false => 1.0,
    }
}

/// What a state is worth.
pub(super) fn standing(state: ProductState) -> f32 {
    match state {
        ProductState::Deprecated => 0.6,
        ProductState::Retired => 0.3,
        _ => 1.0,
    }
}

/// What use is worth: 1 to 1.2. Who reads live counts if `with_readers`.
pub(super) fn use_bonus(traffic: &Traffic, with_readers: bool) -> f32 {
    let read = traffic.records_read();
    if read == 0 {
        return 1.0;
    }
    let readers = if with_readers { traffic.live_reader_count() } else { 0 } as f32;
    let read = (read as f32).ln_1p() / MANY_READ.ln_1p();
    let readers = readers.ln_1p() / MANY_READERS.ln_1p();
    1.0 + MOST_USE * (0.6 * read.min(1.0) + 0.4 * readers.min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_use_never_lifts_a_description_over_a_name() {
        let name = value(Place::Name, 1, 4);
        let description = value(Place::Description, 5, 3);
        assert!(description * (1.0 + MOST_USE) < name);
    }

    #[test]
    fn a_word_counts_more_than_its_beginning_and_that_more_than_a_typo() {
        assert!(OTHER_NUMBER > prefix(9, 10));
        assert!(prefix(2, 60) > typo(1));
        assert!(typo(1) > typo(2));
    }

    #[test]
    fn use_counts_on_a_log_scale_within_its_bound() {
        let usage = std::sync::Arc::new(Traffic::default());
        assert_eq!(use_bonus(&usage, true), 1.0);
        let mut last = 1.0;
        for _ in 0..12 {
            usage.delivered(&crate::Caller::new("reader"), 1, usage.records_read() * 9 + 10, 0);
            let bonus = use_bonus(&usage, true);
            assert!(bonus >= last && bonus <= 1.0 + MOST_USE);
            last = bonus;
        }
        for reader in 0..50 {
            usage.delivered(&crate::Caller::new(&format!("reader-{reader}")), 1, 1, 0);
        }
        assert!((use_bonus(&usage, true) - 1.0 - MOST_USE).abs() < 1e-4);
    }
}
