//! Printing: to stdout for programs and pipes, in one of two forms.
//!
//! Owns stdout, the form (`-o`), the alignment of tables, and what becomes of errors. Must not know what is printed. A reader
//! that has gone away (`plimsoll consume logs | head`) ends the command quietly.

use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write};

use clap::ValueEnum;
use serde::Serialize;

/// Bytes gathered before a write to stdout.
const BUFFER_BYTES: usize = 64 * 1024;

/// Form of what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Human,
    /// For programs: JSON, a document or one object a line.
    Json,
}

/// How a command ends when not well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It failed; the message says why.
    Message(String),
    /// It failed, and has said so already.
    Reported,
    /// Nobody reads the output any more. Not an error.
    OutputClosed,
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Message(error.to_string())
    }
}

impl Failure {
    /// What went wrong while doing something, in that order.
    pub(crate) fn doing(what: impl Display) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Message(format!("{what}: {error}"))
    }
}

/// Buffered stdout.
pub(crate) struct Out {
    stdout: BufWriter<StdoutLock<'static>>,
}

impl Out {
    pub(crate) fn new() -> Self {
        let stdout = BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock());
        Self { stdout }
    }

    /// One line of bytes as they are.
    pub(crate) fn line(&mut self, line: impl AsRef<[u8]>) -> Result<(), Failure> {
        let written = self.stdout.write_all(line.as_ref());
        written
            .and_then(|()| self.stdout.write_all(b"\n"))
            .map_err(stdout_failed)
    }

    /// One value as JSON on a line of its own.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        match serde_json::to_writer(&mut self.stdout, value) {
            Ok(()) => self.stdout.write_all(b"\n").map_err(stdout_failed),
            Err(error) => Err(stdout_failed(error.into())),
        }
    }

    /// Makes everything so far visible to the reader.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.stdout.flush().map_err(stdout_failed)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "map_err hands it over")]
fn stdout_failed(error: io::Error) -> Failure {
    if error.kind() == ErrorKind::BrokenPipe {
        return Failure::OutputClosed;
    }
    Failure::Message(format!("cannot write to stdout: {error}"))
}

/// A number, or a dash where there is none.
pub(crate) fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Rows under headings. Columns of numbers are aligned to the right.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headings: &[&str]) -> Self {
        let headings = headings.iter().map(|text| (*text).to_owned()).collect();
        Self {
            rows: vec![headings],
        }
    }

    /// Adds a row, which has as many cells as there are headings.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.rows[0].len(), "a cell for each heading");
        self.rows.push(cells);
    }

    pub(crate) fn print(&self, out: &mut Out) -> Result<(), Failure> {
        self.lines().iter().try_for_each(|line| out.line(line))
    }

    fn lines(&self) -> Vec<String> {
        let columns = self.rows[0].len();
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or_default()
        };
        let numeric = |column: usize| {
            let mut cells = self.rows[1..].iter().map(|row| row[column].as_str());
            cells.all(|cell| cell == "-" || cell.parse::<f64>().is_ok())
        };
        let shape: Vec<(usize, bool)> = (0..columns).map(|c| (width(c), numeric(c))).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&shape).map(|(cell, (width, right))| {
                if *right {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_aligns_text_left_and_numbers_right() {
        let mut table = Table::new(&["TOPIC", "PARTITIONS", "LEADER"]);
        table.row(vec!["logs".into(), "12".into(), "-".into()]);
        table.row(vec!["a-longer-name".into(), "3".into(), "1".into()]);
        let expected = [
            "TOPIC          PARTITIONS  LEADER",
            "logs                   12       -",
            "a-longer-name           3       1",
        ];
        assert_eq!(table.lines(), expected);
    }

    #[test]
    fn closed_pipe_is_told_apart_from_a_full_disk() {
        let closed = stdout_failed(ErrorKind::BrokenPipe.into());
        assert!(matches!(closed, Failure::OutputClosed));
        let full = stdout_failed(ErrorKind::StorageFull.into());
        assert!(matches!(full, Failure::Message(_)));
    }
}
