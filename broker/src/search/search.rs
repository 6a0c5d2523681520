//! One search over the index.

use std::sync::Arc;

use meshlog_proto::v1;

use super::doc_set::DocSet;
use super::index::Index;
use super::query::{Asked, Filter, FilterName, Query};
use super::rank;
use super::terms::Posting;
use super::values::{Pattern, Values};

/// Most values of a facet.
const MAX_FACET_VALUES: usize = 20;

/// With fewer pages than this, looking up the use of all hits is quicker than choosing.
const MANY_PAGES: usize = 8;

/// Among more hits, who reads live does not count: to look would take longer than the search.
const MANY_HITS: usize = 10_000;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Ids of the products of this page, best first.
    pub(crate) ids: Vec<Arc<str>>,
    /// On all pages.
    pub(crate) total: usize,
    /// Empty unless asked for.
    pub(crate) facets: Vec<v1::Facet>,
    /// Words that were taken for others.
    pub(crate) corrections: Vec<String>,
    /// What the words of the query were taken for.
    pub(super) readings: Vec<Reading>,
}

/// What a word of the query is taken for.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// As asked, folded.
    pub(super) text: String,
    /// The other number.
    pub(super) variants: Vec<String>,
    /// Whether it may be the beginning of a word.
    pub(super) begins: bool,
    /// Words that are spelled like it, with the number of changes.
    pub(super) similar: Vec<(Arc<str>, u8)>,
    /// Whether there may be more of these.
    strict: bool,
}

/// What one document has gathered so far.
#[derive(Clone, Copy, Default)]
pub(super) struct Gathered {
    /// Of the words before.
    sum: f32,
    /// Of the word that is being looked at.
    best: f32,
    /// Words that matched.
    words: u8,
    /// Places of the word that is being looked at.
    places: u16,
    /// Places that have all words before.
    common: u16,
}

/// Memory of one search. It is kept for the next ones: memory from the system costs more than most
/// searches.
#[derive(Default)]
pub(super) struct Scratch {
    /// By document; all zero between searches.
    gathered: Vec<Gathered>,
    /// Documents that have gathered something.
    touched: DocSet,
    /// Those of the word that is being looked at. They are looked at in order, as everything that is
    /// known of documents lies in memory.
    with_word: DocSet,
    /// What they are worth, and the documents that were found.
    hits: Vec<(f32, u32)>,
    scores: Vec<f32>,
}

impl Index {
    /// Answers a query: `most` products after the first `skip`.
    pub(crate) fn search(&self, query: &Query, skip: usize, most: usize, facets: bool) -> Found {
        let mut scratch = self.scratch.lock().pop().unwrap_or_default();
        let found = self.search_in(&mut scratch, query, skip, most, facets);
        self.scratch.lock().push(scratch);
        found
    }

    fn search_in(
        &self,
        scratch: &mut Scratch,
        query: &Query,
        skip: usize,
        most: usize,
        facets: bool,
    ) -> Found {
        let mut allowed = self.allowed(&query.filters);
        for doc in query.hidden.iter().filter_map(|id| self.by_id.get(id)) {
            allowed.remove(*doc);
        }
        let mut found = Found::default();
        // Words are taken for similar ones if they are not known, and all of them if nothing is
        // found otherwise.
        for forgiving in [false, true] {
            found.readings = query.words.iter().map(|word| self.read(word, forgiving)).collect();
            scratch.hits.clear();
            match query.words.is_empty() {
                true => scratch.hits.extend(allowed.iter().map(|doc| (1.0, doc))),
                false => self.matches(scratch, &found.readings, &allowed),
            }
            self.keep_phrases(&mut scratch.hits, &query.phrases);
            if !scratch.hits.is_empty() || !found.readings.iter().any(|reading| reading.strict) {
                break;
            }
        }
        found.corrections = self.corrections(&found.readings);
        let Scratch { hits, scores, .. } = scratch;
        found.total = hits.len();
        if facets {
            found.facets = self.facets(hits);
        }
        let with_readers = hits.len() <= MANY_HITS;
        let end = skip.saturating_add(most).min(hits.len());
        for (score, doc) in hits.iter_mut() {
            *score *= self.ranked[*doc as usize].standing;
        }
        keep_reachable(hits, end, scores);
        for (score, doc) in hits.iter_mut() {
            *score *= rank::use_bonus(&self.ranked[*doc as usize].traffic, with_readers);
        }
        let label = |doc: u32| self.labels[doc as usize];
        let best_first = |a: &(f32, u32), b: &(f32, u32)| {
            b.0.total_cmp(&a.0).then_with(|| label(a.1).cmp(&label(b.1)))
        };
        if end < hits.len() {
            hits.select_nth_unstable_by(end, best_first);
            hits.truncate(end);
        }
        hits.sort_unstable_by(best_first);
        let page = hits.get(skip.min(end)..).unwrap_or_default();
        let id = |(_, doc): &(f32, u32)| Arc::clone(&self.products[*doc as usize].id);
        found.ids = page.iter().map(id).collect();
        found
    }

