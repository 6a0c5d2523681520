//! Tells waiting readers that there is something new, without polling.
//!
//! Storage calls [`Wakeups::advanced`] from its committing thread; every waiting reader has one
//! [`Watch`] over all its streams. A wake-up that comes between a look and the wait is kept, so
//! the order is: watch, look, wait. A stream that nobody watches costs nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

use meshlog_storage::{Observer, StreamId};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Who waits for which stream.
#[derive(Debug, Default)]
pub(crate) struct Wakeups {
    watched: Mutex<HashMap<StreamId, Vec<Arc<Notify>>>>,
    /// Watches there are; lets the committing thread pass by without the lock.
    watches: AtomicUsize,
}

impl Observer for Wakeups {
    fn advanced(&self, streams: &[StreamId]) {
        // Pairs with the fence in `watch`: either this sees the watch, or the reader's look, which
        // comes after, sees the durable end that was published before this call.
        fence(Ordering::SeqCst);
        if self.watches.load(Ordering::SeqCst) == 0 {
            return;
        }
        let watched = self.watched.lock();
        for stream in streams {
            for notify in watched.get(stream).into_iter().flatten() {
                notify.notify_one();
            }
        }
    }
}

impl Wakeups {
    /// Watches these streams until the watch is dropped.
    pub(crate) fn watch(self: &Arc<Self>, streams: Vec<StreamId>) -> Watch {
        self.watches.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let notify = Arc::new(Notify::new());
        let mut watched = self.watched.lock();
        for stream in &streams {
            watched.entry(*stream).or_default().push(Arc::clone(&notify));
        }
        drop(watched);
        Watch { wakeups: Arc::clone(self), streams, notify }
    }
}

/// One reader's interest in some streams.
#[derive(Debug)]
pub(crate) struct Watch {
    wakeups: Arc<Wakeups>,
    streams: Vec<StreamId>,
    notify: Arc<Notify>,
}

impl Watch {
    /// Waits until a stream has advanced since the last return (or since the watch began).
    pub(crate) async fn advanced(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.wakeups.watched.lock();
        for stream in &self.streams {
            if let Some(waiting) = watched.get_mut(stream) {
                waiting.retain(|notify| !Arc::ptr_eq(notify, &self.notify));
                if waiting.is_empty() {
                    watched.remove(stream);
                }
            }
        }
        drop(watched);
        self.wakeups.watches.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn a_wake_up_before_the_wait_is_kept_and_several_are_one() {
        let wakeups = Arc::new(Wakeups::default());
        let watch = wakeups.watch(vec![StreamId(1), StreamId(2)]);
        assert!(watch.advanced().now_or_never().is_none());
        wakeups.advanced(&[StreamId(2)]);
        wakeups.advanced(&[StreamId(1), StreamId(2)]);
        assert!(watch.advanced().now_or_never().is_some());
        assert!(watch.advanced().now_or_never().is_none());
        wakeups.advanced(&[StreamId(3)]);
        assert!(watch.advanced().now_or_never().is_none(), "another stream");
    }

    #[test]
    fn a_dropped_watch_leaves_nothing_behind() {
        let wakeups = Arc::new(Wakeups::default());
        let first = wakeups.watch(vec![StreamId(1)]);
        let second = wakeups.watch(vec![StreamId(1)]);
        drop(first);
        wakeups.advanced(&[StreamId(1)]);
        assert!(second.advanced().now_or_never().is_some());
        drop(second);
        assert!(wakeups.watched.lock().is_empty());
        assert_eq!(wakeups.watches.load(Ordering::SeqCst), 0);
    }
}
