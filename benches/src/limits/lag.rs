//! The journal's own write pattern while one reader follows at a distance.
//!
//! ```text
//!  file 0   file 1   file 2   ...  file n-1        recycled in turn, all blocks written before
//!     └────────── reader ◄── distance ──► writer    one group: write, sync, publish; then the next
//! ```

use std::{
    fs::File,
    io,
    path::Path,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use memmap2::MmapMut;
use rustix::fs::{Advice, fadvise};

use crate::{
    limits::{
        MIB,
        disk::{Pattern, WriteMode, open, write_durably},
    },
    load::thread_cpu,
};

/// Where the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Nobody reads.
    None,
    /// At the tail: copies what was just written out of memory, as the ring serves it.
    Tail,
    /// This many bytes behind, reading from the files; with a page cache, they are in it.
    Behind(u64),
    /// This many bytes behind, and the page cache no longer has them.
    BehindUncached(u64),
}

/// Journal files recycled in turn.
#[derive(Debug)]
pub struct JournalRing {
    buffered: Vec<File>,
    direct: Vec<File>,
    file_bytes: u64,
    at: u64,
}

/// What one run gave.
#[derive(Clone, Copy, Debug)]
pub struct LagSample {
    /// Durable GB/s written.
    pub written: f64,
    /// GB/s read; zero without a reader.
    pub read: f64,
    /// Longest single write + sync, in milliseconds.
    pub worst_write: f64,
    /// Cores used by writer and reader together.
    pub cores: f64,
}

/// Bytes of one read: the broker's cache chunk.
const CHUNK: usize = MIB;

impl JournalRing {
    /// Creates `files` files of `file_bytes`, a multiple of 8 MiB, in `dir`, all written once.
    ///
    /// # Errors
    /// When they cannot be created or filled, or the file system refuses `O_DIRECT`.
    pub fn create(dir: &Path, files: usize, file_bytes: u64) -> io::Result<Self> {
        let names = || (0..files).map(|number| dir.join(format!("journal-{number}")));
        let buffered =
            names().map(|name| open(&name, WriteMode::Buffered)).collect::<Result<_, _>>()?;
        let direct =
            names().map(|name| open(&name, WriteMode::Direct)).collect::<Result<_, _>>()?;
        let mut ring = Self { buffered, direct, file_bytes, at: 0 };
        let pattern = Pattern::new(8 * MIB)?;
        ring.turn_over(WriteMode::Direct, &pattern)?;
        for file in &ring.buffered {
            file.sync_all()?;
        }
        Ok(ring)
    }

