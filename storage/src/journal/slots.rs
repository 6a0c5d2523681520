//! Slots: the files on disk that journal files live in, one after another.
//!
//! A slot keeps its name and its blocks for ever; which journal file it holds is what its header
//! says. Overwriting written blocks makes small synced writes about twice as fast as extending a
//! file, so slots are recycled, and new ones are written with zeros in the background when the
//! load is small writes. One free slot is the reserve: when the disk is full, control work goes
//! on in it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::MmapMut;

use crate::disk::{Disk, DiskFile, OpenMode};
use crate::sabotage::barrier;

/// One slot nobody else uses.
#[derive(Clone)]
pub(crate) struct Slot {
    pub(crate) number: u32,
    pub(crate) size: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    /// All of its blocks were written before, so overwriting needs no file-system journal.
    pub(crate) is_written: bool,
    /// It never held a file, or was overwritten with zeros since.
    pub(crate) is_blank: bool,
}

/// A slot that nobody has open: there may be thousands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlotOnDisk {
    pub(crate) number: u32,
    pub(crate) size: u64,
    /// As [`Slot::is_written`].
    pub(crate) is_written: bool,
    /// As [`Slot::is_blank`].
    pub(crate) is_blank: bool,
}

/// The free slots.
pub(crate) struct Slots {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    next_number: u32,
    free: Vec<SlotOnDisk>,
    /// Slots given back are removed: what is in them must go.
    is_erasing: bool,
}

/// The path of a slot.
pub(crate) fn slot_path(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("journal-{number:06}"))
}

/// The number in a slot's name.
pub(crate) fn slot_number(name: &str) -> Option<u32> {
    name.strip_prefix("journal-").filter(|digits| digits.len() == 6)?.parse().ok()
}

impl Slots {
    pub(crate) fn new(disk: Arc<dyn Disk>, directory: PathBuf, next_number: u32) -> Self {
        Self { disk, directory, next_number, free: Vec::new(), is_erasing: false }
    }

    /// A slot for data, never the last free one.
    pub(crate) fn take(&mut self, size: u64) -> io::Result<Slot> {
        let surplus = self.free.len() > 1;
        match self.free.iter().position(|slot| slot.size >= size) {
            Some(index) if surplus => self.open(index),
            _ => self.create(size),
        }
    }

    /// The reserve, for control work on a full disk.
    pub(crate) fn take_reserve(&mut self, size: u64) -> io::Result<Option<Slot>> {
        let index = self.free.iter().position(|slot| slot.size >= size);
        index.map(|index| self.open(index)).transpose()
    }

    fn open(&mut self, index: usize) -> io::Result<Slot> {
        let SlotOnDisk { number, size, is_written, is_blank } = self.free[index];
        let path = slot_path(&self.directory, number);
        let file = self.disk.open(&path, OpenMode::Existing)?;
        self.free.swap_remove(index);
        Ok(Slot { number, size, file, is_written, is_blank })
    }

    /// Makes sure one free slot of this size is there; answers whether it is.
    pub(crate) fn keep_reserve(&mut self, size: u64) -> io::Result<()> {
        if !self.free.iter().any(|slot| slot.size >= size) {
            let slot = self.create(size)?;
            self.free.push(slot.on_disk());
        }
        // Smaller ones are of no use once the files have grown.
        while self.free.len() > 1
            && let Some(index) = self.free.iter().position(|slot| slot.size < size)
        {
            let slot = self.free.swap_remove(index);
            self.disk.remove(&slot_path(&self.directory, slot.number))?;
        }
        Ok(())
    }

    /// Removes one free slot beside the reserve; answers whether there was one.
    pub(crate) fn give_up_surplus(&mut self) -> io::Result<bool> {
        if self.free.len() < 2 {
            return Ok(false);
        }
        let slot = self.free.swap_remove(0);
        self.disk.remove(&slot_path(&self.directory, slot.number))?;
        Ok(true)
    }

    /// Takes a slot back whose journal file is no longer needed.
    pub(crate) fn give_back(&mut self, slot: SlotOnDisk, keep: usize) -> io::Result<()> {
        if self.free.len() < keep && !self.is_erasing {
            self.free.push(SlotOnDisk { is_blank: false, ..slot });
            return Ok(());
        }
        self.disk.remove(&slot_path(&self.directory, slot.number))
    }

    /// While it is set, slots given back are removed.
    pub(crate) fn set_erasing(&mut self, is_erasing: bool) {
        self.is_erasing = is_erasing;
    }

    /// A free slot that still holds what was in it.
    pub(crate) fn take_used(&mut self) -> io::Result<Option<Slot>> {
        let index = self.free.iter().position(|slot| !slot.is_blank);
        index.map(|index| self.open(index)).transpose()
    }

    /// Puts a free slot back that was taken for a moment.
    pub(crate) fn put(&mut self, slot: Slot) {
        self.free.push(slot.on_disk());
    }

    /// A new slot.
    pub(crate) fn create(&mut self, size: u64) -> io::Result<Slot> {
        let number = self.next_number;
        self.next_number += 1;
        let path = slot_path(&self.directory, number);
        let file = self.disk.open(&path, OpenMode::CreateNew)?;
        if let Err(error) = file.allocate(size) {
            drop(file);
            // Best effort: what stays behind is a slot without a header, free after a restart.
            drop(self.disk.remove(&path));
            return Err(error);
        }
        // The size must be durable before a group in it is acknowledged.
        barrier("the sync of a new file", || file.sync())?;
        barrier("the sync of a new file's name", || self.disk.sync_directory(&self.directory))?;
        Ok(Slot { number, size, file, is_written: self.disk.is_memory(), is_blank: true })
    }
}

impl Slot {
    fn on_disk(&self) -> SlotOnDisk {
        let Self { number, size, is_written, is_blank, .. } = *self;
        SlotOnDisk { number, size, is_written, is_blank }
    }

    /// Writes zeros over all blocks, so that later writes overwrite.
    pub(crate) fn write_blocks(&mut self) -> io::Result<()> {
        if self.is_written {
            return Ok(());
        }
        self.zero()
    }

    /// Writes zeros over everything, whatever was there.
    pub(crate) fn zero(&mut self) -> io::Result<()> {
        write_zeros(self.file.as_ref(), 0, self.size)?;
        barrier("the sync of zeros", || self.file.sync())?;
        (self.is_written, self.is_blank) = (true, true);
        Ok(())
    }
}

/// Writes zeros over a part of a file.
pub(crate) fn write_zeros(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    let zeros = MmapMut::map_anon(1 << 20)?;
    let mut position = from;
    while position < to {
        let length = zeros.len().min(usize::try_from(to - position).unwrap_or(usize::MAX));
        file.write_at(position, &zeros[..length])?;
        position += length as u64;
    }
    Ok(())
}
