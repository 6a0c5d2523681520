//! The broker as a process, its memory measured.

use std::cell::RefCell;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use meshlog_proto::v1::catalog_service_client::CatalogServiceClient;
use meshlog_tests::product;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use tonic::transport::{Channel, Endpoint};

use super::BUDGET;

fn binary() -> &'static std::path::Path {
    static BINARY: OnceLock<std::path::PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let built = meshlog_tests::binary(|mut build| {
            assert!(build.status().unwrap().success(), "the binary cannot be built");
            Ok(())
        });
        built.unwrap()
    })
}

/// As many open files as this process may have; the broker inherits it.
pub(crate) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// How many more connections this process can open.
pub(crate) fn open_files() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(200)
}

/// A running broker with products `ops.a`, `ops.b`; killed when it is dropped.
pub(crate) struct Server {
    child: RefCell<Child>,
    pid: u32,
    pub(crate) address: SocketAddr,
    _home: tempfile::TempDir,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let settings = home.path().join(".config/meshlog");
        std::fs::create_dir_all(&settings).unwrap();
        let text = format!(
            "[broker.edge]\nmemory = \"{BUDGET}MiB\"\nmax_connections = 12000\n\
             max_connections_per_address = 12000\nfirst_request_timeout = \"3s\"\n\
             request_timeout = \"3s\"\nkeepalive_interval = \"10m\"\nstalled_reader_timeout = \"2s\"\n\
             [broker.storage]\nring = \"16MiB\"\nin_flight = \"16MiB\"\n\
             [broker.appends]\nwaiting = \"16MiB\"\n"
        );
        std::fs::write(settings.join("config.toml"), text).unwrap();
        let mut child = Command::new(binary())
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(home.path().join("data"))
            .env("HOME", home.path())
            .env_remove("XDG_CONFIG_HOME")
            .env("MESHLOG_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().parse().unwrap();
        let pid = child.id();
        let server = Self { child: RefCell::new(child), pid, address, _home: home };
        let mut catalog = CatalogServiceClient::new(server.connect());
        for name in ["ops.a", "ops.b"] {
            catalog.create_product(product(name).request()).await.unwrap();
        }
        server
    }

    /// A connection of its own.
    pub(crate) fn connect(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect_lazy()
    }

    /// From now on the peak is counted anew; the memory in use, in MiB.
    pub(crate) fn forget_peak(&self) -> u64 {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid), "5").unwrap();
        self.status("VmRSS:")
    }

    /// The most memory in use since, in MiB.
    pub(crate) fn peak(&self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(&self, key: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() >> 10
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.child.borrow_mut().try_wait(), Ok(Some(_)))
    }

    /// Asks it to end, and waits; how long it took.
    pub(crate) fn terminate(&self) -> Duration {
        let begun = Instant::now();
        let pid = Pid::from_raw(self.pid.try_into().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        assert!(self.child.borrow_mut().wait().unwrap().success());
        begun.elapsed()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        let _ = child.kill();
        let _ = child.wait();
    }
}
