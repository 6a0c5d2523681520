//! Recovery: from a directory as a crash left it to a journal that can be served.
//!
//! ```text
//!  format ─► newest whole checkpoint ─► headers of all slots ─► replay, file by file
//!         ─► the last group, if nothing proves it durable, is written into a new file and synced
//!         ─► header of the new file ─► footers of files without a seal ─► checkpoint ─► serve
//! ```
//!
//! Open never appends to a file that exists and never shortens one. The header of the new file
//! says where the one before ends, which excludes the old copy of the group carried over; it is
//! written last, so a crash anywhere in recovery leaves what was there before, and recovering
//! again gives the same.
//!
//! A group that does not check is the end of the journal only if nothing proves that it was
//! acknowledged: no later group, no later file. Otherwise it is damage: it is reported, the
//! offsets it held are quarantined, everything else is served.

mod replay;
mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::backup::UNFINISHED_RESTORE;
use crate::checkpoint::{self, Checkpoints, MERGE_RESERVE, RESERVE, io_error};
use crate::disk::{Disk, OpenMode, read_all};
use crate::engine::Recovered;
use crate::error::{Error, ErrorKind, Result, lacks_space};
use crate::files::{Files, Place, StoredFile};
use crate::format::{
    DirectoryFormat, FILE_HEADER_BYTES, FORMAT_FILE, FORMAT_VERSION, FORMAT_VERSION_MIN,
    FileHeader, FileRecord, Footer, Frame, GROUP_HEADER_BYTES, GroupHeader, PreviousFile,
    SEGMENT_HEADER_BYTES, Salted, SegmentHeader, SegmentRecord, StreamEnd, Table,
};
use crate::journal::{
    Committer, CurrentFile, FileProgress, NextFile, Refusal, Reservation, Ring, Slot, SlotOnDisk,
    Slots, seal_bytes, slot_number, slot_path,
};
use crate::keeper::{Keeper, Retiring};
use crate::options::{Components, Options};
use crate::position::{FileKey, FileSequence, Lsn};
use crate::producers::Producers;
use crate::read::Footers;
use crate::sabotage::{barrier, skips};
use crate::state::{GroupView, State};
pub(crate) use replay::{Carried, Replayed, replay};
pub(crate) use scan::{ScannedGroup, Scanner};

/// On a full disk a file of at least this size will do for control work.
const SMALL_FILE_BYTES: u64 = 64 << 10;

/// A slot and the header found in it. It is not kept open: there may be more than files may be.
pub(crate) struct Found {
    pub(crate) slot: SlotOnDisk,
    pub(crate) header: Option<FileHeader>,
}

