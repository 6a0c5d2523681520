//! What a client has sent over HTTP/2 and no call has read yet.
//!
//! ```text
//! socket ─► Watched: DATA of frames counted ─► hyper, windows ─► body of a call: taken off again
//! ```
//!
//! Windows let a client send before anybody reads. That is counted against the room of requests, and
//! while there is none for it nothing more is read from the connection, unless one of its calls waits
//! for what comes next. What a call leaves unread when it ends early is thrown away, and HTTP/2 does
//! not say how much it was: the count of the connection begins anew then.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, ReadBuf};

use super::answers::Load;
use super::body::LOOK_AGAIN;
use super::cut::Pause;
use super::memory::{Memory, Room};
use super::writes::writes_as_its_io;

/// So much a connection may have unread without being asked: it is in its price.
const FREE: usize = 16 << 10;

/// Room is taken in steps of this size.
const STEP: usize = 64 << 10;

/// The unread bytes of one connection.
#[derive(Debug, Default)]
pub(super) struct Unread {
    bytes: AtomicUsize,
    /// Calls that wait for what the client sends.
    hungry: AtomicUsize,
    room: Mutex<Option<Room>>,
}

impl Unread {
    /// So much was read by a call.
    pub(super) fn taken(&self, count: usize) {
        let order = Ordering::Relaxed;
        let left = |bytes: usize| Some(bytes.saturating_sub(count));
        let _always = self.bytes.fetch_update(order, order, left);
    }

    /// Begins anew: nobody reads any more, or a part was thrown away.
    pub(super) fn ends(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        *self.room.lock() = None;
    }

    /// A call waits for what the client sends, or no longer.
    pub(super) fn hungry(&self, is_hungry: bool) {
        match is_hungry {
            true => self.hungry.fetch_add(1, Ordering::Relaxed),
            false => self.hungry.fetch_sub(1, Ordering::Relaxed),
        };
    }

    /// Takes or gives back room; whether there is enough.
    fn has_room(&self, memory: &Memory) -> bool {
        let bytes = self.bytes.load(Ordering::Relaxed);
        let mut room = self.room.lock();
        let held = room.as_ref().map_or(0, Room::bytes);
        let wanted = bytes.saturating_sub(FREE).next_multiple_of(STEP);
        if wanted < held {
            // All of it comes back at once, and what is still needed is asked for anew.
            *room = None;
            *room = if wanted > 0 { memory.room_for_unread(wanted) } else { None };
        } else if wanted > held {
            match (memory.room_for_unread(wanted - held), &mut *room) {
                (Some(more), Some(held)) => held.merge(more),
                (Some(more), held) => *held = Some(more),
                (None, _) => return false,
            }
        }
        wanted == 0 || room.is_some()
    }
}

/// A connection of HTTP/2 whose DATA is counted.
pub(super) struct Watched<Io> {
    io: Io,
    memory: Arc<Memory>,
    load: Arc<Load>,
    frames: Frames,
    pause: Pause,
}

impl<Io> Watched<Io> {
    /// Counts for this connection, from its preface on.
    pub(super) fn new(io: Io, memory: Arc<Memory>, load: Arc<Load>) -> Self {
        Self { io, memory, load, frames: Frames::default(), pause: Pause::default() }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Watched<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let unread = &this.load.unread;
        while !unread.has_room(&this.memory) && unread.hungry.load(Ordering::Relaxed) == 0 {
            ready!(this.pause.poll(LOOK_AGAIN, context));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(context, buffer))?;
        let data = this.frames.data_in(&buffer.filled()[before..]);
        if data > 0 {
            unread.bytes.fetch_add(data, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

writes_as_its_io!(Watched);

/// Length (3 bytes), type, flags and stream of a frame.
const HEADER: usize = 9;

/// The type of frames with bodies in them.
const DATA: u8 = 0;

/// Follows the frames of HTTP/2, as far as their lengths.
#[derive(Debug)]
struct Frames {
    header: [u8; HEADER],
    /// Bytes of the header that are there.
    have: usize,
    /// Bytes of the payload that are missing; at first those of the preface.
    missing: usize,
    is_data: bool,
}

impl Default for Frames {
    fn default() -> Self {
        Self { header: [0; HEADER], have: 0, missing: super::preface::HTTP2.len(), is_data: false }
    }
}

impl Frames {
    /// How many of these bytes belong to bodies.
    fn data_in(&mut self, mut bytes: &[u8]) -> usize {
        let mut data = 0;
        while !bytes.is_empty() {
            let payload = self.missing.min(bytes.len());
            if self.is_data {
                data += payload;
            }
            self.missing -= payload;
            bytes = &bytes[payload..];
            let taken = (HEADER - self.have).min(bytes.len());
            self.header[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEADER {
                let [high, middle, low, kind, ..] = self.header;
                self.missing =
                    usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                self.is_data = kind == DATA;
                self.have = 0;
            }
        }
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ByteSize, EdgeConfig};

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![0, (length >> 8) as u8, length as u8, kind, 0, 0, 0, 0, 1];
        frame.resize(HEADER + length, 7);
        frame
    }

    #[test]
    fn bodies_are_counted_however_the_bytes_are_cut() {
        let mut bytes = super::super::preface::HTTP2.to_vec();
        for (kind, length) in [(4, 0), (1, 40), (DATA, 300), (8, 4), (DATA, 0), (DATA, 70), (1, 3)]
        {
            bytes.extend(frame(kind, length));
        }
        for chunk in [1, 2, 9, 10, 24, 1_000] {
            let mut frames = Frames::default();
            let sum: usize = bytes.chunks(chunk).map(|bytes| frames.data_in(bytes)).sum();
            assert_eq!(sum, 370, "in pieces of {chunk}");
        }
    }

    #[test]
    fn what_is_unread_takes_room_and_gives_it_back() {
        let memory = Memory::new(&EdgeConfig { memory: ByteSize(1 << 20), ..Default::default() });
        let used = || memory.levels()[1].used;
        let unread = Unread::default();
        unread.bytes.store(FREE, Ordering::Relaxed);
        assert!(unread.has_room(&memory) && used() == 0, "it is in the price");
        unread.bytes.store(100_000, Ordering::Relaxed);
        assert!(unread.has_room(&memory));
        assert_eq!(used(), 2 * STEP);
        unread.bytes.store(10 << 20, Ordering::Relaxed);
        assert!(!unread.has_room(&memory), "there is not so much");
        assert_eq!(used(), 2 * STEP);
        unread.taken((10 << 20) - 20_000);
        assert!(unread.has_room(&memory));
        assert_eq!(used(), STEP);
        unread.ends();
        assert_eq!(used(), 0);
    }
}
