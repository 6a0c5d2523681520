//! What a person asks for, read.
//!
//! ```text
//! query  = { part }                     parts are separated by white space; at most 32
//! part   = [ "-" ] filter ":" value     exactly this value; with a trailing `*`: its beginning
//!        | '"' words '"'                these words, side by side, in one text
//!        | word
//! value  = word | '"' text '"'
//! ```
//!
//! Several parts must all hold, except that several values of one of `domain`, `owner`, `state`,
//! `classification`, `kind`, `format` are alternatives: a product has one of each.

use std::sync::Arc;

use super::text::{self, lower};
use super::values::Pattern;
use crate::error::{Error, Reason, Result};

pub(super) const MAX_BYTES: usize = 1000;
pub(super) const MAX_PARTS: usize = 32;

/// A query, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    /// In the order asked, each once.
    pub(super) words: Vec<Asked>,
    /// The words of each phrase; they are among `words` too.
    pub(super) phrases: Vec<Vec<String>>,
    pub(super) filters: Vec<Filter>,
    /// Ids of products that whoever asks may not see; they are neither found nor counted.
    pub(crate) hidden: Vec<Arc<str>>,
}

/// A word that a product must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// Folded.
    pub(super) text: String,
    /// Of a phrase: taken for nothing but itself.
    pub(super) exact: bool,
}

/// A fact that must hold, or must not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) on: FilterName,
    pub(super) value: Pattern,
    pub(super) negated: bool,
}

macro_rules! filter_names {
    ($($name:ident = $word:literal),* $(,)?) => {
        /// What a filter looks at.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum FilterName { $($name),* }

        impl FilterName {
            pub(super) const ALL: &'static [Self] = &[$(Self::$name),*];

            pub(super) fn word(self) -> &'static str {
                match self { $(Self::$name => $word),* }
            }
        }
    };
}

filter_names! {
    Domain = "domain",
    Owner = "owner",
    State = "state",
    Classification = "classification",
    Kind = "kind",
    Format = "format",
    Tag = "tag",
    Field = "field",
    Name = "name",
}

impl FilterName {
    /// Those of which a product has one value: their values are alternatives, and facets.
    pub(super) const SINGLE: usize = 6;

    pub(super) fn number(self) -> usize {
        self as usize
    }

    pub(super) fn is_single(self) -> bool {
        self.number() < Self::SINGLE
    }

    /// Every value there can be, if they are few.
    fn choices(self) -> Option<&'static [&'static str]> {
        match self {
            Self::State => Some(&["draft", "active", "deprecated", "retired"]),
            Self::Classification => Some(&["public", "internal", "confidential", "restricted"]),
            Self::Kind => Some(&["source-aligned", "aggregate", "consumer-aligned"]),
            Self::Format => Some(&["json-schema", "avro", "protobuf", "opaque"]),
            _ => None,
        }
    }
}

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    /// `QUERY_INVALID` with the position, in characters from 1, and what to write instead.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if text.len() > MAX_BYTES {
            let what = format!("it has {} bytes; at most {MAX_BYTES} are allowed", text.len());
            return Err(invalid(1, what));
        }
        let mut query = Self::default();
        let mut rest = Rest { text, at: 0 };
        let mut parts = 0;
        let mut odd = None;
        while rest.skip_space() {
            parts += 1;
            let position = rest.position();
            if parts > MAX_PARTS {
                let what =
                    format!("at most {MAX_PARTS} words and filters are allowed; leave some out");
                return Err(invalid(position, what));
            }
            if rest.peek() == Some('"') {
                let phrase = rest.quoted()?;
                query.add_phrase(phrase, position)?;
                continue;
            }
            let word = rest.word();
            let (negated, bare) = match word.strip_prefix('-') {
                Some(bare) => (true, bare),
                None => (false, word),
            };
            if let Some((name, value)) = bare.split_once(':') {
                let on = filter_name(name, value, position)?;
                let value = match (value, rest.peek()) {
                    ("", Some('"')) => rest.quoted()?,
                    (value, _) => value,
                };
                query.filters.push(Filter { on, value: pattern(on, value, position)?, negated });
                continue;
            }
            let before = query.words.len();
            let folded = folded(word);
            if negated && !folded.is_empty() {
                let shown = shown(bare);
                return Err(invalid(
                    position,
                    format!(
                        "`-` goes before a filter, for instance `-tag:{shown}`; to look for the \
                         word, leave the `-` out"
                    ),
                ));
            }
            if folded.is_empty() {
                odd.get_or_insert((position, word));
            }
            for text in folded {
                query.add_word(text, false);
            }
            if query.words.len() > MAX_PARTS && query.words.len() > before {
                let what =
                    format!("at most {MAX_PARTS} words are allowed, dots and dashes divide them");
                return Err(invalid(position, what));
            }
        }
        match odd {
            Some((position, word)) if query == Self::default() => Err(invalid(
                position,
                format!("`{}` has no letter and no digit to look for", shown(word)),
            )),
            _ => Ok(query),
        }
    }

    fn add_word(&mut self, text: String, exact: bool) {
        match self.words.iter_mut().find(|word| word.text == text) {
            Some(word) => word.exact |= exact,
            None => self.words.push(Asked { text, exact }),
        }
    }

    fn add_phrase(&mut self, phrase: &str, position: usize) -> Result<()> {
        let words = folded(phrase);
        if words.is_empty() {
            return Err(invalid(position, "there is no word between the quotes".to_owned()));
        }
        for word in &words {
            self.add_word(word.clone(), true);
        }
        if self.words.len() > MAX_PARTS {
            return Err(invalid(position, format!("at most {MAX_PARTS} words are allowed")));
        }
        self.phrases.push(words);
        Ok(())
    }
}

