//! `meshlog server`: facts about a broker.

use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;
use jiff::Timestamp;
use meshlog_client::proto::{DiskSpace, GetServerInfoResponse};
use serde::Serialize;

use crate::{
    completion,
    exit::{Exit, Failure, Result},
    output::{Out, OutputArgs},
    product::tell_erased,
    settings::ServerArgs,
    words,
};

/// Facts about a broker.
#[derive(Debug, Subcommand)]
pub(crate) enum ServerCommand {
    /// Version, storage and limits
    #[command(before_help = "Examples:
  meshlog server info
  meshlog server info -o json")]
    Info(Info),
    /// Ask whether the broker takes work: ends with 0 if it does, else with 6
    #[command(before_help = "Example:
  meshlog server health --server 127.0.0.1:7420")]
    Health(Health),
    /// Erase from the disk what was deleted, trimmed away or given up, and wait until it is done
    ///
    /// Also without this the bytes go in time; this is for those who must know that they are gone.
    #[command(before_help = "Examples:
  meshlog server erase
  meshlog server erase --product ops.flights")]
    Erase(Erase),
}

/// Arguments of `server erase`.
#[derive(Debug, Args)]
pub(crate) struct Erase {
    /// Only what this product gave up
    #[arg(long, value_name = "PRODUCT", add = ArgValueCompleter::new(completion::products))]
    product: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Arguments of `server health`.
#[derive(Debug, Args)]
pub(crate) struct Health {
    #[command(flatten)]
    server: ServerArgs,
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
        let args = match self {
            Self::Info(args) => args,
            Self::Health(args) => {
                return match args.server.connect().await?.catalog().is_serving().await? {
                    true => out.line("serving"),
                    false => Err(Failure::new(
                        Exit::Unavailable,
                        "the broker is ending and takes no new work; ask again when it is back",
                    )),
                };
            }
            Self::Erase(args) => {
                let catalog = args.server.connect().await?.catalog();
                let product = args.product.unwrap_or_default();
                tell_erased(Some(catalog.erase_deleted_records(product).await?), out);
                return Ok(());
            }
        };
        let address = args.server.address()?;
        let info = args.server.connect().await?.catalog().server_info().await?;
        out.one(args.output.output, &View::new(address, info))
    }
}

/// Room on the disk.
#[derive(Serialize)]
struct Space {
    disk_bytes: u64,
    free_bytes: u64,
    fill_bytes_per_second: u64,
    disk_full: Option<Timestamp>,
}

impl From<DiskSpace> for Space {
    fn from(space: DiskSpace) -> Self {
        Self {
            disk_bytes: space.total_bytes,
            free_bytes: space.free_bytes,
            fill_bytes_per_second: space.fill_rate,
            disk_full: words::time(space.full_time),
        }
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
    notes: Vec<String>,
    #[serde(flatten)]
    space: Option<Space>,
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
            notes: storage.notes,
            space: storage.space.map(Space::from),
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
