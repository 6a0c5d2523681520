//! Bodies of requests and answers, with the room they take.
//!
//! ```text
//! request: bytes ─► how long is the message? ─► room ─► decoder      a message must be whole in time
//! answer:  room ─► encoder ─► frame, counted until the transport has taken it off ─► client
//! ```

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

use super::answers::{EXPECTED, Held, Load, Pieces, Reader};
use super::cut::{Cut, Pause};
use super::limits::Call;
use super::memory::{Memory, Room, overloaded};
use super::quotas::Use;
use super::status::status_of;
use crate::error::{Error, Reason};
use crate::record::limits::MAX_REQUEST_BYTES;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Room for the frame around a request of the largest size, and for a request that is a little too
/// large to be refused with the product's name instead of being cut off.
pub(super) const SLACK: usize = 64 << 10;

/// A message that is larger is refused by the decoder before it is read, and a compressed one can
/// become so large at most.
const LARGEST: usize = MAX_REQUEST_BYTES + SLACK;

/// How long an answer waits before it looks for room again.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// An answer of one frame that is smaller is not counted: what a call costs at least.
const SMALL: usize = 1 << 10;

/// A frame that is not there after this time waits for something else than the disk.
const FETCHED: Duration = Duration::from_millis(100);

/// How a request is read.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    /// Where the room comes from.
    pub(super) memory: Arc<Memory>,
    /// What its connection has under way.
    pub(super) load: Arc<Load>,
    /// The time that a message, or a body without messages, has to arrive.
    pub(super) time: Duration,
    /// How long the messages of a stream wait for room.
    pub(super) patience: Duration,
    /// What the bytes count against, if they do.
    pub(super) used: Option<Arc<Use>>,
    /// Whether the body is one of gRPC: messages with their length in front.
    pub(super) has_messages: bool,
    /// Whether messages come one after the other for as long as the client likes.
    pub(super) is_stream: bool,
}

/// Keeps the room of a request that was read, until the call is over.
pub(super) type Kept = Arc<OnceLock<Room>>;

/// The body of a request.
pub(super) struct Request<B> {
    inner: B,
    terms: Terms,
    messages: Messages,
    kept: Kept,
    room: Option<Room>,
    /// A frame that waits for room of so many bytes.
    waiting: Option<Waiting>,
    late: Option<Pin<Box<tokio::time::Sleep>>>,
    received: usize,
    ended: bool,
    /// For how long nothing is read, because a quota is used up.
    rest: Option<Duration>,
    pause: Pause,
    /// Whether it was told that this waits for what the client sends.
    is_hungry: bool,
}

struct Waiting {
    frame: Frame<Bytes>,
    room: Pin<Box<dyn Future<Output = Option<Room>> + Send>>,
    late: Pin<Box<tokio::time::Sleep>>,
}

impl<B> Request<B> {
    /// Reads `inner` on these terms; the room goes on to `kept`.
    pub(super) fn new(inner: B, terms: Terms, kept: Kept) -> Self {
        Self {
            inner,
            terms,
            messages: Messages::default(),
            kept,
            room: None,
            waiting: None,
            late: None,
            received: 0,
            ended: false,
            rest: None,
            pause: Pause::default(),
            is_hungry: false,
        }
    }

    /// Tells the connection whether this waits for what the client sends.
    fn tell_hungry(&mut self, is_hungry: bool) {
        if is_hungry != self.is_hungry {
            self.is_hungry = is_hungry;
            self.terms.load.unread.hungry(is_hungry);
        }
    }
}

impl<B> Request<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    /// Gives back the room of messages that were handed on.
    fn settle(&mut self) {
        if !self.terms.is_stream {
            return;
        }
        if self.messages.is_between() {
            self.room = None;
            self.late = None;
        }
    }

    /// The room that these bytes ask for.
    fn wanted(&mut self, data: &Bytes) -> usize {
        match self.terms.has_messages {
            true => self.messages.announced_in(data),
            // Once, for the whole of it.
            false if self.received == data.len() => {
                let rest = self.inner.size_hint().upper().map_or(LARGEST, |rest| {
                    usize::try_from(rest).unwrap_or(LARGEST).saturating_add(data.len())
                });
                rest.min(LARGEST)
            }
            false => 0,
        }
    }

    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        if self.ended || (self.terms.is_stream && self.messages.is_between()) {
            return Poll::Pending;
        }
        let time = self.terms.time;
        let late = self.late.get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
        ready!(late.as_mut().poll(context));
        let millis = time.as_millis();
        Poll::Ready(
            Error::new(
                Reason::RequestTimeout,
                format!("the request did not arrive within {millis} ms; send it again"),
            )
            .with("limit_ms", millis),
        )
    }
}

impl<B> Body for Request<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let polled = this.poll_next(context);
        // Not while it waits for room, or rests.
        let is_hungry = polled.is_pending() && this.waiting.is_none() && this.rest.is_none();
        this.tell_hungry(is_hungry);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.waiting {
            Some(_) => SizeHint::default(),
            None => self.inner.size_hint(),
        }
    }
}

