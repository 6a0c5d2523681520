//! The broker: what an embedding program holds, and what the gRPC edge adapts.
//!
//! ```text
//!  Broker ──┬─ catalogue   products, teams, domains, schemas: who may append what, where
//!           ├─ record      append, read, subscribe
//!           └─ storage     the journal; calls back from its own threads
//! ```
//!
//! The handle is cheap to clone; all clones are one broker, open until [`Broker::close`].

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Weak};

use meshlog_proto::v1;
use meshlog_storage::{BatchCodec, Components, FORMAT_VERSION, Observer, Storage};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backup::Backups;
use crate::catalogue::{Catalogue, Policies};
use crate::certificates::Certificates;
use crate::config::Config;
use crate::error::{Error, Reason, Result};
use crate::identity::Identity;
use crate::lineage::Ledger;
use crate::lineage::copy::CopyWatch;
use crate::metrics::Metrics;
use crate::record::{AheadRoom, RecordBatchCodec, Stored, Waiting, Wakeups, limits};
use crate::sample::Sampling;
use crate::space::Forecast;

/// A log broker with a catalogue of data products: a cheap handle.
///
/// ```
/// # async fn run() -> meshlog_broker::Result<()> {
/// let broker = meshlog_broker::Broker::in_memory()?;
/// assert_eq!(broker.server_info().products, 0);
/// broker.close().await?;
/// # Ok(()) }
/// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
/// ```
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    storage: Storage,
    catalogue: Catalogue,
    wakeups: Arc<Wakeups>,
    waiting: Waiting,
    ahead_room: AheadRoom,
    stored: Stored,
    ledger: Ledger,
    copy_watch: CopyWatch,
    sampling: Sampling,
    backups: Backups,
    forecast: Forecast,
    identity: Identity,
    certificates: Certificates,
    metrics: Arc<Metrics>,
    #[cfg(feature = "edge")]
    edge_memory: Arc<crate::edge::Memory>,
    turn: AtomicU32,
    closing: CancellationToken,
    journal_failed: CancellationToken,
    tasks: TaskTracker,
}

/// A broker that somebody else keeps open.
pub(crate) struct WeakBroker(Weak<Inner>);

impl WeakBroker {
    /// The broker, if it is still there.
    pub(crate) fn upgrade(&self) -> Option<Broker> {
        self.0.upgrade().map(|inner| Broker { inner })
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("data_dir", &self.inner.config.data_dir)
            .finish_non_exhaustive()
    }
}

impl Broker {
    /// Opens a broker. With a data directory it recovers what the directory holds, which blocks
    /// for as long as that takes; everything that was acknowledged is readable afterwards.
    ///
    /// # Errors
    /// `DIRECTORY_UNAVAILABLE` if another process has the directory, or its format is not ours.
    pub fn open(config: Config) -> Result<Self> {
        match config.data_dir {
            Some(_) => Self::open_with(config, Components::on_disk),
            None => Self::open_with(config, Components::in_memory),
        }
    }

