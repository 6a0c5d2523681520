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
mod journal_file;
mod report;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::{self, RESERVE, io_error};
use crate::disk::{Disk, OpenMode, read_all};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Checkpoint, FILE_HEADER_BYTES, FORMAT_FILE, FileRecord};
use crate::journal::{slot_number, slot_path};
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
    let names = disk.list(directory).map_err(|error| io_error("list", directory, error))?;
    if !names.iter().any(|name| name == FORMAT_FILE) {
        return Err(Error::new(
            ErrorKind::Format,
            format!(
                "{} holds no {FORMAT_FILE}: it is not a data directory of Meshlog, or that file \
                 is lost; name the directory that `meshlog serve` is given",
                directory.display()
            ),
        ));
    }
    let _lock = disk.lock(directory).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => Error::new(
            ErrorKind::Locked,
            format!(
                "{} is open in another process: stop the broker first, or verify a copy",
                directory.display()
            ),
        ),
        _ => io_error("lock", directory, error),
    })?;
    let mut report = VerifyReport::of(directory.to_owned());
    recovery::read_format(disk, directory)?;
    report.files.push(size_of(disk, directory, FORMAT_FILE, FileKind::Format)?);

    check_checkpoints(disk, directory, &names, &mut report)?;
    let found = recovery::find_slots(disk, directory, &names)?;
    let (state, live) = replay(disk, directory, &names, &found, &mut report)?;

    let mut coverage = Coverage::new(&state);
    let total = live.iter().map(|record| record.end).sum();
    let mut at = VerifyProgress { done: 0, total };
    progress(at);
    for (index, record) in live.iter().enumerate() {
        let Some(found) = found.get(&record.slot) else { continue };
        let before = at.done;
        let mut advance = |bytes| {
            at.done = before + bytes;
            progress(at);
        };
        let file = journal_file::LiveFile {
            directory,
            disk,
            record,
            slot: &found.slot,
            next: live.get(index + 1),
        };
        report.files.push(file.check(&mut coverage, &mut advance)?);
        at.done = before + record.end;
        progress(at);
    }
    coverage.finish(&mut report);
    list_the_rest(disk, directory, &names, &live, &mut report)?;
    report.files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(report)
}

/// What a broker would find, and the files that it would read.
fn replay(
    disk: &dyn Disk,
    directory: &Path,
    names: &[String],
    found: &BTreeMap<u32, Found>,
    report: &mut VerifyReport,
) -> Result<(State, Vec<FileRecord>)> {
    let (checkpoint, kept, _) = checkpoint::find(disk, directory, names)?;
    let known: Vec<String> =
        checkpoint.as_ref().map(|checkpoint| checkpoint.damage.clone()).unwrap_or_default();
    if let Some(checkpoint) = &checkpoint {
        missing_files(checkpoint, found, report);
    }
    let state = State::default();
    match recovery::replay(&state, found, checkpoint, !kept.is_empty(), directory) {
        Ok(Replayed { finished, carried, .. }) => {
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
            let mut live: Vec<_> = finished.into_iter().map(|(record, _)| record).collect();
            live.sort_by_key(|record| record.sequence);
            Ok((state, live))
        }
        Err(error) if matches!(error.kind(), ErrorKind::Corrupt { .. }) => {
            report.at_open.push(error.to_string());
            // Without a state nothing is known of streams; the files can still be read.
            Ok((State::default(), by_headers(found)))
        }
        Err(error) => Err(error),
    }
}

/// Files that the newest checkpoint says hold live records, and that are not there.
fn missing_files(checkpoint: &Checkpoint, found: &BTreeMap<u32, Found>, report: &mut VerifyReport) {
    for record in &checkpoint.files {
        let is_there = found
            .get(&record.slot)
            .and_then(|found| found.header)
            .is_some_and(|header| header.sequence == record.sequence && header.salt == record.salt);
        if !is_there {
            let name = format!("journal-{:06}", record.slot);
            let what = format!(
                "journal file {} should be in {name}, but is missing or neither copy of its \
                 header is whole",
                record.sequence
            );
            report.add(Problem { file: Some(name), ..Problem::of(what) });
        }
    }
}

/// All files whose header is whole, as far as a following header says where they end.
fn by_headers(found: &BTreeMap<u32, Found>) -> Vec<FileRecord> {
    let mut headers: Vec<_> =
        found.values().filter_map(|found| Some((&found.slot, found.header?))).collect();
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
        Some(FileRecord {
            sequence: header.sequence,
            slot: slot.number,
            salt: header.salt,
            size: slot.size,
            base_lsn: header.base_lsn,
            last_lsn: Lsn(0),
            end: end?,
            seal: None,
            previous: header.previous,
        })
    });
    closed.collect()
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
    live: &[FileRecord],
    report: &mut VerifyReport,
) -> Result<()> {
    for name in names {
        if report.files.iter().any(|file| file.name == *name) {
            continue;
        }
        let sidecar = checkpoint::sidecar_sequence(name);
        let kind = if slot_number(name).is_some() {
            FileKind::FreeSlot
        } else if sidecar.is_some() {
            FileKind::Footer
        } else if name == RESERVE {
            FileKind::Reserve
        } else if name.ends_with(".unfinished") {
            FileKind::Unfinished
        } else {
            FileKind::Unknown
        };
        let mut checked = size_of(disk, directory, name, kind)?;
        checked.sequence = sidecar;
        let owner = live.iter().find(|record| Some(record.sequence) == sidecar);
        if let (Some(record), Some(sequence)) = (owner, sidecar)
            && checkpoint::read_sidecar(disk, directory, sequence, &record.salt).is_none()
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

fn name_of(record: &FileRecord) -> String {
    let path = slot_path(Path::new(""), record.slot);
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