/// Opens a directory that is locked by the caller.
pub(crate) fn recover(options: &Options, parts: &Components) -> Result<(Recovered, bool)> {
    let directory = options.directory.as_path();
    let disk = parts.disk.as_ref();
    let names = disk.list(directory).map_err(|error| io_error("list", directory, error))?;
    check_format(parts, directory, &names)?;
    let checkpoints = checkpoint::find(disk, directory, &names)?;
    let Checkpoints { newest, older_files, older_sequence, older_merge, kept, damage } =
        checkpoints;
    let found = find_slots(disk, directory, &names)?;
    let segments = find_segments(disk, directory, &names)?;
    let is_fresh = newest.is_none() && found.values().all(|found| found.header.is_none());

    let state = State::default();
    state.folded().damage = damage;
    state.folded().producers = Producers::new(options.producers_max);
    let files = Files::new(Arc::clone(&parts.disk), directory.to_owned());
    let footers = Footers::new(options.index_bytes);
    let mut replayed =
        replay(disk, &state, &found, &segments, newest, !kept.is_empty(), directory)?;

    let next_slot = found.keys().max().map_or(1, |number| number + 1);
    let mut slots = Slots::new(Arc::clone(&parts.disk), directory.to_owned(), next_slot);
    // No slot that a kept checkpoint names is used again: the newest one may rot.
    let mut live: BTreeSet<Place> =
        replayed.finished.values().map(|(file, _)| file.place()).collect();
    let mut retiring: Vec<Retiring> = Vec::new();
    let to_replay = found.values().filter_map(|found| {
        let header = found.header?;
        (older_sequence? <= header.sequence).then(|| journal_file(&found.slot, &header))
    });
    let to_name = segments.values().filter(|record| older_merge.is_some_and(|m| m <= record.merge));
    let to_name = to_name.map(|record| StoredFile::Segment(*record));
    let older = older_files.into_iter().chain(to_replay).chain(to_name).map(|file| (file, 1));
    for (file, checkpoints) in replayed.retired.iter().map(|file| (*file, 0)).chain(older) {
        if is_there(&file, &found, &segments) && live.insert(file.place()) {
            retiring.push(Retiring { file, readable: None, gone: Lsn(0), checkpoints });
        }
    }
    for (number, found) in found {
        if !live.contains(&Place::Slot(number)) {
            slots
                .give_back(found.slot, usize::MAX)
                .map_err(|error| io_error("keep", &slot_path(directory, number), error))?;
        }
    }

    let mut progress = FileProgress::default();
    let mut ring = Ring::new(options.ring_bytes);
    let opened = begin_file(options, parts, &mut slots, &replayed)?;
    files.begin(
        opened.file.header.sequence,
        opened.file.slot.number,
        opened.file.header.salt,
        opened.file.position,
    );
    if let Some((carried, bytes)) = replayed.carried.as_ref().zip(opened.carried.as_ref()) {
        let view = GroupView {
            lsn: carried.header.lsn,
            sequence: opened.file.header.sequence,
            position: FILE_HEADER_BYTES as u64,
            frames: &bytes.frames,
            keep: true,
        };
        let mut folded = state.folded();
        let changes = state.fold(&mut folded, &mut progress, &view, &mut |frame| {
            let start = frame.payload_offset as usize;
            Ok(bytes.bytes.slice(start..start + frame.payload_bytes as usize))
        })?;
        drop(folded);
        ring.push(bytes.bytes.len(), changes.batches);
        let before = replayed.retired.len();
        changes.merged.iter().for_each(|merged| replayed.apply(merged));
        retiring.extend(replayed.retired[before..].iter().map(|file| Retiring {
            file: *file,
            readable: None,
            gone: opened.lsn,
            checkpoints: 0,
        }));
        live.extend(replayed.finished.values().map(|(file, _)| file.place()));
        // What the group carried over names is no leftover.
        retiring.retain(|file| !replayed.finished.contains_key(&file.file.key()));
    }
    for (file, footer) in replayed.finished.values() {
        files.finish(*file);
        if let Some(footer) = footer {
            footers.insert(file.key(), footer.clone());
        }
        if let (StoredFile::Journal(record), Some(footer)) = (file, footer)
            && record.seal.is_none()
            && !disk.is_memory()
        {
            checkpoint::write_sidecar(disk, directory, record.sequence, &record.salt, footer)?;
        }
    }

    for file in &replayed.missing {
        live.insert(file.place());
        keep_aside(parts, directory, file);
    }
    remove_strays(parts, directory, &names, &live, &replayed);

    let file_max = usize::try_from(options.file_bytes_max).unwrap_or(usize::MAX);
    let mut reservation = Reservation::new(options.group_bytes, file_max / 4 * 3);
    let ends: Arc<[StreamEnd]> = std::mem::take(&mut replayed.ends).into();
    let (next_bytes, lsn) = (opened.file.slot.size.max(options.file_bytes_min), opened.lsn);
    {
        let mut folded = state.folded();
        folded.lsn = lsn;
        folded.sequence = opened.file.header.sequence;
        folded.position = opened.file.position;
        // What an unfinished merge left behind has its number.
        let merges = segments.keys().map(|place| match place {
            Place::Segment { merge, .. } => *merge,
            Place::Slot(_) => 0,
        });
        folded.last_merge = merges.fold(folded.last_merge, u64::max);
        reservation.reset(state.tails(), Arc::clone(&ends));
        reservation.next_stream = folded.next_stream;
        let refused = opened.full.map(|error| Refusal::Data(Error::disk_full(error)));
        reservation.refusal = refused;
    }
    let next_bytes = next_bytes.min(options.file_bytes_max);
    let committer = Committer {
        file: opened.file,
        lsn,
        ends,
        progress,
        ring,
        next_file: NextFile::new(next_bytes, options.file_bytes_max, parts.clock.monotonic()),
        is_proven: replayed.carried.is_none(),
        has_failed: false,
    };
    let keeper = Keeper::new(next_bytes, kept, retiring);
    let recovered = Recovered { reservation, committer, state, files, footers, slots, keeper };
    Ok((recovered, is_fresh))
}

