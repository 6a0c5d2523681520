//! What fuzzing feeds with bytes of its own. Compiled for tests and under `cargo fuzz` only.
//!
//! Each function takes anything and panics if a promise is broken: a decoder answers or refuses,
//! what it answers encodes to what it was decoded from, and a directory opens or is refused with a
//! sentence. Checksums are made to fit first where bytes would hardly ever get past them; behind
//! them decoders must still be total, because a checksum is no proof against our own mistakes.
//! The targets are in `fuzz/`; their corpora are replayed, and changed a little, by a plain test.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::disk::{
    BLOCK, CrashPlan, Disk, ManualClock, OpenMode, OsDisk, SeededRandom, SimulatedDisk, read_all,
};
use crate::format::{
    Checkpoint, ControlRecord, DirectoryFormat, FileHeader, Footer, Frame, FrameKind,
    GROUP_HEADER_BYTES, GroupHeader, Salted, SegmentHeader, Table,
};
use crate::position::{FileSequence, Offset, StreamId, Timestamp};
use crate::{
    Batch, BatchCodec, Components, Entry, Error, ErrorKind, NoObserver, Options, ReadRequest,
    RecordKey, Result, Storage, verify,
};

const SALT: [u8; 16] = [7; 16];

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// A group: header, payloads, table, with checksums made to fit.
pub fn group(data: &[u8]) {
    let mut bytes = data.to_vec();
    let Some(sequence) = number(&bytes, 8).map(u64::from_le_bytes) else { return };
    let Some(lsn) = number(&bytes, 16).map(u64::from_le_bytes) else { return };
    if bytes.len() < GROUP_HEADER_BYTES {
        return;
    }
    let salted = Salted::new(&SALT, FileSequence(sequence), lsn);
    let place = |at| number(data, at).map(u32::from_le_bytes).unwrap_or_default() as usize;
    let (start, length) = (place(36), place(40));
    let table = start.checked_add(length).and_then(|end| data.get(start..end));
    if let Some(table) = table {
        bytes[44..48].copy_from_slice(&salted.crc(table).to_le_bytes());
    }
    let crc = salted.crc(&bytes[..GROUP_HEADER_BYTES - 4]);
    bytes[GROUP_HEADER_BYTES - 4..GROUP_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    let Ok(header) = GroupHeader::decode(&SALT, FileSequence(sequence), &bytes) else { return };
    let mut again = Vec::new();
    header.encode(salted, &mut again);
    assert_eq!(again, bytes[..GROUP_HEADER_BYTES], "a header encodes to its bytes");
    let Some(table) = table else { return };
    if header.is_seal {
        footer(table);
    } else if let Ok(decoded) = Table::decode(&header, table) {
        let mut again = Vec::new();
        Table::encode(&decoded.frames, &decoded.ends, &mut again);
        let twice = Table::decode(&header, &again);
        let is_same = twice.is_ok_and(|twice| {
            twice.frames == decoded.frames && twice.ends.len() == decoded.ends.len()
        });
        assert!(is_same, "a table encodes to what decodes the same");
        for frame in &decoded.frames {
            assert!(frame.payload_offset as usize + frame.payload_bytes as usize <= start);
            assert_eq!(frame.offsets().take(9).count(), 9.min(frame.count as usize));
        }
    }
}

/// A footer.
pub fn footer(data: &[u8]) {
    if let Ok(footer) = Footer::decode(data) {
        let mut again = Vec::new();
        footer.encode(&mut again);
        assert_eq!(Footer::decode(&again).as_ref(), Ok(&footer));
        for stream in &footer.streams {
            assert_eq!(footer.find(stream.stream).map(|found| found.stream), Some(stream.stream));
        }
    }
}

/// A checkpoint, its checksum made to fit.
pub fn checkpoint(data: &[u8]) {
    let mut bytes = data.to_vec();
    bytes.extend_from_slice(&crc32fast::hash(data).to_le_bytes());
    if let Ok(checkpoint) = Checkpoint::decode(&bytes) {
        let again = checkpoint.encode();
        assert!(Checkpoint::decode(&again).is_ok_and(|twice| twice.encode() == again));
    }
}

/// The headers of journal files and segments, and the file that names the format.
pub fn header(data: &[u8]) {
    let mut bytes = data.to_vec();
    if bytes.len() >= 84 {
        let crc = crc32fast::hash(&bytes[..80]);
        bytes[80..84].copy_from_slice(&crc.to_le_bytes());
    }
    if let Ok(header) = FileHeader::decode(&bytes) {
        assert_eq!(FileHeader::decode(&header.encode()), Ok(header));
    }
    for covered in [data.len(), data.len().saturating_sub(4)] {
        let mut bytes = data[..covered].to_vec();
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        if let Ok(header) = SegmentHeader::decode(&bytes) {
            assert!(SegmentHeader::decode(&header.encode()).is_ok());
        }
    }
    if let Ok(format) = DirectoryFormat::decode(data) {
        assert!(DirectoryFormat::decode(format.encode().as_bytes()).is_ok());
    }
}

/// A control record: its kind, then its payload.
pub fn control(data: &[u8]) {
    use FrameKind as Kind;
    const KINDS: [FrameKind; 10] = [
        Kind::Batch,
        Kind::CreateStream,
        Kind::DeleteStream,
        Kind::Trim,
        Kind::Retention,
        Kind::Quarantine,
        Kind::Merged,
        Kind::EpochChange,
        Kind::SetState,
        Kind::SetPolicy,
    ];
    let Some((kind, payload)) = data.split_first() else { return };
    let kind = KINDS[*kind as usize % KINDS.len()];
    let frame = Frame::control(kind, StreamId(1), Timestamp(1));
    if let Ok(record) = ControlRecord::decode(&frame, payload) {
        let mut again = Vec::new();
        record.encode(&mut again);
        assert!(ControlRecord::decode(&frame, &again).is_ok());
    }
}

/// A directory: one that is whole, and what befalls it. Whatever comes of that, `verify` ends, and
/// it opens or says why not; if it opens, everything can be asked for, appends are taken, and it
/// opens again.
pub fn directory(data: &[u8]) {
    let disk = whole().after_crash(CrashPlan::KeepAll);
    befall(&disk, data);
    let machine = |disk: &SimulatedDisk| Components {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(ManualClock::starting_at(Timestamp(1_700_000_900_000_000_000))),
        random: Arc::new(SeededRandom::new(data.len() as u64)),
        codec: Arc::new(Lines),
        observer: Arc::new(NoObserver),
    };
    let seen: Arc<dyn Disk> = Arc::new(disk.clone());
    drop(verify(Path::new(DIRECTORY), &seen, &mut |_| {}));
    let storage = match Storage::open_without_threads(options(), machine(&disk)) {
        Ok(storage) => storage,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let before = ask(&storage);
    for stream in storage.streams().into_iter().take(3) {
        append(&storage, stream);
    }
    storage.drive_idle();
    let closed = storage.close();
    drop(storage);
    let storage = Storage::open_without_threads(options(), machine(&disk));
    let storage = storage.unwrap_or_else(|error| panic!("it opened once, and now: {error}"));
    let after = ask(&storage);
    assert!(closed.is_err() || after.len() >= before.len(), "streams are gone after a restart");
}

const DIRECTORY: &str = "data";

fn options() -> Options {
    Options {
        directory: DIRECTORY.into(),
        group_bytes: 8 << 10,
        file_bytes_min: 32 << 10,
        file_bytes_max: 32 << 10,
        ring_bytes: 0,
        chunk_cache_bytes: 0,
        compaction_bytes_min: 0,
        merge_bytes_per_second: u64::MAX,
        ..Options::default()
    }
}

/// The fixture of the newest format.
fn whole() -> &'static SimulatedDisk {
    static WHOLE: OnceLock<SimulatedDisk> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let disk = SimulatedDisk::new(8 << 20);
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/v2");
        let names = OsDisk::default().list(&from).expect("the fixture is there");
        for name in names {
            let file = OsDisk::default().open(&from.join(&name), OpenMode::Existing);
            let bytes = file.and_then(|file| read_all(file.as_ref())).expect("it can be read");
            put(&disk, &name, bytes);
        }
        disk
    })
}

