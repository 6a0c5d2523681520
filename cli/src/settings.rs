//! Where flags, environment, contexts, the configuration file and defaults meet, in that order.
//!
//! The file is `$XDG_CONFIG_HOME/meshlog/config.toml`, or `~/.config/meshlog/config.toml`. All of
//! it is optional, and a key it does not know is an error:
//!
//! ```toml
//! server = "127.0.0.1:7420"
//! current_context = "lab"
//!
//! [context.lab]
//! server = "127.0.0.1:7421"
//! application = "night-shift"
//! key_file = "/home/me/lab.key"
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
//! `[broker]` is [`meshlog_broker::Config`], with all of its settings. `meshlog config context`
//! writes the contexts (see `config/`).

use std::{
    collections::BTreeMap,
    env, fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap_complete::ArgValueCompleter;
use meshlog_broker::{Config, config::reference};
use meshlog_client::{Client, ClientConfig, TlsConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    completion,
    credential::{KeyArgs, Place},
    exit::{Exit, Failure, Result},
    log::LogFormat,
    telemetry,
};

/// Where a broker listens and a client looks, unless told otherwise.
pub(crate) const DEFAULT_ADDRESS: &str = "127.0.0.1:7420";

/// What this program calls itself, unless told otherwise.
const DEFAULT_APPLICATION: &str = "meshlog-cli";

/// Which broker to talk to.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ServerArgs {
    /// Address of the broker [env: MESHLOG_SERVER] [default: that of the context, or `server` of
    /// the configuration file, or 127.0.0.1:7420]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) server: Option<String>,
    /// Context of the configuration file to use [env: MESHLOG_CONTEXT] [default: the one chosen
    /// with `meshlog config context use`]
    #[arg(long, value_name = "NAME", add = ArgValueCompleter::new(completion::contexts))]
    pub(crate) context: Option<String>,
    /// What this program calls itself, in lineage and audit [env: MESHLOG_APPLICATION] [default: that
    /// of the context, or meshlog-cli]
    #[arg(long, value_name = "NAME")]
    pub(crate) application: Option<String>,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    /// Send the key also to another machine that does not encrypt, where everybody on the way can
    /// read it; for a lab
    #[arg(long)]
    pub(crate) insecure_send_key: bool,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
}

/// How to encrypt connections to the broker.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct TlsArgs {
    /// File with the authority that vouches for the broker; connections are encrypted then [env:
    /// MESHLOG_TLS_CA] [default: that of the context, or the authorities this machine trusts]
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) tls_ca: Option<PathBuf>,
    /// File with the certificate to show to the broker [env: MESHLOG_TLS_CERT]
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) tls_cert: Option<PathBuf>,
    /// File with the key of that certificate [env: MESHLOG_TLS_KEY]
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) tls_key: Option<PathBuf>,
}

