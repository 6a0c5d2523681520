//! What this machine can do: the disk without a log, the wire without a broker.

use std::path::{Path, PathBuf};
#[cfg(target_os = "linux")]
use std::time::Duration;

use serde::Serialize;

use super::plan::Plan;
use crate::exit::{Exit, Failure, Result};

/// Time for each of them.
#[cfg(target_os = "linux")]
const EACH: Duration = Duration::from_millis(500);

/// The limits, measured just after the run.
#[derive(Serialize)]
pub(super) struct Machine {
    /// Where the disk was measured.
    directory: PathBuf,
    /// D: bytes a second in synced writes of 8 MiB.
    d_bytes_per_second: f64,
    /// F: synced writes of 4 KiB a second.
    f_writes_per_second: f64,
    /// Bytes of a message behind G: those of one append.
    g_message_bytes: usize,
    /// G in: bytes a second into a bare gRPC server.
    g_in_bytes_per_second: f64,
    /// G out: bytes a second out of it.
    g_out_bytes_per_second: f64,
    /// g: bare calls a second with as many in flight as the run had.
    g_calls_per_second: f64,
}

impl Machine {
    /// Measures them, the disk in this directory. Takes three seconds.
    #[cfg(target_os = "linux")]
    pub(super) async fn measure(directory: &Path, plan: &Plan) -> Result<Self> {
        let directory = directory.to_owned();
        let message = (plan.batch as usize * plan.size).clamp(1024, 4 << 20);
        let in_flight = plan.in_flight.min(1024);
        let measuring = move || -> std::io::Result<Self> {
            use meshlog_limits::{KIB, MIB, disk, wire};

            let name = format!(".meshlog-bench-{}", std::process::id());
            let d = disk::durable(&directory, &name, 8 * MIB, EACH)?;
            let f = disk::durable(&directory, &name, 4 * KIB, EACH)?;
            let bare = wire::BareWire::start(wire::WireSettings::default())?;
            Ok(Self {
                directory,
                d_bytes_per_second: d.gigabytes_per_second() * 1e9,
                f_writes_per_second: f.writes_per_second(),
                g_message_bytes: message,
                g_in_bytes_per_second: bare.stream_in(message, EACH)?.gigabytes_per_second() * 1e9,
                g_out_bytes_per_second: bare.stream_out(message, EACH)?.gigabytes_per_second()
                    * 1e9,
                g_calls_per_second: bare.unary(message, in_flight, EACH)?.calls_per_second(),
            })
        };
        let measured = tokio::task::spawn_blocking(measuring).await;
        let measured = measured.map_err(|error| Failure::new(Exit::Error, error.to_string()))?;
        measured.map_err(|error| {
            let message = format!(
                "the limits of this machine cannot be measured: {error}; name a directory on the \
                 broker's disk that takes direct writes: --limits DIR"
            );
            Failure::new(Exit::Error, message)
        })
    }

    /// Not here.
    #[cfg(not(target_os = "linux"))]
    pub(super) async fn measure(_: &Path, _: &Plan) -> Result<Self> {
        Err(Failure::new(Exit::Error, "limits are measured on Linux only; leave --limits out"))
    }

    /// What appends are held against.
    pub(super) fn beside_appends(&self, bytes_per_second: f64) -> String {
        format!(
            "{:.2} of D, {:.2} of G",
            bytes_per_second / self.d_bytes_per_second,
            bytes_per_second / self.g_in_bytes_per_second
        )
    }

    /// What single appends are held against.
    pub(super) fn beside_calls(&self, per_second: f64) -> String {
        format!(
            "{:.2} of g, {:.2} of F",
            per_second / self.g_calls_per_second,
            per_second / self.f_writes_per_second
        )
    }

    /// What reads are held against.
    pub(super) fn beside_reads(&self, bytes_per_second: f64) -> String {
        format!("{:.2} of G out", bytes_per_second / self.g_out_bytes_per_second)
    }

    /// For the table.
    pub(super) fn lines(&self) -> Vec<(&'static str, String, String)> {
        let gigabytes = |rate: f64| format!("{:.2} GB/s", rate / 1e9);
        let message = format!("messages of {} bytes", self.g_message_bytes);
        let directory = self.directory.display();
        vec![
            (
                "D",
                gigabytes(self.d_bytes_per_second),
                format!("synced writes of 8 MiB in {directory}"),
            ),
            ("F", format!("{:.0}/s", self.f_writes_per_second), "synced writes of 4 KiB".into()),
            ("G in", gigabytes(self.g_in_bytes_per_second), format!("bare gRPC stream, {message}")),
            (
                "G out",
                gigabytes(self.g_out_bytes_per_second),
                format!("bare gRPC stream, {message}"),
            ),
            (
                "g",
                format!("{:.0}/s", self.g_calls_per_second),
                format!("bare gRPC calls, {message}"),
            ),
        ]
    }
}
