//! What files say that no checkpoint speaks for: every group of them is read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;

use crate::checkpoint::io_error;
use crate::disk::{Disk, OpenMode};
use crate::error::Result;
use crate::files::StoredFile;
use crate::format::{
    ControlRecord, FILE_HEADER_BYTES, FileHeader, FileRecord, Footer, Frame, FrameKind,
    ProducerRecord, RecentRecord, SegmentRecord,
};
use crate::position::{Lsn, Offset, StreamId, Timestamp};
use crate::producers::{ProducerKey, WINDOW_ENTRIES, key};
use crate::recovery::{ScannedGroup, Scanner};
use crate::retention::Policy;

/// Offsets, as ranges that do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(Vec<(Offset, Offset)>);

impl Ranges {
    pub(super) fn add(&mut self, first: Offset, end: Offset) {
        if first >= end {
            return;
        }
        let from = self.0.partition_point(|(_, before)| *before < first);
        let to = self.0.partition_point(|(after, _)| *after <= end);
        let (mut first, mut end) = (first, end);
        if from < to {
            first = first.min(self.0[from].0);
            end = end.max(self.0[to - 1].1);
        }
        self.0.splice(from..to, [(first, end)]);
    }

    /// Adds what lies before `limit`.
    pub(super) fn add_all(&mut self, other: &Self, limit: Offset) {
        other.0.iter().for_each(|(first, end)| self.add(*first, (*end).min(limit)));
    }

    pub(super) fn contains(&self, other: &Self) -> bool {
        other.0.iter().all(|(first, end)| self.0.iter().any(|(a, b)| a <= first && end <= b))
    }

    fn overlaps(&self, other: &Self) -> bool {
        other.0.iter().any(|(first, end)| self.0.iter().any(|(a, b)| a < end && first < b))
    }

    /// The first offset, or 0.
    pub(super) fn first(&self) -> Offset {
        self.0.first().map_or(Offset(0), |(first, _)| *first)
    }

    pub(super) fn bounds(&self) -> Option<(Offset, Offset)> {
        Some((self.0.first()?.0, self.0.last()?.1))
    }

    /// What lies between the ranges.
    pub(super) fn holes(&self) -> Vec<(Offset, Offset)> {
        self.0.windows(2).map(|pair| (pair[0].1, pair[1].0)).collect()
    }
}

/// One stream in one file.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    pub(super) ranges: Ranges,
    pub(super) last_time: Timestamp,
    /// Payload bytes of the stream up to the end of the file, as its footer counts.
    pub(super) bytes: u64,
    /// A merge left records out up to here.
    pub(super) compacted_to: Offset,
}

/// One file, read from its header to its end.
pub(super) struct Scanned {
    pub(super) file: StoredFile,
    pub(super) streams: BTreeMap<StreamId, Held>,
    pub(super) records: u64,
    pub(super) damaged_groups: u64,
    /// In their order.
    controls: Vec<(StreamId, ControlRecord)>,
    /// In their order; of a journal file, where entries are whole.
    appended: Vec<(ProducerKey, u32, u64, RecentRecord)>,
}

impl Scanned {
    /// True if the other file was an input of the merge that wrote this one.
    pub(super) fn is_made_of(&self, other: &Self) -> bool {
        let StoredFile::Segment(record) = self.file else { return false };
        let key = other.file.key();
        key.merge < record.merge
            && (record.first_rank..=record.rank).contains(&key.rank)
            && self.streams.iter().any(|(stream, held)| {
                other.streams.get(stream).is_some_and(|there| there.ranges.overlaps(&held.ranges))
            })
    }

    fn frame(&mut self, frame: &Frame, is_merged: bool) {
        let held = self.streams.entry(frame.stream).or_default();
        let before = held.ranges.bounds().map(|(_, end)| end);
        let is_hole = before.is_some_and(|end| end < frame.base_offset);
        if is_merged && (is_hole || !frame.offset_deltas.is_empty()) {
            // What a merge left out of its own file is superseded, not lost.
            held.compacted_to = held.compacted_to.max(frame.end());
            before.into_iter().for_each(|end| held.ranges.add(end, frame.base_offset));
        }
        held.ranges.add(frame.base_offset, frame.end());
        held.last_time = held.last_time.max(frame.append_time);
        self.records += u64::from(frame.count);
    }

