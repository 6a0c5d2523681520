//! The accept loop and its end.
//!
//! ```text
//! shutdown ─► health NOT_SERVING ─► no new connections ─► GOAWAY ─► streams tell where to resume
//!          └─ after the drain deadline: what is left is cut off
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::connection::{Connections, Peer};
use super::services::Services;
use crate::broker::Broker;
use crate::error::{Error, Reason, Result};
use crate::metrics::Open;

/// Pause after a failed accept, for instance when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves a broker on a bound listener until `shutdown` resolves or the broker closes, then drains.
/// The broker stays open.
///
/// # Errors
/// `ADDRESS_UNAVAILABLE` for an address that other machines can reach: nobody is authenticated
/// yet, so everybody there could read and write everything.
pub async fn serve(
    broker: Broker,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let address = listener.local_addr().map_err(|error| {
        Error::new(Reason::AddressUnavailable, format!("the listener has no address: {error}"))
    })?;
    if !address.ip().is_loopback() {
        return Err(Error::new(
            Reason::AddressUnavailable,
            format!(
                "{address} can be reached from other machines, and the broker cannot authenticate \
                 callers yet; listen on 127.0.0.1 or [::1]"
            ),
        )
        .with("address", address));
    }
    let config = broker.config().edge.clone();
    let drain = CancellationToken::new();
    let services = Services::new(&broker, &drain).await?;
    let connections = Connections::new(&config, services.router(), drain.clone());
    let places = Arc::new(Semaphore::new(config.max_connections as usize));
    let mut open = JoinSet::new();
    let closing = broker.closing().clone();
    let journal_failed = broker.journal_failed().clone();
    let mut failed = false;
    let mut looks = tokio::time::interval(crate::space::LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut checks = tokio::time::interval(crate::space::CHECK);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut short, mut room) = (false, (false, false));
    let mut shutdown = std::pin::pin!(shutdown);
    tracing::info!(%address, "listening");
    loop {
        tokio::select! {
            () = shutdown.as_mut() => break,
            () = closing.cancelled() => break,
            Some(_) = open.join_next() => {}
            _ = looks.tick() => short = broker.watch_space(),
            _ = checks.tick(), if !failed => {
                let now = (broker.is_full(), short);
                if std::mem::replace(&mut room, now) != now {
                    services.disk(now.0, now.1).await;
                }
            }
            () = journal_failed.cancelled(), if !failed => {
                failed = true;
                tracing::error!("the journal refuses appends; reads go on until a restart");
                services.records_not_serving().await;
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                        broker.metrics().refused_connections.fetch_add(1, Relaxed);
                        tracing::warn!(%peer, limit = config.max_connections,
                            "too many connections; this one is closed");
                        continue;
                    };
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%peer, %error, "a connection vanished at once");
                        continue;
                    }
                    let connections = connections.clone();
                    let patience = config.first_request_timeout.into();
                    let counted = Open::begin(broker.metrics(), |metrics| &metrics.connections);
                    open.spawn(async move {
                        let _counted = counted;
                        connections.serve(stream, Peer { address: Some(peer) }, Some(patience)).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    services.not_serving().await;
    drop(listener);
    drain.cancel();
    let drained = tokio::time::timeout(config.drain_deadline.into(), async {
        while open.join_next().await.is_some() {}
    });
    if drained.await.is_err() {
        tracing::warn!(connections = open.len(), "still open at the drain deadline; cut off");
        open.shutdown().await;
    }
    tracing::info!(%address, "drained");
    Ok(())
}
