//! Plays a run against a storage, checking on the way what can be checked without a crash.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meshlog_storage::disk::{Clock as _, CrashPlan, ManualClock, SeededRandom};
use meshlog_storage::{
    Batch, Control, Entry, ErrorKind, Offset, ProducerStamp, Storage, StreamId, Timestamp,
};

use super::history::{History, Sent, Told};
use super::observed::{Observed, read_from, read_some};
use super::reference::{Log, Now, Window};
use super::step::{Append, Expects, Step, Turn};
use crate::support::{Machine, lines_of};

/// A machine, the storage on it, and what was promised so far.
pub(crate) struct Play {
    pub(crate) machine: Machine,
    pub(crate) history: History,
    storage: Option<Storage>,
    streams: Vec<StreamId>,
    /// The next offset that a reader of each stream waits for.
    followers: BTreeMap<StreamId, u64>,
    /// Entries whose outcome was looked at.
    settled: usize,
    jumped: bool,
    /// Everything submitted, as far as it is known not to be refused.
    tip: Log,
    merges: u64,
    pub(crate) restarts: u64,
}

impl Play {
    pub(crate) fn new(machine: Machine) -> Self {
        Self {
            machine,
            history: History::default(),
            storage: None,
            streams: Vec::new(),
            followers: BTreeMap::new(),
            settled: 0,
            jumped: false,
            tip: Log::default(),
            merges: 0,
            restarts: 0,
        }
    }

    /// Plays all steps, looking at everything after each so many of them.
    pub(crate) fn run(mut self, steps: &[Step], looks: usize) -> Self {
        self.open();
        for (tag, step) in steps.iter().enumerate() {
            self.machine.clock.advance(Duration::from_millis(1));
            self.note_time();
            self.step(tag as u64, step);
            self.note_time();
            if self.settle() {
                self.is_refused();
                self.stop(tag % 2 == 0);
                self.open();
                self.survives(CrashPlan::KeepNothing);
            } else if tag % looks == looks - 1 {
                self.look(if tag % 2 == 0 { 3000 } else { 1 << 20 });
            }
        }
        self
    }

    /// Ends without closing; what is promised stays.
    pub(crate) fn die(mut self) -> (Machine, History) {
        self.stop(false);
        (self.machine, self.history)
    }

    /// Merges so far.
    pub(crate) fn merges(&self) -> u64 {
        self.merges + self.storage.as_ref().map_or(0, |storage| storage.stats().merges)
    }

    fn storage(&self) -> &Storage {
        self.storage.as_ref().expect("the storage is open")
    }

    fn step(&mut self, tag: u64, step: &Step) {
        match step {
            Step::Create => {
                let stream = self.storage().allocate_stream();
                self.streams.push(stream);
                self.control(Control::CreateStream(stream));
            }
            Step::Append(append) => self.append(tag, append),
            Step::Delete(index) => {
                if let Some(stream) = self.stream(*index) {
                    self.control(Control::DeleteStream(stream));
                }
            }
            Step::Trim(index) => {
                if let Some(stream) = self.stream(*index)
                    && let Ok(bounds) = self.storage().bounds(stream)
                {
                    let start = Offset(bounds.start.0.midpoint(bounds.durable_end.0));
                    self.control(Control::TrimStream(stream, start));
                }
            }
            Step::SetPolicy(index, policy) => {
                if let Some(stream) = self.stream(*index) {
                    self.control(Control::SetPolicy(stream, *policy));
                }
            }
            Step::SetState(key, set) => {
                let value = set.then(|| Bytes::from(format!("value {tag}")));
                self.control(Control::SetState { key: Bytes::from(vec![*key]), value });
            }
            Step::Drive => self.storage().drive(),
            Step::Idle => self.storage().drive_idle(),
            Step::Wait(by) => {
                self.machine.clock.advance(*by);
                self.note_time();
                self.storage().drive();
            }
            Step::Jump(seconds) => {
                let now = self.machine.clock.now().0;
                let by = seconds.unsigned_abs() * 1_000_000_000;
                let now = if *seconds < 0 { now - by } else { now + by };
                self.machine.clock.set(Timestamp(now));
                self.jumped = true;
            }
            Step::Kill => {
                self.stop(false);
                self.open();
            }
            Step::Reopen => {
                self.stop(true);
                self.open();
            }
        }
    }

