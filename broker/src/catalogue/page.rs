//! Pages of a list by name.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Bound;
use std::sync::Arc;

use super::invalid;
use crate::error::Result;

const DEFAULT_SIZE: u32 = 100;
const MAX_SIZE: u32 = 1000;

/// Which page is asked for.
pub(crate) struct Page {
    /// How many names at most.
    pub(crate) size: usize,
    /// Begin behind this name; empty: at the first.
    pub(crate) after: String,
    /// What is listed; a token of one list does not fit another.
    list: String,
}

impl Page {
    /// `list` is what is listed and how it is filtered.
    pub(crate) fn asked(list: &str, page_size: u32, page_token: &str) -> Result<Self> {
        let size = if page_size == 0 { DEFAULT_SIZE } else { page_size.min(MAX_SIZE) } as usize;
        let after = match page_token {
            "" => String::new(),
            token => last_name(list, token).ok_or_else(|| {
                invalid("page_token", "it is not from the last response to the same request")
            })?,
        };
        Ok(Self { size, after, list: list.to_owned() })
    }

    /// The page of what stands under its name, with what is built in among it, and the token of
    /// the next page.
    pub(super) fn of<T: Clone>(
        &self,
        named: &BTreeMap<Arc<str>, Arc<T>>,
        built_in: impl IntoIterator<Item = Arc<T>>,
        name: impl Fn(&T) -> &str,
    ) -> (Vec<T>, String) {
        let after = (Bound::Excluded(self.after.as_str()), Bound::Unbounded);
        let own = named.range::<str, _>(after).take(self.size + 1).map(|(_, item)| item);
        let mut items: Vec<Arc<T>> = own.cloned().collect();
        items.extend(built_in.into_iter().filter(|item| name(item) > self.after.as_str()));
        items.sort_by(|a, b| name(a).cmp(name(b)));
        items.truncate(self.size + 1);
        let token = self.cut(&mut items, |item| name(item));
        (items.into_iter().map(Arc::unwrap_or_clone).collect(), token)
    }

    /// Cuts names that were taken with one more than the size; gives the token of the next page.
    pub(crate) fn cut<T>(&self, items: &mut Vec<T>, name: impl Fn(&T) -> &str) -> String {
        if items.len() <= self.size {
            return String::new();
        }
        items.truncate(self.size);
        let last = items.last().map(name).unwrap_or_default();
        let text = format!("{}\n{last}", self.list);
        text.bytes().fold(String::new(), |mut token, byte| {
            let _ = write!(token, "{byte:02x}");
            token
        })
    }
}

fn last_name(list: &str, token: &str) -> Option<String> {
    if !token.is_ascii() || !token.len().is_multiple_of(2) {
        return None;
    }
    let digits = (0..token.len()).step_by(2).map(|at| &token[at..at + 2]);
    let bytes = digits.map(|two| u8::from_str_radix(two, 16).ok()).collect::<Option<Vec<u8>>>()?;
    let text = String::from_utf8(bytes).ok()?;
    let (own, name) = text.rsplit_once('\n')?;
    (own == list).then(|| name.to_owned())
}
