//! Settings of a broker. Each has a default that suits one machine; files, environment and flags
//! are joined by whoever starts the broker.

pub mod reference;
mod size;
mod span;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use size::ByteSize;
pub use span::Span;

/// Everything that can be set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the records are kept. Absent: in memory, gone with the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Memory and disk of the log engine.
    pub storage: StorageConfig,
    /// Room for appends.
    pub appends: AppendConfig,
    /// Connections.
    pub edge: EdgeConfig,
    /// Who callers are, beside keys.
    pub identity: IdentityConfig,
    /// What they may do, beside what the catalogue says.
    pub access: AccessConfig,
    /// HTTP with JSON, and browsers.
    pub http: HttpConfig,
    /// Encrypted connections. With a certificate and its key the port takes nothing else.
    pub tls: TlsConfig,
    /// What one principal, or one team, may use. Zero is no limit.
    pub quotas: QuotaConfig,
    /// Who writes and who reads what.
    pub lineage: LineageConfig,
    /// What is told to those who watch the broker.
    pub metrics: MetricsConfig,
}

impl Config {
    /// The defaults, in this directory.
    pub fn at(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: Some(data_dir.into()), ..Self::default() }
    }
}

/// Memory and disk of the log engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    /// Bytes of appends between admission and acknowledgement. Default 48 MiB.
    pub in_flight: ByteSize,
    /// Bytes written and synced together at most. Default 8 MiB.
    pub group: ByteSize,
    /// Recently written bytes kept in memory for readers. Default 64 MiB.
    pub ring: ByteSize,
    /// Pieces of files kept in memory for readers. Default 16 MiB.
    pub chunk_cache: ByteSize,
    /// Indexes of files kept in memory. Default 32 MiB.
    pub index: ByteSize,
    /// Size of the first journal file; later ones double with load. Default 4 MiB.
    pub file_min: ByteSize,
    /// Largest journal file. Default 128 MiB.
    pub file_max: ByteSize,
    /// A partition is compacted when this much of it was not, and half as much as the rest.
    /// Default 4 MiB.
    pub compaction_min: ByteSize,
    /// Bytes a second that merging and compaction read and write; a quarter of it while appends are
    /// busy, and more, without a limit in the end, as what waits for them grows. 0 switches both
    /// off. Default 64 MiB.
    pub merge_rate: ByteSize,
    /// Bytes a second that all backups together read at most. 0: as many as they can. Default
    /// 128 MiB.
    pub backup_rate: ByteSize,
}

impl Default for StorageConfig {
    fn default() -> Self {
        let options = meshlog_storage::Options::default();
        Self {
            in_flight: ByteSize(options.in_flight_bytes as u64),
            group: ByteSize(options.group_bytes as u64),
            ring: ByteSize(options.ring_bytes as u64),
            chunk_cache: ByteSize(options.chunk_cache_bytes as u64),
            index: ByteSize(options.index_bytes as u64),
            file_min: ByteSize(options.file_bytes_min),
            file_max: ByteSize(options.file_bytes_max),
            compaction_min: ByteSize(options.compaction_bytes_min),
            merge_rate: ByteSize(options.merge_bytes_per_second),
            backup_rate: ByteSize(128 << 20),
        }
    }
}

impl StorageConfig {
    #[expect(
        clippy::field_reassign_with_default,
        reason = "the engine may have further options, which keep their defaults"
    )]
    pub(crate) fn options(&self, directory: PathBuf) -> meshlog_storage::Options {
        let mut options = meshlog_storage::Options::default();
        options.directory = directory;
        options.in_flight_bytes = self.in_flight.as_usize();
        options.group_bytes = self.group.as_usize();
        options.ring_bytes = self.ring.as_usize();
        options.chunk_cache_bytes = self.chunk_cache.as_usize();
        options.index_bytes = self.index.as_usize();
        options.file_bytes_min = self.file_min.0;
        options.file_bytes_max = self.file_max.0;
        options.compaction_bytes_min = self.compaction_min.0;
        options.merge_bytes_per_second = self.merge_rate.0;
        options
    }
}

/// Room for appends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AppendConfig {
    /// How long an append waits for room before it is answered OVERLOADED. Default 5 s.
    pub admission_wait: Span,
    /// Bytes of appends that may wait for room; beyond, they are answered OVERLOADED at once.
    /// Default 64 MiB.
    pub waiting: ByteSize,
}

impl Default for AppendConfig {
    fn default() -> Self {
        Self { admission_wait: Span::seconds(5), waiting: ByteSize::mib(64) }
    }
}

/// Who writes and who reads what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LineageConfig {
    /// New traffic is written to disk, and looked at for copies, after this long; a crash loses so
    /// much of the counts. Default 1 m.
    pub interval: Span,
}

impl Default for LineageConfig {
    fn default() -> Self {
        Self { interval: Span::seconds(60) }
    }
}

/// What is told to those who watch the broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Serve `/metrics/products` too: figures of each product and of each cursor. Default false.
    pub per_product: bool,
    /// Products on that page, by name, and as many cursors; the rest is counted in
    /// `meshlog_products_left_out`. Default 1,000.
    pub max_products: u32,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { per_product: false, max_products: 1_000 }
    }
}

