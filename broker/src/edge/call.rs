//! One call of any protocol: a panic in a handler fails that call alone, and errors that tonic makes
//! by itself get a reason like all others.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Body as HttpBody;
use tonic::{Code, Status};
use tower::Service as _;

use super::answers::Load;
use super::body::{self, Expectation, Kept, Terms};
use super::gate;
use super::http::{problem_at, refusal};
use super::limits::Limits;
use super::memory::{Memory, overloaded};
use super::status::{REASON_TRAILER, status_of};
use crate::broker::Broker;
use crate::error::{Applied, Error, Reason};
use crate::record::limits::MAX_REQUEST_BYTES;

/// What answers the calls of every protocol.
#[derive(Clone)]
pub(super) struct Calls {
    broker: Broker,
    router: Router,
    limits: Arc<Limits>,
}

impl Calls {
    /// Of this broker, with these routes, within these limits.
    pub(super) fn new(broker: Broker, router: Router, limits: Arc<Limits>) -> Self {
        Self { broker, router, limits }
    }

    /// The memory of those calls.
    pub(super) fn memory(&self) -> &Arc<Memory> {
        &self.limits.memory
    }

    /// Answers one call of a connection that has so much under way; never fails and never panics.
    pub(super) async fn answer<B>(self, load: Arc<Load>, mut request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let Self { broker, mut router, limits } = self;
        let kind = grpc_kind(request.headers());
        let is_grpc = kind.is_some();
        let caller = match gate::admit(&broker, &request).await {
            Ok(caller) => caller,
            Err(error) => return refuse(&broker, &request, &error, kind),
        };
        let call = match limits.call(&caller, &load) {
            Ok(call) => call,
            Err(error) => return refuse(&broker, &request, &error, kind),
        };
        request.extensions_mut().insert(caller);
        let path = request.uri().path().to_owned();
        let terms = Terms {
            memory: Arc::clone(&limits.memory),
            load: Arc::clone(&load),
            time: limits.request_time,
            patience: limits.patience,
            used: call.used.clone(),
            has_messages: is_grpc && !is_text(request.headers()),
            is_stream: is_grpc && path.ends_with("/AppendStream"),
        };
        let of = match is_large(&path) {
            false if is_tiny(&path) || limits.memory.answers.has_room_for_call(&load) => {
                Expectation::Small
            }
            false => return refuse(&broker, &request, &overloaded(), kind),
            true => match limits.room_for_answer(&load).await {
                Some(held) => {
                    // For those who hold more than the frame that is sent.
                    request.extensions_mut().insert(Arc::clone(held.reader()));
                    match path.ends_with("/Read") {
                        true => Expectation::Single(held),
                        false => Expectation::Large(held),
                    }
                }
                None => return refuse(&broker, &request, &overloaded(), kind),
            },
        };
        let kept = Kept::default();
        let request = request.map(|body| body::Request::new(body, terms, Arc::clone(&kept)));
        let response = guarded(&path, kind, async move { router.call(request).await }).await;
        drop(kept);
        response
            .map(|body| Body::new(body::Answer::new(body, Arc::clone(&limits.memory), call, of)))
    }
}

/// Whether an answer may be large: records, or something of everything there is.
fn is_large(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    matches!(last, "Subscribe" | "Read" | "Backup" | "WatchProducts" | "records")
}

/// Whether an answer is always smaller than what a call costs anyway.
fn is_tiny(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    matches!(last, "Append" | "AppendStream" | "CommitOffsets" | "Check" | "livez" | "readyz")
}

/// Whether a body of gRPC-Web is encoded as text, so that its messages cannot be seen from outside.
fn is_text(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes).unwrap_or_default();
    kind.starts_with(b"application/grpc-web-text")
}

/// A refusal before the routes are asked.
fn refuse<B>(
    broker: &Broker,
    request: &Request<B>,
    error: &Error,
    kind: Option<HeaderValue>,
) -> Response<Body> {
    refusal(&broker.config().http, request, refused(request.uri().path(), error, kind))
}

