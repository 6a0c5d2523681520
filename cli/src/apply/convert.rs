//! Files and the contract: what a document says as messages, and messages as a document says them.

use std::time::Duration;

use meshlog_broker::config::ByteSize;
use meshlog_client::proto;

use super::document::{
    Compaction, Deprecation, Domain, Link, Product, Rule, Schema, Settings, TagKey, Team,
};
use super::terms::{
    Age, Classification, Compatibility, Enforcement, Floor, Format, Framing, Kind, Length, OnFail,
    ProtobufProfile, State, ValueType,
};
use crate::{
    exit::{Failure, Result},
    tag::{self, WholeTag},
    words,
};

impl Team {
    /// For the contract.
    pub(super) fn wire(&self) -> proto::Team {
        proto::Team {
            name: self.name.clone(),
            contacts: self.contacts.clone(),
            description: self.description.clone(),
            managed_by: self.managed_by.clone(),
            ..proto::Team::default()
        }
    }
}

impl From<&proto::Team> for Team {
    fn from(team: &proto::Team) -> Self {
        Self {
            name: team.name.clone(),
            contacts: team.contacts.clone(),
            description: team.description.clone(),
            managed_by: team.managed_by.clone(),
        }
    }
}

impl TagKey {
    /// For the contract.
    pub(super) fn wire(&self) -> proto::TagKey {
        proto::TagKey {
            name: self.name.clone(),
            owner: self.owner.clone(),
            description: self.description.clone(),
            value_type: self.value_type.wire(),
            allowed_values: self.allowed.clone(),
            managed_by: self.managed_by.clone(),
            ..proto::TagKey::default()
        }
    }
}

impl From<&proto::TagKey> for TagKey {
    fn from(key: &proto::TagKey) -> Self {
        Self {
            name: key.name.clone(),
            owner: key.owner.clone(),
            description: key.description.clone(),
            value_type: ValueType::of_wire(key.value_type).unwrap_or_default(),
            allowed: key.allowed_values.clone(),
            managed_by: key.managed_by.clone(),
        }
    }
}

impl Domain {
    /// For the contract.
    pub(super) fn wire(&self) -> Result<proto::Domain> {
        Ok(proto::Domain {
            name: self.name.clone(),
            owner: self.owner.clone(),
            description: self.description.clone(),
            tags: tags(&format!("domain {}", self.name), "", &self.tags)?,
            managed_by: self.managed_by.clone(),
            ..proto::Domain::default()
        })
    }
}

impl From<&proto::Domain> for Domain {
    fn from(domain: &proto::Domain) -> Self {
        let mut tags: Vec<String> = domain.tags.iter().map(tag::text).collect();
        tags.sort();
        Self {
            name: domain.name.clone(),
            owner: domain.owner.clone(),
            description: domain.description.clone(),
            tags,
            managed_by: domain.managed_by.clone(),
        }
    }
}

impl Product {
    /// For the contract, without schemas and state.
    pub(super) fn wire(&self) -> Result<proto::Product> {
        let what = format!("product {}", self.name);
        let mut all = tags(&what, "", &self.tags)?;
        for (path, of_field) in &self.field_tags {
            all.append(&mut tags(&what, path, of_field)?);
        }
        let links = self.links.iter();
        Ok(proto::Product {
            name: self.name.clone(),
            owner: self.owner.clone(),
            description: self.description.clone(),
            classification: self.classification.map(Classification::wire).unwrap_or_default(),
            kind: self.kind.map(Kind::wire).unwrap_or_default(),
            tags: all,
            partitions: self.partitions.unwrap_or_default(),
            settings: Some(self.settings.wire()).filter(|set| *set != Default::default()),
            key: (!self.key.is_empty()).then(|| proto::KeyRule { field: self.key.clone() }),
            rules: self.rules.iter().map(Rule::wire).collect(),
            docs: self.docs.clone(),
            links: links
                .map(|link| proto::Link { title: link.title.clone(), url: link.url.clone() })
                .collect(),
            support: self.support.clone(),
            inputs: self.inputs.clone(),
            managed_by: self.managed_by.clone(),
            ..proto::Product::default()
        })
    }

    /// What the broker says of it, with the schemas of its current version.
    pub(super) fn of_wire(product: &proto::Product, version: &proto::SchemaVersion) -> Self {
        let mut said = Self {
            name: product.name.clone(),
            owner: product.owner.clone(),
            description: product.description.clone(),
            classification: Classification::of_wire(product.classification),
            kind: Kind::of_wire(product.kind),
            state: State::of_wire(product.state),
            schema: version.value.as_ref().map(Schema::from),
            key_schema: version.key.as_ref().map(Schema::from),
            key: product.key.as_ref().map(|rule| rule.field.clone()).unwrap_or_default(),
            partitions: Some(product.partitions),
            inputs: product.inputs.clone(),
            support: product.support.clone(),
            links: product
                .links
                .iter()
                .map(|link| Link { title: link.title.clone(), url: link.url.clone() })
                .collect(),
            settings: product.settings.as_ref().map(Settings::from).unwrap_or_default(),
            rules: product.rules.iter().map(Rule::from).collect(),
            docs: product.docs.clone(),
            managed_by: product.managed_by.clone(),
            ..Self::default()
        };
        if !product.deprecation_reason.is_empty() {
            let sunset = words::time(product.sunset_time);
            said.deprecation = Some(Deprecation {
                reason: product.deprecation_reason.clone(),
                successor: product.successor.clone(),
                sunset: sunset.map(|time| time.to_string()).unwrap_or_default(),
            });
        }
        for tag in &product.tags {
            let text = tag::text(&proto::Tag { field_path: String::new(), ..tag.clone() });
            match tag.field_path.as_str() {
                "" => said.tags.push(text),
                path => said.field_tags.entry(path.to_owned()).or_default().push(text),
            }
        }
        said.sort();
        said
    }

