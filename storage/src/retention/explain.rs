//! Why the oldest record of a stream is still here, and what still holds the bytes of those that
//! are gone.

use std::time::Duration;

use super::clock::add;
use super::first_kept::{Cut, age_cut, batch_at, bytes_cut, count_cut, first_kept, oldest};
use super::policy::Policy;
use crate::engine::Engine;
use crate::error::Result;
use crate::position::{FileKey, FileSequence, Offset, StreamId, Timestamp};
use crate::stream::Stream;

/// Why the oldest record of a stream is still here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// First readable offset.
    pub start: Offset,
    /// When its record was appended; `None` if the stream is empty.
    pub oldest: Option<Timestamp>,
    /// The policy in force.
    pub policy: Policy,
    /// What each limit that is set would allow.
    pub limits: Vec<LimitState>,
    /// Why age waits, if it does: a sentence for a person.
    pub clock: Option<String>,
    /// Files that hold bytes of records before `start`.
    pub holders: Vec<Holder>,
    /// Before this offset no record is left that a newer one before it supersedes.
    pub compacted_to: Offset,
}

/// One kind of limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// [`Policy::max_age`].
    Age,
    /// [`Policy::max_bytes`].
    Bytes,
    /// [`Policy::max_count`].
    Count,
}

/// What a limit would allow now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitState {
    /// Which one.
    pub limit: Limit,
    /// The first offset it still wants. If it is above the start offset, the rise is due.
    pub wants_from: Offset,
    /// When the oldest batch goes by it; only age knows that.
    pub due: Option<Timestamp>,
}

/// A file with bytes of records that are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its name in the data directory.
    pub file: String,
    /// Payload bytes of the stream in it that are gone.
    pub bytes: u64,
    /// Other streams with readable records in it.
    pub other_streams: usize,
    /// What the bytes wait for.
    pub waiting: Waiting,
}

/// What bytes wait for before they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// The file is being written; it is finished early after this long.
    Writing(Duration),
    /// For a merge: records in it are still wanted.
    Merge,
    /// For the checkpoints that still name the file; nothing in it is wanted.
    Checkpoint,
    /// For readers that hold the file.
    Readers,
}

pub(crate) fn explain(engine: &Engine, id: StreamId) -> Result<Explanation> {
    let stream = engine.state.stream(id)?;
    let (start, policy, compacted_to) = {
        let view = stream.view();
        (view.start, view.policy, view.compacted_to)
    };
    let oldest = oldest(engine, id)?.map(|batch| batch.append_time);
    Ok(Explanation {
        start,
        oldest,
        policy,
        limits: limits(engine, &stream, &policy, start, oldest)?,
        clock: policy.max_age.and_then(|_| engine.retention.note()),
        holders: holders(engine, &stream, start)?,
        compacted_to,
    })
}

/// Payload bytes of a stream in all files.
pub(crate) fn stored_bytes(engine: &Engine, id: StreamId) -> Result<u64> {
    let stream = engine.state.stream(id)?;
    let mut sum = {
        let view = stream.view();
        view.active.first().map_or(0, |run| view.bytes - run.bytes)
    };
    for file in engine.files.holding(id, FileSequence(u64::MAX)) {
        let footer = engine.footers.load(engine, &file)?;
        sum += footer.find(id).map_or(0, |entry| entry.bytes_inside());
    }
    Ok(sum)
}

fn limits(
    engine: &Engine,
    stream: &Stream,
    policy: &Policy,
    start: Offset,
    oldest: Option<Timestamp>,
) -> Result<Vec<LimitState>> {
    let state = |limit, cut: Option<Cut>, due| {
        let first = cut.map_or(Ok(None), |cut| first_kept(engine, stream, cut))?;
        Ok(LimitState { limit, wants_from: first.unwrap_or(start).max(start), due })
    };
    let mut limits = Vec::new();
    if let Some(age) = policy.max_age {
        let cut = age_cut(age, engine.parts.clock.now());
        limits.push(state(Limit::Age, cut, oldest.map(|time| add(time, age)))?);
    }
    if let Some(bytes) = policy.max_bytes {
        limits.push(state(Limit::Bytes, bytes_cut(engine, stream, bytes)?, None)?);
    }
    if let Some(count) = policy.max_count {
        let end = stream.view().durable_end(engine.durable());
        limits.push(state(Limit::Count, count_cut(count, end), None)?);
    }
    Ok(limits)
}

fn holders(engine: &Engine, stream: &Stream, start: Offset) -> Result<Vec<Holder>> {
    let mut holders = Vec::new();
    // Everything before this position in the stream's bytes is gone.
    let kept_from = batch_at(engine, stream, start)?.map_or(u64::MAX, |batch| batch.bytes.0);
    let name = |file: &crate::files::ReadableFile| {
        let path = file.place.path(&engine.options.directory);
        path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    };
    for (_, readable) in engine.files.all() {
        let footer = engine.footers.load(engine, &readable)?;
        let Some(entry) = footer.find(stream.id) else { continue };
        if entry.runs[0].base_offset >= start {
            continue;
        }
        let gone_to = if entry.end <= start {
            entry.bytes
        } else {
            kept_from.clamp(entry.runs[0].bytes, entry.bytes)
        };
        let is_live = |other: &&crate::format::FooterStream| {
            other.stream != stream.id
                && engine.state.stream(other.stream).is_ok_and(|s| s.view().start < other.end)
        };
        let other_streams = footer.streams.iter().filter(is_live).count();
        let is_wanted = other_streams > 0 || entry.end > start;
        holders.push(Holder {
            file: name(&readable),
            bytes: gone_to - entry.runs[0].bytes,
            other_streams,
            waiting: if is_wanted { Waiting::Merge } else { Waiting::Checkpoint },
        });
    }
    holders.extend(engine.keeper.retiring(engine, stream.id, &name));
    let active = {
        let view = stream.view();
        view.active.first().filter(|run| run.base_offset < start).zip(view.active_file).map(
            |(first, sequence)| (kept_from.clamp(first.bytes, view.bytes) - first.bytes, sequence),
        )
    };
    if let Some((bytes, sequence)) = active
        && let Some(readable) = engine.files.readable(FileKey::journal(sequence))
    {
        holders.push(Holder {
            file: name(&readable),
            bytes,
            other_streams: engine.committer.lock().live_streams(engine, stream.id),
            waiting: Waiting::Writing(super::step::ROLL_AFTER),
        });
    }
    Ok(holders)
}
