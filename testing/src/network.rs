//! The way between clients and the broker, which can be disturbed.
//!
//! ```text
//! client ── pipe ─┐                                   ┌── the broker's connector
//!                 ├── relay: cut, refused, delayed ───┤
//! client ── TCP ──┘                                   └── the broker's gRPC port
//! ```
//!
//! Relays copy bytes and know nothing of gRPC. The address that clients know stays the same over
//! restarts; behind it each start has a port of its own.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use meshlog_broker::edge::LocalConnector;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// Bytes on their way in each direction.
const PIPE_BYTES: usize = 512 << 10;
/// Bytes that a relay takes at a time.
const PIECE_BYTES: usize = 64 << 10;

/// The connections of one broker.
#[derive(Clone, Debug)]
pub struct TestNetwork {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    host: Handle,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Absent: the broker is down.
    upstream: Option<Upstream>,
    /// Cancelled to cut all connections; replaced by a fresh one.
    cut: CancellationToken,
    is_refusing: bool,
    answer_delay: Duration,
}

/// Where the broker is.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    pub(crate) local: LocalConnector,
    pub(crate) port: Option<SocketAddr>,
}

impl TestNetwork {
    pub(crate) fn new(host: Handle) -> Self {
        Self { shared: Arc::new(Shared { host, state: Mutex::default() }) }
    }

    /// Cuts every connection at once, in the middle of whatever is under way. New ones are taken.
    pub fn cut(&self) {
        let mut state = self.shared.state.lock();
        std::mem::take(&mut state.cut).cancel();
    }

    /// Takes no new connection until [`TestNetwork::accept`]; open ones go on.
    pub fn refuse(&self) {
        self.shared.state.lock().is_refusing = true;
    }

    /// Takes new connections again.
    pub fn accept(&self) {
        self.shared.state.lock().is_refusing = false;
    }

    /// Holds every piece of an answer back for this long; zero ends it.
    pub fn delay_answers(&self, by: Duration) {
        self.shared.state.lock().answer_delay = by;
    }

    /// As it was at the start.
    pub(crate) fn reset(&self) {
        self.accept();
        self.delay_answers(Duration::ZERO);
    }

    /// The broker is there.
    pub(crate) fn come_up(&self, upstream: Upstream) {
        self.shared.state.lock().upstream = Some(upstream);
    }

    /// The broker goes; open connections are its to end.
    pub(crate) fn go_down(&self) {
        self.shared.state.lock().upstream = None;
    }

    /// Relays what connects to this listener until the task is dropped.
    pub(crate) async fn listen(self, listener: TcpListener) {
        while let Ok((client, _)) = listener.accept().await {
            let Some((upstream, cut)) = self.upstream() else { continue };
            let Some(port) = upstream.port else { continue };
            let network = self.clone();
            self.shared.host.spawn(async move {
                let Ok(broker) = TcpStream::connect(port).await else { return };
                if client.set_nodelay(true).is_ok() && broker.set_nodelay(true).is_ok() {
                    network.relay(client, broker, cut).await;
                }
            });
        }
    }

    fn upstream(&self) -> Option<(Upstream, CancellationToken)> {
        let state = self.shared.state.lock();
        let upstream = state.upstream.clone().filter(|_| !state.is_refusing)?;
        Some((upstream, state.cut.clone()))
    }

    fn answer_delay(&self) -> Duration {
        self.shared.state.lock().answer_delay
    }

    async fn relay<C, B>(self, client: C, broker: B, cut: CancellationToken)
    where
        C: AsyncRead + AsyncWrite,
        B: AsyncRead + AsyncWrite,
    {
        let (mut from_client, mut to_client) = tokio::io::split(client);
        let (mut from_broker, mut to_broker) = tokio::io::split(broker);
        let requests = tokio::io::copy(&mut from_client, &mut to_broker);
        let answers = async {
            let mut piece = vec![0; PIECE_BYTES];
            while let Ok(length @ 1..) = from_broker.read(&mut piece).await {
                let delay = self.answer_delay();
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                if to_client.write_all(&piece[..length]).await.is_err() {
                    return;
                }
            }
        };
        // HTTP/2 closes both directions together, so the first end is the end.
        tokio::select! {
            () = cut.cancelled() => {}
            () = answers => {}
            _ = requests => {}
        }
    }
}

/// Connects clients in the same process, without a socket: what
/// [`Client::over`](meshlog_client::Client::over) takes.
#[derive(Clone, Debug)]
pub struct TestConnector {
    pub(crate) network: TestNetwork,
}

impl TestConnector {
    fn connect(&self) -> std::io::Result<TokioIo<DuplexStream>> {
        let Some((upstream, cut)) = self.network.upstream() else {
            let why = "the broker of this test is down or refuses connections";
            return Err(std::io::Error::new(std::io::ErrorKind::ConnectionRefused, why));
        };
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let network = self.network.clone();
        self.network.shared.host.spawn(async move {
            if let Ok(broker) = upstream.local.connect().await {
                network.relay(far, broker.into_inner(), cut).await;
            }
        });
        Ok(TokioIo::new(near))
    }
}

impl tower::Service<http::Uri> for TestConnector {
    type Response = TokioIo<DuplexStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _address: http::Uri) -> Self::Future {
        let connected = self.connect();
        Box::pin(async move { connected })
    }
}