/// Removes what an interrupted checkpoint, an unfinished merge or a file long given back left
/// behind. Nothing depends on it, so a failure is only noted.
fn remove_strays(
    parts: &Components,
    directory: &Path,
    names: &[String],
    live: &BTreeSet<Place>,
    replayed: &Replayed,
) {
    for name in names {
        let is_unfinished = name.ends_with(".unfinished");
        let is_forgotten = checkpoint::sidecar_sequence(name)
            .is_some_and(|sequence| !replayed.finished.contains_key(&FileKey::journal(sequence)));
        let is_unmerged = Place::segment(name).is_some_and(|place| !live.contains(&place));
        if (is_unfinished || is_forgotten || is_unmerged)
            && let Err(error) = parts.disk.remove(&directory.join(name))
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::debug!(%error, name, "a stray file could not be removed");
        }
    }
}

/// A segment whose header is damaged is kept under another name, for whoever can still read it.
fn keep_aside(parts: &Components, directory: &Path, file: &StoredFile) {
    if let Place::Segment { .. } = file.place() {
        let path = file.place().path(directory);
        match parts.disk.rename(&path, &path.with_extension("corrupt")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, path = %path.display(), "a damaged file stays in place");
            }
            _ => {}
        }
    }
}

/// A journal file of which only the header was looked at.
fn journal_file(slot: &SlotOnDisk, header: &FileHeader) -> StoredFile {
    StoredFile::Journal(FileRecord {
        sequence: header.sequence,
        slot: slot.number,
        salt: header.salt,
        size: slot.size,
        base_lsn: header.base_lsn,
        last_lsn: header.base_lsn,
        end: FILE_HEADER_BYTES as u64,
        seal: None,
        previous: header.previous,
    })
}

/// Whether the file in its place is still this one.
fn is_there(
    file: &StoredFile,
    found: &BTreeMap<u32, Found>,
    segments: &BTreeMap<Place, SegmentRecord>,
) -> bool {
    match file {
        StoredFile::Journal(record) => found
            .get(&record.slot)
            .and_then(|found| found.header)
            .is_some_and(|header| header.salt == record.salt),
        StoredFile::Segment(record) => segments.get(&file.place()) == Some(record),
    }
}

fn check_format(parts: &Components, directory: &Path, names: &[String]) -> Result<()> {
    let path = directory.join(FORMAT_FILE);
    let disk = parts.disk.as_ref();
    if !names.iter().any(|name| name == FORMAT_FILE) {
        refuse_foreign(directory, names)?;
        let text = DirectoryFormat::CURRENT.encode();
        return checkpoint::write_whole(disk, directory, &path, text.as_bytes());
    }
    let format = read_format(disk, directory)?;
    if format.version == FORMAT_VERSION {
        return Ok(());
    }
    // Before anything is written that an older program would not understand.
    tracing::info!(from = format.version, to = FORMAT_VERSION, "the directory is upgraded");
    let text = DirectoryFormat { version: FORMAT_VERSION, ..format }.encode();
    checkpoint::write_whole(disk, directory, &path, text.as_bytes())
}

/// Refuses a directory without a format file that holds anything all the same.
pub(crate) fn refuse_foreign(directory: &Path, names: &[String]) -> Result<()> {
    let foreign = names
        .iter()
        .find(|name| !name.ends_with(".unfinished") && *name != RESERVE && *name != MERGE_RESERVE);
    match foreign {
        None => Ok(()),
        Some(_) if names.iter().any(|name| name == UNFINISHED_RESTORE) => Err(Error::new(
            ErrorKind::Format,
            format!(
                "a restore into {} was interrupted: run it again, or empty the directory",
                directory.display()
            ),
        )),
        Some(name) => Err(Error::new(
            ErrorKind::Format,
            format!(
                "{} holds {name} but no {FORMAT_FILE}: it is not a data directory of Meshlog; \
                 give an empty or a new directory",
                directory.display()
            ),
        )),
    }
}