    /// As [`Broker::open`], on a disk, clock and randomness of the caller's choice; for tests that
    /// need a disk which fails.
    ///
    /// # Errors
    /// As [`Broker::open`].
    pub fn open_with(
        config: Config,
        components: impl FnOnce(Arc<dyn BatchCodec>, Arc<dyn Observer>) -> Components,
    ) -> Result<Self> {
        let identity = Identity::new(&config.identity)?;
        let policies = Policies::load(&config.access)?;
        let wakeups = Arc::new(Wakeups::default());
        let parts = components(Arc::new(RecordBatchCodec), wakeups.clone());
        let directory = config.data_dir.clone().unwrap_or_else(|| PathBuf::from("memory"));
        let options = config.storage.options(directory.clone());
        let backups = Backups::new(config.storage.backup_rate.0);
        let storage = Storage::open(options, parts)
            .map_err(|error| Error::from(error).with("directory", directory.display()))?;
        let catalogue = Catalogue::open(&storage)?;
        #[cfg(feature = "edge")]
        let edge_memory = crate::edge::Memory::new(&config.edge);
        catalogue.use_policies(policies);
        if !config.identity.tokens.issuer.is_empty() {
            catalogue.protect();
        }
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                storage,
                catalogue,
                wakeups,
                waiting: Waiting::default(),
                ahead_room: AheadRoom::default(),
                stored: Stored::default(),
                ledger: Ledger::default(),
                copy_watch: CopyWatch::default(),
                sampling: Sampling::default(),
                backups,
                forecast: Forecast::default(),
                identity,
                certificates: Certificates::default(),
                metrics: Arc::default(),
                #[cfg(feature = "edge")]
                edge_memory,
                turn: AtomicU32::new(0),
                closing: CancellationToken::new(),
                journal_failed: CancellationToken::new(),
                tasks: TaskTracker::new(),
            }),
        })
    }

    /// Opens a broker whose records are in memory, for tests and for data that need not last. It
    /// acknowledges `MEMORY`.
    pub fn in_memory() -> Result<Self> {
        Self::open(Config::default())
    }

    /// Domains, teams, products and schemas.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        &self.inner.catalogue
    }

    /// The settings it was opened with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Version, limits and the state of the storage.
    #[must_use]
    pub fn server_info(&self) -> v1::GetServerInfoResponse {
        let health = self.storage().health();
        let stats = self.storage().stats();
        let in_memory = self.config().data_dir.is_none();
        let (space, warning) = self.disk_space();
        let certificates = self.certificates().notes(std::time::SystemTime::now());
        v1::GetServerInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api_version: "v1".to_owned(),
            limits: Some(v1::Limits {
                max_request_bytes: limits::MAX_REQUEST_BYTES as u32,
                max_record_bytes: limits::MAX_RECORD_BYTES as u32,
                max_batch_bytes: limits::MAX_BATCH_BYTES as u32,
                max_batch_records: limits::MAX_BATCH_RECORDS,
                max_headers: limits::MAX_HEADERS,
                max_header_name_bytes: limits::MAX_HEADER_NAME_BYTES as u32,
                max_partitions: limits::MAX_PARTITIONS,
                max_schema_bytes: limits::MAX_SCHEMA_BYTES as u32,
                max_read_wait: limits::MAX_READ_WAIT.try_into().ok(),
            }),
            storage: Some(v1::StorageInfo {
                in_memory,
                format_version: if in_memory { 0 } else { FORMAT_VERSION },
                appends_refused: health.appends_refused.unwrap_or_default(),
                damage: health.damage,
                syncs: stats.syncs,
                groups: stats.groups,
                bytes: stats.bytes,
                notes: warning
                    .into_iter()
                    .chain(health.notes)
                    .chain(certificates)
                    .chain(self.catalogue().policy_notes())
                    .collect(),
                space,
            }),
            products: self.catalogue().product_count(),
        }
    }

    /// Ends subscriptions and local connections, lets appends under way finish, and closes the
    /// storage so that the next open has nothing to recover. Later calls answer `SHUTTING_DOWN`.
    ///
    /// # Errors
    /// The storage could not write its last state; what was acknowledged is safe all the same.
    pub async fn close(&self) -> Result<()> {
        self.inner.closing.cancel();
        self.inner.tasks.close();
        let deadline = self.config().edge.drain_deadline.into();
        if tokio::time::timeout(deadline, self.inner.tasks.wait()).await.is_err() {
            tracing::warn!("calls were still under way at the drain deadline; they are cut off");
        }
        self.write_traffic().await;
        self.catalogue().write_denials(true).await;
        let storage = self.inner.storage.clone();
        match tokio::task::spawn_blocking(move || storage.close()).await {
            Ok(closed) => Ok(closed?),
            Err(error) => Err(Error::new(
                Reason::Internal,
                format!("closing the storage failed: {error}; the next start recovers it"),
            )),
        }
    }

    /// Reads the files of the TLS settings again, now instead of within seconds of a change. Files
    /// that cannot be used change nothing and are complained of in the log and in
    /// [`Broker::server_info`].
    pub fn reload_certificates(&self) {
        self.inner.certificates.ask();
    }

    /// When the certificate that the port shows ends; none without TLS.
    #[must_use]
    pub fn certificate_expires(&self) -> Option<std::time::SystemTime> {
        self.inner.certificates.expires()
    }

    /// The memory for what is on its way.
    #[cfg(feature = "edge")]
    pub(crate) fn edge_memory(&self) -> &Arc<crate::edge::Memory> {
        &self.inner.edge_memory
    }

    pub(crate) fn certificates(&self) -> &Certificates {
        &self.inner.certificates
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.inner.storage
    }

    pub(crate) fn wakeups(&self) -> &Arc<Wakeups> {
        &self.inner.wakeups
    }

    pub(crate) fn waiting(&self) -> &Waiting {
        &self.inner.waiting
    }

    pub(crate) fn stored(&self) -> &Stored {
        &self.inner.stored
    }

    pub(crate) fn ahead_room(&self) -> &AheadRoom {
        &self.inner.ahead_room
    }

    pub(crate) fn sampling(&self) -> &Sampling {
        &self.inner.sampling
    }

    pub(crate) fn backups(&self) -> &Backups {
        &self.inner.backups
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    pub(crate) fn forecast(&self) -> &Forecast {
        &self.inner.forecast
    }

    /// What the broker counts by itself.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.inner.metrics
    }

    /// Does now what its clock makes due, instead of in some seconds: retention, merges. For tests
    /// that set the clock.
    pub fn wake(&self) {
        self.storage().wake();
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.inner.ledger
    }

    pub(crate) fn copy_watch(&self) -> &CopyWatch {
        &self.inner.copy_watch
    }

    /// The same broker, without keeping it open.
    pub(crate) fn downgrade(&self) -> WeakBroker {
        WeakBroker(Arc::downgrade(&self.inner))
    }

    /// Rises with every use, to take turns among partitions.
    pub(crate) fn turn(&self) -> &AtomicU32 {
        &self.inner.turn
    }

    /// Cancelled when the broker closes.
    pub(crate) fn closing(&self) -> &CancellationToken {
        &self.inner.closing
    }

    /// Cancelled when the journal has refused an append for good.
    pub(crate) fn journal_failed(&self) -> &CancellationToken {
        &self.inner.journal_failed
    }

    /// Why records are not taken now, one sentence each; empty if they are.
    #[cfg(feature = "edge")]
    pub(crate) fn why_not_ready(&self, draining: bool) -> Vec<String> {
        let mut reasons = Vec::new();
        if draining || self.inner.closing.is_cancelled() {
            reasons.push(Error::shutting_down().to_string());
        }
        reasons.extend(self.storage().health().appends_refused);
        reasons
    }

    /// Connections that [`Broker::close`] waits for.
    #[cfg_attr(not(feature = "edge"), expect(dead_code, reason = "only the edge has connections"))]
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.inner.tasks
    }

    pub(crate) fn refuse_if_closing(&self) -> Result<()> {
        if self.inner.closing.is_cancelled() {
            return Err(Error::shutting_down());
        }
        Ok(())
    }
}
