//! A length of time, written `250ms`, `10s`, `1m 30s` or `7d`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

/// A length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Span {
    /// So many seconds.
    #[must_use]
    pub const fn seconds(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let exact = UNITS.iter().find(|(_, unit)| millis > 0 && millis.is_multiple_of(*unit));
        let (name, unit) = exact.unwrap_or(&UNITS[4]);
        write!(f, "{}{name}", millis / unit)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || format!("`{text}` is not a time; write for instance 250ms, 10s, 1m 30s");
        let mut millis = 0_u64;
        for part in text.split_whitespace() {
            let digits = part.trim_end_matches(|c: char| c.is_ascii_alphabetic());
            let unit = UNITS.iter().find(|(name, _)| *name == &part[digits.len()..]);
            let (_, unit) = unit.ok_or_else(refused)?;
            let count: u64 = digits.parse().map_err(|_| refused())?;
            let sum = count.checked_mul(*unit).and_then(|part| millis.checked_add(part));
            millis = sum.ok_or_else(refused)?;
        }
        if text.trim().is_empty() {
            return Err(refused());
        }
        Ok(Self(Duration::from_millis(millis)))
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "time",
            "type": "string",
            "pattern": "^ *[0-9]+(d|h|m|s|ms)( +[0-9]+(d|h|m|s|ms))* *$",
        })
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written_in_the_largest_whole_unit() {
        for (text, millis, written) in [
            ("250ms", 250, "250ms"),
            ("10s", 10_000, "10s"),
            ("1m 30s", 90_000, "90s"),
            ("2h", 7_200_000, "2h"),
            ("1d 24h", 172_800_000, "2d"),
            ("0s", 0, "0ms"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.0.as_millis(), millis, "{text}");
            assert_eq!(span.to_string(), written);
        }
        for text in ["", " ", "10", "s", "3 days", "1w", "-1s", "99999999999999999999h"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
