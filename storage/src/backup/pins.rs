//! Pins: what keeps the files of a point in time from being reused or removed.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};
use crate::files::{Files, ReadableFile};

/// The pins of one backup. Holding this keeps no file; the [`super::BackupPoint`] does.
#[derive(Clone)]
pub struct BackupPins {
    pub(super) pins: Weak<Pins>,
}

impl fmt::Debug for BackupPins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupPins").finish_non_exhaustive()
    }
}

impl BackupPins {
    /// Lets all files go: the backup cannot be read on, and who tries gets this error.
    pub fn let_go(&self, why: Error) {
        if let Some(pins) = self.pins.upgrade() {
            pins.let_go(why);
        }
    }
}

/// The files of one backup that were not read yet.
pub(super) struct Pins {
    began: Duration,
    held: Mutex<Held>,
}

struct Held {
    /// By the number of the file in the backup; the checkpoint is no file of the directory.
    files: Vec<Option<Arc<ReadableFile>>>,
    let_go: Option<Error>,
}

impl Pins {
    pub(super) fn new(began: Duration, files: Vec<Option<Arc<ReadableFile>>>) -> Self {
        Self { began, held: Mutex::new(Held { files, let_go: None }) }
    }

    /// A file that is still pinned, or `None` if it was read already.
    ///
    /// # Errors
    ///
    /// That with which the files were let go.
    pub(super) fn file(&self, index: usize) -> Result<Option<Arc<ReadableFile>>> {
        let held = self.held.lock();
        match &held.let_go {
            Some(why) => Err(why.clone()),
            None => Ok(held.files.get(index).cloned().flatten()),
        }
    }

    /// A file was read.
    pub(super) fn release(&self, index: usize) {
        if let Some(file) = self.held.lock().files.get_mut(index) {
            *file = None;
        }
    }

    fn let_go(&self, why: Error) {
        let mut held = self.held.lock();
        held.files = Vec::new();
        held.let_go.get_or_insert(why);
    }

    /// Bytes of files that nobody but this backup needs, and how many files that are.
    fn kept_alone(&self, files: &Files) -> (u64, usize) {
        let held = self.held.lock();
        let alone = held.files.iter().flatten().filter(|file| !files.holds(file.key));
        alone.fold((0, 0), |(bytes, count), file| (bytes + file.end, count + 1))
    }
}

/// All backups under way.
#[derive(Default)]
pub(crate) struct LivePins(Mutex<Vec<Weak<Pins>>>);

impl LivePins {
    pub(super) fn add(&self, pins: &Arc<Pins>) {
        let mut all = self.0.lock();
        all.retain(|pins| pins.strong_count() > 0);
        all.push(Arc::downgrade(pins));
    }

    fn live(&self) -> Vec<Arc<Pins>> {
        self.0.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// What backups keep that nobody else needs, one sentence each.
    pub(crate) fn notes(&self, files: &Files, now: Duration) -> Vec<String> {
        let live = self.live();
        let notes = live.iter().filter_map(|pins| {
            let (bytes, count) = pins.kept_alone(files);
            let minutes = now.saturating_sub(pins.began).as_secs() / 60;
            (count > 0).then(|| {
                format!(
                    "a backup that began {minutes} minutes ago keeps {count} files ({bytes} bytes) \
                     that nothing else needs; they go when it ends"
                )
            })
        });
        notes.collect()
    }

    /// Space is needed: backups that keep files nobody else needs end.
    pub(crate) fn give_way(&self, files: &Files) {
        for pins in self.live() {
            if pins.kept_alone(files).1 > 0 {
                tracing::warn!("a backup ends early: the disk is full and needs what it kept");
                pins.let_go(Error::new(
                    ErrorKind::DiskFull,
                    "the disk of the broker is full and needs the space that this backup kept: \
                     free some, then begin the backup again",
                ));
            }
        }
    }
}
