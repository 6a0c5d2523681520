//! Finding products, and keeping the search index current.
//!
//! ```text
//! change ─► journal ─► view changes ─► note of what it touched ─► answered
//! search ─► takes the notes, reads those products from the view, puts them into the index ─► index
//! ```
//!
//! - What was acknowledged before a search began is found by it: the note is there before the answer.
//! - A change waits for no search, and a search keeps no append waiting: the note is a few names
//!   under a lock that nothing else is done under, and searches run on blocking threads, at most
//!   [`AT_ONCE`] of them.
//! - While nobody searches, notes are names and no more than there are products; from
//!   [`MANY`] on, the index is brought up to date in the background.
//!
//! Lock order: `catching`, then one at a time `pending`, the view, the index.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use meshlog_proto::v1;
use parking_lot::{Mutex, RwLock};
use prost::Message as _;
use tokio::sync::Semaphore;

use super::change::served;
use super::product::ProductHandle;
use super::view::{Change, View};
use super::{Catalogue, aside, invalid};
use crate::Caller;
use crate::error::Result;
use crate::schema::Fingerprint;
use crate::search::{Document, FilterName, Index, IndexSize, Query};

const DEFAULT_PAGE: u32 = 20;
const MAX_PAGE: u32 = 1000;
/// A page ends earlier if its products are larger: clients take messages up to 4 MiB.
const MAX_PAGE_BYTES: usize = 3 << 20;

/// Searches that run at once; others wait for their turn.
const AT_ONCE: usize = 4;
/// Products touched at which the index is brought up to date before somebody searches.
const MANY: usize = 64;
/// Products put into the index under one lock.
const TOGETHER: usize = 256;

/// The domain of the broker itself; its products are not found.
const MESHLOG: &str = "meshlog.";

/// The index, and what it does not know yet.
pub(super) struct Searching {
    index: RwLock<Index>,
    pending: Mutex<Touched>,
    /// Held by whoever brings the index up to date.
    catching: Mutex<()>,
    /// Whether somebody is about to do so in the background.
    is_due: AtomicBool,
    turns: Arc<Semaphore>,
}

/// What changes have touched: products by id, and those whose products show it, by name.
#[derive(Default)]
pub(super) struct Touched {
    products: HashSet<Arc<str>>,
    teams: HashSet<Arc<str>>,
    domains: HashSet<Arc<str>>,
}

impl Touched {
    /// What these changes touch.
    pub(super) fn by(changes: &[Change]) -> Self {
        let mut touched = Self::default();
        for change in changes {
            match change {
                Change::Product(handle) => drop(touched.products.insert(Arc::clone(&handle.id))),
                Change::ProductGone(id) => drop(touched.products.insert(Arc::clone(id))),
                Change::Team(name, _) => drop(touched.teams.insert(Arc::clone(name))),
                Change::Domain(name, _) => drop(touched.domains.insert(Arc::clone(name))),
                _ => {}
            }
        }
        touched
    }
}

impl Searching {
    /// Of what the view holds. The index is built by a thread of its own, or by the first search if
    /// that comes earlier.
    pub(super) fn open(view: &Arc<RwLock<View>>) -> Arc<Self> {
        let products: HashSet<Arc<str>> = {
            let view = view.read();
            let searched = view.products.values().filter(|handle| is_searched(handle));
            searched.map(|handle| Arc::clone(&handle.id)).collect()
        };
        let is_empty = products.is_empty();
        let searching = Arc::new(Self {
            index: RwLock::default(),
            pending: Mutex::new(Touched { products, ..Touched::default() }),
            catching: Mutex::default(),
            is_due: AtomicBool::new(false),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        });
        if !is_empty {
            let (building, view) = (Arc::clone(&searching), Arc::clone(view));
            let thread = std::thread::Builder::new().name("meshlog-search".to_owned());
            // Without the thread the first search does it.
            drop(thread.spawn(move || building.catch_up(&view)));
        }
        searching
    }

    /// Notes what a change has touched, after the view has changed and before it is answered.
    pub(super) fn touch(&self, touched: Touched) {
        let mut pending = self.pending.lock();
        pending.products.extend(touched.products);
        pending.teams.extend(touched.teams);
        pending.domains.extend(touched.domains);
    }

