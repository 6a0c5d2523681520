//! Values of the contract as the words and times a person reads.

use jiff::Timestamp;

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
    fn enum_names_become_words() {
        assert_eq!(word("CLASSIFICATION_PUBLIC", "CLASSIFICATION_"), "public");
        assert_eq!(word("CLASSIFICATION_UNSPECIFIED", "CLASSIFICATION_"), "");
    }
}
