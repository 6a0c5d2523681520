//! The edges of one product.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use meshlog_proto::v1;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};

use super::copy::Copy;
use super::counter::Count;
use super::{
    Counter, Direction, Index, MAX_APPLICATIONS, MAX_VERSIONS, Who, live_since, now, timestamp,
};
use crate::Caller;
use crate::rule::{Counts as RuleCounts, MAX_RULES};

/// Who appends to one product, and who reads it.
#[derive(Debug, Default)]
pub struct Traffic {
    product_id: Arc<str>,
    index: Arc<Index>,
    appended: OnceLock<Edges>,
    read: OnceLock<Edges>,
    /// Open subscriptions; at most [`MAX_APPLICATIONS`] and one for the others.
    following: Mutex<BTreeMap<Who, u32>>,
    pub(super) copies: Mutex<Vec<Copy>>,
    /// What its rules made of records, by name and version.
    rules: Mutex<Vec<OfRule>>,
    /// Changed since it was last written.
    changed: AtomicBool,
    /// The storage state has, or will have, a key for it.
    stored: AtomicBool,
}

/// Name and version of a rule, and what it made of records.
type OfRule = (Box<str>, u32, Arc<RuleCounts>);

/// Sorted by application, team and version.
type Edges = RwLock<Vec<Arc<Counter>>>;

/// What one application moves, one way: its counters together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) who: Who,
    pub(super) total: Count,
    /// The newest first.
    pub(super) versions: Vec<(u32, Count)>,
}

impl Traffic {
    /// Of a product without any.
    pub(crate) fn new(product_id: &str, index: &Arc<Index>) -> Self {
        Self { product_id: product_id.into(), index: Arc::clone(index), ..Self::default() }
    }

    /// The counter of what a caller appends, or reads, in this schema version.
    pub(crate) fn counter(
        &self,
        direction: Direction,
        caller: &Caller,
        schema_version: u32,
    ) -> Arc<Counter> {
        let (application, team) = (&*caller.application, caller.team.as_deref());
        let edges = self.edges(direction).get_or_init(Edges::default);
        {
            let counters = edges.read();
            if let Ok(at) = position(&counters, application, team, schema_version) {
                return Arc::clone(&counters[at]);
            }
        }
        self.admit(direction, edges.write(), Who::from(caller), schema_version)
    }

    /// The counts of one version of a rule. Of each rule the newest version is kept.
    pub(crate) fn rule_counts(&self, rule: &v1::Rule) -> Arc<RuleCounts> {
        let mut rules = self.rules.lock();
        let found = rules
            .iter()
            .find(|(name, version, _)| **name == *rule.name && *version == rule.version);
        if let Some((_, _, counts)) = found {
            return Arc::clone(counts);
        }
        rules.retain(|(name, _, _)| **name != *rule.name);
        if rules.len() >= 2 * MAX_RULES {
            rules.remove(0);
        }
        let counts = Arc::<RuleCounts>::default();
        rules.push((rule.name.as_str().into(), rule.version, Arc::clone(&counts)));
        counts
    }

    /// Records were appended.
    pub fn appended(&self, caller: &Caller, schema_version: u32, records: u64, bytes: u64) {
        let counter = self.counter(Direction::Append, caller, schema_version);
        counter.add(records, bytes, now());
    }

    /// Records were delivered to an application.
    pub fn delivered(&self, caller: &Caller, schema_version: u32, records: u64, bytes: u64) {
        self.counter(Direction::Read, caller, schema_version).add(records, bytes, now());
    }

    /// An application follows the product until the answer is dropped.
    #[must_use]
    pub fn open(self: &Arc<Self>, caller: &Caller) -> OpenReader {
        let mut caller = caller.clone();
        let mut following = self.following.lock();
        let mut who = Who::from(&caller);
        if following.len() >= MAX_APPLICATIONS && !following.contains_key(&who) {
            who = Who::others();
            caller = Caller::new(&who.application);
        }
        *following.entry(who.clone()).or_default() += 1;
        drop(following);
        OpenReader { traffic: Arc::clone(self), caller, who, counter: None }
    }

    /// Records delivered so far.
    #[must_use]
    pub fn records_read(&self) -> u64 {
        self.records(Direction::Read)
    }

    /// Records appended so far.
    #[must_use]
    pub fn records_appended(&self) -> u64 {
        self.records(Direction::Append)
    }

    fn records(&self, direction: Direction) -> u64 {
        let Some(edges) = self.edges(direction).get() else { return 0 };
        edges.read().iter().map(|counter| counter.count().records).sum()
    }