    /// The stream of this number, counted back from the newest.
    fn stream(&self, index: usize) -> Option<StreamId> {
        self.streams.iter().rev().nth(index).copied()
    }

    fn control(&mut self, control: Control) {
        self.send(Entry { controls: vec![control], ..Entry::default() }, None);
    }

    fn append(&mut self, tag: u64, append: &Append) {
        let log = &self.tip;
        let mut batches: Vec<Batch> = append
            .streams
            .iter()
            .filter_map(|index| self.stream(*index))
            .zip(0..)
            .map(|(stream, number)| batch(stream, tag * 10 + number, append, number as u32 + 1))
            .collect();
        let (mut producer, mut retries, mut in_turn) = (None, None, true);
        if let Some((id, turn)) = append.producer {
            let window = log.producers.get(&[id; 16]).cloned().unwrap_or_default();
            let stamp = stamp(id, turn, &window);
            retries = window.last.filter(|_| turn == Turn::Again);
            in_turn = Self::is_in_turn(&window, &stamp);
            producer = Some(stamp);
        }
        if let Some(first) = retries {
            // The content of the first attempt, whatever it was.
            let sent = &self.history.sent[first].batches;
            batches = sent.iter().map(|(id, payload, count)| plain(*id, payload, *count)).collect();
        }
        let exists = batches.iter().all(|batch| log.streams.contains_key(&batch.stream));
        let Some(first) = batches.first_mut() else { return };
        let next = log.streams.get(&first.stream).map(|stream| stream.end);
        first.expected_offset = next.and_then(|next| match append.expects {
            Expects::Nothing => None,
            Expects::TheNext => Some(Offset(next)),
            Expects::Another => Some(Offset(next + 1)),
        });
        let mismatch = append.expects == Expects::Another && next.is_some();
        let bytes: usize = batches.iter().map(|batch| batch.payload[0].len()).sum();
        let is_large = bytes + 4096 > self.machine.options.file_bytes_max as usize / 4 * 3;
        let entry = Entry { batches, producer, durability: append.durability, ..Entry::default() };
        let told = self.send(entry, retries);
        // What is refused is refused at once, and nothing else is.
        let refused = told.lock().as_ref().and_then(|(_, told)| told.as_ref().err().cloned());
        match refused.map(|error| error.kind().clone()) {
            None => assert!(
                retries.is_some() || (exists && !mismatch && in_turn),
                "{append:?} was taken as {producer:?}"
            ),
            Some(ErrorKind::OffsetMismatch { next_offset, .. }) => {
                assert!(mismatch && Some(next_offset.0) == next, "{append:?} did match");
            }
            Some(ErrorKind::UnknownStream(_)) => assert!(!exists),
            Some(
                ErrorKind::ProducerFenced { .. }
                | ErrorKind::SequenceGap { .. }
                | ErrorKind::SequenceTooOld
                | ErrorKind::ProducerUnknown { .. },
            ) => assert!(!in_turn && retries.is_none(), "{append:?} is in turn as {producer:?}"),
            Some(ErrorKind::TooLarge) => assert!(is_large, "{bytes} bytes are not too large"),
            Some(ErrorKind::DiskFull | ErrorKind::JournalFailed) => {}
            Some(kind) => panic!("{append:?} was refused: {kind:?}"),
        }
    }

    fn send(&mut self, entry: Entry, retries: Option<usize>) -> Told {
        let told = Told::default();
        let sent = Sent {
            call: self.machine.disk.calls(),
            wall: self.machine.clock.now(),
            elapsed: self.machine.clock.monotonic(),
            controls: entry.controls.clone(),
            batches: entry
                .batches
                .iter()
                .map(|batch| (batch.stream, batch.payload[0].clone(), batch.count))
                .collect(),
            producer: entry.producer,
            told: Arc::clone(&told),
            retries,
            found: None,
        };
        self.history.sent.push(sent);
        let (slot, disk) = (Arc::clone(&told), self.machine.disk.clone());
        self.storage().append(entry, move |outcome| *slot.lock() = Some((disk.calls(), outcome)));
        let index = self.history.sent.len() - 1;
        let sent = &self.history.sent[index];
        if retries.is_none() && !sent.is_refused(u64::MAX) {
            self.tip.fold(index, sent);
        }
        told
    }

