//! The accept loop and its end.
//!
//! ```text
//! shutdown ─► health NOT_SERVING ─► no new connections ─► GOAWAY ─► streams tell where to resume
//!          └─ after the drain deadline: what is left is cut off
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::call::Calls;
use super::connection::{Connections, First, Peer};
use super::issuer;
use super::limits::Limits;
use super::places::{Addresses, Places, Silent};
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

/// Whether these settings may take this address. One that other machines can reach needs TLS, because
/// nothing else keeps keys and records from whoever is on the way. Who calls is for [`may_listen`].
///
/// # Errors
/// `ADDRESS_UNAVAILABLE`, with what to set.
pub fn may_bind(config: &Config, address: SocketAddr) -> Result<()> {
    let is_encrypted = config.tls.certificate.is_some();
    match is_local(address) || config.edge.insecure_allow_remote || is_encrypted {
        true => Ok(()),
        false => Err(exposed(
            address,
            "connections are not encrypted: set tls.certificate and tls.key (`meshlog tls init` makes \
             some for a lab), and make the first key with `meshlog init`, so that callers prove who they \
             are",
        )),
    }
}

/// Whether this broker may be served on this address. One that other machines can reach also needs
/// callers who prove who they are, with keys or with certificates, because nothing else stands between
/// them and every record.
///
/// # Errors
/// `ADDRESS_UNAVAILABLE`, with what to do.
pub fn may_listen(broker: &Broker, address: SocketAddr) -> Result<()> {
    may_bind(broker.config(), address)?;
    match needs_keys(broker.config(), address) && !broker.catalogue().is_protected() {
        false => Ok(()),
        true => Err(exposed(
            address,
            "nobody proves who they are: make the first key with `meshlog init`, or let certificates \
             say it with tls.client_ca and tls.require_client_certificate",
        )),
    }
}

/// Whether these settings serve this address only if the broker has keys.
#[must_use]
pub fn needs_keys(config: &Config, address: SocketAddr) -> bool {
    let is_open = config.edge.insecure_allow_remote || config.tls.require_client_certificate;
    !is_local(address) && !is_open
}

fn exposed(address: SocketAddr, lacks: &str) -> Error {
    Error::new(
        Reason::AddressUnavailable,
        format!(
            "{address} can be reached from other machines, and {lacks}; or listen on 127.0.0.1 or \
             [::1]; --insecure-allow-remote serves everybody, for a lab"
        ),
    )
    .with("address", address)
}

