//! The catalogue: domains, teams, the tag vocabulary, products and their schema versions.
//!
//! ```text
//!  requests ──► Mutation ──one entry──► storage state (keys, FORMAT.md) ──► View ──► reads, resolve
//!               one at a time                                     └─ Catalogue::open rebuilds it
//! ```
//!
//! - A change is one entry of the journal, its audit record included: whole or absent, durable
//!   before it is seen and before it is answered.
//! - The view is a fold over the keys; after a restart it is the same.
//! - Changes need a tokio runtime: what they bring is parsed on its blocking threads.
//! - Reads and [`Catalogue::resolve`] take a read lock for the time of a look-up; no lock is held
//!   while a change is written or a schema is parsed.
//! - Ids, numbers of products and schema ids of frames are never given twice.
//!
//! Lock order: the gate of changes, the presence of a product, then the view. The gate of applications
//! is apart. Searches have locks of their own (`searching.rs`), which no change waits for: it leaves a
//! note of what it touched, and the next search brings the index up to date first.

mod access_request;
mod api_key;
mod application;
mod attached;
mod audit;
mod builtin;
mod change;
mod completeness;
mod create;
mod domain;
mod facts;
mod grant;
mod in_use;
mod inheritance;
mod lifecycle;
mod mask;
mod moving;
mod mutation;
mod name;
mod neighbours;
mod notice;
mod page;
mod places;
#[cfg_attr(not(feature = "cedar"), path = "no_policies.rs")]
mod policies;
mod presence;
mod product;
mod products;
mod promise;
mod provenance;
mod recent;
mod redriven;
mod references;
mod rights;
mod rules;
mod schema_versions;
mod searching;
mod settings;
mod stored;
mod subjects;
mod succeed;
mod tag;
mod tag_key;
mod team;
mod transfer;
mod trimming;
mod view;
mod watch;
mod who;

#[cfg(test)]
mod tests;

pub(crate) use audit::{Act, Kind as AuditKind, PRODUCT as AUDIT_PRODUCT, Told};
pub(crate) use places::places;

use std::fmt;
use std::sync::{Arc, Weak};

use meshlog_proto::v1::SchemaSource;
use meshlog_storage::Storage;
use parking_lot::RwLock;

use crate::access::Epoch;
use crate::audit::Denials;
use crate::caller::Caller;
use crate::error::{Error, Reason, Result};
use crate::schema::Schema;
use crate::subscription::CursorTable;
use application::Applications;
use audit::AuditLog;
pub use create::MAX_PARTITIONS;
pub(crate) use page::Page;
pub(crate) use policies::Layer as Policies;
use presence::Presence;
pub use product::{AppendSchema, ProductHandle};
pub(crate) use promise::{Proposal, Question, mode_asked, succeed_command};
use recent::Recent;
pub(crate) use redriven::Redriven;
pub(crate) use rules::check_expression;
use searching::Searching;
pub(crate) use subjects::{Likeness, Side, SidedVersion, is_product_name};
use view::View;
pub use watch::ProductWatch;

/// The catalogue of one broker; a cheap handle, clone it freely.
#[derive(Clone)]
pub struct Catalogue {
    inner: Arc<Inner>,
}

struct Inner {
    storage: Storage,
    view: Arc<RwLock<View>>,
    /// Held by the one change that is under way.
    gate: Arc<tokio::sync::Mutex<()>>,
    applications: Applications,
    audit: AuditLog,
    /// Refused calls on their way into the audit log.
    denials: Arc<Denials>,
    /// The newest revision, after the view has it.
    revision: tokio::sync::watch::Sender<u64>,
    cursors: Arc<CursorTable>,
    redriven: Arc<Redriven>,
    presence: Presence,
    searching: Arc<Searching>,
    epoch: Arc<Epoch>,
}

/// A catalogue that somebody else keeps.
pub(crate) struct WeakCatalogue(Weak<Inner>);

impl WeakCatalogue {
    /// The catalogue, if it is still there.
    pub(crate) fn upgrade(&self) -> Option<Catalogue> {
        self.0.upgrade().map(|inner| Catalogue { inner })
    }
}

impl fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalogue").field("products", &self.product_count()).finish_non_exhaustive()
    }
}

