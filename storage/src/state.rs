//! The state of the journal: a fold over its groups. The committer folds each group after its
//! sync, recovery folds the groups it finds; both do it here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::entry::{AppendedRange, ProducerStamp};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{ControlRecord, Frame, FrameKind, MergedRecord};
use crate::journal::{FileProgress, Tail};
use crate::position::{FileSequence, Lsn, Offset, StreamId, Timestamp};
use crate::producers::{Outcome, Producers};
use crate::retention::Doubt;
use crate::stream::{Addition, Stream};

/// Everything the journal says, up to one group.
#[derive(Default)]
pub(crate) struct State {
    folded: Mutex<Folded>,
    streams: RwLock<HashMap<StreamId, Arc<Stream>>>,
}

/// The part that is not per stream.
#[derive(Default)]
pub(crate) struct Folded {
    pub(crate) lsn: Lsn,
    /// Where the next group goes.
    pub(crate) sequence: FileSequence,
    pub(crate) position: u64,
    pub(crate) next_stream: u64,
    /// Merges begun so far, at least.
    pub(crate) last_merge: u64,
    /// The newest wall time that the journal names.
    pub(crate) newest_time: Timestamp,
    /// How far off the clock was, as far as the journal tells when it is opened.
    pub(crate) clock_doubt: Doubt,
    pub(crate) producers: Producers,
    pub(crate) values: BTreeMap<Bytes, Bytes>,
    /// What was found damaged, one sentence each.
    pub(crate) damage: Vec<String>,
}

/// What a group changed, for those who are told.
#[derive(Default)]
pub(crate) struct Changes {
    /// Batches now in memory.
    pub(crate) batches: Vec<(Arc<Stream>, Offset)>,
    /// Streams that advanced or are gone.
    pub(crate) streams: Vec<StreamId>,
    /// Streams that are gone.
    pub(crate) deleted: Vec<StreamId>,
    /// Producers that advanced.
    pub(crate) stamps: Vec<ProducerStamp>,
    /// Merges that are durable now: the caller owns the table of files.
    pub(crate) merged: Vec<MergedRecord>,
    /// Records are gone, or a policy may make them go.
    pub(crate) has_freed: bool,
}

/// A group as the fold sees it.
pub(crate) struct GroupView<'a> {
    pub(crate) lsn: Lsn,
    /// The file that holds it.
    pub(crate) sequence: FileSequence,
    /// Where it begins in the file.
    pub(crate) position: u64,
    pub(crate) frames: &'a [Frame],
    /// Keep batches in memory.
    pub(crate) keep: bool,
}

