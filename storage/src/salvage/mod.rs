//! Making a checkpoint when all of them are lost.
//!
//! ```text
//!   older files, with gaps           the tail: journal files without a gap, up to the newest
//!  ┌───────┐ ┌─────────────┐        ┌─────┬─────┬─────┐
//!  │ 3     │ │ segment 2-0 │  ...   │ 41  │ 42  │ 43  │
//!  └───────┘ └─────────────┘        └─────┴─────┴─────┘
//!       └── every group is read ──┐  └── replayed by the next start, as after a crash
//!                                 ▼
//!                 a checkpoint that says what stood before file 41
//! ```
//!
//! What files said that were given back is said nowhere else: values of keys, policies, streams
//! without records, producers. What they took away (deletions, trims, what retention and
//! compaction removed) may be undone as far as its records are still in some file. Nothing that is
//! there is left out; offsets that are in no file are quarantined.
//!
//! The outputs of a merge count only if they hold something that its inputs, as far as those are
//! still there, do not: otherwise nothing proves that the merge was finished. A file that is in
//! part in the outputs of a merge that counts was an input of it.

mod gather;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::{self, Checkpoints, io_error};
use crate::disk::Disk;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{Place, StoredFile};
use crate::format::{
    Checkpoint, FILE_HEADER_BYTES, FileHeader, QuarantineRecord, SegmentRecord, StreamRecord,
};
use crate::options::Options;
use crate::position::{FileSequence, Lsn, Offset, StreamId, Timestamp};
use crate::producers::Producers;
use crate::recovery::{self, Found};
use gather::{Gathered, Ranges, Scanned};
pub use report::{Salvage, SalvagedStream};

/// Ids that streams of the lost part may have had, at most: none is given twice.
const LOST_STREAMS_MAX: u64 = 1 << 32;

/// Finds out what can be said of a directory whose checkpoints are lost, and writes it as a new
/// checkpoint if `write`; without it nothing is changed.
///
/// # Errors
///
/// [`ErrorKind::Format`] if it is no data directory or of another version, [`ErrorKind::Locked`],
/// [`ErrorKind::Corrupt`] if nothing is left to begin with, [`ErrorKind::Io`].
pub fn recover(directory: &Path, disk: &Arc<dyn Disk>, write: bool) -> Result<Salvage> {
    let disk = disk.as_ref();
    let _lock = recovery::lock_stopped(disk, directory, "stop the broker first")?;
    let names = disk.list(directory).map_err(|error| io_error("list", directory, error))?;
    recovery::read_format(disk, directory)?;
    let Checkpoints { newest, kept, damage, .. } = checkpoint::find(disk, directory, &names)?;
    let mut report = Salvage::of(directory.to_owned(), damage);
    if newest.is_some() {
        return Ok(report);
    }
    let slots = recovery::find_slots(disk, directory, &names)?;
    let segments = recovery::find_segments(disk, directory, &names)?;
    let headers: BTreeMap<FileSequence, (u32, FileHeader)> = slots
        .iter()
        .filter_map(|(number, found)| Some((found.header?.sequence, (*number, found.header?))))
        .collect();
    let Some(tail) = first_of_tail(&headers) else {
        if segments.is_empty() && kept.is_empty() {
            return Ok(report);
        }
        return Err(Error::new(
            ErrorKind::Corrupt { next_readable: Offset(0) },
            format!(
                "no journal file in {} has a whole header, so nothing says where to go on: \
                 restore the directory from a backup",
                directory.display()
            ),
        ));
    };
    if tail == FileSequence(1) {
        return Ok(report);
    }
    let directory_of = Directory { disk, directory, slots: &slots, headers: &headers };
    let checkpoint = directory_of.salvage(tail, &segments, &mut report)?;
    if write {
        checkpoint::write_next(disk, directory, &kept, &checkpoint)?;
        report.written = true;
    }
    Ok(report)
}

