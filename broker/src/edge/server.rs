//! The accept loop and its end.
//!
//! ```text
//! shutdown ─► health NOT_SERVING ─► no new connections ─► GOAWAY ─► streams tell where to resume
//!          └─ after the drain deadline: what is left is cut off
//! ```

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::call::Calls;
use super::connection::{Connections, First, Peer};
use super::issuer;
use super::limits::Limits;
use super::services::Services;
use super::tls::{Greeted, Tls};
use crate::broker::Broker;
use crate::config::Config;
use crate::error::{Error, Reason, Result};
use crate::metrics::Open;

/// How often clients are looked for that do not read.
const STALLS: Duration = Duration::from_secs(1);

/// How often a broker that everybody can reach says so.
const REMINDER: Duration = Duration::from_secs(60);

/// Pause after a failed accept, for instance when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whether these settings may be served on this address. One that other machines can reach needs TLS
/// and callers who prove who they are, because nothing else stands between them and every record.
///
/// # Errors
/// `ADDRESS_UNAVAILABLE`, with what to set.
pub fn may_listen(config: &Config, address: SocketAddr) -> Result<()> {
    if is_local(address) || config.edge.insecure_allow_remote || is_guarded(config) {
        return Ok(());
    }
    let lacks = match config.tls.certificate {
        None => {
            "connections are not encrypted: set tls.certificate and tls.key (`meshlog tls init` makes \
             some for a lab)"
        }
        Some(_) => {
            "nobody proves who they are: set tls.client_ca and tls.require_client_certificate"
        }
    };
    Err(Error::new(
        Reason::AddressUnavailable,
        format!(
            "{address} can be reached from other machines, and {lacks}; or listen on 127.0.0.1 or \
             [::1]; --insecure-allow-remote serves everybody, for a lab"
        ),
    )
    .with("address", address))
}

