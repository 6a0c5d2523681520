//! The broker's process, if it is one of this machine.

use std::{fs, io, net::IpAddr, time::Duration};

/// What Linux tells times of processes in, whatever the machine.
const TICKS_PER_SECOND: u64 = 100;

/// A process of this machine.
pub(super) struct Process(String);

impl Process {
    /// This program.
    pub(super) fn this() -> Self {
        Self("self".into())
    }

    /// One that this program started.
    pub(super) fn of(id: u32) -> Self {
        Self(id.to_string())
    }

    /// The process that listens at this address, or why it is not known.
    pub(super) fn behind(address: &str) -> Result<Self, String> {
        let bare =
            address.split_once("://").map_or(address, |(_, rest)| rest).trim_end_matches('/');
        let (host, port) = bare.rsplit_once(':').ok_or("its address names no port")?;
        let host = host.trim_matches(['[', ']']);
        let local = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        if !local {
            return Err(format!("{host} is not an address of this machine's loopback"));
        }
        let port: u16 = port.parse().map_err(|_| "its address names no port".to_owned())?;
        let found = listening(port).and_then(|inode| holder(&inode));
        let found = found.map_err(|error| format!("this system does not tell: {error}"))?;
        let process = found.ok_or("no process that may be looked at listens there")?;
        let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        match name.trim() {
            "meshlog" => Ok(Self(process)),
            name => Err(format!("the port belongs to `{name}`, which is not meshlog")),
        }
    }

    /// CPU time that it has used, its threads together.
    pub(super) fn cpu(&self) -> Option<Duration> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?;
        // The name, in parentheses, may hold anything.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let ticks = ticks(11)? + ticks(12)?;
        Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
    }

    /// Bytes of memory that it holds.
    pub(super) fn resident(&self) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.0)).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    }
}

/// The inode of the socket that listens on this port.
fn listening(port: u16) -> io::Result<String> {
    let wanted = format!(":{port:04X}");
    let tables = [fs::read_to_string("/proc/net/tcp"), fs::read_to_string("/proc/net/tcp6")];
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for table in tables {
        match table {
            Ok(table) => {
                for line in table.lines().skip(1) {
                    let fields: Vec<&str> = line.split_whitespace().collect();
                    let (Some(local), Some(state), Some(inode)) =
                        (fields.get(1), fields.get(3), fields.get(9))
                    else {
                        continue;
                    };
                    // State 0A: it listens.
                    if local.ends_with(&wanted) && *state == "0A" {
                        return Ok((*inode).to_owned());
                    }
                }
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The process that has this socket open, if it may be looked at.
fn holder(inode: &str) -> io::Result<Option<String>> {
    let wanted = format!("socket:[{inode}]");
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        // Processes end while one looks, and others' are not shown.
        let Ok(open) = fs::read_dir(format!("/proc/{name}/fd")) else { continue };
        let is_it = |path: std::path::PathBuf| {
            fs::read_link(path).is_ok_and(|to| to.to_string_lossy() == wanted)
        };
        if open.flatten().any(|file| is_it(file.path())) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_is_found_and_named_if_it_is_somebody_else() {
        if !cfg!(target_os = "linux") {
            return;
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let why = Process::behind(&address).err().unwrap();
        assert!(why.contains("which is not meshlog"), "{why}");
        let process = holder(&listening(listener.local_addr().unwrap().port()).unwrap()).unwrap();
        assert_eq!(process, Some(std::process::id().to_string()));
        assert!(Process::this().resident().unwrap() > 1 << 20);
        assert!(Process::this().cpu().is_some());
    }

    #[test]
    fn a_broker_elsewhere_is_unknown() {
        for address in ["broker.example:7420", "https://10.0.0.7:7420", "nothing"] {
            assert!(Process::behind(address).is_err(), "{address}");
        }
    }
}
