//! Compatibility as Confluent calls it.

use meshlog_proto::v1::Compatibility;

use super::Refusal;

/// What a product promises, in words that clients of Confluent know.
///
/// They do not know RETAINED. It is told as BACKWARD_TRANSITIVE: whoever reads with the current schema
/// can read everything that is there, and whatever that mode lets through, RETAINED does too.
pub(super) fn told(compatibility: Compatibility) -> &'static str {
    match compatibility {
        Compatibility::Unspecified | Compatibility::Retained => "BACKWARD_TRANSITIVE",
        other => own(other),
    }
}

/// What a product promises, in our words.
pub(super) fn own(compatibility: Compatibility) -> &'static str {
    match compatibility {
        Compatibility::Unspecified => own(Compatibility::Retained),
        other => other.as_str_name().trim_start_matches("COMPATIBILITY_"),
    }
}

/// The setting that a client names; RETAINED can be named too.
pub(super) fn read(level: &str) -> Result<Compatibility, Refusal> {
    let name = format!("COMPATIBILITY_{}", level.to_ascii_uppercase());
    let known = Compatibility::from_str_name(&name);
    known.filter(|one| *one != Compatibility::Unspecified).ok_or_else(|| {
        Refusal::invalid(
            42203,
            "the compatibility level is none that there is; use NONE, BACKWARD, FORWARD, FULL, the same \
             with _TRANSITIVE, or RETAINED",
        )
    })
}