    /// Whether what a producer said is in turn.
    fn is_in_turn(window: &Window, stamp: &ProducerStamp) -> bool {
        let next = if stamp.epoch > window.epoch { 0 } else { window.next };
        stamp.epoch >= window.epoch && stamp.sequence == next
    }

    /// Looks at what was answered since the last time; true if the journal has failed.
    fn settle(&mut self) -> bool {
        let is_told = |sent: &Sent| sent.told.lock().is_some();
        if self.history.sent[self.settled..]
            .iter()
            .any(|sent| is_told(sent) && sent.is_refused(u64::MAX))
        {
            self.tip = self.history.at_end().most;
        }
        let log = &self.tip;
        let mut failed = false;
        let mut first_untold = None;
        for index in self.settled..self.history.sent.len() {
            let sent = &self.history.sent[index];
            match &*sent.told.lock() {
                None => drop(first_untold.get_or_insert(index)),
                Some((_, Err(error))) => failed |= *error.kind() == ErrorKind::JournalFailed,
                Some((_, Ok(appended))) => {
                    assert_eq!(appended.duplicate, sent.retries.is_some(), "entry {index}");
                    let mut places: Vec<_> = appended
                        .ranges
                        .iter()
                        .map(|range| (range.stream, range.first_offset, range.count))
                        .collect();
                    places.sort_unstable();
                    let mut expected = log.places(sent.retries.unwrap_or(index));
                    // A stream deleted since has no places any more.
                    places.retain(|(stream, ..)| log.streams.contains_key(stream));
                    expected.retain(|(stream, ..)| log.streams.contains_key(stream));
                    assert_eq!(places, expected, "where entry {index} was put");
                }
            }
        }
        self.settled = first_untold.unwrap_or(self.history.sent.len());
        failed
    }

    fn note_time(&mut self) {
        let now = self.now();
        self.history.clocks.push((self.machine.disk.calls(), now));
    }

    fn now(&self) -> Now {
        let (wall, elapsed) = (self.machine.clock.now(), self.machine.clock.monotonic());
        let before = self.history.clocks.last().map_or(Timestamp(0), |(_, now)| now.trusted);
        let trusted = if self.jumped { before } else { before.max(wall) };
        Now { wall, trusted, elapsed }
    }

    /// After a failure nothing is taken until the next open.
    fn is_refused(&mut self) {
        assert!(self.storage().health().appends_refused.is_some(), "a failed journal says so");
        let controls = vec![Control::SetState { key: Bytes::from_static(b"late"), value: None }];
        let told = self.send(Entry { controls, ..Entry::default() }, None);
        let is_refused = matches!(&*told.lock(), Some((_, Err(_))));
        assert!(is_refused, "a failed journal takes entries");
    }

    /// Compares everything readable with what was promised; what was seen is promised from now on.
    /// Answers which open entries are not there.
    fn look(&mut self, max_bytes: usize) -> Vec<usize> {
        let observed = Observed::of(self.storage(), max_bytes);
        let (call, now) = (self.machine.disk.calls(), self.now());
        let promise = self.history.at_end();
        let found = promise.find(|log| observed.is(log, &promise.most, now));
        let (log, absent) =
            found.unwrap_or_else(|why| panic!("at call {call} readers see:\n  {why}"));
        let absent = absent.to_vec();
        for (stream, start) in promise.starts() {
            if let Some((bounds, _)) = observed.streams.get(&stream) {
                assert!(bounds.start.0 >= start, "the start of {stream} fell from {start}");
            }
        }
        let seen = log.streams.values().filter_map(|stream| Some(stream.pieces.last()?.entry));
        self.history.witnessed.extend(seen.max().map(|entry| (call, entry)));
        for (id, (bounds, _)) in &observed.streams {
            self.history.starts.push((call, *id, bounds.start.0));
        }
        self.follow(&observed);
        absent
    }

