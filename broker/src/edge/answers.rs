//! The room of answers: every byte counts from the moment that it is made until the transport has
//! taken it off the broker's hands.
//!
//! ```text
//! room for what is expected ─► frame ─► pieces, given to HTTP ─► dropped once they are written
//!   Held ─────────────────────────────────────────────────────► the last piece gives it back
//! ```
//!
//! A connection may have an eighth of the room, or one frame if that is more. The last eighth of it
//! is for connections that hold nothing yet, so that those who read go on beside those who do not.
//! When somebody finds no room, clients that do not read are cut off, those first that have not for
//! longest: at first the call, and the connection if the call left bytes behind in it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use super::cut::Cut;
use super::quotas::Members;
use super::unread::Unread;
use crate::record::limits::DEFAULT_READ_BYTES;

/// The room that a large frame is expected to need: as much as a read gives by default.
pub(super) const EXPECTED: usize = DEFAULT_READ_BYTES;

/// What a frame costs beside its bytes, here and in the queues of HTTP/2.
const FRAME: usize = 512;

/// A frame is given to the transport in pieces of this size, so that a slow client is told from one
/// that does not read.
const PIECE: usize = 64 << 10;

/// The parts of the room of which a connection may have one, and one is for those without any.
const PARTS: usize = 8;

/// The room of all answers.
#[derive(Debug)]
pub(super) struct Answers {
    limit: usize,
    held: AtomicUsize,
    patience: Duration,
    begun: Instant,
    /// Somebody has found no room since the last look.
    is_short: AtomicBool,
    /// The same of somebody whose connection holds nothing.
    is_very_short: AtomicBool,
    /// Answers that hold room, as long as they go on. At most as many as there are calls.
    open: Mutex<Vec<Weak<Reader>>>,
}

/// What one connection has under way.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// Calls.
    pub(super) calls: AtomicUsize,
    /// Ends the connection.
    pub(super) cut: Arc<Cut>,
    /// Who has made calls on it.
    pub(super) members: Members,
    /// What the client has sent and no call has read.
    pub(super) unread: Unread,
    /// Bytes of answers that the client has not taken.
    answers: AtomicUsize,
    /// One of its calls has found no room since the last look.
    is_short: AtomicBool,
}

/// Who takes an answer, and how it gets on.
#[derive(Debug)]
pub(super) struct Reader {
    answers: Arc<Answers>,
    load: Arc<Load>,
    cut: Arc<Cut>,
    /// Bytes that were given to the transport and that it still has.
    out: AtomicUsize,
    /// When the transport last took something off, or began to.
    since: AtomicU64,
    /// It was cut, and its bytes were still there at the next look.
    is_stuck: AtomicBool,
}

/// Room of one reader; given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    reader: Arc<Reader>,
    bytes: usize,
    is_out: bool,
}