/// A refusal in the protocol of the request.
fn refused(path: &str, error: &Error, kind: Option<HeaderValue>) -> Response<Body> {
    match kind {
        Some(kind) => grpc_answer(&status_of(error), kind),
        None => problem_at(path, error),
    }
}

/// The media type of a call of gRPC or gRPC-Web.
pub(super) fn grpc_kind(headers: &HeaderMap) -> Option<HeaderValue> {
    let kind = headers.get(CONTENT_TYPE)?;
    kind.as_bytes().starts_with(b"application/grpc").then(|| kind.clone())
}

async fn guarded(
    path: &str,
    kind: Option<HeaderValue>,
    call: impl Future<Output = Result<Response<Body>, Infallible>>,
) -> Response<Body> {
    match AssertUnwindSafe(call).catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => refused(path, &panicked(path), kind),
    }
}

/// An answer of gRPC, in which refusals by tonic itself get our reasons.
pub(super) async fn explained(response: Response<Body>) -> Response<Body> {
    match foreign_error(response.headers()) {
        Some(status) => status_of(&explain(&status)).into_http(),
        None => response,
    }
}

/// The answer to a call of something that there is not.
pub(super) async fn unknown(request: Request<Body>) -> Response<Body> {
    let path = request.uri().path();
    match grpc_kind(request.headers()) {
        Some(kind) => {
            grpc_answer(&Status::unimplemented(format!("there is no {path}; ask reflection")), kind)
        }
        None => {
            let what = format!("there is no {path}; GET /openapi.json lists what there is");
            problem_at(path, &Error::new(Reason::RouteNotFound, what))
        }
    }
}

/// A status in the form of gRPC that the caller speaks.
fn grpc_answer(status: &Status, kind: HeaderValue) -> Response<Body> {
    let mut response = status.clone().into_http();
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// A defect of ours; whether an append was applied is not known.
pub(super) fn panicked(path: &str) -> Error {
    tracing::error!(path, "a call panicked");
    Error::new(
        Reason::Internal,
        format!("{path} failed because of a defect of the broker; its log has the details"),
    )
    .with_applied(Applied::Unknown)
}

/// A refusal by tonic before any handler ran, which therefore lacks our reason.
fn foreign_error(headers: &HeaderMap) -> Option<Status> {
    if headers.contains_key(REASON_TRAILER) {
        return None;
    }
    Status::from_header_map(headers).filter(|status| {
        matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted | Code::Internal)
    })
}

/// What tonic's words mean in ours. It decides before a handler runs, so nothing was applied.
pub(super) fn explain(status: &Status) -> Error {
    match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => Error::new(
            Reason::TooLarge,
            format!(
                "the request is larger than the {MAX_REQUEST_BYTES} bytes allowed; send several \
                 smaller ones"
            ),
        )
        .with("limit", MAX_REQUEST_BYTES),
        _ => Error::new(
            Reason::InvalidArgument,
            format!(
                "the request cannot be read: {}; encode it as meshlog.v1 describes",
                status.message()
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::StatusExt as _;

    #[tokio::test]
    async fn a_panic_fails_only_its_call_and_says_so() {
        let path = "/meshlog.v1.RecordService/Append";
        let kind = Some(HeaderValue::from_static("application/grpc"));
        let response = guarded(path, kind, async { panic!("a defect") });
        let status = Status::from_header_map(response.await.headers()).unwrap();
        assert_eq!(status.code(), Code::Internal);
        assert_eq!(status.metadata().get("meshlog-applied").unwrap(), "unknown");
        assert_eq!(status.get_error_details().error_info().unwrap().reason, "INTERNAL");
        let response = guarded("/v1/products", None, async { panic!("a defect") }).await;
        assert_eq!(response.status(), 500);
        assert_eq!(response.headers()["meshlog-applied"], "unknown");
    }
}
