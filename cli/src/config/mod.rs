//! `meshlog config`: the settings in use, and contexts: brokers that have a name.

mod context;
mod edit;

use std::env;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::{
    exit::{Failure, Result},
    output::{Out, OutputArgs, Row},
    settings::{self, DEFAULT_ADDRESS, File, ServerArgs, Setting, Source},
};

/// Settings, and brokers by name.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show every setting in use and where it comes from
    #[command(before_help = "Examples:
  meshlog config show
  meshlog config show --context lab -o json")]
    Show(Show),
    /// Print where the configuration file is
    #[command(before_help = "Example:
  $EDITOR \"$(meshlog config path)\"")]
    Path,
    /// Print the JSON Schema of the configuration file, for editors
    #[command(before_help = "Example:
  meshlog config schema > meshlog.schema.json")]
    Schema,
    /// Brokers by name
    #[command(
        subcommand,
        before_help = "Examples:
  meshlog config context add lab --server 127.0.0.1:7421
  meshlog config context use lab"
    )]
    Context(context::ContextCommand),
}

/// Arguments of `config show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl ConfigCommand {
    /// Runs the command.
    pub(crate) fn run(self, out: &mut Out) -> Result<()> {
        match self {
            Self::Show(args) => out.list(args.output.output, &args.rows()?),
            Self::Path => {
                let path = File::path().ok_or_else(no_home)?;
                out.line(path.display())
            }
            Self::Schema => {
                let schema = serde_json::to_string_pretty(&File::schema()).unwrap_or_default();
                out.line(schema)
            }
            Self::Context(command) => command.run(out),
        }
    }
}

/// Why there is no configuration file.
fn no_home() -> Failure {
    Failure::usage("there is no home directory; set HOME or XDG_CONFIG_HOME")
}

/// One setting.
#[derive(Serialize)]
struct View {
    name: &'static str,
    value: Option<String>,
    source: String,
}

impl Show {
    fn rows(&self) -> Result<Vec<View>> {
        let file = File::load()?;
        let resolved = self.server.resolve()?;
        let listen = match file.serve.listen {
            Some(listen) => Setting::new(listen.to_string(), Source::File),
            None => Setting::new(DEFAULT_ADDRESS.to_owned(), Source::Default),
        };
        let data_dir = match file.broker.data_dir {
            Some(directory) => Setting::new(Some(directory), Source::File),
            None => Setting::new(settings::default_data_dir(), Source::Default),
        };
        let log = settings::environment("MESHLOG_LOG")
            .unwrap_or_else(|| Setting::new("info".into(), Source::Default));
        let row = |name, value: Option<String>, source: &Source| View {
            name,
            value,
            source: source.to_string(),
        };
        let color = match env::var_os("NO_COLOR") {
            Some(set) if !set.is_empty() => ("never", Source::Environment("NO_COLOR")),
            _ => ("auto", Source::Default),
        };
        let none = Setting::new(String::new(), Source::Default);
        let context = resolved.context.as_ref().unwrap_or(&none);
        let tls = resolved.tls_files.iter();
        let tls =
            tls.map(|(name, file)| row(name, Some(file.value.display().to_string()), &file.source));
        let key = resolved.key.iter();
        let key = key.map(|key| row("key_file", Some(key.value.shown()), &key.source));
        let credentials: Vec<View> = key.chain(tls).collect();
        let mut rows = vec![
            row(
                "context",
                Some(context.value.clone()).filter(|name| !name.is_empty()),
                &context.source,
            ),
            row("server", Some(resolved.server.value), &resolved.server.source),
            row("application", Some(resolved.application.value), &resolved.application.source),
            row("serve.listen", Some(listen.value), &listen.source),
            row(
                "broker.data_dir",
                data_dir.value.map(|directory| directory.display().to_string()),
                &data_dir.source,
            ),
            row("log", Some(log.value), &log.source),
            row("color", Some(color.0.into()), &color.1),
        ];
        // Behind `application`, those there are.
        rows.splice(3..3, credentials);
        Ok(rows)
    }
}

impl Row for View {
    const PLURAL: &'static str = "settings";
    const HEADER: &'static [&'static str] = &["SETTING", "VALUE", "FROM"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.into(),
            self.value.clone().unwrap_or_else(|| "-".into()),
            self.source.clone(),
        ]
    }
}
