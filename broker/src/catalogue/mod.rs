//! The catalogue: domains, teams, products and their schema versions.
//!
//! ```text
//!  requests ──► Mutation ──one entry──► storage state (keys, FORMAT.md) ──► View ──► reads, resolve
//!               one at a time                                     └─ Catalogue::open rebuilds it
//! ```
//!
//! - A change is one entry of the journal: whole or absent, durable before it is seen and before
//!   it is answered.
//! - The view is a fold over the keys; after a restart it is the same.
//! - Changes need a tokio runtime: what they bring is parsed on its blocking threads.
//! - Reads and [`Catalogue::resolve`] take a read lock for the time of a look-up; no lock is held
//!   while a change is written or a schema is parsed.
//! - Ids, numbers of products and schema ids of frames are never given twice.
//!
//! Lock order: the gate of changes, then the view. The gate of applications is apart.

mod application;
mod create;
mod domain;
mod mutation;
mod name;
mod page;
mod places;
mod product;
mod products;
mod schema_versions;
mod settings;
mod stored;
mod tag;
mod team;
mod unbuilt;
mod view;

#[cfg(test)]
mod tests;

pub(crate) use places::places;

use std::fmt;
use std::sync::Arc;

use meshlog_proto::v1::SchemaSource;
use meshlog_storage::Storage;
use parking_lot::RwLock;

use crate::error::{Error, Reason, Result};
use crate::schema::Schema;
use application::Applications;
pub use create::MAX_PARTITIONS;
pub use product::{AppendSchema, ProductHandle};
pub use unbuilt::ProductWatch;
use view::View;

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
}

impl fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalogue").field("products", &self.product_count()).finish_non_exhaustive()
    }
}

impl Catalogue {
    /// Reads what the storage state holds.
    ///
    /// # Errors
    /// `DATA_LOSS` naming the key that cannot be read.
    pub fn open(storage: &Storage) -> Result<Self> {
        let state = storage.state();
        let mut view = View::default();
        let changes = view.decode(state.iter().map(|(key, value)| (key, Some(value))))?;
        view.apply(changes);
        let applications = Applications::open(state.iter().map(|(key, value)| (key, value)))?;
        Ok(Self {
            inner: Arc::new(Inner {
                storage: storage.clone(),
                view: Arc::new(RwLock::new(view)),
                gate: Arc::default(),
                applications,
            }),
        })
    }

    /// The product of this name, for the record path. A look-up: no allocation, no waiting for
    /// changes under way. An empty `product_id` takes any product of the name.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`; `PRODUCT_RECREATED` if the id is another one.
    pub fn resolve(&self, name: &str, product_id: &str) -> Result<Arc<ProductHandle>> {
        let found = self.inner.view.read().products.get(name).cloned();
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
        self.inner.view.read().versions.get(&storage_schema_id).copied()
    }

    /// The number of an application, durable before it is first given; 0 for a name that is too
    /// long, has odd characters, or is one too many.
    ///
    /// # Errors
    /// Those of the engine, when the name is new.
    pub async fn application_id(&self, name: &str) -> Result<u32> {
        self.inner.applications.number(&self.inner.storage, name).await
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

    /// Number of products.
    #[must_use]
    pub fn product_count(&self) -> u64 {
        self.inner.view.read().products.len() as u64
    }
}

fn product_not_found(name: &str) -> Error {
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

fn now() -> prost_types::Timestamp {
    prost_types::Timestamp::from(std::time::SystemTime::now())
}
