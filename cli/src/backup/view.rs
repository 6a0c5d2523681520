//! What people and programs are told of a backup.

use std::path::Path;

use indicatif::{HumanBytes, HumanCount};
use jiff::Timestamp;
use meshlog_broker::backup::BackupManifest;
use serde::Serialize;

use super::receive::Received;
use crate::{
    exit::Result,
    output::{Format, Out},
    words,
};

/// A backup.
#[derive(Serialize)]
pub(crate) struct BackupView {
    backup: String,
    taken: String,
    format_version: u32,
    lsn: u64,
    files: u64,
    bytes: u64,
    /// Absent unless it was just made.
    #[serde(skip_serializing_if = "Option::is_none")]
    sent_files: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent_bytes: Option<u64>,
    /// Whether every byte was compared with its checksum.
    checked: bool,
    damage: Vec<String>,
}

impl BackupView {
    /// One that is there.
    pub(crate) fn of(path: &Path, manifest: &BackupManifest, checked: bool) -> Self {
        Self {
            backup: path.display().to_string(),
            taken: taken(manifest),
            format_version: manifest.format_version,
            lsn: manifest.lsn.0,
            files: manifest.files.len() as u64,
            bytes: manifest.bytes(),
            sent_files: None,
            sent_bytes: None,
            checked,
            damage: manifest.damage.clone(),
        }
    }

    /// One that was just made; what was sent was compared on the way.
    pub(super) fn received(path: &Path, received: &Received) -> Self {
        let Received { manifest, sent_files, sent_bytes } = received;
        Self {
            sent_files: Some(*sent_files),
            sent_bytes: Some(*sent_bytes),
            ..Self::of(path, manifest, *sent_files == manifest.files.len() as u64)
        }
    }

    /// When it was taken.
    pub(crate) fn taken(&self) -> &str {
        &self.taken
    }

    /// Says it.
    pub(super) fn say(&self, format: Format, out: &mut Out) -> Result<()> {
        if !format.is_for_people() {
            return out.one(format, self);
        }
        out.line(format_args!(
            "{}: the state of {} in {} of {}",
            self.backup,
            self.taken,
            words::counted(self.files, "file"),
            HumanBytes(self.bytes)
        ))?;
        if let (Some(files), Some(bytes)) = (self.sent_files, self.sent_bytes)
            && files < self.files
        {
            let (files, bytes) = (HumanCount(files), HumanBytes(bytes));
            out.line(format_args!("fetched {files} of them, {bytes}; the others were there"))?;
        }
        if self.checked && self.sent_files.is_none() {
            out.line("every checksum fits")?;
        }
        for sentence in &self.damage {
            out.line(format_args!("damaged in it: {sentence}"))?;
        }
        Ok(())
    }
}

fn taken(manifest: &BackupManifest) -> String {
    let time = Timestamp::from_nanosecond(i128::from(manifest.taken_at.0));
    time.map_or_else(|_| "-".into(), |time| time.to_string())
}