    /// A reader of each stream goes on where it was: nothing is left out or comes again.
    fn follow(&mut self, observed: &Observed) {
        self.followers.retain(|stream, _| observed.streams.contains_key(stream));
        for (id, (bounds, batches)) in &observed.streams {
            let next = self.followers.entry(*id).or_default();
            *next = (*next).max(bounds.start.0);
            let storage = self.storage.as_ref().expect("the storage is open");
            let read = read_from(storage, *id, Offset(*next), 4096).unwrap();
            let expected: Vec<_> =
                batches.iter().filter(|batch| batch.end().0 > *next).cloned().collect();
            assert_eq!(read, expected, "stream {id} from {next}");
            *next = bounds.durable_end.0;
        }
    }

    /// The process ends: cleanly, or all at once, telling nobody.
    fn stop(&mut self, cleanly: bool) {
        let Some(storage) = self.storage.take() else { return };
        self.merges += storage.stats().merges;
        self.restarts += 1;
        if cleanly {
            storage.drive();
            drop(storage.close());
            drop(storage);
        } else {
            for sent in &mut self.history.sent {
                if sent.told.lock().is_none() {
                    sent.told = Told::default();
                }
            }
            let disk = self.machine.disk.outlives_process();
            drop(storage);
            self.machine.disk = disk;
        }
    }

    /// Starts, and finds out what became of the entries whose fate was open.
    fn open(&mut self) {
        // A fault happens once, or in two calls in a row.
        let opened = (0..3).find_map(|_| match self.machine.open() {
            Ok(storage) => Some(storage),
            Err(error) => {
                let is_disk = matches!(error.kind(), ErrorKind::Io | ErrorKind::DiskFull);
                assert!(is_disk, "it does not open: {error}");
                None
            }
        });
        let storage = opened.expect("it opens once the disk works again");
        let damage = storage.health().damage;
        assert!(damage.is_empty(), "a stop is not damage: {damage:?}");
        self.storage = Some(storage);
        self.jumped = false;
        let absent = self.look(1 << 20);
        let first = self.history.lives.last().map_or(0, |(_, entries)| *entries);
        for (index, sent) in self.history.sent.iter_mut().enumerate().skip(first) {
            let is_there = sent.retries.is_none() && !sent.is_refused(u64::MAX);
            sent.found = Some(is_there && !absent.contains(&index));
        }
        let call = self.machine.disk.calls();
        self.history.lives.push((call, self.history.sent.len()));
        self.settled = self.history.sent.len();
        self.tip = self.history.at_end().most;
    }
}

/// Records that name the stream and themselves, or have one of a few keys.
fn batch(stream: StreamId, tag: u64, append: &Append, count: u32) -> Batch {
    let mut payload = String::new();
    for index in 0..u64::from(count) {
        let line = match (append.keyed, (tag + index) % 7) {
            (true, 0) => format!("@{}", tag % 3),
            (true, key) => format!("@{} {stream} {tag} {index} ", key % 3),
            (false, _) => format!("{stream} {tag} {index} "),
        };
        payload.push_str(&line);
        let is_tombstone = append.keyed && !line.contains(' ');
        if !is_tombstone {
            let length = append.length.saturating_sub(line.len() + 1);
            payload.extend(std::iter::repeat_n('x', length));
        }
        payload.push('\n');
    }
    plain(stream, &Bytes::from(payload), count)
}

fn plain(stream: StreamId, payload: &Bytes, count: u32) -> Batch {
    Batch {
        stream,
        payload: vec![payload.clone()],
        count,
        schema: 1,
        application: 2,
        expected_offset: None,
    }
}

