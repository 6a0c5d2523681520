//! A product as the record path sees it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use meshlog_proto::v1::{self, Framing, ProductState, SchemaFormat};
use meshlog_storage::{Durability, StreamId};

use super::notice::Deprecation;
use super::stored::{self, Key, StoredProduct, StoredVersion};
use super::{attached, is_internal, rights, settings};
use crate::Traffic;
use crate::error::{Error, Reason, Result};
use crate::rule::Rules;
use crate::schema::{
    FieldPath, Fingerprint, Frame, Handling, RecordCheck, RecordValidator, Schema, after_indexes,
    split_frame,
};

/// A product at one moment. Never changes: a change of the product makes another handle, and a
/// handle that was resolved before goes on to mean what it meant.
pub struct ProductHandle {
    /// `<domain>.<name>`.
    pub name: Arc<str>,
    /// Given once, never used again.
    pub id: Arc<str>,
    /// Given once, never used again: the admission class, and the scope of producer sequences.
    pub number: u64,
    /// One per partition.
    pub streams: Vec<StreamId>,
    /// A floor for every append; `None`: there is none.
    pub minimum_durability: Option<Durability>,
    /// Who appends to it and who reads it; one for all handles of the product.
    pub traffic: Arc<Traffic>,
    /// What it names, for the indexes of the view.
    pub(super) names: Names,
    owner: Arc<str>,
    state: ProductState,
    is_restricted: bool,
    /// Its own, by which grants find it: `key`, and `key=value`.
    pub(super) tags: Box<[Box<str>]>,
    /// What readers and producers of a deprecated product are told.
    deprecation: Option<Box<Deprecation>>,
    /// The [`StoredProduct`], encoded: the rest is read from it when it is asked for.
    stored: bytes::Bytes,
    versions: Vec<Version>,
    key_rule: Option<FieldPath>,
    /// What becomes of records that do not conform; `None`: values are not checked.
    handling: Option<Handling>,
    /// Whether a schema id stands before each value.
    is_framed: bool,
    is_compacted: bool,
    has_rules: bool,
    /// Compiled when they are first used.
    rules: OnceLock<Rules>,
    /// `<name>$quarantine`, once there was a need for it.
    pub(super) quarantine: Option<Arc<ProductHandle>>,
    /// Of what is attached: the id of its product.
    attached_to: Option<Arc<str>>,
}

/// What a product names.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Its own earlier names.
    pub(super) aliases: Box<[Arc<str>]>,
    /// Its owner, and the team that it is offered to.
    pub(super) teams: Box<[Arc<str>]>,
    /// The keys of its tags, each once.
    pub(super) tag_keys: Box<[Arc<str>]>,
    /// Ids of its inputs and of its successor, each once.
    pub(super) products: Box<[Arc<str>]>,
}

impl Names {
    fn of(product: &v1::Product) -> Self {
        fn each_once<'a>(names: impl Iterator<Item = &'a str>) -> Box<[Arc<str>]> {
            let names: BTreeSet<&str> = names.filter(|name| !name.is_empty()).collect();
            names.into_iter().map(Arc::from).collect()
        }
        let offered = product.pending_transfer.iter().map(|pending| pending.new_owner.as_str());
        let inputs = product.inputs.iter().map(String::as_str);
        Self {
            aliases: each_once(product.aliases.iter().map(String::as_str)),
            teams: each_once([product.owner.as_str()].into_iter().chain(offered)),
            tag_keys: each_once(product.tags.iter().map(|tag| tag.key.as_str())),
            products: each_once(inputs.chain([product.successor.as_str()])),
        }
    }
}

/// One schema version of a product.
#[derive(Clone)]
pub(super) struct Version {
    pub(super) number: u32,
    pub(super) storage_id: u32,
    pub(super) value: Arc<Schema>,
    pub(super) key: Option<Arc<Schema>>,
    /// Takes no more appends.
    pub(super) closed: bool,
}

/// The schema version of an append.
pub struct AppendSchema<'a> {
    /// As clients count.
    pub version: u32,
    /// As stored frames say it.
    pub storage_id: u32,
    /// What becomes of records that do not conform.
    pub handling: Handling,
    check: Option<RecordCheck<'a>>,
}

impl fmt::Debug for ProductHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProductHandle")
            .field("name", &self.name)
            .field("id", &self.id)
            .field("number", &self.number)
            .field("streams", &self.streams)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for AppendSchema<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppendSchema")
            .field("version", &self.version)
            .field("storage_id", &self.storage_id)
            .finish_non_exhaustive()
    }
}

