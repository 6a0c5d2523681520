//! A product as the record path sees it.

use std::fmt;
use std::sync::{Arc, OnceLock};

use meshlog_proto::v1::{self, Enforcement, SchemaFormat};
use meshlog_storage::{Durability, StreamId};

use super::settings;
use super::stored::{self, Key, StoredProduct, StoredVersion};
use crate::Usage;
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
    /// How much it is used; one for all handles of the product.
    pub usage: Arc<Usage>,
    /// The [`StoredProduct`], encoded: the rest is read from it when it is asked for.
    stored: bytes::Bytes,
    versions: Vec<Version>,
    key_rule: Option<FieldPath>,
    enforced: bool,
}

/// One schema version of a product.
pub(super) struct Version {
    pub(super) number: u32,
    pub(super) storage_id: u32,
    pub(super) value: Arc<Schema>,
    pub(super) key: Option<Arc<Schema>>,
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
        usage: impl FnOnce(&str) -> Option<Arc<Usage>>,
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
            name: Arc::from(product.name),
            usage: usage(&product.id).unwrap_or_default(),
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

    /// As clients see it, except for the contacts.
    pub(super) fn message(&self) -> Result<v1::Product> {
        let mut product = self.stored()?.product.unwrap_or_default();
        let current = self.current();
        product.schema_version = current.number;
        product.effective_settings =
            Some(settings::resolve(product.settings.as_ref(), current.value.format())?);
        Ok(product)
    }
}
