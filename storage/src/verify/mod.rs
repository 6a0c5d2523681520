//! Reading every byte of a directory that nobody has open, and saying what is wrong with it.
//!
//! ```text
//!  format ─► checkpoints ─► headers ─► replay, as recovery does it and without its writes
//!         ─► every live file from its first group to its proven end:
//!            groups, frame tables, payloads, padding, the footer against one made again
//!         ─► what the streams should hold against what was found
//! ```
//!
//! Where a file ends is recovery's word, not a second opinion: the groups before that end were
//! acknowledged, so whatever does not check there is damage; what follows is a group that a crash
//! cut and nobody was promised, or the remains of an earlier life of the slot.

mod coverage;
mod live_file;
mod report;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::{self, MERGE_RESERVE, RESERVE, io_error};
use crate::disk::{Disk, OpenMode, read_all};
use crate::error::{ErrorKind, Result};
use crate::files::{Place, StoredFile};
use crate::format::{Checkpoint, FILE_HEADER_BYTES, FORMAT_FILE, FileRecord, SegmentRecord};
use crate::journal::slot_number;
use crate::position::Lsn;
use crate::recovery::{self, Found, Replayed};
use crate::state::State;

use coverage::Coverage;
pub use report::{CheckedFile, FileKind, Problem, VerifyReport};

/// How far a verification is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifyProgress {
    /// Bytes read and checked.
    pub done: u64,
    /// Bytes to read.
    pub total: u64,
}

/// Reads and checks everything in a directory, and changes nothing. Takes the directory's lock
/// while it does.
///
/// `progress` is called after every few megabytes. Memory does not grow with the size of the
/// directory, but with the number of its streams, producers and keys, as it does for a broker.
///
/// # Errors
///
/// [`ErrorKind::Locked`] if a process has the directory open, [`ErrorKind::Format`] if it is not
/// a data directory or of another version, [`ErrorKind::Io`]. Damage is no error: it is in the
/// report.
pub fn verify(
    directory: &Path,
    disk: &Arc<dyn Disk>,
    progress: &mut dyn FnMut(VerifyProgress),
) -> Result<VerifyReport> {
    let disk = disk.as_ref();
    let _lock = recovery::lock_stopped(disk, directory, "stop the broker first, or verify a copy")?;
    let mut report = VerifyReport::of(directory.to_owned());
    report.format_version = recovery::read_format(disk, directory)?.version;
    report.files.push(size_of(disk, directory, FORMAT_FILE, FileKind::Format)?);
    verify_files(directory, disk, report, progress)
}

/// As [`verify`], of a directory that the caller has locked and whose format it knows.
pub(crate) fn verify_files(
    directory: &Path,
    disk: &dyn Disk,
    mut report: VerifyReport,
    progress: &mut dyn FnMut(VerifyProgress),
) -> Result<VerifyReport> {
    let names = disk.list(directory).map_err(|error| io_error("list", directory, error))?;
    check_checkpoints(disk, directory, &names, &mut report)?;
    let found = Contents {
        slots: recovery::find_slots(disk, directory, &names)?,
        segments: recovery::find_segments(disk, directory, &names)?,
    };
    let (state, live) = replay(disk, directory, &names, &found, &mut report)?;

    let mut coverage = Coverage::new(&state);
    let total = live.iter().map(StoredFile::groups_end).sum();
    let mut at = VerifyProgress { done: 0, total };
    progress(at);
    for (index, stored) in live.iter().enumerate() {
        let path = stored.place().path(directory);
        let handle =
            disk.open(&path, OpenMode::Existing).map_err(|error| io_error("open", &path, error))?;
        let size = handle.size().map_err(|error| io_error("read", &path, error))?;
        let before = at.done;
        let mut advance = |bytes| {
            at.done = before + bytes;
            progress(at);
        };
        let next = live.get(index + 1);
        let file = live_file::LiveFile { directory, disk, stored, handle, size, next };
        report.files.push(file.check(&mut coverage, &mut advance)?);
        at.done = before + stored.groups_end();
        progress(at);
    }
    coverage.finish(&mut report);
    list_the_rest(disk, directory, &names, &live, &mut report)?;
    report.files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(report)
}

