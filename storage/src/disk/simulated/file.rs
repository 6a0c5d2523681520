//! An open file of the simulated disk: the loops that the real disk has, over calls that may be
//! short or interrupted.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::fault::Fault;
use super::state::Operation;
use super::{Inner, power_lost};
use crate::disk::DiskFile;
use crate::disk::random::SeededRandom;
use crate::disk::whole::{read_whole, write_whole};

pub(super) struct SimulatedFile {
    pub(super) disk: Arc<Mutex<Inner>>,
    pub(super) number: u64,
}

/// Calls again after a signal, as the system's library does.
pub(super) fn again<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

impl DiskFile for SimulatedFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.lock().state.size(self.number))
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        again(|| disk.call(&Operation::Allocate(self.number, size))).map(drop)
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.disk.lock();
        write_whole(position, bytes, |position, part| {
            let operation = Operation::Write(self.number, position, Cow::Borrowed(part));
            disk.call(&operation).map(|written| written as usize)
        })
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut disk = self.disk.lock();
        read_whole(position, buffer, |position, part| disk.read(self.number, position, part))
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.disk.lock();
        again(|| disk.call(&Operation::Sync(self.number))).map(drop)
    }
}

impl Inner {
    /// One call that reads, which may give less than there is.
    fn read(&mut self, inode: u64, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if self.crashed {
            return power_lost();
        }
        self.reads += 1;
        let wanted = buffer.len();
        let outcome = match self.read_faults.remove(&self.reads) {
            None => self.state.read(inode, position, buffer),
            Some(Fault::Interrupted) => Err(io::ErrorKind::Interrupted.into()),
            Some(Fault::Partial) => self.state.read(inode, position, half(buffer)),
            Some(Fault::Short(kind)) => {
                self.read_faults.insert(self.reads + 1, Fault::Error(kind));
                self.state.read(inode, position, half(buffer))
            }
            Some(Fault::Slow(by)) => {
                self.pass(by);
                self.state.read(inode, position, buffer)
            }
            Some(Fault::Flipped(seed)) => {
                let read = self.state.read(inode, position, buffer)?;
                if read > 0 {
                    let bit = (SeededRandom::new(seed).next_u64() % (read as u64 * 8)) as usize;
                    buffer[bit / 8] ^= 1 << (bit % 8);
                }
                Ok(read)
            }
            Some(Fault::Error(kind) | Fault::Torn(kind, _)) => Err(kind.into()),
            Some(Fault::Stale(_) | Fault::Misdirected(_)) => {
                self.state.read(inode, position, buffer)
            }
        };
        if self.trace.is_some() {
            let line = match &outcome {
                Ok(read) => format!("read #{inode} {position}+{wanted} -> {read}"),
                Err(error) => format!("read #{inode} {position}+{wanted} -> {error}"),
            };
            self.note(&line);
        }
        outcome
    }
}

fn half(buffer: &mut [u8]) -> &mut [u8] {
    let length = buffer.len().div_ceil(2);
    &mut buffer[..length]
}
