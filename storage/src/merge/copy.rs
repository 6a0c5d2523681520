//! Copying what is alive from the inputs to the outputs, a slice at a time.
//!
//! A slice is as much as fits the memory a merge may use. It is sorted by stream and written, so a
//! stream's batches lie together within each slice, and in order over all of them. Payloads are
//! copied as they are, with the checksum they came with, after it was verified.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::plan::Plan;
use super::segment::{Held, Segment, remove};
use crate::checkpoint::MERGE_RESERVE;
use crate::compaction::KeyMap;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::files::ReadableFile;
use crate::format::{FILE_HEADER_BYTES, Frame, FrameKind, MergedRecord, SegmentRecord};
use crate::options::RecordKey;
use crate::position::{FileKey, Offset, StreamId};
use crate::recovery::{ScannedGroup, Scanner};
use crate::sabotage::{barrier, skips};

/// Bytes of an input gone over in one step, at most, but for one group.
const STEP_BYTES: u64 = 1 << 20;
/// Read at once: of a file that is mostly dead little more than what is alive.
const WINDOW: usize = 64 << 10;
/// Memory of a held batch beside its payload, roughly.
const HELD_BYTES: usize = 256;

/// What a step did.
pub(crate) enum Progress {
    /// It read or wrote this much; there is more.
    More(u64),
    /// The outputs are durable.
    Done(MergedRecord),
}

/// A merge under way.
pub(crate) struct Copying {
    merge: u64,
    plan: Plan,
    /// Inputs not begun yet, the next one last.
    waiting: Vec<Arc<ReadableFile>>,
    input: Option<Input>,
    /// Keys of the streams that are compacted; being read until the inputs are through once.
    keys: KeyMap,
    is_mapping: bool,
    slice: Vec<Held>,
    slice_bytes: usize,
    /// Sorted, the next one last.
    draining: Vec<Held>,
    shared: Option<Segment>,
    own: BTreeMap<StreamId, Segment>,
    next_part: u32,
    outputs: Vec<SegmentRecord>,
    written: u64,
    /// Batches with something to erase in them that the codec could not split.
    unsplit: u64,
    damage: Option<Damage>,
}

/// A damaged input, and the range of offsets it hits if that is known.
type Damage = (FileKey, Option<(StreamId, Offset, Offset)>);

/// An input being read.
struct Input {
    file: Arc<ReadableFile>,
    scanner: Scanner,
    position: u64,
    /// For each stream: payload bytes before its next batch, and whether they are counted.
    bytes: HashMap<StreamId, (u64, bool)>,
}

impl Copying {
    pub(crate) fn new(engine: &Engine, merge: u64, plan: Plan) -> Self {
        let waiting = plan.inputs.iter().rev().cloned().collect();
        Self {
            merge,
            waiting,
            input: None,
            keys: KeyMap::new(engine.parts.random.salt()),
            is_mapping: !plan.compacting.is_empty(),
            plan,
            slice: Vec::new(),
            slice_bytes: 0,
            draining: Vec::new(),
            shared: None,
            own: BTreeMap::new(),
            next_part: 0,
            outputs: Vec::new(),
            written: 0,
            unsplit: 0,
            damage: None,
        }
    }

    pub(crate) fn frees_space(&self) -> bool {
        self.plan.frees_space
    }

    pub(crate) fn bytes_written(&self) -> u64 {
        self.written
    }

    pub(crate) fn unsplit_batches(&self) -> u64 {
        self.unsplit
    }

    /// What was found damaged, after an error.
    pub(crate) fn damage(&self) -> Option<Damage> {
        self.damage
    }

    /// Removes what was written; nothing names it.
    pub(crate) fn abandon(self, engine: &Engine) {
        let (merge, parts) = (self.merge, self.next_part);
        drop(self);
        (0..parts).for_each(|part| remove(engine, merge, part));
    }

