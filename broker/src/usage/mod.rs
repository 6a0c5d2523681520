//! Who uses a product, and how much. Counted where records are handed over; the base of the guard
//! against pulling a product from under its readers, and of the rank of search results.
//!
//! ```text
//! append acknowledged ─► appended ┐                        at most once a minute, and at close,
//! read answered ───────► delivered┼─► Usage ─► Ledger ───► one key of the storage state per product
//! subscription ─► open ─► delivered┘           (changed)   that changed (FORMAT.md)
//! ```
//!
//! A message of a subscription costs some atomic additions: the application's counter is looked up
//! once, when the subscription opens. What the broker reads for itself, samples and profiles, is no
//! use. After a crash the counts are those of at most a minute before.

mod ledger;
mod stored;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use meshlog_proto::v1;
use parking_lot::Mutex;

pub(crate) use ledger::Ledger;
pub(crate) use stored::{StoredUsage, key, parse};

/// Whoever read within this time reads live.
const LIVE: Duration = Duration::from_secs(24 * 60 * 60);
/// Applications remembered per product; beyond, the one that read longest ago is forgotten.
const MAX_READERS: usize = 100;
/// Stands for all applications beyond [`MAX_READERS`] that have open subscriptions at once.
const OTHERS: &str = "(others)";

/// How much one product is used.
#[derive(Debug, Default)]
pub struct Usage {
    records_read: AtomicU64,
    records_appended: AtomicU64,
    last_append: AtomicU64,
    readers: Mutex<HashMap<Arc<str>, Arc<Reader>>>,
    /// Changed since the counts were last written.
    changed: AtomicBool,
    /// The storage state has, or will have, a key for it.
    stored: AtomicBool,
}

#[derive(Debug, Default)]
struct Reader {
    open: AtomicU32,
    last_read: AtomicU64,
}

/// An open subscription, as long as it is not dropped.
pub struct OpenReader {
    usage: Arc<Usage>,
    reader: Arc<Reader>,
}

impl fmt::Debug for OpenReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenReader").finish_non_exhaustive()
    }
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
        reader(&mut self.readers.lock(), application).last_read.store(now(), Ordering::Relaxed);
    }

    /// An application follows the product until the answer is dropped.
    #[must_use]
    pub fn open(self: &Arc<Self>, application: &str) -> OpenReader {
        let mut readers = self.readers.lock();
        let reader = Arc::clone(reader(&mut readers, application));
        // Under the lock, so that nobody is forgotten while it opens.
        reader.open.fetch_add(1, Ordering::Relaxed);
        drop(readers);
        OpenReader { usage: Arc::clone(self), reader }
    }

    /// Records delivered so far.
    #[must_use]
    pub fn records_read(&self) -> u64 {
        self.records_read.load(Ordering::Relaxed)
    }

    /// Whoever has an open subscription or read within 24 hours, by name.
    #[must_use]
    pub fn live_readers(&self) -> Vec<v1::LiveReader> {
        let since = live_since();
        let readers = self.readers.lock();
        let mut live: Vec<v1::LiveReader> = readers
            .iter()
            .filter_map(|(application, reader)| {
                let (open_subscriptions, last_read) = reader.live(since)?;
                Some(v1::LiveReader {
                    application: application.to_string(),
                    open_subscriptions,
                    last_read_time: timestamp(last_read),
                })
            })
            .collect();
        live.sort_by(|a, b| a.application.cmp(&b.application));
        live
    }

    /// How many [`Usage::live_readers`] there are.
    #[must_use]
    pub fn live_reader_count(&self) -> usize {
        let since = live_since();
        let readers = self.readers.lock();
        readers.values().filter(|reader| reader.live(since).is_some()).count()
    }

    /// As clients see it.
    #[must_use]
    pub fn message(&self) -> v1::ProductUse {
        let readers = self.readers.lock();
        let last_reads = readers.values().map(|reader| reader.last_read.load(Ordering::Relaxed));
        let last_read = last_reads.max().unwrap_or_default();
        drop(readers);
        v1::ProductUse {
            records_read: self.records_read(),
            records_appended: self.records_appended.load(Ordering::Relaxed),
            last_read_time: timestamp(last_read),
            last_append_time: timestamp(self.last_append.load(Ordering::Relaxed)),
            live_readers: self.live_readers(),
        }
    }
}

