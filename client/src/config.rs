//! What a client may be told: who it is and how long it waits.

use std::path::PathBuf;
use std::time::Duration;

use crate::Key;

/// Settings of a [`Client`](crate::Client).
///
/// ```
/// use meshlog_client::ClientConfig;
///
/// let config = ClientConfig { application: "flight-loader".into(), ..ClientConfig::default() };
/// ```
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The name of this program, sent with every call and stored with every batch: the base of
    /// lineage. Printable ASCII. Default: the file name of the running program.
    pub application: String,
    /// How long opening one connection may take. Default: 5 s.
    pub connect_timeout: Duration,
    /// How long one call may take, beside the time it was asked to wait for records. Producers and
    /// consumers have their own limits. Default: 30 s.
    pub call_timeout: Duration,
    /// Flow-control window of one stream, in bytes. Default: 4 MiB.
    pub stream_window: u32,
    /// Flow-control window of one connection, in bytes. Default: 16 MiB.
    pub connection_window: u32,
    /// How to encrypt connections. `None` takes an address without a scheme, and one with
    /// `http://`, unencrypted, and trusts the authorities of this machine for `https://`.
    pub tls: Option<TlsConfig>,
    /// What says who calls, sent with every call: a key of the broker, or a token of its issuer.
    /// `None`: nothing is said, which a broker that has keys refuses.
    pub key: Option<Key>,
    /// Send the key also over connections to other machines that are not encrypted, where everybody on
    /// the way can read it. Default: no, which makes connecting fail.
    pub allow_unencrypted_key: bool,
}

/// How connections to `https://` addresses are made. The files are read when a [`Client`](crate::Client)
/// is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// PEM file with the authorities that may vouch for the broker. Default: those that this
    /// machine trusts.
    pub ca: Option<PathBuf>,
    /// PEM file with the certificate that says who this program is, for brokers that ask for one.
    pub certificate: Option<PathBuf>,
    /// PEM file with the private key of the certificate.
    pub key: Option<PathBuf>,
    /// The name that the certificate of the broker must have. Default: the host of the address.
    pub server_name: Option<String>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            application: program_name(),
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(30),
            stream_window: 4 << 20,
            connection_window: 16 << 20,
            tls: None,
            key: None,
            allow_unencrypted_key: false,
        }
    }
}

fn program_name() -> String {
    let name = std::env::current_exe().ok().and_then(|path| {
        path.file_stem()
            .and_then(|stem| stem.to_str())
            .map(|stem| stem.chars().filter(|c| c.is_ascii_graphic()).collect::<String>())
    });
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "unnamed".into())
}
