//! `meshlog config context`: brokers that have a name, kept in the configuration file.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;
use serde::Serialize;

use super::edit::Edit;
use crate::{
    completion,
    credential::KeyArgs,
    exit::{Exit, Failure, Result},
    output::{Out, OutputArgs, Row},
    settings::{self, Context, File, TlsArgs},
};

/// Brokers by name.
#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// Give a broker a name
    #[command(before_help = "Examples:
  meshlog config context add lab --server 127.0.0.1:7421 --use
  meshlog config context add night --server 127.0.0.1:7421 \\
    --application night-shift
  meshlog config context add prod --server broker.example:7420 \\
    --tls-ca ca.pem --key-file billing.key")]
    Add(Add),
    /// Choose the context that commands use unless told otherwise
    #[command(before_help = "Example:
  meshlog config context use lab")]
    Use(Use),
    /// List all contexts
    #[command(before_help = "Examples:
  meshlog config context list
  meshlog config context list -o name")]
    List(List),
    /// Show one context, or the one in use
    #[command(before_help = "Examples:
  meshlog config context show
  meshlog config context show lab -o json")]
    Show(Show),
    /// Forget a context
    #[command(before_help = "Example:
  meshlog config context remove lab")]
    Remove(Remove),
}

/// Arguments of `config context add`.
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// A name for it
    #[arg(value_parser = parse_name)]
    name: String,
    /// Address of the broker
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_address)]
    server: String,
    /// What commands shall call themselves there [default: meshlog-cli]
    #[arg(long, value_name = "NAME", value_parser = parse_application)]
    application: Option<String>,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    tls: TlsArgs,
    /// Use it from now on
    #[arg(long = "use")]
    chosen: bool,
    /// Replace a context of this name
    #[arg(long)]
    replace: bool,
}

/// Arguments of `config context use`.
#[derive(Debug, Args)]
pub(crate) struct Use {
    /// Name of the context
    #[arg(add = ArgValueCompleter::new(completion::contexts))]
    name: String,
}

/// Arguments of `config context list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `config context show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Name of the context [default: the one in use]
    #[arg(add = ArgValueCompleter::new(completion::contexts))]
    name: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `config context remove`.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// Name of the context
    #[arg(add = ArgValueCompleter::new(completion::contexts))]
    name: String,
}

impl ContextCommand {
    /// Runs the command.
    pub(super) fn run(self, out: &mut Out) -> Result<()> {
        match self {
            Self::Add(args) => add(args, out),
            Self::Use(args) => {
                let server = File::load()?.context(&args.name)?.server.clone();
                let mut edit = Edit::open()?;
                edit.use_context(Some(&args.name));
                edit.save()?;
                out.note(format_args!("commands now use {} ({server})", args.name));
                Ok(())
            }
            Self::List(args) => {
                let file = File::load()?;
                let current = current(&file);
                let views: Vec<_> = file
                    .context
                    .iter()
                    .map(|(name, context)| View::new(name, context, current.as_deref()))
                    .collect();
                out.list(args.output.output, &views)
            }
            Self::Show(args) => {
                let file = File::load()?;
                let current = current(&file);
                let Some(name) = args.name.as_ref().or(current.as_ref()) else {
                    return Err(Failure::new(
                        Exit::NotFound,
                        "no context is in use; choose one with `meshlog config context use NAME`",
                    ));
                };
                let context = file.context(name)?;
                out.one(args.output.output, &View::new(name, context, current.as_deref()))
            }
            Self::Remove(args) => {
                let file = File::load()?;
                file.context(&args.name)?;
                let mut edit = Edit::open()?;
                edit.remove_context(&args.name);
                let was_current = file.current_context.as_ref() == Some(&args.name);
                if was_current {
                    edit.use_context(None);
                }
                edit.save()?;
                out.note(format_args!(
                    "removed {}{}",
                    args.name,
                    if was_current { "; no context is in use now" } else { "" }
                ));
                Ok(())
            }
        }
    }
}

fn add(args: Add, out: &mut Out) -> Result<()> {
    let file = File::load()?;
    if file.context.contains_key(&args.name) && !args.replace {
        return Err(Failure::new(
            Exit::Conflict,
            format!(
                "a context is called `{}` already; choose another name, or add --replace",
                args.name
            ),
        ));
    }
    let context = Context {
        server: args.server,
        application: args.application,
        key_file: args.key.key_file.map(absolute).transpose()?,
        tls_ca: args.tls.tls_ca.map(absolute).transpose()?,
        tls_cert: args.tls.tls_cert.map(absolute).transpose()?,
        tls_key: args.tls.tls_key.map(absolute).transpose()?,
    };
    let mut edit = Edit::open()?;
    edit.put_context(&args.name, &context);
    if args.chosen {
        edit.use_context(Some(&args.name));
    }
    edit.save()?;
    let next = if args.chosen {
        "; commands now use it".into()
    } else if file.current_context.is_none() {
        format!("; `meshlog config context use {}` makes commands use it", args.name)
    } else {
        String::new()
    };
    out.note(format_args!("added {} ({}){next}", args.name, context.server));
    Ok(())
}

/// A context is used from any directory.
fn absolute(file: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&file)
        .map_err(|error| Failure::usage(format!("{} cannot be named: {error}", file.display())))
}

/// The context in use: the environment may choose another one than the file.
fn current(file: &File) -> Option<String> {
    let chosen = settings::environment("MESHLOG_CONTEXT").map(|setting| setting.value);
    chosen.or_else(|| file.current_context.clone())
}

fn parse_name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.is_empty() || text.len() > 63 || text.starts_with('-') || !text.chars().all(fits) {
        return Err("a name has at most 63 letters, digits, `.`, `_` and `-`".into());
    }
    Ok(text.to_owned())
}

fn parse_address(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(text.into()),
        _ => {
            Err("write it as HOST:PORT, for instance 127.0.0.1:7420 or https://broker.example:7420"
                .into())
        }
    }
}

fn parse_application(text: &str) -> Result<String, String> {
    if text.is_empty() || !text.chars().all(|c| c.is_ascii_graphic()) {
        return Err("a name of an application is printable ASCII without spaces".into());
    }
    Ok(text.to_owned())
}

/// A context as the program shows it.
#[derive(Serialize)]
struct View {
    name: String,
    server: String,
    application: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_ca: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_cert: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_key: Option<PathBuf>,
    current: bool,
}

impl View {
    fn new(name: &str, context: &Context, current: Option<&str>) -> Self {
        Self {
            name: name.to_owned(),
            server: context.server.clone(),
            application: context.application.clone(),
            key_file: context.key_file.clone(),
            tls_ca: context.tls_ca.clone(),
            tls_cert: context.tls_cert.clone(),
            tls_key: context.tls_key.clone(),
            current: current == Some(name),
        }
    }
}

impl Row for View {
    const PLURAL: &'static str = "contexts";
    const HEADER: &'static [&'static str] = &["NAME", "SERVER", "IN USE"];
    const WIDE: &'static [&'static str] = &["APPLICATION"];

    fn cells(&self) -> Vec<String> {
        let current = if self.current { "yes" } else { "" };
        vec![self.name.clone(), self.server.clone(), current.into()]
    }

    fn wide_cells(&self) -> Vec<String> {
        vec![self.application.clone().unwrap_or_else(|| "-".into())]
    }
}