fn folded(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    text::prose(text, |word, _| words.push(word.to_owned()));
    words
}

fn filter_name(name: &str, value: &str, position: usize) -> Result<FilterName> {
    let wanted = lower(name);
    if let Some(found) = FilterName::ALL.iter().find(|one| one.word() == wanted) {
        return Ok(*found);
    }
    let is_time = !name.is_empty() && name.chars().all(|c| c.is_ascii_digit());
    if is_time || value.starts_with("//") || ["mailto", "urn"].contains(&wanted.as_str()) {
        let shown = shown(&format!("{name}:{value}"));
        return Err(invalid(
            position,
            format!("`:` belongs to filters; to look for this text, quote it: `\"{shown}\"`"),
        ));
    }
    let words: Vec<&str> = FilterName::ALL.iter().map(|one| one.word()).collect();
    let near = words.iter().map(|word| (strsim::osa_distance(word, &wanted), *word)).min();
    let near = near.filter(|(distance, word)| *distance <= word.len() / 2);
    let meant = near.map(|(_, word)| format!("did you mean `{word}:`? ")).unwrap_or_default();
    Err(invalid(
        position,
        format!(
            "there is no filter `{}`; {meant}The filters are {}; to look for text with `:` in it, \
             quote it",
            shown(name),
            words.join(", ")
        ),
    )
    .with("filters", words.join(",")))
}

fn pattern(on: FilterName, value: &str, position: usize) -> Result<Pattern> {
    let mut wanted = lower(value);
    if wanted.is_empty() {
        return Err(invalid(
            position,
            format!(
                "`{0}:` needs a value right behind it, for instance `{0}:{1}`",
                on.word(),
                example(on)
            ),
        ));
    }
    if let Some(choices) = on.choices() {
        wanted = wanted.replace('_', "-");
        let is_one = choices.iter().any(|choice| match wanted.strip_suffix('*') {
            Some(beginning) => choice.starts_with(beginning),
            None => *choice == wanted,
        });
        if !is_one {
            let what = format!(
                "`{}` is not a value of `{}:`; it takes {}",
                shown(value),
                on.word(),
                choices.join(", ")
            );
            return Err(invalid(position, what));
        }
    }
    Ok(match wanted.strip_suffix('*') {
        Some(beginning) => Pattern::Begins(beginning.to_owned()),
        None => Pattern::Is(wanted),
    })
}

fn example(on: FilterName) -> &'static str {
    match on {
        FilterName::Domain => "ops",
        FilterName::Owner => "flight-operations",
        FilterName::State => "active",
        FilterName::Classification => "public",
        FilterName::Kind => "aggregate",
        FilterName::Format => "avro",
        FilterName::Tag => "pii",
        FilterName::Field => "tailnum",
        FilterName::Name => "ops.*",
    }
}

/// A piece of what the caller sent, fit to be shown.
fn shown(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_debug).collect()
}

fn invalid(position: usize, what: String) -> Error {
    let what = format!("the query cannot be read at character {position}: {what}");
    Error::new(Reason::QueryInvalid, what.clone())
        .with("field", "query")
        .with("position", position)
        .with_violation("query", what)
}

