//! One stream as readers see it: its bounds, its newest batches in memory, and where the file
//! being written holds it.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::entry::StoredBatch;
use crate::format::{FooterStream, RUN_SPAN, Run, StreamRecord};
use crate::position::{FileSequence, Lsn, Offset, StreamId, Timestamp};
use crate::retention::Policy;

/// A stream that exists.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    view: Mutex<View>,
}

/// Changed only by the committer, after the sync that made the change durable and just before
/// the durable LSN is published.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) start: Offset,
    end: Offset,
    /// The group that raised `end` last, and `end` before it: until that group's LSN is
    /// published, readers see the former.
    end_lsn: Lsn,
    end_before: Offset,
    pub(crate) last_time: Timestamp,
    /// Payload bytes appended so far; what they are counted from is the same in all footers.
    pub(crate) bytes: u64,
    /// How long records stay.
    pub(crate) policy: Policy,
    /// Records before this offset may be missing: newer ones have their keys.
    pub(crate) compacted_to: Offset,
    /// The newest finished journal file that held the stream.
    pub(crate) last_file: Option<FileSequence>,
    /// In the file being written; empty if it holds nothing of the stream.
    pub(crate) active: Vec<Run>,
    /// The file that `active` is about.
    pub(crate) active_file: Option<FileSequence>,
    /// The newest batches, dense up to `end`.
    recent: VecDeque<StoredBatch>,
    /// Damaged ranges, by offset.
    pub(crate) quarantine: Vec<(Offset, Offset)>,
}

/// What is added to a stream.
pub(crate) struct Addition {
    pub(crate) batch: StoredBatch,
    /// Of the batch, which may come without its payload.
    pub(crate) payload_bytes: u64,
    pub(crate) lsn: Lsn,
    /// The file being written.
    pub(crate) sequence: FileSequence,
    /// Where the group begins in it.
    pub(crate) position: u64,
    /// Whether to keep the batch in memory.
    pub(crate) keep: bool,
}

impl Stream {
    pub(crate) fn new(id: StreamId) -> Self {
        Self::restored(&StreamRecord {
            stream: id,
            start: Offset(0),
            end: Offset(0),
            last_time: Timestamp(0),
            last_file: None,
            bytes: 0,
            compacted_to: Offset(0),
        })
    }

    pub(crate) fn restored(record: &StreamRecord) -> Self {
        let view = View {
            start: record.start,
            end: record.end,
            end_lsn: Lsn(0),
            end_before: record.end,
            last_time: record.last_time,
            bytes: record.bytes,
            policy: Policy::default(),
            compacted_to: record.compacted_to,
            last_file: record.last_file,
            active: Vec::new(),
            active_file: None,
            recent: VecDeque::new(),
            quarantine: Vec::new(),
        };
        Self { id: record.stream, view: Mutex::new(view) }
    }

    pub(crate) fn view(&self) -> parking_lot::MutexGuard<'_, View> {
        self.view.lock()
    }
}

impl View {
    /// One past the last applied record.
    pub(crate) fn end(&self) -> Offset {
        self.end
    }

    /// One past the last record whose group is published.
    pub(crate) fn durable_end(&self, durable: Lsn) -> Offset {
        if self.end_lsn <= durable { self.end } else { self.end_before }
    }

    /// Appends. The number of runs grows by what is returned.
    pub(crate) fn add(&mut self, addition: Addition) -> usize {
        let Addition { batch, payload_bytes, lsn, sequence, position, keep } = addition;
        assert!(batch.base_offset >= self.end, "offsets only rise");
        assert!(batch.append_time >= self.last_time, "append times never decrease");
        if lsn > self.end_lsn {
            self.end_before = self.end;
            self.end_lsn = lsn;
        }
        let begins_run = self.active.last().is_none_or(|run| position >= run.position + RUN_SPAN);
        if begins_run {
            self.active_file = Some(sequence);
            self.active.push(Run {
                base_offset: batch.base_offset,
                append_time: batch.append_time,
                position,
                bytes: self.bytes,
            });
        }
        self.bytes += payload_bytes;
        self.end = batch.end();
        self.last_time = batch.append_time;
        if keep {
            self.recent.push_back(batch);
        } else {
            self.recent.clear();
        }
        usize::from(begins_run)
    }

    /// Forgets the oldest batch in memory; the ring gives its group up.
    pub(crate) fn forget_oldest(&mut self, base_offset: Offset) {
        if self.recent.front().is_some_and(|batch| batch.base_offset == base_offset) {
            self.recent.pop_front();
            if self.recent.is_empty() {
                self.recent.shrink_to_fit();
            }
        }
    }

    /// The batches in memory from the one that holds `from`, if it is there.
    pub(crate) fn recent_from(&self, from: Offset) -> Option<impl Iterator<Item = &StoredBatch>> {
        let oldest = self.recent.front()?.base_offset;
        if from < oldest {
            return None;
        }
        let index = self.recent.partition_point(|batch| batch.end() <= from);
        Some(self.recent.iter().skip(index))
    }

    /// The oldest batch in memory.
    pub(crate) fn recent_oldest(&self) -> Option<&StoredBatch> {
        self.recent.front()
    }

    /// The file being written is finished. A stream it holds nothing of is left as it is.
    pub(crate) fn finish_file(&mut self, sequence: FileSequence) {
        if !self.active.is_empty() {
            self.active = Vec::new();
            self.active_file = None;
            self.last_file = Some(sequence);
        }
    }

    /// The stream's part of the footer of the file being written.
    pub(crate) fn footer_so_far(&self, stream: StreamId) -> Option<FooterStream> {
        (!self.active.is_empty()).then(|| FooterStream {
            stream,
            end: self.end,
            bytes: self.bytes,
            runs: self.active.clone(),
        })
    }

    /// The start offset is at least this.
    pub(crate) fn raise_start(&mut self, start: Offset) {
        self.start = self.start.max(start.min(self.end));
        let start = self.start;
        self.quarantine.retain(|(_, end)| *end > start);
    }

    /// Records up to `end` were acknowledged and are lost: their offsets are not given out again.
    pub(crate) fn lose_up_to(&mut self, end: Offset) {
        if end > self.end {
            self.quarantine.push((self.end, end));
            (self.end, self.end_before) = (end, end);
            self.recent.clear();
        }
    }

    /// If `offset` is damaged: where reading may go on.
    pub(crate) fn damaged_until(&self, offset: Offset) -> Option<Offset> {
        let range = self.quarantine.iter().find(|(first, end)| *first <= offset && offset < *end);
        range.map(|(_, end)| *end)
    }
}

/// The last of the runs for which `is_before` holds; it holds for the first ones.
pub(crate) fn last_run(runs: &[Run], is_before: impl Fn(&Run) -> bool) -> Option<Run> {
    runs.partition_point(is_before).checked_sub(1).map(|index| runs[index])
}