/// The files of records whose headers are whole.
struct Contents {
    slots: BTreeMap<u32, Found>,
    segments: BTreeMap<Place, SegmentRecord>,
}

/// What a broker would find, and the files that it would read, in the order of offsets.
fn replay(
    disk: &dyn Disk,
    directory: &Path,
    names: &[String],
    found: &Contents,
    report: &mut VerifyReport,
) -> Result<(State, Vec<StoredFile>)> {
    let checkpoint::Checkpoints { newest, kept, .. } = checkpoint::find(disk, directory, names)?;
    let known: Vec<String> =
        newest.as_ref().map(|checkpoint| checkpoint.damage.clone()).unwrap_or_default();
    let named: Vec<StoredFile> = newest.as_ref().map(named_files).unwrap_or_default();
    let state = State::default();
    let replayed = recovery::replay(
        disk,
        &state,
        &found.slots,
        &found.segments,
        newest,
        !kept.is_empty(),
        directory,
    );
    match replayed {
        Ok(Replayed { finished, carried, missing, .. }) => {
            missing.iter().for_each(|file| report_missing(file, report));
            let damage = state.folded().damage.clone();
            report.at_open = damage.into_iter().filter(|words| !known.contains(words)).collect();
            report.known_damage = known;
            report.unproven_records = carried.map_or(0, |carried| {
                carried.frames.iter().map(|frame| u64::from(frame.count)).sum()
            });
            report.state = state
                .folded()
                .values
                .iter()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            Ok((state, finished.into_values().map(|(file, _)| file).collect()))
        }
        Err(error) if matches!(error.kind(), ErrorKind::Corrupt { .. }) => {
            for file in named.iter().filter(|file| !found.has(file)) {
                report_missing(file, report);
            }
            report.at_open.push(error.to_string());
            // Without a state nothing is known of streams; the files can still be read.
            Ok((State::default(), found.by_headers()))
        }
        Err(error) => Err(error),
    }
}

/// Files that a checkpoint says hold live records.
fn named_files(checkpoint: &Checkpoint) -> Vec<StoredFile> {
    let journals = checkpoint.files.iter().map(|record| StoredFile::Journal(*record));
    journals.chain(checkpoint.segments.iter().map(|record| StoredFile::Segment(*record))).collect()
}

fn report_missing(file: &StoredFile, report: &mut VerifyReport) {
    let name = name_of(file);
    let what = format!(
        "{} should be in {name}, but is missing or neither copy of its header is whole",
        file.key()
    );
    report.add(Problem { file: Some(name), ..Problem::of(what) });
}

impl Contents {
    fn has(&self, file: &StoredFile) -> bool {
        match file {
            StoredFile::Journal(record) => {
                let header = self.slots.get(&record.slot).and_then(|found| found.header);
                header.is_some_and(|h| h.sequence == record.sequence && h.salt == record.salt)
            }
            StoredFile::Segment(record) => self.segments.get(&file.place()) == Some(record),
        }
    }

    /// All files whose header is whole, journal files as far as a following header says where
    /// they end.
    fn by_headers(&self) -> Vec<StoredFile> {
        let mut headers: Vec<_> =
            self.slots.values().filter_map(|found| Some((&found.slot, found.header?))).collect();
        headers.sort_by_key(|(_, header)| header.sequence);
        let ends: Vec<_> = headers
            .iter()
            .skip(1)
            .map(|(_, next)| next.previous)
            .chain([None])
            .zip(&headers)
            .map(|(previous, (_, header))| {
                previous.filter(|previous| previous.sequence == header.sequence).map(|p| p.end)
            })
            .collect();
        let closed = headers.into_iter().zip(ends).filter_map(|((slot, header), end)| {
            Some(StoredFile::Journal(FileRecord {
                sequence: header.sequence,
                slot: slot.number,
                salt: header.salt,
                size: slot.size,
                base_lsn: header.base_lsn,
                last_lsn: Lsn(0),
                end: end?,
                seal: None,
                previous: header.previous,
            }))
        });
        let segments = self.segments.values().map(|record| StoredFile::Segment(*record));
        let mut files: Vec<_> = closed.chain(segments).collect();
        files.sort_by_key(StoredFile::key);
        files
    }
}

