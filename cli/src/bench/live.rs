//! What a person at a terminal sees while a run goes on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::{BinaryBytes, HumanCount, ProgressBar};
use tokio::task::AbortHandle;

use crate::progress;

/// Counts what is done. Clones count together.
#[derive(Clone)]
pub(super) struct Live {
    bar: ProgressBar,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    done: AtomicU64,
    bytes: AtomicU64,
}

/// Draws the counts five times a second, until it is dropped.
pub(super) struct Phase(Option<AbortHandle>);

impl Drop for Phase {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl Live {
    /// Nothing is drawn where standard error is no terminal.
    pub(super) fn new() -> Self {
        Self { bar: progress::spinner(), counts: Arc::default() }
    }

    /// Nothing is drawn.
    pub(super) fn silent() -> Self {
        Self { bar: ProgressBar::hidden(), counts: Arc::default() }
    }

    /// So much more is done.
    pub(super) fn count(&self, done: u64, bytes: u64) {
        self.counts.done.fetch_add(done, Ordering::Relaxed);
        self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Begins to count from nothing; `word` is what is counted.
    pub(super) fn phase(&self, word: &'static str) -> Phase {
        self.counts.done.store(0, Ordering::Relaxed);
        self.counts.bytes.store(0, Ordering::Relaxed);
        self.bar.set_message(word);
        if self.bar.is_hidden() {
            return Phase(None);
        }
        let (bar, counts) = (self.bar.clone(), self.counts.clone());
        let task = tokio::spawn(async move {
            let begun = Instant::now();
            let mut ticks = tokio::time::interval(Duration::from_millis(200));
            loop {
                ticks.tick().await;
                let seconds = begun.elapsed().as_secs_f64().max(1e-3);
                let (done, bytes) =
                    (counts.done.load(Ordering::Relaxed), counts.bytes.load(Ordering::Relaxed));
                let each = HumanCount((done as f64 / seconds) as u64);
                let rate = match bytes {
                    0 => String::new(),
                    bytes => format!(", {}/s", BinaryBytes((bytes as f64 / seconds) as u64)),
                };
                bar.set_message(format!("{} {word}, {each}/s{rate}", HumanCount(done)));
            }
        });
        Phase(Some(task.abort_handle()))
    }

    /// Makes room for the result.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
