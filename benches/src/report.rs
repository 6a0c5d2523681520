//! What a series prints: the machine in general terms, then a table or JSON.

use std::{fmt, io, path::Path};

use clap::ValueEnum;
use serde::Serialize;

use crate::rounds::Noise;

/// How to print a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Markdown tables, readable as they are.
    #[default]
    Table,
    /// One JSON document with every figure's range.
    Json,
}

/// Lowest, median and highest value of one figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The lowest value.
    pub min: f64,
    /// The middle value; the mean of the middle two when their number is even.
    pub median: f64,
    /// The highest value.
    pub max: f64,
}

impl Spread {
    /// The spread of some values; all zero when there are none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (values.first(), values.last()) else {
            return Self { min: 0.0, median: 0.0, max: 0.0 };
        };
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Self { min, median, max }
    }
}

impl fmt::Display for Spread {
    /// `median (min–max)`, with as many decimals as the median deserves.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = match self.median {
            m if m >= 100.0 => 0,
            m if m >= 10.0 => 1,
            _ => 2,
        };
        let Self { min, median, max } = self;
        write!(f, "{median:.decimals$} ({min:.decimals$}–{max:.decimals$})")
    }
}

/// One row: what was measured, and its figures in the order of the table's columns.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// One label for each label column.
    pub case: Vec<String>,
    /// One spread for each figure column.
    pub figures: Vec<Spread>,
}

/// A table of cases.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// What the table answers.
    pub title: &'static str,
    /// Names of the label columns.
    pub labels: Vec<&'static str>,
    /// Names of the figure columns, with their units.
    pub figures: Vec<&'static str>,
    /// The cases, in the order they were given.
    pub rows: Vec<Row>,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## {}\n", self.title)?;
        let head: Vec<String> =
            self.labels.iter().chain(&self.figures).map(|&name| name.to_owned()).collect();
        let mut lines = vec![head];
        for row in &self.rows {
            let figures = row.figures.iter().map(Spread::to_string);
            lines.push(row.case.iter().cloned().chain(figures).collect());
        }
        let widths: Vec<usize> = (0..lines[0].len())
            .map(|at| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0))
            .collect();
        for (number, line) in lines.iter().enumerate() {
            for (cell, &width) in line.iter().zip(&widths) {
                write!(f, "| {cell:<width$} ")?;
            }
            writeln!(f, "|")?;
            if number == 0 {
                for &width in &widths {
                    write!(f, "|{:-<1$}", "", width + 2)?;
                }
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}

/// The machine in general terms: nothing that names it.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Cores this process may use.
    pub cores: usize,
    /// Kernel version, major and minor.
    pub kernel: String,
    /// File system measured, where a series uses one.
    pub file_system: Option<&'static str>,
}

impl Machine {
    /// Describes this machine and, where given, the file system that holds `dir`.
    ///
    /// # Errors
    /// When the directory cannot be examined.
    pub fn describe(dir: Option<&Path>) -> io::Result<Self> {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let kernel = release.split('.').take(2).collect::<Vec<_>>().join(".");
        let file_system = dir.map(file_system).transpose()?;
        let cores = std::thread::available_parallelism()?.get();
        Ok(Self { cores, kernel, file_system })
    }
}

fn file_system(dir: &Path) -> io::Result<&'static str> {
    Ok(match rustix::fs::statfs(dir)?.f_type {
        0xEF53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683E => "btrfs",
        0x0102_1994 => "tmpfs (memory: nothing here is durable)",
        0x794C_7630 => "overlayfs",
        _ => "other",
    })
}

/// Everything one program prints.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where it was measured.
    pub machine: Machine,
    /// Interleaved rounds behind each figure.
    pub rounds: usize,
    /// What else the machine did.
    pub noise: Noise,
    /// The series.
    pub tables: Vec<Table>,
}

impl Report {
    /// The report as text in a format.
    ///
    /// # Errors
    /// When a figure has no JSON form (not a number).
    pub fn render(&self, format: Format) -> io::Result<String> {
        Ok(match format {
            Format::Json => serde_json::to_string_pretty(self)?,
            Format::Table => self.to_string(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { cores, kernel, file_system } = &self.machine;
        let Noise { other_cores, noisy_share } = self.noise;
        write!(f, "{cores} cores, Linux {kernel}")?;
        if let Some(file_system) = file_system {
            write!(f, ", {file_system}")?;
        }
        writeln!(f, ". Median (lowest–highest) of {} interleaved rounds.", self.rounds)?;
        let noisy = noisy_share * 100.0;
        writeln!(
            f,
            "Other work kept {other_cores:.2} cores busy; {noisy:.0} % of the samples had more than asked for."
        )?;
        for table in &self.tables {
            write!(f, "\n{table}")?;
        }
        Ok(())
    }
}

/// A size as people write it: `64 KiB`.
#[must_use]
pub fn size(bytes: usize) -> String {
    match bytes {
        b if b >= 1 << 20 && b.is_multiple_of(1 << 20) => format!("{} MiB", b >> 20),
        b if b >= 1 << 10 && b.is_multiple_of(1 << 10) => format!("{} KiB", b >> 10),
        b => format!("{b} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { min: 1.0, median: 2.0, max: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).median, 2.5);
    }

    #[test]
    fn a_table_prints_as_markdown() {
        let table = Table {
            title: "Sizes",
            labels: vec!["size"],
            figures: vec!["GB/s"],
            rows: vec![Row { case: vec![size(65536)], figures: vec![Spread::of([1.5])] }],
        };
        assert_eq!(
            table.to_string(),
            "## Sizes\n\n\
             | size   | GB/s             |\n\
             |--------|------------------|\n\
             | 64 KiB | 1.50 (1.50–1.50) |\n"
        );
    }
}
