//! `meshlog completion`, and what the shell offers while a person types: names that the broker
//! knows, asked of it at that moment.
//!
//! ```text
//!  TAB ─► COMPLETE=bash meshlog -- meshlog product show ops.⟨TAB⟩ ─► ListProducts ─► ops.flights
//! ```
//!
//! A shell waits for the answer, so the broker gets [`PATIENCE`] and no more; whatever goes wrong is
//! silence, because nobody wants an error message in the middle of a command line.

use std::{ffi::OsStr, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use clap_complete::{CompletionCandidate, env::Shells};
use meshlog_client::{Catalog, Client, proto};

use crate::{
    credential::KeyArgs,
    exit::{Exit, Failure, Result},
    output::Out,
    settings::{File, ServerArgs, TlsArgs},
};

/// How long a shell waits for names at most.
const PATIENCE: Duration = Duration::from_millis(300);

/// The variable by which a shell asks (see [`clap_complete::CompleteEnv`]).
const VARIABLE: &str = "COMPLETE";

/// Arguments of `completion`.
#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// The shell
    shell: Shell,
}

/// Shells that can ask for completions.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
}

impl Completion {
    /// Runs the command.
    pub(crate) fn run(self, out: &mut Out) -> Result<()> {
        let name = self.shell.to_possible_value();
        let shells = Shells::builtins();
        let shell = name.as_ref().and_then(|name| shells.completer(name.get_name()));
        let shell = shell.ok_or_else(|| Failure::new(Exit::Error, "this shell is not known"))?;
        let mut script = Vec::new();
        shell
            .write_registration(VARIABLE, "meshlog", "meshlog", "meshlog", &mut script)
            .map_err(|error| Failure::new(Exit::Error, format!("no script: {error}")))?;
        out.data(&script)
    }
}

/// Names of products; of one domain once that is written.
pub(crate) fn products(word: &OsStr) -> Vec<CompletionCandidate> {
    let domain = word.to_str().and_then(|word| word.split_once('.')).map(|(domain, _)| domain);
    let domain = domain.unwrap_or_default().to_owned();
    ask(word, async move |catalog| {
        let products = catalog.list_products(domain).await?;
        Ok(products.into_iter().map(|product| (product.name, product.description)).collect())
    })
}

/// Names of domains.
pub(crate) fn domains(word: &OsStr) -> Vec<CompletionCandidate> {
    ask(word, async |catalog| {
        let domains = catalog.list_domains().await?;
        Ok(domains.into_iter().map(|domain| (domain.name, domain.description)).collect())
    })
}

/// Names of teams.
pub(crate) fn teams(word: &OsStr) -> Vec<CompletionCandidate> {
    ask(word, async |catalog| {
        let teams = catalog.list_teams().await?;
        Ok(teams.into_iter().map(|team| (team.name, team.description)).collect())
    })
}

/// Keys of the tag vocabulary.
pub(crate) fn tag_keys(word: &OsStr) -> Vec<CompletionCandidate> {
    ask(word, async |catalog| {
        let keys = catalog.list_tag_keys().await?;
        Ok(keys.into_iter().map(|key| (key.name, key.description)).collect())
    })
}

/// Names of cursors.
pub(crate) fn cursors(word: &OsStr) -> Vec<CompletionCandidate> {
    ask(word, async |catalog| {
        let cursors = catalog.list_cursors("", "").await?;
        Ok(cursors.into_iter().map(|cursor| (cursor.name, cursor.product)).collect())
    })
}

/// Versions of the schema of the product on the command line.
pub(crate) fn schema_versions(word: &OsStr) -> Vec<CompletionCandidate> {
    let product = words().into_iter().find(|word| word.contains('.') && !word.starts_with('-'));
    let Some(product) = product else { return Vec::new() };
    ask(word, async move |catalog| {
        let versions = catalog.list_schema_versions(product).await?;
        Ok(versions.into_iter().map(|version| (version.version.to_string(), "".into())).collect())
    })
}

/// Fields of the product on the command line.
pub(crate) fn fields(word: &OsStr) -> Vec<CompletionCandidate> {
    let product = words().into_iter().find(|word| word.contains('.') && !word.starts_with('-'));
    let Some(product) = product else { return Vec::new() };
    ask(word, async move |catalog| {
        let fields = catalog.get_schema_version(product, 0).await?.fields;
        Ok(fields.into_iter().map(|field| (field.path, field.docs)).collect())
    })
}

