//! One connection: which protocol it speaks, its settings, its time to the first request, its
//! graceful end.
//!
//! ```text
//! bytes ─► preface: HTTP/2 or HTTP/1.1 ─► hyper ─► call::answer ─► one router for all protocols
//! ```

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::call;
use super::preface::{self, Protocol};
use crate::config::EdgeConfig;

/// Serves connections alike.
#[derive(Clone)]
pub(super) struct Connections {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    router: Router,
    drain: CancellationToken,
}

/// The other end of a connection; every request carries it in its extensions.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    /// Its address; none inside the process.
    #[expect(dead_code, reason = "read by those who judge where a request comes from")]
    pub(super) address: Option<SocketAddr>,
}

impl Connections {
    /// With these settings, until `drain` is cancelled.
    pub(super) fn new(config: &EdgeConfig, router: Router, drain: CancellationToken) -> Self {
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
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            // Counts from the end of the answer before, so it ends idle connections too.
            .header_read_timeout(Duration::from(config.first_request_timeout))
            .max_header_size(config.max_headers.as_usize())
            // A body is read in pieces as large as a frame.
            .max_buf_size(config.max_frame.as_usize().max(config.max_headers.as_usize()));
        Self { http1, http2, router, drain }
    }

    /// Serves one connection to its end. With a limit, one that has made no request by then is
    /// closed: it is a port scan, a half-open socket or somebody who holds places on purpose.
    pub(super) async fn serve<Io>(self, mut io: Io, peer: Peer, first_request: Option<Duration>)
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let requested = Arc::new(AtomicBool::new(false));
        let mut patience = pin!(tokio::time::sleep(first_request.unwrap_or_default()));
        let (protocol, io) = tokio::select! {
            read = preface::read(&mut io) => match read {
                Ok((protocol, first)) => (protocol, TokioIo::new(preface::Rewound::new(first, io))),
                Err(error) => return tracing::debug!(%error, "a connection ended at once"),
            },
            () = patience.as_mut(), if first_request.is_some() => {
                return tracing::debug!("a connection said nothing in time; it is closed");
            }
            () = self.drain.cancelled() => return,
        };
        let (router, seen) = (self.router.clone(), Arc::clone(&requested));
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            seen.store(true, Ordering::Relaxed);
            request.extensions_mut().insert(peer.clone());
            let router = router.clone();
            async move { Ok::<_, Infallible>(call::answer(router, request).await) }
        });
        let waits = first_request.is_some().then_some((patience, &*requested));
        match protocol {
            Protocol::Http1 => self.drive(self.http1.serve_connection(io, service), waits).await,
            Protocol::Http2 => self.drive(self.http2.serve_connection(io, service), waits).await,
        }
    }

    async fn drive(
        &self,
        connection: impl Drains,
        waits: Option<(Pin<&mut tokio::time::Sleep>, &AtomicBool)>,
    ) {
        let mut connection = pin!(connection);
        let mut waits = waits;
        let mut draining = false;
        loop {
            let patience = async {
                match &mut waits {
                    Some((patience, requested)) => {
                        patience.as_mut().await;
                        requested.load(Ordering::Relaxed)
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended");
                    }
                    return;
                }
                requested = patience => {
                    waits = None;
                    if !requested {
                        tracing::debug!("a connection made no request in time; it is closed");
                        return;
                    }
                }
                () = self.drain.cancelled(), if !draining => {
                    draining = true;
                    connection.as_mut().drain();
                }
            }
        }
    }
}

/// A connection that can be asked to finish what is under way and end.
trait Drains: Future<Output = hyper::Result<()>> {
    fn drain(self: Pin<&mut Self>);
}

impl<I, S> Drains for http1::Connection<I, S>
where
    Self: Future<Output = hyper::Result<()>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    S: hyper::service::HttpService<Incoming, ResBody = axum::body::Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn drain(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S> Drains for http2::Connection<I, S, TokioExecutor>
where
    Self: Future<Output = hyper::Result<()>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    S: hyper::service::HttpService<Incoming, ResBody = axum::body::Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Send + 'static,
{
    fn drain(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
