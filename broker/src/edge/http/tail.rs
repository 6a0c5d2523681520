//! `GET /v1/products/{name}/records` with `Accept: text/event-stream`: history, then live, as
//! server-sent events.
//!
//! ```text
//! : positions                   a comment: nobody is told, the connection is proved alive
//! id: 0:41                      where to go on after this event; comes back as Last-Event-ID
//!
//! id: 0:42
//! data: {"partition":0,"offset":41,…}
//!
//! event: error                  the last one, if it did not end as it should
//! data: {"type":"about:blank","status":503,…}
//! ```
//!
//! A task moves events from the subscription to the connection, one piece at a time, and waits for
//! the connection to take it. So a client that does not read holds one message, one piece, and what
//! the connection buffers; after `http.tail_deadline` without taking anything it is cut off, and the
//! log says where it can go on.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{FutureExt as _, stream};
use http::{HeaderMap, HeaderValue, Response, header};
use meshlog_proto::{server_v1, v1};
use tokio::sync::mpsc;

use super::read::{Asked, records_of, too_many_partitions};
use super::{Http, media, position, problem};
use crate::access::Rpc;
use crate::caller::Caller;
use crate::edge::answers::Reader;
use crate::edge::body::LOOK_AGAIN;
use crate::edge::call::panicked;
use crate::edge::cut::Cut;
use crate::error::{Error, Result};
use crate::record::{Subscription, envelope};

/// Batches of one message of the subscription, in bytes.
const MESSAGE_BYTES: u32 = 64 << 10;
/// Events are handed over in pieces of about this many bytes.
const PIECE_BYTES: usize = 64 << 10;
/// A client waits so long before it connects again.
const RETRY: &str = "retry: 1000\n";
/// The position that a client saw last.
const LAST_EVENT_ID: &str = "last-event-id";

/// Begins a tail.
pub(super) async fn answer(
    http: Arc<Http>,
    caller: &Caller,
    asked: Asked,
    headers: &HeaderMap,
    reader: Option<Arc<Reader>>,
) -> Result<Response<Body>> {
    let last = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok());
    let from = last.filter(|id| !id.is_empty()).unwrap_or(&asked.from);
    let request = v1::SubscribeRequest {
        start: Some(asked.start(&http.broker, caller, Rpc::Subscribe, from)?),
        product: asked.product.clone(),
        product_id: asked.product_id,
        partitions: asked.partitions,
        max_bytes: MESSAGE_BYTES,
        heartbeat_interval: asked.heartbeat,
        stop_at_end: asked.stop_at_end,
    };
    let subscription = http.broker.subscribe(caller, request).await?.until(http.drain.clone());
    let (sender, pieces) = mpsc::channel(1);
    let mut tail = Tail {
        subscription,
        sender,
        reader,
        cut: Cut::of_task(),
        deadline: http.broker.config().http.tail_deadline.into(),
        product: asked.product,
        caller: caller.clone(),
        positions: Vec::new(),
        taken: String::new(),
        piece: RETRY.as_bytes().to_vec(),
    };
    // The first message tells positions; an error before it is an answer like any other.
    if let Some(first) = tail.subscription.next().await {
        tail.note(&first?)?;
    }
    http.broker.tasks().spawn(tail.run());
    let pieces = stream::unfold(pieces, |mut pieces: mpsc::Receiver<Bytes>| async move {
        pieces.recv().await.map(|piece| (Ok::<_, Infallible>(piece), pieces))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media::EVENT_STREAM));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that collect an answer before they pass it on would collect for ever.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

struct Tail {
    subscription: Subscription,
    sender: mpsc::Sender<Bytes>,
    /// Whose room it takes, beside that of the pieces that the connection has.
    reader: Option<Arc<Reader>>,
    /// Ends the task that answers the call.
    cut: Arc<Cut>,
    deadline: Duration,
    product: String,
    caller: Caller,
    /// Where each partition goes on after what `piece` holds.
    positions: Vec<v1::Position>,
    /// The position after what the connection has taken.
    taken: String,
    piece: Vec<u8>,
}

/// Nobody takes what is sent.
struct Gone;

