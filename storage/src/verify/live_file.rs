//! One file of records from its header to its seal.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::coverage::Coverage;
use super::report::{CheckedFile, FileKind, Problem};
use super::{GROUPS_START, name_of};
use crate::checkpoint::{self, io_error};
use crate::disk::{BLOCK, Disk, DiskFile};
use crate::error::Result;
use crate::files::StoredFile;
use crate::format::{
    FileHeader, FileRecord, Footer, FooterStream, Frame, FrameKind, GROUP_HEADER_BYTES, Malformed,
    SegmentHeader, SegmentRecord,
};
use crate::position::{Lsn, StreamId};
use crate::read::footers;
use crate::recovery::{ScannedGroup, Scanner};

/// Read at once; groups up to this size are read once.
const WINDOW: usize = 4 << 20;
/// Progress is said after so many bytes.
const STEP: u64 = 16 << 20;
/// Of an encoded header of a journal file.
const HEADER_BYTES: usize = 84;
/// Of an encoded header of a segment.
const SEGMENT_HEADER_USED: usize = 16 + SegmentRecord::BYTES + 4;

/// A file with live records.
pub(super) struct LiveFile<'a> {
    pub(super) directory: &'a Path,
    pub(super) disk: &'a dyn Disk,
    pub(super) stored: &'a StoredFile,
    pub(super) handle: Arc<dyn DiskFile>,
    /// Its length on disk.
    pub(super) size: u64,
    /// The live file after it.
    pub(super) next: Option<&'a StoredFile>,
}

struct Check<'a> {
    file: &'a LiveFile<'a>,
    /// Where its groups end.
    end: u64,
    scanner: Scanner,
    coverage: &'a mut Coverage,
    footer: HashMap<StreamId, FooterStream>,
    checked: CheckedFile,
    newest: Lsn,
    /// Some groups could not be read, so that the footer cannot be made again.
    has_lost_groups: bool,
}

impl LiveFile<'_> {
    /// Reads all of it.
    pub(super) fn check(
        &self,
        coverage: &mut Coverage,
        advance: &mut dyn FnMut(u64),
    ) -> Result<CheckedFile> {
        let (kind, sequence) = match self.stored {
            StoredFile::Journal(record) => (FileKind::Journal, Some(record.sequence)),
            StoredFile::Segment(_) => (FileKind::Segment, None),
        };
        let end = self.stored.groups_end();
        let mut checked = CheckedFile::new(&name_of(self.stored), kind, self.size);
        checked.sequence = sequence;
        checked.live_bytes = end;
        let newest = match self.stored {
            StoredFile::Journal(record) => Lsn(record.base_lsn.0.saturating_sub(1)),
            StoredFile::Segment(_) => Lsn(0),
        };
        let (salt, number) = (self.stored.salt(), self.stored.number());
        let check = Check {
            file: self,
            end,
            scanner: Scanner::with_window(Arc::clone(&self.handle), salt, number, WINDOW),
            coverage,
            footer: HashMap::new(),
            checked,
            newest,
            has_lost_groups: false,
        };
        let path = self.stored.place().path(self.directory);
        check.run(advance).map_err(|error| io_error("read", &path, error))
    }
}