    /// Live documents for which all filters hold.
    fn allowed(&self, filters: &[Filter]) -> DocSet {
        let mut allowed = self.live.clone();
        let docs = |filter: &Filter| self.docs_of(filter.on, &filter.value);
        for on in FilterName::ALL.iter().filter(|on| on.is_single()) {
            let mut wanted = filters.iter().filter(|one| one.on == *on && !one.negated).peekable();
            if wanted.peek().is_some() {
                let mut either = DocSet::default();
                wanted.for_each(|filter| either.extend(docs(filter).iter()));
                allowed.keep(&either);
            }
        }
        for filter in filters {
            match filter.negated {
                true => allowed.drop_all(&docs(filter)),
                false if !filter.on.is_single() => allowed.keep(&docs(filter)),
                false => {}
            }
        }
        allowed
    }

    fn docs_of(&self, on: FilterName, value: &Pattern) -> DocSet {
        let values = &self.values[on.number()];
        let mut docs = values.docs(value);
        // A key finds its tags whatever their values.
        if let (FilterName::Tag, Pattern::Is(key)) = (on, value) {
            docs.extend(values.docs(&Pattern::Begins(format!("{key}="))).iter());
        }
        docs
    }

    fn read(&self, asked: &Asked, forgiving: bool) -> Reading {
        let text = asked.text.clone();
        let mut reading = Reading {
            text,
            variants: Vec::new(),
            begins: false,
            similar: Vec::new(),
            strict: false,
        };
        if asked.exact {
            return reading;
        }
        let letters = asked.text.chars().count();
        reading.variants = other_numbers(&asked.text);
        reading.begins = letters >= 2;
        let known = self.terms.exact(&asked.text).is_some()
            || reading.variants.iter().any(|variant| self.terms.exact(variant).is_some())
            || (reading.begins && self.terms.prefixed(&asked.text).next().is_some());
        // A digit more or less is another number, not a typo.
        let is_spelled = !asked.text.contains(|c: char| c.is_numeric());
        let most = rank::typos_allowed(letters);
        let correctable = is_spelled && most > 0;
        reading.strict = correctable && known && !forgiving;
        if correctable && !reading.strict {
            let mut similar: Vec<(u32, u8)> = Vec::new();
            for text in std::iter::once(&reading.text).chain(&reading.variants) {
                similar.extend(self.terms.similar(text, most));
            }
            similar.sort_unstable();
            similar.dedup_by_key(|(term, _)| *term);
            similar.retain(|(term, _)| **self.terms.text(*term) != reading.text);
            let text = |(term, distance): (u32, u8)| (Arc::clone(self.terms.text(term)), distance);
            reading.similar = similar.into_iter().map(text).collect();
        }
        reading
    }

