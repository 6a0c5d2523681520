//! Where in a product the words of a query stand, for a person.

use std::ops::Range;

use meshlog_proto::v1;

use super::document::{Document, Place, Text};
use super::query::{FilterName, Query};
use super::rank;
use super::search::{Found, Reading};
use super::text::lower;
use super::values::Pattern;

/// Most places shown of one product.
const MOST: usize = 5;
/// Longest piece of text, in characters.
const MOST_CHARS: usize = 160;
/// Of them, before the word.
const BEFORE: usize = 60;

impl Reading {
    /// What this word of a document is worth; `None`: it is not what was asked for.
    fn worth(&self, word: &str) -> Option<f32> {
        if word == self.text {
            return Some(1.0);
        }
        if self.variants.iter().any(|variant| variant == word) {
            return Some(rank::OTHER_NUMBER);
        }
        if self.begins && word.starts_with(&self.text) {
            return Some(rank::prefix(self.text.len(), word.len()));
        }
        let similar = self.similar.iter().find(|(text, _)| **text == *word);
        similar.map(|(_, distance)| rank::typo(*distance))
    }
}

impl Document {
    /// Why this document was found: the places with the best matches.
    pub(crate) fn matches(&self, query: &Query, found: &Found) -> Vec<v1::SearchMatch> {
        let mut best: Vec<(f32, v1::SearchMatch)> = Vec::new();
        self.texts(|text| {
            let Some((worth, range)) = worth(&text, query, &found.readings) else { return };
            let is_full = best.len() == MOST;
            if is_full && best.last().is_some_and(|(last, _)| *last >= worth) {
                return;
            }
            let one = v1::SearchMatch {
                place: text.place.word().to_owned(),
                snippet: self.snippet(&text, range),
            };
            if best.iter().any(|(_, other)| *other == one) {
                return;
            }
            let at = best.partition_point(|(other, _)| *other >= worth);
            best.insert(at, (worth, one));
            best.truncate(MOST);
        });
        best.into_iter().map(|(_, one)| one).collect()
    }

    fn snippet(&self, text: &Text<'_>, range: Range<usize>) -> String {
        match text.place {
            Place::Name | Place::Domain => around(&self.product.name, 0..0, MOST_CHARS),
            Place::Tag if !text.field.is_empty() => {
                around(&format!("{} on {}", text.text, text.field), range, MOST_CHARS)
            }
            Place::FieldDocs => {
                let field = around(text.field, 0..0, MOST_CHARS / 2);
                let room = MOST_CHARS - field.chars().count() - 2;
                format!("{field}: {}", around(text.text, range, room))
            }
            _ => around(text.text, range, MOST_CHARS),
        }
    }
}

/// What the words and filters found in this text are worth, and where the best of them stands.
fn worth(text: &Text<'_>, query: &Query, readings: &[Reading]) -> Option<(f32, Range<usize>)> {
    let mut worths = vec![0.0f32; readings.len()];
    let mut best: Option<(f32, Range<usize>)> = None;
    text.words(|_, word, range| {
        for (reading, worth) in readings.iter().zip(&mut worths) {
            let Some(here) = reading.worth(word) else { continue };
            *worth = worth.max(here);
            if best.as_ref().is_none_or(|(best, _)| here > *best) {
                best = Some((here, range.clone()));
            }
        }
    });
    let on = match text.place {
        Place::Tag => Some(FilterName::Tag),
        Place::Field => Some(FilterName::Field),
        _ => None,
    };
    let mut filters =
        query.filters.iter().filter(|filter| Some(filter.on) == on && !filter.negated);
    let by_filter = filters.any(|filter| fits(filter.on, &filter.value, &lower(text.text)));
    let words: f32 = worths.iter().sum();
    let (weight, ..) = rank::weight(text.place);
    match (best, by_filter) {
        (None, false) => None,
        (best, _) => {
            let range = best.map_or(0..0, |(_, range)| range);
            Some((weight * (words + f32::from(u8::from(by_filter))), range))
        }
    }
}

fn fits(on: FilterName, wanted: &Pattern, text: &str) -> bool {
    let part = match on {
        FilterName::Tag => text.split_once('=').map(|(key, _)| key),
        _ => text.rsplit_once('.').map(|(_, last)| last),
    };
    wanted.fits(text) || part.is_some_and(|part| wanted.fits(part))
}

/// At most `most` characters of a text around a part of it, in whole words and on one line.
fn around(text: &str, part: Range<usize>, most: usize) -> String {
    if text.chars().count() <= most {
        return on_one_line(text);
    }
    let boundary = |c: char| c.is_whitespace();
    let before = text[..part.start].char_indices().rev().nth(BEFORE.min(most / 3));
    let start = match before {
        None => 0,
        Some((at, _)) => {
            text[at..part.start].find(boundary).map_or(part.start, |space| at + space + 1)
        }
    };
    let start = (start..=part.start).find(|at| text.is_char_boundary(*at)).unwrap_or(part.start);
    // Two characters are for the marks that something was left out.
    let room = most - 2;
    let end = text[start..].char_indices().nth(room).map_or(text.len(), |(at, _)| start + at);
    let end = match end < text.len() && !text[end..].starts_with(boundary) {
        true => text[start..end].rfind(boundary).map(|at| start + at).filter(|at| *at >= part.end),
        false => None,
    }
    .unwrap_or(end);
    let mut snippet = on_one_line(&text[start..end]);
    if start > 0 {
        snippet.insert(0, '…');
    }
    if end < text.len() {
        snippet.push('…');
    }
    snippet
}

fn on_one_line(text: &str) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if !word.is_empty() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_long_text_is_cut_around_the_word_in_whole_words() {
        let text =
            format!("{}the needle here{}", "some hay and ".repeat(20), " then more hay".repeat(20));
        let at = text.find("needle").unwrap();
        let snippet = around(&text, at..at + 6, MOST_CHARS);
        assert!(snippet.starts_with('…') && snippet.ends_with('…'), "{snippet}");
        assert!(snippet.contains("the needle here then more"), "{snippet}");
        assert!(snippet.chars().count() <= MOST_CHARS);
        let inside = snippet.trim_matches('…');
        let known = ["some", "hay", "and", "the", "needle", "here", "then", "more"];
        assert!(inside.split(' ').all(|word| known.contains(&word)), "{snippet}");
    }

    proptest! {
        #[test]
        fn any_text_is_cut_to_the_length(text in "(?s)[aé\u{301} \n漢\u{7}]{0,400}", at in 0..400usize, len in 0..9usize, most in 60..160usize) {
            let boundary = |at: usize| (at.min(text.len())..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap();
            let (start, end) = (boundary(at), boundary(at + len));
            let snippet = around(&text, start..end, most);
            prop_assert!(snippet.chars().count() <= most);
            prop_assert!(!snippet.contains(char::is_control));
        }
    }
}
