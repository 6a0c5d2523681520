//! Calls that were refused, on their way into the audit log.
//!
//! The first few of a principal in a minute get a record each, at once; the others are counted, and
//! one record tells of them when the minute is over. So whoever knocks ten thousand times a second
//! writes some records a minute and holds nobody up: a refused call is answered without waiting for
//! its record, and a crash may lose those of the last moment.
//!
//! Bounds: [`PRINCIPALS`] principals are told apart in a minute, the others are counted together;
//! [`AT_ONCE`] records a minute are written at once altogether. Per principal [`ACTIONS`] calls are
//! told apart.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use meshlog_storage::Timestamp;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::sync::Notify;

use crate::Caller;
use crate::broker::Broker;
use crate::catalogue::{Act, AuditKind, Catalogue, Told, WeakCatalogue};
use crate::time::proto_time;

/// Refused calls are counted for so long before one record tells of them.
const WINDOW: Duration = Duration::from_secs(60);
/// Records of one principal that are written at once in a window.
const EACH: u32 = 5;
/// Records of all principals that are written at once in a window.
const AT_ONCE: u32 = 300;
/// Principals that are told apart in a window.
const PRINCIPALS: usize = 1_000;
/// Calls that are told apart for a principal in a window.
const ACTIONS: usize = 16;
/// Records in one entry.
const TOGETHER: usize = 50;
/// Longest text that is taken from a call.
const TEXT_BYTES: usize = 256;
/// Stands for what is beyond [`PRINCIPALS`] and [`ACTIONS`].
const OTHERS: &str = "(others)";

/// Why a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The caller proved who it is and may not do that.
    Access,
    /// The caller could not prove who it is.
    Authentication,
}

/// A call that was refused.
#[derive(Clone, Copy, Debug)]
pub struct Denial<'a> {
    /// Why.
    pub refused: Refused,
    /// The call, in snake case (`append`) or as a path.
    pub action: &'a str,
    /// What it was about, for instance `product/ops.flights`; empty: nothing in particular.
    pub resource: &'a str,
    /// The reason for a person. Nothing that anybody proves who it is with may stand here.
    pub reason: &'a str,
}

/// What the audit log has yet to be told.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    window: Mutex<Window>,
    /// Something is to be written.
    waiting: Notify,
}

#[derive(Debug, Default)]
struct Window {
    began: Timestamp,
    principals: HashMap<Arc<str>, Counted>,
    at_once: u32,
    /// To be written now; at most [`AT_ONCE`], and what a window ends with.
    ready: Vec<Record>,
    /// Somebody writes what is ready.
    has_writer: bool,
    total: u64,
}

/// What was counted of one principal in a window.
#[derive(Debug)]
struct Counted {
    caller: Caller,
    written: u32,
    more: u64,
    first: Timestamp,
    last: Timestamp,
    refused: Refused,
    reason: String,
    actions: BTreeMap<String, u64>,
}

/// One record to be written.
#[derive(Debug)]
struct Record {
    caller: Caller,
    time: Timestamp,
    act: Act,
}

impl Denials {
    /// Refused calls since the broker was opened.
    pub(crate) fn total(&self) -> u64 {
        self.window.lock().total
    }

    /// Notes one; says whether somebody has to be sent to write.
    fn note(&self, now: Timestamp, caller: &Caller, denial: Denial<'_>) -> bool {
        let mut window = self.window.lock();
        window.total += 1;
        window.turn(now);
        let is_known = window.principals.contains_key(&caller.principal);
        let caller = match is_known || window.principals.len() < PRINCIPALS {
            true => caller.clone(),
            false => others(),
        };
        let at_once = window.at_once;
        let counted =
            window.principals.entry(Arc::clone(&caller.principal)).or_insert_with(|| Counted {
                caller: caller.clone(),
                written: 0,
                more: 0,
                first: now,
                last: now,
                refused: denial.refused,
                reason: String::new(),
                actions: BTreeMap::new(),
            });
        if counted.written < EACH && at_once < AT_ONCE {
            counted.written += 1;
            let act = Act::new(cut(denial.action), kind(denial.refused), &cut(denial.resource))
                .also("reason", cut(denial.reason));
            window.at_once += 1;
            window.ready.push(Record { caller, time: now, act });
        } else {
            counted.count(now, denial);
        }
        self.waiting.notify_one();
        !std::mem::replace(&mut window.has_writer, true)
    }

    /// What is to be written; with `all` also what the window has counted so far.
    fn take(&self, now: Timestamp, all: bool) -> Vec<Record> {
        let mut window = self.window.lock();
        window.turn(now);
        if all {
            window.end();
        }
        std::mem::take(&mut window.ready)
    }

    /// How long until the window ends; none once nothing was counted in it, and then whoever notes
    /// the next sends a writer again.
    fn next(&self, now: Timestamp) -> Option<Duration> {
        let mut window = self.window.lock();
        if !window.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        if window.principals.values().all(|counted| counted.more == 0) {
            window.has_writer = false;
            return None;
        }
        let gone = Duration::from_nanos(now.0.saturating_sub(window.began.0));
        // A clock that the test sets may stand still: look again now and then.
        Some(WINDOW.saturating_sub(gone).clamp(Duration::from_millis(10), WINDOW))
    }
}

impl Window {
    /// Ends the window if it is over. A clock that goes back ends it too.
    fn turn(&mut self, now: Timestamp) {
        let is_over = now.0 < self.began.0 || now.0 - self.began.0 >= WINDOW.as_nanos() as u64;
        if is_over {
            self.end();
            self.began = now;
        }
    }

