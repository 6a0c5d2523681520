//! Named cursors: durable positions of a reader, per product.
//!
//! ```text
//! commit ─ product is kept ─ gate of the cursor ─ etag, limit ─ one entry ─► journal ─► table ─► answer
//!           └ shared, against deletion             └ decided here             └ synced
//! ```
//!
//! - A commit is one key of the storage state (`FORMAT.md`), synced before it is answered. It touches
//!   that key alone, however many cursors there are.
//! - Commits of one cursor in one product take turns, in the order in which they came: of two with one
//!   etag exactly one wins. Commits of different cursors share a group of the journal.
//! - The table in memory changes in the callback of the append, so a caller that goes away leaves no
//!   durable commit unseen. After a restart it is the same table.
//! - A deleted product takes its cursors with it, in the same entry.
//!
//! Nothing is assigned and nobody is kept out. Lock order: presence of the product, gate of the
//! cursor, table.

mod commit;
mod listing;
mod stored;
mod table;

#[cfg(test)]
mod tests;

pub(crate) use table::CursorTable;

use crate::error::{Error, Reason, Result};

/// Longest name of a cursor.
const MAX_NAME_BYTES: usize = 128;

/// Checks the name of a cursor that a user gives.
fn check_name(name: &str) -> Result<()> {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let what = match name.as_bytes() {
        [] => "it is empty".to_owned(),
        bytes if bytes.len() > MAX_NAME_BYTES => {
            format!("at most {MAX_NAME_BYTES} characters are allowed, it has {}", bytes.len())
        }
        bytes if !bytes.iter().all(|byte| allowed(*byte)) => {
            "use the letters a to z, digits, `.`, `_` and `-`".to_owned()
        }
        [first, ..] if !first.is_ascii_alphanumeric() => {
            "it must start with a letter or a digit".to_owned()
        }
        _ => return Ok(()),
    };
    let shown = shown(name);
    Err(Error::new(
        Reason::NameInvalid,
        format!(
            "`{shown}` cannot be the name of a cursor: {what}; a valid name is `nightly-report`"
        ),
    )
    .with("field", "cursor")
    .with("name", shown))
}

/// A name that somebody sent, safe to print.
fn shown(name: &str) -> String {
    name.chars().take(80).flat_map(char::escape_debug).collect()
}