/// Connections and HTTP/2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EdgeConfig {
    /// Connections at a time; further ones are closed at once. Default 1,000.
    pub max_connections: u32,
    /// Connections of one address at a time; further ones are closed at once. Default 500.
    pub max_connections_per_address: u32,
    /// Calls at a time on all connections; further ones are answered OVERLOADED. Default 10,000.
    pub max_calls: u32,
    /// Memory for connections, for requests that are not admitted yet and for answers that are not
    /// read yet; beyond, connections are closed at once, requests are answered OVERLOADED and clients
    /// that do not read are cut off. Zero is a quarter of the memory of the machine, or of the
    /// container. Default 0 B.
    pub memory: ByteSize,
    /// Time that a request, or one message of a stream, has to arrive. Default 1m.
    pub request_timeout: Span,
    /// When memory is short, a client that has not read for so long is cut off. Default 10 s.
    pub stalled_reader_timeout: Span,
    /// A connection without calls is closed after this time. Zero is never. Default 5m.
    pub idle_timeout: Span,
    /// A connection takes no new calls after this time, and ends when those it has are over. Zero is
    /// never. Default 1h.
    pub max_connection_age: Span,
    /// Time for the first request of a connection and, in HTTP/1.1, from one answer to the next
    /// request. Default 10 s.
    pub first_request_timeout: Span,
    /// Calls at a time on one connection. Default 1,024.
    pub max_concurrent_streams: u32,
    /// Bytes a client may send on one call before they are read, as far as memory allows it. Default
    /// 4 MiB.
    pub stream_window: ByteSize,
    /// Bytes a client may send on one connection before they are read, as far as memory allows it.
    /// Default 16 MiB.
    pub connection_window: ByteSize,
    /// Largest HTTP/2 frame accepted. Default 256 KiB.
    pub max_frame: ByteSize,
    /// Bytes of an answer kept for a client that does not read, per call. Default 512 KiB.
    pub send_buffer: ByteSize,
    /// Bytes of the headers of one call. Default 16 KiB.
    pub max_headers: ByteSize,
    /// A silent connection is asked for a sign of life this often. Default 20 s.
    pub keepalive_interval: Span,
    /// A connection that gives no sign of life for this long is closed. Default 10 s.
    pub keepalive_timeout: Span,
    /// After this long a shutdown no longer waits for calls under way. Default 10 s.
    pub drain_deadline: Span,
    /// Serve an address that other machines can reach although connections are not encrypted or
    /// nobody proves who they are. For a lab; the broker warns of it every minute. Default false.
    pub insecure_allow_remote: bool,
}

impl Default for EdgeConfig {
    fn default() -> Self {
        Self {
            max_connections: 1_000,
            max_connections_per_address: 500,
            max_calls: 10_000,
            memory: ByteSize(0),
            request_timeout: Span::seconds(60),
            stalled_reader_timeout: Span::seconds(10),
            idle_timeout: Span::seconds(300),
            max_connection_age: Span::seconds(3_600),
            first_request_timeout: Span::seconds(10),
            max_concurrent_streams: 1_024,
            stream_window: ByteSize::mib(4),
            connection_window: ByteSize::mib(16),
            max_frame: ByteSize(256 << 10),
            send_buffer: ByteSize(512 << 10),
            max_headers: ByteSize(16 << 10),
            keepalive_interval: Span::seconds(20),
            keepalive_timeout: Span::seconds(10),
            drain_deadline: Span::seconds(10),
            insecure_allow_remote: false,
        }
    }
}

/// Who callers are, beside those with a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IdentityConfig {
    /// Clients by a name in their certificate: `dns:NAME` or `uri:URI`, exactly as it stands there.
    pub certificates: BTreeMap<String, MemberConfig>,
    /// Tokens of an issuer of OpenID Connect, instead of keys.
    pub tokens: TokenConfig,
}

/// Tokens (JWT) of an issuer of OpenID Connect, instead of keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TokenConfig {
    /// Who issues them: `iss`, exactly as in the tokens. Empty: no tokens are taken.
    pub issuer: String,
    /// For whom they must be: one value of `aud`. Must be set with an issuer.
    pub audience: String,
    /// How they may be signed: EdDSA, ES256, ES384, RS256, RS384, RS512, PS256, PS384, PS512. Empty: in
    /// each of these ways. Default [].
    pub algorithms: Vec<String>,
    /// Where the issuer publishes its keys (JWKS). Over https, or on this machine. Empty: as
    /// `ISSUER/.well-known/openid-configuration` says.
    pub keys_uri: String,
    /// A file with the keys instead; read again when it changes.
    pub keys_file: Option<PathBuf>,
    /// PEM file with the authorities that the issuer's certificate is of. Absent: those that the
    /// machine trusts.
    pub ca: Option<PathBuf>,
    /// The keys are read again this often. Default 10m.
    pub refresh: Span,
    /// A token with an unknown key makes them be read again, but not more often than this. Default 5s.
    pub min_refresh: Span,
    /// When they cannot be read, those read last stay in use for so long. Default 1d.
    pub keep_keys: Span,
    /// By how much the clocks of issuer and broker may differ; at most 5 m. Default 30s.
    pub leeway: Span,
    /// The claim that names the team. `a.b` leads to `b` inside of `a`. Default team.
    pub team_claim: String,
    /// The claim that names the program. If a token has none, the call names it. Default azp.
    pub application_claim: String,
    /// The claim that lists roles: admin, steward, owner, producer, consumer. With it, tokens without a
    /// role are refused. Empty: no token has a role.
    pub role_claim: String,
    /// The claim whose values name `members`. Default groups.
    pub member_claim: String,
    /// Callers by a value of `member_claim`, for instance a group of the issuer. They come before the
    /// other claims; of several, the first by name.
    pub members: BTreeMap<String, MemberConfig>,
}

