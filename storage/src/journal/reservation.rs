//! Reservation: where an entry gets its offsets and its room, under one short lock.
//!
//! Everything that can refuse an entry is decided here, before it takes room: unknown streams,
//! `expected_offset`, producer sequences. The copy of the payloads happens afterwards, outside
//! of the lock.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::BytesMut;

use super::arena::{ArenaPool, cut};
use super::ends::Ends;
use super::group::{ClosedGroup, Done, Group, Room, Waiter};
use crate::disk::BLOCK;
use crate::entry::{Appended, AppendedRange, Control, Durability, Entry, ProducerStamp};
use crate::error::{Applied, Error, ErrorKind, Result};
use crate::format::{ControlRecord, Frame, FrameKind, GROUP_HEADER_BYTES, StreamEnd, round_up};
use crate::position::{Lsn, Offset, StreamId, Timestamp};
use crate::producers::{Lookup, ProducerKey, key, sequence_too_old};
use crate::sabotage::skips;
use crate::state::State;

/// Producers with nothing under way that are known here, beside those of the last ten seconds.
const PRODUCERS_MAX: usize = 16 << 10;

/// Why entries are refused before they are looked at.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    /// For good.
    All(Error),
    /// Until there is space; control work goes on.
    Data(Error),
}

/// Groups being filled and waiting to be written, and where every stream will stand after them.
pub(crate) struct Reservation {
    group_bytes: usize,
    group_bytes_max: usize,
    arenas: ArenaPool,
    rest: BytesMut,
    last_length: usize,
    open: Option<OpenGroup>,
    ready: VecDeque<ClosedGroup>,
    /// What the next group repeats of where streams stand.
    pub(crate) ends: Ends,
    next_ticket: u64,
    tails: HashMap<StreamId, Tail>,
    producers: HashMap<ProducerKey, InFlight>,
    duplicates: Vec<(u64, Waiter)>,
    pub(crate) refusal: Option<Refusal>,
    pub(crate) next_stream: u64,
}

struct OpenGroup {
    group: Arc<Group>,
    head: BytesMut,
    /// Header and payloads so far.
    bytes: usize,
    /// With the ends of the streams of the group before.
    table_bytes: usize,
    frames: usize,
    /// Where its streams will stand, a stream once for each time that it follows another.
    ends: Vec<StreamEnd>,
}

/// Where a stream will stand after everything reserved.
#[derive(Clone, Copy)]
pub(crate) struct Tail {
    pub(crate) next: Offset,
    pub(crate) last_time: Timestamp,
}

/// Where a producer will stand after everything reserved.
struct InFlight {
    epoch: u32,
    next_sequence: u64,
    /// Not yet durable: sequence, the ticket of its group, and its outcome.
    pending: VecDeque<(u64, u64, Appended)>,
}

/// What became of an entry under the lock.
pub(crate) enum Reserved {
    /// Fill the room; wake the committer if this is the first entry of a group.
    Room { room: Room, payloads: Vec<Vec<bytes::Bytes>>, wake: bool },
    /// A retry whose outcome only the log knows.
    LookUp(Lookup),
    /// Nothing to write; tell the outcome.
    Answer(Done, Result<Appended>),
    /// A retry of an entry that is under way: it will be answered with it.
    Joined,
}

impl Reservation {
    pub(crate) fn new(group_bytes: usize, group_bytes_max: usize) -> Self {
        Self {
            group_bytes,
            group_bytes_max,
            arenas: ArenaPool::new(group_bytes + (64 << 10)),
            rest: BytesMut::new(),
            last_length: 0,
            open: None,
            ready: VecDeque::new(),
            ends: Ends::default(),
            next_ticket: 1,
            tails: HashMap::new(),
            producers: HashMap::new(),
            duplicates: Vec::new(),
            refusal: None,
            next_stream: 0,
        }
    }