/// The first of the newest files that follow one another without a gap.
fn first_of_tail(headers: &BTreeMap<FileSequence, (u32, FileHeader)>) -> Option<FileSequence> {
    let mut first = *headers.keys().next_back()?;
    while first.0 > 1 && headers.contains_key(&FileSequence(first.0 - 1)) {
        first = FileSequence(first.0 - 1);
    }
    Some(first)
}

struct Directory<'a> {
    disk: &'a dyn Disk,
    directory: &'a Path,
    slots: &'a BTreeMap<u32, Found>,
    headers: &'a BTreeMap<FileSequence, (u32, FileHeader)>,
}

impl Directory<'_> {
    fn salvage(
        &self,
        tail: FileSequence,
        segments: &BTreeMap<Place, SegmentRecord>,
        report: &mut Salvage,
    ) -> Result<Checkpoint> {
        let mut gathered = Gathered::default();
        let mut older = Vec::new();
        for (sequence, (slot, header)) in self.headers.range(..tail) {
            let scanned = self.journal(*sequence, *slot, header)?;
            gathered.journal(&scanned);
            older.push(scanned);
        }
        let mut firsts: BTreeMap<StreamId, Offset> = BTreeMap::new();
        for (sequence, (slot, header)) in self.headers.range(tail..) {
            let scanned = self.journal(*sequence, *slot, header)?;
            for (stream, held) in &scanned.streams {
                firsts.entry(*stream).or_insert(held.ranges.first());
            }
            gathered.tail(&scanned);
        }
        report.state = gathered.newest_values();
        let mut merged: BTreeMap<u64, Vec<Scanned>> = BTreeMap::new();
        for (place, record) in segments {
            let scanned = gather::segment(self.disk, &place.path(self.directory), record)?;
            gathered.note(&scanned);
            merged.entry(record.merge).or_default().push(scanned);
        }
        report.read(older.iter().chain(merged.values().flatten()));
        let chosen = choose(older, merged, tail, report);

        let header = self.headers[&tail].1;
        let mut checkpoint = Checkpoint {
            lsn: Lsn(header.base_lsn.0.saturating_sub(1)),
            sequence: tail,
            position: FILE_HEADER_BYTES as u64,
            wall_time: header.wall_time,
            next_stream: gathered.highest_stream() + LOST_STREAMS_MAX,
            last_merge: segments.values().map(|segment| segment.merge).max().unwrap_or_default(),
            ..Checkpoint::default()
        };
        self.place_streams(&chosen, &firsts, &gathered, &mut checkpoint, report);
        for scanned in chosen.iter().filter(|scanned| scanned.file.key().rank < tail) {
            match scanned.file {
                StoredFile::Journal(record) => checkpoint.files.push(record),
                StoredFile::Segment(record) => checkpoint.segments.push(record),
            }
        }
        let mut producers = Producers::new(Options::default().producers_max);
        producers.restore(gathered.producers(), &[]);
        producers.distrust_unknown();
        checkpoint.producers = producers.records();
        checkpoint.forgotten = producers.forgotten();
        checkpoint.state = gathered.values();
        checkpoint.last_merge = checkpoint.last_merge.max(gathered.last_merge);
        let newest = self.headers.keys().next_back().map_or(tail, |newest| newest.next());
        report.sum_up(tail..newest, &checkpoint);
        checkpoint.damage.push(report.sentence());
        Ok(checkpoint)
    }

    fn journal(&self, sequence: FileSequence, slot: u32, header: &FileHeader) -> Result<Scanned> {
        let next = self.headers.get(&sequence.next()).and_then(|(_, next)| next.previous);
        let end = next.filter(|previous| previous.sequence == sequence).map(|p| p.end);
        let size = self.slots.get(&slot).map_or(0, |found| found.slot.size);
        let path = Place::Slot(slot).path(self.directory);
        gather::journal(self.disk, &path, slot, header, size, end)
    }

    fn place_streams(
        &self,
        chosen: &[Scanned],
        firsts: &BTreeMap<StreamId, Offset>,
        gathered: &Gathered,
        checkpoint: &mut Checkpoint,
        report: &mut Salvage,
    ) {
        let mut ids: BTreeSet<StreamId> = firsts.keys().copied().collect();
        ids.extend(chosen.iter().flat_map(|scanned| scanned.streams.keys()));
        ids.extend(gathered.streams());
        for id in ids {
            if gathered.is_created_in_tail(id) || gathered.is_deleted(id) {
                continue;
            }
            // What the tail holds is counted when the tail is replayed.
            let first = firsts.get(&id).copied();
            let limit = first.unwrap_or(Offset(u64::MAX));
            let mut all = Ranges::default();
            let mut record = StreamRecord {
                stream: id,
                start: first.unwrap_or_default(),
                end: first.unwrap_or_default(),
                last_time: Timestamp(0),
                last_file: None,
                bytes: 0,
                compacted_to: gathered.compacted_to(id),
            };
            for scanned in chosen {
                let Some(held) = scanned.streams.get(&id) else { continue };
                all.add_all(&held.ranges, limit);
                record.last_file = record.last_file.max(Some(scanned.file.key().rank));
                // A merge may have taken in records of the tail, which come again.
                if held.ranges.bounds().is_some_and(|(_, end)| end <= limit) {
                    record.last_time = record.last_time.max(held.last_time);
                    record.bytes = record.bytes.max(held.bytes);
                }
                record.compacted_to = record.compacted_to.max(held.compacted_to.min(limit));
            }
            if let Some((start, end)) = all.bounds() {
                (record.start, record.end) = (start, end);
            }
            record.start = record.start.max(gathered.trimmed_to(id)).min(record.end);
            let holes = all.holes().into_iter().filter(|(_, end)| *end > record.start);
            let quarantine = holes.map(|(from, end)| QuarantineRecord {
                stream: id,
                first: from.max(record.start),
                end,
            });
            checkpoint.quarantine.extend(quarantine);
            if let Some(policy) = gathered.policy(id) {
                checkpoint.policies.push((id, policy));
            }
            checkpoint.streams.push(record);
            report.stream(&record, first);
        }
        for (stream, first, end) in gathered.quarantine() {
            if checkpoint.streams.iter().any(|record| record.stream == stream) {
                checkpoint.quarantine.push(QuarantineRecord { stream, first, end });
            }
        }
    }
}