    /// Bytes of all files together.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.file_bytes * self.buffered.len() as u64
    }

    /// Overwrites every file once in a mode, which also decides what the page cache holds of them.
    ///
    /// # Errors
    /// When a write or a sync fails.
    pub fn turn_over(&mut self, mode: WriteMode, pattern: &Pattern) -> io::Result<()> {
        let group = pattern.bytes(8 * MIB);
        self.at = self.at.next_multiple_of(group.len() as u64);
        for _ in 0..self.capacity() / group.len() as u64 {
            let (file, at) = self.locate(mode == WriteMode::Direct, self.at);
            write_durably(file, mode, group, at)?;
            self.at += group.len() as u64;
        }
        Ok(())
    }

    /// Writes groups of `size` bytes for `limit` while a reader keeps its distance as well as it can.
    ///
    /// `direct_reads` reads past the page cache. Before it starts, the ring must have been turned over in `mode`.
    ///
    /// # Errors
    /// When a read, a write or a sync fails.
    pub fn measure(
        &mut self,
        mode: WriteMode,
        size: usize,
        reader: Reader,
        direct_reads: bool,
        pattern: &Pattern,
        limit: Duration,
    ) -> io::Result<LagSample> {
        let start = self.at.next_multiple_of(size as u64);
        let tail = Durable::at(start);
        let ring = &*self;
        let began = Instant::now();
        let (written, worst, cpu, read) = thread::scope(|scope| {
            let reading = scope.spawn(|| ring.follow(&tail, start, reader, direct_reads, pattern));
            let cpu = thread_cpu();
            let mut worst = Duration::ZERO;
            let mut at = start;
            let mut result = Ok(());
            while began.elapsed() < limit && result.is_ok() {
                let before = Instant::now();
                let (file, offset) = ring.locate(mode == WriteMode::Direct, at);
                result = write_durably(file, mode, pattern.bytes(size), offset);
                worst = worst.max(before.elapsed());
                at += size as u64;
                tail.publish(at);
            }
            let cpu = thread_cpu().saturating_sub(cpu);
            tail.finish();
            let read = reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result.and(read).map(|read| (at - start, worst, cpu, read))
        })?;
        let seconds = began.elapsed().as_secs_f64();
        self.at = start + written;
        Ok(LagSample {
            written: written as f64 / 1e9 / seconds,
            read: read.bytes as f64 / 1e9 / seconds,
            worst_write: worst.as_secs_f64() * 1e3,
            cores: (cpu + read.cpu).as_secs_f64() / seconds,
        })
    }

    fn follow(
        &self,
        tail: &Durable,
        start: u64,
        reader: Reader,
        direct: bool,
        pattern: &Pattern,
    ) -> io::Result<Followed> {
        let (distance, uncached) = match reader {
            Reader::None => return Ok(Followed::default()),
            Reader::Tail => (0, false),
            Reader::Behind(distance) => (distance, false),
            Reader::BehindUncached(distance) => (distance, true),
        };
        let cpu = thread_cpu();
        let mut chunk = MmapMut::map_anon(CHUNK)?;
        let mut bytes = 0;
        let mut dropped = None;
        // Positions start at a whole turn of the ring, so going back by less than a turn stays positive.
        let mut at = (start - distance).next_multiple_of(CHUNK as u64);
        while let Some(end) = tail.past(at + CHUNK as u64 + distance) {
            // About to be overtaken: the blocks ahead of the writer are the oldest ones.
            if end - at > self.capacity() - 2 * self.file_bytes {
                at = (end - distance - CHUNK as u64).next_multiple_of(CHUNK as u64);
            }
            if reader == Reader::Tail {
                chunk.copy_from_slice(pattern.bytes(CHUNK));
            } else {
                let (file, offset) = self.locate(direct, at);
                // Whole files only: the cache keeps a large folio of which just a part is given up.
                if uncached && !direct && dropped != Some(at / self.file_bytes) {
                    dropped = Some(at / self.file_bytes);
                    fadvise(file, 0, None, Advice::DontNeed)?;
                }
                rustix::io::pread(file, &mut chunk[..], offset)?;
            }
            at += CHUNK as u64;
            bytes += CHUNK as u64;
        }
        Ok(Followed { bytes, cpu: thread_cpu().saturating_sub(cpu) })
    }

    fn locate(&self, direct: bool, at: u64) -> (&File, u64) {
        let files = if direct { &self.direct } else { &self.buffered };
        let number = at / self.file_bytes % files.len() as u64;
        (&files[usize::try_from(number).unwrap_or(0)], at % self.file_bytes)
    }
}

#[derive(Clone, Copy, Default)]
struct Followed {
    bytes: u64,
    cpu: Duration,
}

/// The durable end, and a way to wait for it.
struct Durable {
    end: AtomicU64,
    finished: AtomicBool,
    lock: Mutex<()>,
    risen: Condvar,
}

impl Durable {
    fn at(end: u64) -> Self {
        Self {
            end: AtomicU64::new(end),
            finished: AtomicBool::new(false),
            lock: Mutex::new(()),
            risen: Condvar::new(),
        }
    }

    fn publish(&self, end: u64) {
        self.end.store(end, Ordering::Release);
        let _lock = self.lock();
        self.risen.notify_one();
    }

    fn finish(&self) {
        self.finished.store(true, Ordering::Release);
        let _lock = self.lock();
        self.risen.notify_one();
    }

    /// Waits until the end is at least `position`; `None` once the writer has finished.
    fn past(&self, position: u64) -> Option<u64> {
        let reached = || {
            let end = self.end.load(Ordering::Acquire);
            (end >= position).then_some(end)
        };
        let finished = || self.finished.load(Ordering::Acquire);
        if !finished() && reached().is_some() {
            return reached();
        }
        let mut lock = self.lock();
        loop {
            if finished() {
                return None;
            }
            if let Some(end) = reached() {
                return Some(end);
            }
            lock = self.risen.wait(lock).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
