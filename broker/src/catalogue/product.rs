//! A product as the record path sees it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, OnceLock};

use meshlog_proto::v1::{self, Enforcement, ProductState, SchemaFormat};
use meshlog_storage::{Durability, StreamId};

use super::notice::Deprecation;
use super::stored::{self, Key, StoredProduct, StoredVersion};
use super::{is_internal, rights, settings};
use crate::Traffic;
use crate::error::{Error, Reason, Result};
use crate::schema::{FieldPath, Fingerprint, Malformed, RecordCheck, RecordValidator, Schema};

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
    enforced: bool,
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
pub(super) struct Version {
    pub(super) number: u32,
    pub(super) storage_id: u32,
    pub(super) value: Arc<Schema>,
    pub(super) key: Option<Arc<Schema>>,
    /// Takes no more appends.
    pub(super) closed: bool,
    check: OnceLock<Result<Option<RecordCheck>, Malformed>>,
}

/// The schema version of an append.
pub struct AppendSchema<'a> {
    /// As clients count.
    pub version: u32,
    /// As stored frames say it.
    pub storage_id: u32,
    check: Option<&'a RecordCheck>,
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

impl<'a> AppendSchema<'a> {
    /// What checks the records; `None`: there is nothing to check.
    #[must_use]
    pub fn validator(&self) -> Option<&'a dyn RecordValidator> {
        self.check.map(|check| check as &dyn RecordValidator)
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
        let current = self.current();
        let several = self.versions.len() > 1;
        let format = current.value.format();
        if schema_version == 0
            && several
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
        let check = version.check.get_or_init(|| self.compile(version)).as_ref();
        let check = check.map_err(|malformed| {
            malformed.clone().in_field("value_schema").with("product", &self.name)
        })?;
        Ok(AppendSchema {
            version: version.number,
            storage_id: version.storage_id,
            check: check.as_ref(),
        })
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

    /// Whether values are checked on write.
    pub(super) fn is_enforced(&self) -> bool {
        self.enforced
    }

    fn compile(&self, version: &Version) -> Result<Option<RecordCheck>, Malformed> {
        let validator = |schema: &Schema| match self.enforced {
            true => Ok(schema.validator()?.cloned()),
            false => Ok(None),
        };
        let check = RecordCheck {
            value: validator(&version.value)?,
            key: version.key.as_ref().map(|key| validator(key)).transpose()?.flatten(),
            key_rule: match version.value.format() {
                SchemaFormat::JsonSchema => self.key_rule.clone(),
                _ => None,
            },
        };
        Ok((!check.is_empty()).then_some(check))
    }

    /// Refuses an append that the product does not take, whatever is in it.
    ///
    /// # Errors
    /// `PRODUCT_READ_ONLY` for a product that the broker alone writes, `STATE_INVALID` for one that
    /// is retired.
    pub fn check_appendable(&self) -> Result<()> {
        match self.state {
            _ if is_internal(&self.name) => Err(read_only(&self.name)),
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
        traffic: impl FnOnce(&str) -> Arc<Traffic>,
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
                check: OnceLock::new(),
            })
        };
        let versions =
            stored.versions.iter().enumerate().map(version).collect::<Result<Vec<_>>>()?;
        if versions.is_empty() || stored.streams.is_empty() {
            return Err(stored::unreadable(key, "it has no schema version or no partition"));
        }
        let settings = product.settings.as_ref();
        Ok(Self {
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
            enforced: settings
                .is_none_or(|settings| settings.enforcement != i32::from(Enforcement::Off)),
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
