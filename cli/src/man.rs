//! `meshlog man`: one manual page per command.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;

use crate::{
    Cli,
    exit::{Exit, Failure, Result},
    output::Out,
    words,
};

/// Arguments of `man`.
#[derive(Debug, Args)]
pub(crate) struct Pages {
    /// Where to write the pages; created if it does not exist
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Pages {
    /// Runs the command.
    pub(crate) fn run(self, out: &mut Out) -> Result<()> {
        let mut command = Cli::command().disable_help_subcommand(true);
        command.build();
        let written = fs::create_dir_all(&self.directory)
            .and_then(|()| write(&command, &self.directory))
            .map_err(|error| {
                let directory = self.directory.display();
                Failure::new(Exit::Error, format!("{directory} cannot be written: {error}"))
            })?;
        out.note(format_args!(
            "{} written; read one with `man -l {}`",
            words::counted(written, "page"),
            self.directory.join("meshlog.1").display()
        ));
        Ok(())
    }
}

/// Writes the page of a command and of those below it.
fn write(command: &Command, directory: &Path) -> io::Result<u64> {
    // A built command knows what it is called from the top: `meshlog-product-create`.
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let mut page = Vec::new();
    render(command.clone(), &mut page)?;
    fs::write(directory.join(format!("{name}.1")), page)?;
    let mut written = 1;
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        written += write(below, directory)?;
    }
    Ok(written)
}

fn render(command: Command, page: &mut Vec<u8>) -> io::Result<()> {
    let examples = command.get_before_help().map(ToString::to_string);
    let has_commands = command.has_subcommands();
    let has_more = command.get_after_help().is_some();
    let man =
        Man::new(command).manual("Meshlog").source(concat!("meshlog ", env!("CARGO_PKG_VERSION")));
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    if let Some(examples) = examples {
        render_examples(&examples, page);
    }
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    if has_commands {
        man.render_subcommands_section(page)?;
    }
    if has_more {
        man.render_extra_section(page)?;
    }
    Ok(())
}

/// The examples as they stand in the help, line by line.
fn render_examples(examples: &str, page: &mut Vec<u8>) {
    page.extend_from_slice(b".SH EXAMPLES\n.nf\n");
    // The first line is the title.
    for line in examples.lines().skip(1) {
        let line = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
        // A line that begins with a dot would be a command of the formatter.
        let guard = if line.starts_with('.') { "\\&" } else { "" };
        page.extend_from_slice(format!("{guard}{line}\n").as_bytes());
    }
    page.extend_from_slice(b".fi\n");
}
