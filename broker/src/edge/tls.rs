//! TLS of the port: the files, the handshake, and new files without a restart.
//!
//! ```text
//! files ─► Loaded (a complete rustls configuration) ─► new handshakes
//!   └ look every 2 s, or when asked: changed and good ─► replaces it; changed and bad ─► told, and the old one stays
//! ```
//!
//! Connections keep what they were made with. TLS 1.2 and 1.3, nothing older: rustls has no more.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::preface::Protocol;
use crate::broker::Broker;
use crate::config::TlsConfig;
use crate::error::{Error, Reason, Result};
use crate::identity::PeerCertificate;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// The TLS side of a port.
pub(super) struct Tls {
    config: TlsConfig,
    broker: Broker,
    loaded: RwLock<Loaded>,
}

/// What the files held when they were read.
struct Loaded {
    server: Arc<ServerConfig>,
    stamps: Vec<Stamp>,
}

/// Changes whenever a file is written or replaced.
#[derive(PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
}

impl Tls {
    /// Reads the files; none if the settings name no certificate.
    ///
    /// # Errors
    /// `CERTIFICATE_UNUSABLE`, with the file and what is wrong with it.
    pub(super) fn open(broker: &Broker) -> Result<Option<Arc<Self>>> {
        let config = broker.config().tls.clone();
        if config.certificate.is_none() && config.key.is_none() && config.client_ca.is_none() {
            return Ok(None);
        }
        let (loaded, expires) = load(&config)?;
        let tls = Self { config, broker: broker.clone(), loaded: RwLock::new(loaded) };
        tls.broker.certificates().shows(tls.file(), expires);
        Ok(Some(Arc::new(tls)))
    }

    /// Greets a client within the time that the settings give: what it speaks, if that was agreed
    /// on, and who it is, if it has shown a certificate.
    pub(super) async fn accept<Io>(&self, io: Io) -> std::io::Result<Greeted<Io>>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.loaded.read().server));
        let patience = self.config.handshake_timeout.into();
        let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
        let stream = tokio::time::timeout(patience, acceptor.accept(io)).await.map_err(late)??;
        let (_, session) = stream.get_ref();
        let protocol = match session.alpn_protocol() {
            Some(b"h2") => Some(Protocol::Http2),
            Some(b"http/1.1") => Some(Protocol::Http1),
            _ => None,
        };
        let shown = session.peer_certificates().and_then(<[_]>::first);
        let certificate = shown.map(|shown| names_in(shown)).transpose();
        let certificate = certificate.map_err(std::io::Error::other)?;
        Ok(Greeted { stream, protocol, certificate })
    }

    /// Reads the files again whenever they change or somebody asks; never returns.
    pub(super) async fn watch(self: Arc<Self>) {
        let mut refused = Vec::new();
        loop {
            let is_asked = tokio::select! {
                () = tokio::time::sleep(LOOK) => false,
                () = self.broker.certificates().asked() => true,
            };
            let tls = Arc::clone(&self);
            let known = std::mem::take(&mut refused);
            let look = tokio::task::spawn_blocking(move || tls.look(is_asked, known));
            refused = look.await.unwrap_or_default();
        }
    }

    /// Gives the stamps of files that were refused, so that each version is complained of once.
    fn look(&self, is_asked: bool, refused: Vec<Stamp>) -> Vec<Stamp> {
        let now = stamps(&self.config);
        if !is_asked && (now == self.loaded.read().stamps || now == refused) {
            return refused;
        }
        match load(&self.config) {
            Ok((loaded, expires)) => {
                *self.loaded.write() = loaded;
                self.broker.certificates().shows(self.file(), expires);
                tracing::info!(file = self.file(), "new connections are shown the new certificate");
                Vec::new()
            }
            Err(error) => {
                tracing::error!(%error, "the certificate in use stays");
                self.broker.certificates().keeps(error.to_string());
                now
            }
        }
    }

    fn file(&self) -> String {
        self.config.certificate.as_deref().unwrap_or(Path::new("")).display().to_string()
    }
}

/// A client after the handshake.
pub(super) struct Greeted<Io> {
    /// What is encrypted from now on.
    pub(super) stream: TlsStream<Io>,
    /// What client and server agreed to speak.
    pub(super) protocol: Option<Protocol>,
    /// The names in the verified certificate of the client.
    pub(super) certificate: Option<PeerCertificate>,
}

/// The cryptography of every connection: `ring`, because a C compiler is all it needs to build.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn stamps(config: &TlsConfig) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| match std::fs::metadata(path) {
        Ok(found) => Stamp { modified: found.modified().ok(), length: found.len() },
        Err(_) => Stamp { modified: None, length: 0 },
    };
    [&config.certificate, &config.key, &config.client_ca].into_iter().flatten().map(stamp).collect()
}

