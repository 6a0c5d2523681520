//! Replay: folding the groups that follow the checkpoint, one behind the reading, so that a group
//! is folded only once something later proves that it was durable.

mod losses;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::Path;

use bytes::Bytes;

use self::losses::{Lost, Unresolved, damaged};
use super::Found;
use super::scan::{ScannedGroup, Scanner};
use crate::checkpoint::io_error;
use crate::disk::{BLOCK, Disk, OpenMode};
use crate::error::{Error, ErrorKind, Result};
use crate::files::{Place, StoredFile};
use crate::format::{
    Checkpoint, FILE_HEADER_BYTES, FileHeader, FileRecord, Footer, FooterStream, Frame, FrameKind,
    GroupHeader, MergedRecord, SegmentRecord, StreamEnd,
};
use crate::journal::{FileProgress, SlotOnDisk, slot_path};
use crate::position::{FileKey, FileSequence, Lsn, Offset, StreamId, Timestamp};
use crate::read::footers;
use crate::retention::Doubt;
use crate::sabotage::skips;
use crate::state::{GroupView, State};
use crate::stream::Stream;

/// The last group, which nothing proves durable.
pub(crate) struct Carried {
    pub(crate) header: GroupHeader,
    pub(crate) frames: Vec<Frame>,
    pub(crate) ends: Vec<StreamEnd>,
    pub(crate) bytes: Vec<u8>,
}

/// What replay found.
pub(crate) struct Replayed {
    /// Finished files, with the footers known so far.
    pub(crate) finished: BTreeMap<FileKey, (StoredFile, Option<Footer>)>,
    /// Files that a merge replayed here made needless. Checkpoints still name them.
    pub(crate) retired: Vec<StoredFile>,
    /// Files that should be there and are not whole.
    pub(crate) missing: Vec<StoredFile>,
    /// The newest sequence ever used.
    pub(crate) newest: FileSequence,
    /// The last file and where its groups end, the one carried over not counted.
    pub(crate) last_file: Option<(FileSequence, u64)>,
    /// The newest LSN used, the one carried over not counted.
    pub(crate) lsn: Lsn,
    pub(crate) carried: Option<Carried>,
    /// Where the streams of the last group with batches stand.
    pub(crate) ends: Vec<StreamEnd>,
}

/// Folds everything into `state`.
pub(crate) fn replay(
    disk: &dyn Disk,
    state: &State,
    found: &BTreeMap<u32, Found>,
    segments: &BTreeMap<Place, SegmentRecord>,
    checkpoint: Option<Checkpoint>,
    had_checkpoints: bool,
    directory: &Path,
) -> Result<Replayed> {
    let by_sequence: BTreeMap<FileSequence, (&SlotOnDisk, FileHeader)> = found
        .values()
        .filter_map(|found| {
            let header = found.header?;
            Some((header.sequence, (&found.slot, header)))
        })
        .collect();
    let newest_header = by_sequence.keys().next_back().copied().unwrap_or_default();
    let mut run = Run {
        disk,
        state,
        directory,
        segments,
        progress: FileProgress::default(),
        finished: BTreeMap::new(),
        retired: Vec::new(),
        missing: BTreeMap::new(),
        lsn: Lsn(0),
        time: None,
        pending: None,
        ends: Vec::new(),
        lost: None,
        unresolved: Vec::new(),
        deleted: BTreeSet::new(),
        highest_stream: 0,
    };
    let (mut sequence, mut position) = (FileSequence(1), FILE_HEADER_BYTES as u64);
    let mut newest = newest_header;
    match checkpoint {
        Some(checkpoint) => {
            (sequence, position) = (checkpoint.sequence, checkpoint.position);
            newest = newest.max(sequence);
            run.highest_stream = checkpoint.next_stream;
            run.restore(checkpoint, &by_sequence);
        }
        None => {
            // Files given back said things that only a checkpoint says now.
            let reaches_back = by_sequence.len() as u64 == newest_header.0;
            if !reaches_back || (had_checkpoints && by_sequence.is_empty()) {
                return Err(Error::new(
                    ErrorKind::Corrupt { next_readable: Offset(0) },
                    format!(
                        "no checkpoint in {0} is whole, and the journal no longer reaches back to \
                         its beginning: restore a backup, or run `meshlog recover {0}`, which says \
                         what is left",
                        directory.display()
                    ),
                ));
            }
        }
    }

    let mut last_file = None;
    loop {
        let successor = by_sequence.range(sequence.next()..).next().map(|(s, (_, h))| (*s, *h));
        match by_sequence.get(&sequence) {
            Some((slot, header)) => {
                let end = run.file(slot, header, position, successor)?;
                last_file = Some((sequence, end));
            }
            None if by_sequence.is_empty() && last_file.is_none() && !had_checkpoints => {}
            None => {
                run.damage(format!(
                    "journal file {sequence} is missing from {}; what was appended to it is lost",
                    directory.display()
                ));
                let bytes = successor.and_then(|(_, next)| next.previous).map_or(0, |p| p.end);
                run.lose_groups(sequence, bytes);
            }
        }
        match successor {
            Some((next, _)) => (sequence, position) = (next, FILE_HEADER_BYTES as u64),
            None => break,
        }
    }

    run.give_up_unresolved();
    run.report_missing();
    let carried = match run.pending.take() {
        Some((scanned, bytes)) => {
            let ScannedGroup { header, frames, ends, .. } = scanned;
            run.note_time(header.wall_time);
            run.note_ends(&frames, &ends);
            Some(Carried { header, frames, ends, bytes })
        }
        None => None,
    };
    let (finished, retired, ends) = (run.finished, run.retired, run.ends);
    let missing = run.missing.into_values().collect();
    Ok(Replayed { finished, retired, missing, newest, last_file, lsn: run.lsn, carried, ends })
}