/// Whether only programs of this machine can reach an address, however it is written.
fn is_local(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// What is missing on an address that other machines can reach; `None`: nothing.
fn lacking(broker: &Broker) -> Option<&'static str> {
    let config = broker.config();
    let proves = config.tls.require_client_certificate || broker.catalogue().is_protected();
    match (config.tls.certificate.is_some(), proves) {
        (true, true) => None,
        (false, true) => {
            Some("connections are not encrypted: whoever is on the way reads keys and records")
        }
        (_, false) => Some("everybody who reaches this address can read and write everything"),
    }
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
    may_listen(&broker, address)?;
    let is_local = is_local(address);
    let tls = Tls::open(&broker)?;
    let config = broker.config().edge.clone();
    let drain = CancellationToken::new();
    let services = Services::new(&broker, &drain).await?;
    let limits = Limits::new(&broker);
    let calls = Calls::new(broker.clone(), services.router(), Arc::clone(&limits));
    let connections = Connections::new(broker.config(), calls, drain.clone());
    let addresses = Arc::new(Addresses::new(config.max_connections_per_address as usize));
    let places = Places::new(config.max_connections, &limits.memory, tls.is_some());
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
                limits.memory.answers.cut_stalled();
            }
            _ = reminders.tick(), if !is_local => {
                // The first key may come while it runs.
                if let Some(lacks) = lacking(&broker) {
                    tracing::warn!(%address, "--insecure-allow-remote: {lacks}");
                }
            }
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
                    let place = places.try_take();
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
                    let (connections, places) = (connections.clone(), places.clone());
                    let patience = config.first_request_timeout.into();
                    let tls = tls.clone();
                    let counted = Open::begin(broker.metrics(), |metrics| &metrics.connections);
                    open.spawn(async move {
                        let _counted = counted;
                        let place = match place {
                            Some(place) => place,
                            // It may be that of another one that waited for a place in vain.
                            None => match tokio::time::timeout(patience, places.take()).await {
                                Ok(Some(place)) => place,
                                _ => return,
                            },
                        };
                        let peer = Peer { address: Some(peer), certificate: None };
                        let first = First { patience, requested };
                        let serving = async {
                            match tls {
                                None => Box::pin(connections.serve(stream, None, peer, Some(first))).await,
                                Some(tls) => Box::pin(encrypted(&tls, connections, stream, peer, first)).await,
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
    use meshlog_proto::v1;

    use super::*;
    use crate::Caller;

    const REMOTE: [&str; 5] =
        ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[::ffff:192.0.2.1]:1", "[::ffff:0.0.0.0]:1"];

    fn encrypted() -> Config {
        let mut config = Config::default();
        config.tls.certificate = Some("server.pem".into());
        config
    }

    #[test]
    fn an_address_that_others_can_reach_needs_tls() {
        let plain = Config::default();
        for local in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            may_bind(&plain, local.parse().unwrap()).unwrap();
            assert!(!needs_keys(&plain, local.parse().unwrap()));
        }
        let mut insecure = Config::default();
        insecure.edge.insecure_allow_remote = true;
        // A certificate of the client says nothing on a connection that is not encrypted.
        let mut odd = Config::default();
        odd.tls.require_client_certificate = true;
        for remote in REMOTE {
            let remote = remote.parse().unwrap();
            for config in [&plain, &odd] {
                let refused = may_bind(config, remote).unwrap_err();
                assert_eq!(refused.reason(), Reason::AddressUnavailable);
                for word in ["tls.certificate", "`meshlog tls init`", "`meshlog init`"] {
                    assert!(refused.to_string().contains(word), "{refused}");
                }
            }
            may_bind(&encrypted(), remote).unwrap();
            may_bind(&insecure, remote).unwrap();
            assert!(!needs_keys(&insecure, remote));
        }
    }

    #[tokio::test]
    async fn an_address_that_others_can_reach_needs_callers_who_prove_who_they_are() {
        let mut with_certificates = encrypted();
        with_certificates.tls.require_client_certificate = true;
        let with_certificates = Broker::open(with_certificates).unwrap();
        let (keyless, plain) =
            (Broker::open(encrypted()).unwrap(), Broker::open(Config::default()).unwrap());
        for remote in REMOTE {
            let remote = remote.parse().unwrap();
            may_listen(&with_certificates, remote).unwrap();
            let refused = may_listen(&keyless, remote).unwrap_err();
            assert_eq!(refused.reason(), Reason::AddressUnavailable);
            for word in ["who they are", "`meshlog init`"] {
                assert!(refused.to_string().contains(word), "{refused}");
            }
        }
        for broker in [&keyless, &plain] {
            let key = v1::ApiKey { admin: true, ..Default::default() };
            let request = v1::CreateKeyRequest { key: Some(key), validate_only: false };
            broker.catalogue().create_key(&Caller::new("test"), request).await.unwrap();
        }
        for remote in REMOTE {
            let remote = remote.parse().unwrap();
            may_listen(&keyless, remote).unwrap();
            // Keys alone are none: anybody on the way could read them.
            assert!(may_listen(&plain, remote).unwrap_err().to_string().contains("not encrypted"));
        }
        assert_eq!(lacking(&keyless), None);
        assert!(lacking(&plain).unwrap().contains("not encrypted"));
    }
}