    /// Sets where everything stands, as recovered or after groups were given up.
    pub(crate) fn reset(
        &mut self,
        tails: impl Iterator<Item = (StreamId, Tail)>,
        ends: Arc<[StreamEnd]>,
    ) {
        self.ends.begin(ends, self.next_ticket);
        self.tails = tails.collect();
        // Where they stand is known to the state.
        self.producers = HashMap::new();
    }

    /// Gives an entry its offsets and its room, or says why not.
    pub(crate) fn reserve(
        &mut self,
        entry: Entry,
        done: Done,
        now: Timestamp,
        state: &State,
        durable: Durability,
    ) -> Reserved {
        if let Some(stamp) = entry.producer {
            match self.admit_sequence(&stamp, state, durable) {
                Ok(Sequence::Next) => {}
                Ok(Sequence::Settled(appended)) => return Reserved::Answer(done, Ok(appended)),
                Ok(Sequence::GivenUp(before)) => {
                    let streams = entry.batches.iter().map(|batch| batch.stream).collect();
                    let lookup = Lookup {
                        done,
                        stamp,
                        streams,
                        before,
                        durability: durable,
                        _permit: entry.permit,
                    };
                    return Reserved::LookUp(lookup);
                }
                Ok(Sequence::UnderWay(ticket, appended)) => {
                    // What was under way when the journal failed has no outcome to wait for.
                    if let Some(Refusal::All(error)) = &self.refusal {
                        let unknown = error.clone().with_applied(Applied::Unknown);
                        return Reserved::Answer(done, Err(unknown));
                    }
                    let waiter =
                        Waiter { done, appended, wanted: entry.durability, _permit: entry.permit };
                    self.duplicates.push((ticket, waiter));
                    return Reserved::Joined;
                }
                Err(error) => return Reserved::Answer(done, Err(error)),
            }
        }
        match self.place(&entry, now) {
            Ok(placed) => self.take_room(entry, done, placed),
            Err(error) => Reserved::Answer(done, Err(error)),
        }
    }

    /// Gives records of the engine's own their room.
    pub(crate) fn reserve_records(
        &mut self,
        mut records: Vec<(StreamId, ControlRecord)>,
        done: Done,
        now: Timestamp,
    ) -> Reserved {
        // Stream 0 is the journal itself.
        records.retain(|(stream, _)| stream.0 == 0 || self.tails.contains_key(stream));
        let entry = Entry::default();
        match self.place_all(&entry, &records, now) {
            Ok(placed) => self.take_room(entry, done, placed),
            Err(error) => Reserved::Answer(done, Err(error)),
        }
    }

    fn place(&mut self, entry: &Entry, now: Timestamp) -> Result<Placed> {
        self.place_all(entry, &[], now)
    }