impl Replayed {
    /// Does in the table of files what a merge says.
    pub(crate) fn apply(&mut self, merged: &MergedRecord) {
        apply(&mut self.finished, &mut self.retired, merged);
    }
}

fn apply(
    finished: &mut BTreeMap<FileKey, (StoredFile, Option<Footer>)>,
    retired: &mut Vec<StoredFile>,
    merged: &MergedRecord,
) {
    retired.extend(merged.inputs.iter().filter_map(|key| finished.remove(key)).map(|(f, _)| f));
    for output in &merged.outputs {
        let file = StoredFile::Segment(*output);
        finished.insert(file.key(), (file, None));
    }
}

struct Run<'a> {
    disk: &'a dyn Disk,
    state: &'a State,
    directory: &'a Path,
    /// What the segments in the directory say that they are.
    segments: &'a BTreeMap<Place, SegmentRecord>,
    progress: FileProgress,
    finished: BTreeMap<FileKey, (StoredFile, Option<Footer>)>,
    retired: Vec<StoredFile>,
    /// Where the streams of the last group with batches stand.
    ends: Vec<StreamEnd>,
    /// Groups that were lost after the last whole one.
    lost: Option<Lost>,
    /// Losses of which it is not known whose offsets they gave out.
    unresolved: Vec<Unresolved>,
    /// Streams deleted in what is replayed.
    deleted: BTreeSet<StreamId>,
    /// Streams after this one were created in what is replayed.
    highest_stream: u64,
    /// Files that should be there and are not, unless a merge made them needless.
    missing: BTreeMap<FileKey, StoredFile>,
    lsn: Lsn,
    /// When the last group was closed, or the checkpoint was taken.
    time: Option<Timestamp>,
    /// The last group of the last file, verified, with its bytes.
    pending: Option<(ScannedGroup, Vec<u8>)>,
}

