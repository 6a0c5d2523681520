//! The reference: a log that cannot lose anything because it does nothing clever.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use meshlog_storage::{Control, Offset, Policy, ProducerStamp, StreamId, Timestamp};

use super::history::Sent;
use crate::support::lines_of;

/// What a prefix of the entries amounts to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    pub(crate) streams: BTreeMap<StreamId, Stream>,
    pub(crate) state: BTreeMap<Bytes, Bytes>,
    pub(crate) producers: BTreeMap<[u8; 16], Window>,
}

/// One stream, with everything ever appended to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    pub(crate) trimmed: u64,
    pub(crate) end: u64,
    pub(crate) pieces: Vec<Piece>,
    /// Every policy it ever had.
    pub(crate) policies: Vec<Policy>,
}

/// One batch.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) entry: usize,
    pub(crate) base: u64,
    pub(crate) count: u32,
    pub(crate) payload: Bytes,
    pub(crate) producer: Option<ProducerStamp>,
    pub(crate) wall: Timestamp,
    pub(crate) elapsed: Duration,
}

/// What is known of a producer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    pub(crate) epoch: u32,
    pub(crate) next: u64,
    /// The entry of the last sequence.
    pub(crate) last: Option<usize>,
}

/// Both clocks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Now {
    pub(crate) wall: Timestamp,
    /// The latest wall time at which the clock had not just jumped: records may go by it.
    pub(crate) trusted: Timestamp,
    pub(crate) elapsed: Duration,
}

impl Now {
    /// After a restart, which takes the clock as it is.
    pub(crate) fn restarted(self) -> Self {
        Self { trusted: self.trusted.max(self.wall), ..self }
    }

    /// How old the piece may be held to be.
    fn age_of(self, piece: &Piece) -> Duration {
        let by_wall = Duration::from_nanos(self.trusted.0.saturating_sub(piece.wall.0));
        by_wall.max(self.elapsed.saturating_sub(piece.elapsed))
    }
}

impl Piece {
    pub(crate) fn end(&self) -> u64 {
        self.base + u64::from(self.count)
    }
}

impl Log {
    /// Appends an entry.
    pub(crate) fn fold(&mut self, index: usize, sent: &Sent) {
        for control in &sent.controls {
            match control {
                Control::CreateStream(stream) => {
                    self.streams.insert(*stream, Stream::default());
                }
                Control::DeleteStream(stream) => drop(self.streams.remove(stream)),
                Control::SetPolicy(stream, policy) => {
                    if let Some(stream) = self.streams.get_mut(stream) {
                        stream.policies.push(*policy);
                    }
                }
                Control::TrimStream(stream, start) => {
                    if let Some(stream) = self.streams.get_mut(stream) {
                        stream.trimmed = stream.trimmed.max(start.0);
                    }
                }
                Control::SetState { key, value: Some(value) } => {
                    self.state.insert(key.clone(), value.clone());
                }
                Control::SetState { key, value: None } => drop(self.state.remove(key)),
            }
        }
        for (id, payload, count) in &sent.batches {
            if let Some(stream) = self.streams.get_mut(id) {
                stream.pieces.push(Piece {
                    entry: index,
                    base: stream.end,
                    count: *count,
                    payload: payload.clone(),
                    producer: sent.producer,
                    wall: sent.wall,
                    elapsed: sent.elapsed,
                });
                stream.end += u64::from(*count);
            }
        }
        if let Some(stamp) = sent.producer {
            let window = Window { epoch: stamp.epoch, next: stamp.sequence + 1, last: Some(index) };
            self.producers.insert(stamp.id, window);
        }
    }

    /// Lets limits count that may be in force.
    pub(crate) fn fold_policies(&mut self, sent: &Sent) {
        for control in &sent.controls {
            if let Control::SetPolicy(stream, policy) = control
                && let Some(stream) = self.streams.get_mut(stream)
            {
                stream.policies.push(*policy);
            }
        }
    }

    /// Where the batches of an entry are.
    pub(crate) fn places(&self, entry: usize) -> Vec<(StreamId, Offset, u32)> {
        let mut places = Vec::new();
        for (id, stream) in &self.streams {
            // An entry appends its batches of one stream in a row.
            let of_entry = stream.pieces.iter().rev().skip_while(|piece| piece.entry > entry);
            let of_entry = of_entry.take_while(|piece| piece.entry == entry);
            places.extend(of_entry.map(|piece| (*id, Offset(piece.base), piece.count)));
        }
        places.sort_unstable();
        places
    }
}

impl Stream {
    /// The highest start offset that a trim, or a limit the stream ever had, allows. `every` is
    /// the stream with everything submitted: limits may count records whose fate is unknown.
    pub(crate) fn highest_start(&self, every: &Self, now: Now) -> u64 {
        let (mut bytes, mut count, mut most) = (0, 0, 0);
        for piece in every.pieces.iter().rev() {
            let age = now.age_of(piece);
            let goes = every.policies.iter().any(|policy| {
                policy.max_age.is_some_and(|most| age >= most)
                    || policy.max_bytes.is_some_and(|most| bytes >= most)
                    || policy.max_count.is_some_and(|most| count >= most)
            });
            if goes {
                most = most.max(piece.end());
            }
            bytes += piece.payload.len() as u64;
            count += u64::from(piece.count);
        }
        most.min(self.end).max(self.trimmed)
    }

    pub(crate) fn was_ever_compacted(&self) -> bool {
        self.policies.iter().any(|policy| policy.compact.is_some())
    }

    /// Every record with its offset and the time it was appended.
    pub(crate) fn records(&self) -> impl Iterator<Item = (u64, &[u8], &Piece)> {
        self.pieces.iter().flat_map(|piece| {
            let lines = lines_of(&piece.payload);
            (piece.base..).zip(lines).map(move |(offset, line)| (offset, line, piece))
        })
    }

    /// Whether compaction may have taken the record at an offset.
    pub(crate) fn may_lack(&self, offset: u64, every: &Self, now: Now) -> bool {
        if !every.was_ever_compacted() || offset + 1 == self.end {
            return false;
        }
        let Some((_, line, piece)) = self.records().find(|(at, ..)| *at == offset) else {
            return false;
        };
        let Some(key) = key_of(line) else { return false };
        let superseded =
            self.records().any(|(at, line, _)| at > offset && key_of(line) == Some(key));
        let is_old = every
            .policies
            .iter()
            .filter_map(|policy| policy.compact)
            .any(|compact| now.age_of(piece) >= compact.tombstone_min_age);
        superseded || (is_tombstone(line) && is_old)
    }
}

fn key_of(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(b"@")?;
    rest.split(|byte| *byte == b' ').next()
}

fn is_tombstone(line: &[u8]) -> bool {
    line.starts_with(b"@") && !line.contains(&b' ')
}
