//! `meshlog server`: facts about a broker.

use clap::{Args, Subcommand};
use meshlog_client::proto::GetServerInfoResponse;
use serde::Serialize;

use crate::{
    exit::Result,
    output::{Out, OutputArgs},
    settings::ServerArgs,
};

/// Facts about a broker.
#[derive(Debug, Subcommand)]
pub(crate) enum ServerCommand {
    /// Version, storage and limits
    #[command(before_help = "Examples:
  meshlog server info
  meshlog server info -o json")]
    Info(Info),
}

/// Arguments of `server info`.
#[derive(Debug, Args)]
pub(crate) struct Info {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl ServerCommand {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        let Self::Info(args) = self;
        let address = args.server.address()?;
        let info = args.server.connect().await?.catalog().server_info().await?;
        out.one(args.output.output, &View::new(address, info))
    }
}

#[derive(Serialize)]
struct View {
    address: String,
    version: String,
    api_version: String,
    products: u64,
    storage: &'static str,
    format_version: u32,
    appends: String,
    damage: Vec<String>,
    syncs: u64,
    groups: u64,
    journal_bytes: u64,
    max_request_bytes: u32,
    max_record_bytes: u32,
    max_batch_bytes: u32,
    max_batch_records: u32,
    max_headers: u32,
    max_header_name_bytes: u32,
    max_partitions: u32,
    max_schema_bytes: u32,
}

impl View {
    fn new(address: String, info: GetServerInfoResponse) -> Self {
        let limits = info.limits.unwrap_or_default();
        let storage = info.storage.unwrap_or_default();
        Self {
            address,
            version: info.version,
            api_version: info.api_version,
            products: info.products,
            storage: if storage.in_memory { "memory" } else { "disk" },
            format_version: storage.format_version,
            appends: match storage.appends_refused {
                refused if refused.is_empty() => "accepted".into(),
                refused => format!("refused: {refused}"),
            },
            damage: storage.damage,
            syncs: storage.syncs,
            groups: storage.groups,
            journal_bytes: storage.bytes,
            max_request_bytes: limits.max_request_bytes,
            max_record_bytes: limits.max_record_bytes,
            max_batch_bytes: limits.max_batch_bytes,
            max_batch_records: limits.max_batch_records,
            max_headers: limits.max_headers,
            max_header_name_bytes: limits.max_header_name_bytes,
            max_partitions: limits.max_partitions,
            max_schema_bytes: limits.max_schema_bytes,
        }
    }
}