fn put(disk: &SimulatedDisk, name: &str, bytes: Vec<u8>) {
    let path = Path::new(DIRECTORY).join(name);
    drop(disk.open(&path, OpenMode::CreateNew));
    disk.rot(&path, |content| *content = bytes);
}

/// Reads edits from the bytes: what is done, to which file, where, and with what.
fn befall(disk: &SimulatedDisk, data: &[u8]) {
    let mut rest = data;
    for _ in 0..16 {
        let Some((edit, after)) = rest.split_first_chunk::<6>() else { return };
        rest = after;
        let [kind, file, other, a, b, length] = *edit;
        let mut names = disk.list(Path::new(DIRECTORY)).unwrap_or_default();
        names.sort();
        if names.is_empty() {
            return;
        }
        let path = |index: u8| Path::new(DIRECTORY).join(&names[index as usize % names.len()]);
        let at = usize::from(a) << 8 | usize::from(b);
        match kind % 8 {
            0 | 1 => {
                let (bytes, after) = rest.split_at(rest.len().min(usize::from(length)));
                rest = after;
                disk.rot(&path(file), |content| {
                    for (index, byte) in bytes.iter().enumerate() {
                        if let Some(place) = content.get_mut(at + index) {
                            *place = if kind % 8 == 0 { *byte } else { *place ^ byte };
                        }
                    }
                });
            }
            2 => disk.rot(&path(file), |content| content.truncate(at)),
            3 => disk.lose(&path(file)),
            4 => disk.swap(&path(file), &path(other)),
            5 => {
                // A sector arrives at another place.
                let mut sector = Vec::new();
                disk.rot(&path(other), |content| {
                    let start = (usize::from(b) * 512).min(content.len());
                    sector = content[start..(start + 512).min(content.len())].to_vec();
                });
                disk.rot(&path(file), |content| {
                    let start = (usize::from(a) * 512).min(content.len());
                    let end = (start + sector.len()).min(content.len());
                    content[start..end].copy_from_slice(&sector[..end - start]);
                });
            }
            6 => disk.rot(&path(file), |content| content.extend(vec![other; at])),
            _ => {
                const NAMES: [&str; 8] = [
                    "journal-000099",
                    "checkpoint-9999999999999999",
                    "footer-0000000000000003",
                    "segment-9999999999999999-9",
                    "journal-999999",
                    "checkpoint-0000000000000001.unfinished",
                    "reserve",
                    "something else",
                ];
                let mut bytes = Vec::new();
                disk.rot(&path(file), |content| bytes = content.clone());
                let name: PathBuf = NAMES[other as usize % NAMES.len()].into();
                put(disk, &name.to_string_lossy(), bytes);
            }
        }
    }
}