fn load(config: &TlsConfig) -> Result<(Loaded, SystemTime)> {
    // Before the files are read, so that one written meanwhile is noticed as changed.
    let stamps = stamps(config);
    let (Some(certificate), Some(key)) = (&config.certificate, &config.key) else {
        return Err(Error::new(
            Reason::CertificateUnusable,
            "TLS needs both tls.certificate and tls.key; `meshlog tls init` makes some for a lab",
        ));
    };
    let chain = read_certificates(certificate)?;
    let mut expires = expiry_of(&chain[0], certificate)?;
    for one in &chain[1..] {
        expires = expires.min(expiry_of(one, certificate)?);
    }
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| unusable(key, fault_of(error, "private key")))?;
    let wrong = |error: rustls::Error| unusable(certificate, error);
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(wrong)?;
    let server = match &config.client_ca {
        None if config.require_client_certificate => {
            return Err(Error::new(
                Reason::CertificateUnusable,
                "tls.require_client_certificate needs tls.client_ca: the file with the authority \
                 whose certificates are accepted",
            ));
        }
        None => server.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for root in read_certificates(file)? {
                roots.add(root).map_err(|error| unusable(file, error))?;
            }
            let roots = Arc::new(roots);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
            let verifier = match config.require_client_certificate {
                true => verifier,
                false => verifier.allow_unauthenticated(),
            };
            server.with_client_cert_verifier(verifier.build().map_err(|why| unusable(file, why))?)
        }
    };
    let mut server = server.with_single_cert(chain, private).map_err(wrong)?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    warn_if_open_to_all(key);
    Ok((Loaded { server: Arc::new(server), stamps }, expires))
}

/// Whoever can read the key can be the broker.
fn warn_if_open_to_all(key: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let is_open = |found: std::fs::Metadata| found.permissions().mode() & 0o007 != 0;
        if std::fs::metadata(key).is_ok_and(is_open) {
            let file = key.display();
            tracing::warn!(%file, "every user of this machine can read the key; `chmod 600` it");
        }
    }
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let unreadable = |error| unusable(file, fault_of(error, "certificate"));
    let all = CertificateDer::pem_file_iter(file).map_err(unreadable)?;
    let all: Vec<_> = all.collect::<Result<_, _>>().map_err(unreadable)?;
    match all.is_empty() {
        true => Err(unusable(file, "it holds no certificate")),
        false => Ok(all),
    }
}

fn expiry_of(certificate: &CertificateDer<'_>, file: &Path) -> Result<SystemTime> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| unusable(file, error))?;
    let seconds = parsed.validity().not_after.timestamp().try_into().unwrap_or_default();
    Ok(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// The names of a certificate that was verified.
fn names_in(certificate: &CertificateDer<'_>) -> Result<PeerCertificate, String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let names = parsed.subject_alternative_name().map_err(|error| error.to_string())?;
    let mut found = PeerCertificate::default();
    for name in names.map(|names| &names.value.general_names).into_iter().flatten() {
        match name {
            GeneralName::DNSName(name) => found.dns.push((*name).to_owned()),
            GeneralName::URI(name) => found.uris.push((*name).to_owned()),
            _ => {}
        }
    }
    Ok(found)
}

/// What is wrong with a file, and nothing of what is in it: that may be a private key, also where a
/// certificate should be.
fn fault_of(error: pem::Error, expected: &str) -> String {
    match error {
        pem::Error::Io(error) => format!("it cannot be read: {error}"),
        pem::Error::NoItemsFound => format!("it holds no {expected}"),
        pem::Error::SectionTooLarge => "it is too large".to_owned(),
        _ => format!(
            "it is not PEM; a {expected} begins and ends with a line of its own, with base64 between"
        ),
    }
}

fn unusable(file: &Path, why: impl std::fmt::Display) -> Error {
    let message = format!("{} cannot be used for TLS: {why}", file.display());
    Error::new(Reason::CertificateUnusable, message).with("file", file.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The library repeats what it could not read, and a key on one line is such a thing.
    #[test]
    fn what_is_wrong_with_a_key_is_told_without_the_key() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key.pem");
        let config = TlsConfig {
            certificate: Some(file.clone()),
            key: Some(file.clone()),
            ..TlsConfig::default()
        };
        for text in [
            "-----BEGIN PRIVATE KEY----- U0VDUkVU -----END PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY U0VDUkVU",
            "-----BEGIN PRIVATE KEY-----\nU0VDUkVU\n",
            "-----BEGIN PRIVATE KEY-----\nU0VDUkVU!\n-----END PRIVATE KEY-----\n",
            "U0VDUkVU",
        ] {
            std::fs::write(&file, text).unwrap();
            let bytes = format!("{:?}", "U0VDUkVU".as_bytes());
            let bytes = bytes.trim_matches(['[', ']']);
            let as_key = PrivateKeyDer::from_pem_file(&file).unwrap_err();
            let as_key = unusable(&file, fault_of(as_key, "private key"));
            let Err(as_certificate) = load(&config) else { panic!("{text} was taken") };
            for error in [as_key, as_certificate] {
                let shown = format!("{error} {error:?}");
                assert!(shown.contains("key.pem"), "{shown}");
                assert!(!shown.contains("U0VDUkVU") && !shown.contains(bytes), "{shown}");
            }
        }
    }
}