impl Default for TokenConfig {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audience: String::new(),
            algorithms: Vec::new(),
            keys_uri: String::new(),
            keys_file: None,
            ca: None,
            refresh: Span::seconds(600),
            min_refresh: Span::seconds(5),
            keep_keys: Span::seconds(24 * 3_600),
            leeway: Span::seconds(30),
            team_claim: "team".to_owned(),
            application_claim: "azp".to_owned(),
            role_claim: String::new(),
            member_claim: "groups".to_owned(),
            members: BTreeMap::new(),
        }
    }
}

/// For whom a caller works.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MemberConfig {
    /// Its team. Empty: none, which only an administrator can do without.
    pub team: String,
    /// The program. Empty: the one that the call names.
    pub application: String,
    /// `admin` and `steward` give that role on everything; `owner`, `producer` and `consumer` limit
    /// what the rights of the team are used for. Empty: all that the team may.
    pub role: String,
}

/// What callers may do, beside what the catalogue says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccessConfig {
    /// Policies in the language Cedar: a file, or a directory whose files `*.cedar` are read, and read
    /// again when they change. They take away from what the catalogue allows. Needs a build with the
    /// feature `cedar`.
    pub policies: Option<PathBuf>,
}

/// HTTP with JSON, and browsers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Origins whose pages may use the broker from a browser, for instance
    /// `https://portal.example`. None of another site may otherwise. Default [].
    pub allowed_origins: Vec<String>,
    /// Names under which the broker is reached, beside localhost and IP addresses. A call over HTTP
    /// to any other name is refused. Default [].
    pub allowed_hosts: Vec<String>,
    /// A tail of records whose client takes nothing for this long is cut off. Default 30 s.
    pub tail_deadline: Span,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            allowed_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            tail_deadline: Span::seconds(30),
        }
    }
}

/// Encrypted connections. With a certificate and its key the port takes nothing else. The files
/// are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file with the certificate of the broker and those between it and the authority.
    pub certificate: Option<PathBuf>,
    /// PEM file with the private key of the certificate.
    pub key: Option<PathBuf>,
    /// PEM file with the authorities whose certificates clients may show.
    pub client_ca: Option<PathBuf>,
    /// Whether a client without a certificate is refused. Default false.
    pub require_client_certificate: bool,
    /// Time for the TLS handshake of a connection. Default 10 s.
    pub handshake_timeout: Span,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            certificate: None,
            key: None,
            client_ca: None,
            require_client_certificate: false,
            handshake_timeout: Span::seconds(10),
        }
    }
}

/// What one principal, or one team, may use. Zero is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QuotaConfig {
    /// Calls a second, with bursts of ten seconds' worth. Default 0.
    pub requests_per_second: u32,
    /// Bytes of requests a second, with bursts of ten seconds' worth. Default 0 B.
    pub bytes_per_second: ByteSize,
    /// Connections at a time. Default 0.
    pub connections: u32,
    /// Bytes that the products of one team may store; beyond, appends to them are answered
    /// LIMIT_REACHED. Default 0 B.
    pub stored_bytes_per_team: ByteSize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_written_as_people_write_them() {
        let json = r#"{"data_dir": "/tmp/x", "storage": {"ring": "16MiB"},
            "edge": {"first_request_timeout": "1m 30s", "max_frame": 65536}}"#;
        let config: Config = serde_json::from_str(json).unwrap();
        assert_eq!(config.storage.ring, ByteSize::mib(16));
        assert_eq!(config.storage.group, StorageConfig::default().group);
        assert_eq!(config.edge.first_request_timeout, Span::seconds(90));
        assert_eq!(config.edge.max_frame, ByteSize(65_536));
        let written = serde_json::to_string(&config).unwrap();
        assert!(written.contains(r#""ring":"16MiB""#), "{written}");
        assert_eq!(serde_json::from_str::<Config>(&written).unwrap(), config);
    }

    #[test]
    fn an_unknown_setting_is_refused_by_name() {
        let error = serde_json::from_str::<Config>(r#"{"storage": {"rings": 1}}"#).unwrap_err();
        assert!(error.to_string().contains("rings"), "{error}");
    }
}