    fn footer(&mut self, footer: &Footer) {
        for entry in &footer.streams {
            if let Some(held) = self.streams.get_mut(&entry.stream) {
                held.bytes = entry.bytes;
            }
        }
    }
}

/// Reads a journal file, whose groups end at `end` if the next file says so.
pub(super) fn journal(
    disk: &dyn Disk,
    path: &Path,
    slot: u32,
    header: &FileHeader,
    size: u64,
    end: Option<u64>,
) -> Result<Scanned> {
    let failed = |error| io_error("read", path, error);
    let file = disk.open(path, OpenMode::Existing).map_err(failed)?;
    let mut scanner = Scanner::new(file, header.salt, header.sequence);
    let limit = end.unwrap_or(size);
    let mut record = FileRecord {
        sequence: header.sequence,
        slot,
        salt: header.salt,
        size,
        base_lsn: header.base_lsn,
        last_lsn: Lsn(header.base_lsn.0.saturating_sub(1)),
        end: FILE_HEADER_BYTES as u64,
        seal: None,
        previous: header.previous,
    };
    let mut scanned = Scanned {
        file: StoredFile::Journal(record),
        streams: BTreeMap::new(),
        records: 0,
        damaged_groups: 0,
        controls: Vec::new(),
        appended: Vec::new(),
    };
    let mut seal = None;
    while record.end < limit {
        let expected = record.last_lsn.next();
        let group = match scanner.group(record.end, limit).map_err(failed)? {
            Ok(group) if group.header.lsn == expected => group,
            _ => {
                let found = scanner.find_newer(record.end, limit, record.last_lsn);
                let Some(newer) = found.map_err(failed)? else { break };
                scanned.damaged_groups += 1;
                newer
            }
        };
        if group.header.is_seal {
            seal = Some(group);
            break;
        }
        scanned.entries(&mut scanner, &group).map_err(failed)?;
        record.last_lsn = group.header.lsn;
        record.end = group.position + u64::from(group.header.length);
    }
    if let (Some(end), None) = (end, &seal) {
        if record.end < end {
            scanned.damaged_groups += 1;
            record.end = end;
        }
        let found = scanner.group(end, size).map_err(failed)?;
        seal = found.ok().filter(|group| group.header.is_seal);
    }
    if let Some(seal) = seal {
        record.seal = Some(seal.position);
        record.end = seal.position;
        Footer::decode(&seal.table).into_iter().for_each(|footer| scanned.footer(&footer));
    }
    scanned.file = StoredFile::Journal(record);
    Ok(scanned)
}

/// Reads a segment whose header is whole.
pub(super) fn segment(disk: &dyn Disk, path: &Path, record: &SegmentRecord) -> Result<Scanned> {
    let failed = |error| io_error("read", path, error);
    let file = disk.open(path, OpenMode::Existing).map_err(failed)?;
    let stored = StoredFile::Segment(*record);
    let mut scanner = Scanner::new(file, record.salt, stored.number());
    let mut scanned = Scanned {
        file: stored,
        streams: BTreeMap::new(),
        records: 0,
        damaged_groups: 0,
        controls: Vec::new(),
        appended: Vec::new(),
    };
    let (mut at, mut newest) = (FILE_HEADER_BYTES as u64, Lsn(0));
    while at < record.end {
        let group = match scanner.group(at, record.end).map_err(failed)? {
            Ok(group) => group,
            Err(_) => {
                scanned.damaged_groups += 1;
                let found = scanner.find_newer(at, record.end, newest).map_err(failed)?;
                let Some(newer) = found else { break };
                newer
            }
        };
        for frame in group.frames.iter().filter(|frame| frame.kind == FrameKind::Batch) {
            scanned.frame(frame, true);
        }
        scanned.positions(&group.frames);
        newest = group.header.lsn;
        at = group.position + u64::from(group.header.length);
    }
    if let Ok(seal) = scanner.group(record.end, record.size).map_err(failed)? {
        Footer::decode(&seal.table).into_iter().for_each(|footer| scanned.footer(&footer));
    }
    Ok(scanned)
}

