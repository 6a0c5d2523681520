//! Everything the program prints goes through here: data on standard output, words for a person on
//! standard error. A reader of standard output that goes away ends the command without noise.

use std::{
    env,
    io::{self, BufWriter, IsTerminal, Write},
};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::Value;

use crate::exit::{Exit, Failure, Result};

/// How a read command writes its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For people, with everything that is known.
    Wide,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
    /// One JSON value a line.
    Jsonl,
    /// Only names, one a line.
    Name,
}

impl Format {
    /// Whether a person reads it.
    pub(crate) fn is_for_people(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }
}

/// The choice of format, for every command that answers with data.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct OutputArgs {
    /// How to write the answer
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
}

/// The process's two output streams.
pub(crate) struct Out {
    stdout: BufWriter<io::Stdout>,
    stderr: io::Stderr,
    coloured: bool,
}

impl Out {
    /// Standard output and standard error.
    pub(crate) fn new(colour: Colour) -> Self {
        Self {
            stdout: BufWriter::with_capacity(64 << 10, io::stdout()),
            stderr: io::stderr(),
            coloured: colour.wanted(&io::stdout()),
        }
    }

    /// A line of data in a colour, if there shall be any.
    pub(crate) fn paint(&mut self, paint: Paint, text: &str) -> Result<()> {
        if self.coloured {
            self.line(format_args!("\u{1b}[{}m{text}\u{1b}[0m", paint as u8))
        } else {
            self.line(text)
        }
    }

    /// Data, as it is. Reaches the reader with the next [`Out::flush`] at the latest.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.stdout.write_all(bytes).map_err(closed)
    }

    /// A line of data.
    pub(crate) fn line(&mut self, text: impl std::fmt::Display) -> Result<()> {
        writeln!(self.stdout, "{text}").map_err(closed)
    }

    /// Hands over everything written so far.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.stdout.flush().map_err(closed)
    }

    /// Words for a person, on standard error. Nobody listening is no reason to stop.
    pub(crate) fn note(&mut self, text: impl std::fmt::Display) {
        let _ = self.stdout.flush();
        let _ = writeln!(self.stderr, "{text}");
    }

    /// A list of things of one kind.
    pub(crate) fn list<T: Serialize + Row>(&mut self, format: Format, rows: &[T]) -> Result<()> {
        match format {
            Format::Table | Format::Wide if rows.is_empty() => {
                self.note(format_args!("no {}", T::PLURAL));
                Ok(())
            }
            Format::Table => {
                let mut table = plain_table();
                table.set_header(T::HEADER.iter().copied());
                table.add_rows(rows.iter().map(Row::cells));
                self.table(&mut table)
            }
            Format::Wide => {
                let mut table = plain_table();
                table.set_header(T::HEADER.iter().chain(T::WIDE).copied());
                table.add_rows(rows.iter().map(|row| [row.cells(), row.wide_cells()].concat()));
                self.table(&mut table)
            }
            Format::Jsonl => rows.iter().try_for_each(|row| self.line(json(row)?)),
            Format::Name => rows.iter().try_for_each(|row| self.line(row.name())),
            Format::Json | Format::Yaml => self.document(format, &rows),
        }
    }

    /// One thing; as a table, its members one below the other: in the wide one also those that say
    /// nothing.
    pub(crate) fn one<T: Serialize>(&mut self, format: Format, thing: &T) -> Result<()> {
        match format {
            Format::Table | Format::Wide => {
                let mut table = plain_table();
                let Value::Object(members) = value(thing)? else {
                    return self.line(json(thing)?);
                };
                let says_something =
                    |(_, member): &(String, Value)| format == Format::Wide || !is_empty(member);
                for (name, member) in members.into_iter().filter(says_something) {
                    for (n, line) in member_lines(&member).into_iter().enumerate() {
                        table.add_row([
                            if n == 0 { name.replace('_', " ") } else { String::new() },
                            line,
                        ]);
                    }
                }
                self.table(&mut table)
            }
            Format::Jsonl => self.line(json(thing)?),
            Format::Json | Format::Yaml => self.document(format, thing),
            Format::Name => match value(thing)? {
                Value::Object(members) => {
                    let name = members.get("name").or_else(|| members.values().next());
                    self.line(name.map(plain).unwrap_or_default())
                }
                other => self.line(plain(&other)),
            },
        }
    }

    fn document<T: Serialize + ?Sized>(&mut self, format: Format, thing: &T) -> Result<()> {
        let text = match format {
            Format::Yaml => serde_saphyr::to_string(&value(thing)?).map_err(unwritable)?,
            _ => serde_json::to_string_pretty(thing).map_err(unwritable)?,
        };
        self.line(text.trim_end())
    }

    fn table(&mut self, table: &mut comfy_table::Table) -> Result<()> {
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        for line in table.lines() {
            self.line(line.trim_end())?;
        }
        Ok(())
    }
}

