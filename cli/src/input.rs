//! Records for `produce`, read one by one from a file or standard input, each with the number of
//! its line.

use std::{
    borrow::Cow,
    fmt,
    io::{self, BufRead, Read},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use clap::ValueEnum;
use meshlog_client::{Header, Record};
use serde::{
    Deserializer as _,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    csv_input::{Columns, Rows},
    envelope,
};

/// How the input is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputFormat {
    /// One JSON value a line, which becomes the record's value as it is written
    Jsonl,
    /// Rows under a line of column names, typed by the product's schema
    Csv,
    /// Any bytes; a line feed ends a record
    Raw,
    /// What `consume -o jsonl` writes: value, key and headers
    Envelope,
}

/// Longest line: an encoded record of 1 MiB with key and headers in base64 fits twice.
const MAX_LINE_BYTES: u64 = 4 << 20;

/// What some editors put before the first line.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// What every record of the input gets, and how its parts are found.
pub(crate) struct Shape {
    /// How the input is written.
    pub(crate) format: InputFormat,
    /// CSV: the types of the columns.
    pub(crate) columns: Columns,
    /// CSV: the text that means null.
    pub(crate) null: Option<String>,
    /// The field of the value that becomes the key.
    pub(crate) key_field: Option<KeyField>,
    /// Added to every record.
    pub(crate) headers: Vec<Header>,
}

/// A line that became a record, or the reason why it did not.
pub(crate) struct InputLine {
    /// Its number, from 1.
    pub(crate) number: u64,
    /// The record, or what is wrong with the line.
    pub(crate) record: Result<Record, String>,
}

/// Reads lines until the end of the input.
pub(crate) struct Input {
    source: Source,
    shape: Shape,
    blank_lines: Arc<AtomicU64>,
}

enum Source {
    Lines { reader: Box<dyn BufRead + Send>, number: u64 },
    Csv { reader: csv::Reader<Box<dyn BufRead + Send>>, rows: Option<Rows> },
}

impl Input {
    /// Reads `reader` in this shape.
    pub(crate) fn new(reader: Box<dyn BufRead + Send>, shape: Shape) -> Self {
        let source = match shape.format {
            InputFormat::Csv => Source::Csv {
                // Rows of another length are told by their line instead of ending the input. The
                // reader counts line feeds, so only they end a row; the carriage returns before
                // them are dropped below, and the added one makes every row end with one.
                reader: csv::ReaderBuilder::new()
                    .flexible(true)
                    .terminator(csv::Terminator::Any(b'\n'))
                    .from_reader(Box::new(reader.chain(&b"\n"[..]))),
                rows: None,
            },
            _ => Source::Lines { reader, number: 0 },
        };
        Self { source, shape, blank_lines: Arc::default() }
    }

    /// Blank lines skipped so far.
    pub(crate) fn blank_lines(&self) -> Arc<AtomicU64> {
        self.blank_lines.clone()
    }

    /// The next line that is not blank.
    ///
    /// # Errors
    /// The input cannot be read any further.
    pub(crate) fn next_line(&mut self) -> io::Result<Option<InputLine>> {
        match &mut self.source {
            Source::Lines { reader, number } => {
                let mut line = Vec::new();
                loop {
                    line.clear();
                    *number += 1;
                    let read =
                        reader.by_ref().take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut line)?;
                    if read == 0 {
                        return Ok(None);
                    }
                    let number = *number;
                    if line.last() == Some(&b'\n') {
                        line.pop();
                    } else if read as u64 > MAX_LINE_BYTES {
                        skip_line(reader)?;
                        let reason = format!(
                            "longer than {} MiB, and a record is at most 1 MiB",
                            MAX_LINE_BYTES >> 20
                        );
                        return Ok(Some(InputLine { number, record: Err(reason) }));
                    }
                    if self.shape.format != InputFormat::Raw {
                        if number == 1 && line.starts_with(BYTE_ORDER_MARK) {
                            line.drain(..BYTE_ORDER_MARK.len());
                        }
                        line.truncate(line.trim_ascii_end().len());
                    }
                    if line.is_empty() {
                        self.blank_lines.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    let record = self.shape.record(line);
                    return Ok(Some(InputLine { number, record }));
                }
            }
            Source::Csv { reader, rows } => {
                let rows = match rows {
                    Some(rows) => rows,
                    None => {
                        let header = reader.headers().map_err(csv_error)?.clone();
                        let header = without_carriage_return(header);
                        rows.insert(self.shape.columns.rows(&header, self.shape.null.clone()))
                    }
                };
                loop {
                    let mut row = csv::StringRecord::new();
                    let line_before = reader.position().line();
                    match reader.read_record(&mut row) {
                        Ok(false) => return Ok(None),
                        Ok(true) => {}
                        Err(error) => match error.kind() {
                            csv::ErrorKind::Utf8 { err, .. } => {
                                let number = reader.position().line() - 1;
                                let record = Err(format!("not UTF-8: {err}"));
                                return Ok(Some(InputLine { number, record }));
                            }
                            _ => return Err(csv_error(error)),
                        },
                    }
                    // Blank lines are dropped by the reader, so a row's line is counted back from
                    // its end; a quoted cell may hold line feeds.
                    let inner = row.iter().flat_map(str::bytes).filter(|b| *b == b'\n').count();
                    let number = reader.position().line() - 1 - inner as u64;
                    self.blank_lines.fetch_add(number - line_before, Ordering::Relaxed);
                    if row.as_slice() == "\r" {
                        self.blank_lines.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    let row = without_carriage_return(row);
                    let record =
                        rows.to_json(&row).and_then(|json| self.shape.json_record(json.into()));
                    return Ok(Some(InputLine { number, record }));
                }
            }
        }
    }
}

/// The row without the carriage return of a line that ends in CR LF.
fn without_carriage_return(row: csv::StringRecord) -> csv::StringRecord {
    if !row.as_slice().ends_with('\r') {
        return row;
    }
    let last = row.len() - 1;
    row.iter()
        .enumerate()
        .map(|(n, cell)| if n == last { cell.strip_suffix('\r').unwrap_or(cell) } else { cell })
        .collect()
}

fn csv_error(error: csv::Error) -> io::Error {
    let text = error.to_string();
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        _ => io::Error::new(io::ErrorKind::InvalidData, text),
    }
}