impl Catalogue {
    /// Reads what the storage state holds. A state without the broker's own products gets them
    /// first, which blocks until they are durable.
    ///
    /// # Errors
    /// `DATA_LOSS` naming the key that cannot be read; those of the engine.
    pub fn open(storage: &Storage) -> Result<Self> {
        let (mut view, mut applications) = read(storage)?;
        let is_new = AuditLog::find(&view).is_none();
        if is_new {
            AuditLog::create(storage, view.counters)?;
        }
        if is_new || AuditLog::renew(storage, &view)? {
            (view, applications) = read(storage)?;
        }
        let Some(audit) = AuditLog::find(&view) else {
            return Err(Error::new(Reason::Internal, "the audit log was created and is not there"));
        };
        view.recent = Recent::begin();
        let revision = tokio::sync::watch::Sender::new(view.recent.revision());
        let state = storage.state();
        attached::restore_traffic(&view, storage, state.iter().map(|(key, value)| (key, value)))?;
        let epoch = Arc::new(Epoch::default());
        epoch.raise(view.rights.is_protected, view.rights.next_end(storage.now()));
        let view = Arc::new(RwLock::new(view));
        let searching = Searching::open(&view);
        Ok(Self {
            inner: Arc::new(Inner {
                storage: storage.clone(),
                view,
                gate: Arc::default(),
                applications,
                audit,
                denials: Arc::default(),
                revision,
                cursors: CursorTable::open(state.iter().map(|(key, value)| (key, value)))?,
                redriven: Arc::new(Redriven::open(state.iter().map(|(key, value)| (key, value)))),
                presence: Presence::default(),
                searching,
                epoch,
            }),
        })
    }

    /// The product of this name, or of this earlier name, for the record path. A look-up: no
    /// allocation, no waiting for changes under way. An empty `product_id` takes any product of the name.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`; `PRODUCT_RECREATED` if the id is another one.
    pub fn resolve(&self, name: &str, product_id: &str) -> Result<Arc<ProductHandle>> {
        let found = self.inner.view.read().product(name).cloned();
        let handle = found.ok_or_else(|| product_not_found(name))?;
        if product_id.is_empty() || *handle.id == *product_id {
            return Ok(handle);
        }
        Err(Error::new(
            Reason::ProductRecreated,
            format!(
                "the product `{name}` was deleted and created again: its id is {}, not {}; \
                 its records and offsets are new, so start again without the old id",
                handle.id,
                product_id.chars().take(40).flat_map(char::escape_debug).collect::<String>()
            ),
        )
        .with("product", name)
        .with("product_id", &handle.id))
    }

    /// The schema version, as clients count, of a schema id in a stored frame.
    #[must_use]
    pub fn schema_of(&self, storage_schema_id: u32) -> Option<u32> {
        self.inner.view.read().versions.get(&storage_schema_id).map(|(_, number)| *number)
    }

    /// The number of an application, durable before it is first given; 0 for a name that is too
    /// long, has odd characters, or is one too many.
    ///
    /// # Errors
    /// Those of the engine, when the name is new.
    pub async fn application_id(&self, name: &str) -> Result<u32> {
        self.inner.applications.number(&self.inner.storage, name).await
    }

    /// The number of an application; 0 if it has none.
    pub(crate) fn application_number(&self, name: &str) -> u32 {
        self.inner.applications.known(name).unwrap_or_default()
    }

    /// The application with this number.
    #[must_use]
    pub fn application_name(&self, id: u32) -> Option<Arc<str>> {
        self.inner.applications.name(id)
    }

    /// A schema of a request; one that is known already is not parsed again.
    fn parse(&self, source: &SchemaSource, field: &'static str) -> Result<Arc<Schema>> {
        let known = self.inner.view.read().schema(&Schema::digest_of(source)).cloned();
        match known {
            Some(schema) => Ok(schema),
            None => match Schema::parse(source) {
                Ok(schema) => Ok(Arc::new(schema)),
                Err(malformed) => Err(malformed.in_field(field)),
            },
        }
    }

    /// The same catalogue, without keeping it.
    pub(crate) fn downgrade(&self) -> WeakCatalogue {
        WeakCatalogue(Arc::downgrade(&self.inner))
    }

