//! What a file says about a data mesh: teams, the tag vocabulary, domains and products. The types are
//! the format: `docs/mesh.schema.json` is made of them.
//!
//! What a product does not say is not set, as on a fresh broker; only `state`, `partitions` and
//! `key_schema` are left as they are.

use std::collections::BTreeMap;

use meshlog_broker::config::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::terms::{
    Age, Classification, Compatibility, Enforcement, Floor, Format, Framing, Kind, Length, OnFail,
    ProtobufProfile, State, ValueType,
};

/// A data mesh, or a part of one, as `meshlog apply` makes it and `meshlog export` writes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    /// The name that this file gives itself. What it creates and changes carries it, and `--prune`
    /// removes only what carries it and is no longer here.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) managed_by: String,
    /// Those who answer for products.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) teams: Vec<Team>,
    /// What tags may say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tag_keys: Vec<TagKey>,
    /// Groups of products.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) domains: Vec<Domain>,
    /// Named, owned, described topics.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) products: Vec<Product>,
}

/// People who answer for products.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Team {
    /// At most 63 of `[a-z0-9-]`.
    pub(crate) name: String,
    /// At least one: a mail address, a chat channel, a telephone number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) contacts: Vec<String>,
    /// One sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) description: String,
    /// Instead of what the file says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) managed_by: String,
}

/// A key of the tag vocabulary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TagKey {
    /// At most 63 of `[a-z0-9._-]`.
    pub(crate) name: String,
    /// The team that owns the key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) owner: String,
    /// What it says about a product or a field, for a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) description: String,
    /// What its values are.
    #[serde(default, rename = "type")]
    pub(crate) value_type: ValueType,
    /// The values of an enum.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) allowed: Vec<String>,
    /// Instead of what the file says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) managed_by: String,
}

/// A group of products with one owner.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Domain {
    /// At most 63 of `[a-z0-9-]`.
    pub(crate) name: String,
    /// The owning team.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) owner: String,
    /// One sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) description: String,
    /// `key` or `key=value`; its products have these tags too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<String>,
    /// Instead of what the file says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) managed_by: String,
}

/// A named, owned, described topic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Product {
    /// `<domain>.<name>`.
    pub(crate) name: String,
    /// The team that answers for it. Another one here offers the product to that team.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) owner: String,
    /// What it holds, for a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) description: String,
    /// How far its data may travel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) classification: Option<Classification>,
    /// Where it stands between those who make data and those who use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<Kind>,
    /// Where it is in its life. Absent: left as it is; a new product is a draft.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<State>,
    /// Why it ends, for `deprecated` and `retired`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deprecation: Option<Deprecation>,
    /// `key` or `key=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<String>,
    /// Tags of fields, by the path of the field: names joined by dots, `[]` for the items of an array.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) field_tags: BTreeMap<String, Vec<String>>,
    /// Of the values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) schema: Option<Schema>,
    /// Of the keys. Absent: left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key_schema: Option<Schema>,
    /// Field of the value that every record's key must equal. Fixed at creation.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) key: String,
    /// Fixed at creation. Absent: left as it is; 1 for a new product.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) partitions: Option<u32>,
    /// Products that it is made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) inputs: Vec<String>,
    /// Where to ask, for a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) support: String,
    /// Where to read more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) links: Vec<Link>,
    /// What its owner decided.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub(crate) settings: Settings,
    /// What its records must meet beside the schema, in CEL.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) rules: Vec<Rule>,
    /// Long text, Markdown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) docs: String,
    /// Instead of what the file says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) managed_by: String,
}

/// Why a product ends, and when.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deprecation {
    /// Why, for those who use it.
    pub(crate) reason: String,
    /// What to use instead.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) successor: String,
    /// When it may be retired: a day, or a time in RFC 3339.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) sunset: String,
}

/// A schema: of a file beside this one, or written out here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Schema {
    /// A .json (JSON Schema), .avsc (Avro) or .proto (Protobuf) file, from the directory of this file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) file: String,
    /// The language; needed with `text`, and `opaque` for values without a schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) format: Option<Format>,
    /// Protobuf with several messages: the full name of the record's message.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) message: String,
    /// Opaque: the media type of the values, for instance `image/jpeg`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) media_type: String,
    /// Opaque: why there is no schema.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
    /// The schema itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) text: String,
}

/// What every record of a product must meet beside its schema.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// At most 63 of `[a-z0-9-]`.
    pub(crate) name: String,
    /// A CEL expression over `value` and `key` that is true for good records.
    pub(crate) expression: String,
    /// What to tell a person whose record does not meet it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) message: String,
    /// Not evaluated; kept for later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) disabled: bool,
}

/// Where to read more.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Link {
    /// For a person.
    pub(crate) title: String,
    /// http, https or mailto.
    pub(crate) url: String,
}

/// What the owner of a product decided; the broker's defaults apply to the rest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// What happens to a record that does not conform to the schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) enforcement: Option<Enforcement>,
    /// The least that an acknowledgement of an append may mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) minimum_durability: Option<Floor>,
    /// Records go this long after they were appended: `7d`, `12h`, or `unlimited`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retention_age: Option<Age>,
    /// The newest so many bytes of each partition stay, as `10GiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<ByteSize>")]
    pub(crate) retention_bytes: Option<ByteSize>,
    /// The newest so many offsets of each partition stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retention_count: Option<u64>,
    /// If set, of the records with one key only the newest stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) compaction: Option<Compaction>,
    /// Which schemas may follow, once the product is not a draft any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) compatibility: Option<Compatibility>,
    /// What readers of a Protobuf product rely on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) protobuf_profile: Option<ProtobufProfile>,
    /// What becomes of records that do not conform, where the schema is enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) on_fail: Option<OnFail>,
    /// What stands before each value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) framing: Option<Framing>,
}

/// How records go that a newer one of their key replaces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Compaction {
    /// A record without a value stays at least this long, as `24h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tombstone_min_age: Option<Length>,
}

impl Settings {
    /// Whether nothing was decided.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Document {
    /// Puts the name of the file where none is named, so that everything says itself whose it is.
    pub(crate) fn spread_manager(&mut self) {
        let by = std::mem::take(&mut self.managed_by);
        let teams = self.teams.iter_mut().map(|team| &mut team.managed_by);
        let keys = self.tag_keys.iter_mut().map(|key| &mut key.managed_by);
        let domains = self.domains.iter_mut().map(|domain| &mut domain.managed_by);
        let products = self.products.iter_mut().map(|product| &mut product.managed_by);
        for own in teams.chain(keys).chain(domains).chain(products) {
            if own.is_empty() {
                own.clone_from(&by);
            }
        }
    }

    /// The reverse: what everything says alike is said once.
    pub(crate) fn gather_manager(&mut self) {
        let teams = self.teams.iter_mut().map(|team| &mut team.managed_by);
        let keys = self.tag_keys.iter_mut().map(|key| &mut key.managed_by);
        let domains = self.domains.iter_mut().map(|domain| &mut domain.managed_by);
        let products = self.products.iter_mut().map(|product| &mut product.managed_by);
        let mut all: Vec<&mut String> = teams.chain(keys).chain(domains).chain(products).collect();
        let Some(first) = all.first().map(|first| String::clone(first)) else { return };
        if all.iter().all(|own| **own == first) {
            all.iter_mut().for_each(|own| own.clear());
            self.managed_by = first;
        }
    }
}