/// Reads on to the end of a line that is too long to keep.
fn skip_line(reader: &mut dyn BufRead) -> io::Result<()> {
    loop {
        let available = reader.fill_buf()?;
        if available.is_empty() {
            return Ok(());
        }
        match available.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                reader.consume(end + 1);
                return Ok(());
            }
            None => {
                let all = available.len();
                reader.consume(all);
            }
        }
    }
}

impl Shape {
    fn record(&self, line: Vec<u8>) -> Result<Record, String> {
        match self.format {
            InputFormat::Raw => Ok(self.complete(Record::new(line))),
            InputFormat::Envelope => envelope::read(&line).map(|record| self.complete(record)),
            InputFormat::Jsonl | InputFormat::Csv => self.json_record(line.into()),
        }
    }

    fn json_record(&self, json: Bytes) -> Result<Record, String> {
        let value: &RawValue = serde_json::from_slice(&json)
            .map_err(|error| format!("not JSON: {}", envelope::json_error(&error)))?;
        let key = match &self.key_field {
            Some(field) => field.of(value)?,
            None => None,
        };
        let start = value.get().as_ptr() as usize - json.as_ptr() as usize;
        let value = json.slice(start..start + value.get().len());
        Ok(self.complete(Record { key: key.map(Bytes::from), ..Record::new(value) }))
    }

    fn complete(&self, mut record: Record) -> Record {
        record.headers.extend_from_slice(&self.headers);
        record
    }
}

/// A field of a JSON value: names joined by dots.
#[derive(Clone, Debug)]
pub(crate) struct KeyField {
    path: String,
}

impl FromStr for KeyField {
    type Err = String;

    fn from_str(path: &str) -> Result<Self, String> {
        if path.split('.').any(str::is_empty) {
            return Err("expected a field name, or names joined by dots".into());
        }
        Ok(Self { path: path.to_owned() })
    }
}

impl KeyField {
    /// The text of a string, a number or a boolean as the key; none for null.
    fn of(&self, value: &RawValue) -> Result<Option<String>, String> {
        let mut at = value;
        for name in self.path.split('.') {
            at = member(at, name)
                .ok_or_else(|| format!("it has no field `{}` to take the key from", self.path))?;
        }
        let text = at.get();
        match text.as_bytes().first() {
            Some(b'"') => serde_json::from_str(text).map(Some).map_err(|error| error.to_string()),
            Some(b'{' | b'[') => {
                Err(format!("the field `{}` is an object or a list, not a key", self.path))
            }
            Some(b'n') => Ok(None),
            _ => Ok(Some(text.to_owned())),
        }
    }
}