    /// Whoever has an open subscription or read within 24 hours, by name.
    #[must_use]
    pub fn live_readers(&self) -> Vec<v1::LiveReader> {
        let since = live_since();
        let mut live: BTreeMap<Who, (u32, u64)> = BTreeMap::new();
        for flow in self.flows(Direction::Read) {
            live.insert(flow.who, (0, flow.total.last));
        }
        for (who, open) in self.following.lock().iter() {
            live.entry(who.clone()).or_default().0 = *open;
        }
        live.retain(|_, (open, last)| *open > 0 || *last > since);
        live.into_iter()
            .map(|(who, (open_subscriptions, last))| v1::LiveReader {
                application: who.application.to_string(),
                open_subscriptions,
                last_read_time: timestamp(last),
            })
            .collect()
    }

    /// How many [`Traffic::live_readers`] there are.
    #[must_use]
    pub fn live_reader_count(&self) -> usize {
        let Some(read) = self.read.get() else { return self.following.lock().len() };
        let since = live_since();
        let counters = read.read();
        let following = self.following.lock();
        let recent = counters.iter().filter(|counter| counter.count().last > since);
        let recent: BTreeSet<&Who> = recent.map(|counter| &counter.who).collect();
        following.keys().filter(|who| !recent.contains(who)).count() + recent.len()
    }

    /// As clients see it.
    #[must_use]
    pub fn message(&self) -> v1::ProductUse {
        let last = |direction| {
            let flows = self.flows(direction);
            flows.into_iter().map(|flow| flow.total.last).max().and_then(timestamp)
        };
        v1::ProductUse {
            records_read: self.records_read(),
            records_appended: self.records_appended(),
            last_read_time: last(Direction::Read),
            last_append_time: last(Direction::Append),
            live_readers: self.live_readers(),
            ..v1::ProductUse::default()
        }
    }

    /// Everybody who moved records this way, by name.
    pub(super) fn flows(&self, direction: Direction) -> Vec<Flow> {
        let Some(edges) = self.edges(direction).get() else { return Vec::new() };
        let mut flows: Vec<Flow> = Vec::new();
        for counter in edges.read().iter() {
            let count = counter.count();
            if count.records == 0 {
                continue;
            }
            match flows.last_mut() {
                Some(last) if last.who == counter.who => {
                    last.total = last.total.and(count);
                    last.versions.insert(0, (counter.schema_version, count));
                }
                _ => flows.push(Flow {
                    who: counter.who.clone(),
                    total: count,
                    versions: vec![(counter.schema_version, count)],
                }),
            }
        }
        flows
    }

    /// The product is gone, and its edges with it.
    pub(crate) fn forget(&self) {
        for direction in [Direction::Append, Direction::Read] {
            let Some(edges) = self.edges(direction).get() else { continue };
            for counter in edges.write().drain(..) {
                self.index.remove(&counter.who, direction, &self.product_id);
            }
        }
    }

    /// Puts a count that was stored, or that nobody made, back in its place.
    pub(super) fn put(&self, direction: Direction, who: Who, schema_version: u32, count: Count) {
        let edges = self.edges(direction).get_or_init(Edges::default);
        self.admit(direction, edges.write(), who, schema_version).absorb(count);
    }

    /// The records of the log that no edge counts: those of the last interval before a crash.
    pub(crate) fn complete(&self, records_in_log: u64) {
        let missing = records_in_log.saturating_sub(self.records_appended());
        if missing > 0 {
            let count = Count { records: missing, ..Count::default() };
            self.put(Direction::Append, Who::not_counted(), 0, count);
        }
    }

    fn edges(&self, direction: Direction) -> &OnceLock<Edges> {
        match direction {
            Direction::Append => &self.appended,
            Direction::Read => &self.read,
        }
    }

    /// The counter, made if there is none yet; what is too much gives way.
    fn admit(
        &self,
        direction: Direction,
        mut counters: RwLockWriteGuard<'_, Vec<Arc<Counter>>>,
        mut who: Who,
        mut version: u32,
    ) -> Arc<Counter> {
        let is_known = counters.iter().any(|counter| counter.who == who);
        if !is_known && !who.is_remainder() && applications(&counters) >= MAX_APPLICATIONS {
            match self.longest_idle(&counters) {
                Some(oldest) => {
                    fold(&mut counters, |counter| counter.who == oldest, &Who::others());
                    self.index.remove(&oldest, direction, &self.product_id);
                    self.index.add(&Who::others(), direction, &self.product_id);
                }
                None => (who, version) = (Who::others(), 0),
            }
        }
        let apart = counters.iter().filter(|one| one.who == who && one.schema_version > 0);
        let apart: Vec<&Arc<Counter>> = apart.collect();
        let is_new = version > 0 && apart.iter().all(|one| one.schema_version != version);
        if is_new && apart.len() >= MAX_VERSIONS {
            let idle = apart.iter().find(|one| Arc::strong_count(one) == 1);
            match idle.map(|one| one.schema_version).filter(|oldest| *oldest < version) {
                Some(oldest) => {
                    fold(&mut counters, |one| one.who == who && one.schema_version == oldest, &who)
                }
                None => version = 0,
            }
        }
        match position(&counters, &who.application, who.team.as_deref(), version) {
            Ok(at) => Arc::clone(&counters[at]),
            Err(at) => {
                self.index.add(&who, direction, &self.product_id);
                let counter = Arc::new(Counter::new(who, version, Count::default()));
                counters.insert(at, Arc::clone(&counter));
                counter
            }
        }
    }