impl AppendSchema<'_> {
    /// What checks the records; `None`: there is nothing to check.
    #[must_use]
    pub fn validator(&self) -> Option<&dyn RecordValidator> {
        self.check.as_ref().map(|check| check as &dyn RecordValidator)
    }
}

impl ProductHandle {
    /// The schema version that an append names; 0 is the current one.
    ///
    /// The first call for a version may compile its schema; later ones only look it up.
    ///
    /// # Errors
    /// `SCHEMA_VERSION_UNKNOWN`; `SCHEMA_VERSION_REQUIRED` for 0 where the bytes do not say which
    /// version they are (Avro, Protobuf) and there are several.
    pub fn schema(&self, schema_version: u32) -> Result<AppendSchema<'_>> {
        self.schema_of_values(schema_version, None)
    }

    /// As [`ProductHandle::schema`]; `named` is the version that the values name, if they do.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn schema_of_values(
        &self,
        schema_version: u32,
        named: Option<u32>,
    ) -> Result<AppendSchema<'_>> {
        let current = self.current();
        let several = self.versions.len() > 1;
        let format = current.value.format();
        let schema_version = match schema_version {
            0 => named.unwrap_or_default(),
            asked => asked,
        };
        if schema_version == 0
            && several
            && !self.is_framed
            && matches!(format, SchemaFormat::Avro | SchemaFormat::Protobuf)
        {
            return Err(Error::new(
                Reason::SchemaVersionRequired,
                format!(
                    "the product `{}` has {} schema versions, and its values do not say which one \
                     they are; set schema_version to 1..={}",
                    self.name, current.number, current.number
                ),
            )
            .with("product", &self.name)
            .with("current_version", current.number));
        }
        let version = match schema_version {
            0 => current,
            number => self.version(number)?,
        };
        if version.closed {
            return Err(self.closed(version));
        }
        let check = self.check_of(version)?;
        Ok(AppendSchema {
            version: version.number,
            storage_id: version.storage_id,
            handling: self.handling.unwrap_or(Handling::Refuse),
            check: (!check.is_empty()).then_some(check),
        })
    }

    /// Whether a schema id stands before each value.
    pub(crate) fn is_framed(&self) -> bool {
        self.is_framed
    }

    /// A value without the schema id before it, where there is one of a version of this product.
    pub(crate) fn unframed<'a>(&self, value: &'a [u8]) -> &'a [u8] {
        if !self.is_framed {
            return value;
        }
        match split_frame(value) {
            Some((id, rest)) if self.version_of_id(id).is_some() => {
                let is_protobuf = self.current().value.format() == SchemaFormat::Protobuf;
                if is_protobuf { after_indexes(rest).unwrap_or(rest) } else { rest }
            }
            _ => value,
        }
    }

    /// The version with this schema id, as clients count.
    pub(crate) fn version_of_id(&self, schema_id: u32) -> Option<u32> {
        let found = self.versions.iter().rev().find(|version| version.storage_id == schema_id);
        found.map(|version| version.number)
    }

    #[cold]
    fn closed(&self, version: &Version) -> Error {
        let (number, current) = (version.number, self.current().number);
        Error::new(
            Reason::SchemaVersionClosed,
            format!(
                "schema version {number} of `{}` takes no more appends: no record of it was left when \
                 a version was added that does not read it; append with version {current}",
                self.name
            ),
        )
        .with("product", &self.name)
        .with("schema_version", number)
        .with("current_version", current)
    }

    /// Whether nothing gets in that does not conform.
    pub(super) fn is_enforced(&self) -> bool {
        matches!(self.handling, Some(Handling::Refuse | Handling::Quarantine))
    }

    /// Whether it is attached to another product.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.attached_to.is_some()
    }

    /// Refuses what is attached where a product by itself is asked for: whoever may use the product
    /// may use it too.
    pub(super) fn refuse_attached(&self) -> Result<()> {
        match self.is_attached() {
            true => Err(read_only(&self.name)),
            false => Ok(()),
        }
    }

    /// The id by which grants and keys name it: what is attached goes with its product.
    pub(super) fn access_id(&self) -> &str {
        self.attached_to.as_deref().unwrap_or(&self.id)
    }

    /// `<name>$quarantine`, if there ever was a need for it.
    pub(crate) fn quarantine(&self) -> Option<&Arc<ProductHandle>> {
        self.quarantine.as_ref()
    }

    fn check_of(&self, version: &Version) -> Result<RecordCheck<'_>> {
        let validator = |schema: &Schema| match self.handling {
            Some(_) => schema.validator().map_err(|malformed| {
                malformed.in_field("value_schema").with("product", &self.name)
            }),
            None => Ok(None),
        };
        Ok(RecordCheck {
            value: validator(&version.value)?,
            key: version.key.as_ref().map(|key| validator(key)).transpose()?.flatten(),
            key_rule: match version.value.format() {
                SchemaFormat::JsonSchema => self.key_rule.as_ref(),
                _ => None,
            },
            frame: self
                .is_framed
                .then_some(Frame { schema_id: version.storage_id, version: version.number }),
            refuses_tombstones: self.handling.is_some() && !self.is_compacted,
            rules: match self.handling {
                Some(_) if self.has_rules => Some(self.rules()?),
                _ => None,
            },
            steps: AtomicU64::new(0),
        })
    }

    /// Its rules that are not disabled, compiled. They are few and short, so the first caller waits
    /// some tenths of a millisecond.
    pub(crate) fn rules(&self) -> Result<&Rules> {
        if let Some(rules) = self.rules.get() {
            return Ok(rules);
        }
        let rules = self.stored()?.product.unwrap_or_default().rules;
        Ok(self.rules.get_or_init(|| Rules::new(&rules, |rule| self.traffic.rule_counts(rule))))
    }

    /// The schema of the current version, and all rules, as they are stored.
    pub(crate) fn schema_and_rules(&self) -> Result<(Arc<Schema>, Vec<v1::Rule>)> {
        let rules = self.stored()?.product.unwrap_or_default().rules;
        Ok((Arc::clone(&self.current().value), rules))
    }

    /// The check of a schema version, 0 for the current one, for values that are not appended.
    pub(crate) fn check_of_version(&self, number: u32) -> Result<RecordCheck<'_>> {
        self.check_of(match number {
            0 => self.current(),
            number => self.version(number)?,
        })
    }

    /// Refuses an append that the product does not take, whatever is in it.
    ///
    /// # Errors
    /// `PRODUCT_READ_ONLY` for a product that the broker alone writes, `STATE_INVALID` for one that
    /// is retired.
    pub fn check_appendable(&self) -> Result<()> {
        match self.state {
            _ if is_internal(&self.name) || self.is_attached() => Err(read_only(&self.name)),
            ProductState::Retired => Err(self.retired()),
            _ => Ok(()),
        }
    }

    #[cold]
    fn retired(&self) -> Error {
        let next = match self.successor() {
            Some(_) => "append to its successor, which `meshlog product show` names",
            None => "it has no successor",
        };
        Error::new(
            Reason::StateInvalid,
            format!("the product `{}` is retired and takes no appends any more; {next}", self.name),
        )
        .with("product", &self.name)
        .with("state", "RETIRED")
    }

    /// The team that answers for it.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Where it is in its life.
    #[must_use]
    pub fn state(&self) -> ProductState {
        self.state
    }

    /// Whether only those who have some right on it may know that it exists.
    #[must_use]
    pub fn is_restricted(&self) -> bool {
        self.is_restricted
    }

    /// Whether everybody may do with it what they may do with the other one.
    pub(super) fn gives_the_same_rights(&self, other: &Self) -> bool {
        let facts = |of: &Self| (of.is_restricted, Arc::clone(&of.name), Arc::clone(&of.owner));
        facts(self) == facts(other)
            && self.tags == other.tags
            && self.names.teams == other.names.teams
    }

    /// What is to be told to those who use it; `None` for a product that is not deprecated.
    pub(super) fn deprecation(&self) -> Option<&Deprecation> {
        self.deprecation.as_deref()
    }

    /// The id of its successor.
    pub(super) fn successor(&self) -> Option<&Arc<str>> {
        self.deprecation.as_ref()?.successor.as_ref()
    }

    pub(super) fn current(&self) -> &Version {
        &self.versions[self.versions.len() - 1]
    }

    pub(super) fn version(&self, number: u32) -> Result<&Version> {
        // Versions are counted from 1 without gaps.
        let found = (number as usize).checked_sub(1).and_then(|at| self.versions.get(at));
        found.ok_or_else(|| {
            let current = self.current().number;
            Error::new(
                Reason::SchemaVersionUnknown,
                format!(
                    "the product `{}` has no schema version {number}; it has 1..={current}",
                    self.name
                ),
            )
            .with("product", &self.name)
            .with("schema_version", number)
            .with("current_version", current)
        })
    }

    pub(super) fn versions(&self) -> &[Version] {
        &self.versions
    }

    pub(super) fn key_rule(&self) -> Option<&FieldPath> {
        self.key_rule.as_ref()
    }

    /// Digests of all schemas, with repetitions.
    pub(super) fn digests(&self) -> impl Iterator<Item = Fingerprint> {
        self.versions.iter().flat_map(|version| {
            [Some(version.value.digest()), version.key.as_ref().map(|key| key.digest())]
                .into_iter()
                .flatten()
        })
    }

    /// As it is stored.
    pub(super) fn stored(&self) -> Result<StoredProduct> {
        stored::decode(Key::Product(&self.id), self.stored.clone())
    }

    /// A handle of what is stored.
    pub(super) fn from_stored(
        key: Key<'_>,
        encoded: bytes::Bytes,
        schema: impl Fn(&Fingerprint) -> Option<Arc<Schema>>,
        traffic: impl Fn(&str) -> Arc<Traffic>,
    ) -> Result<Self> {
        let stored: StoredProduct = stored::decode(key, encoded.clone())?;
        let product = stored.product.unwrap_or_default();
        let find = |bytes: &[u8]| {
            let digest = stored::digest(key, bytes)?;
            let missing = || stored::unreadable(key, "one of its schemas is missing");
            schema(&digest).ok_or_else(missing)
        };
        let version = |(at, version): (usize, &StoredVersion)| {
            if version.version as usize != at + 1 {
                return Err(stored::unreadable(key, "its schema versions have a gap"));
            }
            Ok(Version {
                number: version.version,
                storage_id: version.storage_id,
                value: find(&version.value)?,
                key: match version.key.is_empty() {
                    true => None,
                    false => Some(find(&version.key)?),
                },
                closed: version.closed,
            })
        };
        let versions =
            stored.versions.iter().enumerate().map(version).collect::<Result<Vec<_>>>()?;
        if versions.is_empty() || stored.streams.is_empty() {
            return Err(stored::unreadable(key, "it has no schema version or no partition"));
        }
        let settings = product.settings.as_ref();
        let format = versions.last().map_or(SchemaFormat::Unspecified, |last| last.value.format());
        let quarantine = stored.quarantine.map(|stream| {
            let described = attached::described(&product);
            let id: Arc<str> = Arc::from(attached::quarantine_of(&product.id));
            let attached = StoredProduct {
                product: Some(described),
                number: stored.number,
                streams: vec![stream],
                versions: stored.versions.clone(),
                quarantine: None,
            };
            Arc::new(Self {
                names: Names::of(&product),
                owner: Arc::from(&*product.owner),
                state: product.state(),
                tags: rights::tag_names(&product.tags).collect(),
                is_restricted: product.classification() == v1::Classification::Restricted,
                deprecation: None,
                name: Arc::from(attached::quarantine_of(&product.name)),
                traffic: traffic(&id),
                id,
                number: stored.number,
                streams: vec![StreamId(stream)],
                minimum_durability: None,
                stored: prost::Message::encode_to_vec(&attached).into(),
                versions: versions.clone(),
                key_rule: None,
                handling: None,
                is_framed: false,
                is_compacted: false,
                has_rules: false,
                rules: OnceLock::new(),
                quarantine: None,
                attached_to: Some(Arc::from(&*product.id)),
            })
        });
        Ok(Self {
            handling: settings::handling(settings, format),
            is_framed: settings.is_some_and(|set| set.framing() == Framing::Confluent),
            is_compacted: settings.is_some_and(|set| set.compaction.is_some()),
            has_rules: product.rules.iter().any(|rule| !rule.disabled),
            rules: OnceLock::new(),
            quarantine,
            attached_to: None,
            names: Names::of(&product),
            owner: Arc::from(&*product.owner),
            state: product.state(),
            tags: rights::tag_names(&product.tags).collect(),
            is_restricted: product.classification() == v1::Classification::Restricted,
            deprecation: Deprecation::of(&product).map(Box::new),
            name: Arc::from(product.name),
            traffic: traffic(&product.id),
            id: Arc::from(product.id),
            number: stored.number,
            streams: stored.streams.into_iter().map(StreamId).collect(),
            minimum_durability: settings::floor(settings),
            stored: encoded,
            versions,
            key_rule: product.key.map(|rule| FieldPath::new(&rule.field)),
        })
    }
}

/// A change that nobody but the broker makes.
#[cold]
pub(super) fn read_only(name: &str) -> Error {
    Error::new(
        Reason::ProductReadOnly,
        format!("the broker alone writes and changes the product `{name}`; it can be read"),
    )
    .with("product", name)
}
