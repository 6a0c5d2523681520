//! What a verification found.

use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;

use crate::format::FORMAT_VERSION;
use crate::position::{FileSequence, Offset, StreamId};

/// Problems kept with their place; of more only the number is kept.
const PROBLEMS_MAX: usize = 10_000;

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Version and feature bits.
    Format,
    /// A journal file with live records.
    Journal,
    /// What is alive of some finished files, written by a merge.
    Segment,
    /// A segment that nobody reads any more; removed when no checkpoint names it.
    OldSegment,
    /// A segment whose header was found damaged, kept for whoever can still read it.
    SetAside,
    /// A place for a later journal file; what is in it belongs to nobody.
    FreeSlot,
    /// The state up to one group.
    Checkpoint,
    /// The footer of a journal file that a crash left without a seal.
    Footer,
    /// Space kept for a full disk.
    Reserve,
    /// Being written when the process ended; removed at the next open.
    Unfinished,
    /// Not a file of this version.
    Unknown,
}

/// Something wrong, and exactly where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The name of the file.
    pub file: Option<String>,
    /// What is wrong.
    pub what: String,
    /// The damaged bytes of the file.
    pub bytes: Option<Range<u64>>,
    /// The records that cannot be read because of it, where they are known.
    pub records: Option<(StreamId, Range<Offset>)>,
    /// False if a broker serves everything all the same: a second copy, something it makes again,
    /// bytes that mean nothing.
    pub loses_records: bool,
}

impl Problem {
    /// A loss that is not placed yet.
    pub(super) fn of(what: impl Into<String>) -> Self {
        Self { file: None, what: what.into(), bytes: None, records: None, loses_records: true }
    }
}

/// One file and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedFile {
    /// Its name in the directory.
    pub name: String,
    /// What it is for.
    pub kind: FileKind,
    /// The journal file, for journals and footers.
    pub sequence: Option<FileSequence>,
    /// Its length.
    pub bytes: u64,
    /// How much of it, from its start, means something: the rest of a journal file waits to be
    /// written, or is left from an earlier life of the slot.
    pub live_bytes: u64,
    /// Whole groups with live records, markers included.
    pub groups: u64,
    /// Batches in them.
    pub batches: u64,
    /// Records in those.
    pub records: u64,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
    /// Problems beyond those kept.
    pub left_out: u64,
}

impl CheckedFile {
    pub(super) fn new(name: &str, kind: FileKind, bytes: u64) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            sequence: None,
            bytes,
            live_bytes: match kind {
                FileKind::FreeSlot | FileKind::OldSegment => 0,
                _ => bytes,
            },
            groups: 0,
            batches: 0,
            records: 0,
            problems: Vec::new(),
            left_out: 0,
        }
    }

    pub(super) fn add(&mut self, problem: Problem) {
        keep(&mut self.problems, &mut self.left_out, problem);
    }
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// The directory.
    pub directory: PathBuf,
    /// Of the directory.
    pub format_version: u32,
    /// Every file, by name.
    pub files: Vec<CheckedFile>,
    /// Problems that belong to no file that is there: missing files, missing offsets.
    pub problems: Vec<Problem>,
    /// Sentences that a broker would add to its health if it opened the directory now, or with
    /// which it would refuse to.
    pub at_open: Vec<String>,
    /// Damage that a broker found earlier and has reported since; what of it is still there is
    /// among the problems as well.
    pub known_damage: Vec<String>,
    /// Of `problems`, those beyond the number kept.
    pub left_out: u64,
    /// Streams that exist.
    pub streams: u64,
    /// Records of a last group that nothing proves acknowledged: whole, and kept at the next open.
    pub unproven_records: u64,
    /// The newest value of every key, for those who know what the streams are.
    pub state: Vec<(Bytes, Bytes)>,
}

impl VerifyReport {
    pub(crate) fn of(directory: PathBuf) -> Self {
        Self {
            directory,
            format_version: FORMAT_VERSION,
            files: Vec::new(),
            problems: Vec::new(),
            at_open: Vec::new(),
            known_damage: Vec::new(),
            left_out: 0,
            streams: 0,
            unproven_records: 0,
            state: Vec::new(),
        }
    }

    /// Whether every byte that means something is what was written.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.all_problems().next().is_none() && self.at_open.is_empty()
    }

    /// Every problem, those of files first.
    pub fn all_problems(&self) -> impl Iterator<Item = &Problem> {
        self.files.iter().flat_map(|file| &file.problems).chain(&self.problems)
    }

    pub(super) fn add(&mut self, problem: Problem) {
        keep(&mut self.problems, &mut self.left_out, problem);
    }
}

/// Keeps a problem if there is room.
fn keep(problems: &mut Vec<Problem>, left_out: &mut u64, problem: Problem) {
    if problems.len() < PROBLEMS_MAX {
        problems.push(problem);
    } else {
        *left_out += 1;
    }
}
