//! A backup on its way to a client, and what is made of it on the client's disk.
//!
//! ```text
//! begin ─► file ─► chunk … ─► file_end ─► file (the client has it) ─► … ─► end
//! ```
//!
//! The client reads at its own pace; nothing is read ahead. What it keeps pinned is bounded: two
//! backups at once, each of which ends when its client takes nothing for five minutes, or takes
//! longer than a day altogether. Together they read no faster than their rate, so that those who
//! append and read keep the rest of the disk.

mod rate;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use meshlog_proto::v1::{self, backup_response::Part};
use meshlog_storage::{BackupPins, BackupPoint, ErrorKind};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use meshlog_storage::disk::{Disk, OsDisk, ReadOnlyDisk};
pub use meshlog_storage::{
    BackupFile, BackupFolder, BackupManifest, BackupReader, BackupWriter, Error as StorageError,
    Lsn, MANIFEST_NAME, Restore, StoredBackupFile, Timestamp,
};

use crate::access::{Recheck, Resource, Rpc};
use crate::broker::Broker;
use crate::caller::Caller;
use crate::error::{Error, Reason, Result};
use crate::time::proto_time;
use rate::Rate;

/// Bytes of a file in one message.
const CHUNK_BYTES: usize = 1 << 20;
/// Backups under way.
const AT_ONCE: usize = 2;
/// Sentences about damage in the last message, which must not get too large for a client.
const DAMAGE_MAX: usize = 1_000;
/// Files that a caller may say it has.
const HAVE_MAX: usize = 50_000;

/// What bounds the backups under way.
#[derive(Debug)]
pub(crate) struct Backups {
    seats: Arc<Semaphore>,
    rate: Arc<Rate>,
}

impl Backups {
    /// Which together read so many bytes a second; 0: as many as they can.
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        let seats = Arc::new(Semaphore::new(AT_ONCE));
        Self { seats, rate: Arc::new(Rate::new(bytes_per_second)) }
    }
}

/// How long a backup may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Between two messages that the client takes.
    pub(crate) stall: Duration,
    /// From its beginning.
    pub(crate) whole: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { stall: Duration::from_secs(5 * 60), whole: Duration::from_secs(24 * 60 * 60) }
    }
}

/// A backup under way. Dropping it lets go of everything that is kept for it.
pub struct Backup {
    point: Arc<BackupPoint>,
    have: HashSet<String>,
    next: Next,
    damage: Vec<String>,
    patience: Watch,
    rate: Arc<Rate>,
    stop: CancellationToken,
    closing: CancellationToken,
    /// Whether whoever takes it still may.
    access: Option<Recheck>,
    _seat: OwnedSemaphorePermit,
}

impl fmt::Debug for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backup").field("point", &self.point).finish_non_exhaustive()
    }
}

/// What the client gets next.
enum Next {
    Begin,
    File(usize),
    Chunk(usize, Box<BackupReader>),
    Ended,
}

impl Broker {
    /// Begins a backup: everything acknowledged before the call, as one consistent point in time.
    /// The audit log says who took it.
    ///
    /// # Errors
    /// `OVERLOADED` if others are under way, `INVALID_ARGUMENT`, `SHUTTING_DOWN`.
    pub async fn backup(&self, caller: &Caller, request: v1::BackupRequest) -> Result<Backup> {
        self.catalogue().allow(caller, Rpc::Backup, Resource::Broker)?;
        let mut backup = self.backup_with(caller, request, Patience::default()).await?;
        backup.access = Some(Recheck::new(self.catalogue(), caller, Rpc::Backup, None));
        Ok(backup)
    }

    pub(crate) async fn backup_with(
        &self,
        caller: &Caller,
        request: v1::BackupRequest,
        patience: Patience,
    ) -> Result<Backup> {
        self.refuse_if_closing()?;
        if request.have.len() > HAVE_MAX {
            return Err(Error::new(
                Reason::InvalidArgument,
                format!("`have` lists more than {HAVE_MAX} files; leave the others out"),
            )
            .with("field", "have"));
        }
        let seat = Arc::clone(&self.backups().seats).try_acquire_owned().map_err(|_| {
            Error::new(
                Reason::Overloaded,
                format!("{AT_ONCE} backups are under way already; begin when one of them is done"),
            )
            .with("retry_after_ms", 10_000)
        })?;
        let storage = self.storage().clone();
        let point = blocking(move || storage.backup()).await??;
        // Before the first byte leaves; the backup itself ends before this record.
        self.tell_audit(caller, "backup", "").await?;
        tracing::info!(caller = caller.principal(), "a backup begins");
        let have: HashSet<String> = request.have.into_iter().collect();
        for (index, file) in point.files().iter().enumerate() {
            if have.contains(&file.id) {
                point.skip(index);
            }
        }
        let damage = point.damage().to_vec();
        Ok(Backup {
            patience: Watch::begin(point.pins(), patience),
            point: Arc::new(point),
            have,
            next: Next::Begin,
            damage,
            rate: Arc::clone(&self.backups().rate),
            stop: CancellationToken::new(),
            closing: self.closing().clone(),
            access: None,
            _seat: seat,
        })
    }
}

impl Backup {
    /// The same backup, which also ends, with `SHUTTING_DOWN`, when `stop` is cancelled.
    #[cfg(feature = "edge")]
    pub(crate) fn until(mut self, stop: CancellationToken) -> Self {
        self.stop = stop;
        self
    }

