//! Tags as they are written on the command line and shown: `aviation`, `region=nyc`,
//! `tailnum:ref=fleet.planes`.

use std::str::FromStr;

use meshlog_client::proto::Tag;

use crate::exit::{Exit, Failure};

/// `KEY` or `KEY=VALUE`: a mark on a whole product or domain.
#[derive(Clone, Debug)]
pub(crate) struct WholeTag(pub(crate) Tag);

/// `PATH:KEY` or `PATH:KEY=VALUE`: a mark on one field.
#[derive(Clone, Debug)]
pub(crate) struct FieldTag(pub(crate) Tag);

/// `PATH:KEY`: which mark on which field.
#[derive(Clone, Debug)]
pub(crate) struct FieldTagKey {
    /// The field.
    pub(crate) path: String,
    /// The key of the tag.
    pub(crate) key: String,
}

impl FromStr for FieldTagKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((path, key)) if !path.is_empty() && !key.is_empty() => {
                Ok(Self { path: path.to_owned(), key: key.to_owned() })
            }
            _ => Err("write it as PATH:TAG, for instance `tailnum:identifier`".into()),
        }
    }
}

impl FromStr for WholeTag {
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

/// Adds a tag, or gives the one of this key another value.
pub(crate) fn put(tags: &mut Vec<Tag>, tag: Tag) {
    let same = |other: &&mut Tag| other.key == tag.key && other.field_path == tag.field_path;
    match tags.iter_mut().find(same) {
        Some(there) => *there = tag,
        None => tags.push(tag),
    }
}

/// Removes the tag of this key from the whole (an empty path) or from a field.
pub(crate) fn remove(tags: &mut Vec<Tag>, key: &str, field_path: &str) -> Result<(), Failure> {
    let before = tags.len();
    tags.retain(|tag| tag.key != key || tag.field_path != field_path);
    if tags.len() < before {
        return Ok(());
    }
    let place = if field_path.is_empty() { "" } else { ":" };
    let there: Vec<String> = tags.iter().map(text).collect();
    Err(Failure::new(
        Exit::NotFound,
        format!(
            "there is no tag {field_path}{place}{key} to remove; there {}",
            match there.as_slice() {
                [] => "are none".into(),
                there => format!("are {}", there.join(", ")),
            }
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_read_back_as_written() {
        for written in ["aviation", "region=nyc", "note=a=b", "empty="] {
            assert_eq!(text(&written.parse::<WholeTag>().unwrap().0), written);
        }
        for written in ["tailnum:identifier", "legs[].dest:ref=reference.airports", "a:b=c:d"] {
            assert_eq!(text(&written.parse::<FieldTag>().unwrap().0), written);
        }
    }

    #[test]
    fn one_key_is_there_once_and_only_what_is_there_can_go() {
        let tag = |text: &str| text.parse::<WholeTag>().unwrap().0;
        let mut tags = vec![tag("a"), tag("b=1")];
        put(&mut tags, tag("b=2"));
        put(&mut tags, "f:b=3".parse::<FieldTag>().unwrap().0);
        let texts: Vec<_> = tags.iter().map(text).collect();
        assert_eq!(texts, ["a", "b=2", "f:b=3"]);
        remove(&mut tags, "b", "").unwrap();
        assert_eq!(tags.iter().map(text).collect::<Vec<_>>(), ["a", "f:b=3"]);
        let failure = remove(&mut tags, "b", "").unwrap_err();
        assert!(failure.to_string().contains("a, f:b=3"), "{failure}");
        assert_eq!(failure.exit(), Exit::NotFound);
    }

    #[test]
    fn a_tag_without_a_name_or_a_field_is_refused() {
        assert!("=x".parse::<WholeTag>().is_err());
        assert!("tailnum".parse::<FieldTag>().is_err());
        assert!(":x".parse::<FieldTag>().is_err());
        assert!("a:".parse::<FieldTag>().is_err());
    }
}