impl<B> Request<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self;
        if let Some(waiting) = &mut this.waiting {
            match waiting.room.as_mut().poll(context) {
                Poll::Ready(Some(room)) => {
                    this.room = Some(room);
                    return Poll::Ready(this.waiting.take().map(|waiting| Ok(waiting.frame)));
                }
                Poll::Pending if waiting.late.as_mut().poll(context).is_pending() => {
                    return Poll::Pending;
                }
                _ => return Poll::Ready(Some(Err(refusal(&overloaded())))),
            }
        }
        this.settle();
        if let Some(rest) = this.rest {
            ready!(this.pause.poll(rest, context));
            this.rest = None;
        }
        let frame = match Pin::new(&mut this.inner).poll_frame(context) {
            Poll::Pending => {
                let error = ready!(this.poll_late(context));
                return Poll::Ready(Some(Err(refusal(&error))));
            }
            Poll::Ready(None) => {
                this.ended = true;
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        let Some(data) = frame.data_ref() else { return Poll::Ready(Some(Ok(frame))) };
        this.received = this.received.saturating_add(data.len());
        this.terms.load.unread.taken(data.len());
        // What is not a stream has been let in, and the next call pays for it.
        this.rest = this.terms.used.as_ref().and_then(|used| used.bytes(data.len()));
        this.rest = this.rest.filter(|_| this.terms.is_stream);
        if !this.terms.has_messages && this.received > LARGEST {
            let error = Error::new(
                Reason::TooLarge,
                format!("the request is larger than the {MAX_REQUEST_BYTES} bytes allowed"),
            );
            return Poll::Ready(Some(Err(refusal(&error.with("limit", MAX_REQUEST_BYTES)))));
        }
        let data = data.clone();
        let wanted = this.wanted(&data);
        // A message that has begun is let through to its end: to wait for others while holding room
        // would block both. So a stream may hold one frame more than it has room for.
        if wanted == 0 || (this.room.is_some() && this.terms.is_stream) {
            return Poll::Ready(Some(Ok(frame)));
        }
        match this.terms.memory.room(wanted) {
            Some(room) => match &mut this.room {
                Some(held) => held.merge(room),
                held => *held = Some(room),
            },
            None if this.terms.is_stream => {
                let requests = this.terms.memory.requests();
                this.waiting = Some(Waiting {
                    frame,
                    room: Box::pin(Memory::wait_for_room(requests, wanted)),
                    late: Box::pin(tokio::time::sleep(this.terms.patience)),
                });
                return this.poll_next(context);
            }
            None => return Poll::Ready(Some(Err(refusal(&overloaded())))),
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

impl<B> Drop for Request<B> {
    fn drop(&mut self) {
        self.tell_hungry(false);
        let is_whole = self.terms.has_messages && self.received > 0 && self.messages.is_between();
        if !self.ended && !is_whole {
            // The rest of it is thrown away as it comes, and nobody says how much that was.
            self.terms.load.unread.ends();
        }
        if let Some(room) = self.room.take() {
            // The call holds it until it is over.
            let _second = self.kept.set(room);
        }
    }
}

/// A body that is refused. Tonic finds the status among its causes, [`refused`] the error.
#[derive(Debug)]
struct Refused {
    error: Error,
    status: Status,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Refused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.status)
    }
}

fn refusal(error: &Error) -> BoxError {
    Box::new(Refused { error: error.clone(), status: status_of(error) })
}

/// Why a body failed, if it was refused here.
pub(super) fn refused<'a>(failure: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    let causes = std::iter::successors(Some(failure), |cause| cause.source());
    causes.filter_map(|cause| cause.downcast_ref::<Refused>()).map(|found| &found.error).next()
}

/// Follows the messages of gRPC in a body, as far as their lengths.
#[derive(Debug, Default)]
struct Messages {
    header: [u8; 5],
    /// Bytes of the header that are there.
    have: usize,
    /// Bytes of the message that are missing.
    missing: usize,
}

impl Messages {
    /// Nothing of a message has begun that is not whole.
    fn is_between(&self) -> bool {
        self.have == 0 && self.missing == 0
    }

    /// The bytes of the messages that begin in these bytes.
    fn announced_in(&mut self, mut data: &[u8]) -> usize {
        let mut announced = 0_usize;
        while !data.is_empty() {
            let skipped = self.missing.min(data.len());
            self.missing -= skipped;
            data = &data[skipped..];
            let taken = (self.header.len() - self.have).min(data.len());
            self.header[self.have..self.have + taken].copy_from_slice(&data[..taken]);
            self.have += taken;
            data = &data[taken..];
            if self.have == self.header.len() {
                let mut header = &self.header[..];
                let is_compressed = header.get_u8();
                self.have = 0;
                self.missing = header.get_u32() as usize;
                // What is compressed may become as large as anything may be.
                let size = if is_compressed == 0 { self.missing.min(LARGEST) } else { LARGEST };
                announced = announced.saturating_add(size);
            }
        }
        announced.min(2 * LARGEST)
    }
}