    /// Goes over up to a megabyte, or writes a group, or finishes an output.
    pub(crate) fn step(&mut self, engine: &Engine) -> Result<Progress> {
        if !self.draining.is_empty() {
            return self.drain(engine).map(Progress::More);
        }
        if self.slice_bytes >= engine.options.merge_memory_bytes {
            self.sort();
            return Ok(Progress::More(0));
        }
        if self.input.is_some() || !self.waiting.is_empty() {
            return self.read(engine).map(Progress::More);
        }
        if self.is_mapping {
            self.is_mapping = false;
            self.waiting = self.plan.inputs.iter().rev().cloned().collect();
            return Ok(Progress::More(0));
        }
        if !self.slice.is_empty() {
            self.sort();
            return Ok(Progress::More(0));
        }
        let last = self.shared.take().or_else(|| self.own.pop_first().map(|(_, own)| own));
        if let Some(segment) = last {
            self.finish(engine, segment)?;
            return Ok(Progress::More(0));
        }
        self.done(engine).map(Progress::Done)
    }

    /// Everything is written: makes the names durable.
    fn done(&mut self, engine: &Engine) -> Result<MergedRecord> {
        if !self.outputs.is_empty() {
            let directory = &engine.options.directory;
            barrier("the sync of a merge's names", || engine.parts.disk.sync_directory(directory))
                .map_err(failed("sync the directory of"))?;
        }
        self.outputs.sort_by_key(|output| output.part);
        Ok(MergedRecord {
            merge: self.merge,
            inputs: self.plan.inputs.iter().map(|file| file.key).collect(),
            outputs: self.outputs.clone(),
            compacted: self.plan.compacting.iter().map(|(id, c)| (*id, c.to)).collect(),
        })
    }

    fn read(&mut self, engine: &Engine) -> Result<u64> {
        if self.input.is_none()
            && let Some(file) = self.waiting.pop()
        {
            self.input = Some(Input::open(engine, file)?);
        }
        let Some(mut input) = self.input.take() else { return Ok(0) };
        let (begun, read) = (input.position, input.scanner.bytes_read());
        while input.position < input.file.groups_end && input.position - begun < STEP_BYTES {
            let group = match input.group() {
                Ok(group) => group?,
                Err(why) => {
                    self.damage = Some((input.file.key, None));
                    return Err(damaged(&input, input.position, why));
                }
            };
            if self.is_mapping {
                self.map(engine, &mut input, &group)?;
            } else {
                self.take(engine, &mut input, &group)?;
            }
            input.position = group.position + u64::from(group.header.length);
        }
        let read = input.scanner.bytes_read() - read;
        if input.position < input.file.groups_end {
            self.input = Some(input);
        }
        Ok(read)
    }

    /// Reads the keys of batches that are not compacted yet.
    fn map(&mut self, engine: &Engine, input: &mut Input, group: &ScannedGroup) -> Result<()> {
        for frame in group.frames.iter().filter(|frame| frame.kind == FrameKind::Batch) {
            let Some(compacting) = self.plan.compacting.get_mut(&frame.stream) else { continue };
            let is_dirty = frame.end() > compacting.from && frame.end() <= compacting.to;
            if !is_dirty || !is_alive(engine, frame) {
                continue;
            }
            if !self.keys.has_room(frame.count as usize) {
                // The rest of the stream is left to the next merge.
                compacting.to = frame.base_offset;
                continue;
            }
            let payload = input.payload(group, frame)?;
            // What the codec does not understand has no keys, and stays.
            let keys = engine.parts.codec.keys(&payload).unwrap_or_default();
            for (offset, key) in frame.offsets().zip(keys) {
                if let Some(key) = key {
                    self.keys.note(frame.stream, &key.key, offset);
                }
            }
        }
        Ok(())
    }

    /// Takes the batches of a group that are alive into the slice.
    fn take(&mut self, engine: &Engine, input: &mut Input, group: &ScannedGroup) -> Result<()> {
        for frame in group.frames.iter().filter(|frame| frame.kind == FrameKind::Batch) {
            let bytes = input.count(frame);
            if !is_alive(engine, frame) {
                continue;
            }
            let payload = match input.payload(group, frame) {
                Ok(payload) => payload,
                Err(error) => {
                    if matches!(error.kind(), ErrorKind::Corrupt { .. }) {
                        let range = (frame.stream, frame.base_offset, frame.end());
                        self.damage = Some((input.file.key, Some(range)));
                    }
                    return Err(error);
                }
            };
            let held = self.erase(engine, Held { frame: frame.clone(), payload, bytes });
            if let Some(held) = self.compact(engine, held) {
                self.slice_bytes += held.payload.len() + HELD_BYTES;
                self.slice.push(held);
            }
        }
        Ok(())
    }