/// A thing that can stand in a table with others of its kind.
pub(crate) trait Row {
    /// What several of them are called.
    const PLURAL: &'static str;
    /// The column titles.
    const HEADER: &'static [&'static str];
    /// One text per column.
    fn cells(&self) -> Vec<String>;

    /// The titles of the columns that only the wide table has.
    const WIDE: &'static [&'static str] = &[];
    /// One text per column that only the wide table has.
    fn wide_cells(&self) -> Vec<String> {
        Vec::new()
    }
    /// What a command would call it.
    fn name(&self) -> String {
        self.cells().into_iter().next().unwrap_or_default()
    }
}

/// Where colour is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal, unless `NO_COLOR` is set
    #[default]
    Auto,
    /// Everywhere
    Always,
    /// Nowhere
    Never,
}

impl Colour {
    /// What the command line says, read before it is parsed: what the parser writes has colours too.
    pub(crate) fn of_args() -> Self {
        let args: Vec<_> = env::args_os().skip(1).take_while(|arg| arg != "--").collect();
        let flag = args.iter().enumerate().rev().find_map(|(n, arg)| {
            let arg = arg.to_str()?;
            match arg.strip_prefix("--color=") {
                Some(value) => Some(value),
                None if arg == "--color" => args.get(n + 1)?.to_str(),
                None => None,
            }
        });
        flag.and_then(|value| Self::from_str(value, true).ok()).unwrap_or_default()
    }

    /// Whether a stream gets colour.
    pub(crate) fn wanted(self, stream: &impl IsTerminal) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                let is = |name, value: &str| env::var_os(name).is_some_and(|found| found == value);
                let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                stream.is_terminal() && !no_color && !is("TERM", "dumb")
            }
        }
    }
}

/// The colours there are, as the terminal numbers them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Paint {
    /// Something goes.
    Red = 31,
    /// Something comes.
    Green = 32,
    /// Something is different.
    Yellow = 33,
}

/// Words for a person about the command itself, where no [`Out`] is at hand.
pub(crate) fn warn(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Whether standard error is a terminal, so that progress may be drawn there.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Columns of a table: two spaces between them, no lines.
fn plain_table() -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    // Text that a pipe receives must not depend on a window's width.
    table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    table
}

fn member_lines(member: &Value) -> Vec<String> {
    let lines = match member {
        Value::Array(items) => items.iter().flat_map(member_lines).collect(),
        Value::Object(_) => vec![plain(member)],
        Value::String(text) => text.lines().map(str::to_owned).collect(),
        other => vec![plain(other)],
    };
    if lines.is_empty() { vec!["-".into()] } else { lines }
}

/// Whether a value says nothing.
pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A value on one line, without quotes.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        Value::Object(members) => {
            let said = members.iter().filter(|(_, value)| !is_empty(value));
            let text = |(name, value): (&String, &Value)| format!("{name}: {}", plain(value));
            said.map(text).collect::<Vec<_>>().join(", ")
        }
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// A thing as a JSON value.
pub(crate) fn value<T: Serialize + ?Sized>(thing: &T) -> Result<Value> {
    serde_json::to_value(thing).map_err(unwritable)
}

fn json<T: Serialize + ?Sized>(thing: &T) -> Result<String> {
    serde_json::to_string(thing).map_err(unwritable)
}

fn unwritable(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Error, format!("the answer cannot be written: {error}"))
}

fn closed(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::quiet(Exit::BrokenPipe),
        _ => Failure::new(Exit::Error, format!("standard output cannot be written: {error}")),
    }
}