/// What is still to be read.
struct Rest<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Rest<'a> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    /// In characters, from 1.
    fn position(&self) -> usize {
        self.text[..self.at].chars().count() + 1
    }

    /// Whether anything is left. Control characters separate as white space does.
    fn skip_space(&mut self) -> bool {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches(is_space).len();
        self.at < self.text.len()
    }

    /// Up to white space or a quote.
    fn word(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let end = rest.find(|c| is_space(c) || c == '"').unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn quoted(&mut self) -> Result<&'a str> {
        let position = self.position();
        let inside = &self.text[self.at + 1..];
        match inside.split_once('"') {
            Some((quoted, _)) => {
                self.at += quoted.len() + 2;
                Ok(quoted)
            }
            None => Err(invalid(
                position,
                "the quote `\"` that begins here does not end; add another one".to_owned(),
            )),
        }
    }
}

fn is_space(c: char) -> bool {
    c.is_whitespace() || c.is_control()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(text: &str) -> Error {
        let error = Query::parse(text).unwrap_err();
        assert_eq!(error.reason(), Reason::QueryInvalid);
        error
    }

    #[test]
    fn words_phrases_and_filters_are_told_apart() {
        let query =
            Query::parse("Flüge \"New York\" -tag:PII domain:ops tag:\"a b\" field:dep_*").unwrap();
        let word = |text: &str, exact| Asked { text: text.to_owned(), exact };
        assert_eq!(query.words, [word("fluge", false), word("new", true), word("york", true)]);
        assert_eq!(query.phrases, [["new", "york"]]);
        let filter = |on, value, negated| Filter { on, value, negated };
        let is = |text: &str| Pattern::Is(text.to_owned());
        assert_eq!(
            query.filters,
            [
                filter(FilterName::Tag, is("pii"), true),
                filter(FilterName::Domain, is("ops"), false),
                filter(FilterName::Tag, is("a b"), false),
                filter(FilterName::Field, Pattern::Begins("dep_".to_owned()), false),
            ]
        );
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_place_and_a_way_out() {
        for (text, position, what) in [
            ("flights onwer:ops", "9", "did you mean `owner:`? The filters are domain, owner,"),
            ("xyzzy:1", "1", "there is no filter `xyzzy`; The filters are"),
            ("flights \"new york", "9", "does not end"),
            ("domain:", "1", "`domain:` needs a value right behind it, for instance `domain:ops`"),
            ("domain: ops", "1", "needs a value"),
            ("tag:\"\"", "1", "needs a value"),
            ("\"\"", "1", "no word between the quotes"),
            ("see http://example.org/a", "5", "quote it: `\"http://example.org/a\"`"),
            ("at 12:30", "4", "quote it: `\"12:30\"`"),
            ("state:live", "1", "it takes draft, active, deprecated, retired"),
            ("-flights", "1", "`-` goes before a filter"),
            ("  &&  ", "3", "no letter and no digit"),
            (&"a ".repeat(33), "65", "at most 32"),
            (&"a.b.c.d.e.f.g.h.".repeat(5).replace('a', "a1"), "1", "at most 32"),
            (&"x".repeat(1001), "1", "1001 bytes"),
        ] {
            let many: String = (0..60).map(|n| format!("w{n}.")).collect();
            let text = if what == "at most 32" && position == "1" { &many } else { text };
            let error = refused(text);
            assert_eq!(error.metadata()["position"], position, "{error}");
            assert!(error.to_string().contains(what), "{error}");
            assert_eq!(error.violations()[0].field, "query");
        }
    }

    #[test]
    fn a_megabyte_is_refused_in_a_short_sentence() {
        assert!(refused(&"*".repeat(1 << 20)).to_string().len() < 200);
        let hostile = format!("{}:x", "\u{7}<script>".repeat(80));
        let error = refused(&hostile);
        assert!(error.to_string().len() < 1000 && !error.to_string().contains('\u{7}'), "{error}");
    }

    #[test]
    fn words_of_an_enum_are_taken_in_either_spelling() {
        let query = Query::parse("format:JSON_SCHEMA kind:source*").unwrap();
        assert_eq!(query.filters[0].value, Pattern::Is("json-schema".to_owned()));
        assert_eq!(query.filters[1].value, Pattern::Begins("source".to_owned()));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(?s).{0,80}|[a-z:\"* .-]{0,80}|(tag|name|-state|x):[a-z*\"]{0,9}") {
            match Query::parse(&text) {
                Ok(query) => {
                    prop_assert!(query.words.len() <= MAX_PARTS);
                    prop_assert!(query.filters.len() <= MAX_PARTS);
                    prop_assert!(query.words.iter().all(|word| !word.text.is_empty()));
                }
                Err(error) => {
                    prop_assert_eq!(error.reason(), Reason::QueryInvalid);
                    prop_assert!(error.to_string().len() < 2000);
                }
            }
        }
    }
}
