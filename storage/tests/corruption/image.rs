//! Directories with something of everything in them, and what was acknowledged in them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meshlog_storage::disk::{CrashPlan, Disk, OpenMode, SeededRandom, SimulatedDisk};
use meshlog_storage::{Control, Durability, Entry, FileKind, Offset, Storage, StreamId, verify};

use crate::fault::{Fault, Region};
use crate::support::{Machine, append, create, lines, stamp};

/// Of a stream: the first readable offset, and every acknowledged batch from there, with its count.
pub(crate) type Acknowledged = (Offset, BTreeMap<Offset, (u32, Bytes)>);

/// A directory, and what must be in it.
pub(crate) struct Image {
    pub(crate) name: &'static str,
    disk: SimulatedDisk,
    /// The same directory some time before.
    older: SimulatedDisk,
    clock: Arc<meshlog_storage::disk::ManualClock>,
    pub(crate) streams: BTreeMap<StreamId, Acknowledged>,
    pub(crate) state: Vec<(Bytes, Bytes)>,
    pub(crate) regions: Vec<Region>,
}

struct Writing {
    machine: Machine,
    storage: Storage,
    streams: BTreeMap<StreamId, Acknowledged>,
    tag: u64,
}

impl Writing {
    fn new(seed: u64) -> Self {
        let mut machine = Machine::new(seed);
        machine.options.file_bytes_min = 64 << 10;
        machine.options.file_bytes_max = 64 << 10;
        machine.options.group_bytes = 16 << 10;
        machine.options.ring_bytes = 0;
        let storage = machine.open().unwrap();
        Self { machine, storage, streams: BTreeMap::new(), tag: 0 }
    }

    fn create(&mut self) -> StreamId {
        let stream = create(&self.storage);
        self.streams.insert(stream, (Offset(0), BTreeMap::new()));
        stream
    }

    fn append(&mut self, streams: &[StreamId], count: u32, length: usize) {
        self.tag += 1;
        let batches: Vec<_> =
            streams.iter().map(|stream| lines(*stream, self.tag, count, length)).collect();
        let payloads: Vec<_> = batches.iter().map(|batch| batch.payload[0].clone()).collect();
        let entry = Entry {
            batches,
            producer: self.tag.is_multiple_of(3).then(|| stamp(1, self.tag / 3 - 1)),
            ..Entry::default()
        };
        let appended = append(&self.storage, entry).unwrap();
        assert_eq!(appended.durability, Durability::Synced);
        for (range, payload) in appended.ranges.iter().zip(payloads) {
            let (_, batches) = self.streams.get_mut(&range.stream).unwrap();
            batches.insert(range.first_offset, (range.count, payload));
        }
        self.machine.clock.advance(Duration::from_millis(400));
    }

    fn control(&mut self, controls: Vec<Control>) {
        append(&self.storage, Entry { controls, ..Entry::default() }).unwrap();
        self.machine.clock.advance(Duration::from_secs(2));
        self.storage.drive();
    }

    fn set(&mut self, key: &'static str, value: String) {
        self.control(vec![Control::SetState { key: key.into(), value: Some(value.into()) }]);
    }

    /// Lets time pass until what was trimmed is merged away and its files are given back.
    fn merge(&mut self) {
        for _ in 0..40 {
            self.machine.clock.advance(Duration::from_secs(10));
            self.storage.drive();
        }
        assert!(self.storage.stats().merges > 0);
    }

    /// Files rolled, given back and used again; three streams, one trimmed, and what
    /// is left merged.
    fn history(&mut self) -> [StreamId; 2] {
        let gone = self.create();
        for _ in 0..12 {
            self.append(&[gone], 1, 9000);
        }
        self.streams.remove(&gone);
        self.control(vec![Control::DeleteStream(gone)]);
        for round in 0..4 {
            self.machine.clock.advance(Duration::from_secs(11));
            self.set("round", format!("{round}"));
        }
        let [a, b] = [self.create(), self.create()];
        for round in 0..14 {
            self.append(&[a], 2, 700);
            self.append(&[a, b], 3, 1200);
            self.append(&[b], 1, 60 + 300 * round);
        }
        let start = Offset(40);
        self.control(vec![Control::TrimStream(a, start)]);
        let (first, batches) = self.streams.get_mut(&a).unwrap();
        *first = start;
        batches.retain(|base, (count, _)| base.plus(*count) > start);
        self.merge();
        [a, b]
    }

    fn done(self, name: &'static str, older: SimulatedDisk) -> Image {
        let Self { machine, storage, streams, .. } = self;
        let state = storage.state();
        std::mem::forget(storage);
        let disk = machine.disk.after_crash(CrashPlan::KeepAll);
        let regions = regions(&disk);
        let has_segment = regions.iter().any(|region| region.what == "segment payload");
        assert!(has_segment, "{name} has no merged file");
        Image { name, disk, older, clock: Arc::clone(&machine.clock), streams, state, regions }
    }
}

impl Image {
    pub(crate) fn all() -> Vec<Self> {
        vec![Self::closed(), Self::cut(), Self::reopened()]
    }

