//! What is noted of each call of every protocol: how long it took and how it ended, under a span
//! that carries an id by which its log lines, its answer and its trace are found.
//!
//! A call keeps the trace of its caller (the header `traceparent` of W3C), else it begins one; the
//! id of the trace is the id of the request. One span per call, never one per record.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tracing::Instrument as _;

use crate::caller::Caller;
use crate::metrics::call::Call;
use crate::metrics::{Metrics, Open};
use crate::trace::TraceParent;

/// The header of an answer in which the id of the request stands.
const REQUEST_ID: &str = "meshlog-request-id";
/// The header in which tracing systems hand on where a call belongs.
const TRACEPARENT: &str = "traceparent";
const GRPC_STATUS: &str = "grpc-status";

/// The layer around all routes.
pub(super) async fn watch(
    State(metrics): State<Arc<Metrics>>,
    request: Request,
    next: Next,
) -> Response {
    let call = metrics.calls.begin(request.uri().path());
    let parent = request.headers().get(TRACEPARENT);
    let parent = parent.and_then(|text| TraceParent::from_text(text.to_str().ok()?));
    let span = span_of(&call, &request);
    let id = place_in_trace(&span, parent);
    span.record("request_id", &*id);
    let mut response = next.run(request).instrument(span).await;
    if let Ok(id) = id.parse() {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    finish(&metrics, call, response)
}

/// Appends and reads come so often that their span is made only for those who ask for it, by
/// `meshlog_broker=debug` or by exporting traces.
fn span_of(call: &Call, request: &Request) -> tracing::Span {
    let name = call.method().name();
    let caller = request.extensions().get::<Caller>();
    let application = caller.map_or("", |caller| &caller.application);
    let request_id = tracing::field::Empty;
    match name {
        "RecordService/Append" | "RecordService/Read" => tracing::debug_span!(
            "call",
            otel.name = name,
            otel.kind = "server",
            request_id,
            application
        ),
        _ => tracing::info_span!(
            "call",
            otel.name = name,
            otel.kind = "server",
            request_id,
            application
        ),
    }
}

/// Makes the span a child of its caller's; gives the id of the trace, which is that of the request.
#[cfg(feature = "otlp")]
fn place_in_trace(span: &tracing::Span, parent: Option<TraceParent>) -> String {
    use opentelemetry::trace::TraceContextExt as _;
    use tracing_opentelemetry::OpenTelemetrySpanExt as _;
    if let Some(parent) = parent {
        // A span that is off, or that nobody exports, has no parent.
        let _off = span.set_parent(parent.context());
        return parent.trace_id();
    }
    let context = span.context();
    let own = context.span().span_context().clone();
    match own.is_valid() {
        true => own.trace_id().to_string(),
        false => TraceParent::random().trace_id(),
    }
}

/// Gives the id of the trace, which is that of the request.
#[cfg(not(feature = "otlp"))]
fn place_in_trace(_span: &tracing::Span, parent: Option<TraceParent>) -> String {
    parent.unwrap_or_else(TraceParent::random).trace_id()
}

fn finish(metrics: &Arc<Metrics>, call: Call, response: Response) -> Response {
    let told = status_in(response.headers());
    match told {
        Some(code) => call.end(code),
        None if call.method().streams() => {
            let open = Open::begin(metrics, |metrics| &metrics.streams);
            return response.map(|body| Body::new(Watched { body, call: Some(call), _open: open }));
        }
        None if call.is_http() => call.end_http(response.status().as_u16()),
        // A single answer is there with its headers; what ends it can only say that all is well.
        None if response.status().is_success() => call.end(0),
        None => call.end_http(response.status().as_u16()),
    }
    response
}

fn status_in(headers: &HeaderMap) -> Option<i32> {
    headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

/// The answers of a stream.
struct Watched {
    body: Body,
    call: Option<Call>,
    _open: Open,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let code = match &polled {
            Poll::Ready(Some(Ok(frame))) => frame.trailers_ref().and_then(status_in),
            Poll::Ready(None) => Some(0),
            _ => None,
        };
        if let Some(code) = code
            && let Some(call) = self.call.take()
        {
            call.end(code);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