/// A member of a JSON object, as it is written; the last one if its name occurs again.
fn member<'a>(value: &'a RawValue, name: &str) -> Option<&'a RawValue> {
    struct Find<'n>(&'n str);

    impl<'de> Visitor<'de> for Find<'_> {
        type Value = Option<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = None;
            while let Some(Name(name)) = map.next_key()? {
                if name == self.0 {
                    found = Some(map.next_value()?);
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(found)
        }
    }

    #[derive(serde::Deserialize)]
    struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

    serde_json::Deserializer::from_str(value.get()).deserialize_map(Find(name)).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(format: InputFormat) -> Shape {
        Shape {
            format,
            columns: Columns::default(),
            null: None,
            key_field: None,
            headers: Vec::new(),
        }
    }

    type Read = (u64, Result<(Option<String>, String), String>);

    fn read_all(shape: Shape, text: impl Into<Vec<u8>>) -> (Vec<Read>, u64) {
        let mut input = Input::new(Box::new(io::Cursor::new(text.into())), shape);
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let mut lines = Vec::new();
        while let Some(line) = input.next_line().unwrap() {
            let record =
                line.record.map(|record| (record.key.map(text), text(record.value.unwrap())));
            lines.push((line.number, record));
        }
        (lines, input.blank_lines().load(Ordering::Relaxed))
    }

    fn value(number: u64, value: &str) -> Read {
        (number, Ok((None, value.to_owned())))
    }

    #[test]
    fn json_lines_keep_their_text_and_their_numbers() {
        let (lines, blank) =
            read_all(shape(InputFormat::Jsonl), "\u{feff}{\"a\": 1.0}\r\n\n  \n [1] \n\"x\"");
        assert_eq!(lines, [value(1, r#"{"a": 1.0}"#), value(4, "[1]"), value(5, r#""x""#)]);
        assert_eq!(blank, 2);
    }

    #[test]
    fn a_line_that_is_not_json_says_what_and_where() {
        let (lines, _) = read_all(shape(InputFormat::Jsonl), "1\n{\"a\":}\n2\n");
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[1], (2, Err("not JSON: expected value (column 6)".into())));
    }

    #[test]
    fn raw_lines_are_their_bytes() {
        let (lines, blank) = read_all(shape(InputFormat::Raw), " a \r\n\n\tb");
        assert_eq!(lines, [value(1, " a \r"), value(3, "\tb")]);
        assert_eq!(blank, 1);
    }

    #[test]
    fn rows_have_the_number_of_the_line_they_begin_in() {
        for end in ["\n", "\r\n"] {
            let text = ["a,b", "1,2", "", "\"x", "y\",3", "", "", "4,5"].join(end);
            for text in [text.clone(), text + end] {
                let (lines, blank) = read_all(shape(InputFormat::Csv), text);
                let numbers: Vec<_> = lines.iter().map(|line| line.0).collect();
                assert_eq!((numbers, blank), (vec![2, 4, 8], 3), "with {end:?}");
            }
        }
    }

    #[test]
    fn a_row_of_another_length_or_not_utf8_is_one_bad_line() {
        let (lines, _) = read_all(shape(InputFormat::Csv), b"a,b\n1\n\xff,2\n3,4\n".to_vec());
        assert_eq!(lines[0].0, 2);
        assert_eq!(lines[0].1, Err("it has 1 cells, the first line of the file has 2".into()));
        assert!(lines[1].1.as_ref().unwrap_err().starts_with("not UTF-8"), "{:?}", lines[1]);
        assert_eq!(lines[2], value(4, r#"{"a":"3","b":"4"}"#));
    }

    #[test]
    fn a_line_without_end_is_refused_and_the_next_one_read() {
        let mut text = vec![b'x'; MAX_LINE_BYTES as usize + 2];
        text.extend_from_slice(b"\nnext\n");
        let (lines, _) = read_all(shape(InputFormat::Raw), text);
        assert!(lines[0].1.as_ref().unwrap_err().contains("longer than 4 MiB"));
        assert_eq!(lines[1], value(2, "next"));
    }

    #[test]
    fn the_key_is_the_text_of_a_field() {
        let keyed = |path: &str| Shape {
            key_field: Some(path.parse().unwrap()),
            ..shape(InputFormat::Jsonl)
        };
        let key = |path: &str, line: &str| {
            let (mut lines, _) = read_all(keyed(path), line);
            lines.remove(0).1.map(|(key, _)| key)
        };
        assert_eq!(key("a", r#"{"a":"\u0041"}"#), Ok(Some("A".into())));
        assert_eq!(key("a", r#"{"b":[1],"a":1.50}"#), Ok(Some("1.50".into())));
        assert_eq!(key("a.b", r#"{"a":{"b":true}}"#), Ok(Some("true".into())));
        assert_eq!(key("a", r#"{"a":null}"#), Ok(None));
        assert_eq!(key("a", r#"{"a":1,"a":2}"#), Ok(Some("2".into())));
        assert!(key("a", r#"{"b":1}"#).unwrap_err().contains("no field `a`"));
        assert!(key("a", r#"[1]"#).unwrap_err().contains("no field `a`"));
        assert!(key("a", r#"{"a":{}}"#).unwrap_err().contains("not a key"));
    }
}
