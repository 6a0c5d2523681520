//! The keeper's part: raises start offsets, and finishes the file being written where deletion
//! waits for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::clock::{ClockGuard, Doubt, add};
use super::first_kept::{Cut, age_cut, batch_at, bytes_cut, count_cut, first_kept};
use super::policy::Policy;
use crate::disk::Clock;
use crate::engine::Engine;
use crate::error::Result;
use crate::format::ControlRecord;
use crate::position::{FileSequence, Offset, StreamId, Timestamp};
use crate::sabotage::skips;
use crate::stream::Stream;

/// Between two looks at all streams, but for busy times: then one follows every finished file.
const SPACING: Duration = Duration::from_secs(10);
/// Looking takes at most this part of the time.
const LOOKING_SHARE: u32 = 10;
/// Streams whose first batch is looked up in one step; the rest waits for the next.
const LOOKUPS: usize = 1000;
/// Streams in one entry.
const PER_ENTRY: usize = 512;
/// Two looks that are as near as this are one.
const MOMENT: Duration = Duration::from_secs(1);
/// How long what is deleted waits in the file being written before that is finished early.
pub(crate) const ROLL_AFTER: Duration = Duration::from_secs(3600);

/// What retention knows between two steps.
pub(crate) struct Retention {
    /// Held for a whole step.
    inner: Mutex<Inner>,
    /// For others, who do not wait for a step.
    clock: Mutex<ClockGuard>,
    /// Something was trimmed or deleted since this was looked at last.
    freed: AtomicBool,
    /// A file was finished since all streams were looked at.
    rolled: AtomicBool,
}

struct Inner {
    next: Option<Duration>,
    /// Not before then, also if files are finished.
    rest_until: Duration,
    known: HashMap<StreamId, Oldest>,
    /// Entries with new start offsets that are not durable yet.
    under_way: Arc<AtomicBool>,
    /// The file being written in which something waits for deletion, and since when.
    waiting: Option<(FileSequence, Duration)>,
}

/// The oldest batch of a stream, valid while the stream starts there.
#[derive(Clone, Copy)]
struct Oldest {
    start: Offset,
    append_time: Timestamp,
    bytes: u64,
}

impl Retention {
    /// Both clocks when the log was opened, the newest time it named, and how far off it says
    /// that the clock was.
    pub(crate) fn new(wall: Timestamp, elapsed: Duration, newest: Timestamp, doubt: Doubt) -> Self {
        let inner = Inner {
            next: None,
            rest_until: Duration::ZERO,
            known: HashMap::new(),
            under_way: Arc::default(),
            waiting: None,
        };
        Self {
            inner: Mutex::new(inner),
            clock: Mutex::new(ClockGuard::new(wall, elapsed, newest, doubt)),
            freed: AtomicBool::new(true),
            rolled: AtomicBool::new(false),
        }
    }

    /// Somebody deleted records: the file being written may hold them.
    pub(crate) fn note_freed(&self) {
        self.freed.store(true, Ordering::Release);
    }

    /// A file was finished: what is beyond the limits may go with whole files.
    pub(crate) fn note_rolled(&self) {
        self.rolled.store(true, Ordering::Release);
    }

    /// Why nothing goes by age, if that is so.
    pub(crate) fn note(&self) -> Option<String> {
        self.clock.lock().note()
    }

    /// The time by which records may go, if the clock is trusted.
    pub(crate) fn trusted_time(&self) -> Option<Timestamp> {
        self.clock.lock().trusted()
    }

    /// Looks at both clocks; answers how far off the wall clock was within the last hour.
    pub(crate) fn look_at_clock(&self, clock: &dyn Clock) -> Doubt {
        let (wall, now) = at_once(clock);
        let mut guard = self.clock.lock();
        guard.observe(wall, now);
        guard.doubt()
    }

    /// Does what is due; answers how long until something else is.
    pub(crate) fn step(&self, engine: &Engine) -> Option<Duration> {
        let now = engine.parts.clock.monotonic();
        let mut inner = self.inner.lock();
        let roll = self.roll_if_due(engine, &mut inner, now);
        let rolled = self.rolled.load(Ordering::Acquire);
        let next = inner.next.map(|next| if rolled { next.min(inner.rest_until) } else { next });
        if next.is_some_and(|next| now < next) {
            return earlier(roll, next.map(|next| next - now));
        }
        self.rolled.store(false, Ordering::Release);
        let mut limited: Vec<(Arc<Stream>, Policy)> = engine
            .state
            .streams()
            .into_iter()
            .filter_map(|stream| {
                let policy = stream.view().policy;
                (policy != Policy::default()).then_some((stream, policy))
            })
            .collect();
        // The same state gives the same entry, whatever the map's order.
        limited.sort_unstable_by_key(|(stream, _)| stream.id);
        if limited.is_empty() {
            inner.next = None;
            inner.known = HashMap::new();
            return roll;
        }
        inner.next = Some(now + SPACING);
        let ages = limited.iter().flat_map(|(_, policy)| policy.ages());
        let shortest = ages.min().unwrap_or(Duration::MAX);
        self.clock.lock().limit(shortest);
        self.look_at_clock(engine.parts.clock.as_ref());
        let trusted = {
            let mut guard = self.clock.lock();
            guard.limit(shortest);
            guard.trusted()
        };
        if !inner.under_way.load(Ordering::Acquire) {
            inner.raise(engine, limited, trusted);
        }
        inner.rest_until = now + (engine.parts.clock.monotonic() - now) * LOOKING_SHARE;
        earlier(roll, Some(SPACING))
    }

