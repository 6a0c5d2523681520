//! Rules of products: what every record must meet beside its schema, in CEL.
//!
//! ```text
//! text ──size, brackets──► parser (thread of its own) ──nodes, depth, names──► Expression
//!                                                                                 │ once per version
//! record ──schema──► value ──────────────────────────────────────────► evaluate within a budget
//! ```
//!
//! An expression is untrusted input. Its length and the depth of its brackets are looked at before it
//! is parsed; the parser runs on a stack that is large enough for every text of that length, and a
//! panic of it ends there. What is evaluated is a tree of bounded size and depth, by the evaluator
//! here and not by the library: every node, every item and every few bytes of text cost a step, and
//! steps are counted before the work is done. So time and memory are bounded by the budget, whatever
//! the expression and the value. Patterns are compiled once, run in linear time, and cost by their
//! size.
//!
//! Where it differs from CEL: numbers of different types can be compared and calculated with, because
//! JSON has one type of number; names of an enum are texts; `matches` takes a constant pattern;
//! there are no timestamps, durations, optionals and messages.

mod budget;
mod data;
mod evaluate;
mod expression;
mod rules;
mod trial;
mod value;

#[cfg(test)]
mod tests;

pub(crate) use data::{Data, MAX_PARTS};
pub(crate) use expression::Expression;
pub(crate) use rules::{Counts, Rules, Verdict, check_names};
pub(crate) use value::Source;

/// Longest expression.
pub(crate) const MAX_EXPRESSION_BYTES: usize = 2 << 10;
/// Deepest nesting of brackets in the text.
pub(crate) const MAX_BRACKETS: usize = 24;
/// Most nodes of an expression.
pub(crate) const MAX_NODES: usize = 256;
/// Deepest nesting of nodes.
pub(crate) const MAX_NODE_DEPTH: usize = 48;
/// Deepest nesting of `all`, `exists`, `exists_one`, `map` and `filter`.
pub(crate) const MAX_LOOPS: usize = 2;
/// Steps that one rule may take for one record.
pub(crate) const MAX_STEPS: u64 = 20_000;
/// Steps that all rules may take for the records of one request, some tenths of a second.
pub(crate) const MAX_REQUEST_STEPS: u64 = 10_000_000;
/// Most rules of a product.
pub(crate) const MAX_RULES: usize = 16;
/// Longest message of a rule.
pub(crate) const MAX_MESSAGE_BYTES: usize = 500;
