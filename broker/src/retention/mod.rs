//! What products keep: taking records away, and saying why those that are there still are.
//!
//! How long records stay is a setting of their product (`catalogue/settings.rs`). It reaches the
//! engine as a policy of each partition, in the entry that changes the product, so a restart finds
//! both or neither. The engine does the rest by itself.

mod erase;
mod explain;
mod trim;

#[cfg(test)]
mod tests;
