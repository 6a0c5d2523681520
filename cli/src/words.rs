//! Values of the contract as the words and times a person reads.

use jiff::Timestamp;
use meshlog_broker::config::Span;

use crate::exit::{Exit, Failure, Result};

/// `CLASSIFICATION_PUBLIC` as `public`; nothing for the unset value.
pub(crate) fn word(name: &str, prefix: &str) -> String {
    match name.strip_prefix(prefix).unwrap_or(name) {
        "UNSPECIFIED" => String::new(),
        word => word.to_ascii_lowercase(),
    }
}

/// A time of the contract.
pub(crate) fn time(wire: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    let wire = wire?;
    Timestamp::new(wire.seconds, wire.nanos).ok()
}

/// A time of the client.
pub(crate) fn system_time(time: std::time::SystemTime) -> Timestamp {
    // Outside jiff's years -9999 to 9999 there is no time a broker could mean.
    Timestamp::try_from(time).unwrap_or_default()
}

/// A time for a table, to the second.
pub(crate) fn when(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "-".into(), |time| format!("{time:.0}"))
}

/// A time a person wrote: RFC 3339, or a day, which begins at midnight UTC.
pub(crate) fn parse_time(text: &str) -> Result<Timestamp, String> {
    let day = |day: jiff::civil::Date| day.to_zoned(jiff::tz::TimeZone::UTC).ok();
    let time = text.parse().ok();
    time.or_else(|| Some(day(text.parse().ok()?)?.timestamp())).ok_or_else(|| {
        "write it as a day such as 2027-01-31, or as a time such as 2027-01-31T12:00:00Z".into()
    })
}

/// When something ends, as a person wrote it: so long from now, or as [`parse_time`].
pub(crate) fn parse_end(text: &str) -> Result<Timestamp, String> {
    if let Ok(Span(from_now)) = text.parse() {
        return Timestamp::now().checked_add(from_now).map_err(|_| format!("`{text}` is too long"));
    }
    parse_time(text).map_err(|_| {
        "write it as a time from now such as 90d or 12h, or as a day such as 2027-01-31, or as a \
         time such as 2027-01-31T12:00:00Z"
            .into()
    })
}

/// A time for the contract.
pub(crate) fn to_wire(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() }
}

/// The names of the fields that an update changes.
#[derive(Debug, Default)]
pub(crate) struct Mask(Vec<String>);

impl Mask {
    /// One more; the same one only once.
    pub(crate) fn add(&mut self, path: &str) {
        if !self.0.iter().any(|there| there == path) {
            self.0.push(path.to_owned());
        }
    }

    /// For the contract.
    pub(crate) fn done(self) -> prost_types::FieldMask {
        prost_types::FieldMask { paths: self.0 }
    }
}

/// Adds what is not there yet.
pub(crate) fn add_all(list: &mut Vec<String>, added: Vec<String>) {
    for item in added {
        if !list.contains(&item) {
            list.push(item);
        }
    }
}

/// Removes each of these; what is not there cannot go.
pub(crate) fn remove_all(what: &str, list: &mut Vec<String>, removed: &[String]) -> Result<()> {
    for item in removed {
        let Some(place) = list.iter().position(|there| there == item) else {
            let there = if list.is_empty() { "none".into() } else { list.join(", ") };
            return Err(Failure::new(
                Exit::NotFound,
                format!("there is no {what} `{item}` to remove; there are {there}"),
            ));
        };
        list.remove(place);
    }
    Ok(())
}

/// A count with thousands separated: `336,776`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun: `1 record`, `2,000 records`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A duration with three digits that matter: `41.2 ms`, `3.05 s`.
pub(crate) fn duration(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs_f64();
    let (number, unit) = match seconds {
        s if s >= 1.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s => (s * 1e6, "µs"),
    };
    match number {
        n if n >= 100.0 => format!("{n:.0} {unit}"),
        n if n >= 10.0 => format!("{n:.1} {unit}"),
        n => format!("{n:.2} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn counts_have_separators_and_their_noun() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(336_776), "336,776");
        assert_eq!(count(1_000_000), "1,000,000");
        assert_eq!(counted(1, "record"), "1 record");
        assert_eq!(counted(1_458, "record"), "1,458 records");
    }

    #[test]
    fn durations_have_three_digits() {
        assert_eq!(duration(Duration::from_micros(41_234)), "41.2 ms");
        assert_eq!(duration(Duration::from_millis(3_050)), "3.05 s");
        assert_eq!(duration(Duration::from_secs(120)), "120 s");
        assert_eq!(duration(Duration::from_nanos(900)), "0.90 µs");
    }

    #[test]
    fn a_time_is_a_day_or_a_moment() {
        let day = parse_time("2027-01-31").unwrap();
        assert_eq!(day, parse_time("2027-01-31T00:00:00Z").unwrap());
        assert_eq!(when(Some(day)), "2027-01-31T00:00:00Z");
        assert_eq!(time(Some(to_wire(day))), Some(day));
        for wrong in ["", "soon", "2027-13-01", "31.01.2027"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_end_is_so_long_from_now_or_a_moment() {
        let from = Timestamp::now();
        let soon = parse_end("1d 12h").unwrap().duration_since(from).as_hours();
        assert!((36..=37).contains(&soon), "{soon}");
        assert_eq!(parse_end("2027-01-31"), parse_time("2027-01-31"));
        for wrong in ["", "soon", "90", "-1d", "99999999999d"] {
            assert!(parse_end(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lists_grow_once_and_shrink_only_by_what_is_there() {
        let texts = |list: &[&str]| list.iter().map(|item| item.to_string()).collect::<Vec<_>>();
        let mut list = texts(&["a", "b"]);
        add_all(&mut list, texts(&["b", "c", "c"]));
        assert_eq!(list, ["a", "b", "c"]);
        remove_all("contact", &mut list, &texts(&["a"])).unwrap();
        let failure = remove_all("contact", &mut list, &texts(&["a"])).unwrap_err().to_string();
        assert!(failure.contains("contact `a`") && failure.contains("b, c"), "{failure}");
        assert_eq!(list, ["b", "c"]);
    }

    #[test]
    fn enum_names_become_words() {
        assert_eq!(word("CLASSIFICATION_PUBLIC", "CLASSIFICATION_"), "public");
        assert_eq!(word("CLASSIFICATION_UNSPECIFIED", "CLASSIFICATION_"), "");
    }
}
