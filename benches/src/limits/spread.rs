//! One commit in one file, or spread over a file for each partition.

use std::{
    fs::File,
    io,
    path::Path,
    time::{Duration, Instant},
};

use memmap2::MmapMut;
use rustix::fs::{fdatasync, syncfs};

use crate::{
    limits::disk::{DiskSample, Pattern, WriteMode, open, write_durably},
    load::thread_cpu,
};

/// How the files of one commit are made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncWith {
    /// One fdatasync for each file, after all writes.
    EachFile,
    /// One syncfs for the whole file system, after all writes.
    FileSystem,
}

/// N files that take an equal share of every commit. Their blocks are written beforehand, or they grow.
#[derive(Debug)]
pub struct Files {
    files: Vec<File>,
    share: usize,
    capacity: u64,
    at: u64,
}

impl Files {
    /// Creates `count` files in `dir`; each takes `share` bytes of a commit, `commits` times, and starts over.
    /// With `written`, all their blocks have been written before; without, they grow until the first end.
    ///
    /// # Errors
    /// When a file cannot be created or filled.
    pub fn create(
        dir: &Path,
        count: usize,
        share: usize,
        commits: usize,
        written: bool,
    ) -> io::Result<Self> {
        let capacity = (share * commits) as u64;
        let zeros = MmapMut::map_anon(share * commits)?;
        let mut files = Vec::with_capacity(count);
        for number in 0..count {
            let file = open(&dir.join(format!("{number}")), WriteMode::Buffered)?;
            if written {
                write_durably(&file, WriteMode::Buffered, &zeros, 0)?;
            }
            file.sync_all()?;
            files.push(file);
        }
        File::open(dir)?.sync_all()?;
        Ok(Self { files, share, capacity, at: 0 })
    }

    /// Commits for `limit`: every file takes its share, then all are synced. Stops at the end of growing files.
    ///
    /// # Errors
    /// When a write or a sync fails.
    pub fn measure(
        &mut self,
        pattern: &Pattern,
        sync: SyncWith,
        grows: bool,
        limit: Duration,
    ) -> io::Result<DiskSample> {
        let bytes = pattern.bytes(self.share);
        let cpu = thread_cpu();
        let began = Instant::now();
        let mut writes = 0;
        while began.elapsed() < limit {
            if self.at == self.capacity {
                if grows {
                    break;
                }
                self.at = 0;
            }
            for file in &self.files {
                rustix::io::pwrite(file, bytes, self.at)?;
            }
            match sync {
                SyncWith::EachFile => {
                    for file in &self.files {
                        fdatasync(file)?;
                    }
                }
                SyncWith::FileSystem => syncfs(&self.files[0])?,
            }
            self.at += self.share as u64;
            writes += 1;
        }
        let elapsed = began.elapsed();
        let size = self.share * self.files.len();
        Ok(DiskSample { writes, size, elapsed, cpu: thread_cpu().saturating_sub(cpu) })
    }
}