    fn end(&mut self) {
        let counted = self.principals.drain().map(|(_, counted)| counted);
        let mut told: Vec<Record> = counted.filter_map(Counted::told).collect();
        told.sort_by_key(|told| told.time);
        self.ready.extend(told);
        self.at_once = 0;
    }
}

impl Counted {
    fn count(&mut self, now: Timestamp, denial: Denial<'_>) {
        if self.more == 0 {
            (self.first, self.refused) = (now, denial.refused);
            self.reason = cut(denial.reason);
        }
        self.more += 1;
        self.last = now;
        let action = match self.actions.len() < ACTIONS || self.actions.contains_key(denial.action)
        {
            true => cut(denial.action),
            false => OTHERS.to_owned(),
        };
        *self.actions.entry(action).or_default() += 1;
    }

    fn told(self) -> Option<Record> {
        if self.more == 0 {
            return None;
        }
        let action = match self.actions.keys().next() {
            Some(action) if self.actions.len() == 1 => action.clone(),
            _ => "(several)".to_owned(),
        };
        let actions: Map<String, Value> =
            self.actions.into_iter().map(|(action, count)| (action, count.into())).collect();
        let act = Act::new(action, kind(self.refused), "")
            .also("reason", self.reason)
            .also("count", self.more)
            .also("until_time", proto_time(self.last).to_string())
            .also("actions", actions);
        Some(Record { caller: self.caller, time: self.first, act })
    }
}

fn kind(refused: Refused) -> AuditKind {
    match refused {
        Refused::Access => AuditKind::Denial,
        Refused::Authentication => AuditKind::Authentication,
    }
}

/// Everybody beyond those who are told apart.
fn others() -> Caller {
    Caller { principal: OTHERS.into(), ..Caller::default() }
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

impl Broker {
    /// Writes down that a call was refused. Answers at once: the record follows, and a flood of
    /// them is counted. Call it once per refused call, wherever it is refused.
    pub fn refused_call(&self, caller: &Caller, denial: Denial<'_>) {
        self.catalogue().refused_call(caller, denial);
    }
}

impl Catalogue {
    /// As [`Broker::refused_call`].
    pub(crate) fn refused_call(&self, caller: &Caller, denial: Denial<'_>) {
        let is_writer_needed = self.denials().note(self.now(), caller, denial);
        if is_writer_needed && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(write(self.downgrade()));
        }
    }

    /// Writes what is to be written; with `all` also what has only been counted so far. Failing is
    /// logged: whoever was refused does not get in by it.
    pub(crate) async fn write_denials(&self, all: bool) {
        let ready = self.denials().take(self.now(), all);
        for some in ready.chunks(TOGETHER) {
            let told: Vec<Told<'_>> = some
                .iter()
                .map(|one| Told { caller: &one.caller, act: &one.act, time: proto_time(one.time) })
                .collect();
            if let Err(error) = self.tell(&told).await {
                tracing::warn!(
                    records = told.len(),
                    %error,
                    "refused calls could not be written to the audit log"
                );
            }
        }
    }
}

/// Writes until nothing is counted any more.
async fn write(catalogue: WeakCatalogue) {
    loop {
        let (denials, wait) = {
            let Some(catalogue) = catalogue.upgrade() else { return };
            catalogue.write_denials(false).await;
            let denials = Arc::clone(catalogue.denials());
            let Some(wait) = denials.next(catalogue.now()) else { return };
            (denials, wait)
        };
        // Without the catalogue, so that waiting keeps no broker open.
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = denials.waiting.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn denial(action: &str) -> Denial<'_> {
        Denial {
            refused: Refused::Access,
            action,
            resource: "product/ops.flights",
            reason: "no grant",
        }
    }

    fn counts(told: &[Record]) -> u64 {
        let count = |one: &Record| one.act.said("count").and_then(Value::as_u64).unwrap_or(1);
        told.iter().map(count).sum()
    }

    #[test]
    fn a_flood_is_some_records_a_minute_and_no_call_is_left_out() {
        let denials = Denials::default();
        let mut told = Vec::new();
        for number in 0..10_000_u64 {
            let now = Timestamp(SECOND * 1_000 + number * 12_000_000);
            denials.note(now, &Caller::new("greedy"), denial("append"));
            told.extend(denials.take(now, false));
        }
        told.extend(denials.take(Timestamp(SECOND * 1_130), true));
        // Two minutes: five at once and one that counts, each.
        assert_eq!(told.len(), 12, "{}", told.len());
        assert_eq!(counts(&told), 10_000);
        assert_eq!(denials.total(), 10_000);
    }

    #[test]
    fn a_flood_under_many_names_is_bounded_too() {
        let denials = Denials::default();
        for number in 0..10_000_u64 {
            let caller = Caller::new(&format!("name-{number}"));
            denials.note(Timestamp(SECOND), &caller, denial(&format!("call-{number}")));
            assert!(denials.window.lock().principals.len() <= PRINCIPALS + 1);
        }
        let told = denials.take(Timestamp(SECOND), true);
        assert!(told.len() <= AT_ONCE as usize + PRINCIPALS + 1, "{}", told.len());
        assert_eq!(counts(&told), 10_000);
        let others = told.iter().find(|one| &*one.caller.principal == OTHERS).unwrap();
        let actions = others.act.said("actions").unwrap().as_object().unwrap();
        assert_eq!(actions.len(), ACTIONS + 1);
    }

    #[test]
    fn a_clock_that_goes_back_loses_no_count() {
        let denials = Denials::default();
        for _ in 0..10 {
            denials.note(Timestamp(SECOND * 500), &Caller::new("a"), denial("append"));
        }
        denials.note(Timestamp(SECOND), &Caller::new("a"), denial("append"));
        assert_eq!(counts(&denials.take(Timestamp(SECOND), true)), 11);
    }
}