    /// Checks the whole entry, changing nothing, then gives out the offsets.
    fn place_all(
        &mut self,
        entry: &Entry,
        records: &[(StreamId, ControlRecord)],
        now: Timestamp,
    ) -> Result<Placed> {
        match &self.refusal {
            Some(Refusal::All(error)) => return Err(error.clone()),
            Some(Refusal::Data(error)) if records.is_empty() && !entry.is_control() => {
                return Err(error.clone());
            }
            _ => {}
        }
        let mut after: HashMap<StreamId, Option<Tail>> = HashMap::new();
        let mut frames = Vec::with_capacity(entry.controls.len() + entry.batches.len());
        let mut payloads = Vec::with_capacity(frames.capacity());
        let mut controls = records.to_vec();
        for control in &entry.controls {
            controls.push(self.place_control(control, &mut after)?);
        }
        for (stream, record) in controls {
            let mut payload = BytesMut::new();
            record.encode(&mut payload);
            frames.push(Frame::control(record.kind(), stream, now));
            payloads.push(vec![payload.freeze()]);
        }
        let mut ranges = Vec::with_capacity(entry.batches.len());
        for batch in &entry.batches {
            let mut tail = self.tail(batch.stream, &after)?;
            if let Some(expected) = batch.expected_offset
                && expected != tail.next
                && !skips("the expected offset")
            {
                return Err(Error::new(
                    ErrorKind::OffsetMismatch { stream: batch.stream, next_offset: tail.next },
                    format!(
                        "the next offset is {}, not {expected}: read what was appended first, \
                         then decide again",
                        tail.next
                    ),
                ));
            }
            assert!(batch.count > 0, "a batch holds at least one record");
            let append_time = now.max(tail.last_time);
            frames.push(Frame {
                base_offset: tail.next,
                count: batch.count,
                schema: batch.schema,
                application: batch.application,
                append_time,
                broker_time: now,
                producer: entry.producer,
                ..Frame::control(FrameKind::Batch, batch.stream, now)
            });
            ranges.push(AppendedRange {
                stream: batch.stream,
                first_offset: tail.next,
                count: batch.count,
                append_time,
            });
            payloads.push(batch.payload.clone());
            tail = Tail { next: tail.next.plus(batch.count), last_time: append_time };
            after.insert(batch.stream, Some(tail));
        }
        let Some(first) = frames.first_mut() else {
            return Err(Error::new(ErrorKind::TooLarge, "an entry without content"));
        };
        first.starts_entry = true;
        let lengths: Vec<usize> = payloads.iter().map(|pieces| length_of(pieces)).collect();
        let payload_bytes = lengths.iter().sum();
        let table_bytes = frames.iter().map(Frame::encoded_bytes).sum();
        let whole = round_up(GROUP_HEADER_BYTES + payload_bytes + table_bytes);
        if whole > self.group_bytes_max {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "the entry takes {whole} bytes, the largest journal file holds {}: send less \
                     at once",
                    self.group_bytes_max
                ),
            ));
        }
        // Nothing can fail from here on.
        for (stream, tail) in after {
            match tail {
                Some(tail) => drop(self.tails.insert(stream, tail)),
                None => drop(self.tails.remove(&stream)),
            }
        }
        for (frame, length) in frames.iter_mut().zip(&lengths) {
            frame.payload_bytes = *length as u32;
        }
        Ok(Placed { frames, payloads, ranges, payload_bytes, table_bytes })
    }

    fn place_control(
        &self,
        control: &Control,
        after: &mut HashMap<StreamId, Option<Tail>>,
    ) -> Result<(StreamId, ControlRecord)> {
        Ok(match control {
            Control::CreateStream(stream) => {
                let exists = self.tails.contains_key(stream) || after.contains_key(stream);
                assert!(!exists, "a stream id is used once");
                after.insert(*stream, Some(Tail { next: Offset(0), last_time: Timestamp(0) }));
                (*stream, ControlRecord::CreateStream)
            }
            Control::DeleteStream(stream) => {
                self.tail(*stream, after)?;
                after.insert(*stream, None);
                (*stream, ControlRecord::DeleteStream)
            }
            Control::TrimStream(stream, start) => {
                let tail = self.tail(*stream, after)?;
                if *start > tail.next {
                    return Err(Error::new(
                        ErrorKind::OffsetOutOfRange { start: Offset(0), durable_end: tail.next },
                        format!("cannot trim to {start}: the next offset is {}", tail.next),
                    ));
                }
                (*stream, ControlRecord::Trim(*start))
            }
            Control::SetPolicy(stream, policy) => {
                self.tail(*stream, after)?;
                (*stream, ControlRecord::SetPolicy(*policy))
            }
            Control::SetState { key, value } => {
                (StreamId(0), ControlRecord::SetState { key: key.clone(), value: value.clone() })
            }
        })
    }

    fn tail(&self, stream: StreamId, after: &HashMap<StreamId, Option<Tail>>) -> Result<Tail> {
        let tail = match after.get(&stream) {
            Some(tail) => *tail,
            None => self.tails.get(&stream).copied(),
        };
        tail.ok_or_else(|| Error::unknown_stream(stream))
    }

    fn take_room(&mut self, entry: Entry, done: Done, placed: Placed) -> Reserved {
        let Placed { mut frames, payloads, ranges, payload_bytes, table_bytes } = placed;
        self.open_group(payload_bytes, table_bytes);
        #[expect(clippy::expect_used, reason = "open_group leaves an open group")]
        let open = self.open.as_mut().expect("a group is open");
        let mut payload_offset = open.bytes as u32;
        for frame in &mut frames {
            frame.payload_offset = payload_offset;
            payload_offset += frame.payload_bytes;
        }
        for range in &ranges {
            let end = range.first_offset.plus(range.count);
            match open.ends.last_mut() {
                Some(last) if last.stream == range.stream => last.end = end,
                _ => open.ends.push(StreamEnd { stream: range.stream, end }),
            }
        }
        let appended =
            Appended { lsn: Lsn(0), ranges, durability: entry.durability, duplicate: false };
        if let Some(stamp) = entry.producer {
            let in_flight = self.producers.entry(key(&stamp)).or_insert_with(|| InFlight {
                epoch: stamp.epoch,
                next_sequence: 0,
                pending: VecDeque::new(),
            });
            if in_flight.epoch != stamp.epoch {
                in_flight.epoch = stamp.epoch;
                in_flight.pending.clear();
            }
            in_flight.next_sequence = stamp.sequence + 1;
            in_flight.pending.push_back((stamp.sequence, self.next_ticket, appended.clone()));
        }
        let wake = open.frames == 0;
        open.bytes += payload_bytes;
        open.table_bytes += table_bytes;
        open.frames += frames.len();
        let piece = cut(&mut self.rest, payload_bytes);
        let waiter = Waiter { done, appended, wanted: entry.durability, _permit: entry.permit };
        let room = open.group.reserve(frames, waiter, piece);
        Reserved::Room { room, payloads, wake }
    }

    /// Makes sure that the open group has room for this much more.
    fn open_group(&mut self, payload_bytes: usize, more_table: usize) {
        if let Some(open) = &self.open {
            let length = round_up(open.bytes + payload_bytes + open.table_bytes + more_table);
            let fits_arena = length - open.bytes <= self.rest.capacity();
            if length <= self.group_bytes && fits_arena {
                return;
            }
            self.close_open();
        }
        let ends_bytes = self.ends.bytes();
        let length = round_up(GROUP_HEADER_BYTES + payload_bytes + more_table + ends_bytes);
        // A group goes into the rest of an arena if twice the last one would fit there.
        let expected = length.max(2 * self.last_length);
        if self.rest.capacity() < expected {
            self.rest = self.arenas.take(length.max(self.group_bytes));
        }
        let head = cut(&mut self.rest, GROUP_HEADER_BYTES);
        self.open = Some(OpenGroup {
            group: Arc::default(),
            head,
            bytes: GROUP_HEADER_BYTES,
            table_bytes: ends_bytes,
            frames: 0,
            ends: Vec::new(),
        });
    }

    fn close_open(&mut self) {
        let Some(open) = self.open.take() else { return };
        let length = round_up(open.bytes + open.table_bytes);
        let tail = cut(&mut self.rest, length - open.bytes);
        debug_assert!(self.rest.capacity() == 0 || self.rest.as_ptr().addr().is_multiple_of(BLOCK));
        self.last_length = length;
        let padding = length - open.bytes - open.table_bytes;
        let repeated = self.ends.repeated(self.next_ticket, padding);
        let more = repeated.ends.len() * StreamEnd::BYTES - self.ends.bytes();
        if !open.ends.is_empty() {
            self.ends.advance(self.next_ticket, open.ends);
        }
        self.ready.push_back(ClosedGroup {
            ticket: self.next_ticket,
            group: open.group,
            head: open.head,
            tail,
            table_offset: open.bytes,
            table_bytes: open.table_bytes + more,
            frames: open.frames,
            repeated,
            ends: self.ends.last(),
            length,
        });
        self.next_ticket += 1;
    }

    /// True if an entry waits to be written.
    pub(crate) fn has_work(&self) -> bool {
        !self.ready.is_empty() || self.open.is_some()
    }

    /// True if a group is full, so that waiting makes none larger.
    pub(crate) fn has_full_group(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next group to write; it takes no more entries.
    pub(crate) fn next_group(&mut self) -> Option<ClosedGroup> {
        if self.ready.is_empty() {
            self.close_open();
        }
        self.ready.pop_front()
    }

    /// Gives up every group not yet handed to the committer. Returns them, and the retries that
    /// waited for a group, with its ticket.
    pub(crate) fn abandon(&mut self) -> (Vec<ClosedGroup>, Vec<(u64, Waiter)>) {
        self.close_open();
        (self.ready.drain(..).collect(), std::mem::take(&mut self.duplicates))
    }

    /// Nothing that is under way will become durable, but perhaps the group with this ticket: what
    /// else was sent is not in the log, and a retry is told so.
    pub(crate) fn forget_pending(&mut self, doubtful: Option<u64>) {
        for known in self.producers.values_mut() {
            let stays = |(_, ticket, _): &&(u64, u64, Appended)| Some(*ticket) == doubtful;
            let kept = known.pending.iter().filter(stays).count();
            if let Some((sequence, ..)) = known.pending.get(kept) {
                known.next_sequence = *sequence;
            }
            known.pending.truncate(kept);
        }
    }

    /// A group of no entries, if none waits: once it is durable it proves the one before.
    pub(crate) fn marker(&mut self) -> Option<ClosedGroup> {
        if self.has_work() {
            return None;
        }
        let length = round_up(GROUP_HEADER_BYTES + self.ends.bytes());
        let padding = length - GROUP_HEADER_BYTES - self.ends.bytes();
        let repeated = self.ends.repeated(self.next_ticket, padding);
        if self.rest.capacity() < length {
            self.rest = self.arenas.take(length.max(self.group_bytes));
        }
        let head = cut(&mut self.rest, GROUP_HEADER_BYTES);
        let tail = cut(&mut self.rest, length - GROUP_HEADER_BYTES);
        self.next_ticket += 1;
        Some(ClosedGroup {
            ticket: self.next_ticket - 1,
            group: Arc::default(),
            head,
            tail,
            table_offset: GROUP_HEADER_BYTES,
            table_bytes: repeated.ends.len() * StreamEnd::BYTES,
            frames: 0,
            repeated,
            ends: self.ends.last(),
            length,
        })
    }

    /// Forgets what is durable now; returns the retries that were waiting for it.
    pub(crate) fn settle(&mut self, ticket: u64, stamps: &[ProducerStamp]) -> Vec<Waiter> {
        for stamp in stamps {
            if let Some(in_flight) = self.producers.get_mut(&key(stamp)) {
                while in_flight.pending.front().is_some_and(|(_, t, _)| *t <= ticket) {
                    in_flight.pending.pop_front();
                }
                if in_flight.pending.is_empty() {
                    in_flight.pending.shrink_to_fit();
                }
            }
        }
        if self.duplicates.is_empty() {
            return Vec::new();
        }
        let mut settled = Vec::new();
        for (waits_for, waiter) in std::mem::take(&mut self.duplicates) {
            if waits_for <= ticket {
                settled.push(waiter);
            } else {
                self.duplicates.push((waits_for, waiter));
            }
        }
        settled
    }

    /// Gives memory back that the last load needed and this one does not.
    pub(crate) fn shrink(&mut self) {
        self.arenas.shrink(2);
    }

    /// Forgets producers with nothing under way, if there are many: the state knows where they
    /// stand, but asking it may mean to wait for a checkpoint.
    pub(crate) fn forget_producers(&mut self) {
        if self.producers.len() > PRODUCERS_MAX {
            self.producers.retain(|_, known| !known.pending.is_empty());
            self.producers.shrink_to_fit();
        }
    }

    fn admit_sequence(
        &self,
        stamp: &ProducerStamp,
        state: &State,
        durable: Durability,
    ) -> Result<Sequence> {
        let known = self.producers.get(&key(stamp));
        let position = match known {
            Some(known) => (known.epoch, known.next_sequence),
            None => {
                let folded = state.folded();
                let Some(position) = folded.producers.position(&key(stamp)) else {
                    return admit_unknown(stamp, folded.producers.lowest_epoch(&key(stamp)));
                };
                position
            }
        };
        let (epoch, next) = position;
        if stamp.epoch < epoch && !skips("the fence of epochs") {
            return Err(Error::new(
                ErrorKind::ProducerFenced { epoch },
                format!(
                    "epoch {} is over: a producer with the same id appends in epoch {}; stop this \
                     one, or give it an id of its own",
                    stamp.epoch, epoch
                ),
            ));
        }
        let next = if stamp.epoch > epoch { 0 } else { next };
        if stamp.sequence == next || skips("the window of a producer") {
            return Ok(Sequence::Next);
        }
        if stamp.sequence > next && skips("the refusal of gaps") {
            return Ok(Sequence::Next);
        }
        if stamp.sequence > next {
            return Err(Error::new(
                ErrorKind::SequenceGap { expected: next },
                format!(
                    "sequence {} came before {next}: send the missing ones first",
                    stamp.sequence
                ),
            ));
        }
        let mut pending = known.iter().flat_map(|known| &known.pending);
        let pending = pending.find(|(sequence, ..)| *sequence == stamp.sequence);
        if let Some((_, ticket, appended)) = pending {
            return Ok(Sequence::UnderWay(*ticket, appended.clone()));
        }
        let folded = state.folded();
        if let Some(outcome) = folded.producers.outcome(stamp) {
            return Ok(Sequence::Settled(Appended {
                lsn: outcome.lsn,
                ranges: outcome.ranges().to_vec(),
                durability: durable,
                duplicate: true,
            }));
        }
        match folded.producers.given_up(stamp) {
            Some(before) => Ok(Sequence::GivenUp(before)),
            None => Err(sequence_too_old(stamp)),
        }
    }
}