impl State {
    /// The part that is not per stream.
    pub(crate) fn folded(&self) -> parking_lot::MutexGuard<'_, Folded> {
        self.folded.lock()
    }

    /// A stream that exists.
    pub(crate) fn stream(&self, id: StreamId) -> Result<Arc<Stream>> {
        self.streams.read().get(&id).cloned().ok_or_else(|| Error::unknown_stream(id))
    }

    /// Every stream, in no order.
    pub(crate) fn streams(&self) -> Vec<Arc<Stream>> {
        self.streams.read().values().cloned().collect()
    }

    /// Where every stream ends.
    pub(crate) fn tails(&self) -> impl Iterator<Item = (StreamId, Tail)> {
        self.streams().into_iter().map(|stream| {
            let view = stream.view();
            (stream.id, Tail { next: view.end(), last_time: view.last_time })
        })
    }

    /// Puts a recovered stream in.
    pub(crate) fn restore(&self, stream: Stream) {
        self.streams.write().insert(stream.id, Arc::new(stream));
    }

    /// Folds one group. `payload` gives the bytes of a frame; it is asked for batches only if
    /// they are to be kept. `folded` is this state's own, locked by the caller.
    pub(crate) fn fold(
        &self,
        folded: &mut Folded,
        progress: &mut FileProgress,
        group: &GroupView<'_>,
        payload: &mut dyn FnMut(&Frame) -> Result<Bytes>,
    ) -> Result<Changes> {
        let mut changes = Changes::default();
        let mut entry: Option<(ProducerStamp, Vec<AppendedRange>)> = None;
        for frame in group.frames {
            if frame.starts_entry
                && let Some(finished) = entry.take()
            {
                finish_entry(folded, group.lsn, finished, &mut changes);
            }
            if frame.kind == FrameKind::Batch {
                let bytes = if group.keep { payload(frame)? } else { Bytes::new() };
                self.fold_batch(folded, progress, group, frame, bytes, &mut changes)?;
                if let Some(stamp) = frame.producer {
                    let (_, ranges) = entry.get_or_insert_with(|| (stamp, Vec::new()));
                    ranges.push(AppendedRange {
                        stream: frame.stream,
                        first_offset: frame.base_offset,
                        count: frame.count,
                        append_time: frame.append_time,
                    });
                }
            } else {
                let record = ControlRecord::decode(frame, &payload(frame)?).map_err(|why| {
                    Error::new(
                        ErrorKind::Corrupt { next_readable: Offset(0) },
                        format!("group {} holds a control record that is {why}", group.lsn),
                    )
                })?;
                self.fold_control(folded, frame.stream, record, &mut changes)?;
            }
        }
        if let Some(finished) = entry.take() {
            finish_entry(folded, group.lsn, finished, &mut changes);
        }
        folded.lsn = group.lsn;
        Ok(changes)
    }

    fn fold_batch(
        &self,
        folded: &mut Folded,
        progress: &mut FileProgress,
        group: &GroupView<'_>,
        frame: &Frame,
        payload: Bytes,
        changes: &mut Changes,
    ) -> Result<()> {
        let stream = match self.stream(frame.stream) {
            Ok(stream) => stream,
            // The group that created it is damaged; recovery has said so.
            Err(_) if !folded.damage.is_empty() => {
                folded.next_stream = folded.next_stream.max(frame.stream.0);
                let stream = Arc::new(Stream::new(frame.stream));
                self.streams.write().insert(frame.stream, Arc::clone(&stream));
                stream
            }
            Err(error) => return Err(error),
        };
        let mut view = stream.view();
        if frame.base_offset != view.end() || frame.append_time < view.last_time {
            let is_gap = frame.base_offset > view.end() && !folded.damage.is_empty();
            if !is_gap {
                return Err(Error::new(
                    ErrorKind::Corrupt { next_readable: frame.end() },
                    format!(
                        "group {} holds offset {} of stream {}, but {} comes next",
                        group.lsn,
                        frame.base_offset,
                        frame.stream,
                        view.end()
                    ),
                ));
            }
            let gap = (view.end(), frame.base_offset);
            view.quarantine.push(gap);
        }
        if view.active.is_empty() {
            progress.touched.push(Arc::clone(&stream));
        }
        progress.runs += view.add(Addition {
            batch: frame.batch(payload),
            payload_bytes: u64::from(frame.payload_bytes),
            lsn: group.lsn,
            sequence: group.sequence,
            position: group.position,
            keep: group.keep,
        });
        drop(view);
        folded.newest_time = folded.newest_time.max(frame.append_time);
        changes.streams.push(frame.stream);
        if group.keep {
            changes.batches.push((stream, frame.base_offset));
        }
        Ok(())
    }

    fn fold_control(
        &self,
        folded: &mut Folded,
        id: StreamId,
        record: ControlRecord,
        changes: &mut Changes,
    ) -> Result<()> {
        match record {
            ControlRecord::CreateStream => {
                folded.next_stream = folded.next_stream.max(id.0);
                self.streams.write().insert(id, Arc::new(Stream::new(id)));
            }
            ControlRecord::DeleteStream => {
                self.streams.write().remove(&id);
                changes.deleted.push(id);
                changes.has_freed = true;
                changes.streams.push(id);
            }
            ControlRecord::Trim(start) | ControlRecord::Retention(start) => {
                self.stream(id)?.view().raise_start(start);
                changes.has_freed = true;
                changes.streams.push(id);
            }
            ControlRecord::Quarantine(first, end) => {
                self.stream(id)?.view().quarantine.push((first, end));
            }
            ControlRecord::SetState { key, value: Some(value) } => {
                folded.values.insert(key, value);
            }
            ControlRecord::SetState { key, value: None } => {
                folded.values.remove(&key);
            }
            ControlRecord::SetPolicy(policy) => {
                self.stream(id)?.view().policy = policy;
                changes.has_freed = true;
            }
            ControlRecord::Merged(merged) => {
                folded.last_merge = folded.last_merge.max(merged.merge);
                for (id, offset) in &merged.compacted {
                    // A stream deleted since is not missed.
                    if let Ok(stream) = self.stream(*id) {
                        let mut view = stream.view();
                        view.compacted_to = view.compacted_to.max(*offset);
                    }
                }
                changes.merged.push(merged);
            }
            ControlRecord::EpochChange { .. } => {
                return Err(Error::new(
                    ErrorKind::Format,
                    "the journal holds a kind of control record that this version does not \
                     write: open it with the version that wrote it",
                ));
            }
        }
        Ok(())
    }
}

fn finish_entry(
    folded: &mut Folded,
    lsn: Lsn,
    (stamp, ranges): (ProducerStamp, Vec<AppendedRange>),
    changes: &mut Changes,
) {
    folded.producers.record(&stamp, Outcome::new(lsn, ranges));
    changes.stamps.push(stamp);
}