    /// Brings the index up to what is in the view.
    pub(super) fn catch_up(&self, view: &RwLock<View>) {
        let _catching = self.catching.lock();
        let touched = std::mem::take(&mut *self.pending.lock());
        let mut ids = touched.products;
        if !touched.teams.is_empty() || !touched.domains.is_empty() {
            let index = self.index.read();
            let of_teams = touched.teams.iter().map(|team| (FilterName::Owner, team));
            let of_domains = touched.domains.iter().map(|domain| (FilterName::Domain, domain));
            for (on, name) in of_teams.chain(of_domains) {
                ids.extend(index.ids_with(on, name));
            }
        }
        if ids.is_empty() {
            return;
        }
        let mut products: Vec<(Arc<str>, Option<Arc<ProductHandle>>)> = {
            let view = view.read();
            ids.into_iter().map(|id| (Arc::clone(&id), view.product_of(&id).cloned())).collect()
        };
        // In the order of names, which the index likes best.
        products.sort_by(|a, b| {
            let name = |of: &Option<Arc<ProductHandle>>| of.as_ref().map(|of| Arc::clone(&of.name));
            name(&a.1).cmp(&name(&b.1))
        });
        for some in products.chunks(TOGETHER) {
            let document = |handle: &ProductHandle| document(view, handle);
            let documents: Vec<(&Arc<str>, Option<Document>)> =
                some.iter().map(|(id, of)| (id, of.as_deref().and_then(document))).collect();
            let mut index = self.index.write();
            for (id, document) in documents {
                match document {
                    Some(document) => index.put(&document),
                    None => index.remove(id),
                }
            }
        }
    }
}

impl Catalogue {
    /// Finds products that the caller may see by words and filters; `docs/search.md` describes the language.
    ///
    /// # Errors
    /// `QUERY_INVALID` with the position and what to write instead; `INVALID_ARGUMENT` for a page
    /// token of another query.
    pub async fn search_products(
        &self,
        caller: &Caller,
        request: v1::SearchProductsRequest,
    ) -> Result<v1::SearchProductsResponse> {
        let mut query = Query::parse(&request.query)?;
        query.hidden = self.inner.view.read().hidden_from(caller, self.inner.storage.now());
        let turns = Arc::clone(&self.inner.searching.turns);
        let turn = turns.acquire_owned().await;
        let catalogue = self.clone();
        aside(move || {
            let _turn = turn;
            catalogue.search(&query, &request)
        })
        .await
    }

    /// How large the search index is, brought up to date first.
    #[must_use]
    pub fn search_index_size(&self) -> IndexSize {
        self.inner.searching.catch_up(&self.inner.view);
        self.inner.searching.index.read().size()
    }

    fn search(
        &self,
        query: &Query,
        request: &v1::SearchProductsRequest,
    ) -> Result<v1::SearchProductsResponse> {
        let skip = page_start(&request.query, &request.page_token)?;
        let size = match request.page_size {
            0 => DEFAULT_PAGE,
            asked => asked.min(MAX_PAGE),
        };
        let (searching, view) = (&self.inner.searching, &self.inner.view);
        searching.catch_up(view);
        let found = searching.index.read().search(query, skip, size as usize, skip == 0);
        let handles: Vec<Option<Arc<ProductHandle>>> = {
            let view = view.read();
            found.ids.iter().map(|id| view.product_of(id).cloned()).collect()
        };
        let (mut hits, mut bytes, mut seen) = (Vec::new(), 0, 0);
        for handle in handles {
            let document = handle.as_deref().and_then(|handle| document(view, handle));
            let Some(mut document) = document else {
                // Gone since the index was read.
                seen += 1;
                continue;
            };
            let matches = document.matches(query, &found);
            document.product.docs.clear();
            document.product.provenance.clear();
            document.product.r#use = Some(document.traffic.message());
            let hit = v1::SearchHit { product: Some(document.product), matches };
            bytes += hit.encoded_len();
            if bytes > MAX_PAGE_BYTES && !hits.is_empty() {
                break;
            }
            seen += 1;
            hits.push(hit);
        }
        let next = skip + seen;
        Ok(v1::SearchProductsResponse {
            hits,
            total: found.total as u64,
            facets: found.facets,
            next_page_token: match next < found.total && seen > 0 {
                true => page_token(&request.query, next),
                false => String::new(),
            },
            corrections: found.corrections,
        })
    }

    /// Brings the index up to date in the background if there is much to do.
    pub(super) fn index_many(&self) {
        let searching = &self.inner.searching;
        let many = searching.pending.lock().products.len() >= MANY;
        if many && !searching.is_due.swap(true, Ordering::AcqRel) {
            let (searching, view) = (Arc::clone(searching), Arc::clone(&self.inner.view));
            tokio::task::spawn_blocking(move || {
                searching.is_due.store(false, Ordering::Release);
                searching.catch_up(&view);
            });
        }
    }
}

fn is_searched(handle: &ProductHandle) -> bool {
    !handle.name.starts_with(MESHLOG) && !handle.name.contains('$')
}