    /// Puts what has no order in one: two products that say the same are equal then.
    pub(super) fn sort(&mut self) {
        self.tags.sort();
        self.rules.sort_by(|a, b| a.name.cmp(&b.name));
        self.field_tags.retain(|_, tags| !tags.is_empty());
        self.field_tags.values_mut().for_each(|tags| tags.sort());
        if let Some(deprecation) = &mut self.deprecation
            && let Ok(time) = words::parse_time(&deprecation.sunset)
        {
            deprecation.sunset = time.to_string();
        }
        let settings = &mut self.settings;
        settings.retention_bytes = settings.retention_bytes.filter(|bytes| bytes.0 > 0);
        settings.retention_count = settings.retention_count.filter(|count| *count > 0);
    }
}

impl Rule {
    fn wire(&self) -> proto::Rule {
        proto::Rule {
            name: self.name.clone(),
            expression: self.expression.clone(),
            message: self.message.clone(),
            disabled: self.disabled,
            version: 0,
        }
    }
}

impl From<&proto::Rule> for Rule {
    fn from(rule: &proto::Rule) -> Self {
        Self {
            name: rule.name.clone(),
            expression: rule.expression.clone(),
            message: rule.message.clone(),
            disabled: rule.disabled,
        }
    }
}

impl Deprecation {
    /// The day it ends, for the contract.
    pub(super) fn sunset_wire(&self, product: &str) -> Result<Option<prost_types::Timestamp>> {
        if self.sunset.is_empty() {
            return Ok(None);
        }
        let time = words::parse_time(&self.sunset).map_err(|wanted| {
            Failure::usage(format!("product {product}: sunset `{}`: {wanted}", self.sunset))
        })?;
        Ok(Some(words::to_wire(time)))
    }
}

impl Settings {
    fn wire(&self) -> proto::ProductSettings {
        proto::ProductSettings {
            enforcement: self.enforcement.map(Enforcement::wire).unwrap_or_default(),
            minimum_durability: self.minimum_durability.map(Floor::wire).unwrap_or_default(),
            retention_age: self.retention_age.and_then(Age::wire),
            retention_bytes: self.retention_bytes.map_or(0, |bytes| bytes.0),
            retention_count: self.retention_count.unwrap_or_default(),
            compaction: self.compaction.as_ref().map(|compaction| proto::Compaction {
                tombstone_min_age: compaction.tombstone_min_age.and_then(|age| age.0.wire()),
            }),
            compatibility: self.compatibility.map(Compatibility::wire).unwrap_or_default(),
            protobuf_profile: self.protobuf_profile.map(ProtobufProfile::wire).unwrap_or_default(),
            on_fail: self.on_fail.map(OnFail::wire).unwrap_or_default(),
            framing: self.framing.map(Framing::wire).unwrap_or_default(),
        }
    }
}

impl From<&proto::ProductSettings> for Settings {
    fn from(set: &proto::ProductSettings) -> Self {
        let limit = |amount: u64| Some(amount).filter(|amount| *amount > 0);
        Self {
            enforcement: Enforcement::of_wire(set.enforcement),
            minimum_durability: Floor::of_wire(set.minimum_durability),
            retention_age: set.retention_age.map(Age::of_wire),
            retention_bytes: limit(set.retention_bytes).map(ByteSize),
            retention_count: limit(set.retention_count),
            compaction: set.compaction.map(|compaction| Compaction {
                tombstone_min_age: compaction
                    .tombstone_min_age
                    .map(|age| Length(Age(Duration::try_from(age).unwrap_or_default()))),
            }),
            compatibility: Compatibility::of_wire(set.compatibility),
            protobuf_profile: ProtobufProfile::of_wire(set.protobuf_profile),
            on_fail: OnFail::of_wire(set.on_fail),
            framing: Framing::of_wire(set.framing),
        }
    }
}

impl Schema {
    /// For the contract; a file was read before.
    pub(super) fn wire(&self) -> proto::SchemaSource {
        proto::SchemaSource {
            format: self.format.map(Format::wire).unwrap_or_default(),
            text: self.text.clone(),
            media_type: self.media_type.clone(),
            reason: self.reason.clone(),
            message_name: self.message.clone(),
        }
    }
}

impl From<&proto::SchemaSource> for Schema {
    fn from(source: &proto::SchemaSource) -> Self {
        Self {
            file: String::new(),
            format: Format::of_wire(source.format),
            message: source.message_name.clone(),
            media_type: source.media_type.clone(),
            reason: source.reason.clone(),
            text: source.text.clone(),
        }
    }
}

/// Tags of a thing, or of one of its fields.
fn tags(what: &str, path: &str, texts: &[String]) -> Result<Vec<proto::Tag>> {
    let tag = |text: &String| match text.parse::<WholeTag>() {
        Ok(WholeTag(tag)) => Ok(proto::Tag { field_path: path.to_owned(), ..tag }),
        Err(why) => Err(Failure::usage(format!("{what}: the tag `{text}`: {why}"))),
    };
    texts.iter().map(tag).collect()
}
