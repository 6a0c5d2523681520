//! A broker in a process of its own, and the command line beside it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The binary under test.
pub const MESHLOG: &str = env!("CARGO_BIN_EXE_meshlog");

/// What tests plant where something secret stands. Whatever a broker of this test run has logged is
/// searched for it when the broker ends, whichever test it was.
pub const PLANTED: [&str; 2] = ["planted-payload-7f3a91c2", "planted-secret-b81e04d6"];

/// Panics if a broker has logged something secret: what was planted, or a key as the broker makes
/// them.
#[track_caller]
fn assert_nothing_secret(log: &str) {
    for secret in PLANTED {
        assert!(!log.contains(secret), "`{secret}` was logged:\n{log}");
    }
    let key =
        regex::Regex::new("mlk_[0-9a-zA-Z]+_[0-9a-zA-Z_-]{20,}|BEGIN [A-Z ]*PRIVATE KEY").unwrap();
    if let Some(key) = key.find(log) {
        panic!("a key was logged: {}…", &key.as_str()[..10]);
    }
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A file of `examples/flights`.
pub fn flights(name: &str) -> String {
    root().join("examples/flights").join(name).display().to_string()
}

/// How a command ended.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// Standard output of a command that succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:#?}");
        self.stdout
    }

    /// Standard error of a command that failed with this code, all these words in it.
    #[track_caller]
    pub fn fails(self, code: i32, words: &[&str]) -> String {
        assert_eq!(self.code, code, "{self:#?}");
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is not in {self:#?}");
        }
        self.stderr
    }

    /// Standard output as one JSON document.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.ok()).unwrap()
    }
}

/// A command with an environment of its own: no settings of whoever runs the tests.
pub fn command(home: &Path) -> Command {
    let mut command = Command::new(MESHLOG);
    command
        .env_remove("MESHLOG_SERVER")
        .env_remove("MESHLOG_CONTEXT")
        .env_remove("MESHLOG_APPLICATION")
        .env_remove("MESHLOG_KEY")
        .env_remove("MESHLOG_KEY_FILE")
        .env_remove("MESHLOG_LOG")
        .env_remove("COMPLETE")
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_DATA_HOME")
        .env("HOME", home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Writes the configuration file below a home.
pub fn settings(home: &Path, text: &str) {
    let directory = home.join(".config/meshlog");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("config.toml"), text).unwrap();
}

/// The files below a directory that hold one of these.
pub fn files_with(directory: &Path, these: &[impl AsRef<[u8]>]) -> Vec<PathBuf> {
    // Byte by byte, because not all of them are text.
    let hex = |one: &[u8]| one.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    let either: Vec<String> = these.iter().map(|one| hex(one.as_ref())).collect();
    found_in(directory, &regex::bytes::Regex::new(&format!("(?-u){}", either.join("|"))).unwrap())
}

fn found_in(directory: &Path, pattern: &regex::bytes::Regex) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(found_in(&entry.path(), pattern));
            continue;
        }
        let bytes = std::fs::read(entry.path()).unwrap();
        if pattern.is_match(&bytes) {
            found.push(entry.path());
        }
    }
    found
}

/// Runs a command that talks to no broker, or names it itself.
pub fn meshlog(home: impl AsRef<Path>, args: &[&str]) -> Outcome {
    let mut command = command(home.as_ref());
    command.args(args);
    run(command, "")
}

/// Runs a command to its end.
pub fn run(mut command: Command, input: impl AsRef<[u8]>) -> Outcome {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        let input = input.as_ref();
        // A command may end without reading its input.
        scope.spawn(move || drop(stdin.write_all(input)));
        let output = child.wait_with_output().unwrap();
        Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    })
}

/// A process that is ended with the test.
pub struct Process {
    child: Child,
    pub stdout: BufReader<ChildStdout>,
    /// Read all the time: a process that logs much must not wait for the test.
    stderr: Option<JoinHandle<String>>,
}

