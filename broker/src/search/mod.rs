//! Search over the catalogue: an inverted index in memory.
//!
//! ```text
//!  Document ──words──► Terms    word → (document, impact, places)      words, beginnings, typos
//!     │    ──values──► Values   filter value → documents               filters, facets
//!     │    ──words in order──► one byte string per document            phrases, removal
//!  Query ──────────────► Index::search ──► ids of a page, total, facets, corrections
//!  Document + what was found ──► matches   where the words stand, for a person
//! ```
//!
//! The index is a view of the catalogue: `catalogue/searching.rs` builds it and keeps it current, and
//! this module knows documents only. What an index answers depends on the documents that are in it
//! and on nothing else: neither on the order in which they came nor on those that were there before.
//!
//! # Rank
//!
//! ```text
//! score(product) = Σ over words  idf(word) · max over matching terms  likeness · impact
//!                  · together · standing · use
//!
//! idf(word)   = ln(1 + (N − n + ½) / (n + ½)), n of N products have a term that the word matches
//! likeness    = 1 the word itself · 0.95 the other number (flight, flights)
//!               · 0.5 + 0.3 · share of letters given, for the beginning of a term
//!               · 0.4 one change away · 0.25 two changes
//! impact      = best place + a tenth of the other places; a place is worth
//!               weight · 1.6 · tf / (tf + 0.6 · (1 − b + b · length / usual length))
//! weight      = name 10 · tag 6 · field 5 · domain, owner 4 · description 3 · field docs 1.6
//!               · contact, docs 1
//! together    = 1.6 if the words are the name behind the domain · 1.25 if all stand in it
//!               · 1.15 if all stand in one of the other places · 1
//! standing    = 0.6 deprecated · 0.3 retired · 1
//! use         = 1 + 0.2 · (0.6 · ln(1 + records read) / ln(1 + 10⁷)
//!                          + 0.4 · ln(1 + live readers) / ln 21), each share at most 1;
//!               among more than 10,000 hits live readers do not count
//! ```
//!
//! Without words, `score = standing · use`. Equal scores are in the order of names. So use decides
//! between matches that are within a fifth of each other, and never lifts a poor match over a good one.
//!
//! # Bounds
//!
//! A query has at most 1,000 bytes and 32 parts. Of a product, 12,000 words are indexed: 2,000 of
//! its docs, 2,000 of the docs of its fields, 4,000 of paths, 4,000 of tags, 1,000 of every other place.

mod doc_set;
mod document;
mod index;
mod matches;
mod order;
mod query;
mod rank;
#[expect(clippy::module_inception, reason = "one search is what the module is about")]
mod search;
mod terms;
mod text;
mod values;

#[cfg(test)]
mod tests;

pub(crate) use document::Document;
pub(crate) use index::Index;
pub use index::IndexSize;
pub(crate) use query::{FilterName, Query};
