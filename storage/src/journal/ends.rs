//! Where streams stand, repeated in every group, so that damage to the groups before it does not
//! hide which offsets they gave out.
//!
//! All streams of the last group with batches are named, at whatever cost. Those of earlier ones
//! are named in what would be padding, the newest first: a small group, of which many fit into a
//! damaged part of a file, has room for a hundred and more. How far back nothing is left out, the
//! group says as well.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::format::StreamEnd;
use crate::position::StreamId;
use crate::sabotage::skips;

/// Streams of earlier groups that are remembered: as many as half a block can name.
const OLDER: usize = 128;

/// What the next group repeats.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// Where the streams of the last group with batches will stand, and its ticket.
    last: Arc<[StreamEnd]>,
    ticket: u64,
    /// Where others stand, and the ticket of their last group, the newest first.
    older: VecDeque<(u64, StreamEnd)>,
    /// No stream of a group since this ticket is missing.
    complete_from: u64,
}

/// What one group repeats.
#[derive(Clone, Debug, Default)]
pub(crate) struct Repeated {
    pub(crate) ends: Arc<[StreamEnd]>,
    /// So many groups before it have no stream that is not named.
    pub(crate) reach: u16,
}

impl Ends {
    /// As recovered, or after groups were given up: only the last one with batches is known.
    /// `ticket` is the one that comes next.
    pub(crate) fn begin(&mut self, last: Arc<[StreamEnd]>, ticket: u64) {
        let before = ticket - 1;
        *self = Self { last, ticket: before, older: VecDeque::new(), complete_from: before };
    }

    /// Bytes that the next group needs at least.
    pub(crate) fn bytes(&self) -> usize {
        self.last.len() * StreamEnd::BYTES
    }

    /// What the group with this ticket repeats, with so many bytes beside [`Ends::bytes`].
    pub(crate) fn repeated(&self, ticket: u64, room: usize) -> Repeated {
        let forgets = skips("the ends of earlier groups");
        let rows = if forgets { 0 } else { (room / StreamEnd::BYTES).min(self.older.len()) };
        let from = self.older.get(rows).map_or(0, |(ticket, _)| ticket + 1);
        let reach = ticket.saturating_sub(from.max(self.complete_from));
        let reach = u16::try_from(reach).unwrap_or(u16::MAX);
        if rows == 0 {
            return Repeated { ends: Arc::clone(&self.last), reach };
        }
        let older = self.older.iter().take(rows).map(|(_, end)| *end);
        Repeated { ends: self.last.iter().copied().chain(older).collect(), reach }
    }

    /// A group with batches is closed; `ends` may name a stream more than once.
    pub(crate) fn advance(&mut self, ticket: u64, mut ends: Vec<StreamEnd>) {
        // The highest end of each stream comes first.
        ends.sort_unstable_by_key(|end| (end.stream, std::cmp::Reverse(end.end)));
        ends.dedup_by_key(|end| end.stream);
        let is_new =
            |stream: StreamId| ends.binary_search_by_key(&stream, |end| end.stream).is_ok();
        let before = self.last.iter().filter(|end| !is_new(end.stream));
        let mut kept = before.clone().take(OLDER).count();
        if before.count() > kept {
            // Those that are not are missing from now on.
            self.complete_from = self.ticket + 1;
        }
        self.older.retain(|(_, older)| {
            let is_again = self.last.binary_search_by_key(&older.stream, |end| end.stream).is_ok();
            !is_again && !is_new(older.stream)
        });
        for end in self.last.iter().filter(|end| !is_new(end.stream)) {
            if kept == 0 {
                break;
            }
            kept -= 1;
            self.older.push_front((self.ticket, *end));
        }
        while self.older.len() > OLDER
            && let Some((ticket, _)) = self.older.pop_back()
        {
            self.complete_from = self.complete_from.max(ticket + 1);
        }
        (self.last, self.ticket) = (ends.into(), ticket);
    }

    /// Where the streams of the last group with batches stand.
    pub(crate) fn last(&self) -> Arc<[StreamEnd]> {
        Arc::clone(&self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Offset;

    fn end(stream: u64, end: u64) -> StreamEnd {
        StreamEnd { stream: StreamId(stream), end: Offset(end) }
    }

    fn rows(repeated: &Repeated) -> Vec<(u64, u64)> {
        repeated.ends.iter().map(|end| (end.stream.0, end.end.0)).collect()
    }

    #[test]
    fn a_group_repeats_the_last_one_and_as_many_earlier_streams_as_fit() {
        let mut ends = Ends::default();
        ends.begin([end(9, 90)].into(), 1);
        ends.advance(1, vec![end(1, 1), end(1, 5), end(2, 1)]);
        ends.advance(2, vec![end(3, 1)]);
        ends.advance(3, vec![end(1, 6)]);
        let all = ends.repeated(4, 1000);
        assert_eq!(rows(&all), [(1, 6), (3, 1), (2, 1), (9, 90)]);
        assert_eq!(all.reach, 4, "to the group that recovery found last");
        let two = ends.repeated(4, 33);
        assert_eq!(rows(&two), [(1, 6), (3, 1), (2, 1)]);
        assert_eq!(two.reach, 3, "the group before the first one is not named");
        let none = ends.repeated(4, 15);
        assert_eq!((rows(&none), none.reach), (vec![(1, 6)], 1));
        assert_eq!(ends.bytes(), 16);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_says_how_far_it_reaches() {
        let mut ends = Ends::default();
        ends.begin(Arc::default(), 1);
        for ticket in 1..=1000 {
            ends.advance(ticket, vec![end(ticket, 1)]);
            let repeated = ends.repeated(ticket + 1, usize::MAX);
            // Its own last group, and of those before as many as are remembered.
            let most = if ticket <= OLDER as u64 + 1 { ticket + 1 } else { OLDER as u64 + 1 };
            assert_eq!(u64::from(repeated.reach), most, "{ticket}");
        }
        ends.advance(1001, (0..500).map(|stream| end(stream, 2)).collect());
        assert_eq!(ends.repeated(1002, usize::MAX).ends.len(), 500 + OLDER);
        ends.advance(1002, vec![end(7, 3)]);
        let after = ends.repeated(1003, usize::MAX);
        assert_eq!((after.ends.len(), after.reach), (1 + OLDER, 1));
    }
}
