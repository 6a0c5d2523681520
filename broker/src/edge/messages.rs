//! The messages of a stream as the body of an answer of gRPC.
//!
//! Each is encoded into memory of exactly its size, which is free as soon as the transport has
//! written it. The encoder of tonic keeps the memory of the newest one for as long as the stream is
//! open, which a thousand subscriptions that wait for records would feel. So what handles a call
//! answers with an empty stream and hands the messages over beside it ([`Later`]), and a layer makes
//! them the body ([`streamed`]).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame};
use parking_lot::Mutex;
use prost::Message;
use tonic::{Code, Status};

/// Whether a message is compressed, and its length.
const HEADER: usize = 5;

type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// Messages that are still to become the body of an answer.
#[derive(Clone)]
pub(super) struct Later(Arc<Mutex<Option<Messages>>>);

impl Later {
    /// These messages, until one is an error.
    pub(super) fn new<M: Message>(
        messages: impl Stream<Item = Result<M, Status>> + Send + 'static,
    ) -> Self {
        let encoded = messages.map(|message| message.map(|message| encode(&message)));
        Self(Arc::new(Mutex::new(Some(Box::pin(encoded)))))
    }
}

fn encode(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(HEADER + length);
    frame.put_u8(0);
    // A message is a few MiB at most.
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.encode(&mut frame).expect("memory grows as needed");
    frame.freeze()
}

/// The layer: an answer with its messages.
pub(super) async fn streamed(mut response: Response<Body>) -> Response<Body> {
    let later = response.extensions_mut().remove::<Later>();
    match later.and_then(|later| later.0.lock().take()) {
        Some(messages) => response.map(|_| Body::new(Streamed(Some(messages)))),
        None => response,
    }
}

/// Messages, then how it ended.
struct Streamed(Option<Messages>);

impl HttpBody for Streamed {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(messages) = &mut self.0 else { return Poll::Ready(None) };
        let ended = match ready!(messages.as_mut().poll_next(context)) {
            Some(Ok(message)) => return Poll::Ready(Some(Ok(Frame::data(message)))),
            Some(Err(status)) => status,
            None => Status::new(Code::Ok, ""),
        };
        self.0 = None;
        Poll::Ready(Some(Ok(Frame::trailers(trailers(&ended)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = status.clone().into_http::<Body>().into_parts().0.headers;
    trailers.remove(CONTENT_TYPE);
    trailers
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use meshlog_proto::v1;

    #[tokio::test]
    async fn messages_have_their_length_in_front_and_the_end_says_how_it_ended() {
        let message = v1::GetProductRequest { name: "ops.a".to_owned() };
        for ended in [Status::new(Code::Ok, ""), Status::not_found("gone")] {
            let mut items = vec![Ok(message.clone()), Ok(message.clone())];
            if ended.code() != Code::Ok {
                items.push(Err(ended.clone()));
            }
            let mut response = Response::new(Body::empty());
            response.extensions_mut().insert(Later::new(stream::iter(items)));
            let mut body = streamed(response).await.into_body();
            let mut frames = Vec::new();
            while !body.is_end_stream() {
                let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context));
                frames.push(frame.await.unwrap().unwrap());
            }
            assert_eq!(frames.len(), 3);
            let data = frames[0].data_ref().unwrap();
            assert_eq!(data[..HEADER], [0, 0, 0, 0, 7]);
            assert_eq!(v1::GetProductRequest::decode(&data[HEADER..]).unwrap(), message);
            let told = Status::from_header_map(frames[2].trailers_ref().unwrap()).unwrap();
            assert_eq!((told.code(), told.message()), (ended.code(), ended.message()));
        }
    }
}
