//! The binary as a process: how soon it serves, and how much memory it takes doing nothing.

use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A started binary. Killed when dropped.
#[derive(Debug)]
pub struct Started {
    child: Child,
    /// From starting the process to its first line, `listening on …`.
    pub until_ready: Duration,
}

/// Starts `meshlog serve` on a directory and a free port.
///
/// # Errors
/// When the binary cannot be started or ends before it listens.
pub fn start_binary(binary: &Path, directory: &Path) -> io::Result<Started> {
    let began = Instant::now();
    let mut child = Command::new(binary)
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let until_ready = began.elapsed();
    let started = Started { child, until_ready };
    if line.starts_with("listening on ") {
        Ok(started)
    } else {
        Err(io::Error::other("the binary ended before it listened"))
    }
}

impl Started {
    /// Resident memory now, in MB (10⁶ bytes).
    ///
    /// # Errors
    /// When the process is gone.
    pub fn resident_megabytes(&self) -> io::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kilobytes = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok())
            .ok_or(io::ErrorKind::InvalidData)?;
        Ok(kilobytes * 1024.0 / 1e6)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
