//! A group while it is put together: entries reserve room in it under the reservation lock and
//! fill their room outside of it, several at once.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::{Condvar, Mutex};

use super::arena::join;
use super::ends::Repeated;
use crate::admission::Permit;
use crate::entry::{Appended, Durability};
use crate::error::{Error, Result};
use crate::format::{Frame, GROUP_HEADER_BYTES, GroupHeader, Salted, StreamEnd, Table};
use crate::position::{FileSequence, Lsn, Timestamp};

/// Who is told the outcome of an entry.
pub(crate) type Done = Box<dyn FnOnce(Result<Appended>) + Send>;

/// One entry that waits for its group.
pub(crate) struct Waiter {
    pub(crate) done: Done,
    /// Complete but for the LSN, which the committer gives.
    pub(crate) appended: Appended,
    pub(crate) wanted: Durability,
    /// Held until the outcome is known.
    pub(crate) _permit: Option<Permit>,
}

/// A group that entries fill.
#[derive(Default)]
pub(crate) struct Group {
    fill: Mutex<Fill>,
    filled: Condvar,
}

#[derive(Default)]
struct Fill {
    frames: Vec<Frame>,
    pieces: Vec<Option<BytesMut>>,
    waiters: Vec<Waiter>,
    /// Pieces reserved and not yet filled.
    missing: usize,
}

/// The part of a group that one entry fills.
pub(crate) struct Room {
    group: Arc<Group>,
    index: usize,
    first_frame: usize,
    piece: BytesMut,
}

/// A group that takes no more entries.
pub(crate) struct ClosedGroup {
    /// Counts groups of this process; the LSN is given when the group is written.
    pub(crate) ticket: u64,
    pub(crate) group: Arc<Group>,
    /// Room for the header.
    pub(crate) head: BytesMut,
    /// Room for the frame table and the padding.
    pub(crate) tail: BytesMut,
    pub(crate) table_offset: usize,
    pub(crate) table_bytes: usize,
    pub(crate) frames: usize,
    /// Where streams of the groups before it stand: part of its table.
    pub(crate) repeated: Repeated,
    /// Where the streams of the last group with batches stand, this one counted.
    pub(crate) ends: Arc<[StreamEnd]>,
    /// From the header to the end of the padding.
    pub(crate) length: usize,
}

/// A group with all its bytes, ready to write.
pub(crate) struct FilledGroup {
    pub(crate) bytes: Bytes,
    pub(crate) frames: Vec<Frame>,
    pub(crate) waiters: Vec<Waiter>,
}

/// Where a group goes.
pub(crate) struct Place<'a> {
    pub(crate) salt: &'a [u8; 16],
    pub(crate) sequence: FileSequence,
    pub(crate) lsn: Lsn,
    pub(crate) wall_time: Timestamp,
}

impl Group {
    /// Adds an entry. The caller holds the reservation lock, so that pieces stand in the order
    /// of their bytes.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        frames: Vec<Frame>,
        waiter: Waiter,
        piece: BytesMut,
    ) -> Room {
        let mut fill = self.fill.lock();
        let room = Room {
            group: Arc::clone(self),
            index: fill.pieces.len(),
            first_frame: fill.frames.len(),
            piece,
        };
        fill.frames.extend(frames);
        fill.pieces.push(None);
        fill.waiters.push(waiter);
        fill.missing += 1;
        room
    }

    /// The waiters of a group that will not be written.
    pub(crate) fn abandon(&self) -> Vec<Waiter> {
        let mut fill = self.fill.lock();
        while fill.missing > 0 {
            self.filled.wait(&mut fill);
        }
        std::mem::take(&mut fill.waiters)
    }
}

impl Room {
    /// Copies the payloads in, one per frame, and hashes them on the way.
    pub(crate) fn fill(self, payloads: &[Vec<Bytes>]) {
        let Self { group, index, first_frame, mut piece } = self;
        let mut checksums = Vec::with_capacity(payloads.len());
        for payload in payloads {
            let start = piece.len();
            payload.iter().for_each(|part| piece.put_slice(part));
            checksums.push(crc32fast::hash(&piece[start..]));
        }
        let mut fill = group.fill.lock();
        for (frame, checksum) in fill.frames[first_frame..].iter_mut().zip(checksums) {
            frame.payload_crc = checksum;
        }
        fill.pieces[index] = Some(piece);
        fill.missing -= 1;
        if fill.missing == 0 {
            group.filled.notify_one();
        }
    }
}

impl ClosedGroup {
    /// Waits for the last piece and puts header, payloads, table and padding together, without
    /// moving a payload.
    pub(crate) fn finish(self, place: &Place<'_>) -> FilledGroup {
        let mut fill = self.group.fill.lock();
        while fill.missing > 0 {
            self.group.filled.wait(&mut fill);
        }
        let Fill { frames, pieces, waiters, .. } = std::mem::take(&mut *fill);
        drop(fill);
        let salted = Salted::new(place.salt, place.sequence, place.lsn.0);
        let mut tail = self.tail;
        Table::encode(&frames, &self.repeated.ends, &mut tail);
        assert_eq!(tail.len(), self.table_bytes, "the table takes the room reserved for it");
        let header = GroupHeader {
            is_seal: false,
            sequence: place.sequence,
            lsn: place.lsn,
            length: self.length as u32,
            entries: frames.iter().filter(|frame| frame.starts_entry).count() as u32,
            frames: frames.len() as u32,
            table_offset: self.table_offset as u32,
            table_bytes: self.table_bytes as u32,
            table_crc: salted.crc(&tail),
            ends: self.repeated.ends.len() as u32,
            reach: self.repeated.reach,
            wall_time: place.wall_time,
        };
        let padding = self.length - self.table_offset - self.table_bytes;
        tail.put_bytes(0, padding);
        let mut whole = self.head;
        header.encode(salted, &mut whole);
        debug_assert_eq!(whole.len(), GROUP_HEADER_BYTES);
        for piece in pieces.into_iter().flatten() {
            join(&mut whole, piece);
        }
        join(&mut whole, tail);
        assert_eq!(whole.len(), self.length, "a group has the length reserved for it");
        FilledGroup { bytes: whole.freeze(), frames, waiters }
    }
}

/// Tells everybody the same error.
pub(crate) fn refuse(waiters: Vec<Waiter>, error: &Error) {
    for waiter in waiters {
        (waiter.done)(Err(error.clone()));
    }
}