impl TlsArgs {
    /// Flag, environment, context, nothing: for each file by itself.
    fn resolve(&self, context: Option<(&str, &Context)>) -> Vec<(&'static str, Setting<PathBuf>)> {
        let of = |file: fn(&Context) -> &Option<PathBuf>| {
            let (name, context) = context?;
            let file = file(context).clone()?;
            Some(Setting::new(file, Source::Context(name.to_owned())))
        };
        let set = |name, flag: &Option<PathBuf>, long, variable, of_context| {
            let flag = flag.clone().map(|file| Setting::new(file, Source::Flag(long)));
            let in_environment = || {
                let Setting { value, source } = environment(variable)?;
                Some(Setting::new(value.into(), source))
            };
            Some((name, flag.or_else(in_environment).or(of_context)?))
        };
        let (ca, cert, key) = (&self.tls_ca, &self.tls_cert, &self.tls_key);
        [
            set("tls_ca", ca, "--tls-ca", "MESHLOG_TLS_CA", of(|it| &it.tls_ca)),
            set("tls_cert", cert, "--tls-cert", "MESHLOG_TLS_CERT", of(|it| &it.tls_cert)),
            set("tls_key", key, "--tls-key", "MESHLOG_TLS_KEY", of(|it| &it.tls_key)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Where a setting comes from; what stands first wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The command line.
    Flag(&'static str),
    /// This environment variable.
    Environment(&'static str),
    /// This context of the file.
    Context(String),
    /// The file itself.
    File,
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Context(name) => write!(f, "context {name}"),
            Self::File => f.write_str("file"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting<T> {
    /// The value.
    pub(crate) value: T,
    /// Where it comes from.
    pub(crate) source: Source,
}

impl<T> Setting<T> {
    pub(crate) fn new(value: T, source: Source) -> Self {
        Self { value, source }
    }
}

/// What a client command needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    /// The context in use, if there is one.
    pub(crate) context: Option<Setting<String>>,
    /// Address of the broker.
    pub(crate) server: Setting<String>,
    /// What this program calls itself.
    pub(crate) application: Setting<String>,
    /// Where the key is that says who calls, if there is one.
    pub(crate) key: Option<Setting<Place>>,
    /// Files for encrypted connections, by the name of their setting.
    pub(crate) tls_files: Vec<(&'static str, Setting<PathBuf>)>,
}

impl Resolved {
    /// How connections are encrypted, if anything was said about it.
    pub(crate) fn tls(&self) -> Option<TlsConfig> {
        let file = |name| {
            let found = self.tls_files.iter().find(|(known, _)| *known == name);
            found.map(|(_, file)| file.value.clone())
        };
        let tls = TlsConfig {
            ca: file("tls_ca"),
            certificate: file("tls_cert"),
            key: file("tls_key"),
            server_name: None,
        };
        (tls != TlsConfig::default()).then_some(tls)
    }
}

impl ServerArgs {
    /// Connects to the broker.
    pub(crate) async fn connect(&self) -> Result<Client> {
        self.connect_warning(true).await
    }

    /// As [`ServerArgs::connect`], without a word to a person.
    pub(crate) async fn connect_silently(&self) -> Result<Client> {
        self.connect_warning(false).await
    }

    async fn connect_warning(&self, warns: bool) -> Result<Client> {
        let resolved = self.resolve()?;
        let key = resolved.key.as_ref().map(|key| key.value.read(warns)).transpose()?;
        let config = ClientConfig {
            application: resolved.application.value.clone(),
            tls: resolved.tls(),
            key,
            allow_unencrypted_key: self.insecure_send_key,
            ..ClientConfig::default()
        };
        connect_with(&resolved.server.value, config).await
    }

    /// The address: flag, environment, context, file, default.
    pub(crate) fn address(&self) -> Result<String> {
        Ok(self.resolve()?.server.value)
    }

    /// Every setting with its source. The file is read only if it can matter.
    pub(crate) fn resolve(&self) -> Result<Resolved> {
        let flag = |value: &Option<String>, name| {
            value.clone().map(|value| Setting::new(value, Source::Flag(name)))
        };
        let server = flag(&self.server, "--server").or_else(|| environment("MESHLOG_SERVER"));
        let context = flag(&self.context, "--context").or_else(|| environment("MESHLOG_CONTEXT"));
        let file = match (&server, &context) {
            (Some(_), None) => File::default(),
            _ => File::load()?,
        };
        let context = context.or_else(|| {
            let current = file.current_context.clone();
            current.map(|name| Setting::new(name, Source::File))
        });
        let chosen = context.as_ref().map(|context| file.context(&context.value)).transpose()?;
        let of_context = |value: String| {
            let name = context.as_ref().map(|context| context.value.clone()).unwrap_or_default();
            Setting::new(value, Source::Context(name))
        };
        // A context named on the command line wins over an address in the environment.
        let environment_gives_way = matches!(
            (&server, &context),
            (Some(server), Some(context))
                if matches!(server.source, Source::Environment(_))
                    && matches!(context.source, Source::Flag(_))
        );
        let server = server
            .filter(|_| !environment_gives_way)
            .or_else(|| chosen.map(|context| of_context(context.server.clone())))
            .or_else(|| file.server.clone().map(|server| Setting::new(server, Source::File)))
            .unwrap_or_else(|| Setting::new(DEFAULT_ADDRESS.into(), Source::Default));
        let application = flag(&self.application, "--application")
            .or_else(|| environment("MESHLOG_APPLICATION"))
            .or_else(|| chosen.and_then(|context| context.application.clone()).map(of_context))
            .unwrap_or_else(|| Setting::new(DEFAULT_APPLICATION.into(), Source::Default));
        // What stands in the file is for the broker that it names, not for one named otherwise: a key
        // must not go to another one.
        let of_context = match &server.source {
            Source::Context(name) => chosen.map(|context| (name.as_str(), context)),
            _ => None,
        };
        let tls_files = self.tls.resolve(of_context);
        let key_of_file = match (&server.source, of_context) {
            (Source::Context(name), Some((_, context))) => {
                let file = context.key_file.clone();
                file.map(|file| Setting::new(file, Source::Context(name.clone())))
            }
            (Source::File | Source::Default, _) => {
                file.key_file.clone().map(|file| Setting::new(file, Source::File))
            }
            _ => None,
        };
        let named = matches!(&context, Some(context) if matches!(context.source, Source::Flag(_)));
        let key = self.key.resolve(key_of_file, named);
        Ok(Resolved { context, server, application, key, tls_files })
    }
}

/// A variable that is set and not empty.
pub(crate) fn environment(name: &'static str) -> Option<Setting<String>> {
    let value = env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(Setting::new(value, Source::Environment(name)))
}

/// Connects under the name of this program.
pub(crate) async fn connect(address: &str) -> Result<Client> {
    let application = DEFAULT_APPLICATION.to_owned();
    connect_with(address, ClientConfig { application, ..ClientConfig::default() }).await
}

async fn connect_with(address: &str, config: ClientConfig) -> Result<Client> {
    Client::connect_with(address, config).await.map_err(|error| {
        let hint = match error.reason() {
            "UNREACHABLE" => ", or name another broker with --server HOST:PORT",
            "UNTRUSTED" => " (--tls-ca FILE, --server HOST:PORT)",
            "UNENCRYPTED" => " (--tls-ca FILE; --insecure-send-key for a lab)",
            _ => "",
        };
        let failure = Failure::from(error);
        Failure::new(failure.exit(), format!("{failure}{hint}"))
    })
}

/// The configuration file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct File {
    /// Address of the broker that client commands talk to. Default: 127.0.0.1:7420.
    pub(crate) server: Option<String>,
    /// File with the key that says who calls, for the broker at `server`.
    pub(crate) key_file: Option<PathBuf>,
    /// The context in use unless another one is named.
    pub(crate) current_context: Option<String>,
    /// Brokers by name.
    pub(crate) context: BTreeMap<String, Context>,
    /// Settings of `meshlog serve`.
    pub(crate) serve: ServeFile,
    /// Traces and logs for OpenTelemetry.
    pub(crate) telemetry: telemetry::Settings,
    /// The broker that `meshlog serve` opens. Its `data_dir` defaults to `$XDG_DATA_HOME/meshlog`,
    /// or `~/.local/share/meshlog`.
    pub(crate) broker: Config,
}

/// A broker that has a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Its address.
    pub(crate) server: String,
    /// What this program calls itself there. Default: meshlog-cli.
    pub(crate) application: Option<String>,
    /// File with the key that says who calls there.
    pub(crate) key_file: Option<PathBuf>,
    /// File with the authority that vouches for it.
    pub(crate) tls_ca: Option<PathBuf>,
    /// File with the certificate to show to it.
    pub(crate) tls_cert: Option<PathBuf>,
    /// File with the key of that certificate.
    pub(crate) tls_key: Option<PathBuf>,
}

/// The part of the file for `meshlog serve`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ServeFile {
    /// The address to listen on. Default: 127.0.0.1:7420.
    #[schemars(with = "Option<String>")]
    pub(crate) listen: Option<SocketAddr>,
    /// How log lines are written: auto (text on a terminal, else JSON), text or json. Default: auto.
    #[schemars(with = "Option<String>")]
    pub(crate) log_format: Option<LogFormat>,
}

impl File {
    /// The JSON Schema of the file.
    pub(crate) fn schema() -> serde_json::Value {
        reference::schema_of::<Self>()
    }

    /// The file with these settings, and what each means.
    pub(crate) fn to_toml(&self) -> Result<String> {
        let values = serde_json::to_value(self).map_err(|error| {
            Failure::new(Exit::Error, format!("the settings cannot be written: {error}"))
        })?;
        Ok(reference::commented_toml(&Self::schema(), &values))
    }

    /// Where the user's file is; none without a home directory.
    pub(crate) fn path() -> Option<PathBuf> {
        Some(user_directory("XDG_CONFIG_HOME", ".config")?.join("meshlog/config.toml"))
    }

    /// The user's file; all defaults if there is none.
    pub(crate) fn load() -> Result<Self> {
        match Self::path() {
            Some(path) => Self::read(&path),
            None => Ok(Self::default()),
        }
    }

    /// A context by name; the error lists those there are.
    pub(crate) fn context(&self, name: &str) -> Result<&Context> {
        self.context.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.context.keys().map(String::as_str).collect();
            let there_are = match names.as_slice() {
                [] => "there are none yet; add one with".to_owned(),
                names => {
                    format!("there are {}; choose one of them, or add it with", names.join(", "))
                }
            };
            Failure::new(
                Exit::NotFound,
                format!(
                    "no context is called `{name}`: {there_are} `meshlog config context add {name} \
                     --server HOST:PORT`"
                ),
            )
        })
    }

    /// A file at this place; all defaults if there is none.
    pub(crate) fn read(path: &Path) -> Result<Self> {
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

    /// `MESHLOG_WRITE_DOCS=1` writes it instead.
    #[test]
    fn the_page_about_settings_is_what_the_code_says() {
        const MARK: &str = "<!-- From here on written by the test of cli/src/settings.rs. -->\n\n";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
        let page = std::fs::read_to_string(&path).unwrap();
        let (head, tables) = page.split_once(MARK).unwrap();
        let expected = reference::markdown(&File::schema());
        if env::var_os("MESHLOG_WRITE_DOCS").is_some() {
            std::fs::write(&path, format!("{head}{MARK}{expected}")).unwrap();
            return;
        }
        assert_eq!(tables, expected, "run it again with MESHLOG_WRITE_DOCS=1");
    }

    #[test]
    fn a_printed_file_is_read_back_as_it_was() {
        let mut file = File { server: Some("h:1".into()), ..File::default() };
        file.serve.listen = Some("127.0.0.1:0".parse().unwrap());
        file.broker = Config::at("/a \"quoted\" directory");
        file.broker.edge.max_connections = 7;
        let lab =
            Context { server: "h:2".into(), tls_ca: Some("/ca".into()), ..Context::default() };
        file.context = BTreeMap::from([("the lab".into(), lab)]);
        for file in [File::default(), file] {
            let text = file.to_toml().unwrap();
            assert_eq!(toml::from_str::<File>(&text).unwrap(), file, "{text}");
            assert!(text.contains("\n# Bytes written and synced together at most."), "{text}");
        }
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