    /// Refused calls on their way into the audit log.
    pub(crate) fn denials(&self) -> &Arc<Denials> {
        &self.inner.denials
    }

    /// Time by the storage's clock, as everything that is stored.
    pub(crate) fn now(&self) -> meshlog_storage::Timestamp {
        self.inner.storage.now()
    }

    /// Is told after every change of the catalogue.
    pub(crate) fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.inner.revision.subscribe()
    }

    /// When decisions are made anew.
    pub(crate) fn access_epoch(&self) -> &Epoch {
        &self.inner.epoch
    }

    /// Whether calls must say who makes them: since the first key, for ever, and while the settings have
    /// an issuer of tokens.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.inner.epoch.is_protected()
    }

    /// The first products by name that a caller may see, the broker's own among them, and how many
    /// more there are.
    pub(crate) fn first_products(
        &self,
        caller: &Caller,
        most: usize,
    ) -> (Vec<Arc<ProductHandle>>, usize) {
        let view = self.inner.view.read();
        let now = self.inner.storage.now();
        let handles = view.names.iter().filter_map(|name| view.products.get(name));
        let mut seen = handles.filter(|handle| view.sees(caller, handle, now));
        let first: Vec<_> = seen.by_ref().take(most).cloned().collect();
        (first, seen.count())
    }

    /// The partitions of the products that a team owns.
    pub(crate) fn streams_of_team(&self, team: &str) -> Vec<meshlog_storage::StreamId> {
        let view = self.inner.view.read();
        let owned = view.products.values().filter(|handle| handle.owner() == team);
        owned.flat_map(|handle| handle.streams.iter().copied()).collect()
    }

    /// The partitions of all products.
    pub(crate) fn streams_of_products(&self) -> Vec<meshlog_storage::StreamId> {
        let view = self.inner.view.read();
        view.products.values().flat_map(|handle| handle.all_streams()).collect()
    }

    /// Number of products, the broker's own not counted.
    #[must_use]
    pub fn product_count(&self) -> u64 {
        let view = self.inner.view.read();
        (view.products.len() - view.internal) as u64
    }
}

/// Folds the storage state.
fn read(storage: &Storage) -> Result<(View, Applications)> {
    let state = storage.state();
    let mut view = View::default();
    let changes = view.decode(state.iter().map(|(key, value)| (key, Some(value))))?;
    view.apply(changes);
    let applications = Applications::open(state.iter().map(|(key, value)| (key, value)))?;
    Ok((view, applications))
}

/// Whether a product of this name is in a domain.
fn in_domain(product: &str, domain: &str) -> bool {
    product.strip_prefix(domain).is_some_and(|rest| rest.starts_with('.'))
}

/// Whether a product is the broker's own: read by all, changed by none.
fn is_internal(product: &str) -> bool {
    in_domain(product, name::MESHLOG)
}

pub(crate) fn product_not_found(name: &str) -> Error {
    let shown: String = name.chars().take(200).flat_map(char::escape_debug).collect();
    Error::new(
        Reason::ProductNotFound,
        format!("there is no product `{shown}`; `meshlog product list` shows those there are"),
    )
    .with("product", shown)
}

/// A field of a request that cannot be used.
fn invalid(field: &'static str, what: impl Into<String>) -> Error {
    let what = what.into();
    Error::new(Reason::InvalidArgument, format!("{field}: {what}"))
        .with("field", field)
        .with_violation(field, what)
}

/// Does work on a thread of its own: parsing what somebody sent may take a tenth of a second, and
/// the threads of the runtime serve others.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(Error::new(
            Reason::Internal,
            "the request could not be worked on; please report what was sent",
        )),
    }
}

/// Refuses text that is longer than its field takes.
fn check_length(field: &'static str, text: &str, most: usize) -> Result<()> {
    match text.len() > most {
        true => Err(invalid(field, format!("at most {most} bytes, it has {}", text.len()))),
        false => Ok(()),
    }
}

/// Refuses a change of something that has changed since the caller read it.
fn check_etag(what: &str, asked: &str, current: &str) -> Result<()> {
    if asked.is_empty() || asked == current {
        return Ok(());
    }
    Err(Error::new(
        Reason::EtagMismatch,
        format!("{what} has changed since it was read; read it again and repeat the change"),
    )
    .with("etag", current))
}
