//! Watching the catalogue: all products there are, then every change.
//!
//! A watch is a place in the list of products while the products are told, and a revision
//! afterwards; nothing is queued for it. Messages before `complete` have the revision 0, because
//! a stream that is cut off there has not told everything up to any other.
//!
//! ```text
//!  Begin ──► Telling(after name) ──complete──► Following(revision) ──► (drain) Ended
//!    ▲                                              │
//!    └────────────── the ring has gone on ──────────┘
//! ```

use std::collections::HashSet;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use meshlog_proto::v1;
use prost::Message as _;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Catalogue;
use super::change::served;
use super::product::ProductHandle;
use super::recent::Changed;
use crate::Broker;
use crate::access::{Recheck, Rpc};
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::time;

/// Bytes of one message; a single product may be larger.
const MESSAGE_BYTES: usize = 1 << 20;
/// Products looked at under one lock.
const PRODUCTS_AT_ONCE: usize = 256;

impl Broker {
    /// Follows the catalogue: all products, or those of one domain, then every change of one.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, `SHUTTING_DOWN`.
    pub fn watch_products(
        &self,
        caller: &Caller,
        request: v1::WatchProductsRequest,
    ) -> Result<ProductWatch> {
        self.refuse_if_closing()?;
        let heartbeat = time::heartbeat(request.heartbeat_interval.as_ref())?;
        let catalogue = self.catalogue().clone();
        let phase = match request.after_revision {
            0 => Phase::Begin,
            revision => Phase::Following { revision },
        };
        Ok(ProductWatch {
            access: Recheck::new(&catalogue, caller, Rpc::WatchProducts, None),
            hidden: None,
            caller: caller.clone(),
            changes: catalogue.changes(),
            catalogue,
            domain: request.domain,
            heartbeat,
            phase,
            closing: self.closing().clone(),
            stop: CancellationToken::new(),
        })
    }
}

/// A watch of the catalogue. Dropping it ends it.
pub struct ProductWatch {
    caller: Caller,
    access: Recheck,
    /// What the caller could not see when it was last looked.
    hidden: Option<Vec<Arc<str>>>,
    catalogue: Catalogue,
    changes: watch::Receiver<u64>,
    /// Empty: all.
    domain: String,
    heartbeat: Duration,
    phase: Phase,
    closing: CancellationToken,
    stop: CancellationToken,
}

#[derive(Debug)]
enum Phase {
    /// All products are to be told.
    Begin,
    /// Those up to this name have been told; the changes since `revision` follow.
    Telling {
        revision: u64,
        after: Arc<str>,
    },
    /// Everything up to this revision has been told.
    Following {
        revision: u64,
    },
    Ended,
}