    /// Sealed by a clean stop.
    fn closed() -> Self {
        let mut writing = Writing::new(1);
        let [a, b] = writing.history();
        let older = writing.machine.disk.after_crash(CrashPlan::KeepAll);
        for _ in 0..10 {
            writing.append(&[a, b], 2, 800);
        }
        let state = writing.storage.state();
        writing.storage.close().unwrap();
        Self { state, ..writing.done("closed", older) }
    }

    /// Idle when the process died: the last group is proven by a marker.
    fn cut() -> Self {
        let mut writing = Writing::new(2);
        let [a, b] = writing.history();
        let older = writing.machine.disk.after_crash(CrashPlan::KeepAll);
        for _ in 0..10 {
            writing.append(&[a, b], 2, 800);
        }
        writing.storage.drive_idle();
        writing.done("cut", older)
    }

    /// Killed, recovered with a group carried over and a footer beside the file, killed again.
    fn reopened() -> Self {
        let mut writing = Writing::new(3);
        let [a, b] = writing.history();
        let older = writing.machine.disk.after_crash(CrashPlan::KeepAll);
        for round in 0..2 {
            for _ in 0..6 {
                writing.append(&[b, a], 2, 500 + round * 90);
            }
            let next = Machine {
                disk: writing.machine.disk.after_crash(CrashPlan::KeepAll),
                clock: Arc::clone(&writing.machine.clock),
                random: Arc::clone(&writing.machine.random),
                options: writing.machine.options.clone(),
            };
            let opened = next.open().unwrap();
            std::mem::forget(std::mem::replace(&mut writing.storage, opened));
            writing.machine = next;
        }
        writing.append(&[a], 1, 50);
        writing.storage.drive_idle();
        writing.done("reopened", older)
    }

    /// The directory after a fault, on a machine that can open it.
    pub(crate) fn with(&self, fault: &Fault) -> Machine {
        let disk = self.disk.after_crash(CrashPlan::KeepAll);
        fault.befall(&disk, &self.older);
        let mut machine = Machine::new(9);
        machine.disk = disk;
        machine.clock = Arc::clone(&self.clock);
        machine.random = Arc::new(SeededRandom::new(9));
        machine.options.file_bytes_min = 64 << 10;
        machine.options.file_bytes_max = 64 << 10;
        machine.options.group_bytes = 16 << 10;
        machine.options.ring_bytes = 0;
        machine
    }

    /// The names of all files and their lengths.
    pub(crate) fn files(&self) -> Vec<(String, usize)> {
        names(&self.disk)
            .into_iter()
            .map(|name| {
                let length = content(&self.disk, &name).len();
                (name, length)
            })
            .collect()
    }
}

pub(crate) fn path(name: &str) -> PathBuf {
    Path::new("data").join(name)
}

fn names(disk: &SimulatedDisk) -> Vec<String> {
    let mut names = disk.list(Path::new("data")).unwrap();
    names.sort();
    names
}

pub(crate) fn content(disk: &SimulatedDisk, name: &str) -> Vec<u8> {
    let Ok(file) = disk.open(&path(name), OpenMode::Existing) else { return Vec::new() };
    let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

/// Where what stands in the files, told from `FORMAT.md` alone.
fn regions(disk: &SimulatedDisk) -> Vec<Region> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let report = verify(Path::new("data"), &shared, &mut |_| {}).unwrap();
    assert!(report.is_clean(), "{report:#?}");
    let mut regions = Vec::new();
    for file in &report.files {
        let length = usize::try_from(file.bytes).unwrap();
        let live = usize::try_from(file.live_bytes).unwrap();
        let mut add = |what, range: Range<usize>| {
            if !range.is_empty() {
                regions.push(Region { file: file.name.clone(), what, range });
            }
        };
        match file.kind {
            FileKind::Format => add("format", 0..length),
            FileKind::Checkpoint => add("checkpoint", 0..length),
            FileKind::Footer => add("sidecar footer", 0..length),
            FileKind::Journal | FileKind::Segment => {
                let is_segment = file.kind == FileKind::Segment;
                let one = |journal, segment| if is_segment { segment } else { journal };
                // What is written of a header.
                let header = if is_segment { 96 } else { 84 };
                add(one("file header", "segment header"), 0..header);
                add(one("second file header", "second segment header"), 4096..4096 + header);
                add("padding", header..4096);
                let bytes = content(disk, &file.name);
                let number =
                    |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
                let mut at = 8192;
                while at < live {
                    let (size, table, table_bytes) =
                        (number(at + 24), number(at + 36), number(at + 40));
                    let table_end = at + table + table_bytes;
                    let is_seal = bytes[at + 4] & 1 == 1;
                    add(one("group header", "segment group header"), at..at + 64);
                    if is_seal {
                        add(one("footer", "segment footer"), at + table..table_end);
                    } else {
                        add(one("payload", "segment payload"), at + 64..at + table);
                        add(one("frame table", "segment frame table"), at + table..table_end);
                        add("padding", table_end..at + size);
                    }
                    at += size;
                }
                add("nothing", live..length);
            }
            _ => add("nothing", 0..length),
        }
    }
    regions
}