fn check_checkpoints(
    disk: &dyn Disk,
    directory: &Path,
    names: &[String],
    report: &mut VerifyReport,
) -> Result<()> {
    for name in names.iter().filter(|name| name.starts_with("checkpoint-")) {
        if name.ends_with(".unfinished") {
            continue;
        }
        let path = directory.join(name);
        let file =
            disk.open(&path, OpenMode::Existing).map_err(|error| io_error("open", &path, error))?;
        let bytes = read_all(file.as_ref()).map_err(|error| io_error("read", &path, error))?;
        let mut checked = CheckedFile::new(name, FileKind::Checkpoint, bytes.len() as u64);
        if let Err(why) = Checkpoint::decode(&bytes) {
            checked.problems.push(Problem {
                file: Some(name.clone()),
                bytes: Some(0..bytes.len() as u64),
                loses_records: false,
                ..Problem::of(format!("the checkpoint is damaged: {why}"))
            });
        }
        report.files.push(checked);
    }
    Ok(())
}

/// Files beside the live ones: free slots, sidecars, the reserve, and what is not ours.
fn list_the_rest(
    disk: &dyn Disk,
    directory: &Path,
    names: &[String],
    live: &[StoredFile],
    report: &mut VerifyReport,
) -> Result<()> {
    for name in names {
        if report.files.iter().any(|file| file.name == *name) {
            continue;
        }
        let sidecar = checkpoint::sidecar_sequence(name);
        let kind = if slot_number(name).is_some() {
            FileKind::FreeSlot
        } else if Place::segment(name).is_some() {
            FileKind::OldSegment
        } else if name.starts_with("segment-") && name.ends_with(".corrupt") {
            FileKind::SetAside
        } else if sidecar.is_some() {
            FileKind::Footer
        } else if name == RESERVE || name == MERGE_RESERVE {
            FileKind::Reserve
        } else if name.ends_with(".unfinished") {
            FileKind::Unfinished
        } else {
            FileKind::Unknown
        };
        let mut checked = size_of(disk, directory, name, kind)?;
        checked.sequence = sidecar;
        let owner = live.iter().find(
            |file| matches!(file, StoredFile::Journal(record) if Some(record.sequence) == sidecar),
        );
        if let (Some(owner), Some(sequence)) = (owner, sidecar)
            && checkpoint::read_sidecar(disk, directory, sequence, &owner.salt()).is_none()
        {
            checked.problems.push(Problem {
                file: Some(name.clone()),
                bytes: Some(0..checked.bytes),
                loses_records: false,
                ..Problem::of(format!(
                    "the footer of journal file {sequence} is damaged; a broker makes it again"
                ))
            });
        }
        report.files.push(checked);
    }
    Ok(())
}

fn size_of(disk: &dyn Disk, directory: &Path, name: &str, kind: FileKind) -> Result<CheckedFile> {
    let path = directory.join(name);
    let size = disk
        .open(&path, OpenMode::Existing)
        .and_then(|file| file.size())
        .map_err(|error| io_error("open", &path, error))?;
    Ok(CheckedFile::new(name, kind, size))
}

fn name_of(file: &StoredFile) -> String {
    let path = file.place().path(Path::new(""));
    path.to_string_lossy().into_owned()
}

/// Where the groups of every file begin.
const GROUPS_START: u64 = FILE_HEADER_BYTES as u64;

/// Whether a directory can be opened, told without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is nothing in it; opening makes it a data directory.
    Empty,
    /// A data directory of this version that nobody has open.
    Free,
    /// A data directory of this version that a process has open.
    Open,
}

/// Looks at format and lock of a directory, and changes nothing.
///
/// # Errors
///
/// [`ErrorKind::Format`] if it holds something else or is of another version, [`ErrorKind::Io`].
pub fn standing(directory: &Path, disk: &dyn Disk) -> Result<Standing> {
    let names = disk.list(directory).map_err(|error| io_error("list", directory, error))?;
    if !names.iter().any(|name| name == FORMAT_FILE) {
        recovery::refuse_foreign(directory, &names)?;
        return Ok(Standing::Empty);
    }
    recovery::read_format(disk, directory)?;
    match disk.lock(directory) {
        Ok(_) => Ok(Standing::Free),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(Standing::Open),
        Err(error) => Err(io_error("lock", directory, error)),
    }
}
