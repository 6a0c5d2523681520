//! Texts cut into the words that the index knows.
//!
//! Case and accents are folded (`Flüge`, `FLUGE` and `fluge` are one word). Two readings:
//!
//! - **prose** (descriptions, docs, contacts): a word is a run of letters and digits;
//! - **identifiers** (names, tags, paths of fields): such a run is cut again where case changes and
//!   where digits meet at least three letters, and what was cut is a word as a whole too:
//!   `tail_num` is `tail`, `num` and `tailnum`; `depDelay2` is `dep`, `delay`, `2` and `depdelay2`.

use std::ops::Range;

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// A longer word is cut.
pub(super) const MAX_WORD_BYTES: usize = 64;

/// Letters that must stand before a digit, or after one, for a cut between them.
const LETTERS_BESIDE_DIGITS: usize = 3;

/// Calls `each` with every word of a text, folded, and where it stands.
pub(super) fn prose(text: &str, mut each: impl FnMut(&str, Range<usize>)) {
    let mut folded = String::new();
    for run in runs(text) {
        fold(&text[run.clone()], &mut folded);
        if !folded.is_empty() {
            each(&folded, run);
        }
    }
}

/// What [`identifier`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A piece; pieces follow each other as in the text.
    Piece,
    /// Several pieces joined.
    Joined,
}

/// Calls `each` with every word of an identifier, folded, and where it stands. Joined words come
/// after the pieces of their segment; segments end at dots, brackets, `=` and white space.
pub(super) fn identifier(text: &str, mut each: impl FnMut(Part, &str, Range<usize>)) {
    let mut folded = String::new();
    let mut emit = |part, range: Range<usize>| {
        fold(&text[range.clone()], &mut folded);
        if !folded.is_empty() {
            each(part, &folded, range);
        }
    };
    let ends_segment = |c: char| ".[]= \t\n@/:,".contains(c);
    let mut at = 0;
    for segment in text.split(ends_segment) {
        let start = at;
        at += segment.len() + text[at + segment.len()..].chars().next().map_or(0, char::len_utf8);
        let mut whole = Vec::new();
        let mut cut = 0;
        for run in runs(segment) {
            let run = start + run.start..start + run.end;
            let pieces = pieces(&text[run.clone()]);
            cut += 1;
            for piece in &pieces {
                emit(Part::Piece, run.start + piece.start..run.start + piece.end);
            }
            if pieces.len() > 1 {
                whole.push(run);
            }
        }
        for run in &whole {
            emit(Part::Joined, run.clone());
        }
        if cut > 1 {
            emit(Part::Joined, start..start + segment.len());
        }
    }
}

/// A text in lower case, for values that are compared as a whole.
pub(super) fn lower(text: &str) -> String {
    text.trim().to_lowercase()
}

/// Whether a character can be part of a word.
fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || is_combining_mark(c)
}

fn runs(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut rest = text.char_indices().peekable();
    std::iter::from_fn(move || {
        let (start, _) = rest.by_ref().find(|(_, c)| is_of_word(*c))?;
        while rest.next_if(|(_, c)| is_of_word(*c)).is_some() {}
        let end = rest.peek().map_or(text.len(), |(at, _)| *at);
        Some(start..end)
    })
}

/// Where case and digits cut a run.
fn pieces(run: &str) -> Vec<Range<usize>> {
    let chars: Vec<(usize, char)> = run.char_indices().collect();
    let letters_before =
        |at: usize| chars[..at].iter().rev().take_while(|(_, c)| c.is_alphabetic()).count();
    let letters_from =
        |at: usize| chars[at..].iter().take_while(|(_, c)| c.is_alphabetic()).count();
    let mut pieces = Vec::new();
    let mut start = 0;
    for at in 1..chars.len() {
        let (before, here) = (chars[at - 1].1, chars[at].1);
        let next_is_lower = chars.get(at + 1).is_some_and(|(_, c)| c.is_lowercase());
        let border = (before.is_lowercase() && here.is_uppercase())
            || (before.is_uppercase() && here.is_uppercase() && next_is_lower)
            || (before.is_alphabetic()
                && here.is_numeric()
                && letters_before(at) >= LETTERS_BESIDE_DIGITS)
            || (before.is_numeric()
                && here.is_alphabetic()
                && letters_from(at) >= LETTERS_BESIDE_DIGITS);
        if border {
            pieces.push(start..chars[at].0);
            start = chars[at].0;
        }
    }
    pieces.push(start..run.len());
    pieces
}

