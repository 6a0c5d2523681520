//! Everything the program prints goes through here: data on standard output, words for a person on
//! standard error. A reader of standard output that goes away ends the command without noise.

use std::io::{self, BufWriter, IsTerminal, Write};

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
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
    /// One JSON value a line.
    Jsonl,
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
}

impl Out {
    /// Standard output and standard error.
    pub(crate) fn new() -> Self {
        Self { stdout: BufWriter::with_capacity(64 << 10, io::stdout()), stderr: io::stderr() }
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
            Format::Table => {
                if rows.is_empty() {
                    self.note(format_args!("no {}", T::PLURAL));
                    return Ok(());
                }
                let mut table = plain_table();
                table.set_header(T::HEADER.iter().copied());
                table.add_rows(rows.iter().map(Row::cells));
                self.table(&mut table)
            }
            Format::Jsonl => rows.iter().try_for_each(|row| self.line(json(row)?)),
            Format::Json | Format::Yaml => self.document(format, &rows),
        }
    }

    /// One thing; as a table, its members one below the other.
    pub(crate) fn one<T: Serialize>(&mut self, format: Format, thing: &T) -> Result<()> {
        match format {
            Format::Table => {
                let mut table = plain_table();
                let Value::Object(members) = value(thing)? else {
                    return self.line(json(thing)?);
                };
                for (name, member) in members {
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
        }
    }

    fn document<T: Serialize + ?Sized>(&mut self, format: Format, thing: &T) -> Result<()> {
        let text = match format {
            Format::Yaml => serde_norway::to_string(&value(thing)?).map_err(unwritable)?,
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
        Value::Object(members) => {
            let text = |(name, value): (&String, &Value)| format!("{name}: {}", plain(value));
            vec![members.iter().map(text).collect::<Vec<_>>().join(", ")]
        }
        Value::String(text) => text.lines().map(str::to_owned).collect(),
        other => vec![plain(other)],
    };
    if lines.is_empty() { vec!["-".into()] } else { lines }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn value<T: Serialize + ?Sized>(thing: &T) -> Result<Value> {
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