    /// The application that was seen longest ago, of those that are not about to count.
    fn longest_idle(&self, counters: &[Arc<Counter>]) -> Option<Who> {
        let following = self.following.lock();
        let mut last: BTreeMap<&Who, u64> = BTreeMap::new();
        let mut busy: BTreeSet<&Who> = BTreeSet::new();
        for counter in counters {
            let seen = last.entry(&counter.who).or_default();
            *seen = counter.count().last.max(*seen);
            // Somebody else holds it; under this lock nobody can begin to.
            if Arc::strong_count(counter) > 1 {
                busy.insert(&counter.who);
            }
        }
        let idle = last.into_iter().filter(|(who, _)| {
            !who.is_remainder() && !busy.contains(who) && !following.contains_key(*who)
        });
        idle.min_by_key(|(_, last)| *last).map(|(who, _)| who.clone())
    }

    /// Whether the storage state has a key for it.
    pub(crate) fn is_stored(&self) -> bool {
        self.stored.load(Ordering::SeqCst)
    }

    pub(super) fn mark_stored(&self) {
        self.stored.store(true, Ordering::SeqCst);
    }

    /// What changes from here on is a change again.
    pub(super) fn begin_to_write(&self) {
        self.changed.store(false, Ordering::SeqCst);
    }

    /// Whether this is the first change since it was written.
    pub(super) fn begins_to_change(&self) -> bool {
        !self.changed.load(Ordering::Relaxed) && !self.changed.swap(true, Ordering::SeqCst)
    }
}

fn position(
    counters: &[Arc<Counter>],
    application: &str,
    team: Option<&str>,
    schema_version: u32,
) -> Result<usize, usize> {
    counters.binary_search_by(|counter| {
        let who = &counter.who;
        (&*who.application, who.team.as_deref(), counter.schema_version).cmp(&(
            application,
            team,
            schema_version,
        ))
    })
}

/// How many applications have edges of their own.
fn applications(counters: &[Arc<Counter>]) -> usize {
    let mut count = 0;
    let mut before = None;
    for who in counters.iter().map(|counter| &counter.who) {
        count += usize::from(before != Some(who) && !who.is_remainder());
        before = Some(who);
    }
    count
}

/// Takes some counters away; what they counted goes to version 0 of `to`.
fn fold(counters: &mut Vec<Arc<Counter>>, which: impl Fn(&Counter) -> bool, to: &Who) {
    let mut count = Count::default();
    counters.retain(|counter| {
        let goes = which(counter);
        if goes {
            count = count.and(counter.count());
        }
        !goes
    });
    match position(counters, &to.application, to.team.as_deref(), 0) {
        Ok(at) => counters[at].absorb(count),
        Err(at) => counters.insert(at, Arc::new(Counter::new(to.clone(), 0, count))),
    }
}

/// An open subscription, as long as it is not dropped.
pub struct OpenReader {
    traffic: Arc<Traffic>,
    caller: Caller,
    who: Who,
    /// Of the schema version that was last delivered.
    counter: Option<Arc<Counter>>,
}

impl fmt::Debug for OpenReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenReader").finish_non_exhaustive()
    }
}

impl OpenReader {
    /// Records were delivered on this subscription.
    pub fn delivered(&mut self, schema_version: u32, records: u64, bytes: u64) {
        let traffic = &self.traffic;
        let find = || traffic.counter(Direction::Read, &self.caller, schema_version);
        let counter = match self.counter.take() {
            Some(counter) if counter.schema_version == schema_version => counter,
            _ => find(),
        };
        counter.add(records, bytes, now());
        self.counter = Some(counter);
    }
}

impl Drop for OpenReader {
    fn drop(&mut self) {
        let mut following = self.traffic.following.lock();
        if let Some(open) = following.get_mut(&self.who) {
            *open -= 1;
            if *open == 0 {
                following.remove(&self.who);
            }
        }
    }
}
