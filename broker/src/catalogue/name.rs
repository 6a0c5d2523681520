//! The rules for names.

use super::{check_length, invalid};
use crate::error::{Error, Reason, Result};

/// The domain where everything has a default.
pub(super) const SANDBOX: &str = "sandbox";

/// The domain and the team of the broker itself.
pub(super) const MESHLOG: &str = "meshlog";

const MAX_LABEL_BYTES: usize = 63;
const MAX_NAME_BYTES: usize = 128;
const MAX_MANAGED_BY_BYTES: usize = 128;

/// What a name names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Domain,
    Team,
    TagKey,
    Product,
}

impl Named {
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Domain => ("domain", "ops"),
            Self::Team => ("team", "flight-ops"),
            Self::TagKey => ("tag key", "unit"),
            Self::Product => ("product", "ops.flights"),
        }
    }

    fn invalid(self, name: &str, what: &str) -> Error {
        let (kind, example) = self.words();
        let shown: String = name.chars().take(80).flat_map(char::escape_debug).collect();
        Error::new(
            Reason::NameInvalid,
            format!(
                "`{shown}` cannot be the name of a {kind}: {what}; a valid name is `{example}`"
            ),
        )
        .with("name", shown)
        .with("example", example)
    }
}

/// Checks the name of a domain or a team that a user gives.
pub(super) fn check_label(kind: Named, name: &str) -> Result<()> {
    check_label_of(kind, name, name)?;
    if name == MESHLOG || name == SANDBOX {
        let (kind, _) = kind.words();
        return Err(reserved(
            name,
            format!("the {kind} `{name}` belongs to the broker; choose another name"),
        ));
    }
    Ok(())
}

/// Checks the name that a file gives itself; empty: no file.
pub(super) fn check_managed_by(field: &'static str, name: &str) -> Result<()> {
    check_length(field, name, MAX_MANAGED_BY_BYTES)?;
    if name.chars().any(char::is_control) || name.trim() != name {
        return Err(invalid(field, "it is one line of text, without spaces around it"));
    }
    Ok(())
}

/// Checks the name of a tag key that a user gives.
pub(super) fn check_tag_key(name: &str) -> Result<()> {
    let invalid = |what: String| Err(Named::TagKey.invalid(name, &what));
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    if name.is_empty() {
        return invalid("it is empty".to_owned());
    }
    if name.len() > MAX_LABEL_BYTES {
        return invalid(format!(
            "at most {MAX_LABEL_BYTES} characters are allowed, it has {}",
            name.len()
        ));
    }
    match name.chars().find(|c| !allowed(*c)) {
        Some(c) => invalid(format!(
            "`{}` is not allowed; use the letters a to z, digits and `.` `_` `-`",
            c.escape_debug()
        )),
        None => Ok(()),
    }
}

/// Splits the name of a product that a user gives into domain and name.
pub(super) fn check_product(full: &str) -> Result<(&str, &str)> {
    let invalid = |what: &str| Named::Product.invalid(full, what);
    if full.is_empty() {
        return Err(invalid("it is empty"));
    }
    if full.contains(['/', '\\']) || full.contains("..") {
        return Err(invalid("it looks like a path"));
    }
    let Some((domain, name)) = full.split_once('.') else {
        return Err(invalid("it needs a domain and a name, joined by a dot"));
    };
    check_label_of(Named::Product, full, domain)?;
    check_characters(Named::Product, full, name, MAX_NAME_BYTES, "._-")?;
    if domain == MESHLOG {
        return Err(reserved(
            full,
            format!("`{full}` is in the domain of the broker; choose another domain"),
        ));
    }
    Ok((domain, name))
}

/// Text that came from outside, as an error message shows it.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

