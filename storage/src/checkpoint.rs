//! Writing and finding checkpoints.
//!
//! A checkpoint is written beside the last one, synced, read back, given its name, and the name
//! synced; two are kept. If both are lost the journal still says everything as long as none of
//! its files was reused.

use std::path::{Path, PathBuf};

use crate::disk::{Disk, OpenMode, read_all};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::files::StoredFile;
use crate::format::{Checkpoint, Footer, QuarantineRecord, StreamRecord};
use crate::position::{FileSequence, Lsn};
use crate::retention::Policy;
use crate::sabotage::{barrier, skips};

const KEPT: usize = 2;
/// Holds space for the checkpoints that a full disk must still take: without them no file whose
/// streams are deleted could be given back.
pub(crate) const RESERVE: &str = "reserve";
/// Holds space for the outputs of a merge that makes room.
pub(crate) const MERGE_RESERVE: &str = "reserve-merge";
const RESERVE_BYTES_MIN: u64 = 128 << 10;

/// The numbers of the checkpoints on disk, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    numbers: Vec<u64>,
    /// Length of the newest one.
    bytes: u64,
}

impl Kept {
    pub(crate) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// What the reserve must hold: two checkpoints twice as long as the last one.
    pub(crate) fn reserve_bytes(&self) -> u64 {
        (4 * self.bytes).max(RESERVE_BYTES_MIN)
    }
}

/// The name of a checkpoint.
pub(crate) fn checkpoint_name(number: u64) -> String {
    format!("checkpoint-{number:016}")
}

/// The number in a checkpoint's name.
pub(crate) fn checkpoint_number(name: &str) -> Option<u64> {
    // Whoever leaves one of a very high number makes the next have a digit more.
    let digits = name.strip_prefix("checkpoint-").filter(|digits| digits.len() >= 16)?;
    digits.parse().ok().filter(|number| *number < 1 << 62)
}

/// The path of the footer of a file that a crash left without a seal.
pub(crate) fn sidecar_path(directory: &Path, sequence: FileSequence) -> PathBuf {
    directory.join(format!("footer-{sequence:016}"))
}

/// The sequence in a sidecar's name.
pub(crate) fn sidecar_sequence(name: &str) -> Option<FileSequence> {
    name.strip_prefix("footer-").filter(|digits| digits.len() == 16)?.parse().ok().map(FileSequence)
}

/// Writes the state as it is now; answers the LSN it is after.
pub(crate) fn write(engine: &Engine, kept: &mut Kept) -> Result<Lsn> {
    let doubt = engine.retention.look_at_clock(engine.parts.clock.as_ref());
    let clock_doubt =
        if skips("the doubt of a clock in a checkpoint") { 0 } else { doubt.seconds() };
    let snapshot = Checkpoint { clock_doubt, ..snapshot(engine) };
    let bytes = snapshot.encode();
    let number = kept.numbers.last().map_or(1, |last| last + 1);
    let directory = &engine.options.directory;
    let path = directory.join(checkpoint_name(number));
    let disk = engine.parts.disk.as_ref();
    let attempt = || write_whole(disk, directory, &path, &bytes);
    attempt().or_else(|error| {
        // The reserve gives way; the keeper makes it again when there is space.
        let gave_way = error.is_lack_of_space() && disk.remove(&directory.join(RESERVE)).is_ok();
        if gave_way { attempt() } else { Err(error) }
    })?;
    kept.bytes = bytes.len() as u64;
    kept.numbers.push(number);
    while kept.numbers.len() > KEPT {
        let oldest = directory.join(checkpoint_name(kept.numbers.remove(0)));
        engine.parts.disk.remove(&oldest).map_err(|error| io_error("remove", &oldest, error))?;
    }
    Ok(snapshot.lsn)
}

/// Writes a checkpoint that no engine made, newer than all that are there.
pub(crate) fn write_next(
    disk: &dyn Disk,
    directory: &Path,
    kept: &Kept,
    checkpoint: &Checkpoint,
) -> Result<()> {
    let number = kept.numbers.last().map_or(1, |last| last + 1);
    write_whole(disk, directory, &directory.join(checkpoint_name(number)), &checkpoint.encode())
}

/// The state as it is now.
pub(crate) fn snapshot(engine: &Engine) -> Checkpoint {
    // Held throughout: the committer folds and publishes a group under the same lock.
    let folded = engine.state.folded();
    let mut checkpoint = Checkpoint {
        lsn: folded.lsn,
        sequence: folded.sequence,
        position: folded.position,
        wall_time: engine.parts.clock.now(),
        next_stream: folded.next_stream,
        producers: folded.producers.records(),
        forgotten: folded.producers.forgotten(),
        state: folded.values.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        last_merge: folded.last_merge,
        damage: folded.damage.clone(),
        ..Checkpoint::default()
    };
    for (file, _) in engine.files.all() {
        match file {
            StoredFile::Journal(record) => checkpoint.files.push(record),
            StoredFile::Segment(record) => checkpoint.segments.push(record),
        }
    }
    let mut streams = engine.state.streams();
    streams.sort_by_key(|stream| stream.id);
    for stream in streams {
        let view = stream.view();
        checkpoint.streams.push(StreamRecord {
            stream: stream.id,
            start: view.start,
            end: view.end(),
            last_time: view.last_time,
            last_file: view.last_file,
            bytes: view.bytes,
            compacted_to: view.compacted_to,
        });
        if view.policy != Policy::default() {
            checkpoint.policies.push((stream.id, view.policy));
        }
        checkpoint.active.extend(view.footer_so_far(stream.id));
        checkpoint.quarantine.extend(view.quarantine.iter().map(|(first, end)| QuarantineRecord {
            stream: stream.id,
            first: *first,
            end: *end,
        }));
    }
    checkpoint
}