/// Case and accents away, and everything that is neither letter nor digit.
fn fold(run: &str, folded: &mut String) {
    folded.clear();
    if run.is_ascii() {
        let kept = run.bytes().filter(u8::is_ascii_alphanumeric).take(MAX_WORD_BYTES);
        folded.extend(kept.map(|b| b.to_ascii_lowercase() as char));
        return;
    }
    for c in run.chars().flat_map(char::to_lowercase).nfkd() {
        let spelled = match c {
            'ß' => "ss",
            'ø' => "o",
            'æ' => "ae",
            'œ' => "oe",
            'ł' => "l",
            'đ' => "d",
            'ı' => "i",
            _ => "",
        };
        let room = MAX_WORD_BYTES - folded.len();
        if !spelled.is_empty() && spelled.len() <= room {
            folded.push_str(spelled);
        } else if c.is_alphanumeric() && c.len_utf8() <= room {
            // Some compatibility forms decompose into capitals.
            folded.extend(c.to_lowercase().filter(|c| c.len_utf8() <= room));
        }
    }
    let mut end = folded.len().min(MAX_WORD_BYTES);
    while !folded.is_char_boundary(end) {
        end -= 1;
    }
    folded.truncate(end);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prose_words(text: &str) -> Vec<String> {
        let mut words = Vec::new();
        prose(text, |word, _| words.push(word.to_owned()));
        words
    }

    fn identifier_words(text: &str) -> Vec<String> {
        let mut words = Vec::new();
        identifier(text, |_, word, _| words.push(word.to_owned()));
        words
    }

    #[test]
    fn case_and_accents_are_folded() {
        assert_eq!(
            prose_words("Les FLÜGE, straße; e\u{301}té"),
            ["les", "fluge", "strasse", "ete"]
        );
        assert_eq!(prose_words("ﬁne Ｗｉｄｅ №5"), ["fine", "wide", "5"]);
    }

    #[test]
    fn identifiers_are_cut_at_case_and_digits_and_known_as_a_whole() {
        assert_eq!(identifier_words("tail_num"), ["tail", "num", "tailnum"]);
        assert_eq!(identifier_words("depDelay2"), ["dep", "delay", "2", "depdelay2"]);
        assert_eq!(identifier_words("HTTPServer"), ["http", "server", "httpserver"]);
        assert_eq!(identifier_words("flights-v2"), ["flights", "v2", "flightsv2"]);
        assert_eq!(identifier_words("legs[].b737"), ["legs", "b737"]);
        assert_eq!(identifier_words("source=bts"), ["source", "bts"]);
    }

    #[test]
    fn a_long_word_is_cut() {
        let words = prose_words(&"é".repeat(10_000));
        assert_eq!(words, ["e".repeat(MAX_WORD_BYTES)]);
        assert!(prose_words(&"ł漢".repeat(10_000))[0].len() <= MAX_WORD_BYTES);
    }

    proptest! {
        #[test]
        fn any_text_is_cut_without_panic_into_words_that_stay_as_they_are(text in ".{0,60}") {
            let mut found = Vec::new();
            prose(&text, |word, range| found.push((word.to_owned(), text[range].to_owned())));
            identifier(&text, |_, word, range| found.push((word.to_owned(), text[range].to_owned())));
            for (word, _) in found {
                prop_assert!(!word.is_empty() && word.len() <= MAX_WORD_BYTES);
                prop_assert_eq!(prose_words(&word), vec![word]);
            }
        }
    }
}
