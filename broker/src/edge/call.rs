//! One call of any protocol: a panic in a handler fails that call alone, and errors that tonic makes
//! by itself get a reason like all others.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use tonic::{Code, Status};
use tower::Service as _;

use super::convert::named_in;
use super::status::{REASON_TRAILER, status_of};
use crate::error::{Applied, Error, Reason};
use crate::record::limits::MAX_REQUEST_BYTES;

/// Answers one call; never fails and never panics.
pub(super) async fn answer<B>(router: Router, request: Request<B>) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let (mut router, mut request) = (router, request);
    let caller = named_in(request.headers());
    request.extensions_mut().insert(caller);
    let path = request.uri().path().to_owned();
    let is_grpc = is_grpc(request.headers());
    guarded(&path, is_grpc, async move { router.call(request).await }).await
}

/// Whether a request or an answer is one of gRPC.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes).unwrap_or_default();
    kind.starts_with(b"application/grpc")
}

async fn guarded(
    path: &str,
    is_grpc: bool,
    call: impl Future<Output = Result<Response<Body>, Infallible>>,
) -> Response<Body> {
    match AssertUnwindSafe(call).catch_unwind().await {
        Ok(Ok(response)) => match foreign_error(&response) {
            Some(status) => status_of(&explain(&status)).into_http(),
            None => response,
        },
        Ok(Err(never)) => match never {},
        Err(_) => {
            let error = panicked(path);
            if is_grpc {
                return status_of(&error).into_http();
            }
            let mut response = Response::new(Body::from(error.to_string()));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    }
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
fn foreign_error(response: &Response<Body>) -> Option<Status> {
    if response.headers().contains_key(REASON_TRAILER) {
        return None;
    }
    Status::from_header_map(response.headers())
        .filter(|status| matches!(status.code(), Code::OutOfRange | Code::Internal))
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
        let response =
            guarded("/meshlog.v1.RecordService/Append", true, async { panic!("a defect") });
        let status = Status::from_header_map(response.await.headers()).unwrap();
        assert_eq!(status.code(), Code::Internal);
        assert_eq!(status.metadata().get("meshlog-applied").unwrap(), "unknown");
        assert_eq!(status.get_error_details().error_info().unwrap().reason, "INTERNAL");
    }
}