impl Answers {
    /// Room for so many bytes; clients that do not read have so long when it is short.
    pub(super) fn new(limit: usize, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            limit,
            held: AtomicUsize::new(0),
            patience,
            begun: Instant::now(),
            is_short: AtomicBool::new(false),
            is_very_short: AtomicBool::new(false),
            open: Mutex::default(),
        })
    }

    /// Bytes held now, and how many there may be.
    pub(super) fn level(&self) -> (usize, usize) {
        (self.held.load(Ordering::Relaxed), self.limit)
    }

    /// Whether a connection may begin another call whose answer is not asked room for beforehand.
    pub(super) fn has_room_for_call(&self, of: &Load) -> bool {
        let own = of.answers.load(Ordering::Relaxed);
        let fits = own <= 2 * self.share() && self.held.load(Ordering::Relaxed) <= self.limit;
        if !fits && own > 0 {
            self.is_short.store(true, Ordering::Relaxed);
        }
        fits || own == 0
    }

    /// Somebody begins to take an answer.
    pub(super) fn reader(self: &Arc<Self>, cut: Arc<Cut>, load: Arc<Load>) -> Arc<Reader> {
        let reader = Arc::new(Reader {
            answers: Arc::clone(self),
            load,
            cut,
            out: AtomicUsize::new(0),
            since: AtomicU64::new(self.now()),
            is_stuck: AtomicBool::new(false),
        });
        let mut open = self.open.lock();
        if open.len() == open.capacity() {
            open.retain(|reader| reader.strong_count() > 0);
        }
        open.push(Arc::downgrade(&reader));
        drop(open);
        reader
    }

    /// What one connection may have.
    fn share(&self) -> usize {
        (self.limit / PARTS).max(2 * EXPECTED)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Cuts off clients that do not read, if somebody has found no room since the last time. Called
    /// about once a second. Gives how many.
    pub(super) fn cut_stalled(&self) -> usize {
        let is_very_short = self.is_very_short.swap(false, Ordering::Relaxed);
        let is_short = self.is_short.swap(false, Ordering::Relaxed) || is_very_short;
        // When not even newcomers have room, nobody has the whole time.
        let patience = if is_very_short { self.patience / 10 } else { self.patience };
        let now = self.now();
        let mut stalled = Vec::new();
        self.open.lock().retain(|reader| {
            let Some(reader) = reader.upgrade() else { return false };
            let out = reader.out.load(Ordering::Relaxed);
            let silent = now.saturating_sub(reader.since.load(Ordering::Relaxed));
            if out > 0 && reader.cut.is_cut() {
                // The call is over. What it has sent goes with it as soon as the connection writes
                // anything; if it does not, nobody reads at its other end.
                if reader.is_stuck.swap(true, Ordering::Relaxed) {
                    reader.load.cut.cut();
                }
            } else if out > 0 && Duration::from_millis(silent) >= patience {
                stalled.push((silent, out, reader));
            }
            true
        });
        stalled.sort_by_key(|(silent, _, _)| std::cmp::Reverse(*silent));
        let (mut count, mut freed) = (0, 0);
        let short_loads: Vec<Arc<Load>> = stalled
            .iter()
            .map(|(_, _, reader)| &reader.load)
            .filter(|load| load.is_short.swap(false, Ordering::Relaxed))
            .cloned()
            .collect();
        for (_, out, reader) in stalled {
            let is_own = short_loads.iter().any(|load| Arc::ptr_eq(load, &reader.load));
            // A part of the room is enough for others to go on.
            if is_own || (is_short && freed <= self.limit / PARTS * 2) {
                freed += out;
                count += 1;
                reader.cut.cut();
            }
        }
        if count > 0 {
            tracing::warn!(
                count,
                "clients that did not read were cut off, because memory is short"
            );
        }
        count
    }
}

impl Reader {
    /// Room for more, of about so many bytes, if there is some now.
    pub(super) fn expect(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        let (answers, load) = (&self.answers, &self.load);
        let own = load.answers.load(Ordering::Relaxed);
        let limit = match own {
            0 => answers.limit,
            _ => answers.limit / PARTS * (PARTS - 1),
        };
        if own > 0 && own + bytes > answers.share() {
            load.is_short.store(true, Ordering::Relaxed);
            return None;
        }
        let order = Ordering::Relaxed;
        // One there may always be, however small the room is.
        let fits = |all: usize| (all == 0 || all + bytes <= limit).then_some(all + bytes);
        if answers.held.fetch_update(order, order, fits).is_err() {
            let found = if own == 0 { &answers.is_very_short } else { &answers.is_short };
            found.store(true, order);
            return None;
        }
        load.answers.fetch_add(bytes, order);
        Some(Held { reader: Arc::clone(self), bytes, is_out: false })
    }

    /// Takes room for what is there already.
    pub(super) fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        let mut held = Held { reader: Arc::clone(self), bytes: 0, is_out: false };
        held.becomes(bytes);
        held
    }

    fn moved(&self) {
        self.since.store(self.answers.now(), Ordering::Relaxed);
    }
}