/// The body of an answer.
pub(super) struct Answer<B> {
    inner: B,
    memory: Arc<Memory>,
    reader: Option<Arc<Reader>>,
    /// Whether it waits for room before each frame; others are small.
    is_large: bool,
    is_begun: bool,
    turn: Turn,
    /// What is left of the newest frame.
    pieces: Pieces,
    pause: Pause,
    /// Over when the last byte of the answer is.
    call: Call,
}

impl<B> Answer<B> {
    /// Counts what `inner` gives; a large one waits for room before each frame.
    pub(super) fn new(inner: B, memory: Arc<Memory>, call: Call, of: Expectation) -> Self {
        let (is_large, reader, turn) = match of {
            Expectation::Small => (false, None, Turn::Next),
            Expectation::Large(held) => {
                (true, Some(Arc::clone(held.reader())), Turn::Expected(held))
            }
            Expectation::Single(held) => {
                (false, Some(Arc::clone(held.reader())), Turn::Expected(held))
            }
        };
        let (pieces, pause) = (Pieces::default(), Pause::default());
        Self { inner, memory, reader, is_large, is_begun: false, turn, pieces, pause, call }
    }

    fn reader(&mut self) -> &Arc<Reader> {
        let (memory, load) = (&self.memory, self.call.load());
        self.reader.get_or_insert_with(|| memory.answers.reader(Cut::of_task(), Arc::clone(load)))
    }

    /// Takes room for the next frame of an answer that may be large.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.is_large || matches!(self.turn, Turn::Expected(_)) {
            return Poll::Ready(());
        }
        match self.reader().expect(EXPECTED) {
            Some(held) => {
                self.turn = Turn::Expected(held);
                self.pause = Pause::default();
                Poll::Ready(())
            }
            None => {
                ready!(self.pause.poll(LOOK_AGAIN, context));
                // Looks again at once.
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    /// Counts a frame and gives its first piece; `None` if it is too small to be counted.
    fn begin(&mut self, data: &Bytes) -> Option<Bytes> {
        let is_counted = self.is_large || self.is_begun || data.len() >= SMALL;
        self.is_begun = true;
        let held = match std::mem::replace(&mut self.turn, Turn::Next) {
            Turn::Expected(held) => held,
            Turn::Next if is_counted => self.reader().hold(0),
            Turn::Next => return None,
        };
        self.pieces = held.goes_with(data.clone());
        self.pieces.next()
    }
}

/// What is expected of an answer.
pub(super) enum Expectation {
    /// It is small.
    Small,
    /// It may be large, and there is room for its first frame.
    Large(Held),
    /// It is a single message that may be large, and there is room for it.
    Single(Held),
}

/// Where an answer is.
enum Turn {
    /// The client wants the next frame.
    Next,
    /// There is room for it.
    Expected(Held),
}

impl<B> Body for Answer<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        if let Some(piece) = this.pieces.next() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        ready!(this.poll_room(context));
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(context) else {
            // It may wait for records that do not exist yet, and others need the room.
            if matches!(this.turn, Turn::Expected(_))
                && this.pause.poll(FETCHED, context).is_ready()
            {
                this.turn = Turn::Next;
            }
            return Poll::Pending;
        };
        let Some(Ok(frame)) = frame else {
            this.turn = Turn::Next;
            return Poll::Ready(frame);
        };
        let Some(data) = frame.data_ref() else {
            this.turn = Turn::Next;
            return Poll::Ready(Some(Ok(frame)));
        };
        let piece = this.begin(data);
        Poll::Ready(Some(Ok(piece.map_or(frame, Frame::data))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.left() == 0 && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, left) = (self.inner.size_hint(), self.pieces.left() as u64);
        if left > 0 {
            if let Some(upper) = hint.upper() {
                hint.set_upper(upper + left);
            }
            hint.set_lower(hint.lower() + left);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut as _;

    #[test]
    fn lengths_are_found_however_the_bytes_are_cut() {
        let mut body = Vec::new();
        for length in [3_u32, 0, 300] {
            body.put_u8(0);
            body.put_u32(length);
            body.put_bytes(7, length as usize);
        }
        for chunk in [1, 2, 5, 6, 100, 1_000] {
            let mut messages = Messages::default();
            let sum: usize = body.chunks(chunk).map(|data| messages.announced_in(data)).sum();
            assert_eq!(sum, 303, "in pieces of {chunk}");
            assert!(messages.is_between());
        }
        let mut messages = Messages::default();
        assert_eq!(messages.announced_in(&[1, 0, 0, 0, 9, 1]), LARGEST, "it is compressed");
        assert!(!messages.is_between());
        let mut messages = Messages::default();
        assert_eq!(messages.announced_in(&[0, 255, 255, 255, 255]), LARGEST, "it is refused");
    }
}
