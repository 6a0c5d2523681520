//! Settings of a broker. Each has a default that suits one machine; files, environment and flags
//! are joined by whoever starts the broker.

pub mod reference;
mod size;
mod span;

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
    /// Time for the HTTP/2 preface and the first request of a connection. Default 10 s.
    pub first_request_timeout: Span,
    /// Calls at a time on one connection. Default 1,024.
    pub max_concurrent_streams: u32,
    /// Bytes a client may send on one call before they are read. Default 4 MiB.
    pub stream_window: ByteSize,
    /// Bytes a client may send on one connection before they are read. Default 16 MiB.
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
}

impl Default for EdgeConfig {
    fn default() -> Self {
        Self {
            max_connections: 1_000,
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
        }
    }
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