/// Ids of keys.
pub(crate) fn keys(word: &OsStr) -> Vec<CompletionCandidate> {
    ask_broker(word, async |client| {
        let keys = client.governance().list_keys(proto::ListKeysRequest::default()).await?;
        let about = |key: &proto::ApiKey| match (key.admin, key.application.as_str()) {
            (true, _) => format!("{} (administrator)", key.team),
            (false, application) => format!("{} {application}", key.team),
        };
        Ok(keys.into_iter().map(|key| (key.id.clone(), about(&key))).collect())
    })
}

/// Ids of requests for access that wait.
pub(crate) fn access_requests(word: &OsStr) -> Vec<CompletionCandidate> {
    ask_broker(word, async |client| {
        let request = proto::ListAccessRequestsRequest::default();
        let requests = client.governance().list_access_requests(request).await?;
        let named = |one: proto::AccessRequest| {
            (one.id, format!("{} for {}: {}", one.product, one.team, one.purpose))
        };
        Ok(requests.into_iter().map(named).collect())
    })
}

/// Ids of grants.
pub(crate) fn grants(word: &OsStr) -> Vec<CompletionCandidate> {
    ask_broker(word, async |client| {
        let grants = client.governance().list_grants(proto::ListGrantsRequest::default()).await?;
        Ok(grants
            .into_iter()
            .map(|one| (one.id, format!("{}: {}", one.team, one.purpose)))
            .collect())
    })
}

/// Contexts of the configuration file.
pub(crate) fn contexts(word: &OsStr) -> Vec<CompletionCandidate> {
    let contexts = File::load().map(|file| file.context).unwrap_or_default();
    candidates(word, contexts.into_iter().map(|(name, context)| (name, context.server)).collect())
}

/// A name and what it is.
type Named = (String, String);

/// Asks the broker that the command would talk to.
fn ask<F>(word: &OsStr, names: F) -> Vec<CompletionCandidate>
where
    F: AsyncFnOnce(Catalog) -> Result<Vec<Named>>,
{
    ask_broker(word, async move |client: Client| names(client.catalog()).await)
}

fn ask_broker<F>(word: &OsStr, names: F) -> Vec<CompletionCandidate>
where
    F: AsyncFnOnce(Client) -> Result<Vec<Named>>,
{
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let found = runtime.block_on(async {
        let asking = async { names(server().connect_silently().await?).await };
        tokio::time::timeout(PATIENCE, asking).await
    });
    // A name that is still being looked up must not hold the shell.
    runtime.shutdown_background();
    match found {
        Ok(Ok(names)) => candidates(word, names),
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

fn candidates(word: &OsStr, names: Vec<Named>) -> Vec<CompletionCandidate> {
    let word = word.to_string_lossy();
    let mut names: Vec<_> =
        names.into_iter().filter(|(name, _)| name.starts_with(word.as_ref())).collect();
    names.dedup_by(|one, other| one.0 == other.0);
    let candidate = |(name, about): Named| {
        let about = Some(about.trim()).filter(|about| !about.is_empty());
        CompletionCandidate::new(name).help(about.map(|about| about.to_owned().into()))
    };
    names.into_iter().map(candidate).collect()
}

/// The words of the command line that is being completed.
fn words() -> Vec<String> {
    let words = std::env::args_os().skip_while(|word| word != "--").skip(2);
    words.map(|word| word.to_string_lossy().into_owned()).collect()
}

/// The broker that the command line names so far.
fn server() -> ServerArgs {
    let words = words();
    let flag = |name: &str| {
        let with_value = format!("{name}=");
        words.iter().enumerate().find_map(|(n, word)| match word.strip_prefix(&with_value) {
            Some(value) => Some(value.to_owned()),
            None if word == name => words.get(n + 1).cloned(),
            None => None,
        })
    };
    let file = |name| flag(name).map(PathBuf::from);
    let tls = TlsArgs {
        tls_ca: file("--tls-ca"),
        tls_cert: file("--tls-cert"),
        tls_key: file("--tls-key"),
    };
    ServerArgs {
        server: flag("--server"),
        context: flag("--context"),
        application: None,
        key: KeyArgs { key_file: file("--key-file") },
        insecure_send_key: words.iter().any(|word| word == "--insecure-send-key"),
        tls,
    }
}
