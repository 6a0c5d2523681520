//! What a person at a terminal sees while records go in. Nothing is drawn anywhere else.

use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use crate::output;

/// A bar for bytes, of which the total is said later; `done` is what happens to them.
pub(crate) fn bytes(done: &'static str) -> ProgressBar {
    if !output::stderr_is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template(
        "{bar:30} {percent:>3} %  {bytes} of {total_bytes} {msg}, {binary_bytes_per_sec}, {eta} left",
    ) {
        bar.set_style(style);
    }
    bar.set_message(done);
    bar
}

/// A bar for an input of known size, a spinner otherwise; on standard error.
pub(crate) struct Progress {
    bar: ProgressBar,
    by_bytes: bool,
}

impl Progress {
    /// Progress through `bytes` of input, if its size is known.
    pub(crate) fn new(bytes: Option<u64>) -> Self {
        if !output::stderr_is_terminal() {
            return Self { bar: ProgressBar::hidden(), by_bytes: false };
        }
        let (bar, template) = match bytes {
            Some(bytes) => (ProgressBar::new(bytes), "{bar:30} {percent:>3} %  {msg}"),
            None => (ProgressBar::new_spinner(), "{spinner} {msg}"),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, by_bytes: bytes.is_some() }
    }

    /// So much was read, and so many records are acknowledged.
    pub(crate) fn update(&self, bytes_read: u64, acknowledged: u64) {
        if self.by_bytes {
            self.bar.set_position(bytes_read);
        }
        self.bar.set_message(format!("{} records acknowledged", HumanCount(acknowledged)));
    }

    /// Says something in between.
    pub(crate) fn suspend(&self, say: impl FnOnce()) {
        self.bar.suspend(say);
    }

    /// Makes room for other words, for good.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// A bar for records, of which the total is said later; `done` is what happens to them.
pub(crate) fn records(done: &'static str) -> ProgressBar {
    if !output::stderr_is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template(
        "{bar:30} {percent:>3} %  {human_pos} of {human_len} records {msg}, {eta} left",
    ) {
        bar.set_style(style);
    }
    bar.set_message(done);
    bar
}

/// A spinner for what has no known end.
pub(crate) fn spinner() -> ProgressBar {
    if !output::stderr_is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
