//! Other programs, each with a time limit and ended by its own id.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// How long a command may take.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    /// Packages over the network, compilers.
    Installing,
    /// A program that talks to a broker on this machine.
    Running,
}

impl Limit {
    fn duration(self) -> Duration {
        match self {
            Self::Installing => Duration::from_secs(600),
            Self::Running => Duration::from_secs(120),
        }
    }
}

/// Commands as a reader types them, in this folder.
pub(crate) fn shell(commands: &str, folder: &Path, path: &str) -> Command {
    let mut shell = Command::new("bash");
    shell
        .args(["-c", &format!("set -euo pipefail\n{commands}")])
        .current_dir(folder)
        .env("PATH", path)
        .env_remove("MESHLOG_SERVER")
        .env_remove("PYTHONPATH");
    shell
}

/// Runs a command to its end and answers its standard output, without colours.
pub(crate) fn run(command: Command, limit: Limit) -> Result<String, String> {
    let mut running = Running::start(command)?;
    running.wait(limit, None)?;
    Ok(running.stdout.text())
}

/// A command that was started, and is ended when this is dropped.
pub(crate) struct Running {
    child: Child,
    shown: String,
    stdout: Captured,
    stderr: Captured,
    /// Its id is no longer its own after it was waited for.
    has_ended: bool,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Result<Self, String> {
        let shown = format!("{:?}", command.get_args().last().unwrap_or_default());
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that what it starts ends with it.
            .process_group(0)
            .spawn();
        let mut child = child.map_err(|error| format!("{shown} cannot be run: {error}"))?;
        let stdout = Captured::from(child.stdout.take());
        let stderr = Captured::from(child.stderr.take());
        Ok(Self { child, shown, stdout, stderr, has_ended: false })
    }

    /// Waits for its good end or, if that is sooner, until its standard output holds `until`.
    pub(crate) fn wait(&mut self, limit: Limit, until: Option<&str>) -> Result<(), String> {
        let deadline = Instant::now() + limit.duration();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    self.has_ended = true;
                    self.stdout.finish();
                    self.stderr.finish();
                    return match (status.success(), until) {
                        (false, _) => Err(self.failure(&format!("ended with {status}"))),
                        (true, Some(until)) if !self.stdout.text().contains(until) => {
                            Err(self.failure(&format!("should have printed\n{until}but printed")))
                        }
                        (true, _) => Ok(()),
                    };
                }
                Ok(None) if until.is_some_and(|until| self.stdout.text().contains(until)) => {
                    return Ok(());
                }
                Ok(None) if Instant::now() > deadline => {
                    let what = until.map_or("end".to_owned(), |until| format!("print\n{until}"));
                    return Err(
                        self.failure(&format!("did not, within {:?}, {what}", limit.duration()))
                    );
                }
                Ok(None) => pause(),
                Err(error) => return Err(self.failure(&error.to_string())),
            }
        }
    }

    /// Its standard output so far.
    pub(crate) fn printed(&self) -> String {
        self.stdout.text()
    }

    /// Whether it goes on.
    pub(crate) fn is_running(&self) -> bool {
        !self.has_ended
    }

    fn failure(&self, why: &str) -> String {
        format!(
            "{} {why}\n{}{}",
            self.shown,
            self.stdout.text(),
            beginning_and_end(&self.stderr.text())
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended
            && let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process_group(group, Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// The end of another process can only be asked for again and again.
#[expect(
    clippy::disallowed_methods,
    reason = "there is no condition to wait on; the wait has a limit"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

/// What a pipe has brought so far.
struct Captured {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Captured {
    fn from(pipe: Option<impl Read + Send + 'static>) -> Self {
        let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
        let into = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            let Some(mut pipe) = pipe else { return };
            while let Ok(read @ 1..) = pipe.read(&mut buffer) {
                if let Ok(mut bytes) = into.lock() {
                    bytes.extend_from_slice(&buffer[..read]);
                }
            }
        });
        Self { bytes, reader: Some(reader) }
    }

    fn text(&self) -> String {
        let bytes = self.bytes.lock().map(|bytes| bytes.clone()).unwrap_or_default();
        without_colours(&String::from_utf8_lossy(&bytes))
    }

    /// Waits for the rest, which ends with the last process that holds the pipe.
    fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Maven resets the colour at its end even if it had set none.
fn without_colours(text: &str) -> String {
    let mut pieces = text.split("\u{1b}[");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| text + piece.split_once('m').map_or(piece, |(_, rest)| rest))
}

/// Where it begins says what went wrong, where it ends how it ended.
fn beginning_and_end(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    match lines.len() {
        ..=40 => lines.join("\n"),
        count => [&lines[..20], &["…"], &lines[count - 20..]].concat().join("\n"),
    }
}
