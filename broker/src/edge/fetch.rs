//! Reads a small document from a server that the settings name: over https, bounded in bytes and in
//! time, and without following it anywhere else.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::header::{ACCEPT, HOST};
use http::{Request, StatusCode, Uri};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

/// Time for a document, from the first byte of the connection to the last of the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads documents.
pub(super) struct Fetcher {
    tls: TlsConnector,
}

impl Fetcher {
    /// One that trusts the authorities of a file, or those that the machine trusts.
    ///
    /// # Errors
    /// The file cannot be used, or the machine trusts nobody.
    pub(super) fn new(ca: Option<&Path>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        match ca {
            Some(file) => {
                let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
                let all = CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))?;
                for one in all {
                    let one = one.map_err(|error| wrong(&error))?;
                    roots.add(one).map_err(|error| wrong(&error))?;
                }
            }
            // Some of what a machine has may be too old to be read; the rest will do.
            None => drop(
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
            ),
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }

    /// The document at an address.
    ///
    /// # Errors
    /// Why there is none, as a sentence with the address in it.
    pub(super) async fn get(&self, uri: &str, most: usize) -> Result<Bytes, String> {
        let got = tokio::time::timeout(PATIENCE, self.ask(uri, most)).await;
        let got = got.unwrap_or_else(|_| Err(format!("no answer in {} s", PATIENCE.as_secs())));
        got.map_err(|why| format!("{uri}: {why}"))
    }

    async fn ask(&self, uri: &str, most: usize) -> Result<Bytes, String> {
        let uri: Uri = uri.parse().map_err(|error| format!("it is no address: {error}"))?;
        let authority = uri.authority().ok_or("it names no host")?.clone();
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let is_encrypted = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if is_here(&host) => false,
            _ => {
                let what = "it must begin with https://; anybody on the way could otherwise put in \
                            keys of its own";
                return Err(what.to_owned());
            }
        };
        let port = authority.port_u16().unwrap_or(if is_encrypted { 443 } else { 80 });
        let stream = TcpStream::connect((&*host, port)).await.map_err(|error| error.to_string())?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::get(path)
            .header(HOST, authority.as_str())
            .header(ACCEPT, "application/json")
            .body(Body::empty())
            .map_err(|error| error.to_string())?;
        match is_encrypted {
            false => send(stream, request, most).await,
            true => {
                let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
                let stream = self.tls.connect(name, stream).await;
                send(stream.map_err(|error| error.to_string())?, request, most).await
            }
        }
    }
}

async fn send<Io>(io: Io, request: Request<Body>, most: usize) -> Result<Bytes, String>
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let said = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(said)?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let response = sender.send_request(request).await.map_err(said)?;
    if response.status() != StatusCode::OK {
        return Err(format!("the answer is {}", response.status()));
    }
    let body = to_bytes(Body::new(response.into_body()), most).await;
    body.map_err(|_| format!("the answer is damaged, or longer than {most} bytes"))
}

/// Whether a host is this machine, so that nobody is on the way.
fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback())
}