impl Scanned {
    /// Takes the entries of a group of a journal file.
    fn entries(&mut self, scanner: &mut Scanner, group: &ScannedGroup) -> std::io::Result<()> {
        let lsn = group.header.lsn;
        for frame in &group.frames {
            if frame.kind != FrameKind::Batch {
                let payload = Bytes::copy_from_slice(scanner.payload(group, frame)?);
                let is_whole = crc32fast::hash(&payload) == frame.payload_crc;
                match ControlRecord::decode(frame, &payload) {
                    Ok(record) if is_whole => self.controls.push((frame.stream, record)),
                    _ => self.damaged_groups += 1,
                }
                continue;
            }
            self.frame(frame, false);
            let Some(stamp) = frame.producer else { continue };
            let range = (frame.stream, frame.base_offset, frame.count, frame.append_time);
            match self.appended.last_mut() {
                Some((producer, epoch, sequence, recent))
                    if (*producer, *epoch, *sequence, recent.lsn)
                        == (key(&stamp), stamp.epoch, stamp.sequence, lsn) =>
                {
                    recent.ranges.push(range);
                }
                _ => {
                    let recent = RecentRecord { lsn, ranges: vec![range] };
                    self.appended.push((key(&stamp), stamp.epoch, stamp.sequence, recent));
                }
            }
        }
        Ok(())
    }

    /// Notes how far producers came. A merge may have left out parts of their entries, so that the
    /// outcomes are not known.
    fn positions(&mut self, frames: &[Frame]) {
        for stamp in frames.iter().filter_map(|frame| frame.producer) {
            let nothing = RecentRecord { lsn: Lsn(0), ranges: Vec::new() };
            self.appended.push((key(&stamp), stamp.epoch, stamp.sequence, nothing));
        }
    }
}

/// What all files together say beside their records.
#[derive(Default)]
pub(super) struct Gathered {
    created: BTreeSet<StreamId>,
    created_in_tail: BTreeSet<StreamId>,
    deleted: BTreeSet<StreamId>,
    trimmed: BTreeMap<StreamId, Offset>,
    policies: BTreeMap<StreamId, Policy>,
    compacted: BTreeMap<StreamId, Offset>,
    quarantined: Vec<(StreamId, Offset, Offset)>,
    values: BTreeMap<Bytes, Bytes>,
    positions: BTreeMap<ProducerKey, Position>,
    /// Of the tail; a key without a value is gone.
    newer_values: BTreeMap<Bytes, Option<Bytes>>,
    highest: u64,
    pub(super) last_merge: u64,
}

#[derive(Default)]
struct Position {
    epoch: u32,
    next: u64,
    /// Outcomes of the sequences before `next`, without a gap.
    recent: std::collections::VecDeque<RecentRecord>,
}

impl Gathered {
    /// A journal file of the older part, in their order.
    pub(super) fn journal(&mut self, scanned: &Scanned) {
        for (stream, record) in &scanned.controls {
            self.highest = self.highest.max(stream.0);
            match record {
                ControlRecord::CreateStream => drop(self.created.insert(*stream)),
                ControlRecord::DeleteStream => drop(self.deleted.insert(*stream)),
                ControlRecord::Trim(start) | ControlRecord::Retention(start) => {
                    let trimmed = self.trimmed.entry(*stream).or_default();
                    *trimmed = (*trimmed).max(*start);
                }
                ControlRecord::SetPolicy(policy) => drop(self.policies.insert(*stream, *policy)),
                ControlRecord::Quarantine(first, end) => {
                    self.quarantined.push((*stream, *first, *end));
                }
                ControlRecord::SetState { key, value: Some(value) } => {
                    self.values.insert(key.clone(), value.clone());
                }
                ControlRecord::SetState { key, value: None } => drop(self.values.remove(key)),
                ControlRecord::Merged(merged) => {
                    self.last_merge = self.last_merge.max(merged.merge);
                    for (stream, to) in &merged.compacted {
                        let compacted = self.compacted.entry(*stream).or_default();
                        *compacted = (*compacted).max(*to);
                    }
                }
                ControlRecord::EpochChange { .. } => {}
            }
        }
        self.note(scanned);
    }

