//! The broker as a process.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tonic::transport::{Channel, Endpoint};

/// The binary, built as this test is.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let built = meshlog_tests::binary(|mut build| {
            assert!(build.status().unwrap().success(), "the binary cannot be built");
            Ok(())
        });
        built.unwrap()
    })
}

/// Where this run keeps its directories.
pub(crate) fn ground() -> PathBuf {
    let run = std::process::id().to_string();
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("crash").join(run)
}

/// A place of this run, emptied.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let place = ground().join(name);
    let _ = std::fs::remove_dir_all(&place);
    std::fs::create_dir_all(&place).unwrap();
    place
}

/// A running broker; killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    /// Under strace the broker is its child.
    pid: Pid,
    channel: Channel,
}

/// How a broker is started.
pub(crate) struct Start<'a> {
    pub(crate) data: &'a Path,
    /// Where its settings and its log are.
    pub(crate) home: &'a Path,
    /// A program and its arguments to run it under.
    pub(crate) under: Vec<String>,
}

impl Start<'_> {
    fn spawn(&self) -> Child {
        // Small files, so that a short run rolls, recycles and checkpoints.
        let settings = self.home.join(".config/meshlog");
        std::fs::create_dir_all(&settings).unwrap();
        let text = "[broker.storage]\nfile_min = \"1MiB\"\nfile_max = \"4MiB\"\nring = \"1MiB\"\n\
                    group = \"512KiB\"\n";
        std::fs::write(settings.join("config.toml"), text).unwrap();
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.home.join("stderr"))
            .unwrap();
        let mut command = match self.under.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary());
                command
            }
            None => Command::new(binary()),
        };
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(self.data)
            .env("HOME", self.home)
            .env_remove("XDG_CONFIG_HOME")
            .env("MESHLOG_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    /// Starts it and waits until it listens; what it said if it does not.
    pub(crate) fn listening(&self) -> Result<Server, String> {
        let mut child = self.spawn();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        let _ = BufReader::new(stdout).read_line(&mut line);
        let Some(address) = line.trim().strip_prefix("listening on ") else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(std::fs::read_to_string(self.home.join("stderr")).unwrap_or_default());
        };
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let channel = endpoint.connect_lazy();
        let id = i32::try_from(child.id()).unwrap();
        let pid = if self.under.is_empty() { id } else { only_child_of(id).unwrap_or(id) };
        Ok(Server { child, pid: Pid::from_raw(pid).unwrap(), channel })
    }

    /// Starts it and kills it after this long, wherever it is.
    pub(crate) fn killed_after(&self, wait: Duration) {
        let mut child = self.spawn();
        pause(wait);
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn only_child_of(pid: i32) -> Option<i32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    std::fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
}

impl Server {
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let _ = kill_process(self.pid, signal);
    }

    /// Ends it with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.signal(Signal::KILL);
        // Who runs it ends by itself once it is gone, and only then its lock is.
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.has_ended() && Instant::now() < deadline {
            pause(Duration::from_millis(1));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end, and waits; answers how long it took and its exit code.
    pub(crate) fn terminate(mut self) -> (Duration, Option<i32>) {
        let begun = Instant::now();
        self.signal(Signal::TERM);
        let status = self.child.wait().unwrap();
        (begun.elapsed(), status.code())
    }

    /// Whether the process has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// `meshlog verify` on a directory that no broker has open: clean, or what it said.
pub(crate) fn verify(data: &Path) -> Result<(), String> {
    let output = Command::new(binary()).arg("verify").arg(data).output().unwrap();
    match output.status.code() {
        Some(0) => Ok(()),
        _ => Err(format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

/// Lets time pass.
#[expect(clippy::disallowed_methods, reason = "the moment of a crash is what is tested")]
pub(crate) fn pause(wait: Duration) {
    std::thread::sleep(wait);
}
