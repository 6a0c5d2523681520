//! The index: what is known of each document, and the changes of it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::doc_set::DocSet;
use super::document::{Document, Place, tag_text};
use super::order::NameOrder;
use super::query::FilterName;
use super::rank;
use super::search::Scratch;
use super::terms::{Posting, Terms};
use super::text::{Part, lower};
use super::values::Values;
use crate::Traffic;

/// Most words of one document, all places together.
const MAX_WORDS: usize = 12_000;

/// Removed documents are swept out when there are more of them than this and than a quarter of
/// the others.
const MAX_DEAD: usize = if cfg!(test) { 8 } else { 1024 };

/// All documents, findable. A document never changes: a new version of a product is a new document,
/// and the old one is dead until it is swept out.
#[derive(Default)]
pub(crate) struct Index {
    pub(super) terms: Terms,
    /// By filter.
    pub(super) values: [Values; FilterName::ALL.len()],
    pub(super) live: DocSet,
    /// By document: what phrases need.
    pub(super) products: Vec<Known>,
    /// By document: the values of the single filters. Apart, because facets read them for every hit.
    pub(super) singles: Vec<[u32; FilterName::SINGLE]>,
    /// By document: where its tags stand in `tags`.
    pub(super) tag_ranges: Vec<(u32, u32)>,
    pub(super) tags: Vec<u32>,
    /// By document: what the rank needs.
    pub(super) ranked: Vec<Ranked>,
    /// By document: labels of the name order.
    pub(super) labels: Vec<u64>,
    order: NameOrder,
    pub(super) by_id: HashMap<Arc<str>, u32>,
    dead: usize,
    /// Memory of searches that are over, for those that come.
    pub(super) scratch: Mutex<Vec<Scratch>>,
}

/// What is known of one document.
pub(super) struct Known {
    pub(super) id: Arc<str>,
    name: Arc<str>,
    /// Every word in order, as numbers plus 1 in LEB128; 0 stands between texts.
    words: Box<[u8]>,
}

/// What the rank looks at for every hit.
pub(super) struct Ranked {
    pub(super) traffic: Arc<Traffic>,
    /// What the state is worth.
    pub(super) standing: f32,
    /// Pieces of the name behind the domain.
    pub(super) name_pieces: u8,
}

/// How large an index is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexSize {
    /// Products that can be found.
    pub products: usize,
    /// Different words.
    pub words: usize,
    /// Pairs of a word and a product.
    pub postings: usize,
    /// Bytes of memory, worked out from the sizes of its parts.
    pub bytes: usize,
}

impl Index {
    /// Puts a document in the place of the one with its id.
    pub(crate) fn put(&mut self, document: &Document) {
        self.remove(&document.product.id);
        let doc = self.products.len() as u32;
        let id: Arc<str> = Arc::from(document.product.id.as_str());
        let name: Arc<str> = Arc::from(document.product.name.as_str());
        let (words, name_pieces) = self.add_words(document, doc);
        self.add_values(document, doc);
        self.labels.push(0);
        match self.order.insert((Arc::clone(&name), Arc::clone(&id)), doc) {
            Some(label) => self.labels[doc as usize] = label,
            None => self.relabel(),
        }
        self.by_id.insert(Arc::clone(&id), doc);
        self.live.insert(doc);
        self.products.push(Known { id, name, words });
        self.ranked.push(Ranked {
            traffic: Arc::clone(&document.traffic),
            standing: rank::standing(document.product.state()),
            name_pieces,
        });
    }

    /// Removes the document of this id, if there is one.
    pub(crate) fn remove(&mut self, id: &str) {
        let Some(doc) = self.by_id.remove(id) else { return };
        let known = &mut self.products[doc as usize];
        let words = std::mem::take(&mut known.words);
        self.order.remove(&(Arc::clone(&known.name), Arc::clone(&known.id)));
        self.live.remove(doc);
        let mut terms: Vec<u32> = numbers(&words).flatten().collect();
        terms.sort_unstable();
        terms.dedup();
        terms.into_iter().for_each(|term| self.terms.release(term));
        self.dead += 1;
        if self.dead > MAX_DEAD && self.dead > self.by_id.len() / 4 {
            self.compact();
        }
    }

    /// Number of documents.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Ids of the documents whose value of a single filter is this one.
    pub(crate) fn ids_with(&self, on: FilterName, value: &str) -> Vec<Arc<str>> {
        let pattern = super::values::Pattern::Is(value.to_owned());
        let mut docs = self.values[on.number()].docs(&pattern);
        docs.keep(&self.live);
        docs.iter().map(|doc| Arc::clone(&self.products[doc as usize].id)).collect()
    }

    /// How large it is now.
    pub(crate) fn size(&self) -> IndexSize {
        let (postings, mut bytes) = self.terms.size();
        bytes += self.values.iter().map(Values::size).sum::<usize>();
        // A name of about 32 bytes; the id is shared with the catalogue, the maps are not.
        bytes += self.products.iter().map(|known| known.words.len() + 48).sum::<usize>();
        bytes += self.products.capacity()
            * (size_of::<Known>() + size_of::<Ranked>() + 24 + 8 + 8 + 64 + 24);
        bytes += self.tags.capacity() * 4;
        IndexSize { products: self.len(), words: self.terms.len(), postings, bytes }
    }

