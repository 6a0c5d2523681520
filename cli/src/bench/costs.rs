//! What a run costs: CPU of both sides, memory of the broker, syncs.

use std::time::Duration;

use meshlog_client::Catalog;
use serde::Serialize;

use super::process::Process;
use crate::{exit::Result, words};

/// One side's CPU.
#[derive(Serialize)]
struct Cpu {
    seconds: f64,
    seconds_per_gigabyte: f64,
    seconds_per_million_records: f64,
}

/// What a run cost.
#[derive(Serialize)]
pub(super) struct Costs {
    client_cpu: Option<Cpu>,
    /// Absent if the broker's process is not known; `server_unknown` says why.
    server_cpu: Option<Cpu>,
    server_unknown: Option<String>,
    server_memory_bytes_before: Option<u64>,
    server_memory_bytes_after: Option<u64>,
    syncs: u64,
    syncs_per_1000_appends: Option<f64>,
}

/// The counters before a run.
pub(super) struct Counters {
    client: Option<Duration>,
    server: Option<Duration>,
    memory: Option<u64>,
    syncs: u64,
}

impl Counters {
    /// Reads them. The broker counts its own calls among the syncs of others.
    pub(super) async fn read(catalog: &Catalog, server: &Result<Process, String>) -> Result<Self> {
        let syncs = catalog.server_info().await?.storage.unwrap_or_default().syncs;
        let server = server.as_ref().ok();
        Ok(Self {
            client: Process::this().cpu(),
            server: server.and_then(Process::cpu),
            memory: server.and_then(Process::resident),
            syncs,
        })
    }

    /// What was used since then, for so many bytes, records and appends.
    pub(super) async fn costs(
        self,
        catalog: &Catalog,
        server: &Result<Process, String>,
        bytes: u64,
        records: u64,
        appends: u64,
    ) -> Result<Costs> {
        let now = Self::read(catalog, server).await?;
        let cpu = |before: Option<Duration>, after: Option<Duration>| {
            let seconds = after?.saturating_sub(before?).as_secs_f64();
            Some(Cpu {
                seconds,
                seconds_per_gigabyte: seconds / (bytes.max(1) as f64 / 1e9),
                seconds_per_million_records: seconds / (records.max(1) as f64 / 1e6),
            })
        };
        let syncs = now.syncs.saturating_sub(self.syncs);
        Ok(Costs {
            client_cpu: cpu(self.client, now.client),
            server_cpu: cpu(self.server, now.server),
            server_unknown: server.as_ref().err().cloned(),
            server_memory_bytes_before: self.memory,
            server_memory_bytes_after: now.memory,
            syncs,
            syncs_per_1000_appends: (appends > 0).then(|| syncs as f64 * 1e3 / appends as f64),
        })
    }
}

impl Costs {
    /// For the table.
    pub(super) fn lines(&self) -> Vec<(&'static str, String, String)> {
        let mut lines = Vec::new();
        let cpu = |cpu: &Cpu| {
            let (gigabyte, million) = (cpu.seconds_per_gigabyte, cpu.seconds_per_million_records);
            format!("{gigabyte:.2} CPU s/GB, {million:.2} CPU s per million records")
        };
        if let Some(client) = &self.client_cpu {
            lines.push(("client", cpu(client), String::new()));
        }
        match (&self.server_cpu, &self.server_unknown) {
            (Some(server), _) => {
                let memory = [self.server_memory_bytes_before, self.server_memory_bytes_after];
                let memory = memory.map(|bytes| bytes.unwrap_or(0) as f64 / 1e6);
                let memory =
                    format!("{:.0} MB of memory before, {:.0} after", memory[0], memory[1]);
                lines.push(("server", cpu(server), memory));
            }
            (None, Some(why)) => lines.push(("server", "unknown".into(), why.clone())),
            (None, None) => {}
        }
        if let Some(syncs) = self.syncs_per_1000_appends {
            let beside = format!("{} in all", words::counted(self.syncs, "sync"));
            lines.push(("syncs", format!("{syncs:.0} per 1,000 appends"), beside));
        }
        lines
    }
}