/// Locks a data directory that no broker has open. `advice` says what to do if one has.
pub(crate) fn lock_stopped(
    disk: &dyn Disk,
    directory: &Path,
    advice: &str,
) -> Result<Box<dyn Send + Sync>> {
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
    disk.lock(directory).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => Error::new(
            ErrorKind::Locked,
            format!("{} is open in another process: {advice}", directory.display()),
        ),
        _ => io_error("lock", directory, error),
    })
}

/// Refuses what this version cannot read.
pub(crate) fn read_format(disk: &dyn Disk, directory: &Path) -> Result<DirectoryFormat> {
    let path = directory.join(FORMAT_FILE);
    let file =
        disk.open(&path, OpenMode::Existing).map_err(|error| io_error("open", &path, error))?;
    let bytes = read_all(file.as_ref()).map_err(|error| io_error("read", &path, error))?;
    let format = DirectoryFormat::decode(&bytes).map_err(|why| {
        Error::new(ErrorKind::Format, format!("{} cannot be read: {why}", path.display()))
    })?;
    let is_known = (FORMAT_VERSION_MIN..=FORMAT_VERSION).contains(&format.version)
        || skips("the version of the format");
    if !is_known || format.incompatible != 0 || format.read_only != 0 {
        return Err(Error::new(
            ErrorKind::Format,
            format!(
                "{} has format version {} (features {:08x} {:08x}), this program writes version \
                 {FORMAT_VERSION} without features: open it with the program that wrote it",
                directory.display(),
                format.version,
                format.read_only,
                format.incompatible,
            ),
        ));
    }
    Ok(format)
}

/// The segments whose headers are whole, and what those say.
pub(crate) fn find_segments(
    disk: &dyn Disk,
    directory: &Path,
    names: &[String],
) -> Result<BTreeMap<Place, SegmentRecord>> {
    let mut segments = BTreeMap::new();
    for place in names.iter().filter_map(|name| Place::segment(name)) {
        let path = place.path(directory);
        let open = || {
            let mut bytes = vec![0; SEGMENT_HEADER_BYTES];
            let file = disk.open(&path, OpenMode::Existing)?;
            let read = file.read_at(0, &mut bytes)?;
            let size = file.size()?;
            std::io::Result::Ok((SegmentHeader::decode(&bytes[..read]), size))
        };
        let (header, size) = open().map_err(|error| io_error("read", &path, error))?;
        match header {
            Ok(SegmentHeader(record)) if record.size <= size => {
                segments.insert(place, record);
            }
            // Of an unfinished merge, or damaged: replay knows.
            _ => {}
        }
    }
    Ok(segments)
}

/// The slots and what their headers say.
pub(crate) fn find_slots(
    disk: &dyn Disk,
    directory: &Path,
    names: &[String],
) -> Result<BTreeMap<u32, Found>> {
    let mut found = BTreeMap::new();
    for number in names.iter().filter_map(|name| slot_number(name)) {
        let path = slot_path(directory, number);
        let file =
            disk.open(&path, OpenMode::Existing).map_err(|error| io_error("open", &path, error))?;
        let size = file.size().map_err(|error| io_error("read", &path, error))?;
        let mut bytes = vec![0; FILE_HEADER_BYTES];
        let read = file.read_at(0, &mut bytes).map_err(|error| io_error("read", &path, error))?;
        let header = FileHeader::decode(&bytes[..read]).ok();
        let slot = SlotOnDisk { number, size, is_written: header.is_some(), is_blank: false };
        found.insert(number, Found { slot, header });
    }
    Ok(found)
}

struct Opened {
    file: CurrentFile,
    lsn: Lsn,
    carried: Option<CarriedBytes>,
    /// There is no space for another file: only control work is accepted.
    full: Option<std::io::Error>,
}

struct CarriedBytes {
    frames: Vec<Frame>,
    bytes: bytes::Bytes,
}

