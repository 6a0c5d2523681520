//! Where policies stand.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::invalid;
use crate::error::{Error, Result};

/// Most bytes of all policies.
const BYTES_MAX: u64 = 1 << 20;

/// The files, by name, with their text.
pub(super) fn read(path: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut bytes = 0;
    let mut read = Vec::new();
    for file in named(path)? {
        let wrong = |error: std::io::Error| unreadable(&file, &error);
        bytes += std::fs::metadata(&file).map_err(wrong)?.len();
        if bytes > BYTES_MAX {
            let what = format!("{}: they have more than {BYTES_MAX} bytes", path.display());
            return Err(invalid(&what).with("file", path.display()));
        }
        let text = std::fs::read_to_string(&file).map_err(wrong)?;
        read.push((file, text));
    }
    Ok(read)
}

/// The files: one, or those of a directory.
fn named(path: &Path) -> Result<Vec<PathBuf>> {
    let wrong = |error: std::io::Error| unreadable(path, &error);
    if !std::fs::metadata(path).map_err(wrong)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).map_err(wrong)?.collect::<std::io::Result<Vec<_>>>();
    let files = entries.map_err(wrong)?.into_iter().map(|entry| entry.path());
    let mut files: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|kind| kind == "cedar")).collect();
    files.sort();
    match files.is_empty() {
        // Whoever lost its policies has not decided to have none.
        true => Err(invalid(&format!("{}: no file in it ends in .cedar", path.display()))
            .with("directory", path.display())),
        false => Ok(files),
    }
}

/// Changes whenever a file is written, added or removed.
pub(super) fn stamps(path: &Path) -> Vec<(PathBuf, Option<SystemTime>, u64)> {
    let files = named(path).unwrap_or_default().into_iter();
    let stamped = files.map(|file| {
        let found = std::fs::metadata(&file).ok();
        let modified = found.as_ref().and_then(|found| found.modified().ok());
        (file, modified, found.map_or(0, |found| found.len()))
    });
    stamped.collect()
}

fn unreadable(file: &Path, error: &std::io::Error) -> Error {
    invalid(&format!("{}: {error}", file.display())).with("file", file.display())
}
