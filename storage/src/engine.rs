//! What the threads of one open directory share.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::admission::Admission;
use crate::backup::LivePins;
use crate::durations::Durations;
use crate::entry::Entry;
use crate::error::{Error, Result, lacks_space};
use crate::files::Files;
use crate::format::ControlRecord;
use crate::journal::{
    Committer, Done, Refusal, Reservation, Reserved, Slot, Slots, refuse, synced,
};
use crate::keeper::Keeper;
use crate::merge::Merger;
use crate::options::{Components, Options};
use crate::position::{Lsn, StreamId};
use crate::read::{ChunkCache, Footers, ReadQueue};
use crate::retention::Retention;
use crate::sabotage::skips;
use crate::state::State;

/// Everything behind the handle.
pub(crate) struct Engine {
    pub(crate) options: Options,
    pub(crate) parts: Components,
    pub(crate) admission: Arc<Admission>,
    pub(crate) reservation: Mutex<Reservation>,
    pub(crate) work: Condvar,
    pub(crate) committer: Mutex<Committer>,
    pub(crate) state: State,
    pub(crate) files: Files,
    pub(crate) footers: Footers,
    pub(crate) chunks: ChunkCache,
    pub(crate) slots: Mutex<Slots>,
    pub(crate) keeper: Keeper,
    pub(crate) retention: Retention,
    pub(crate) merger: Merger,
    pub(crate) reads: ReadQueue,
    pub(crate) backups: LivePins,
    pub(crate) counters: Counters,
    /// How long recovery took.
    pub(crate) recovery: Duration,
    /// The newest group that readers may see.
    durable: AtomicU64,
    /// The last group needs no later one to prove it durable.
    proven: AtomicBool,
    stopping: AtomicBool,
}

/// Counts since the storage was opened.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) groups: AtomicU64,
    pub(crate) entries: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) merges: AtomicU64,
    pub(crate) merged_bytes: AtomicU64,
    /// Of the sync that each acknowledgement waits for.
    pub(crate) sync_times: Durations,
}

