//! `meshlog restore`: a data directory made of a backup.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use indicatif::{HumanCount, ProgressBar};
use meshlog_broker::backup::{BackupManifest, OsDisk, Restore as Restoring};
use meshlog_broker::verify::VerifyReport;
use serde::Serialize;

use crate::{
    backup::{self, ArchiveReader, BackupView, Member, failure},
    exit::{Exit, Failure, Result},
    output::{Out, OutputArgs},
    progress,
};

/// Arguments of `restore`.
#[derive(Debug, Args)]
#[command(
    before_help = "Examples:
  meshlog restore monday.tar.zst --to ./data
  meshlog restore /mnt/backup/meshlog --to /var/lib/meshlog -o json
  meshlog serve --data-dir ./data",
    after_help = "Every checksum is compared and the directory verified before it can be opened. A backup that is
not whole leaves nothing behind. Ends with 8 if the backup is damaged and nothing was restored, or
if it was restored and something in it was damaged before it was made; the message says which."
)]
pub(crate) struct Restore {
    /// The backup: a file or a directory
    #[arg(value_name = "FROM")]
    from: PathBuf,
    /// The data directory to make; it must be empty or not exist
    #[arg(long, value_name = "DATA_DIR")]
    to: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

impl Restore {
    /// Runs the command.
    pub(crate) fn run(&self, out: &mut Out) -> Result<()> {
        let existed = self.to.exists();
        let restored = self.restore();
        if restored.is_err() && !existed {
            remove_empty(&self.to);
        }
        let (manifest, report) = restored?;
        let view = View::new(&self.from, &self.to, &manifest, &report);
        if self.output.output.is_for_people() {
            out.line(format_args!(
                "{}: {} records of {} streams, the state of {}; every checksum fits",
                view.directory,
                HumanCount(view.records),
                HumanCount(view.streams),
                view.backup.taken(),
            ))?;
            out.line(format_args!("start it with: meshlog serve --data-dir {}", view.directory))?;
        } else {
            out.one(self.output.output, &view)?;
        }
        if view.clean {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Corruption,
            format!(
                "{0} is restored as it was backed up, but something in it was damaged before: run \
                 `meshlog verify {0}` to see what, or use an older backup",
                self.to.display()
            ),
        ))
    }

    fn restore(&self) -> Result<(BackupManifest, VerifyReport)> {
        let disk = Arc::new(OsDisk::default());
        let bar = progress::bytes("restored");
        if self.from.is_dir() {
            let folder = backup::open_folder(&self.from)?;
            let manifest = folder.manifest().ok_or_else(|| backup::no_backup(&self.from))?;
            bar.set_length(manifest.bytes());
            let mut restoring = Restoring::begin(&self.to, disk).map_err(failure)?;
            for stored in &manifest.files {
                let mut source = folder.read(stored).map_err(failure)?;
                let mut counted = bar.wrap_read(&mut source);
                restoring.add(&stored.file.name, &mut counted).map_err(failure)?;
            }
            let report = finish(restoring, manifest, &bar)?;
            return Ok((manifest.clone(), report));
        }
        let archive = ArchiveReader::open(&self.from)?;
        let mut restoring = Some(Restoring::begin(&self.to, disk).map_err(failure)?);
        let mut manifest = None;
        archive.for_each(|member| {
            match (member, &mut restoring) {
                (Member::File(name, source), Some(restoring)) => {
                    let mut counted = bar.wrap_read(source);
                    restoring.add(name, &mut counted).map_err(failure)?;
                }
                (Member::Manifest(found), _) => manifest = Some(found),
                (Member::File(..), None) => {}
            }
            Ok(())
        })?;
        let (Some(manifest), Some(restoring)) = (manifest, restoring) else {
            return Err(backup::no_backup(&self.from));
        };
        let report = finish(restoring, &manifest, &bar)?;
        Ok((manifest, report))
    }
}

fn finish(
    restoring: Restoring,
    manifest: &BackupManifest,
    bar: &ProgressBar,
) -> Result<VerifyReport> {
    bar.reset();
    bar.set_message("verified");
    let report = restoring.finish(manifest, &mut |at| {
        bar.set_length(at.total);
        bar.set_position(at.done);
    });
    bar.finish_and_clear();
    report.map_err(failure)
}

/// Removes a directory that nobody had before and that nothing was restored into.
fn remove_empty(directory: &Path) {
    let removed = std::fs::remove_file(directory.join("meshlog.lock"));
    if matches!(removed, Err(error) if error.kind() != io::ErrorKind::NotFound) {
        return;
    }
    // One that is not empty stays.
    let _ = std::fs::remove_dir(directory);
}

#[derive(Serialize)]
struct View {
    directory: String,
    clean: bool,
    records: u64,
    streams: u64,
    backup: BackupView,
}

impl View {
    fn new(from: &Path, to: &Path, manifest: &BackupManifest, report: &VerifyReport) -> Self {
        Self {
            directory: to.display().to_string(),
            clean: report.is_clean() && manifest.damage.is_empty(),
            records: report.files.iter().map(|file| file.records).sum(),
            streams: report.streams,
            backup: BackupView::of(from, manifest, true),
        }
    }
}