impl Held {
    /// Who has it.
    pub(super) fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }

    fn becomes(&mut self, bytes: usize) {
        for sum in [&self.reader.answers.held, &self.reader.load.answers] {
            sum.fetch_add(bytes, Ordering::Relaxed);
            sum.fetch_sub(self.bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }

    /// Goes with a frame to the transport: its pieces, which give the room back when the last of
    /// them is dropped.
    pub(super) fn goes_with(mut self, frame: Bytes) -> Pieces {
        self.becomes(frame.len() + FRAME);
        let reader = &self.reader;
        if reader.out.fetch_add(self.bytes, Ordering::Relaxed) == 0 {
            reader.moved();
        }
        self.is_out = true;
        Pieces { rest: frame, held: Some(Arc::new(self)) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.is_out {
            self.reader.out.fetch_sub(self.bytes, Ordering::Relaxed);
        }
        self.becomes(0);
    }
}

/// A frame on its way to the transport.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    rest: Bytes,
    held: Option<Arc<Held>>,
}

/// A piece that the transport has.
struct Piece {
    bytes: Bytes,
    held: Arc<Held>,
}

impl Pieces {
    /// The next one, if there is one.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        let held = match self.rest.len() <= PIECE {
            true => self.held.take()?,
            false => Arc::clone(self.held.as_ref()?),
        };
        let bytes = self.rest.split_to(self.rest.len().min(PIECE));
        Some(Bytes::from_owner(Piece { bytes, held }))
    }

    /// Bytes that are not given yet.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.held.reader.moved();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn room(limit: usize) -> Arc<Answers> {
        Answers::new(limit, Duration::ZERO)
    }

    fn reader(of: &Arc<Answers>) -> Arc<Reader> {
        of.reader(Arc::default(), Arc::default())
    }

    #[test]
    fn bytes_count_until_the_transport_has_dropped_the_last_of_them() {
        let answers = room(64 * MIB);
        let reader = reader(&answers);
        let held = reader.expect(MIB).unwrap();
        assert_eq!(answers.level().0, MIB);
        let mut pieces = held.goes_with(Bytes::from(vec![7; 200_000]));
        assert_eq!(answers.level().0, 200_000 + FRAME);
        let mut given = Vec::new();
        while let Some(piece) = pieces.next() {
            given.push(piece);
        }
        assert_eq!(given.iter().map(Bytes::len).sum::<usize>(), 200_000);
        assert!(given.iter().all(|piece| piece.len() <= PIECE));
        drop(pieces);
        let last = given.pop();
        drop(given);
        assert_eq!(answers.level().0, 200_000 + FRAME, "the buffer is one");
        drop(last);
        assert_eq!(answers.level().0, 0);
        assert_eq!(reader.out.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_connection_has_a_share_and_newcomers_have_the_last_of_the_room() {
        let answers = room(32 * MIB);
        let greedy: Vec<_> = (0..20).map(|_| reader(&answers)).collect();
        let mut held = Vec::new();
        for reader in &greedy {
            while let Some(room) = reader.expect(MIB) {
                held.push(room);
                assert!(held.len() <= 32);
            }
        }
        assert_eq!(answers.level().0, 32 * MIB, "never more than there is");
        let of_first = greedy[0].load.answers.load(Ordering::Relaxed);
        assert_eq!(of_first, 4 * MIB, "an eighth");
        let holds = greedy.iter().filter(|one| one.load.answers.load(Ordering::Relaxed) > 0);
        assert_eq!(holds.count(), 11, "seven with a share, and four newcomers");
        drop(held);
        assert!(greedy[19].expect(MIB).is_some());
    }

    #[test]
    fn one_frame_there_may_be_however_small_the_room() {
        let answers = room(1);
        let (one, other) = (reader(&answers), reader(&answers));
        let held = one.expect(MIB).unwrap();
        assert!(other.expect(MIB).is_none());
        drop(held);
        assert!(other.expect(MIB).is_some());
    }

    #[test]
    fn who_does_not_read_is_cut_only_if_somebody_found_no_room() {
        let answers = room(4 * MIB);
        let (stalled, idle) = (reader(&answers), reader(&answers));
        let mut pieces = stalled.expect(MIB).unwrap().goes_with(Bytes::from(vec![0; 3 * MIB]));
        let stuck = pieces.next();
        assert_eq!(answers.cut_stalled(), 0, "there is room");
        assert!(idle.expect(2 * MIB).is_none());
        assert_eq!(answers.cut_stalled(), 1);
        assert!(stalled.cut.is_cut() && !idle.cut.is_cut());
        assert!(!stalled.load.cut.is_cut(), "the call first");
        answers.cut_stalled();
        assert!(!stalled.load.cut.is_cut(), "it has time to go");
        answers.cut_stalled();
        assert!(stalled.load.cut.is_cut(), "what it sent is stuck");
        drop((stuck, pieces));
        assert_eq!(answers.level().0, 0);
        drop((stalled, idle));
        answers.cut_stalled();
        assert!(answers.open.lock().is_empty(), "nobody is remembered");
    }

    #[test]
    fn a_connection_that_is_full_of_its_own_loses_those_of_its_calls_that_stall() {
        let answers = room(64 * MIB);
        let load = Arc::<Load>::default();
        let stalled = answers.reader(Arc::default(), Arc::clone(&load));
        let active = answers.reader(Arc::default(), load);
        let other = reader(&answers);
        let frame = || Bytes::from(vec![0; 8 * MIB]);
        let _stuck = stalled.expect(MIB).unwrap().goes_with(frame());
        let _of_another = other.expect(MIB).unwrap().goes_with(frame());
        assert!(active.expect(MIB).is_none());
        assert_eq!(answers.cut_stalled(), 1);
        assert!(stalled.cut.is_cut() && !other.cut.is_cut());
    }
}