/// The file that new groups go to: a group carried over first, synced, then the header.
fn begin_file(
    options: &Options,
    parts: &Components,
    slots: &mut Slots,
    replayed: &Replayed,
) -> Result<Opened> {
    let sequence = replayed.newest.next();
    let salt = parts.random.salt();
    let carried = replayed.carried.as_ref().map(|carried| encode(carried, &salt, sequence));
    let length = carried.as_ref().map_or(0, |carried| carried.bytes.len());
    let frames = carried.as_ref().map_or(0, |carried| carried.frames.len());
    let needed = FILE_HEADER_BYTES
        + length
        + seal_bytes(Footer::encoded_bound(0, 0, frames))
        + crate::disk::BLOCK;
    let wanted = options.file_bytes_min.max(needed as u64);
    let (slot, full) =
        take_slot(options, parts, slots, wanted, needed as u64).map_err(|error| {
            Error::new(ErrorKind::DiskFull, "there is no space for a journal file: free some space")
                .caused_by(error)
        })?;
    let base_lsn = replayed.carried.as_ref().map_or(replayed.lsn.next(), |c| c.header.lsn);
    let header = FileHeader {
        sequence,
        salt,
        base_lsn,
        previous: replayed.last_file.map(|(sequence, end)| PreviousFile { sequence, end }),
        size: slot.size,
        wall_time: parts.clock.now(),
    };
    let path = slot_path(&options.directory, slot.number);
    let write = || {
        if let Some(carried) = &carried {
            slot.file.write_at(FILE_HEADER_BYTES as u64, &carried.bytes)?;
            barrier("the sync of a carried group", || slot.file.sync())?;
        }
        slot.file.write_at(0, &header.encode())?;
        barrier("the sync of the header after a start", || slot.file.sync())
    };
    write().map_err(|error| io_error("begin", &path, error))?;
    let position = (FILE_HEADER_BYTES + length) as u64;
    let lsn = replayed.carried.as_ref().map_or(replayed.lsn, |carried| carried.header.lsn);
    Ok(Opened { file: CurrentFile { slot, header, position }, lsn, carried, full })
}

/// A slot for the new file, and why it is one of those kept back for a full disk, if it is.
fn take_slot(
    options: &Options,
    parts: &Components,
    slots: &mut Slots,
    wanted: u64,
    needed: u64,
) -> std::io::Result<(Slot, Option<std::io::Error>)> {
    let full = match slots.take(wanted) {
        Ok(slot) => return Ok((slot, None)),
        Err(error) if lacks_space(&error) => error,
        Err(error) => return Err(error),
    };
    if let Some(slot) = slots.take_reserve(needed)? {
        return Ok((slot, Some(full)));
    }
    // Started again and again: reading what is there is worth more than what else is kept back.
    let small = needed.max(SMALL_FILE_BYTES).min(wanted);
    for reserve in [None, Some(MERGE_RESERVE), Some(RESERVE)] {
        let path = reserve.map(|name| options.directory.join(name));
        if path.is_none_or(|path| parts.disk.remove(&path).is_ok())
            && let Ok(slot) = slots.create(small)
        {
            return Ok((slot, Some(full)));
        }
    }
    Err(full)
}

/// The same group, bound to another file.
fn encode(carried: &Carried, salt: &[u8; 16], sequence: FileSequence) -> CarriedBytes {
    let mut table = Vec::new();
    Table::encode(&carried.frames, &carried.ends, &mut table);
    let salted = Salted::new(salt, sequence, carried.header.lsn.0);
    let header = GroupHeader { sequence, table_crc: salted.crc(&table), ..carried.header };
    let mut bytes = carried.bytes.clone();
    let start = header.table_offset as usize;
    bytes[start..start + table.len()].copy_from_slice(&table);
    // What a crash kept from the padding's blocks is not part of the group.
    bytes[start + table.len()..].fill(0);
    let mut front = Vec::new();
    header.encode(salted, &mut front);
    bytes[..GROUP_HEADER_BYTES].copy_from_slice(&front);
    CarriedBytes { frames: carried.frames.clone(), bytes: bytes.into() }
}
