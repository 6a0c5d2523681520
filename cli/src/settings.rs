//! Where flags, environment, the configuration file and defaults meet, in that order.
//!
//! The file is `$XDG_CONFIG_HOME/meshlog/config.toml`, or `~/.config/meshlog/config.toml`. All of
//! it is optional, and a key it does not know is an error:
//!
//! ```toml
//! server = "127.0.0.1:7420"
//!
//! [serve]
//! listen = "127.0.0.1:7420"
//!
//! [broker]
//! data_dir = "/var/lib/meshlog"
//!
//! [broker.storage]
//! ring = "64MiB"
//! ```
//!
//! `[broker]` is [`meshlog_broker::Config`], with all of its settings.

use std::{
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use meshlog_broker::Config;
use meshlog_client::{Client, ClientConfig};
use serde::Deserialize;

use crate::exit::{Failure, Result};

/// Where a broker listens and a client looks, unless told otherwise.
pub(crate) const DEFAULT_ADDRESS: &str = "127.0.0.1:7420";

/// Which broker to talk to.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServerArgs {
    /// Address of the broker [default: `server` of the configuration file, or 127.0.0.1:7420]
    #[arg(long, value_name = "HOST:PORT", env = "MESHLOG_SERVER", hide_env_values = true)]
    pub(crate) server: Option<String>,
}

impl ServerArgs {
    /// Connects to the broker.
    pub(crate) async fn connect(&self) -> Result<Client> {
        connect(&self.address()?).await
    }

    /// The address: flag, environment, file, default.
    pub(crate) fn address(&self) -> Result<String> {
        Ok(match &self.server {
            Some(server) => server.clone(),
            None => File::load()?.server.unwrap_or_else(|| DEFAULT_ADDRESS.into()),
        })
    }
}

/// Connects under the name of this program.
pub(crate) async fn connect(address: &str) -> Result<Client> {
    let config = ClientConfig { application: "meshlog-cli".into(), ..ClientConfig::default() };
    Client::connect_with(address, config).await.map_err(|error| {
        let hint = match error.reason() {
            "UNREACHABLE" => ", or name another broker with --server HOST:PORT",
            _ => "",
        };
        let failure = Failure::from(error);
        Failure::new(failure.exit(), format!("{failure}{hint}"))
    })
}

/// The configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct File {
    /// Address of the broker that client commands talk to. Default: 127.0.0.1:7420.
    pub(crate) server: Option<String>,
    /// Settings of `meshlog serve`.
    pub(crate) serve: ServeFile,
    /// The broker that `meshlog serve` opens. Its `data_dir` defaults to `$XDG_DATA_HOME/meshlog`,
    /// or `~/.local/share/meshlog`.
    pub(crate) broker: Config,
}

/// The part of the file for `meshlog serve`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ServeFile {
    /// The address to listen on. Default: 127.0.0.1:7420.
    pub(crate) listen: Option<SocketAddr>,
}

impl File {
    /// The user's file; all defaults if there is none.
    pub(crate) fn load() -> Result<Self> {
        match user_directory("XDG_CONFIG_HOME", ".config") {
            Some(directory) => Self::read(&directory.join("meshlog/config.toml")),
            None => Ok(Self::default()),
        }
    }

    fn read(path: &Path) -> Result<Self> {
        let wrong = |error: &dyn std::fmt::Display| {
            let path = path.display();
            Failure::usage(format!("the configuration file {path} cannot be used: {error}"))
        };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(wrong(&error)),
        };
        toml::from_str(&text).map_err(|error| wrong(&error.to_string().trim_end()))
    }
}

/// The data directory if none is named.
pub(crate) fn default_data_dir() -> Option<PathBuf> {
    Some(user_directory("XDG_DATA_HOME", ".local/share")?.join("meshlog"))
}

/// A directory of the XDG base directory specification: absolute, or ignored.
fn user_directory(variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(variable).or_else(|| Some(absolute("HOME")?.join(below_home)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_set_everything_or_nothing() {
        assert_eq!(toml::from_str::<File>("").unwrap(), File::default());
        let text =
            "server = \"h:1\"\n[serve]\nlisten = \"127.0.0.1:0\"\n[broker]\ndata_dir = \"/d\"\n";
        let file: File = toml::from_str(text).unwrap();
        assert_eq!(file.server.as_deref(), Some("h:1"));
        assert_eq!(file.broker.data_dir.as_deref(), Some(Path::new("/d")));
        assert_eq!(file.serve.listen, Some("127.0.0.1:0".parse().unwrap()));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        std::fs::write(&path, "sevrer = \"h:1\"\n").unwrap();
        let failure = File::read(&path).unwrap_err();
        let text = failure.to_string();
        assert!(text.contains("sevrer") && text.contains("config.toml"), "{text}");
        assert_eq!(failure.exit(), crate::exit::Exit::Usage);
    }
}
