//! What an owner says about a product, as it is written on the command line.

use std::{path::Path, str::FromStr};

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCompleter;
use meshlog_client::proto;

use super::limits::Limits;
use crate::{
    completion,
    exit::{Failure, Result},
};

/// How far a product's data may travel.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Classification {
    /// Anyone
    Public,
    /// Everyone in the organisation
    Internal,
    /// Those who need it
    Confidential,
    /// Named persons
    Restricted,
}

impl From<Classification> for proto::Classification {
    fn from(classification: Classification) -> Self {
        match classification {
            Classification::Public => Self::Public,
            Classification::Internal => Self::Internal,
            Classification::Confidential => Self::Confidential,
            Classification::Restricted => Self::Restricted,
        }
    }
}

/// Where a product stands between those who make data and those who use it.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Kind {
    /// The facts of one system, as that system knows them
    SourceAligned,
    /// Made of several other products
    Aggregate,
    /// Made for one use
    ConsumerAligned,
}

impl From<Kind> for proto::ProductKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::SourceAligned => Self::SourceAligned,
            Kind::Aggregate => Self::Aggregate,
            Kind::ConsumerAligned => Self::ConsumerAligned,
        }
    }
}

/// What happens to a record that does not conform to the schema.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Enforcement {
    /// What the format of the schema brings: enforce, or off without a schema
    Default,
    /// Values are not checked
    Off,
    /// Records that do not conform are appended, counted and named in the answer
    Warn,
    /// No record that does not conform gets in; see --on-fail
    Enforce,
}

impl From<Enforcement> for proto::Enforcement {
    fn from(enforcement: Enforcement) -> Self {
        match enforcement {
            Enforcement::Default => Self::Unspecified,
            Enforcement::Off => Self::Off,
            Enforcement::Warn => Self::Warn,
            Enforcement::Enforce => Self::Enforce,
        }
    }
}

/// What becomes of records that do not conform, where the schema is enforced.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum OnFail {
    /// What the broker chooses: reject
    Default,
    /// The batch is refused with the bad records named
    Reject,
    /// The bad records go to `<product>$quarantine`, the others into the product
    Quarantine,
}

impl From<OnFail> for proto::OnFail {
    fn from(on_fail: OnFail) -> Self {
        match on_fail {
            OnFail::Default => Self::Unspecified,
            OnFail::Reject => Self::Reject,
            OnFail::Quarantine => Self::Quarantine,
        }
    }
}

/// What stands before each value.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Framing {
    /// What the broker chooses: none
    Default,
    /// Nothing
    None,
    /// The byte 0 and a schema id of 4 bytes, as serializers of Confluent write it
    Confluent,
}

impl From<Framing> for proto::Framing {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::Default => Self::Unspecified,
            Framing::None => Self::None,
            Framing::Confluent => Self::Confluent,
        }
    }
}

/// Which schemas may follow, once the product is not a draft any more.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Compatibility {
    /// What the broker chooses: retained
    Default,
    /// Any schema may follow any other
    None,
    /// The new schema reads what the version before it wrote
    Backward,
    /// The new schema reads what every version wrote
    BackwardTransitive,
    /// The version before it reads what the new schema writes
    Forward,
    /// Every version reads what the new schema writes
    ForwardTransitive,
    /// Backward and forward
    Full,
    /// Backward and forward, with every version
    FullTransitive,
    /// The new schema reads every record that is still in the log
    Retained,
}

impl From<Compatibility> for proto::Compatibility {
    fn from(compatibility: Compatibility) -> Self {
        match compatibility {
            Compatibility::Default => Self::Unspecified,
            Compatibility::None => Self::None,
            Compatibility::Backward => Self::Backward,
            Compatibility::BackwardTransitive => Self::BackwardTransitive,
            Compatibility::Forward => Self::Forward,
            Compatibility::ForwardTransitive => Self::ForwardTransitive,
            Compatibility::Full => Self::Full,
            Compatibility::FullTransitive => Self::FullTransitive,
            Compatibility::Retained => Self::Retained,
        }
    }
}

/// What readers of a Protobuf product rely on.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ProtobufProfile {
    /// What the broker chooses: wire-json
    Default,
    /// The bytes only
    Wire,
    /// The names too, as in the JSON form
    WireJson,
}

impl From<ProtobufProfile> for proto::ProtobufProfile {
    fn from(profile: ProtobufProfile) -> Self {
        match profile {
            ProtobufProfile::Default => Self::Unspecified,
            ProtobufProfile::Wire => Self::Wire,
            ProtobufProfile::WireJson => Self::WireJson,
        }
    }
}

/// The least that an acknowledgement of an append may mean.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Floor {
    /// What the request asks for
    Default,
    /// Written
    Written,
    /// On disk
    Synced,
}

impl From<Floor> for proto::Durability {
    fn from(floor: Floor) -> Self {
        match floor {
            Floor::Default => Self::Unspecified,
            Floor::Written => Self::Written,
            Floor::Synced => Self::Synced,
        }
    }
}

/// `TITLE=URL`: where to read more.
#[derive(Clone, Debug)]
pub(crate) struct Link(pub(crate) proto::Link);

impl FromStr for Link {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((title, url)) if !title.is_empty() && !url.is_empty() => {
                Ok(Self(proto::Link { title: title.to_owned(), url: url.to_owned() }))
            }
            _ => Err("write it as TITLE=URL, for instance `Runbook=https://wiki.example/x`".into()),
        }
    }
}