    /// Words of documents that a reading takes in, with what each is worth.
    fn terms_of(&self, reading: &Reading) -> Vec<(u32, f32)> {
        let mut terms = Vec::new();
        terms.extend(self.terms.exact(&reading.text).map(|term| (term, 1.0)));
        let variants = reading.variants.iter().filter_map(|variant| self.terms.exact(variant));
        terms.extend(variants.map(|term| (term, rank::OTHER_NUMBER)));
        if reading.begins {
            let asked = reading.text.len();
            let begins = self.terms.prefixed(&reading.text);
            terms.extend(
                begins.map(|term| (term, rank::prefix(asked, self.terms.text(term).len()))),
            );
        }
        let similar = reading
            .similar
            .iter()
            .filter_map(|(text, distance)| Some((self.terms.exact(text)?, rank::typo(*distance))));
        terms.extend(similar);
        terms
    }

    /// Adds the allowed documents that have every word, with what they gathered, to the hits.
    fn matches(&self, scratch: &mut Scratch, readings: &[Reading], allowed: &DocSet) {
        let Scratch { gathered, touched, with_word, hits, .. } = scratch;
        gathered.resize(self.products.len(), Gathered::default());
        let words = readings.len() as u8;
        for (reading, before) in readings.iter().zip(0u8..) {
            for (term, factor) in self.terms_of(reading) {
                let factor = factor / Posting::ONE;
                for posting in self.terms.postings(term) {
                    let one = &mut gathered[posting.doc as usize];
                    one.best = one.best.max(factor * f32::from(posting.impact));
                    one.places |= posting.places;
                    with_word.insert(posting.doc);
                }
            }
            let idf = rank::idf(self.len(), with_word.count_in(&self.live));
            for doc in with_word.iter() {
                let one = &mut gathered[doc as usize];
                if one.words == before {
                    one.sum += idf * one.best;
                    one.words += 1;
                    one.common = one.places & if before == 0 { u16::MAX } else { one.common };
                    if one.words == words && allowed.contains(doc) {
                        let pieces = self.ranked[doc as usize].name_pieces;
                        let bonus = rank::together(readings.len(), one.common, pieces);
                        hits.push((one.sum * bonus, doc));
                    }
                }
                (one.best, one.places) = (0.0, 0);
            }
            touched.add_all(with_word);
            with_word.clear();
        }
        for doc in touched.iter() {
            gathered[doc as usize] = Gathered::default();
        }
        touched.clear();
    }

    fn keep_phrases(&self, hits: &mut Vec<(f32, u32)>, phrases: &[Vec<String>]) {
        for phrase in phrases.iter().filter(|phrase| phrase.len() > 1) {
            let terms: Option<Vec<u32>> =
                phrase.iter().map(|word| self.terms.exact(word)).collect();
            let Some(terms) = terms else { return hits.clear() };
            let mut last = Vec::new();
            hits.retain(|(_, doc)| {
                last.clear();
                self.words_of(*doc).any(|word| match word {
                    Some(term) => {
                        if last.len() == terms.len() {
                            last.remove(0);
                        }
                        last.push(term);
                        last == terms
                    }
                    None => {
                        last.clear();
                        false
                    }
                })
            });
        }
    }

    fn corrections(&self, readings: &[Reading]) -> Vec<String> {
        let live = |text: &Arc<str>| self.terms.exact(text).map_or(0, |term| self.terms.live(term));
        let corrected = readings.iter().filter_map(|reading| {
            let nearest = |one: &&(Arc<str>, u8)| {
                (one.1, std::cmp::Reverse(live(&one.0)), Arc::clone(&one.0))
            };
            let (text, _) = reading.similar.iter().min_by_key(nearest)?;
            Some(format!("{}: {text}", reading.text))
        });
        corrected.collect()
    }

    fn facets(&self, hits: &[(f32, u32)]) -> Vec<v1::Facet> {
        let names = FilterName::ALL.iter().filter(|on| on.is_single() || **on == FilterName::Tag);
        let mut counts: Vec<Vec<u32>> =
            names.clone().map(|on| vec![0; self.values[on.number()].len()]).collect();
        for (_, doc) in hits {
            let singles = &self.singles[*doc as usize];
            for (counts, value) in counts.iter_mut().zip(singles) {
                counts[*value as usize] += 1;
            }
        }
        let tag_counts = &mut counts[FilterName::Tag.number()];
        for (_, doc) in hits {
            let (from, to) = self.tag_ranges[*doc as usize];
            for tag in &self.tags[from as usize..to as usize] {
                tag_counts[*tag as usize] += 1;
            }
        }
        let facet = |on: &FilterName| v1::Facet {
            name: on.word().to_owned(),
            values: most_frequent(&self.values[on.number()], &counts[on.number()]),
        };
        names.map(facet).filter(|facet| !facet.values.is_empty()).collect()
    }
}

