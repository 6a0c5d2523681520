//! The broker that is measured: one that runs, or one of the run's own.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use meshlog_client::Client;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use super::process::Process;
use crate::{
    exit::{Exit, Failure, Result},
    output::Out,
    settings::{self, ServerArgs, Source},
};

/// How long a broker of the run's own may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A broker, and how to reach it.
pub(super) struct Broker {
    pub(super) address: String,
    /// The first connection.
    pub(super) client: Client,
    /// Its process, or why that is not known.
    pub(super) process: Result<Process, String>,
    reach: Reach,
}

enum Reach {
    Running(ServerArgs),
    Own(Own),
}

/// A broker in a process of its own, so that its costs can be told from those of the client.
///
/// It and its directory are gone when this is dropped. Only a run that is killed leaves them behind.
struct Own {
    child: Child,
    directory: TempDir,
}

impl Broker {
    /// The broker that the settings name. If they name none and none listens at the usual address, or if asked to with
    /// `own`, one is started on a temporary directory in `own`.
    pub(super) async fn find(
        server: &ServerArgs,
        own: Option<&Path>,
        out: &mut Out,
    ) -> Result<Self> {
        if let Some(place) = own {
            return Self::start(place).await;
        }
        let resolved = server.resolve()?;
        let address = resolved.server.value;
        match server.connect().await {
            Ok(client) => {
                let process = Process::behind(&address);
                Ok(Self { address, client, process, reach: Reach::Running(server.clone()) })
            }
            Err(failure)
                if resolved.server.source == Source::Default
                    && failure.exit() == Exit::Unavailable =>
            {
                let place = std::env::temp_dir();
                let broker = Self::start(&place).await?;
                out.note(format_args!(
                    "no broker listens at {address}; measuring one of the run's own, on a temporary \
                     directory in {} (--own DIR takes another disk)",
                    place.display()
                ));
                Ok(broker)
            }
            Err(failure) => Err(failure),
        }
    }

    async fn start(place: &Path) -> Result<Self> {
        let (own, address) = Own::start(place).await?;
        let client = settings::connect(&address).await?;
        let process = own.child.id().map(Process::of).ok_or_else(|| "it has ended".into());
        Ok(Self { address, client, process, reach: Reach::Own(own) })
    }

    /// One more connection.
    pub(super) async fn connect(&self) -> Result<Client> {
        match &self.reach {
            Reach::Running(server) => server.connect().await,
            Reach::Own(_) => settings::connect(&self.address).await,
        }
    }

    /// The directory of a broker of the run's own: a place on its disk.
    pub(super) fn own_directory(&self) -> Option<PathBuf> {
        match &self.reach {
            Reach::Running(_) => None,
            Reach::Own(own) => Some(own.directory.path().to_owned()),
        }
    }

    /// Ends a broker of the run's own, with all it has; another one goes on.
    pub(super) async fn end(self) {
        if let Reach::Own(mut own) = self.reach {
            // Nothing of it is kept, so it need not close.
            let _ = own.child.kill().await;
        }
    }
}

impl Own {
    async fn start(place: &Path) -> Result<(Self, String)> {
        let fail = |what: String| Failure::new(Exit::Error, what);
        let directory = tempfile::Builder::new().prefix("meshlog-bench-").tempdir_in(place);
        let directory = directory.map_err(|error| {
            fail(format!(
                "no temporary directory can be made in {}: {error}; name another one with --own DIR",
                place.display()
            ))
        })?;
        let cannot = |error: std::io::Error| {
            fail(format!("a broker of the run's own cannot start: {error}"))
        };
        let log = directory.path().join("log");
        let program = std::env::current_exe().map_err(cannot)?;
        let mut child = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "text", "--data-dir"])
            .arg(directory.path().join("data"))
            // The settings of a user's own broker are not for this one.
            .env("XDG_CONFIG_HOME", directory.path())
            .env("MESHLOG_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).map_err(cannot)?)
            // Ctrl-C at the terminal is for the run, which ends it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(cannot)?;
        let output = child.stdout.take();
        let output = output.ok_or_else(|| cannot(std::io::Error::other("it has no output")))?;
        let mut lines = BufReader::new(output).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        let line = line.ok().and_then(std::io::Result::ok).flatten().unwrap_or_default();
        let Some(address) = line.strip_prefix("listening on ") else {
            let _ = child.kill().await;
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let last = said.trim().lines().last().unwrap_or("it said nothing").to_owned();
            return Err(fail(format!(
                "a broker of the run's own does not start in {}: {last}",
                place.display()
            )));
        };
        Ok((Self { child, directory }, address.to_owned()))
    }
}