    /// The texts of a document, as numbers of words; `None` stands between texts.
    pub(super) fn words_of(&self, doc: u32) -> impl Iterator<Item = Option<u32>> + '_ {
        numbers(&self.products[doc as usize].words)
    }

    fn add_words(&mut self, document: &Document, doc: u32) -> (Box<[u8]>, u8) {
        let mut forward = Vec::new();
        let mut found: Vec<(u32, Place)> = Vec::new();
        let mut lengths = [0usize; Place::COUNT];
        let mut name_pieces = 0u8;
        document.texts(|text| {
            let length = &mut lengths[text.place.number()];
            let mut last = Part::Piece;
            text.words(|part, word, _| {
                if *length >= text.place.most_words() || found.len() >= MAX_WORDS {
                    return;
                }
                if part != last || part == Part::Joined {
                    forward.push(0);
                    last = part;
                }
                if part == Part::Piece {
                    *length += 1;
                    name_pieces = name_pieces.saturating_add(u8::from(text.place == Place::Name));
                }
                let term = self.terms.number(word);
                push_number(&mut forward, term);
                found.push((term, text.place));
            });
            forward.push(0);
        });
        found.sort_unstable();
        for of_term in found.chunk_by(|(a, _), (b, _)| a == b) {
            let mut places = 0;
            let mut values = [0.0; Place::COUNT];
            for of_place in of_term.chunk_by(|(_, a), (_, b)| a == b) {
                let place = of_place[0].1;
                places |= place.bit();
                values[place.number()] =
                    rank::value(place, of_place.len(), lengths[place.number()]);
            }
            let impact = (rank::impact(&values) * Posting::ONE).clamp(1.0, f32::from(u16::MAX));
            self.terms.add(of_term[0].0, Posting { doc, impact: impact as u16, places });
        }
        (forward.into_boxed_slice(), name_pieces)
    }

    fn add_values(&mut self, document: &Document, doc: u32) {
        let (domain, own_name) = document.names();
        let mut add = |on: FilterName, value: &str| self.values[on.number()].add(value, doc);
        self.singles.push([
            add(FilterName::Domain, &lower(domain)),
            add(FilterName::Owner, &lower(&document.product.owner)),
            add(FilterName::State, document.state()),
            add(FilterName::Classification, document.classification()),
            add(FilterName::Kind, document.kind()),
            add(FilterName::Format, document.format()),
        ]);
        add(FilterName::Name, &lower(&document.product.name));
        add(FilterName::Name, &lower(own_name));
        let mut tags: Vec<String> = document.tags().map(|tag| lower(&tag_text(tag))).collect();
        tags.sort_unstable();
        tags.dedup();
        let start = self.tags.len() as u32;
        self.tags.extend(tags.iter().map(|tag| add(FilterName::Tag, tag)));
        self.tag_ranges.push((start, self.tags.len() as u32));
        for field in &document.fields {
            let path = lower(&field.path);
            if let Some((_, last)) = path.rsplit_once('.') {
                add(FilterName::Field, last);
            }
            add(FilterName::Field, &path);
        }
    }

    fn relabel(&mut self) {
        for (doc, label) in self.order.labels() {
            self.labels[doc as usize] = label;
        }
    }

    /// Sweeps the dead out. Takes about a tenth of a second for 100,000 documents.
    fn compact(&mut self) {
        let mut renumbered = vec![u32::MAX; self.products.len()];
        for (new, old) in (0..).zip(self.live.iter()) {
            renumbered[old as usize] = new;
        }
        let number = |old: u32| match renumbered[old as usize] {
            u32::MAX => None,
            new => Some(new),
        };
        let terms = self.terms.compact(number);
        let values: Vec<Vec<u32>> =
            self.values.iter_mut().map(|values| values.compact(number)).collect();
        let is_live = |old: &u32| renumbered[*old as usize] != u32::MAX;
        let mut old = 0..;
        self.labels.retain(|_| old.next().is_some_and(|old| is_live(&old)));
        let mut old = 0..;
        self.ranked.retain(|_| old.next().is_some_and(|old| is_live(&old)));
        let mut old = 0..;
        self.singles.retain(|_| old.next().is_some_and(|old| is_live(&old)));
        for single in &mut self.singles {
            single.iter_mut().zip(&values).for_each(|(value, new)| *value = new[*value as usize]);
        }
        let mut tags = Vec::new();
        let mut tag_ranges = Vec::with_capacity(self.by_id.len());
        for old in self.live.iter() {
            let (from, to) = self.tag_ranges[old as usize];
            let start = tags.len() as u32;
            let new = &values[FilterName::Tag.number()];
            let own = &self.tags[from as usize..to as usize];
            tags.extend(own.iter().map(|tag| new[*tag as usize]));
            tag_ranges.push((start, tags.len() as u32));
        }
        (self.tags, self.tag_ranges) = (tags, tag_ranges);
        let mut old = 0..;
        self.products.retain(|_| old.next().is_some_and(|old| is_live(&old)));
        for known in &mut self.products {
            let mut words = Vec::with_capacity(known.words.len());
            for word in numbers(&known.words) {
                match word {
                    Some(term) => push_number(&mut words, terms[term as usize]),
                    None => words.push(0),
                }
            }
            known.words = words.into_boxed_slice();
        }
        self.by_id.values_mut().for_each(|doc| *doc = renumbered[*doc as usize]);
        self.order.renumber(|old| renumbered[old as usize]);
        self.live = DocSet::default();
        self.live.extend(0..self.products.len() as u32);
        self.dead = 0;
    }
}

fn push_number(bytes: &mut Vec<u8>, term: u32) {
    let mut rest = term + 1;
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = Option<u32>> + '_ {
    let mut bytes = bytes.iter();
    std::iter::from_fn(move || {
        let (mut number, mut shift) = (0u32, 0);
        loop {
            let byte = *bytes.next()?;
            number |= u32::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return Some(number.checked_sub(1));
            }
        }
    })
}