/// What creating and updating take alike.
#[derive(Debug, Args)]
pub(crate) struct Facts {
    /// Where it stands between those who make data and those who use it
    #[arg(long)]
    kind: Option<Kind>,
    /// Long text in Markdown: a file, or the text itself
    #[arg(long, value_name = "FILE|TEXT")]
    docs: Option<String>,
    /// Where to read more; one of the same title is replaced
    #[arg(long = "link", value_name = "TITLE=URL")]
    links: Vec<Link>,
    /// Where to ask, for a person
    #[arg(long, value_name = "TEXT")]
    support: Option<String>,
    /// Product that it is made of
    #[arg(long = "input", value_name = "PRODUCT", add = ArgValueCompleter::new(completion::products))]
    inputs: Vec<String>,
    /// What happens to a record that does not conform to the schema
    #[arg(long)]
    enforcement: Option<Enforcement>,
    /// What becomes of records that do not conform, where the schema is enforced
    #[arg(long, value_name = "OUTCOME")]
    on_fail: Option<OnFail>,
    /// What stands before each value
    #[arg(long)]
    framing: Option<Framing>,
    /// The least that an acknowledgement of an append may mean
    #[arg(long, value_name = "DURABILITY")]
    minimum_durability: Option<Floor>,
    /// Which schemas may follow, once the product is not a draft any more
    #[arg(long, value_name = "MODE")]
    compatibility: Option<Compatibility>,
    /// What readers of a Protobuf product rely on
    #[arg(long, value_name = "PROFILE")]
    protobuf_profile: Option<ProtobufProfile>,
    #[command(flatten)]
    pub(super) limits: Limits,
}

impl Facts {
    /// Puts them into the product; the fields that were given.
    pub(super) fn put(self, product: &mut proto::Product) -> Result<Vec<&'static str>> {
        let mut given = Vec::new();
        if let Some(kind) = self.kind {
            product.set_kind(kind.into());
            given.push("kind");
        }
        if let Some(docs) = self.docs {
            product.docs = read_docs(docs)?;
            given.push("docs");
        }
        if !self.links.is_empty() {
            for Link(link) in self.links {
                match product.links.iter_mut().find(|there| there.title == link.title) {
                    Some(there) => *there = link,
                    None => product.links.push(link),
                }
            }
            given.push("links");
        }
        if let Some(support) = self.support {
            product.support = support;
            given.push("support");
        }
        if !self.inputs.is_empty() {
            crate::words::add_all(&mut product.inputs, self.inputs);
            given.push("inputs");
        }
        if let Some(enforcement) = self.enforcement {
            product.settings.get_or_insert_default().set_enforcement(enforcement.into());
            given.push("settings.enforcement");
        }
        if let Some(on_fail) = self.on_fail {
            product.settings.get_or_insert_default().set_on_fail(on_fail.into());
            given.push("settings.on_fail");
        }
        if let Some(framing) = self.framing {
            product.settings.get_or_insert_default().set_framing(framing.into());
            given.push("settings.framing");
        }
        if let Some(floor) = self.minimum_durability {
            product.settings.get_or_insert_default().set_minimum_durability(floor.into());
            given.push("settings.minimum_durability");
        }
        if let Some(mode) = self.compatibility {
            product.settings.get_or_insert_default().set_compatibility(mode.into());
            given.push("settings.compatibility");
        }
        if let Some(profile) = self.protobuf_profile {
            product.settings.get_or_insert_default().set_protobuf_profile(profile.into());
            given.push("settings.protobuf_profile");
        }
        given.extend(self.limits.put(&mut product.settings));
        Ok(given)
    }
}

/// The content of a file, or the text itself; what looks like a file must be one.
fn read_docs(text: String) -> Result<String> {
    let path = Path::new(&text);
    let looks_like_a_file = !text.contains(char::is_whitespace)
        && (text.contains('/') || path.extension().is_some_and(|ext| ext == "md" || ext == "txt"));
    match std::fs::read_to_string(path) {
        Ok(docs) => Ok(docs),
        Err(error) if looks_like_a_file || path.is_file() => {
            Err(Failure::usage(format!("the documentation {text} cannot be read: {error}")))
        }
        Err(_) => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_is_a_file_or_a_text_and_a_missing_file_is_not_a_text() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("flights.md");
        std::fs::write(&file, "# Flights\n").unwrap();
        assert_eq!(read_docs(file.display().to_string()).unwrap(), "# Flights\n");
        assert_eq!(read_docs("Flights, as they went".into()).unwrap(), "Flights, as they went");
        assert_eq!(read_docs(String::new()).unwrap(), "");
        for missing in ["missing.md", "docs/missing"] {
            assert!(read_docs(missing.into()).unwrap_err().to_string().contains(missing));
        }
    }

    #[test]
    fn a_link_has_a_title_and_an_address_that_may_contain_anything() {
        let link = "Run book=https://x.example/?a=b".parse::<Link>().unwrap().0;
        assert_eq!(
            (link.title.as_str(), link.url.as_str()),
            ("Run book", "https://x.example/?a=b")
        );
        assert!("https://x.example".parse::<Link>().is_err());
        assert!("=x".parse::<Link>().is_err());
    }
}
