//! What is known of the values of one field.

use std::cmp::Ordering;
use std::hash::{DefaultHasher, Hasher as _};

use base64::Engine as _;
use meshlog_proto::v1;

use super::distinct::Distinct;
use super::frequent::Frequent;
use super::number::Number;

/// Longest text of a value that is shown, in characters.
const MAX_TEXT: usize = 120;
const MAX_EXAMPLES: usize = 5;

/// A value without parts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scalar<'a> {
    Null,
    Boolean(bool),
    Number(Number),
    /// A number of a binary format that JSON cannot write: `NaN` and the infinities.
    NotFinite(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
}

/// A value with parts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Parts {
    Object,
    Array,
}

/// The values of one field so far.
#[derive(Debug, Default)]
pub(super) struct Field {
    /// Values that are there and not null.
    pub(super) present: u64,
    types: Types,
    distinct: Distinct,
    frequent: Frequent,
    numbers: Option<(Number, Number)>,
    texts: Option<(Text, Text)>,
}

#[derive(Debug, Default)]
struct Types {
    string: bool,
    number: bool,
    boolean: bool,
    object: bool,
    array: bool,
}

/// The beginning of a text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Text {
    start: String,
    is_cut: bool,
}

impl Text {
    fn of(text: &str) -> Self {
        match text.char_indices().nth(MAX_TEXT) {
            Some((end, _)) => Self { start: text[..end].to_owned(), is_cut: true },
            None => Self { start: text.to_owned(), is_cut: false },
        }
    }

    /// Compares without making a copy.
    fn order(&self, text: &str) -> Ordering {
        let end = text.char_indices().nth(MAX_TEXT).map_or(text.len(), |(end, _)| end);
        self.start.as_str().cmp(&text[..end]).then(self.is_cut.cmp(&(end < text.len())))
    }

    fn json(&self) -> String {
        let more = if self.is_cut { "…" } else { "" };
        quoted(&format!("{}{more}", self.start))
    }
}

impl Field {
    pub(super) fn add(&mut self, scalar: Scalar<'_>) {
        let mut hasher = DefaultHasher::new();
        match scalar {
            Scalar::Null => return,
            Scalar::Boolean(boolean) => {
                self.types.boolean = true;
                hasher.write(&[0, boolean.into()]);
            }
            Scalar::Number(number) => {
                self.types.number = true;
                match number {
                    Number::Integer(integer) => {
                        hasher.write(&[1]);
                        hasher.write(&integer.to_le_bytes());
                    }
                    Number::Float(float) => {
                        hasher.write(&[2]);
                        hasher.write(&float.to_bits().to_le_bytes());
                    }
                }
                let (least, most) = self.numbers.get_or_insert((number, number));
                if number.order(*least).is_lt() {
                    *least = number;
                }
                if number.order(*most).is_gt() {
                    *most = number;
                }
            }
            Scalar::NotFinite(float) => {
                self.types.number = true;
                hasher.write(&[3]);
                hasher.write(name_of(float).as_bytes());
            }
            Scalar::Text(text) => {
                self.types.string = true;
                hasher.write(&[4]);
                hasher.write(text.as_bytes());
                let (least, most) =
                    self.texts.get_or_insert_with(|| (Text::of(text), Text::of(text)));
                if least.order(text).is_gt() {
                    *least = Text::of(text);
                }
                if most.order(text).is_lt() {
                    *most = Text::of(text);
                }
            }
            Scalar::Bytes(bytes) => {
                self.types.string = true;
                hasher.write(&[5]);
                hasher.write(bytes);
            }
        }
        self.present += 1;
        let hash = hasher.finish();
        self.distinct.add(hash);
        if may_be_shown(scalar) {
            self.frequent.add(hash, || text_of(scalar));
        }
    }

    pub(super) fn add_parts(&mut self, parts: Parts) {
        self.present += 1;
        match parts {
            Parts::Object => self.types.object = true,
            Parts::Array => self.types.array = true,
        }
    }

    /// As clients see it, of `values` values looked at.
    pub(super) fn message(self, path: String, values: u64, is_personal: bool) -> v1::FieldProfile {
        let types = [
            ("string", self.types.string),
            ("number", self.types.number),
            ("boolean", self.types.boolean),
            ("object", self.types.object),
            ("array", self.types.array),
        ];
        let bounds = match (self.numbers, &self.texts) {
            _ if is_personal => None,
            (Some((least, most)), None) => Some((least.text(), most.text())),
            (None, Some((least, most))) => Some((least.json(), most.json())),
            _ => None,
        };
        let (min, max) = bounds.unzip();
        let examples = self.frequent.top(if is_personal { 0 } else { MAX_EXAMPLES });
        v1::FieldProfile {
            path,
            values,
            nulls: values.saturating_sub(self.present),
            distinct: self.distinct.count(),
            types: types.iter().filter(|(_, seen)| *seen).map(|(name, _)| (*name).into()).collect(),
            min,
            max,
            examples: examples.into_iter().filter(|text| is_short(text)).collect(),
        }
    }
}

/// Whether the value may be short enough to be shown; the text itself decides.
fn may_be_shown(scalar: Scalar<'_>) -> bool {
    match scalar {
        Scalar::Text(text) => text.len() <= 4 * MAX_TEXT && is_short(&quoted(text)),
        Scalar::Bytes(bytes) => bytes.len() <= MAX_TEXT * 3 / 4 - 2,
        _ => true,
    }
}

fn is_short(text: &str) -> bool {
    text.chars().nth(MAX_TEXT).is_none()
}

fn text_of(scalar: Scalar<'_>) -> String {
    match scalar {
        Scalar::Null => "null".to_owned(),
        Scalar::Boolean(boolean) => boolean.to_string(),
        Scalar::Number(number) => number.text(),
        Scalar::NotFinite(float) => quoted(name_of(float)),
        Scalar::Text(text) => quoted(text),
        Scalar::Bytes(bytes) => quoted(&base64::engine::general_purpose::STANDARD.encode(bytes)),
    }
}

fn name_of(float: f64) -> &'static str {
    match float {
        float if float.is_nan() => "NaN",
        float if float > 0.0 => "Infinity",
        _ => "-Infinity",
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