impl fmt::Debug for ProductWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProductWatch")
            .field("domain", &self.domain)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl ProductWatch {
    /// The same watch, which also ends, with `SHUTTING_DOWN`, when `stop` is cancelled.
    #[cfg(feature = "edge")]
    pub(crate) fn until(mut self, stop: CancellationToken) -> Self {
        self.stop = stop;
        self
    }

    /// The next message: products, or a heartbeat when nothing changed for the interval. It can
    /// be dropped and called again without losing anything.
    ///
    /// # Errors
    /// `SHUTTING_DOWN`; nothing follows.
    pub async fn next(&mut self) -> Option<Result<v1::WatchProductsResponse>> {
        let due = Instant::now() + self.heartbeat;
        loop {
            if matches!(self.phase, Phase::Ended) {
                return None;
            }
            if self.stop.is_cancelled() || self.closing.is_cancelled() {
                return Some(Err(self.end(Error::shutting_down())));
            }
            if let Err(error) = self.access.check() {
                return Some(Err(self.end(error)));
            }
            self.look_anew();
            // What changes from here on wakes it.
            self.changes.mark_unchanged();
            match self.step() {
                Ok(Some(message)) => return Some(Ok(message)),
                Ok(None) => {}
                Err(error) => return Some(Err(self.end(error))),
            }
            let Phase::Following { revision } = self.phase else { continue };
            if self.is_behind(revision) {
                continue;
            }
            tokio::select! {
                // The sender lives as long as the catalogue that is held here.
                _ = self.changes.changed() => {}
                () = self.access.due() => {}
                () = self.stop.cancelled() => {}
                () = self.closing.cancelled() => {}
                () = tokio::time::sleep_until(due) => {
                    return Some(Ok(v1::WatchProductsResponse { revision, ..Default::default() }));
                }
            }
        }
    }

    fn end(&mut self, error: Error) -> Error {
        self.phase = Phase::Ended;
        error
    }

    /// Begins anew when the caller may see other products than before.
    fn look_anew(&mut self) {
        if self.caller.is_trusted() {
            return;
        }
        let now = self.catalogue.inner.storage.now();
        let hidden = self.catalogue.inner.view.read().hidden_from(&self.caller, now);
        let before = self.hidden.replace(hidden);
        let is_same = before.is_none() || before == self.hidden;
        if !is_same && !matches!(self.phase, Phase::Begin | Phase::Ended) {
            self.phase = Phase::Begin;
        }
    }

    /// What there is to tell now.
    fn step(&mut self) -> Result<Option<v1::WatchProductsResponse>> {
        match &self.phase {
            Phase::Begin => {
                let revision = self.catalogue.inner.view.read().recent.revision();
                self.tell(revision, None).map(Some)
            }
            Phase::Telling { revision, after } => {
                let (revision, after) = (*revision, Arc::clone(after));
                self.tell(revision, Some(after)).map(Some)
            }
            Phase::Following { revision } => self.follow(*revision),
            Phase::Ended => Ok(None),
        }
    }

    /// The next page of all products, after a name.
    fn tell(
        &mut self,
        revision: u64,
        after: Option<Arc<str>>,
    ) -> Result<v1::WatchProductsResponse> {
        let reset = after.is_none();
        let prefix = match self.domain.as_str() {
            "" => String::new(),
            domain => format!("{domain}."),
        };
        let handles: Vec<Arc<ProductHandle>> = {
            let now = self.catalogue.inner.storage.now();
            let view = self.catalogue.inner.view.read();
            let first = match &after {
                None => Bound::Included(prefix.as_str()),
                Some(after) => Bound::Excluded(&**after),
            };
            let names = view.names.range::<str, _>((first, Bound::Unbounded));
            let names = names.take_while(|name| name.starts_with(&prefix));
            let handles = names.filter_map(|name| view.products.get(name).cloned());
            handles
                .filter(|handle| view.sees(&self.caller, handle, now))
                .take(PRODUCTS_AT_ONCE)
                .collect()
        };
        let mut message = Page::default();
        let mut told = 0;
        for handle in &handles {
            let product = served(&self.catalogue.inner.view, handle)?;
            if !message.push(&handle.id, &handle.name, Some(product)) {
                break;
            }
            told += 1;
        }
        let complete = told == handles.len() && handles.len() < PRODUCTS_AT_ONCE;
        self.phase = match handles.get(told.wrapping_sub(1)) {
            Some(last) if !complete => Phase::Telling { revision, after: Arc::clone(&last.name) },
            _ => Phase::Following { revision },
        };
        Ok(v1::WatchProductsResponse {
            revision: if complete { revision } else { 0 },
            reset,
            complete,
            changes: message.changes,
        })
    }

    /// The changes after a revision; `None` if there are none.
    fn follow(&mut self, revision: u64) -> Result<Option<v1::WatchProductsResponse>> {
        let changed: Option<Vec<(Changed, Now)>> = {
            let time = self.catalogue.inner.storage.now();
            let view = self.catalogue.inner.view.read();
            let changed = view.recent.after(revision);
            let now = |changed: &Changed| match view.product_of(&changed.id) {
                Some(handle) if view.sees(&self.caller, handle, time) => {
                    Now::Seen(Arc::clone(handle))
                }
                Some(_) => Now::Hidden,
                None => Now::Gone,
            };
            changed.map(|changed| {
                let changed = changed.take(PRODUCTS_AT_ONCE);
                changed.map(|changed| (changed.clone(), now(changed))).collect()
            })
        };
        let Some(changed) = changed else {
            self.phase = Phase::Begin;
            return Ok(None);
        };
        let mut message = Page::default();
        let mut told = HashSet::new();
        let mut reached = revision;
        for (changed, now) in &changed {
            let concerns = self.is_of_domain(&changed.name)
                || changed.before.as_deref().is_some_and(|before| self.is_of_domain(before));
            let now = match now {
                Now::Seen(handle) => Some(handle),
                // Who saw it knows that by a right that is gone with it: all is told again, without it.
                Now::Gone if changed.was_hidden && !self.caller.is_trusted() => {
                    self.phase = Phase::Begin;
                    return Ok(None);
                }
                Now::Hidden if changed.was_hidden => {
                    reached += 1;
                    continue;
                }
                Now::Hidden | Now::Gone => None,
            };
            if concerns && !told.contains(&changed.id) {
                let now = now.filter(|now| self.is_of_domain(&now.name));
                let name = now.map_or(&changed.name, |now| &now.name);
                let product = now.map(|now| served(&self.catalogue.inner.view, now)).transpose()?;
                if !message.push(&changed.id, name, product) {
                    break;
                }
                told.insert(&changed.id);
            }
            reached += 1;
        }
        self.phase = Phase::Following { revision: reached };
        // Changes that concern nobody here are passed over in silence.
        Ok((!message.changes.is_empty()).then_some(v1::WatchProductsResponse {
            revision: reached,
            changes: message.changes,
            ..Default::default()
        }))
    }

    fn is_behind(&self, revision: u64) -> bool {
        revision != self.catalogue.inner.view.read().recent.revision()
    }

    fn is_of_domain(&self, product: &str) -> bool {
        self.domain.is_empty() || product.split('.').next() == Some(&self.domain)
    }
}

/// What a watcher may know of a product that has changed.
enum Now {
    Seen(Arc<ProductHandle>),
    Hidden,
    Gone,
}

/// A message under way.
#[derive(Default)]
struct Page {
    changes: Vec<v1::ProductChange>,
    bytes: usize,
}

impl Page {
    /// False if it is full; at least one change has room.
    fn push(&mut self, id: &str, name: &str, product: Option<v1::Product>) -> bool {
        let change =
            v1::ProductChange { product_id: id.to_owned(), name: name.to_owned(), product };
        // Tag and length of the field.
        let bytes = change.encoded_len() + 6;
        if !self.changes.is_empty() && self.bytes + bytes > MESSAGE_BYTES {
            return false;
        }
        self.bytes += bytes;
        self.changes.push(change);
        true
    }
}