/// The checkpoints of a directory.
#[derive(Default)]
pub(crate) struct Checkpoints {
    /// The newest one that is whole.
    pub(crate) newest: Option<Checkpoint>,
    /// Files that older ones name, if they are whole: they may be needed if the newest one rots.
    pub(crate) older_files: Vec<StoredFile>,
    /// The journal file from which an older one would be replayed.
    pub(crate) older_sequence: Option<FileSequence>,
    /// The last merge begun before an older one.
    pub(crate) older_merge: Option<u64>,
    pub(crate) kept: Kept,
    /// What was wrong with those newer than the newest whole one, one sentence each.
    pub(crate) damage: Vec<String>,
}

/// Reads the checkpoints of a directory.
pub(crate) fn find(disk: &dyn Disk, directory: &Path, names: &[String]) -> Result<Checkpoints> {
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| checkpoint_number(name)).collect();
    numbers.sort_unstable();
    let mut found = Checkpoints::default();
    for number in numbers.iter().rev() {
        let path = directory.join(checkpoint_name(*number));
        let file =
            disk.open(&path, OpenMode::Existing).map_err(|error| io_error("open", &path, error))?;
        let content = read_all(file.as_ref()).map_err(|error| io_error("read", &path, error))?;
        match (Checkpoint::decode(&content), &found.newest) {
            (Ok(checkpoint), None) => {
                found.kept.bytes = content.len() as u64;
                found.newest = Some(checkpoint);
            }
            (Ok(checkpoint), Some(_)) => {
                found.older_sequence = Some(checkpoint.sequence);
                found.older_merge = Some(checkpoint.last_merge);
                found.older_files.extend(checkpoint.files.into_iter().map(StoredFile::Journal));
                let segments = checkpoint.segments.into_iter();
                found.older_files.extend(segments.map(StoredFile::Segment));
            }
            (Err(why), None) => found.damage.push(format!(
                "the checkpoint {} is damaged ({why}); an older one was used",
                path.display()
            )),
            (Err(_), Some(_)) => {}
        }
    }
    found.kept.numbers = numbers;
    Ok(found)
}

/// Keeps the footer of a file that has no seal. A cache: a lost one is made again.
pub(crate) fn write_sidecar(
    disk: &dyn Disk,
    directory: &Path,
    sequence: FileSequence,
    salt: &[u8; 16],
    footer: &Footer,
) -> Result<()> {
    let mut bytes = salt.to_vec();
    footer.encode(&mut bytes);
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    write_whole(disk, directory, &sidecar_path(directory, sequence), &bytes)
}

/// The sidecar footer of this life of the file, if it is there and whole.
pub(crate) fn read_sidecar(
    disk: &dyn Disk,
    directory: &Path,
    sequence: FileSequence,
    salt: &[u8; 16],
) -> Option<Footer> {
    let file = disk.open(&sidecar_path(directory, sequence), OpenMode::Existing).ok()?;
    let bytes = read_all(file.as_ref()).ok()?;
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    let footer = body.strip_prefix(salt.as_slice())?;
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    Footer::decode(footer).ok()
}

/// Writes a small file whole or not at all: another name, sync, read back, rename, sync.
pub(crate) fn write_whole(
    disk: &dyn Disk,
    directory: &Path,
    path: &Path,
    bytes: &[u8],
) -> Result<()> {
    let unfinished = path.with_extension("unfinished");
    let attempt = || {
        match disk.remove(&unfinished) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.open(&unfinished, OpenMode::CreateNew)?;
        file.write_at(0, bytes)?;
        barrier("the sync of a small file", || file.sync())?;
        if read_all(file.as_ref())? != bytes && !skips("the reading back of a small file") {
            return Err(std::io::Error::other("it reads back differently"));
        }
        disk.rename(&unfinished, path)?;
        barrier("the sync of a small file's name", || disk.sync_directory(directory))
    };
    attempt().map_err(|error| io_error("write", path, error))
}

/// Makes sure that the reserve is there and this large.
pub(crate) fn keep_reserve(
    disk: &dyn Disk,
    directory: &Path,
    name: &str,
    bytes: u64,
) -> std::io::Result<()> {
    let path = directory.join(name);
    match disk.open(&path, OpenMode::Existing) {
        Ok(file) if file.size()? >= bytes => return Ok(()),
        Ok(file) => return file.allocate(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let file = disk.open(&path, OpenMode::CreateNew)?;
    file.allocate(bytes).inspect_err(|_| drop(disk.remove(&path)))
}

/// An error of the operating system with the path it is about.
pub(crate) fn io_error(what: &str, path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot {what} {}", path.display())).caused_by(error)
}
