//! What a start costs: a header of every file, and what was written since the checkpoint.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use meshlog_storage::disk::{CrashPlan, Disk, DiskFile, OpenMode, SimulatedDisk};
use meshlog_storage::{Offset, Storage};

use crate::support::{Machine, append, create, entry, lines, read_all};

/// A disk that counts.
struct Counting {
    disk: SimulatedDisk,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    opens: AtomicU64,
    open_now: AtomicU64,
    open_most: AtomicU64,
    bytes_read: AtomicU64,
    writes: AtomicU64,
}

struct CountingFile {
    file: Arc<dyn DiskFile>,
    counts: Arc<Counts>,
}

impl Disk for Counting {
    fn lock(&self, directory: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.disk.lock(directory)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.disk.list(directory)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, mode)?;
        self.counts.opens.fetch_add(1, Ordering::Relaxed);
        let now = self.counts.open_now.fetch_add(1, Ordering::Relaxed) + 1;
        self.counts.open_most.fetch_max(now, Ordering::Relaxed);
        Ok(Arc::new(CountingFile { file, counts: Arc::clone(&self.counts) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.disk.sync_directory(directory)
    }
}

impl DiskFile for CountingFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        self.file.allocate(size)
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.counts.writes.fetch_add(1, Ordering::Relaxed);
        self.file.write_at(position, bytes)
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(position, buffer)?;
        self.counts.bytes_read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

impl Drop for CountingFile {
    fn drop(&mut self) {
        self.counts.open_now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Starts after a crash with so many finished files and so many appends since the checkpoint.
fn start(files: u64, since: u64) -> (Arc<Counts>, usize) {
    let mut machine = Machine::new(files);
    machine.options.file_bytes_max = machine.options.file_bytes_min;
    machine.disk.set_capacity(1 << 30);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    for tag in 0..files {
        append(&storage, entry(vec![lines(stream, tag, 1, 40_000)])).unwrap();
    }
    storage.checkpoint();
    storage.checkpoint();
    for tag in files..files + since {
        append(&storage, entry(vec![lines(stream, tag, 1, 40_000)])).unwrap();
    }
    std::mem::forget(storage);
    machine.disk = machine.disk.after_crash(CrashPlan::KeepNothing);

    let counts = Arc::new(Counts::default());
    let disk = Counting { disk: machine.disk.clone(), counts: Arc::clone(&counts) };
    let mut parts = machine.parts();
    parts.disk = Arc::new(disk);
    let storage = Storage::open_without_threads(machine.options.clone(), parts).unwrap();
    let journals = machine.disk.list(Path::new("data")).unwrap();
    let journals = journals.iter().filter(|name| name.starts_with("journal-")).count();
    let snapshot = Counts {
        opens: counts.opens.load(Ordering::Relaxed).into(),
        open_now: counts.open_now.load(Ordering::Relaxed).into(),
        open_most: counts.open_most.load(Ordering::Relaxed).into(),
        bytes_read: counts.bytes_read.load(Ordering::Relaxed).into(),
        writes: counts.writes.load(Ordering::Relaxed).into(),
    };
    assert_eq!(read_all(&storage, stream, Offset(0)).unwrap().len() as u64, files + since);
    for _ in 0..10 {
        machine.clock.advance(Duration::from_secs(10));
        storage.drive();
    }
    (Arc::new(snapshot), journals)
}

fn of(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

/// It kept every file open, twice on a real disk, and read the footer of each before it served.
#[test]
fn a_start_reads_a_header_of_each_file_and_keeps_none_open() {
    const HEADER: u64 = 8192;
    let (few, few_journals) = start(30, 3);
    let (many, many_journals) = start(330, 3);
    let more = (many_journals - few_journals) as u64;
    assert!(more >= 290, "{more} files more");
    let (opens, bytes) =
        (of(&many.opens) - of(&few.opens), of(&many.bytes_read) - of(&few.bytes_read));
    assert!(opens <= more + 3, "{opens} files opened for {more} more");
    // A header each, and its line in the two checkpoints.
    assert!(bytes <= more * (HEADER + 4 * 150), "{bytes} bytes read for {more} more files");
    assert_eq!(of(&many.writes), of(&few.writes), "nothing is written for files that are there");
    assert!(of(&many.open_most) <= 8, "{} files open at once", of(&many.open_most));
    assert!(of(&many.open_now) <= 3, "{} files stay open", of(&many.open_now));
}

#[test]
fn a_start_replays_what_came_after_the_checkpoint_once() {
    let (short, _) = start(30, 2);
    let (long, _) = start(30, 62);
    let bytes = of(&long.bytes_read) - of(&short.bytes_read);
    // Of each of the 60 files: its header twice, its groups' headers and tables, its seal.
    assert!(bytes <= 60 * 2 * (64 << 10), "{bytes} bytes read");
}
