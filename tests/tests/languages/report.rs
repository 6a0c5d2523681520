//! The table at the end.

use std::fmt;
use std::time::Duration;

use crate::language::Language;
use crate::plugin;
use crate::scenarios::Scenario;

/// How one thing went.
#[derive(Clone)]
pub(crate) enum Cell {
    Ok,
    Failed(String),
    Skipped(String),
}

impl Cell {
    pub(crate) fn of(outcome: Result<(), String>) -> Self {
        outcome.map_or_else(Self::Failed, |()| Self::Ok)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Ok => "ok",
            Self::Failed(_) => "FAILED",
            Self::Skipped(_) => "SKIPPED",
        })
    }
}

/// The row of the pages in `docs/clients`.
const PAGE: &str = "its page in docs/clients prints the example, and its commands run";

/// Scenarios down, languages across; below that, single checks.
pub(crate) struct Report {
    rows: Vec<String>,
    columns: Vec<&'static str>,
    /// By row, then column; empty until it is known.
    cells: Vec<Vec<Option<Cell>>>,
    checks: Vec<(String, Option<Cell>)>,
    took: Option<(Duration, Duration)>,
}

impl Report {
    pub(crate) fn new(
        scenarios: &[Scenario],
        languages: &[&'static Language],
        with_plugin: bool,
    ) -> Self {
        let names = scenarios.iter().map(|scenario| scenario.name.clone());
        let rows: Vec<_> = names.chain([PAGE.to_owned()]).collect();
        let columns: Vec<_> = languages.iter().map(|language| language.name).collect();
        let checks = with_plugin.then(|| (format!("{} passes its own tests", plugin::NAME), None));
        Self {
            cells: vec![vec![None; columns.len()]; rows.len()],
            rows,
            columns,
            checks: checks.into_iter().collect(),
            took: None,
        }
    }

    /// The whole column: it could not even be built.
    pub(crate) fn whole_language(&mut self, language: &str, cell: &Cell) {
        for row in 0..self.rows.len() {
            self.set(row, language, cell.clone());
        }
    }

    pub(crate) fn scenarios(&mut self, language: &str, cells: Vec<Cell>) {
        for (row, cell) in cells.into_iter().enumerate() {
            self.set(row, language, cell);
        }
    }

    pub(crate) fn page(&mut self, language: &str, cell: Cell) {
        self.set(self.rows.len() - 1, language, cell);
    }

    pub(crate) fn plugin(&mut self, cell: Cell) {
        if let Some(check) = self.checks.first_mut() {
            check.1 = Some(cell);
        }
    }

    pub(crate) fn check(&mut self, what: &str, cell: Cell) {
        self.checks.push((what.to_owned(), Some(cell)));
    }

    pub(crate) fn took(&mut self, preparing: Duration, all: Duration) {
        self.took = Some((preparing, all));
    }

    /// Whether nothing failed and nothing is unknown.
    pub(crate) fn is_good(&self) -> bool {
        self.all().all(|(_, cell)| matches!(cell, Some(Cell::Ok | Cell::Skipped(_))))
    }

    fn set(&mut self, row: usize, language: &str, cell: Cell) {
        if let Some(column) = self.columns.iter().position(|column| *column == language) {
            self.cells[row][column] = Some(cell);
        }
    }

    /// Every cell and what it is about, language by language.
    fn all(&self) -> impl Iterator<Item = (String, Option<&Cell>)> {
        let columns = self.columns.iter().enumerate();
        let table = columns.flat_map(move |(column, language)| {
            let rows = self.rows.iter().zip(&self.cells);
            rows.map(move |(row, cells)| (format!("{language}: {row}"), cells[column].as_ref()))
        });
        table.chain(self.checks.iter().map(|(what, cell)| (what.clone(), cell.as_ref())))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(String::len).max().unwrap_or_default();
        if !self.columns.is_empty() {
            write!(out, "{:width$}", "")?;
            self.columns.iter().try_for_each(|column| write!(out, "  {column:>10}"))?;
            writeln!(out)?;
            for (row, cells) in self.rows.iter().zip(&self.cells) {
                write!(out, "{row:width$}")?;
                for cell in cells {
                    let cell = cell.as_ref().map_or_else(|| "-".to_owned(), Cell::to_string);
                    write!(out, "  {cell:>10}")?;
                }
                writeln!(out)?;
            }
        }
        for (what, cell) in &self.checks {
            let cell = cell.as_ref().map_or_else(|| "-".to_owned(), Cell::to_string);
            writeln!(out, "{what:width$}  {cell:>10}")?;
        }
        // A language that could not be built says why once, not once per scenario.
        let mut said = Vec::new();
        for (what, cell) in self.all() {
            let (word, why) = match cell {
                Some(Cell::Ok) => continue,
                Some(Cell::Failed(why)) => ("FAILED", why.as_str()),
                Some(Cell::Skipped(why)) => ("SKIPPED", why.as_str()),
                None => ("FAILED", "it was not reached"),
            };
            if !said.contains(&why) {
                said.push(why);
                writeln!(out, "\n{word} {what}\n{why}")?;
            }
        }
        let count = |word: &str| {
            self.all()
                .filter(|(_, cell)| cell.map_or(word == "FAILED", |cell| cell.to_string() == word))
                .count()
        };
        write!(
            out,
            "\n{} passed, {} failed, {} skipped",
            count("ok"),
            count("FAILED"),
            count("SKIPPED")
        )?;
        match self.took {
            Some((preparing, all)) => write!(
                out,
                " ({:.0} s, {:.0} s of them preparing)",
                all.as_secs_f32(),
                preparing.as_secs_f32()
            ),
            None => Ok(()),
        }
    }
}