impl Process {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = child.stderr.take().map(|mut pipe| {
            std::thread::spawn(move || {
                let mut text = String::new();
                let _ = pipe.read_to_string(&mut text);
                text
            })
        });
        Self { child, stdout, stderr }
    }

    /// The next line of standard output, without its end.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        match line.strip_suffix('\n') {
            Some(line) => line.to_owned(),
            None => panic!("the output ended with {line:?}: {}", self.wait().stderr),
        }
    }

    /// Writes to standard input, which stays open.
    pub fn write(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Ends standard input.
    pub fn close_input(&mut self) {
        self.child.stdin = None;
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the end; standard output is what was not read as lines.
    pub fn wait(&mut self) -> Outcome {
        let mut stdout = String::new();
        self.stdout.read_to_string(&mut stdout).unwrap();
        let stderr = self.stderr.take().map(|log| log.join().unwrap()).unwrap_or_default();
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        assert_nothing_secret(&stderr);
        Outcome { code, stdout, stderr }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let Some(log) = self.stderr.take() else { return };
        // Whoever inherited the pipe may hold it open; a broker starts nobody.
        let until = Instant::now() + Duration::from_secs(2);
        while !log.is_finished() && Instant::now() < until {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        if log.is_finished() && !std::thread::panicking() {
            assert_nothing_secret(&log.join().unwrap());
        }
    }
}

/// Between two looks at another process, which says nothing of its own accord.
#[expect(clippy::disallowed_methods, reason = "another process cannot be waited on")]
pub fn pause(millis: u64) {
    std::thread::sleep(std::time::Duration::from_millis(millis));
}

/// A running broker.
pub struct TestBroker {
    pub process: Process,
    pub address: String,
    pub home: TempDir,
}

impl TestBroker {
    /// In memory, on a free port.
    pub fn in_memory() -> Self {
        Self::start(tempfile::tempdir().unwrap(), &["--in-memory", "--listen", "127.0.0.1:0"])
    }

    /// On disk, logging as much as it can.
    pub fn verbose() -> Self {
        let home = tempfile::tempdir().unwrap();
        settings(home.path(), "[broker.metrics]\nper_product = true\n");
        Self::verbose_on(home)
    }

    /// As [`TestBroker::verbose`], on the directory `data` below this home and with its settings.
    pub fn verbose_on(home: TempDir) -> Self {
        let data = home.path().join("data").display().to_string();
        let args = ["--data-dir", &data, "--listen", "127.0.0.1:0"];
        // The libraries below log what goes over the wire at `trace`; only ours is promised.
        let level = "debug,meshlog_broker=trace,meshlog_storage=trace,meshlog=trace";
        Self::start_with(home, &args, level)
    }

    /// On the directory `data` below its home.
    pub fn on_disk() -> Self {
        Self::on(tempfile::tempdir().unwrap())
    }

    /// On the directory `data` below this home.
    pub fn on(home: TempDir) -> Self {
        let data = home.path().join("data").display().to_string();
        Self::start(home, &["--data-dir", &data, "--listen", "127.0.0.1:0"])
    }

    fn start(home: TempDir, args: &[&str]) -> Self {
        Self::start_with(home, args, "warn")
    }

    fn start_with(home: TempDir, args: &[&str], level: &str) -> Self {
        let mut command = command(home.path());
        command.arg("serve").args(args);
        command.env("MESHLOG_LOG", level);
        let mut process = Process::start(command);
        let line = process.line();
        let address = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}"));
        Self { address: address.to_owned(), process, home }
    }

    /// Stops it as a service manager would, and starts it again on the same directory.
    pub fn restart(mut self) -> Self {
        self.process.signal(Signal::TERM);
        self.process.wait().ok();
        Self::on(self.home)
    }

    /// As [`TestBroker::restart`], for clients that shall find it where it was.
    pub fn restart_on_the_same_port(mut self) -> Self {
        self.process.signal(Signal::TERM);
        self.process.wait().ok();
        let data = self.home.path().join("data").display().to_string();
        Self::start(self.home, &["--data-dir", &data, "--listen", &self.address])
    }

    /// A command that talks to it.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = command(self.home.path());
        command.args(args).env("MESHLOG_SERVER", &self.address);
        command
    }

    /// Runs a command that talks to it.
    pub fn run(&self, args: &[&str]) -> Outcome {
        self.run_with(args, "")
    }

    /// Runs a command that talks to it and reads this input.
    pub fn run_with(&self, args: &[&str], input: impl AsRef<[u8]>) -> Outcome {
        run(self.command(args), input)
    }

    /// Stops it cleanly; gives its home and its data directory.
    #[track_caller]
    pub fn stopped(mut self) -> (TempDir, PathBuf) {
        self.process.signal(Signal::TERM);
        self.process.wait().ok();
        let data = self.home.path().join("data");
        (self.home, data)
    }

    /// Creates a product in the sandbox.
    #[track_caller]
    pub fn sandbox(&self, name: &str) {
        self.run(&["product", "create", name]).ok();
    }

    /// Creates `fleet.planes` with its schema, and its domain and team.
    #[track_caller]
    pub fn planes(&self) {
        self.product("fleet.planes", "planes.json", &["--key", "tailnum"]);
    }

    /// Creates a product outside the sandbox, with a schema of the flights mesh.
    #[track_caller]
    pub fn product(&self, name: &str, schema: &str, more: &[&str]) {
        let schema = flights(&format!("schemas/{schema}"));
        let mut args = vec!["product", "create", name, "--schema", &schema];
        args.extend(["--owner", "fleet-engineering", "--description", "Aircraft of the register"]);
        args.extend(["--classification", "internal", "--new-domain"]);
        args.extend(["--contact", "fleet@nyc.example"]);
        args.extend(more);
        self.run(&args).ok();
    }

    /// Creates the team `reference-data` and this vocabulary: `name`, or `name=type`.
    #[track_caller]
    pub fn tag_keys(&self, keys: &[&str]) {
        self.run(&["team", "create", "reference-data", "--contact", "r@nyc.example"]).ok();
        for key in keys {
            let (name, value_type) = key.split_once('=').unwrap_or((key, "none"));
            let create = ["tag", "create", name, "--type", value_type, "--owner", "reference-data"];
            self.run(&[&create[..], &["--description", "A mark"]].concat()).ok();
        }
    }

    /// What `consume` writes with these arguments.
    #[track_caller]
    pub fn consume(&self, args: &[&str]) -> String {
        self.run(&[&["consume"], args].concat()).ok()
    }
}

/// A record as `consume -o jsonl` writes it.
#[track_caller]
pub fn records(jsonl: &str) -> Vec<serde_json::Value> {
    jsonl.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