/// Drops the hits that no use can lift among the first `end`. Use stands in a place of its own for
/// every product; to look it up for all hits of a broad word takes longer than the search.
fn keep_reachable(hits: &mut Vec<(f32, u32)>, end: usize, scores: &mut Vec<f32>) {
    if end == 0 || hits.len() < MANY_PAGES * end {
        return;
    }
    scores.clear();
    scores.extend(hits.iter().map(|(score, _)| *score));
    let (_, last, _) = scores.select_nth_unstable_by(end - 1, |a, b| b.total_cmp(a));
    // A little less, for what rounding takes.
    let least = *last / (1.0 + rank::MOST_USE) * 0.999;
    hits.retain(|(score, _)| *score >= least);
}

fn most_frequent(values: &Values, counts: &[u32]) -> Vec<v1::FacetValue> {
    let mut counted: Vec<(u32, u32)> = (0..).zip(counts.iter().copied()).collect();
    counted.retain(|(value, count)| *count > 0 && !values.text(*value).is_empty());
    let order = |a: &(u32, u32), b: &(u32, u32)| {
        b.1.cmp(&a.1).then_with(|| values.text(a.0).cmp(values.text(b.0)))
    };
    if counted.len() > MAX_FACET_VALUES {
        counted.select_nth_unstable_by(MAX_FACET_VALUES, order);
        counted.truncate(MAX_FACET_VALUES);
    }
    counted.sort_unstable_by(order);
    let value = |(value, count): (u32, u32)| v1::FacetValue {
        value: as_filter_value(values.text(value)),
        count: u64::from(count),
    };
    counted.into_iter().map(value).collect()
}

/// A value so that it can stand behind a filter's colon.
fn as_filter_value(text: &str) -> String {
    match text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        true => format!("\"{text}\""),
        false => text.to_owned(),
    }
}

/// Singular for plural and plural for singular, as English mostly forms them.
fn other_numbers(word: &str) -> Vec<String> {
    let mut others = Vec::new();
    if word.len() < 3 || !word.is_ascii() || word.contains(|c: char| c.is_ascii_digit()) {
        return others;
    }
    let hisses = |stem: &str| ["s", "x", "z", "ch", "sh"].iter().any(|end| stem.ends_with(end));
    if let Some(stem) = word.strip_suffix("ies").filter(|stem| stem.len() >= 2) {
        others.push(format!("{stem}y"));
    }
    if let Some(stem) = word.strip_suffix("es").filter(|stem| hisses(stem)) {
        others.push(stem.to_owned());
    }
    match word.strip_suffix('s').filter(|stem| stem.len() >= 3) {
        Some(stem) if !["s", "u", "i"].iter().any(|end| stem.ends_with(end)) => {
            others.push(stem.to_owned());
        }
        _ => {}
    }
    match word.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'i', 'o', 'u']) => {
            others.push(format!("{stem}ies"));
        }
        _ if hisses(word) => others.push(format!("{word}es")),
        _ if !word.ends_with('s') => others.push(format!("{word}s")),
        _ => {}
    }
    others
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nouns_are_found_in_the_other_number() {
        for (one, many) in [
            ("flight", "flights"),
            ("delivery", "deliveries"),
            ("box", "boxes"),
            ("batch", "batches"),
            ("day", "days"),
            ("address", "addresses"),
        ] {
            assert!(other_numbers(one).contains(&many.to_owned()), "{one}");
            assert!(other_numbers(many).contains(&one.to_owned()), "{many}");
        }
        assert_eq!(other_numbers("status"), ["statuses"]);
        assert!(!other_numbers("address").contains(&"addres".to_owned()));
        assert!(other_numbers("v2").is_empty());
    }
}
