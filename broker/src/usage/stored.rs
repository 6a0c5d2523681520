//! Counts in the storage state. `FORMAT.md` describes it; the golden bytes in the tests pin it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use prost::Message as _;

use super::{MAX_READERS, Reader, Usage};
use crate::error::{Error, Reason, Result};

/// What stands under the key of a product's counts.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct StoredUsage {
    #[prost(uint64, tag = "1")]
    records_read: u64,
    #[prost(uint64, tag = "2")]
    records_appended: u64,
    #[prost(uint64, tag = "3")]
    last_append: u64,
    #[prost(message, repeated, tag = "4")]
    readers: Vec<StoredReader>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct StoredReader {
    #[prost(string, tag = "1")]
    application: String,
    #[prost(uint64, tag = "2")]
    last_read: u64,
}

/// The key of a product's counts.
pub(crate) fn key(product_id: &str) -> Bytes {
    Bytes::from(format!("usage/{product_id}"))
}

/// The product's id; `None` for keys of other parts of the broker.
pub(crate) fn parse(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key).ok()?.strip_prefix("usage/")
}

impl StoredUsage {
    /// The value under `key`.
    pub(crate) fn decode_value(key: &[u8], value: &Bytes) -> Result<Self> {
        Self::decode(value.clone()).map_err(|error| {
            let key = String::from_utf8_lossy(key).into_owned();
            Error::new(
                Reason::DataLoss,
                format!("the counts `{key}` cannot be read: {error}; restore them from a backup"),
            )
            .with("key", key)
        })
    }
}

impl Usage {
    /// As it is stored. Whatever changes from here on is a change again.
    pub(super) fn snapshot(&self) -> StoredUsage {
        self.changed.store(false, Ordering::SeqCst);
        self.stored.store(true, Ordering::SeqCst);
        let readers = self.readers.lock();
        let mut stored: Vec<StoredReader> = readers
            .iter()
            .map(|(application, reader)| StoredReader {
                application: application.to_string(),
                last_read: reader.last_read.load(Ordering::Relaxed),
            })
            .collect();
        drop(readers);
        stored.sort_by(|a, b| a.application.cmp(&b.application));
        StoredUsage {
            records_read: self.records_read.load(Ordering::Relaxed),
            records_appended: self.records_appended.load(Ordering::Relaxed),
            last_append: self.last_append.load(Ordering::Relaxed),
            readers: stored,
        }
    }

    /// Goes on where the stored counts end.
    pub(crate) fn restore(&self, stored: StoredUsage) {
        self.stored.store(true, Ordering::SeqCst);
        self.records_read.store(stored.records_read, Ordering::Relaxed);
        self.records_appended.store(stored.records_appended, Ordering::Relaxed);
        self.last_append.store(stored.last_append, Ordering::Relaxed);
        let mut readers = self.readers.lock();
        for reader in stored.readers.into_iter().take(MAX_READERS + 1) {
            let last_read = reader.last_read.into();
            let known = Reader { last_read, ..Reader::default() };
            readers.insert(Arc::from(reader.application), Arc::new(known));
        }
    }

    /// Whether the storage state has a key for it.
    pub(crate) fn is_stored(&self) -> bool {
        self.stored.load(Ordering::SeqCst)
    }

    /// Whether this is the first change since the counts were written.
    pub(super) fn begins_to_change(&self) -> bool {
        !self.changed.load(Ordering::Relaxed) && !self.changed.swap(true, Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_form_is_the_one_that_format_md_describes() {
        let usage = Arc::new(Usage::default());
        let stored = StoredUsage {
            records_read: 300,
            records_appended: 7,
            last_append: 9,
            readers: vec![StoredReader { application: "app".to_owned(), last_read: 5 }],
        };
        let golden = b"\x08\xac\x02\x10\x07\x18\x09\x22\x07\x0a\x03app\x10\x05";
        assert_eq!(stored.encode_to_vec(), golden);
        assert_eq!(key("01ABC"), &b"usage/01ABC"[..]);
        assert_eq!(parse(b"usage/01ABC"), Some("01ABC"));
        usage.restore(StoredUsage::decode(&golden[..]).unwrap());
        assert_eq!(usage.snapshot(), stored);
        usage.open("app").delivered(1);
        assert_eq!(usage.records_read(), 301);
    }
}