/// A word of a command that a person can paste.
pub(super) fn shell_word(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/@+:".contains(&b);
    match !text.is_empty() && text.bytes().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

pub(super) fn reserved(name: &str, what: String) -> Error {
    Error::new(Reason::NameReserved, what).with("name", name)
}

fn check_label_of(kind: Named, full: &str, label: &str) -> Result<()> {
    check_characters(kind, full, label, MAX_LABEL_BYTES, "-")
}

fn check_characters(kind: Named, full: &str, part: &str, most: usize, also: &str) -> Result<()> {
    let invalid = |what: String| Err(kind.invalid(full, &what));
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || also.contains(c);
    let Some(first) = part.chars().next() else {
        return invalid(match full.is_empty() {
            true => "it is empty".to_owned(),
            false => "a part of it is empty".to_owned(),
        });
    };
    if part.len() > most {
        return invalid(format!("at most {most} characters are allowed, it has {}", part.len()));
    }
    match part.chars().find(|c| !allowed(*c)) {
        Some('$') => return invalid("`$` marks products that the broker attaches".to_owned()),
        Some(c) if c.is_uppercase() => {
            return invalid(format!("`{c}` is an upper-case letter; use lower case"));
        }
        Some(c) => {
            let allowed: Vec<String> = also.chars().map(|c| format!("`{c}`")).collect();
            return invalid(format!(
                "`{}` is not allowed; use the letters a to z, digits and {}",
                c.escape_debug(),
                allowed.join(" ")
            ));
        }
        None => {}
    }
    match first.is_ascii_alphanumeric() {
        true => Ok(()),
        false => invalid("each part must start with a letter or a digit".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bad_names_are_refused_with_what_is_wrong_and_a_valid_example() {
        let long_domain = format!("{}.x", "d".repeat(64));
        let long_name = format!("d.{}", "n".repeat(129));
        for (name, what) in [
            ("", "it is empty"),
            ("flights", "needs a domain and a name"),
            ("../../etc/passwd", "looks like a path"),
            ("ops/flights", "looks like a path"),
            ("ops\\flights.x", "looks like a path"),
            ("ops..flights", "looks like a path"),
            (".flights", "a part of it is empty"),
            ("ops.", "a part of it is empty"),
            ("Ops.flights", "`O` is an upper-case letter"),
            ("ops.Flights", "`F` is an upper-case letter"),
            ("ops.fl ights", "` ` is not allowed"),
            ("ops.fl\nights", "`\\n` is not allowed"),
            ("ops.flüge", "`ü` is not allowed"),
            ("o_ps.flights", "`_` is not allowed"),
            ("-ops.flights", "start with a letter or a digit"),
            ("ops._flights", "start with a letter or a digit"),
            ("ops.flights$dead", "`$` marks products"),
            (&long_domain, "at most 63"),
            (&long_name, "at most 128"),
        ] {
            let error = check_product(name).unwrap_err();
            assert_eq!(error.reason(), Reason::NameInvalid, "{name}");
            assert!(error.to_string().contains(what), "{name}: {error}");
            assert!(error.to_string().contains("a valid name is `ops.flights`"), "{error}");
            assert_eq!(error.metadata()["example"], "ops.flights");
        }
        for (kind, name) in [(Named::Team, ""), (Named::Domain, "a.b"), (Named::Domain, "é")] {
            assert_eq!(check_label(kind, name).unwrap_err().reason(), Reason::NameInvalid);
        }
    }

    #[test]
    fn good_names_pass() {
        assert_eq!(check_product("ops.flights").unwrap(), ("ops", "flights"));
        assert_eq!(check_product("0-a.1.x_y-z").unwrap(), ("0-a", "1.x_y-z"));
        check_product(&format!("{}.{}", "d".repeat(63), "n".repeat(128))).unwrap();
        check_label(Named::Domain, &"d".repeat(63)).unwrap();
    }

    #[test]
    fn names_of_the_broker_are_reserved() {
        for (kind, name) in
            [(Named::Domain, "sandbox"), (Named::Domain, "meshlog"), (Named::Team, "sandbox")]
        {
            let error = check_label(kind, name).unwrap_err();
            assert_eq!(
                (error.reason(), error.metadata()["name"].as_str()),
                (Reason::NameReserved, name)
            );
        }
        assert_eq!(check_product("meshlog.audit").unwrap_err().reason(), Reason::NameReserved);
        check_product("sandbox.x").unwrap();
    }

    proptest! {
        #[test]
        fn a_name_that_passes_is_safe_whatever_it_was(name in "[a-zA-Z0-9._$/-]{0,12}|.{0,20}") {
            if let Ok((domain, rest)) = check_product(&name) {
                prop_assert_eq!(format!("{domain}.{rest}"), name.clone());
                prop_assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b)));
                prop_assert!(!name.contains(".."));
            }
        }
    }
}