impl Tail {
    async fn run(mut self) {
        let ended = AssertUnwindSafe(self.follow()).catch_unwind().await;
        let error = match ended {
            Ok(Ok(ended)) => ended,
            Ok(Err(Gone)) => return,
            Err(_) => Some(panicked("a tail")),
        };
        if let Some(error) = error {
            self.piece.extend_from_slice(b"event: error\ndata: ");
            self.piece.extend_from_slice(&problem::body(&error));
            self.piece.extend_from_slice(b"\n\n");
        }
        // The last piece; whoever has gone away does not need it.
        let _gone = self.hand_over().await;
    }

    /// Moves events until the subscription ends, with an error or because that was asked for.
    async fn follow(&mut self) -> Result<Option<Error>, Gone> {
        self.comment("positions");
        loop {
            self.hand_over().await?;
            self.room().await?;
            let message = tokio::select! {
                message = self.subscription.next() => message,
                () = self.sender.closed() => return Err(Gone),
            };
            match message {
                None => return Ok(None),
                Some(Err(error)) => return Ok(Some(error)),
                Some(Ok(message)) => {
                    // What is told of it waits in a piece, in another one that is handed over, and
                    // in the message.
                    let bytes: usize = message.batches.iter().map(|batch| batch.batch.len()).sum();
                    let _held =
                        self.reader.as_ref().map(|reader| reader.hold(2 * PIECE_BYTES + bytes));
                    if let Err(error) = self.write(message).await? {
                        return Ok(Some(error));
                    }
                }
            }
        }
    }

    async fn write(
        &mut self,
        mut message: server_v1::SubscribeResponse,
    ) -> Result<Result<()>, Gone> {
        let batches = std::mem::take(&mut message.batches);
        if batches.is_empty() {
            let noted = self.note(&message);
            self.comment("heartbeat");
            return Ok(noted);
        }
        for batch in batches {
            let records = match records_of(batch) {
                Ok(records) => records,
                Err(error) => return Ok(Err(error)),
            };
            for (position, record) in records {
                self.moved(position.partition, position.offset + 1);
                let id = position::cursor(&self.positions);
                self.piece.extend_from_slice(format!("id: {id}\ndata: ").as_bytes());
                envelope::write(&mut self.piece, position, &record);
                self.piece.extend_from_slice(b"\n\n");
                if self.piece.len() >= PIECE_BYTES {
                    self.hand_over().await?;
                }
            }
        }
        Ok(self.note(&message))
    }

    /// Takes over where the partitions stand.
    fn note(&mut self, message: &server_v1::SubscribeResponse) -> Result<()> {
        for state in &message.partitions {
            self.moved(state.partition, state.next_offset);
        }
        match self.positions.len() {
            partitions if partitions > position::MAX_CURSOR_PARTITIONS => {
                Err(too_many_partitions(partitions))
            }
            _ => Ok(()),
        }
    }

    fn moved(&mut self, partition: u32, offset: u64) {
        match self.positions.iter_mut().find(|one| one.partition == partition) {
            Some(one) => one.offset = offset,
            None => self.positions.push(v1::Position { partition, offset }),
        }
    }

    /// A comment, and the position: a client that reconnects begins there.
    fn comment(&mut self, text: &str) {
        let id = position::cursor(&self.positions);
        self.piece.extend_from_slice(format!(": {text}\nid: {id}\n\n").as_bytes());
    }

    /// Waits until there is room for another message.
    async fn room(&self) -> Result<(), Gone> {
        let Some(reader) = &self.reader else { return Ok(()) };
        while reader.expect(2 * PIECE_BYTES + MESSAGE_BYTES as usize).is_none() {
            tokio::select! {
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                () = self.sender.closed() => return Err(Gone),
            }
        }
        Ok(())
    }

    /// Hands the piece over, unless nobody takes it in time.
    async fn hand_over(&mut self) -> Result<(), Gone> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        match tokio::time::timeout(self.deadline, self.sender.send(piece)).await {
            Ok(Ok(())) => {
                self.taken = position::cursor(&self.positions);
                Ok(())
            }
            Ok(Err(_)) => Err(Gone),
            Err(_) => {
                tracing::warn!(
                    product = self.product,
                    caller = %self.caller.principal,
                    resume = self.taken,
                    "a tail whose client takes nothing is cut off; it can go on at `resume`"
                );
                self.cut.cut();
                Err(Gone)
            }
        }
    }
}