/// A producer that is not known: a new one, or one that was forgotten and must not be taken for
/// new, because what it sends may be there already.
fn admit_unknown(stamp: &ProducerStamp, lowest: u32) -> Result<Sequence> {
    let kind = ErrorKind::ProducerUnknown { epoch: lowest.max(stamp.epoch.saturating_add(1)) };
    if stamp.epoch < lowest || lowest == u32::MAX {
        let error = Error::new(
            kind,
            format!(
                "this producer may have been here and was forgotten: if sequence {} was sent \
                 before, look for its records; then begin epoch {lowest} at sequence 0",
                stamp.sequence
            ),
        );
        return Err(error.with_applied(Applied::Unknown));
    }
    if stamp.sequence > 0 {
        return Err(Error::new(
            kind,
            format!(
                "nothing is known of this producer, so sequence {} cannot be placed: start a new \
                 epoch at sequence 0",
                stamp.sequence
            ),
        ));
    }
    Ok(Sequence::Next)
}

/// An entry with its offsets, before it has a place in a group.
struct Placed {
    /// One per payload; complete but for where the payload lies and its checksum.
    frames: Vec<Frame>,
    payloads: Vec<Vec<bytes::Bytes>>,
    ranges: Vec<AppendedRange>,
    payload_bytes: usize,
    table_bytes: usize,
}

enum Sequence {
    Next,
    UnderWay(u64, Appended),
    Settled(Appended),
    /// Only the log knows; later entries begin at these offsets.
    GivenUp(Vec<(StreamId, Offset)>),
}

fn length_of(pieces: &[bytes::Bytes]) -> usize {
    pieces.iter().map(bytes::Bytes::len).sum()
}

/// What an acknowledgement of a durable entry says.
pub(crate) fn synced(disk_is_memory: bool) -> Durability {
    if disk_is_memory { Durability::Memory } else { Durability::Synced }
}