/// What is searched of a product; `None` for products that are not searched.
fn document(view: &RwLock<View>, handle: &ProductHandle) -> Option<Document> {
    if !is_searched(handle) {
        return None;
    }
    let current = handle.current();
    // What cannot be read any more is not found by it.
    Some(Document {
        product: served(view, handle).ok()?,
        fields: current.value.fields().unwrap_or_default(),
        format: current.value.format(),
        traffic: Arc::clone(&handle.traffic),
    })
}

/// A token says which query it belongs to, and how many products came before.
fn page_token(query: &str, next: usize) -> String {
    format!("{}{next:x}", name_of(query))
}

fn name_of(query: &str) -> String {
    let mut name = Fingerprint::of(&[b"search", query.as_bytes()]).to_string();
    name.truncate(16);
    name
}

fn page_start(query: &str, token: &str) -> Result<usize> {
    if token.is_empty() {
        return Ok(0);
    }
    let start = token.is_ascii().then(|| token.split_at_checked(16)).flatten();
    let start = start.filter(|(own, _)| *own == name_of(query));
    start
        .and_then(|(_, start)| usize::from_str_radix(start, 16).ok())
        .ok_or_else(|| invalid("page_token", "it is not from the last response to the same query"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use meshlog_storage::Entry;

    use super::super::stored::Key;
    use super::super::tests::{catalogue, create};
    use super::*;

    async fn found(catalogue: &Catalogue, query: &str) -> Vec<String> {
        let request = v1::SearchProductsRequest { query: query.to_owned(), ..Default::default() };
        let hits = catalogue.search_products(&Caller::default(), request).await.unwrap().hits;
        hits.into_iter().map(|hit| hit.product.unwrap().name).collect()
    }

    #[tokio::test]
    async fn a_change_waits_for_no_search_and_for_nobody_who_brings_the_index_up_to_date() {
        let (_, catalogue) = catalogue();
        let (reading, catching) = std::sync::mpsc::channel::<()>();
        let holder = std::thread::spawn({
            let catalogue = catalogue.clone();
            move || {
                let searching = &catalogue.inner.searching;
                let _locks = (searching.catching.lock(), searching.index.write());
                catching.recv().unwrap_err();
            }
        });
        while catalogue.inner.searching.index.try_read().is_some() {
            tokio::task::yield_now().await;
        }
        let created = async {
            for number in 0..2 * MANY {
                let request = create(&format!("ops.flights-{number}"));
                catalogue.create_product(&Caller::default(), request).await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(60), created).await.unwrap();
        catalogue.resolve("ops.flights-0", "").unwrap();
        drop(reading);
        holder.join().unwrap();
        assert_eq!(found(&catalogue, "flights domain:ops name:ops.flights-77").await.len(), 1);
    }

    #[tokio::test]
    async fn many_changes_are_indexed_before_somebody_searches() {
        let (_, catalogue) = catalogue();
        for number in 0..MANY {
            let request = create(&format!("ops.flights-{number}"));
            catalogue.create_product(&Caller::default(), request).await.unwrap();
        }
        let indexed = async {
            while catalogue.inner.searching.index.read().len() < MANY {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), indexed).await.unwrap();
    }

    #[tokio::test]
    async fn a_team_s_new_contact_finds_its_products() {
        let (_, catalogue) = catalogue();
        catalogue.create_product(&Caller::default(), create("ops.flights")).await.unwrap();
        assert!(found(&catalogue, "lighthouse").await.is_empty());
        let contacts = vec!["lighthouse@example.org".to_owned()];
        let team = v1::Team { name: "ops-team".to_owned(), contacts, ..Default::default() };
        let update = v1::UpdateTeamRequest { team: Some(team), ..Default::default() };
        catalogue.update_team(&Caller::default(), update).await.unwrap();
        assert_eq!(found(&catalogue, "lighthouse").await, ["ops.flights"]);
    }

    #[tokio::test]
    async fn products_of_the_broker_and_attached_ones_are_not_searched() {
        let (_, catalogue) = catalogue();
        catalogue.create_product(&Caller::default(), create("ops.flights")).await.unwrap();
        let handle = catalogue.resolve("ops.flights", "").unwrap();
        for (name, id) in [("meshlog.other", "id-1"), ("ops.flights$dead", "id-2")] {
            let mut stored = handle.stored().unwrap();
            let product = stored.product.as_mut().unwrap();
            (product.name, product.id) = (name.to_owned(), id.to_owned());
            let mut mutation = catalogue.begin().await;
            mutation.set(Key::Product(id), &stored);
            mutation.commit_with(Entry::default()).await.unwrap();
            catalogue.resolve(name, "").unwrap();
        }
        assert_eq!(found(&catalogue, "").await, ["ops.flights"]);
        assert_eq!(found(&catalogue, "flights").await, ["ops.flights"]);
    }
}
