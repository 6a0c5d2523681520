//! What a salvage found.

use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;

use super::gather::Scanned;
use crate::format::{Checkpoint, StreamRecord};
use crate::position::{FileSequence, Offset, StreamId};

/// What is left of a directory whose checkpoints are lost.
#[derive(Clone, Debug, Default)]
pub struct Salvage {
    /// The directory.
    pub directory: PathBuf,
    /// What is wrong with the checkpoints that are there.
    pub checkpoints: Vec<String>,
    /// Journal files without a gap up to the newest one, which the next start replays. `None` if
    /// nothing is to be done: a broker opens the directory as it is.
    pub tail: Option<Range<FileSequence>>,
    /// A new checkpoint was written.
    pub written: bool,
    /// Files read that are not of the tail.
    pub files: u64,
    /// Of those, files that others stand for.
    pub left_out: Vec<String>,
    /// Records in the files read, some of them twice.
    pub records: u64,
    /// Groups in them that could not be read.
    pub damaged_groups: u64,
    /// Streams that stood before the tail.
    pub streams: Vec<SalvagedStream>,
    /// Offsets that are in no file: reading them answers as damage.
    pub lost: Vec<(StreamId, Range<Offset>)>,
    /// Keys that have a value.
    pub values: u64,
    /// Producers whose retries are still known.
    pub producers: u64,
    /// What changed before the tail and may be as it was before, one sentence each.
    pub may_be_undone: Vec<String>,
    /// The newest value of every key, for those who know what the streams are.
    pub state: Vec<(Bytes, Bytes)>,
}

/// One stream as it stood before the tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SalvagedStream {
    /// The stream.
    pub stream: StreamId,
    /// The first offset that is left.
    pub start: Offset,
    /// One past the last one that is not in the tail.
    pub end: Offset,
}

impl Salvage {
    pub(super) fn of(directory: PathBuf, checkpoints: Vec<String>) -> Self {
        Self { directory, checkpoints, ..Self::default() }
    }

    /// True if a broker opens the directory as it is.
    #[must_use]
    pub fn is_needless(&self) -> bool {
        self.tail.is_none()
    }

    pub(super) fn read<'a>(&mut self, files: impl Iterator<Item = &'a Scanned>) {
        for scanned in files {
            self.files += 1;
            self.records += scanned.records;
            self.damaged_groups += scanned.damaged_groups;
        }
    }

    pub(super) fn leave_out(&mut self, files: &[Scanned]) {
        self.left_out.extend(files.iter().map(|scanned| scanned.file.key().to_string()));
    }

    pub(super) fn stream(&mut self, record: &StreamRecord, first_of_tail: Option<Offset>) {
        let StreamRecord { stream, start, end, .. } = *record;
        self.streams.push(SalvagedStream { stream, start, end });
        if let Some(first) = first_of_tail.filter(|first| *first > end) {
            self.lost.push((stream, end..first));
        }
    }

    pub(super) fn sum_up(&mut self, tail: Range<FileSequence>, checkpoint: &Checkpoint) {
        let first = tail.start;
        self.tail = Some(tail);
        let holes = checkpoint.quarantine.iter().map(|hole| (hole.stream, hole.first..hole.end));
        self.lost.extend(holes);
        self.lost.sort_by_key(|(stream, range)| (*stream, range.start));
        self.values = checkpoint.state.len() as u64;
        self.producers = checkpoint.producers.len() as u64;
        let (streams, policies) = (checkpoint.streams.len(), checkpoint.policies.len());
        self.may_be_undone = vec![
            format!(
                "deletions, trims, retention and compaction before journal file {first}: records \
                 that are still in a file are served again, {streams} streams begin with the first \
                 one that is left"
            ),
            format!(
                "values set before journal file {first}, in a broker its catalogue and cursors: \
                 {} keys are left, with the newest value that is in a file",
                self.values
            ),
            format!(
                "policies: how long records stay is known of {policies} of these streams, of the \
                 others they stay until it is said again"
            ),
            format!(
                "producers: {} are left, all others come back in a new epoch, and whether what \
                 they sent last is there is answered as unknown",
                self.producers
            ),
        ];
    }

    /// For health, for good.
    pub(super) fn sentence(&self) -> String {
        let first = self.tail.as_ref().map_or(FileSequence(1), |tail| tail.start);
        format!(
            "all checkpoints were lost, and what stood before journal file {first} was recovered \
             from what is left: changes that were told only by files given back may be undone"
        )
    }
}
