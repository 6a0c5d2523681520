//! One HTTP/2 connection: its settings, its time to the first request, its graceful end.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::call;
use crate::config::EdgeConfig;

/// Serves connections alike.
#[derive(Clone)]
pub(super) struct Connections {
    http2: http2::Builder<TokioExecutor>,
    routes: Routes,
    drain: CancellationToken,
}

impl Connections {
    /// With these settings, until `drain` is cancelled.
    pub(super) fn new(config: &EdgeConfig, routes: Routes, drain: CancellationToken) -> Self {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .adaptive_window(false)
            .initial_stream_window_size(config.stream_window.as_u32())
            .initial_connection_window_size(config.connection_window.as_u32())
            .max_frame_size(config.max_frame.as_u32())
            .max_concurrent_streams(config.max_concurrent_streams)
            .max_send_buf_size(config.send_buffer.as_usize())
            .max_header_list_size(config.max_headers.as_u32())
            .keep_alive_interval(Some(config.keepalive_interval.into()))
            .keep_alive_timeout(config.keepalive_timeout.into());
        Self { http2, routes, drain }
    }

    /// Serves one connection to its end. With a limit, one that has made no request by then is
    /// closed: it is a port scan, a half-open socket or somebody who holds places on purpose.
    pub(super) async fn serve<Io>(self, io: Io, first_request: Option<Duration>)
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let requested = Arc::new(AtomicBool::new(false));
        let (routes, seen) = (self.routes, Arc::clone(&requested));
        let service = hyper::service::service_fn(move |request| {
            seen.store(true, Ordering::Relaxed);
            let routes = routes.clone();
            async move { Ok::<_, Infallible>(call::answer(routes, request).await) }
        });
        let mut connection = pin!(self.http2.serve_connection(TokioIo::new(io), service));
        let mut patience = pin!(tokio::time::sleep(first_request.unwrap_or_default()));
        let (mut waiting, mut draining) = (first_request.is_some(), false);
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended");
                    }
                    return;
                }
                () = patience.as_mut(), if waiting => {
                    waiting = false;
                    if !requested.load(Ordering::Relaxed) {
                        tracing::debug!("a connection made no request in time; it is closed");
                        return;
                    }
                }
                () = self.drain.cancelled(), if !draining => {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}
