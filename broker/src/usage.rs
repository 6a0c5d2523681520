//! Who uses a product, and how much. Counted where records are handed over; the base of the guard
//! against pulling a product from under its readers, and of the rank of search results.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use meshlog_proto::v1;
use parking_lot::Mutex;

/// Whoever read within this time reads live.
const LIVE: Duration = Duration::from_secs(24 * 60 * 60);
/// Applications remembered per product; beyond, the one that read longest ago is forgotten.
const MAX_READERS: usize = 100;

/// How much one product is used.
#[derive(Debug, Default)]
pub struct Usage {
    records_read: AtomicU64,
    records_appended: AtomicU64,
    last_append: AtomicU64,
    readers: Mutex<HashMap<Arc<str>, Reader>>,
}

#[derive(Debug, Default)]
struct Reader {
    open: u32,
    last_read: u64,
}

/// An open subscription, as long as it is not dropped.
#[derive(Debug)]
pub struct OpenReader {
    usage: Arc<Usage>,
    application: Arc<str>,
}

impl Usage {
    /// Records were appended.
    pub fn appended(&self, records: u64) {
        self.records_appended.fetch_add(records, Ordering::Relaxed);
        self.last_append.store(now(), Ordering::Relaxed);
    }

    /// Records were delivered to an application.
    pub fn delivered(&self, application: &str, records: u64) {
        self.records_read.fetch_add(records, Ordering::Relaxed);
        let mut readers = self.readers.lock();
        reader(&mut readers, application).last_read = now();
    }

    /// An application follows the product until the answer is dropped.
    #[must_use]
    pub fn open(self: &Arc<Self>, application: &str) -> OpenReader {
        reader(&mut self.readers.lock(), application).open += 1;
        OpenReader { usage: Arc::clone(self), application: Arc::from(application) }
    }

    /// Records delivered so far.
    #[must_use]
    pub fn records_read(&self) -> u64 {
        self.records_read.load(Ordering::Relaxed)
    }

    /// Whoever has an open subscription or read within 24 hours, by name.
    #[must_use]
    pub fn live_readers(&self) -> Vec<v1::LiveReader> {
        let since = Self::live_since();
        let readers = self.readers.lock();
        let live = readers.iter().filter(|(_, reader)| reader.open > 0 || reader.last_read > since);
        let mut live: Vec<v1::LiveReader> = live
            .map(|(application, reader)| v1::LiveReader {
                application: application.to_string(),
                open_subscriptions: reader.open,
                last_read_time: timestamp(reader.last_read),
            })
            .collect();
        live.sort_by(|a, b| a.application.cmp(&b.application));
        live
    }

    /// How many [`Usage::live_readers`] there are, of those since [`Usage::live_since`].
    pub(crate) fn live_reader_count(&self, since: u64) -> usize {
        let readers = self.readers.lock();
        readers.values().filter(|reader| reader.open > 0 || reader.last_read > since).count()
    }

    /// Whoever reads now or has read after this time, in nanoseconds, reads live.
    pub(crate) fn live_since() -> u64 {
        now().saturating_sub(LIVE.as_nanos() as u64)
    }

    /// As clients see it.
    #[must_use]
    pub fn message(&self) -> v1::ProductUse {
        let last_read = self.readers.lock().values().map(|reader| reader.last_read).max();
        v1::ProductUse {
            records_read: self.records_read(),
            records_appended: self.records_appended.load(Ordering::Relaxed),
            last_read_time: timestamp(last_read.unwrap_or_default()),
            last_append_time: timestamp(self.last_append.load(Ordering::Relaxed)),
            live_readers: self.live_readers(),
        }
    }
}

impl Drop for OpenReader {
    fn drop(&mut self) {
        if let Some(reader) = self.usage.readers.lock().get_mut(&self.application) {
            reader.open = reader.open.saturating_sub(1);
        }
    }
}

fn reader<'a>(readers: &'a mut HashMap<Arc<str>, Reader>, application: &str) -> &'a mut Reader {
    if !readers.contains_key(application) && readers.len() >= MAX_READERS {
        let idle = readers.iter().filter(|(_, reader)| reader.open == 0);
        let oldest = idle.min_by_key(|(_, reader)| reader.last_read).map(|(name, _)| name.clone());
        oldest.map(|name| readers.remove(&name));
    }
    readers.entry(Arc::from(application)).or_default()
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn timestamp(nanos: u64) -> Option<prost_types::Timestamp> {
    (nanos > 0).then(|| prost_types::Timestamp::from(UNIX_EPOCH + Duration::from_nanos(nanos)))
}