    /// A file of any kind that is not of the tail: streams and producers.
    pub(super) fn note(&mut self, scanned: &Scanned) {
        let highest = scanned.streams.keys().map(|stream| stream.0).max();
        self.highest = self.highest.max(highest.unwrap_or_default());
        for (producer, epoch, sequence, recent) in &scanned.appended {
            self.positions.entry(*producer).or_default().note(*epoch, *sequence, recent);
        }
    }

    /// A journal file of the tail, which is replayed: what must be known of it before.
    pub(super) fn tail(&mut self, scanned: &Scanned) {
        for (stream, record) in &scanned.controls {
            self.highest = self.highest.max(stream.0);
            match record {
                ControlRecord::CreateStream => drop(self.created_in_tail.insert(*stream)),
                ControlRecord::SetState { key, value } => {
                    self.newer_values.insert(key.clone(), value.clone());
                }
                _ => {}
            }
        }
        let highest = scanned.streams.keys().map(|stream| stream.0).max();
        self.highest = self.highest.max(highest.unwrap_or_default());
    }

    pub(super) fn highest_stream(&self) -> u64 {
        self.highest
    }

    /// Streams that are known to have been created before the tail.
    pub(super) fn streams(&self) -> impl Iterator<Item = StreamId> {
        self.created.iter().copied()
    }

    pub(super) fn is_created_in_tail(&self, id: StreamId) -> bool {
        self.created_in_tail.contains(&id)
    }

    pub(super) fn is_deleted(&self, id: StreamId) -> bool {
        self.deleted.contains(&id)
    }

    pub(super) fn trimmed_to(&self, id: StreamId) -> Offset {
        self.trimmed.get(&id).copied().unwrap_or_default()
    }

    pub(super) fn policy(&self, id: StreamId) -> Option<Policy> {
        self.policies.get(&id).copied()
    }

    pub(super) fn compacted_to(&self, id: StreamId) -> Offset {
        self.compacted.get(&id).copied().unwrap_or_default()
    }

    pub(super) fn quarantine(&self) -> impl Iterator<Item = (StreamId, Offset, Offset)> {
        self.quarantined.iter().copied()
    }

    pub(super) fn values(&self) -> Vec<(Bytes, Bytes)> {
        self.values.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// As they will be once the tail is replayed.
    pub(super) fn newest_values(&self) -> Vec<(Bytes, Bytes)> {
        let mut values = self.values.clone();
        for (key, value) in &self.newer_values {
            match value {
                Some(value) => drop(values.insert(key.clone(), value.clone())),
                None => drop(values.remove(key)),
            }
        }
        values.into_iter().collect()
    }

    pub(super) fn producers(&self) -> Vec<ProducerRecord> {
        let record = |((scope, id), position): (&ProducerKey, &Position)| ProducerRecord {
            scope: *scope,
            id: *id,
            epoch: position.epoch,
            next_sequence: position.next,
            recent: position.recent.iter().cloned().collect(),
        };
        self.positions.iter().map(record).collect()
    }
}

impl Position {
    fn note(&mut self, epoch: u32, sequence: u64, recent: &RecentRecord) {
        if epoch < self.epoch || (epoch == self.epoch && sequence + 1 < self.next) {
            return;
        }
        if epoch > self.epoch {
            *self = Self { epoch, ..Self::default() };
        }
        if sequence + 1 == self.next {
            // The same entry in another file, or another part of it.
            if let (Some(last), false) = (self.recent.back_mut(), recent.ranges.is_empty())
                && last.ranges.is_empty()
            {
                *last = recent.clone();
            }
            return;
        }
        if sequence > self.next || recent.ranges.is_empty() {
            self.recent.clear();
        }
        self.next = sequence + 1;
        if !recent.ranges.is_empty() {
            self.recent.push_back(recent.clone());
        }
        if self.recent.len() > WINDOW_ENTRIES {
            self.recent.pop_front();
        }
    }
}