impl Check<'_> {
    fn run(mut self, advance: &mut dyn FnMut(u64)) -> io::Result<CheckedFile> {
        self.headers()?;
        let end = self.end;
        let (mut at, mut said) = (GROUPS_START, 0);
        while at < end {
            let Some(group) = self.next_group(at)? else { break };
            at = group.position + u64::from(group.header.length);
            self.newest = group.header.lsn;
            self.group(&group)?;
            if at - said >= STEP {
                said = at;
                advance(at);
            }
        }
        self.footer()?;
        Ok(self.checked)
    }

    /// The group at a position or, if that one is damaged, the next whole one.
    fn next_group(&mut self, at: u64) -> io::Result<Option<ScannedGroup>> {
        let end = self.end;
        self.read_ahead(at)?;
        let why = match self.scanner.group(at, end)? {
            Ok(group) if group.header.lsn == self.newest.next() && !group.header.is_seal => {
                return Ok(Some(group));
            }
            Ok(_) => Malformed("it is out of order"),
            Err(why) => why,
        };
        let newer = self.scanner.find_newer(at, end, self.newest)?;
        let until = newer.as_ref().map_or(end, |group| group.position);
        self.has_lost_groups = true;
        self.problem(at..until, true, format!("a group was acknowledged here and {why}"));
        Ok(newer)
    }

    /// Has the whole of a group of moderate size in memory before its parts are asked for.
    fn read_ahead(&mut self, at: u64) -> io::Result<()> {
        let bytes = self.scanner.read(at, GROUP_HEADER_BYTES)?;
        let length = bytes.get(24..28).and_then(|bytes| bytes.try_into().ok());
        let length = length.map_or(0, u32::from_le_bytes) as usize;
        if length <= WINDOW {
            self.scanner.read(at, length)?;
        }
        Ok(())
    }

    fn group(&mut self, group: &ScannedGroup) -> io::Result<()> {
        let name = self.checked.name.clone();
        let first_rank = self.file.stored.first_rank();
        self.checked.groups += 1;
        let mut payloads_end = GROUP_HEADER_BYTES as u64;
        for frame in &group.frames {
            payloads_end =
                payloads_end.max(u64::from(frame.payload_offset) + u64::from(frame.payload_bytes));
            self.payload(group, frame)?;
            if let StoredFile::Segment(record) = self.file.stored {
                self.belongs(record, group, frame);
            }
            if frame.kind != FrameKind::Batch {
                continue;
            }
            self.checked.batches += 1;
            self.checked.records += u64::from(frame.count);
            let before = self.footer.get(&frame.stream).map_or(0, |entry| entry.bytes);
            let bytes = (before, u64::from(frame.payload_bytes));
            footers::add(&mut self.footer, frame, group.position, bytes);
            self.coverage.batch(first_rank, &name, frame);
        }
        let header = &group.header;
        let (table, length) = (u64::from(header.table_offset), u64::from(header.length));
        let table_end = table + u64::from(header.table_bytes);
        self.zeros(group.position + payloads_end..group.position + table)?;
        self.zeros(group.position + table_end..group.position + length)
    }

    fn payload(&mut self, group: &ScannedGroup, frame: &Frame) -> io::Result<()> {
        let start = group.position + u64::from(frame.payload_offset);
        let end = start + u64::from(frame.payload_bytes);
        let mut hasher = crc32fast::Hasher::new();
        let mut at = start;
        while at < end {
            let bytes = self.scanner.read(at, to_usize(end - at).min(WINDOW))?;
            if bytes.is_empty() {
                break;
            }
            hasher.update(bytes);
            at += bytes.len() as u64;
        }
        if at == end && hasher.finalize() == frame.payload_crc {
            return Ok(());
        }
        let records = (frame.kind == FrameKind::Batch)
            .then(|| (frame.stream, frame.base_offset..frame.end()));
        let what = match &records {
            Some((stream, range)) => format!(
                "offsets {} to {} of stream {stream} are damaged: their checksum differs",
                range.start,
                range.end.0 - 1
            ),
            None => format!("a control record of group {} is damaged", group.header.lsn),
        };
        let live = records.as_ref().is_none_or(|(stream, _)| self.coverage.is_live(*stream));
        self.checked.add(Problem {
            file: Some(self.checked.name.clone()),
            bytes: Some(start..end),
            records,
            loses_records: live,
            ..Problem::of(what)
        });
        Ok(())
    }

    /// Padding means nothing, but it was written as zeros.
    fn zeros(&mut self, range: Range<u64>) -> io::Result<()> {
        let Range { start, end } = range;
        if start >= end {
            return Ok(());
        }
        let bytes = self.scanner.read(start, to_usize(end - start))?;
        let first = bytes.iter().position(|byte| *byte != 0);
        let last = bytes.iter().rposition(|byte| *byte != 0);
        if let (Some(first), Some(last)) = (first, last) {
            let damaged = start + first as u64..start + last as u64 + 1;
            self.problem(damaged, false, "bytes between the records are not zero as written");
        }
        Ok(())
    }

    /// A segment holds batches only, of streams between those that its record names.
    fn belongs(&mut self, record: &SegmentRecord, group: &ScannedGroup, frame: &Frame) {
        let (lowest, highest) = record.streams;
        if frame.kind == FrameKind::Batch && (lowest..=highest).contains(&frame.stream) {
            return;
        }
        let start = group.position + u64::from(frame.payload_offset);
        let range = start..start + u64::from(frame.payload_bytes);
        self.problem(
            range,
            true,
            format!(
                "a record of stream {} is here, which the header of the segment does not name",
                frame.stream
            ),
        );
    }

    fn headers(&mut self) -> io::Result<()> {
        // Only a group proves that both copies were synced; without one, one of them may be torn.
        if self.end == GROUPS_START {
            return Ok(());
        }
        let bytes = self.scanner.read(0, to_usize(GROUPS_START))?.to_vec();
        for (copy, block) in bytes.chunks(BLOCK).enumerate() {
            let start = (copy * BLOCK) as u64;
            let range = start..start + BLOCK as u64;
            let (is_same, used) = match self.file.stored {
                StoredFile::Journal(record) => (is_header_of(record, block), HEADER_BYTES),
                StoredFile::Segment(record) => {
                    let header = SegmentHeader::decode_copy(block);
                    (header.map(|header| header.0 == *record), SEGMENT_HEADER_USED)
                }
            };
            match is_same {
                Ok(false) => {
                    self.problem(range, false, "this copy of the header is of another file");
                }
                Ok(true) if block[used..].iter().any(|byte| *byte != 0) => {
                    self.problem(range, false, "bytes after the header are not zero as written");
                }
                Ok(true) => {}
                Err(why) => self.problem(
                    range,
                    false,
                    format!(
                        "copy {} of the header is damaged: {why}; the other one serves",
                        copy + 1
                    ),
                ),
            }
        }
        if bytes.len() < to_usize(GROUPS_START) {
            self.problem(bytes.len() as u64..GROUPS_START, true, "the file is cut short");
        }
        Ok(())
    }

    /// The seal, or the sidecar, against the footer made again from the frame tables.
    fn footer(&mut self) -> io::Result<()> {
        let seal = match self.file.stored {
            StoredFile::Segment(record) => record.end,
            StoredFile::Journal(record) => match record.seal {
                Some(seal) => seal,
                None if self.has_seal_lost(record) => record.end,
                None => {
                    let (disk, directory) = (self.file.disk, self.file.directory);
                    let sidecar =
                        checkpoint::read_sidecar(disk, directory, record.sequence, &record.salt);
                    if let Some(footer) = sidecar {
                        self.compare(&footer, record.end..record.end);
                    }
                    return Ok(());
                }
            },
        };
        let size = self.file.size;
        if seal >= size {
            self.problem(seal..seal, false, "the file is cut short before its footer");
            return Ok(());
        }
        match self.scanner.group(seal, size)? {
            Ok(group) if group.header.is_seal => {
                let range = seal..seal + u64::from(group.header.length);
                self.checked.live_bytes = range.end;
                if let StoredFile::Segment(_) = self.file.stored {
                    // The padding of a journal file's seal may be torn: a seal counts once its
                    // table is whole. A segment counts once all of it was synced.
                    let table = u64::from(group.header.table_offset);
                    let table_end = seal + table + u64::from(group.header.table_bytes);
                    self.zeros(table_end..range.end)?;
                }
                match Footer::decode(&group.table) {
                    Ok(footer) => self.compare(&footer, range),
                    Err(why) => self.problem(range, false, format!("its footer is {why}")),
                }
                Ok(())
            }
            other => {
                let why = other.err().map_or("it is no seal", |why| why.0);
                self.problem(
                    seal..seal + BLOCK as u64,
                    false,
                    format!("its footer is damaged: {why}; a broker makes it again"),
                );
                Ok(())
            }
        }
    }

    /// The next file's groups were written after this one's seal, which took an LSN.
    fn has_seal_lost(&self, record: &FileRecord) -> bool {
        let Some(StoredFile::Journal(next)) = self.file.next else { return false };
        next.sequence == record.sequence.next()
            && next.end > GROUPS_START
            && next.base_lsn == self.newest.next().next()
            && !self.has_lost_groups
    }

    fn compare(&mut self, footer: &Footer, range: Range<u64>) {
        if self.has_lost_groups {
            for entry in &footer.streams {
                self.coverage.went_to(entry.stream, entry.end, &self.checked.name);
            }
            return;
        }
        // A stream deleted since may be in either of them and not in the other.
        let in_footer = footer.streams.iter().filter(|entry| self.coverage.is_live(entry.stream));
        let is_same = in_footer
            .clone()
            .all(|entry| self.footer.get(&entry.stream).is_some_and(|made| agrees(entry, made)));
        let made = self.footer.keys().filter(|stream| self.coverage.is_live(**stream)).count();
        if !is_same || in_footer.count() != made {
            self.problem(range, false, "its footer does not say what the file holds");
        }
    }

    fn problem(&mut self, bytes: Range<u64>, loses_records: bool, what: impl Into<String>) {
        let file = Some(self.checked.name.clone());
        let problem = Problem { file, bytes: Some(bytes), loses_records, ..Problem::of(what) };
        self.checked.add(problem);
    }
}

fn is_header_of(record: &FileRecord, block: &[u8]) -> std::result::Result<bool, Malformed> {
    let header = FileHeader::decode_copy(block)?;
    Ok(header.salt == record.salt && header.sequence == record.sequence)
}

/// Whether a footer says of a stream what was found. Bytes are counted since the directory was
/// upgraded, and what was in it before counts for none of them.
fn agrees(entry: &FooterStream, found: &FooterStream) -> bool {
    let is_counted = entry.bytes_inside() == found.bytes_inside();
    let first = (entry.runs[0].bytes, found.runs[0].bytes);
    entry.end == found.end
        && entry.bytes_inside() <= found.bytes_inside()
        && entry.runs.len() == found.runs.len()
        && entry.runs.iter().zip(&found.runs).all(|(run, made)| {
            let (inside, made_inside) = (run.bytes - first.0, made.bytes - first.1);
            (run.base_offset, run.append_time, run.position)
                == (made.base_offset, made.append_time, made.position)
                && (inside == made_inside || (!is_counted && inside < made_inside))
        })
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
