//! Asking before something goes for good.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::exit::{Exit, Failure, Result};

/// For commands that ask before they act.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct ConfirmArgs {
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

impl ConfirmArgs {
    /// Asks on the terminal; without one, the flag must answer. `undone` says what has not happened
    /// if the answer is no.
    pub(crate) fn ask(self, question: &str, undone: &str) -> Result<()> {
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::usage(format!(
                "{question} Nobody is at the terminal to confirm; add --yes to do it"
            )));
        }
        let mut stderr = io::stderr();
        let _ = write!(stderr, "{question} [y/N] ");
        let _ = stderr.flush();
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        match answer.trim() {
            "y" | "Y" | "yes" if read.is_ok() => Ok(()),
            _ => Err(Failure::new(Exit::Error, undone)),
        }
    }
}