    /// Leaves out of a batch what is before its stream's start, if that is to be erased.
    fn erase(&mut self, engine: &Engine, held: Held) -> Held {
        let first = held.frame.base_offset;
        let Some(start) = self.plan.condemned.start_within(held.frame.stream, first) else {
            return held;
        };
        let indices = (0..).zip(held.frame.offsets());
        let kept = indices.filter(|(_, offset)| *offset >= start).collect::<Vec<_>>();
        match only(engine, &held, &kept) {
            Some(kept) => kept,
            None => {
                self.unsplit += 1;
                held
            }
        }
    }

    /// Leaves out of a batch what newer records supersede; nothing may be left.
    fn compact(&self, engine: &Engine, held: Held) -> Option<Held> {
        let Some(compacting) = self.plan.compacting.get(&held.frame.stream) else {
            return Some(held);
        };
        let stream = held.frame.stream;
        let newest = engine.state.stream(stream).map_or(Offset(0), |stream| stream.view().end());
        if held.frame.end() > compacting.to {
            return Some(held);
        }
        let codec = &engine.parts.codec;
        // What the codec does not understand stays as it is.
        let Ok(keys) = codec.keys(&held.payload) else { return Some(held) };
        if keys.len() != held.frame.count as usize {
            return Some(held);
        }
        let is_old = compacting.tombstones.is_some_and(|time| held.frame.append_time <= time)
            || skips("the age of tombstones");
        let stays = |offset: Offset, key: &Option<RecordKey>| match key {
            None => true,
            Some(_) if offset.plus(1) == newest => true,
            Some(key) => {
                let is_gone = key.is_tombstone && is_old;
                !is_gone && !self.keys.supersedes(stream, &key.key, offset)
            }
        };
        let kept: Vec<(u32, Offset)> = (0..)
            .zip(held.frame.offsets())
            .zip(&keys)
            .filter(|((_, offset), key)| stays(*offset, key))
            .map(|(place, _)| place)
            .collect();
        if kept.len() == keys.len() {
            return Some(held);
        }
        if kept.is_empty() {
            return None;
        }
        Some(only(engine, &held, &kept).unwrap_or(held))
    }

    fn sort(&mut self) {
        let mut slice = std::mem::take(&mut self.slice);
        self.slice_bytes = 0;
        slice.sort_by_key(|held| std::cmp::Reverse((held.frame.stream, held.frame.base_offset)));
        self.draining = slice;
    }

    /// Moves batches of the slice into their outputs until a group is written.
    fn drain(&mut self, engine: &Engine) -> Result<u64> {
        while let Some(held) = self.draining.pop() {
            let stream = held.frame.stream;
            let is_own = self.plan.own.contains(&stream);
            let mut segment = match self.output(is_own.then_some(stream)) {
                Some(segment) if segment.length() < engine.options.file_bytes_max => segment,
                full => {
                    if let Some(full) = full {
                        self.finish(engine, full)?;
                    }
                    self.create(engine)?
                }
            };
            segment.add(held);
            // Nothing is kept for a stream's own file while others are written.
            let next = self.draining.last().map(|next| next.frame.stream);
            let is_last = next.is_none() || (is_own && next != Some(stream));
            let mut written = 0;
            if segment.is_full() || is_last {
                written = retry(engine, self.frees_space(), || segment.flush())?;
            }
            if is_own {
                self.own.insert(stream, segment);
            } else {
                self.shared = Some(segment);
            }
            if written > 0 {
                self.written += written;
                return Ok(written);
            }
        }
        Ok(0)
    }

    fn output(&mut self, own: Option<StreamId>) -> Option<Segment> {
        match own {
            Some(stream) => self.own.remove(&stream),
            None => self.shared.take(),
        }
    }

    fn create(&mut self, engine: &Engine) -> Result<Segment> {
        let record = SegmentRecord {
            merge: self.merge,
            part: self.next_part,
            first_rank: self.plan.first_rank,
            rank: self.plan.rank,
            salt: engine.parts.random.salt(),
            size: 0,
            end: 0,
            streams: (StreamId(0), StreamId(0)),
        };
        // Counted before: what is created in part is removed as well.
        self.next_part += 1;
        Segment::create(engine, record).map_err(failed("begin an output of"))
    }