/// Whether only programs of this machine can reach an address, however it is written.
fn is_local(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Whether connections are encrypted and callers prove who they are.
fn is_guarded(config: &Config) -> bool {
    config.tls.certificate.is_some() && config.tls.require_client_certificate
}

/// Serves a broker on a bound listener until `shutdown` resolves or the broker closes, then drains.
/// The broker stays open.
///
/// # Errors
/// `ADDRESS_UNAVAILABLE` as [`may_listen`]; `CERTIFICATE_UNUSABLE` if the files of the TLS settings
/// are.
pub async fn serve(
    broker: Broker,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let address = listener.local_addr().map_err(|error| {
        Error::new(Reason::AddressUnavailable, format!("the listener has no address: {error}"))
    })?;
    may_listen(broker.config(), address)?;
    let is_open_to_all = !is_local(address) && !is_guarded(broker.config());
    let tls = Tls::open(&broker)?;
    let config = broker.config().edge.clone();
    let drain = CancellationToken::new();
    let services = Services::new(&broker, &drain).await?;
    let limits = Limits::new(broker.config());
    let calls = Calls::new(broker.clone(), services.router(), Arc::clone(&limits));
    let connections = Connections::new(broker.config(), calls, drain.clone());
    let addresses = Arc::new(Addresses::new(config.max_connections_per_address as usize));
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
    let mut stalls = tokio::time::interval(STALLS);
    stalls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silent = Silent::default();
    let mut reminders = tokio::time::interval(REMINDER);
    let _watch = tls.clone().map(|tls| AbortOnDropHandle::new(tokio::spawn(tls.watch())));
    #[cfg(feature = "cedar")]
    let _policies =
        AbortOnDropHandle::new(tokio::spawn(crate::access::policy::watch(broker.clone())));
    let _keys = AbortOnDropHandle::new(tokio::spawn(issuer::watch(broker.clone())));
    let mut shutdown = std::pin::pin!(shutdown);
    tracing::info!(%address, tls = tls.is_some(), "listening");
    loop {
        tokio::select! {
            () = shutdown.as_mut() => break,
            () = closing.cancelled() => break,
            Some(_) = open.join_next() => {}
            _ = looks.tick() => short = broker.watch_space(),
            _ = checks.tick() => {
                let now = (!broker.why_not_ready(false).is_empty(), short);
                if std::mem::replace(&mut room, now) != now {
                    services.disk(now.0, now.1).await;
                }
            }
            _ = stalls.tick() => {
                limits.memory.cut_stalled();
            }
            _ = reminders.tick(), if is_open_to_all => tracing::warn!(
                %address,
                "--insecure-allow-remote: everybody who reaches this address can read and write \
                 everything"
            ),
            () = journal_failed.cancelled(), if !failed => {
                failed = true;
                tracing::error!("the journal refuses appends; reads go on until a restart");
                checks.reset_immediately();
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let Some(origin) = addresses.enter(peer.ip()) else {
                        broker.metrics().refused_connections.fetch_add(1, Ordering::Relaxed);
                        tracing::debug!(%peer, limit = config.max_connections_per_address,
                            "too many connections of one address; this one is closed");
                        continue;
                    };
                    let place = Arc::clone(&places).try_acquire_owned().ok();
                    // Whoever has said nothing yet gives way to whoever comes.
                    if place.is_none() && !silent.one_goes() {
                        broker.metrics().refused_connections.fetch_add(1, Ordering::Relaxed);
                        tracing::warn!(%peer, limit = config.max_connections,
                            "too many connections; this one is closed");
                        continue;
                    }
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%peer, %error, "a connection vanished at once");
                        continue;
                    }
                    let (requested, gives_way) = silent.enter();
                    let (connections, places) = (connections.clone(), Arc::clone(&places));
                    let patience = config.first_request_timeout.into();
                    let tls = tls.clone();
                    let counted = Open::begin(broker.metrics(), |metrics| &metrics.connections);
                    open.spawn(async move {
                        let _counted = counted;
                        let place = match place {
                            Some(place) => Ok(place),
                            None => places.acquire_owned().await,
                        };
                        let peer = Peer { address: Some(peer), certificate: None };
                        let first = First { patience, requested };
                        let serving = async {
                            match tls {
                                None => connections.serve(stream, None, peer, Some(first)).await,
                                Some(tls) => encrypted(&tls, connections, stream, peer, first).await,
                            }
                        };
                        tokio::select! {
                            () = serving => {}
                            () = gives_way.cancelled() => {}
                        }
                        drop((place, origin));
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

/// Connections that have made no request yet, oldest first.
#[derive(Default)]
struct Silent(VecDeque<(Arc<AtomicBool>, CancellationToken)>);

impl Silent {
    /// One more: whether it has made a request, and what ends it.
    fn enter(&mut self) -> (Arc<AtomicBool>, CancellationToken) {
        if self.0.len() == self.0.capacity() {
            self.0.retain(|(requested, _)| is_silent(requested));
        }
        let entry = (Arc::default(), CancellationToken::new());
        self.0.push_back(entry.clone());
        entry
    }

    /// Ends the one that has been silent for longest, if there is one.
    fn one_goes(&mut self) -> bool {
        while let Some((requested, end)) = self.0.pop_front() {
            if is_silent(&requested) {
                end.cancel();
                return true;
            }
        }
        false
    }
}

/// Whether a connection is still there and has made no request.
fn is_silent(requested: &Arc<AtomicBool>) -> bool {
    Arc::strong_count(requested) > 1 && !requested.load(Ordering::Relaxed)
}

/// How many connections each address has.
struct Addresses {
    limit: usize,
    /// At most as many as there are connections.
    counts: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection of an address.
struct Origin {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    fn new(limit: usize) -> Self {
        Self { limit, counts: Mutex::default() }
    }

    fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Origin> {
        let mut counts = self.counts.lock();
        let count = counts.entry(address).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(Origin { addresses: Arc::clone(self), address })
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let mut counts = self.addresses.counts.lock();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

async fn encrypted(
    tls: &Tls,
    connections: Connections,
    stream: TcpStream,
    peer: Peer,
    first: First,
) {
    match tls.accept(stream).await {
        Ok(Greeted { stream, protocol, certificate }) => {
            let peer = Peer { certificate, ..peer };
            connections.serve(stream, protocol, peer, Some(first)).await;
        }
        Err(error) => {
            tracing::debug!(peer = ?peer.address, %error, "a TLS handshake failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_others_can_reach_needs_tls_and_proof_of_who_calls() {
        let plain = Config::default();
        for local in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            may_listen(&plain, local.parse().unwrap()).unwrap();
        }
        let mut encrypted = Config::default();
        encrypted.tls.certificate = Some("server.pem".into());
        let mut guarded = encrypted.clone();
        guarded.tls.require_client_certificate = true;
        let mut insecure = Config::default();
        insecure.edge.insecure_allow_remote = true;
        for remote in
            ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[::ffff:192.0.2.1]:1", "[::ffff:0.0.0.0]:1"]
        {
            let remote = remote.parse().unwrap();
            let refused = may_listen(&plain, remote).unwrap_err();
            assert_eq!(refused.reason(), Reason::AddressUnavailable);
            assert!(refused.to_string().contains("tls.certificate"), "{refused}");
            let refused = may_listen(&encrypted, remote).unwrap_err();
            assert!(refused.to_string().contains("who they are"), "{refused}");
            may_listen(&guarded, remote).unwrap();
            may_listen(&insecure, remote).unwrap();
        }
    }
}
