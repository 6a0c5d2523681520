//! `meshlog backup`: everything a broker holds, as one file or in a directory.

mod archive;
mod receive;
mod target;
mod view;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use meshlog_broker::backup::{BackupFolder, ReadOnlyDisk};

pub(crate) use archive::{ArchiveReader, Member};
pub(crate) use view::BackupView;

use crate::{
    exit::{Exit, Failure, Result},
    output::{Out, OutputArgs},
    settings::ServerArgs,
};

/// Arguments of `backup`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    before_help = "Examples:
  meshlog backup --to monday.tar.zst
  meshlog backup --to /mnt/backup/meshlog
  meshlog backup show /mnt/backup/meshlog
  meshlog restore monday.tar.zst --to ./data",
    after_help = "Appends go on meanwhile. What was acknowledged before the command began is in the backup. A crash at
any moment leaves the backup that was there before, or the new one. Ends with 8 if the backup was
made and something in it is damaged."
)]
pub(crate) struct Backup {
    /// Where to: a file that ends in .tar.zst, or a directory
    #[arg(long, value_name = "FILE.tar.zst|DIR", required = true)]
    to: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(subcommand)]
    command: Option<BackupCommand>,
}

#[derive(Debug, Subcommand)]
enum BackupCommand {
    /// Say what a backup holds
    #[command(before_help = "Examples:
  meshlog backup show monday.tar.zst
  meshlog backup show /mnt/backup/meshlog --check -o json")]
    Show(Show),
}

/// Arguments of `backup show`.
#[derive(Debug, Args)]
struct Show {
    /// The backup: a file or a directory
    #[arg(value_name = "FROM")]
    from: PathBuf,
    /// Read every byte and compare checksums; a file is always read whole
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl Backup {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        if let Some(BackupCommand::Show(show)) = self.command {
            return show.run(out);
        }
        let Some(to) = self.to else { return Err(Failure::usage("say where with --to")) };
        let target = target::Target::open(&to)?;
        let client = self.server.connect().await?;
        let received = receive::receive(&client, target).await?;
        let view = BackupView::received(&to, &received);
        view.say(self.output.output, out)?;
        match received.manifest.damage.as_slice() {
            [] => Ok(()),
            [damage, ..] => Err(Failure::new(
                Exit::Corruption,
                format!(
                    "the backup is made, but something in it is damaged: {damage}; look at the \
                     broker's disk, and keep older backups until you know what is lost"
                ),
            )),
        }
    }
}

impl Show {
    fn run(&self, out: &mut Out) -> Result<()> {
        let view = if self.from.is_dir() {
            let folder = open_folder(&self.from)?;
            let Some(manifest) = folder.manifest() else { return Err(no_backup(&self.from)) };
            if self.check {
                for stored in &manifest.files {
                    archive::check(stored, &mut folder.read(stored).map_err(failure)?)?;
                }
            }
            BackupView::of(&self.from, manifest, self.check)
        } else {
            let manifest = ArchiveReader::open(&self.from)?.check_all()?;
            BackupView::of(&self.from, &manifest, true)
        };
        view.say(self.output.output, out)
    }
}

/// A backup in a directory, for reading only.
pub(crate) fn open_folder(directory: &Path) -> Result<BackupFolder> {
    BackupFolder::existing(directory, Arc::new(ReadOnlyDisk)).map_err(failure)
}

/// An error of the engine, with the exit code that its kind has everywhere.
pub(crate) fn failure(error: meshlog_broker::backup::StorageError) -> Failure {
    Failure::from(meshlog_broker::Error::from(error))
}

pub(crate) fn no_backup(path: &Path) -> Failure {
    Failure::new(Exit::Error, format!("{} holds no backup", path.display()))
}