    fn finish(&mut self, engine: &Engine, mut segment: Segment) -> Result<()> {
        self.written += retry(engine, self.frees_space(), || segment.flush())?;
        self.outputs.push(segment.finish().map_err(failed("finish an output of"))?);
        Ok(())
    }
}

impl Input {
    fn open(engine: &Engine, file: Arc<ReadableFile>) -> Result<Self> {
        let footer = engine.footers.load(engine, &file)?;
        let bytes = footer
            .streams
            .iter()
            .map(|entry| (entry.stream, (entry.runs[0].bytes, entry.bytes_inside() > 0)));
        let handle = engine.files.handle(file.place)?;
        Ok(Self {
            scanner: Scanner::with_window(handle, file.salt, file.number(), WINDOW),
            position: FILE_HEADER_BYTES as u64,
            bytes: bytes.collect(),
            file,
        })
    }

    /// The next group; the outer error is damage.
    fn group(&mut self) -> std::result::Result<Result<ScannedGroup>, &'static str> {
        match self.scanner.group(self.position, self.file.groups_end) {
            Ok(Ok(group)) => Ok(Ok(group)),
            Ok(Err(why)) => Err(why.0),
            Err(error) => Ok(Err(failed("read an input of")(error))),
        }
    }

    /// The payload of a batch, verified.
    fn payload(&mut self, group: &ScannedGroup, frame: &Frame) -> Result<Bytes> {
        let payload = self.scanner.payload(group, frame).map_err(failed("read an input of"))?;
        if payload.len() != frame.payload_bytes as usize
            || (crc32fast::hash(payload) != frame.payload_crc
                && !skips("the checksum of a payload in merging"))
        {
            return Err(damaged(self, group.position, "a batch's checksum differs"));
        }
        Ok(Bytes::copy_from_slice(payload))
    }

    /// Counts the payload of a batch, alive or not.
    fn count(&mut self, frame: &Frame) -> (u64, u64) {
        let Some((before, is_counted)) = self.bytes.get_mut(&frame.stream) else { return (0, 0) };
        let counted = if *is_counted { u64::from(frame.payload_bytes) } else { 0 };
        let bytes = (*before, counted);
        *before += counted;
        bytes
    }
}

/// The batch with these of its records only, by index and offset; `None` if the codec cannot.
fn only(engine: &Engine, held: &Held, kept: &[(u32, Offset)]) -> Option<Held> {
    let (_, base_offset) = *kept.first()?;
    let indices: Vec<u32> = kept.iter().map(|(index, _)| *index).collect();
    let payload = engine.parts.codec.retain(&held.payload, &indices).ok()?;
    let mut deltas: Vec<u32> =
        kept.iter().map(|(_, offset)| (offset.0 - base_offset.0) as u32).collect();
    if (0..).zip(&deltas).all(|(dense, delta): (u32, _)| dense == *delta) {
        deltas.clear();
    }
    let end = held.bytes.0 + held.bytes.1;
    let counted = if held.bytes.1 == 0 { 0 } else { payload.len() as u64 };
    let frame = Frame {
        base_offset,
        count: kept.len() as u32,
        offset_deltas: deltas,
        payload_crc: crc32fast::hash(&payload),
        payload_bytes: payload.len() as u32,
        ..held.frame.clone()
    };
    Some(Held { frame, payload, bytes: (end.saturating_sub(counted), counted) })
}

fn is_alive(engine: &Engine, frame: &Frame) -> bool {
    engine.state.stream(frame.stream).is_ok_and(|stream| stream.view().start < frame.end())
}

/// Does a write; on a full disk again, once the reserve for merges has given way.
fn retry(
    engine: &Engine,
    frees_space: bool,
    mut write: impl FnMut() -> io::Result<u64>,
) -> Result<u64> {
    let outcome = write().or_else(|error| {
        let reserve = engine.options.directory.join(MERGE_RESERVE);
        let gave_way = error.kind() == io::ErrorKind::StorageFull
            && frees_space
            && engine.parts.disk.remove(&reserve).is_ok();
        if gave_way { write() } else { Err(error) }
    });
    outcome.map_err(failed("write an output of"))
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::new(ErrorKind::Io, format!("cannot {what} a merge")).caused_by(error)
}

fn damaged(input: &Input, position: u64, why: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt { next_readable: Offset(0) },
        format!("{} is damaged at {position}: {why}", input.file.key),
    )
}