/// Asks for everything; answers the bounds of every stream.
fn ask(storage: &Storage) -> Vec<(StreamId, Offset)> {
    storage.drive();
    let mut found = Vec::new();
    for stream in storage.streams() {
        let Ok(bounds) = storage.bounds(stream) else { continue };
        found.push((stream, bounds.durable_end));
        let mut next = bounds.start;
        // Every step goes forward; the fixture has fewer.
        for _ in 0..2000 {
            match read(storage, stream, next) {
                Ok(Some(end)) => {
                    assert!(end > next, "a read goes forward");
                    next = end;
                }
                Ok(None) => break,
                Err(error) => match error.kind() {
                    ErrorKind::Corrupt { next_readable } if *next_readable > next => {
                        next = *next_readable;
                    }
                    _ => break,
                },
            }
        }
    }
    found
}

fn read(storage: &Storage, stream: StreamId, from: Offset) -> Result<Option<Offset>> {
    let request = ReadRequest { stream, from, max_bytes: 1 << 16, hint: None };
    let late = Arc::new(parking_lot::Mutex::new(None));
    let slot = Arc::clone(&late);
    let slice = match storage.read(request, move |outcome| *slot.lock() = Some(outcome)) {
        Some(outcome) => outcome,
        None => {
            storage.drive_reads();
            late.lock().take().unwrap_or_else(|| Err(Error::closed()))
        }
    };
    slice.map(|slice| slice.batches.last().map(crate::StoredBatch::end))
}

