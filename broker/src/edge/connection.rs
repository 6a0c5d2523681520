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
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::answers::Load;
use super::call::Calls;
use super::cut::Tasks;
use super::preface::{self, Protocol};
use super::unread::Watched;
use crate::config::{ByteSize, Config};
use crate::identity::PeerCertificate;

/// A connection is looked at no more often than this.
const LOOK: Duration = Duration::from_millis(50);

/// Serves connections alike.
#[derive(Clone)]
pub(super) struct Connections {
    http1: http1::Builder,
    http2: http2::Builder<Tasks>,
    calls: Calls,
    idle: Duration,
    age: Duration,
    drain: CancellationToken,
}

/// What is expected of a new connection: a request within this time.
#[derive(Default)]
pub(super) struct First {
    /// The time.
    pub(super) patience: Duration,
    /// Whether it has made one.
    pub(super) requested: Arc<AtomicBool>,
}

/// The other end of a connection; every request carries it in its extensions.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    /// Its address; none inside the process.
    pub(super) address: Option<SocketAddr>,
    /// The names in its certificate, if it has shown one and its chain was verified. Requests carry
    /// it in their extensions by itself.
    pub(super) certificate: Option<PeerCertificate>,
}

impl Connections {
    /// With these settings, until `drain` is cancelled.
    pub(super) fn new(config: &Config, calls: Calls, drain: CancellationToken) -> Self {
        let config = &config.edge;
        // With little memory nobody may send much of it ahead.
        let window = |size: ByteSize| size.as_u32().min(calls.memory().window());
        let mut http2 = http2::Builder::new(Tasks);
        http2
            .timer(TokioTimer::new())
            .adaptive_window(false)
            .initial_stream_window_size(window(config.stream_window))
            .initial_connection_window_size(window(config.connection_window))
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
        let (idle, age) = (config.idle_timeout.into(), config.max_connection_age.into());
        Self { http1, http2, calls, idle, age, drain }
    }

    /// Serves one connection to its end. With a limit, one that has made no request by then is
    /// closed: it is a port scan, a half-open socket or somebody who holds places on purpose.
    pub(super) async fn serve<Io>(
        self,
        mut io: Io,
        agreed: Option<Protocol>,
        peer: Peer,
        first_request: Option<First>,
    ) where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let is_awaited = first_request.is_some();
        let First { patience, requested } = first_request.unwrap_or_default();
        let mut patience = pin!(tokio::time::sleep(patience));
        let (protocol, first) = tokio::select! {
            read = preface::read(&mut io), if agreed.is_none() => match read {
                Ok(read) => read,
                Err(error) => return tracing::debug!(%error, "a connection ended at once"),
            },
            () = std::future::ready(()), if agreed.is_some() => (agreed.unwrap_or(Protocol::Http1), Bytes::new()),
            () = patience.as_mut(), if is_awaited => {
                return tracing::debug!("a connection said nothing in time; it is closed");
            }
            () = self.drain.cancelled() => return,
        };
        let io = preface::Rewound::new(first, io);
        let load = Arc::<Load>::default();
        let (calls, seen) = (self.calls.clone(), Arc::clone(&requested));
        let of_connection = Arc::clone(&load);
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            seen.store(true, Ordering::Relaxed);
            if let Some(certificate) = peer.certificate.clone() {
                request.extensions_mut().insert(certificate);
            }
            request.extensions_mut().insert(peer.clone());
            let (calls, load) = (calls.clone(), Arc::clone(&of_connection));
            async move { Ok::<_, Infallible>(calls.answer(load, request).await) }
        });
        let waits = is_awaited.then_some((patience, &*requested));
        let cut = Arc::clone(&load.cut);
        match protocol {
            // One call at a time, in the task of the connection: it is cut off as a whole.
            Protocol::Http1 => {
                let connection = self.http1.serve_connection(TokioIo::new(io), service);
                cut.ends(self.drive(connection, waits, &load)).await;
            }
            Protocol::Http2 => {
                let memory = Arc::clone(self.calls.memory());
                let io = Watched::new(io, memory, Arc::clone(&load));
                let connection = self.http2.serve_connection(TokioIo::new(io), service);
                cut.ends(self.drive(connection, waits, &load)).await;
            }
        }
    }

    async fn drive(
        &self,
        connection: impl Drains,
        waits: Option<(Pin<&mut tokio::time::Sleep>, &AtomicBool)>,
        load: &Load,
    ) {
        let mut connection = pin!(connection);
        let begun = Instant::now();
        let mut busy = begun;
        let mut looks = tokio::time::interval((self.idle / 4).max(LOOK));
        let mut waits = waits;
        let mut draining = false;
        loop {
            let is_settled = waits.is_none();
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
                _ = looks.tick(), if !draining && is_settled => {
                    let now = Instant::now();
                    if load.calls.load(Ordering::Relaxed) > 0 {
                        busy = now;
                    }
                    let is_idle = !self.idle.is_zero() && now - busy >= self.idle;
                    let is_old = !self.age.is_zero() && now - begun >= self.age;
                    if is_idle || is_old {
                        draining = true;
                        connection.as_mut().drain();
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

impl<I, S> Drains for http2::Connection<I, S, Tasks>
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