    /// The next part; `None` after the last one or an error.
    ///
    /// # Errors
    /// `BACKUP_EXPIRED` if the client was too slow, `DISK_FULL` if the space that it kept is
    /// needed, `SHUTTING_DOWN`. Damage is no error: it stands in `end`.
    pub async fn next(&mut self) -> Option<Result<v1::BackupResponse>> {
        if matches!(self.next, Next::Ended) {
            return None;
        }
        if self.stop.is_cancelled() || self.closing.is_cancelled() {
            self.next = Next::Ended;
            return Some(Err(Error::shutting_down()));
        }
        if let Some(Err(error)) = self.access.as_mut().map(Recheck::check) {
            self.next = Next::Ended;
            return Some(Err(error));
        }
        self.patience.note();
        let part = self.part().await;
        if part.is_err() {
            self.next = Next::Ended;
        }
        Some(part.map(|part| v1::BackupResponse { part: Some(part) }))
    }

    async fn part(&mut self) -> Result<Part> {
        match std::mem::replace(&mut self.next, Next::Ended) {
            Next::Begin => {
                self.next = Next::File(0);
                Ok(Part::Begin(self.begin()))
            }
            Next::File(index) => self.file(index).await,
            Next::Chunk(index, mut reader) => {
                self.rate.take(CHUNK_BYTES as u64).await;
                let read = blocking(move || {
                    let chunk = reader.next(CHUNK_BYTES);
                    (reader, chunk)
                });
                let (reader, chunk) = read.await?;
                match chunk.map_err(|error| self.explain(error))? {
                    Some(bytes) => {
                        self.next = Next::Chunk(index, reader);
                        Ok(Part::Chunk(bytes))
                    }
                    None => {
                        let read = reader.finish();
                        self.damage.extend(read.damage);
                        self.next = Next::File(index + 1);
                        let sha256 = read.sha256.to_vec().into();
                        Ok(Part::FileEnd(v1::BackupFileEnd { sha256 }))
                    }
                }
            }
            // The caller asks no more after the end.
            Next::Ended => Ok(Part::End(v1::BackupEnd::default())),
        }
    }

    fn begin(&self) -> v1::BackupBegin {
        let files = self.point.files();
        let sent = files.iter().filter(|file| !self.have.contains(&file.id));
        v1::BackupBegin {
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            format_version: self.point.format_version(),
            lsn: self.point.lsn().0,
            time: Some(proto_time(self.point.taken_at())),
            files: files.len() as u64,
            bytes: files.iter().map(|file| file.bytes).sum(),
            send_bytes: sent.map(|file| file.bytes).sum(),
        }
    }

    /// Begins a file, or ends the backup after the last one.
    async fn file(&mut self, index: usize) -> Result<Part> {
        let Some(file) = self.point.files().get(index).cloned() else {
            let mut damage = std::mem::take(&mut self.damage);
            if damage.len() > DAMAGE_MAX {
                let more = damage.len() - DAMAGE_MAX;
                damage.truncate(DAMAGE_MAX);
                damage.push(format!(
                    "and {more} more; `meshlog verify` of a restored copy lists all"
                ));
            }
            return Ok(Part::End(v1::BackupEnd { damage }));
        };
        let sent = !self.have.contains(&file.id);
        if sent {
            let point = Arc::clone(&self.point);
            let reader = blocking(move || point.read(index)).await?;
            let reader = reader.map_err(|error| self.explain(error))?;
            self.next = Next::Chunk(index, Box::new(reader));
        } else {
            self.next = Next::File(index + 1);
        }
        let BackupFile { name, id, bytes, size } = file;
        Ok(Part::File(v1::BackupFile { name, id, bytes, size, sent }))
    }

    /// The storage's words under the reason that fits a backup.
    fn explain(&self, error: meshlog_storage::Error) -> Error {
        match error.kind() {
            ErrorKind::Closed if self.patience.is_over() => {
                Error::new(Reason::BackupExpired, error.to_string())
            }
            _ => error.into(),
        }
    }
}

/// Lets go of the files of a client that takes nothing.
struct Watch {
    shared: Arc<Taken>,
    task: AbortHandle,
}

struct Taken {
    last: Mutex<Instant>,
    is_over: AtomicBool,
}

impl Watch {
    fn begin(pins: BackupPins, patience: Patience) -> Self {
        let begun = Instant::now();
        let shared = Arc::new(Taken { last: Mutex::new(begun), is_over: AtomicBool::new(false) });
        let watched = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            loop {
                let due = (*watched.last.lock() + patience.stall).min(begun + patience.whole);
                if due <= Instant::now() {
                    break;
                }
                tokio::time::sleep_until(due).await;
            }
            watched.is_over.store(true, Ordering::Release);
            tracing::warn!("a backup ends early: its client is too slow");
            pins.let_go(meshlog_storage::Error::new(
                ErrorKind::Closed,
                "the client of this backup took too long, so what was kept for it is let go: begin \
                 it again; into the same directory it goes on with what is there",
            ));
        });
        Self { shared, task: task.abort_handle() }
    }

    fn note(&self) {
        *self.shared.last.lock() = Instant::now();
    }

    fn is_over(&self) -> bool {
        self.shared.is_over.load(Ordering::Acquire)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        Error::new(Reason::Internal, format!("the backup failed because of a defect: {error}"))
    })
}
