//! Taking a backup from a broker: one task reads the stream, one thread writes.

use futures_util::StreamExt as _;
use indicatif::ProgressBar;
use meshlog_broker::backup::{BackupFile, BackupManifest, Lsn, StoredBackupFile, Timestamp};
use meshlog_client::Client;
use meshlog_client::proto::backup_response::Part;
use tokio::sync::mpsc;

use super::archive::protocol;
use super::failure;
use super::target::Target;
use crate::{
    exit::{Exit, Failure, Result},
    progress,
};

/// Parts on their way from the stream to the disk, of at most 1 MiB each.
const PARTS: usize = 4;
/// Files of an earlier backup that are named to the broker, at most.
const HAVE_MAX: usize = 50_000;

/// A backup that is whole.
pub(super) struct Received {
    pub(super) manifest: BackupManifest,
    pub(super) sent_files: u64,
    pub(super) sent_bytes: u64,
}

/// Fetches everything that the target does not have, and makes it a backup.
pub(super) async fn receive(client: &Client, target: Target) -> Result<Received> {
    let mut parts = client.backup(target.have(HAVE_MAX)).await?;
    let (sender, receiver) = mpsc::channel(PARTS);
    let bar = progress::bytes("fetched");
    let writing = tokio::task::spawn_blocking({
        let bar = bar.clone();
        move || write(target, receiver, &bar)
    });
    let mut failed = None;
    while let Some(message) = parts.next().await {
        let part = match message {
            Ok(message) => message.part,
            Err(error) => {
                failed = Some(Failure::from(error));
                break;
            }
        };
        let Some(part) = part else { continue };
        // The thread has ended: it says why.
        if sender.send(part).await.is_err() {
            break;
        }
    }
    drop(sender);
    let written = writing
        .await
        .map_err(|error| Failure::new(Exit::Error, format!("writing the backup failed: {error}")));
    bar.finish_and_clear();
    match (written?, failed) {
        (_, Some(failed)) => Err(failed),
        (written, None) => written,
    }
}

fn write(
    mut target: Target,
    mut parts: mpsc::Receiver<Part>,
    bar: &ProgressBar,
) -> Result<Received> {
    let mut received = None;
    // The file that is being sent, and how much of it is still to come.
    let mut current: Option<(BackupFile, u64)> = None;
    while let Some(part) = parts.blocking_recv() {
        let known = received.as_mut();
        match (part, known, current.take()) {
            (Part::Begin(begin), None, None) => {
                bar.set_length(begin.send_bytes);
                let time = begin.time.unwrap_or_default();
                let (seconds, nanos) = (time.seconds.max(0) as u64, time.nanos.max(0) as u64);
                target.set_time(seconds);
                let manifest = BackupManifest {
                    format_version: begin.format_version,
                    lsn: Lsn(begin.lsn),
                    taken_at: Timestamp(seconds.saturating_mul(1_000_000_000) + nanos),
                    damage: Vec::new(),
                    files: Vec::new(),
                };
                received = Some(Received { manifest, sent_files: 0, sent_bytes: 0 });
            }
            (Part::File(part), Some(known), None) => {
                let file = BackupFile::checked(part.name, part.id, part.bytes, part.size);
                let file = file.map_err(failure)?;
                if part.sent {
                    known.sent_files += 1;
                    known.sent_bytes += file.bytes;
                    target.begin(&file)?;
                    let left = file.bytes;
                    current = Some((file, left));
                } else {
                    let held = target.held(&file);
                    known.manifest.files.push(
                        held.ok_or_else(|| protocol("a file is left out that was not there"))?,
                    );
                }
            }
            (Part::Chunk(bytes), Some(_), Some((file, left))) => {
                let left = left.checked_sub(bytes.len() as u64);
                let left =
                    left.ok_or_else(|| protocol("a file is longer than it was said to be"))?;
                target.write(&bytes)?;
                bar.inc(bytes.len() as u64);
                current = Some((file, left));
            }
            (Part::FileEnd(end), Some(known), Some((file, _))) => {
                let (bytes, sha256) = target.end()?;
                if bytes != file.bytes || end.sha256[..] != sha256 {
                    return Err(Failure::new(
                        Exit::Error,
                        format!("{} arrived changed: begin the backup again", file.name),
                    ));
                }
                known.manifest.files.push(StoredBackupFile { file, sha256 });
            }
            (Part::End(end), Some(_), None) => {
                let Some(mut whole) = received.take() else { break };
                whole.manifest.damage = end.damage;
                target.commit(&whole.manifest)?;
                return Ok(whole);
            }
            _ => return Err(protocol("its parts are out of order")),
        }
    }
    Err(Failure::new(
        Exit::Unavailable,
        "the broker ended the backup before it was whole: begin it again",
    ))
}