impl Counters {
    /// One group was written and synced.
    pub(crate) fn wrote(&self, bytes: usize, entries: usize) {
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.entries.fetch_add(entries as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// One merge is durable.
    pub(crate) fn merged(&self, bytes: u64) {
        self.merges.fetch_add(1, Ordering::Relaxed);
        self.merged_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes written to journal files.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// The parts recovery leaves behind.
pub(crate) struct Recovered {
    pub(crate) reservation: Reservation,
    pub(crate) committer: Committer,
    pub(crate) state: State,
    pub(crate) files: Files,
    pub(crate) footers: Footers,
    pub(crate) slots: Slots,
    pub(crate) keeper: Keeper,
}

impl Engine {
    pub(crate) fn new(
        options: Options,
        parts: Components,
        recovered: Recovered,
        recovery: Duration,
    ) -> Self {
        let durable = recovered.committer.lsn.0;
        let proven = recovered.committer.is_proven;
        let (newest, doubt) = {
            let folded = recovered.state.folded();
            (folded.newest_time, folded.clock_doubt)
        };
        let clock = Arc::clone(&parts.clock);
        Self {
            admission: Admission::new(options.in_flight_bytes),
            reservation: Mutex::new(recovered.reservation),
            work: Condvar::new(),
            committer: Mutex::new(recovered.committer),
            state: recovered.state,
            files: recovered.files,
            footers: recovered.footers,
            chunks: ChunkCache::new(options.chunk_cache_bytes),
            slots: Mutex::new(recovered.slots),
            keeper: recovered.keeper,
            retention: Retention::new(clock.now(), clock.monotonic(), newest, doubt),
            merger: Merger::default(),
            reads: ReadQueue::default(),
            backups: LivePins::default(),
            counters: Counters::default(),
            recovery,
            durable: AtomicU64::new(durable),
            proven: AtomicBool::new(proven),
            stopping: AtomicBool::new(false),
            options,
            parts,
        }
    }

    /// The newest group that readers may see.
    pub(crate) fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    /// Whether the last group needs a later one to prove it durable.
    pub(crate) fn set_proven(&self, is_proven: bool) {
        self.proven.store(is_proven, Ordering::Release);
    }

    /// Lets readers see everything up to this group.
    pub(crate) fn publish(&self, lsn: Lsn) {
        let before = self.durable.swap(lsn.0, Ordering::AcqRel);
        assert!(before <= lsn.0, "the durable LSN only rises");
    }

    /// Reserves, copies, and wakes the committer.
    pub(crate) fn append(&self, entry: Entry, done: Done) {
        let now = self.parts.clock.now();
        let durability = synced(self.parts.disk.is_memory());
        let reserved = self.reservation.lock().reserve(entry, done, now, &self.state, durability);
        self.fill(reserved);
    }

    /// Appends records of the engine's own. Those of streams that are gone are left out.
    pub(crate) fn append_records(&self, records: Vec<(StreamId, ControlRecord)>, done: Done) {
        let now = self.parts.clock.now();
        let reserved = self.reservation.lock().reserve_records(records, done, now);
        self.fill(reserved);
    }

    fn fill(&self, reserved: Reserved) {
        match reserved {
            Reserved::Room { room, payloads, wake } => {
                room.fill(&payloads);
                // In memory a hand-over to the committer costs more than the commit.
                let is_done = wake && self.parts.disk.is_memory() && self.commit_here();
                if wake && !is_done {
                    self.work.notify_one();
                }
            }
            Reserved::LookUp(lookup) => {
                self.reads.push(Box::new(move |engine| lookup.answer(engine)));
            }
            Reserved::Answer(done, outcome) => done(outcome),
            Reserved::Joined => {}
        }
    }

    /// Commits everything that waits.
    pub(crate) fn commit_all(&self) {
        let mut committer = self.committer.lock();
        self.commit_waiting(&mut committer);
    }

    /// Commits everything that waits, unless a commit is under way: an outcome is told inside of
    /// one, and whoever is told may append.
    fn commit_here(&self) -> bool {
        let Some(mut committer) = self.committer.try_lock() else { return false };
        self.commit_waiting(&mut committer);
        true
    }

    fn commit_waiting(&self, committer: &mut Committer) {
        loop {
            let Some(group) = self.reservation.lock().next_group() else { return };
            committer.commit(self, group);
        }
    }

    /// Proves the last group durable with one that holds nothing, unless more is coming.
    pub(crate) fn mark(&self) {
        let mut committer = self.committer.lock();
        if self.is_proven() || committer.has_failed {
            return;
        }
        let marker = self.reservation.lock().marker();
        if let Some(marker) = marker {
            committer.commit(self, marker);
        }
    }

    /// A slot for the next file: the prepared one, a recycled or new one, or the reserve, after
    /// which only control work is accepted.
    pub(crate) fn next_slot(&self, needed: u64, wanted: u64) -> io::Result<Slot> {
        if let Some(slot) = self.keeper.take_prepared(needed) {
            return Ok(slot);
        }
        let mut slots = self.slots.lock();
        let full = match slots.take(wanted.max(needed)) {
            Ok(slot) => return Ok(slot),
            Err(error) if lacks_space(&error) => error,
            Err(error) => return Err(error),
        };
        let Some(slot) = slots.take_reserve(needed)? else { return Err(full) };
        drop(slots);
        self.refuse_data(Error::disk_full(full));
        self.keeper.wake();
        Ok(slot)
    }

    /// From here on only control work is accepted, until [`Engine::accept_data`].
    pub(crate) fn refuse_data(&self, refused: Error) {
        let mut reservation = self.reservation.lock();
        if reservation.refusal.is_none() && !skips("the reserve for control work") {
            tracing::error!(error = %refused, "data appends are refused, control work goes on");
            reservation.refusal = Some(Refusal::Data(refused));
        }
    }

    /// Space is there again.
    pub(crate) fn accept_data(&self) {
        let mut reservation = self.reservation.lock();
        if matches!(reservation.refusal, Some(Refusal::Data(_))) {
            reservation.refusal = None;
            tracing::info!("appends are accepted again");
        }
    }

    /// True if the journal takes nothing any more.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.reservation.lock().refusal, Some(Refusal::All(_)))
    }

    /// True if nothing is on its way to the journal, and the last group was a while ago.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_proven() && !self.reservation.lock().has_work()
    }

    /// True while appends wait for space.
    pub(crate) fn lacks_space(&self) -> bool {
        matches!(self.reservation.lock().refusal, Some(Refusal::Data(_)))
    }

    /// Why everything is refused.
    pub(crate) fn refusal_error(&self) -> Error {
        match &self.reservation.lock().refusal {
            Some(Refusal::All(error) | Refusal::Data(error)) => error.clone(),
            None => Error::closed(),
        }
    }

    /// Refuses what comes, commits what came, and seals.
    pub(crate) fn close(&self) -> Result<()> {
        {
            let mut reservation = self.reservation.lock();
            match reservation.refusal {
                Some(Refusal::All(_)) => return Ok(()),
                _ => reservation.refusal = Some(Refusal::All(Error::closed())),
            }
        }
        self.commit_all();
        self.committer.lock().seal_for_good(self)
    }

    /// True if nothing needs a marker.
    pub(crate) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Acquire)
    }

    /// Ends the threads once they have nothing to do.
    pub(crate) fn stop(&self) {
        {
            let _reservation = self.reservation.lock();
            self.stopping.store(true, Ordering::Release);
        }
        self.work.notify_all();
        self.keeper.stop();
        self.merger.stop();
        self.reads.stop();
    }

    /// True after [`Engine::stop`].
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Answers everybody who still waits, after the threads have stopped.
    pub(crate) fn refuse_rest(&self) {
        let (groups, retries) = self.reservation.lock().abandon();
        let error = self.refusal_error();
        groups.into_iter().for_each(|group| refuse(group.group.abandon(), &error));
        refuse(retries.into_iter().map(|(_, waiter)| waiter).collect(), &error);
        self.merger.refuse_rest(self);
    }
}