/// The files to read from, in the order of their keys: see the module's words on merges.
fn choose(
    journals: Vec<Scanned>,
    merged: BTreeMap<u64, Vec<Scanned>>,
    tail: FileSequence,
    report: &mut Salvage,
) -> Vec<Scanned> {
    let mut chosen = journals;
    for outputs in merged.into_values() {
        // The record of this merge is in the tail, or there is none: the next start knows.
        if outputs.iter().any(|output| output.file.key().rank >= tail) {
            chosen.extend(outputs);
            continue;
        }
        let mut there: BTreeMap<StreamId, Ranges> = BTreeMap::new();
        for (stream, held) in chosen.iter().flat_map(|scanned| &scanned.streams) {
            there.entry(*stream).or_default().add_all(&held.ranges, Offset(u64::MAX));
        }
        let is_needless =
            outputs.iter().flat_map(|output| &output.streams).all(|(stream, held)| {
                there.get(stream).is_some_and(|there| there.contains(&held.ranges))
            });
        if is_needless {
            report.leave_out(&outputs);
            continue;
        }
        let (inputs, rest): (Vec<_>, Vec<_>) = chosen
            .into_iter()
            .partition(|scanned| outputs.iter().any(|output| output.is_made_of(scanned)));
        report.leave_out(&inputs);
        chosen = rest;
        chosen.extend(outputs);
    }
    chosen.sort_by_key(|scanned| scanned.file.key());
    chosen
}
