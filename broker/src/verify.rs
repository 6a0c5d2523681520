//! Checking a data directory that no broker has open, in the words of the catalogue.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use meshlog_storage::disk::{Disk, ReadOnlyDisk};

pub use meshlog_storage::{
    CheckedFile, FileKind, Problem, Standing, StreamId, VerifyProgress, VerifyReport,
};

use crate::catalogue;
use crate::error::{Error, Result};

/// What a verification found, and which partitions its streams are.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Files and problems.
    pub report: VerifyReport,
    /// The streams that the catalogue names.
    pub places: BTreeMap<StreamId, Place>,
}

/// One partition of a product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The product's name.
    pub product: String,
    /// From 0.
    pub partition: u32,
}

/// Reads and checks every byte of a data directory, and changes nothing. Blocks for as long as
/// reading the directory takes.
///
/// # Errors
/// `DIRECTORY_UNAVAILABLE` if a broker has the directory open, if it is not a data directory, or
/// of another version; `INTERNAL` if it cannot be read. Damage is no error: it is in the report.
pub fn verify(directory: &Path, progress: &mut dyn FnMut(VerifyProgress)) -> Result<Verified> {
    let disk: Arc<dyn Disk> = Arc::new(ReadOnlyDisk);
    let mut report = meshlog_storage::verify(directory, &disk, progress)
        .map_err(|error| Error::from(error).with("directory", directory.display()))?;
    let places = catalogue::places(std::mem::take(&mut report.state));
    Ok(Verified { report, places })
}

/// Whether a broker could open a directory, told without opening it.
///
/// # Errors
/// `DIRECTORY_UNAVAILABLE` if it holds something else or is of another version; `INTERNAL` if it
/// cannot be read.
pub fn standing(directory: &Path) -> Result<Standing> {
    meshlog_storage::standing(directory, &ReadOnlyDisk)
        .map_err(|error| Error::from(error).with("directory", directory.display()))
}