fn append(storage: &Storage, stream: StreamId) {
    let batch = Batch {
        stream,
        payload: vec![Bytes::from_static(b"more\n")],
        count: 1,
        schema: 1,
        application: 2,
        expected_offset: None,
    };
    storage.append(Entry { batches: vec![batch], ..Entry::default() }, |_| {});
    storage.drive();
}

/// A record is a line.
struct Lines;

impl BatchCodec for Lines {
    fn count(&self, payload: &[u8]) -> Result<u32> {
        Ok(payload.iter().filter(|byte| **byte == b'\n').count() as u32)
    }

    fn keys(&self, payload: &Bytes) -> Result<Vec<Option<RecordKey>>> {
        Ok(vec![None; self.count(payload)? as usize])
    }

    fn retain(&self, payload: &Bytes, _keep: &[u32]) -> Result<Bytes> {
        Ok(payload.clone())
    }
}

const _: () = assert!(BLOCK > GROUP_HEADER_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    /// The corpus of a target, and as many changed copies of each of its entries.
    fn replay(target: &str, changes: u64, run: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let disk = OsDisk::default();
        let mut names = disk.list(&corpus).unwrap();
        names.sort();
        assert!(names.len() >= 3, "{} holds {} entries", corpus.display(), names.len());
        for name in names {
            let file = disk.open(&corpus.join(&name), OpenMode::Existing).unwrap();
            let bytes = read_all(file.as_ref()).unwrap();
            for change in 0..=changes {
                let changed = if change == 0 { bytes.clone() } else { change_some(&bytes, change) };
                let outcome = std::panic::catch_unwind(|| run(&changed));
                if outcome.is_err() {
                    panic!("{target}/{name}, change {change}, breaks a promise");
                }
            }
        }
    }

    fn change_some(bytes: &[u8], seed: u64) -> Vec<u8> {
        let random = SeededRandom::new(seed);
        let pick = |bound: usize| (random.next_u64() % bound.max(1) as u64) as usize;
        let mut changed = bytes.to_vec();
        for _ in 0..=pick(4) {
            match pick(6) {
                0 => changed.truncate(pick(changed.len() + 1)),
                1 => changed.extend((0..pick(9)).map(|_| pick(256) as u8)),
                _ if changed.is_empty() => {}
                2 => {
                    // A number becomes one of those where mistakes are.
                    let at = pick(changed.len());
                    let value = [0, 1, u32::MAX, u32::MAX / 2, 1 << 31, 4096][pick(6)];
                    for (place, byte) in changed[at..].iter_mut().zip(value.to_le_bytes()) {
                        *place = byte;
                    }
                }
                _ => {
                    let at = pick(changed.len());
                    changed[at] = pick(256) as u8;
                }
            }
        }
        changed
    }

    #[test]
    fn groups_of_any_bytes_decode_or_are_refused() {
        replay("group", 400, group);
    }

    #[test]
    fn footers_of_any_bytes_decode_or_are_refused() {
        replay("footer", 2000, footer);
    }

    #[test]
    fn checkpoints_of_any_bytes_decode_or_are_refused() {
        replay("checkpoint", 1000, checkpoint);
    }

    #[test]
    fn headers_of_any_bytes_decode_or_are_refused() {
        replay("header", 1000, header);
    }

    #[test]
    fn control_records_of_any_bytes_decode_or_are_refused() {
        replay("control", 500, control);
    }

    #[test]
    fn directories_of_any_bytes_open_or_are_refused_with_a_sentence() {
        replay("directory", 40, directory);
    }
}
