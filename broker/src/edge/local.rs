//! Connections inside the process: the whole stack, and no socket.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::sync::OnceCell;

use super::call::Calls;
use super::connection::{Connections, Peer};
use super::limits::Limits;
use super::services::Services;
use crate::broker::Broker;

/// Bytes on their way in each direction: two of the largest frames.
const PIPE_BYTES: usize = 512 << 10;

/// Connects a client to a broker in the same process. Every connection speaks HTTP over a pipe
/// in memory, through the same services as one over TCP; [`Broker::close`] drains it.
///
/// It is a connector as `tonic`'s `Endpoint::connect_with_connector` takes it; the address is not
/// looked at.
#[derive(Clone)]
pub struct LocalConnector {
    broker: Broker,
    connections: Arc<OnceCell<Connections>>,
}

impl std::fmt::Debug for LocalConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalConnector").field("broker", &self.broker).finish_non_exhaustive()
    }
}

impl Broker {
    /// Connects clients to this broker without a socket.
    #[must_use]
    pub fn local_connector(&self) -> LocalConnector {
        LocalConnector { broker: self.clone(), connections: Arc::default() }
    }
}

impl LocalConnector {
    /// A new connection, served by a task of the current runtime.
    ///
    /// # Errors
    /// The broker is closed.
    pub async fn connect(&self) -> std::io::Result<TokioIo<DuplexStream>> {
        let broker = &self.broker;
        broker.refuse_if_closing().map_err(std::io::Error::other)?;
        let connections = self.connections.get_or_try_init(|| async {
            let drain = broker.closing().clone();
            let services = Services::new(broker, &drain).await?;
            let limits = Limits::new(broker);
            let calls = Calls::new(broker.clone(), services.router(), limits);
            Ok(Connections::new(broker.config(), calls, drain))
        });
        let connections =
            connections.await.map_err(|error: crate::Error| std::io::Error::other(error))?;
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        broker.tasks().spawn(connections.clone().serve(far, None, Peer::default(), None));
        Ok(TokioIo::new(near))
    }
}

impl tower::Service<http::Uri> for LocalConnector {
    type Response = TokioIo<DuplexStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _address: http::Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect().await })
    }
}