/// What a producer whose window is this says.
pub(crate) fn stamp(id: u8, turn: Turn, window: &Window) -> ProducerStamp {
    let (epoch, sequence) = match turn {
        Turn::Next => (window.epoch, window.next),
        Turn::Again => (window.epoch, window.next.saturating_sub(1)),
        Turn::Gap => (window.epoch, window.next + 1),
        Turn::Takeover => (window.epoch + 1, 0),
        Turn::Fenced => (window.epoch.saturating_sub(1), window.next),
    };
    ProducerStamp { scope: 9, id: [id; 16], epoch, sequence }
}

impl Play {
    /// Power is lost now, without stopping: what is promised is there afterwards.
    pub(crate) fn survives(&self, plan: CrashPlan) {
        let machine = Machine {
            disk: self.machine.disk.after_crash(plan),
            clock: Arc::new(ManualClock::starting_at(self.machine.clock.now())),
            random: Arc::new(SeededRandom::new(self.history.sent.len() as u64)),
            options: self.machine.options.clone(),
        };
        let storage = machine.open().unwrap_or_else(|error| panic!("it does not open: {error}"));
        super::check::check(&storage, &self.history.at_end());
        machine.disk.cut_power();
    }
}

impl Play {
    /// After a fault that nobody was told of: whatever can be read is what was appended, and
    /// whatever is promised and cannot be read is said to be damaged. Answers whether something is.
    pub(crate) fn is_honest(&self, context: &str) -> bool {
        let machine = Machine {
            disk: self.machine.disk.after_crash(CrashPlan::KeepAll),
            clock: Arc::new(ManualClock::starting_at(self.machine.clock.now())),
            random: Arc::new(SeededRandom::new(1)),
            options: self.machine.options.clone(),
        };
        let storage = match machine.open() {
            Ok(storage) => storage,
            Err(error) => {
                let is_said = matches!(error.kind(), ErrorKind::Corrupt { .. } | ErrorKind::Format);
                assert!(is_said, "{context}: {error}");
                return true;
            }
        };
        let promise = self.history.at_end();
        let now = self.now();
        let mut is_damaged = !storage.health().damage.is_empty();
        for (id, stream) in &promise.least.streams {
            let Ok(bounds) = storage.bounds(*id) else {
                assert!(is_damaged, "{context}: stream {id} is gone without a word");
                continue;
            };
            let (found, corrupt) = read_around(&storage, *id, bounds.start);
            is_damaged |= !corrupt.is_empty();
            for (offset, line, _) in stream.records() {
                match found.get(&offset) {
                    Some(is) => assert!(is == line, "{context}: {offset} of {id} is wrong"),
                    None if offset < bounds.start.0 => {
                        let highest = stream.highest_start(stream, now);
                        assert!(is_damaged || offset < highest, "{context}: {offset} of {id}");
                    }
                    None => assert!(
                        corrupt.iter().any(|range| range.contains(&offset))
                            || (offset >= bounds.durable_end.0 && is_damaged)
                            || stream.may_lack(offset, stream, now),
                        "{context}: offset {offset} of stream {id} is gone without a word"
                    ),
                }
            }
        }
        machine.disk.cut_power();
        is_damaged
    }
}

/// Everything readable, by offset, and the ranges that are not.
fn read_around(
    storage: &Storage,
    stream: StreamId,
    from: Offset,
) -> (BTreeMap<u64, Vec<u8>>, Vec<std::ops::Range<u64>>) {
    let (mut found, mut corrupt, mut next) = (BTreeMap::new(), Vec::new(), from);
    loop {
        match read_some(storage, stream, next) {
            Ok(batches) if batches.is_empty() => return (found, corrupt),
            Ok(batches) => {
                for batch in &batches {
                    for (index, line) in lines_of(&batch.payload).enumerate() {
                        let dense = index as u32;
                        let delta = batch.offset_deltas.get(index).copied().unwrap_or(dense);
                        found.insert(batch.base_offset.plus(delta).0, line.to_vec());
                    }
                    next = batch.end();
                }
            }
            Err(error) => match error.kind() {
                ErrorKind::Corrupt { next_readable } if *next_readable > next => {
                    corrupt.push(next.0..next_readable.0);
                    next = *next_readable;
                }
                kind => panic!("stream {stream} at {next}: {error} ({kind:?})"),
            },
        }
    }
}