    /// Finishes the file being written if something in it waits for deletion for too long.
    fn roll_if_due(&self, engine: &Engine, inner: &mut Inner, now: Duration) -> Option<Duration> {
        if self.freed.swap(false, Ordering::AcqRel)
            || inner.waiting.is_some_and(|(_, since)| now >= since + ROLL_AFTER)
        {
            let mut committer = engine.committer.lock();
            let sequence = committer.file.header.sequence;
            let since = inner.waiting.filter(|(file, _)| *file == sequence).map(|(_, since)| since);
            inner.waiting = None;
            if committer.has_dead(engine) {
                let since = since.unwrap_or(now);
                if now >= since + ROLL_AFTER {
                    committer.roll_early(engine);
                } else {
                    inner.waiting = Some((sequence, since));
                }
            }
        }
        inner.waiting.map(|(_, since)| (since + ROLL_AFTER).saturating_sub(now))
    }
}

impl Inner {
    /// Appends the new start offsets of streams with something due.
    fn raise(
        &mut self,
        engine: &Engine,
        limited: Vec<(Arc<Stream>, Policy)>,
        trusted: Option<Timestamp>,
    ) {
        let mut lookups = 0;
        let mut raised = Vec::new();
        for (stream, policy) in limited {
            if lookups >= LOOKUPS {
                self.next = Some(engine.parts.clock.monotonic());
                break;
            }
            match self.raise_one(engine, (&stream, &policy), trusted, &mut lookups) {
                Ok(Some(start)) => {
                    if skips("the entry before a start rises") {
                        stream.view().start = start;
                    }
                    raised.push((stream.id, ControlRecord::Retention(start)));
                }
                Ok(None) => {}
                // What cannot be read is not given up unread.
                Err(error) => tracing::warn!(%error, stream = %stream.id, "retention cannot look"),
            }
        }
        for records in raised.chunks(PER_ENTRY) {
            let under_way = Arc::clone(&self.under_way);
            under_way.store(true, Ordering::Release);
            engine.append_records(
                records.to_vec(),
                Box::new(move |outcome| {
                    under_way.store(false, Ordering::Release);
                    if let Err(error) = outcome {
                        tracing::debug!(%error, "start offsets were not raised");
                    }
                }),
            );
        }
    }

    fn raise_one(
        &mut self,
        engine: &Engine,
        (stream, policy): (&Arc<Stream>, &Policy),
        trusted: Option<Timestamp>,
        lookups: &mut usize,
    ) -> Result<Option<Offset>> {
        let (start, end, bytes) = {
            let view = stream.view();
            (view.start, view.durable_end(engine.durable()), view.bytes)
        };
        if start >= end {
            return Ok(None);
        }
        let oldest = match self.known.get(&stream.id) {
            Some(oldest) if oldest.start == start => *oldest,
            _ => {
                *lookups += 1;
                let Some(batch) = batch_at(engine, stream, start)? else { return Ok(None) };
                let oldest =
                    Oldest { start, append_time: batch.append_time, bytes: batch.counted_before() };
                self.known.insert(stream.id, oldest);
                oldest
            }
        };
        let mut cuts: Vec<Cut> = Vec::new();
        if let (Some(age), Some(now)) = (policy.max_age, trusted)
            && add(oldest.append_time, age) <= now
        {
            cuts.extend(age_cut(age, now));
        }
        if let Some(wanted) = policy.max_bytes
            && bytes.saturating_sub(oldest.bytes) > wanted
        {
            cuts.extend(bytes_cut(engine, stream, wanted)?);
        }
        if let Some(wanted) = policy.max_count
            && end.0 - start.0 > wanted
        {
            cuts.extend(count_cut(wanted, end));
        }
        let mut first = None;
        for cut in cuts {
            *lookups += 1;
            first = first.max(first_kept(engine, stream, cut)?);
        }
        Ok(first.filter(|first| *first > start))
    }
}

/// Both clocks at one moment. A thread that stands still between two looks would see a jump.
fn at_once(clock: &dyn Clock) -> (Timestamp, Duration) {
    loop {
        let before = clock.monotonic();
        let wall = clock.now();
        if clock.monotonic() - before < MOMENT {
            return (wall, before);
        }
    }
}

fn earlier(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    a.into_iter().chain(b).min()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Leaps by a day between its first look and its second.
    #[derive(Default)]
    struct Leaping(AtomicU64);

    const DAY: u64 = 86_400;

    impl Leaping {
        fn seconds(&self) -> u64 {
            if self.0.fetch_add(1, Ordering::Relaxed) == 0 { 0 } else { DAY }
        }
    }

    impl Clock for Leaping {
        fn now(&self) -> Timestamp {
            Timestamp(self.seconds() * 1_000_000_000)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.seconds())
        }
    }

    /// A test's clock went on between the look at one clock and at the other, and for an hour
    /// nothing went by age.
    #[test]
    fn both_clocks_are_looked_at_in_one_moment() {
        let (wall, elapsed) = at_once(&Leaping::default());
        assert_eq!((wall.0 / 1_000_000_000, elapsed.as_secs()), (DAY, DAY));
    }
}
