//! A broker in a process of its own, on a fresh data directory.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::workshop::Workshop;

pub(crate) struct Broker {
    process: Child,
    address: String,
    /// Holds the data and the log; removed with the broker.
    _home: TempDir,
}

impl Broker {
    pub(crate) fn start(workshop: &Workshop) -> Result<Self, String> {
        let home =
            tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
        let log = File::create(home.path().join("log")).map_err(|error| error.to_string())?;
        let mut process = Command::new(workshop.binary())
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(home.path().join("data"))
            .env("HOME", home.path())
            .env_remove("XDG_CONFIG_HOME")
            .env("MESHLOG_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{} cannot be run: {error}", workshop.binary().display()))?;
        let mut line = String::new();
        if let Some(stdout) = process.stdout.take() {
            // Ends at the latest when the broker does.
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        let address = line.trim().strip_prefix("listening on ").unwrap_or_default().to_owned();
        let broker = Self { process, address, _home: home };
        match broker.address.is_empty() {
            true => Err(format!("the broker said {line:?} instead of where it listens")),
            false => Ok(broker),
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