impl Run<'_> {
    fn damage(&self, sentence: String) {
        tracing::error!(damage = %sentence);
        let mut folded = self.state.folded();
        if !folded.damage.contains(&sentence) {
            folded.damage.push(sentence);
        }
    }

    fn restore(
        &mut self,
        checkpoint: Checkpoint,
        by_sequence: &BTreeMap<FileSequence, (&SlotOnDisk, FileHeader)>,
    ) {
        self.lsn = checkpoint.lsn;
        self.time = Some(checkpoint.wall_time);
        {
            let mut folded = self.state.folded();
            folded.lsn = checkpoint.lsn;
            folded.next_stream = checkpoint.next_stream;
            folded.last_merge = checkpoint.last_merge;
            folded.newest_time = checkpoint.wall_time;
            folded.clock_doubt = Doubt::from_seconds(checkpoint.clock_doubt);
            folded.producers.restore(checkpoint.producers, &checkpoint.forgotten);
            folded.values = checkpoint.state.into_iter().collect();
            folded.damage.extend(checkpoint.damage);
        }
        for record in checkpoint.streams {
            let mut folded = self.state.folded();
            folded.newest_time = folded.newest_time.max(record.last_time);
            drop(folded);
            self.state.restore(Stream::restored(&record));
        }
        for (stream, policy) in checkpoint.policies {
            if let Ok(stream) = self.state.stream(stream) {
                stream.view().policy = policy;
            }
        }
        for entry in checkpoint.active {
            if let Ok(stream) = self.state.stream(entry.stream) {
                self.progress.runs += entry.runs.len();
                let mut view = stream.view();
                view.active = entry.runs;
                view.active_file = Some(checkpoint.sequence);
                drop(view);
                self.progress.touched.push(stream);
            }
        }
        for range in checkpoint.quarantine {
            if let Ok(stream) = self.state.stream(range.stream) {
                stream.view().quarantine.push((range.first, range.end));
            }
        }
        for record in checkpoint.files {
            let is_there = by_sequence.get(&record.sequence).is_some_and(|(slot, header)| {
                slot.number == record.slot && header.salt == record.salt
            });
            self.restore_file(StoredFile::Journal(record), is_there);
        }
        for record in checkpoint.segments {
            let file = StoredFile::Segment(record);
            self.restore_file(file, self.segments.get(&file.place()) == Some(&record));
        }
    }

    fn restore_file(&mut self, file: StoredFile, is_there: bool) {
        if is_there {
            self.finished.insert(file.key(), (file, None));
        } else {
            self.missing.insert(file.key(), file);
        }
    }

    fn merged(&mut self, merged: &MergedRecord) {
        for key in &merged.inputs {
            self.missing.remove(key);
        }
        apply(&mut self.finished, &mut self.retired, merged);
        for output in &merged.outputs {
            let file = StoredFile::Segment(*output);
            if self.segments.get(&file.place()) != Some(output) {
                self.finished.remove(&file.key());
                self.missing.insert(file.key(), file);
            }
        }
    }

    fn report_missing(&self) {
        for (key, file) in &self.missing {
            self.damage(format!(
                "{key} ({}) is missing, or its header is damaged; what it holds cannot be read",
                file.place().path(self.directory).display()
            ));
        }
    }

    /// Folds the groups of one file from `position`; answers where its groups end.
    fn file(
        &mut self,
        slot: &SlotOnDisk,
        header: &FileHeader,
        position: u64,
        successor: Option<(FileSequence, FileHeader)>,
    ) -> Result<u64> {
        let path = slot_path(self.directory, slot.number);
        let failed = |error| io_error("read", &path, error);
        let sequence = header.sequence;
        // The size was synced before the header: groups may have been cut off with it.
        if slot.size < header.size {
            self.damage(format!(
                "journal file {sequence} ({}) is cut short: {} of {} bytes are there; what stood \
                 behind them is lost",
                path.display(),
                slot.size,
                header.size
            ));
        }
        let file = self.disk.open(&path, OpenMode::Existing).map_err(failed)?;
        let mut scanner = Scanner::new(file, header.salt, sequence);
        // A successor says where the groups end; without one they end where they stop checking.
        let closed = successor.and_then(|(_, next)| {
            next.previous.filter(|previous| previous.sequence == sequence).map(|p| p.end)
        });
        let closed = closed.filter(|_| !skips("the end that the next header names"));
        let limit = closed.unwrap_or(slot.size);
        if position == FILE_HEADER_BYTES as u64 {
            // A seal between the files took an LSN of its own.
            self.lsn = self.lsn.max(Lsn(header.base_lsn.0.saturating_sub(1)));
        }
        let mut at = position;
        let (mut seal, mut sealed, mut is_damaged) = (None, None, false);
        while at < limit {
            let expected = self.newest_lsn().next();
            let checked = scanner.group(at, limit).map_err(failed)?;
            let group = match checked {
                Ok(group) if group.header.lsn == expected || skips("the order of LSNs") => group,
                other => {
                    let why = other.err().map_or("it is out of order", |why| why.0);
                    let newer = scanner.find_newer(at, limit, self.newest_lsn()).map_err(failed)?;
                    is_damaged |= newer.is_some() || closed.is_some();
                    match newer {
                        // The group here was acknowledged before the newer one was written.
                        Some(newer) => {
                            self.damage(damaged(sequence, &path, at, newer.position, why));
                            self.lose_groups(sequence, newer.position - at);
                            newer
                        }
                        None if closed.is_some() => {
                            self.damage(damaged(sequence, &path, at, limit, why));
                            self.lose_groups(sequence, limit - at);
                            break;
                        }
                        None => break,
                    }
                }
            };
            self.fold_pending(&mut scanner, sequence)?;
            let end = group.position + u64::from(group.header.length);
            if group.header.is_seal {
                seal = Some(group.position);
                at = group.position;
                self.lsn = group.header.lsn;
                self.check_seal(&group, sequence, is_damaged);
                sealed = Some(group.table);
                break;
            }
            if let Some(lost) = self.lost.take() {
                self.lose(group.ends.iter().copied());
                self.name_lost(&lost, &group);
            }
            self.pending = Some((group, Vec::new()));
            at = end;
        }
        match closed {
            Some(end) => {
                self.fold_pending(&mut scanner, sequence)?;
                let group = scanner.group(end, slot.size).map_err(failed)?;
                if let Some(group) = group.ok().filter(|group| group.header.is_seal) {
                    self.lose_footer(&group, sequence, is_damaged);
                    seal = Some(end);
                    sealed = Some(group.table);
                }
                at = end;
            }
            None => at = self.verify_last(&mut scanner, at, &path)?,
        }
        let last_lsn = self.lsn;
        let mut footer = self.progress.footer_so_far(None);
        if position > FILE_HEADER_BYTES as u64 {
            self.add_gone(&mut footer, sealed.as_deref(), &mut scanner, position)
                .map_err(failed)?;
        }
        self.progress.finish(sequence);
        let file = StoredFile::Journal(FileRecord {
            sequence,
            slot: slot.number,
            salt: header.salt,
            size: slot.size,
            base_lsn: header.base_lsn,
            last_lsn,
            end: at,
            seal,
            previous: header.previous,
        });
        self.finished.insert(file.key(), (file, Some(footer)));
        Ok(at)
    }

    fn newest_lsn(&self) -> Lsn {
        self.pending.as_ref().map_or(self.lsn, |(group, _)| group.header.lsn)
    }

    fn check_seal(&mut self, group: &ScannedGroup, sequence: FileSequence, is_damaged: bool) {
        self.lose_footer(group, sequence, is_damaged);
        // The next file's header was synced before this seal was written, and it is not there.
        if let Ok(Footer { next: Some(next), .. }) = Footer::decode(&group.table) {
            self.damage(format!(
                "journal file {next} is missing from {}, though file {sequence} names it; what was \
                 appended to it is lost",
                self.directory.display()
            ));
        }
    }

    /// A checkpoint does not name streams deleted before it, but the file that was being written
    /// holds what they were, and who erases them must find it.
    fn add_gone(
        &self,
        footer: &mut Footer,
        seal: Option<&[u8]>,
        scanner: &mut Scanner,
        from: u64,
    ) -> io::Result<()> {
        let streams = match seal.and_then(|table| Footer::decode(table).ok()) {
            Some(sealed) => sealed.streams,
            None => {
                let mut streams = HashMap::new();
                let mut at = FILE_HEADER_BYTES as u64;
                while at < from {
                    let Ok(group) = scanner.group(at, from)? else {
                        at += BLOCK as u64;
                        continue;
                    };
                    for frame in group.frames.iter().filter(|f| f.kind == FrameKind::Batch) {
                        footers::add(&mut streams, frame, at, (0, u64::from(frame.payload_bytes)));
                    }
                    at += u64::from(group.header.length);
                }
                streams.into_values().collect()
            }
        };
        let is_gone = |entry: &FooterStream| self.state.stream(entry.stream).is_err();
        footer.streams.extend(streams.into_iter().filter(is_gone));
        footer.streams.sort_by_key(|entry| entry.stream);
        footer.streams.dedup_by_key(|entry| entry.stream);
        Ok(())
    }

    /// Between two groups the clock may have jumped, or nothing was appended: age waits for either.
    fn note_time(&mut self, wall: Timestamp) {
        let mut folded = self.state.folded();
        folded.newest_time = folded.newest_time.max(wall);
        if let Some(before) = self.time.replace(wall) {
            folded.clock_doubt = folded.clock_doubt.max(Doubt::between(before, wall));
        }
    }

    /// A group is folded: where its streams stand, or, if it holds no batch, those before it.
    fn note_ends(&mut self, frames: &[Frame], before: &[StreamEnd]) {
        let batches = frames.iter().filter(|frame| frame.kind == FrameKind::Batch);
        let ends: BTreeMap<StreamId, Offset> =
            batches.map(|frame| (frame.stream, frame.end())).collect();
        if !ends.is_empty() {
            let ends = ends.into_iter();
            self.ends = ends.map(|(stream, end)| StreamEnd { stream, end }).collect();
        } else if !before.is_empty() {
            self.ends = before.to_vec();
        }
    }

    /// Something proves the group before durable: folds it.
    fn fold_pending(&mut self, scanner: &mut Scanner, sequence: FileSequence) -> Result<()> {
        let Some((group, _)) = self.pending.take() else { return Ok(()) };
        let view = GroupView {
            lsn: group.header.lsn,
            sequence,
            position: group.position,
            frames: &group.frames,
            keep: false,
        };
        let mut folded = self.state.folded();
        let outcome = self.state.fold(&mut folded, &mut self.progress, &view, &mut |frame| {
            debug_assert!(frame.kind != FrameKind::Batch, "batches are not kept in replay");
            let payload = scanner.payload(&group, frame).map_err(|error| {
                Error::new(ErrorKind::Io, "the journal cannot be read").caused_by(error)
            })?;
            if crc32fast::hash(payload) != frame.payload_crc
                && !skips("the checksum of a control record")
            {
                return Err(Error::new(
                    ErrorKind::Corrupt { next_readable: Offset(0) },
                    format!(
                        "a control record in group {} is damaged (file {sequence} at {}): restore \
                         the directory from a backup",
                        group.header.lsn, group.position
                    ),
                ));
            }
            Ok(Bytes::copy_from_slice(payload))
        });
        let changes = outcome?;
        drop(folded);
        self.note_time(group.header.wall_time);
        changes.merged.iter().for_each(|merged| self.merged(merged));
        self.deleted.extend(&changes.deleted);
        self.note_ends(&group.frames, &group.ends);
        self.lsn = group.header.lsn;
        Ok(())
    }

    /// The last group counts only if every payload checks: its sync may never have returned.
    fn verify_last(&mut self, scanner: &mut Scanner, at: u64, path: &Path) -> Result<u64> {
        let Some((group, _)) = self.pending.take() else { return Ok(at) };
        let bytes = scanner.bytes(&group).map_err(|error| io_error("read", path, error))?;
        let is_whole = bytes.len() == group.header.length as usize
            && group.frames.iter().all(|frame| {
                let start = frame.payload_offset as usize;
                let payload = &bytes[start..start + frame.payload_bytes as usize];
                crc32fast::hash(payload) == frame.payload_crc
                    || skips("the checksums of the last group's payloads")
            });
        let position = group.position;
        if is_whole {
            self.pending = Some((group, bytes));
        } else {
            tracing::warn!(
                lsn = %group.header.lsn, position, path = %path.display(),
                "the last group was not written whole; it was never acknowledged"
            );
        }
        Ok(position)
    }
}
