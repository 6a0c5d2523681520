//! What team, domain and tag key have in common: things of the catalogue that a name is enough to
//! list, show and delete. What is particular to each, creating and updating, stands in its own file.

use std::{ffi::OsStr, fmt::Debug, marker::PhantomData};

use clap::Args;
use clap_complete::{ArgValueCompleter, CompletionCandidate};
use meshlog_client::Catalog;
use serde::Serialize;

use crate::{
    change::{Change, ChangeArgs},
    confirm::ConfirmArgs,
    exit::Result,
    output::{Out, OutputArgs, Row},
    settings::ServerArgs,
};

/// A kind of thing that has a name in the catalogue.
pub(crate) trait Noun: Clone + Debug + Send + Sync + 'static {
    /// One of them, as the program shows it.
    type View: Serialize + Row;

    /// What one is called.
    const WORD: &'static str;

    /// All of them.
    async fn list(catalog: &Catalog) -> Result<Vec<Self::View>>;
    /// One of them.
    async fn find(catalog: &Catalog, name: &str) -> Result<Self::View>;
    /// Deletes one that still has this etag.
    async fn delete(catalog: &Catalog, name: &str, etag: String, dry_run: bool) -> Result<()>;
    /// The etag of what was found.
    fn etag(view: &Self::View) -> &str;
    /// Names for the shell.
    fn complete(word: &OsStr) -> Vec<CompletionCandidate>;
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl List {
    /// Runs the command.
    pub(crate) async fn run<N: Noun>(self, out: &mut Out) -> Result<()> {
        let catalog = self.server.connect().await?.catalog();
        out.list(self.output.output, &N::list(&catalog).await?)
    }
}

/// Arguments of `show`.
#[derive(Debug, Args)]
pub(crate) struct Show<N: Noun> {
    /// Its name
    #[arg(add = ArgValueCompleter::new(N::complete))]
    name: String,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[arg(skip)]
    noun: PhantomData<N>,
}

impl<N: Noun> Show<N> {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        let catalog = self.server.connect().await?.catalog();
        out.one(self.output.output, &N::find(&catalog, &self.name).await?)
    }
}

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub(crate) struct Delete<N: Noun> {
    /// Its name
    #[arg(add = ArgValueCompleter::new(N::complete))]
    name: String,
    #[command(flatten)]
    confirm: ConfirmArgs,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[arg(skip)]
    noun: PhantomData<N>,
}

impl<N: Noun> Delete<N> {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        let catalog = self.server.connect().await?.catalog();
        let found = N::find(&catalog, &self.name).await?;
        let etag = self.change.etag(N::etag(&found));
        if self.change.dry_run {
            N::delete(&catalog, &self.name, etag, true).await?;
            let change = Change { dry_run: true, before: Some(&found), after: None };
            return change.show(crate::output::Format::Table, out);
        }
        let question = format!("Delete the {} {}?", N::WORD, self.name);
        self.confirm.ask(&question, "nothing was deleted")?;
        N::delete(&catalog, &self.name, etag, false).await?;
        out.note(format_args!("deleted {}", self.name));
        Ok(())
    }
}