impl Reader {
    /// Open subscriptions and the last read, if it has the former or the latter is after `since`.
    fn live(&self, since: u64) -> Option<(u32, u64)> {
        let open = self.open.load(Ordering::Relaxed);
        let last_read = self.last_read.load(Ordering::Relaxed);
        (open > 0 || last_read > since).then_some((open, last_read))
    }
}

impl OpenReader {
    /// Records were delivered on this subscription.
    pub fn delivered(&self, records: u64) {
        self.usage.records_read.fetch_add(records, Ordering::Relaxed);
        self.reader.last_read.store(now(), Ordering::Relaxed);
    }
}

impl Drop for OpenReader {
    fn drop(&mut self) {
        self.reader.open.fetch_sub(1, Ordering::Relaxed);
    }
}

type Readers = HashMap<Arc<str>, Arc<Reader>>;

/// The counter of an application; of [`OTHERS`] if there are too many and all of them are open.
fn reader<'a>(readers: &'a mut Readers, application: &str) -> &'a Arc<Reader> {
    let mut name = application;
    if !readers.contains_key(application) {
        if readers.len() >= MAX_READERS {
            let idle =
                readers.iter().filter(|(_, reader)| reader.open.load(Ordering::Relaxed) == 0);
            let oldest = idle.min_by_key(|(_, reader)| reader.last_read.load(Ordering::Relaxed));
            match oldest.map(|(name, _)| Arc::clone(name)) {
                Some(oldest) => drop(readers.remove(&oldest)),
                None => name = OTHERS,
            }
        }
        if !readers.contains_key(name) {
            readers.insert(Arc::from(name), Arc::default());
        }
    }
    &readers[name]
}

/// Whoever read after this reads live.
fn live_since() -> u64 {
    now().saturating_sub(LIVE.as_nanos() as u64)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn timestamp(nanos: u64) -> Option<prost_types::Timestamp> {
    (nanos > 0).then(|| prost_types::Timestamp::from(UNIX_EPOCH + Duration::from_nanos(nanos)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_is_live_while_it_follows_and_after_it_read() {
        let usage = Arc::new(Usage::default());
        let follower = usage.open("follower");
        usage.delivered("batch", 3);
        follower.delivered(4);
        assert_eq!(usage.records_read(), 7);
        let live = usage.live_readers();
        let names: Vec<_> =
            live.iter().map(|one| (one.application.as_str(), one.open_subscriptions)).collect();
        assert_eq!(names, [("batch", 0), ("follower", 1)]);
        drop(follower);
        assert_eq!(usage.live_readers()[1].open_subscriptions, 0, "it read within 24 hours");
        drop(usage.open("never-read"));
        assert_eq!(usage.live_readers().len(), 2, "opening alone is no use");
    }

    #[test]
    fn a_hundred_applications_are_remembered_and_open_ones_are_never_forgotten() {
        let usage = Arc::new(Usage::default());
        let open: Vec<OpenReader> = (0..60).map(|n| usage.open(&format!("open-{n}"))).collect();
        for n in 0..200 {
            usage.delivered(&format!("once-{n}"), 1);
        }
        let live = usage.live_readers();
        assert_eq!(live.len(), MAX_READERS);
        assert_eq!(live.iter().filter(|one| one.open_subscriptions == 1).count(), 60);
        assert!(live.iter().any(|one| one.application == "once-199"), "the newest stays");
        let more: Vec<OpenReader> = (0..500).map(|n| usage.open(&format!("more-{n}"))).collect();
        assert!(usage.readers.lock().len() <= MAX_READERS + 1);
        let open_now = usage.live_readers().iter().map(|one| one.open_subscriptions).sum::<u32>();
        assert_eq!(open_now, 560, "none is left out of the guard");
        drop((open, more));
        assert!(usage.live_readers().iter().all(|one| one.open_subscriptions == 0));
    }
}
