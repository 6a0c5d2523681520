//! A broker in a process of its own, on a fresh data directory.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::workshop::Workshop;

/// Small files and little memory, so that little data is compacted, and told as it is then.
const CONFIG: &str = r#"
[broker.storage]
ring = "64KiB"
file_min = "64KiB"
compaction_min = "64KiB"
"#;

pub(crate) struct Broker {
    process: Child,
    address: String,
    /// Holds the data and the log; removed with the broker.
    home: TempDir,
}

impl Broker {
    pub(crate) fn start(workshop: &Workshop) -> Result<Self, String> {
        let home =
            tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
        let config = home.path().join(".config/meshlog");
        fs::create_dir_all(&config)
            .and_then(|()| fs::write(config.join("config.toml"), CONFIG))
            .map_err(|error| format!("{}: {error}", config.display()))?;
        let (process, address) = serve(workshop, home.path(), "127.0.0.1:0")?;
        Ok(Self { process, address, home })
    }

    /// Stops it as a service manager would and starts it again, on the same data and the same port.
    pub(crate) fn restart(&mut self, workshop: &Workshop) -> Result<(), String> {
        if let Some(id) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw) {
            kill_process(id, Signal::TERM).map_err(|error| error.to_string())?;
        }
        self.process.wait().map_err(|error| error.to_string())?;
        (self.process, self.address) = serve(workshop, self.home.path(), &self.address)?;
        Ok(())
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

/// Starts the binary and waits until it says where it listens.
fn serve(workshop: &Workshop, home: &Path, listen: &str) -> Result<(Child, String), String> {
    let log = File::options().create(true).append(true).open(home.join("log"));
    let mut process = Command::new(workshop.binary())
        .args(["serve", "--listen", listen, "--data-dir"])
        .arg(home.join("data"))
        .env("HOME", home)
        .env_remove("XDG_CONFIG_HOME")
        .env("MESHLOG_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log.map_err(|error| error.to_string())?)
        .spawn()
        .map_err(|error| format!("{} cannot be run: {error}", workshop.binary().display()))?;
    let mut line = String::new();
    if let Some(stdout) = process.stdout.take() {
        // Ends at the latest when the broker does.
        let _ = BufReader::new(stdout).read_line(&mut line);
    }
    match line.trim().strip_prefix("listening on ") {
        Some(address) => Ok((process, address.to_owned())),
        None => {
            let _ = process.kill();
            let _ = process.wait();
            Err(format!("the broker said {line:?} instead of where it listens"))
        }
    }
}
