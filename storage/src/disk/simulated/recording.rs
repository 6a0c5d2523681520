//! What a run leaves behind: the disk before each of its calls, and the calls in words.

use std::io;

use super::SimulatedDisk;
use super::state::{Extent, Operation, State};

/// The disk as it was before one call, and the call.
#[derive(Clone)]
pub struct Moment {
    state: State,
    operation: Operation<'static>,
}

impl Moment {
    pub(super) fn before(state: &State, operation: &Operation<'_>) -> Self {
        Self { state: state.clone(), operation: operation.clone().into_owned() }
    }

    /// The disk of which power was lost during the call; `seed` decides which sectors of a write
    /// arrive. See [`SimulatedDisk::after_crash`].
    #[must_use]
    pub fn cut(&self, seed: u64) -> SimulatedDisk {
        let mut state = self.state.clone();
        drop(state.apply(&self.operation, Extent::Cut(seed)));
        let disk = SimulatedDisk::holding(state);
        disk.cut_power();
        disk
    }

    /// The call in words.
    #[must_use]
    pub fn call(&self) -> String {
        words(&self.operation)
    }
}

/// A call and its outcome.
pub(super) fn line(operation: &Operation<'_>, outcome: &io::Result<u64>) -> String {
    match outcome {
        Ok(number) => format!("{} -> {number}", words(operation)),
        Err(error) => format!("{} -> {error}", words(operation)),
    }
}

fn words(operation: &Operation<'_>) -> String {
    match operation {
        Operation::Create(path) => format!("create {}", path.display()),
        Operation::Rename(from, to) => format!("rename {} {}", from.display(), to.display()),
        Operation::Remove(path) => format!("remove {}", path.display()),
        Operation::SyncDirectory => "sync directory".to_owned(),
        Operation::Allocate(inode, size) => format!("allocate #{inode} {size}"),
        Operation::Write(inode, position, bytes) => {
            let crc = crc32fast::hash(bytes);
            format!("write #{inode} {position}+{} {crc:08x}", bytes.len())
        }
        Operation::Sync(inode) => format!("sync #{inode}"),
    }
}
