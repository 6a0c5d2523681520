//! Groups that are lost to damage: nobody gets the offsets again that they gave out.
//!
//! Whose they were, the next whole group tells, or the seal of the file, or nobody.

use std::collections::BTreeSet;
use std::path::Path;

use super::Run;
use crate::format::{FRAME_BYTES, Footer, StreamEnd};
use crate::position::{FileSequence, Lsn, Offset, StreamId};
use crate::recovery::scan::ScannedGroup;
use crate::sabotage::skips;
use crate::stream::Stream;

/// Groups that were lost.
pub(super) struct Lost {
    /// The file that held the first of them.
    sequence: FileSequence,
    first: Lsn,
    bytes: u64,
}

/// Lost groups of which it is not known whose offsets they gave out.
pub(super) struct Unresolved {
    sequence: FileSequence,
    bytes: u64,
    /// Where all streams stood.
    ends: Vec<(StreamId, Offset)>,
}

impl Run<'_> {
    /// Groups of the file were lost: its seal says how far its streams went.
    pub(super) fn lose_footer(
        &mut self,
        seal: &ScannedGroup,
        sequence: FileSequence,
        is_damaged: bool,
    ) {
        if let Ok(footer) = Footer::decode(&seal.table)
            && is_damaged
        {
            let entries = footer.streams.iter();
            self.lose(entries.map(|entry| StreamEnd { stream: entry.stream, end: entry.end }));
            // What began in an earlier file is known no better.
            self.lost = self.lost.take().filter(|lost| lost.sequence != sequence);
            self.unresolved.retain(|loss| loss.sequence != sequence);
        }
    }

    /// Groups are lost, which began in this file and took so many bytes.
    pub(super) fn lose_groups(&mut self, sequence: FileSequence, bytes: u64) {
        let first = self.newest_lsn().next();
        let lost = self.lost.get_or_insert(Lost { sequence, first, bytes: 0 });
        lost.bytes += bytes;
    }

    /// The first whole group after a loss names the streams of so many groups before it.
    pub(super) fn name_lost(&mut self, lost: &Lost, group: &ScannedGroup) {
        let groups = group.header.lsn.0.saturating_sub(lost.first.0);
        let is_named = group.header.reach == 0 || groups <= u64::from(group.header.reach);
        if is_named || skips("the offsets of streams that no group names") {
            return;
        }
        let named: BTreeSet<StreamId> = group.ends.iter().map(|end| end.stream).collect();
        let streams = self.state.streams().into_iter();
        let streams = streams.filter(|stream| !named.contains(&stream.id));
        let ends = streams.map(|stream| (stream.id, stream.view().end())).collect();
        self.unresolved.push(Unresolved { sequence: lost.sequence, bytes: lost.bytes, ends });
    }

    /// Streams of which nothing later tells where they stood: nobody gets offsets again that lost
    /// groups may have given out. A record takes a byte at least.
    pub(super) fn give_up_unresolved(&mut self) {
        let last = self.pending.iter().flat_map(|(group, _)| &group.frames);
        let last: BTreeSet<StreamId> = last.map(|frame| frame.stream).collect();
        for Unresolved { bytes, ends, .. } in std::mem::take(&mut self.unresolved) {
            let mut given_up = 0;
            for (id, end) in ends {
                if let Ok(stream) = self.state.stream(id)
                    && !last.contains(&id)
                    && stream.view().end() == end
                {
                    stream.view().lose_up_to(Offset(end.0.saturating_add(bytes)));
                    given_up += 1;
                }
            }
            self.state.folded().next_stream += bytes / FRAME_BYTES as u64;
            self.damage(format!(
                "so many groups in a row are damaged that nobody can tell whose records they held: \
                 of {given_up} streams without later ones the next {bytes} offsets are given up"
            ));
        }
    }

    /// Nobody gets the offsets again that lost groups gave out.
    pub(super) fn lose(&mut self, ends: impl Iterator<Item = StreamEnd>) {
        for StreamEnd { stream, end } in ends {
            let is_new = stream.0 > self.highest_stream && !self.deleted.contains(&stream);
            match self.state.stream(stream) {
                Ok(stream) => stream.view().lose_up_to(end),
                // The group that created it is among the lost ones.
                Err(_) if is_new => {
                    let lost = Stream::new(stream);
                    lost.view().lose_up_to(end);
                    self.state.restore(lost);
                    let mut folded = self.state.folded();
                    folded.next_stream = folded.next_stream.max(stream.0);
                }
                Err(_) => {}
            }
        }
    }
}

/// The sentence about a damaged part of a journal file.
pub(super) fn damaged(
    sequence: FileSequence,
    path: &Path,
    from: u64,
    to: u64,
    why: &'static str,
) -> String {
    format!(
        "journal file {sequence} ({}) is damaged from {from} to {to}: {why}; the records there are \
         lost, all others are served",
        path.display()
    )
}
