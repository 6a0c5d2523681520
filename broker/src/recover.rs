//! Making a directory openable again that lost all its checkpoints.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use meshlog_storage::disk::{Disk, OsDisk, ReadOnlyDisk};

pub use meshlog_storage::{FileSequence, Salvage, SalvagedStream};

use crate::catalogue;
use crate::error::{Error, Result};
use crate::verify::{Place, StreamId};

/// What is left, and which partitions its streams are.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Files, streams and what may be undone.
    pub report: Salvage,
    /// The streams that the catalogue names, as far as that is left.
    pub places: BTreeMap<StreamId, Place>,
}

/// Reads everything that is left of a data directory without a whole checkpoint, and writes one
/// from it if `write`. Blocks for as long as reading the directory takes.
///
/// # Errors
/// `DIRECTORY_UNAVAILABLE` if a broker has the directory open, if it is not a data directory, or
/// of another version; `DATA_LOSS` if nothing is left to go on from; `INTERNAL` if it cannot be
/// read or written.
pub fn recover(directory: &Path, write: bool) -> Result<Recovered> {
    let disk: Arc<dyn Disk> =
        if write { Arc::new(OsDisk::default()) } else { Arc::new(ReadOnlyDisk) };
    let mut report = meshlog_storage::recover(directory, &disk, write)
        .map_err(|error| Error::from(error).with("directory", directory.display()))?;
    let places = catalogue::places(std::mem::take(&mut report.state));
    Ok(Recovered { report, places })
}
