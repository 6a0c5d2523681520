//! Tags as they are written on the command line and shown: `aviation`, `region=nyc`,
//! `tailnum:ref=fleet.planes`.

use std::str::FromStr;

use meshlog_client::proto::Tag;

/// `KEY` or `KEY=VALUE`: a mark on a whole product.
#[derive(Clone, Debug)]
pub(crate) struct ProductTag(pub(crate) Tag);

/// `PATH:KEY` or `PATH:KEY=VALUE`: a mark on one field.
#[derive(Clone, Debug)]
pub(crate) struct FieldTag(pub(crate) Tag);

impl FromStr for ProductTag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        tag("", text).map(Self)
    }
}

impl FromStr for FieldTag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((path, rest)) if !path.is_empty() => tag(path, rest).map(Self),
            _ => {
                Err("write it as PATH:TAG or PATH:KEY=VALUE, for instance `tailnum:identifier`"
                    .into())
            }
        }
    }
}

fn tag(field_path: &str, text: &str) -> Result<Tag, String> {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (text, None),
    };
    if key.is_empty() {
        return Err("the tag has no name".into());
    }
    Ok(Tag { key: key.to_owned(), value, field_path: field_path.to_owned() })
}

/// The tag as it would be written on the command line.
pub(crate) fn text(tag: &Tag) -> String {
    let path = &tag.field_path;
    let colon = if path.is_empty() { "" } else { ":" };
    match &tag.value {
        Some(value) => format!("{path}{colon}{}={value}", tag.key),
        None => format!("{path}{colon}{}", tag.key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_read_back_as_written() {
        for written in ["aviation", "region=nyc", "note=a=b", "empty="] {
            assert_eq!(text(&written.parse::<ProductTag>().unwrap().0), written);
        }
        for written in ["tailnum:identifier", "legs[].dest:ref=reference.airports", "a:b=c:d"] {
            assert_eq!(text(&written.parse::<FieldTag>().unwrap().0), written);
        }
    }

    #[test]
    fn a_tag_without_a_name_or_a_field_is_refused() {
        assert!("=x".parse::<ProductTag>().is_err());
        assert!("tailnum".parse::<FieldTag>().is_err());
        assert!(":x".parse::<FieldTag>().is_err());
        assert!("a:".parse::<FieldTag>().is_err());
    }
}
