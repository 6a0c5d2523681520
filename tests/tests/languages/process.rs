//! Other programs, each with a time limit and ended by its own id.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
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

/// Runs a command and answers its standard output, without colours. With `until`, a command that goes on is ended as
/// soon as it has printed that.
pub(crate) fn run(
    mut command: Command,
    limit: Limit,
    until: Option<&str>,
) -> Result<String, String> {
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
    let deadline = Instant::now() + limit.duration();
    let ended = loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => break Ok(()),
            Ok(Some(status)) => break Err(format!("ended with {status}")),
            Ok(None) if until.is_some_and(|until| stdout.text().contains(until)) => break Ok(()),
            Ok(None) if Instant::now() > deadline => {
                break Err(format!("did not end within {:?}", limit.duration()));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => break Err(error.to_string()),
        }
    };
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // Nothing is left of it if it ended by itself.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
    let (stdout, stderr) = (stdout.finish(), stderr.finish());
    ended
        .map_err(|why| format!("{shown} {why}\n{stdout}{}", beginning_and_end(&stderr)))
        .map(|()| stdout)
}

/// What a pipe has brought so far.
struct Captured {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
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
        Self { bytes, reader }
    }

    fn text(&self) -> String {
        let bytes = self.bytes.lock().map(|bytes| bytes.clone()).unwrap_or_default();
        without_colours(&String::from_utf8_lossy(&bytes))
    }

    fn finish(self) -> String {
        let bytes = Arc::clone(&self.bytes);
        // It ends with the last process that holds the pipe.
        let _ = self.reader.join();
        let bytes = bytes.lock().map(|bytes| bytes.clone()).unwrap_or_default();
        without_colours(&String::from_utf8_lossy(&bytes))
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
