//! What a product's owner decided, and what applies.

use std::time::Duration;

use meshlog_proto::v1::{
    Compaction, Compatibility, Durability, Enforcement, Framing, OnFail, ProductSettings,
    ProtobufProfile, SchemaFormat,
};
use meshlog_storage::Policy;

use super::change::served;
use super::product::ProductHandle;
use super::{Catalogue, invalid};
use crate::error::Result;
use crate::schema::Handling;

/// Records of a product that is created in the sandbox stay this long, unless it is said otherwise.
pub(super) const SANDBOX_AGE: Duration = Duration::from_secs(7 * DAY);
/// A tombstone stays at least this long, unless it is said otherwise.
const TOMBSTONE_AGE: Duration = Duration::from_secs(DAY);

const DAY: u64 = 86_400;
const LEAST_AGE: Duration = Duration::from_secs(1);
/// What 64 bits of nanoseconds hold is about six times as much.
const MOST_AGE: Duration = Duration::from_secs(36_500 * DAY);
/// Clients have signed numbers.
const MOST: u64 = i64::MAX as u64;

impl Catalogue {
    /// The settings that apply to a product.
    pub(crate) fn effective_settings(
        &self,
        product: &ProductHandle,
    ) -> Result<Option<ProductSettings>> {
        Ok(served(&self.inner.view, product)?.effective_settings)
    }
}

/// What applies, with defaults filled in.
///
/// # Errors
/// For a value that is not known, that cannot be kept for this format, or that is out of bounds.
pub(super) fn resolve(
    set: Option<&ProductSettings>,
    format: SchemaFormat,
) -> Result<ProductSettings> {
    let set = set.copied().unwrap_or_default();
    let has_rules = has_rules(format);
    let enforcement = match Enforcement::try_from(set.enforcement) {
        Ok(Enforcement::Unspecified) if has_rules => Enforcement::Enforce,
        Ok(Enforcement::Unspecified | Enforcement::Off) => Enforcement::Off,
        Ok(asked) if has_rules => asked,
        Ok(_) => {
            return Err(invalid(
                "settings.enforcement",
                "a product without a schema has nothing to check; leave it out, or give the \
                 product a JSON Schema, an Avro or a Protobuf schema",
            ));
        }
        Err(_) => return Err(invalid("settings.enforcement", "use OFF, WARN or ENFORCE")),
    };
    let on_fail = match OnFail::try_from(set.on_fail) {
        Ok(OnFail::Unspecified | OnFail::Reject) => OnFail::Reject,
        Ok(OnFail::Quarantine) if enforcement == Enforcement::Enforce => OnFail::Quarantine,
        Ok(OnFail::Quarantine) => {
            return Err(invalid(
                "settings.on_fail",
                "QUARANTINE needs the enforcement ENFORCE: nothing else keeps records out",
            ));
        }
        Err(_) => return Err(invalid("settings.on_fail", "use REJECT or QUARANTINE")),
    };
    let framing = match Framing::try_from(set.framing) {
        Ok(Framing::Unspecified | Framing::None) => Framing::None,
        Ok(Framing::Confluent) if has_rules => Framing::Confluent,
        Ok(Framing::Confluent) => {
            let what = "a product without a schema has no schema id that could stand before values";
            return Err(invalid("settings.framing", what));
        }
        Err(_) => return Err(invalid("settings.framing", "use NONE or CONFLUENT")),
    };
    let durability = match Durability::try_from(set.minimum_durability) {
        Ok(Durability::Unspecified | Durability::Written) => Durability::Written,
        Ok(Durability::Synced) => Durability::Synced,
        Ok(Durability::Memory) | Err(_) => {
            return Err(invalid("settings.minimum_durability", "use WRITTEN or SYNCED"));
        }
    };
    check_limits(&set)?;
    let compatibility = match Compatibility::try_from(set.compatibility) {
        Ok(Compatibility::Unspecified) => Compatibility::Retained,
        Ok(set) => set,
        Err(_) => {
            return Err(invalid(
                "settings.compatibility",
                "use NONE, BACKWARD, FORWARD, FULL, the same with _TRANSITIVE, or RETAINED",
            ));
        }
    };
    let profile = match ProtobufProfile::try_from(set.protobuf_profile) {
        Ok(ProtobufProfile::Unspecified) => ProtobufProfile::WireJson,
        Ok(set) => set,
        Err(_) => return Err(invalid("settings.protobuf_profile", "use WIRE or WIRE_JSON")),
    };
    Ok(ProductSettings {
        compatibility: compatibility.into(),
        protobuf_profile: match format {
            SchemaFormat::Protobuf => profile.into(),
            _ => set.protobuf_profile,
        },
        enforcement: enforcement.into(),
        on_fail: on_fail.into(),
        framing: framing.into(),
        minimum_durability: durability.into(),
        retention_age: set.retention_age.filter(|age| *age != prost_types::Duration::default()),
        compaction: set.compaction.map(|compaction| Compaction {
            tombstone_min_age: Some(tombstone_age(&compaction).try_into().unwrap_or_default()),
        }),
        ..set
    })
}

fn check_limits(set: &ProductSettings) -> Result<()> {
    let age = set.retention_age.map(Duration::try_from);
    let is_right = |age: Duration| age.is_zero() || (LEAST_AGE..=MOST_AGE).contains(&age);
    if age.is_some_and(|age| !age.is_ok_and(is_right)) {
        let what = "from 1 s to 36,500 days, or 0 for no limit";
        return Err(invalid("settings.retention_age", what));
    }
    for (field, value) in [
        ("settings.retention_bytes", set.retention_bytes),
        ("settings.retention_count", set.retention_count),
    ] {
        if value > MOST {
            return Err(invalid(field, format!("at most {MOST}, or 0 for no limit")));
        }
    }
    let tombstones = set.compaction.and_then(|compaction| compaction.tombstone_min_age);
    let tombstones = tombstones.map(Duration::try_from);
    if tombstones.is_some_and(|age| !age.is_ok_and(|age| age <= MOST_AGE)) {
        let what = "from 0 to 36,500 days";
        return Err(invalid("settings.compaction.tombstone_min_age", what));
    }
    Ok(())
}

fn tombstone_age(compaction: &Compaction) -> Duration {
    let said = compaction.tombstone_min_age.and_then(|age| Duration::try_from(age).ok());
    said.unwrap_or(TOMBSTONE_AGE)
}

/// How long the engine keeps the records of each partition. What was stored has passed
/// [`resolve`].
pub(super) fn policy(set: Option<&ProductSettings>) -> Policy {
    let set = set.copied().unwrap_or_default();
    let limit = |value: u64| (value > 0).then_some(value);
    let age = set.retention_age.and_then(|age| Duration::try_from(age).ok());
    Policy {
        max_age: age.filter(|age| !age.is_zero()),
        max_bytes: limit(set.retention_bytes),
        max_count: limit(set.retention_count),
        compact: set.compaction.map(|compaction| meshlog_storage::Compaction {
            tombstone_min_age: tombstone_age(&compaction),
        }),
    }
}

/// Fills in what a product of the sandbox keeps; gives the path if that was not said.
pub(super) fn fill_sandbox(set: &mut Option<ProductSettings>) -> Option<&'static str> {
    let settings = set.get_or_insert_default();
    if settings.retention_age.is_some() {
        return None;
    }
    settings.retention_age = SANDBOX_AGE.try_into().ok();
    Some("settings.retention_age")
}

/// Whether schemas of this format say what values are.
fn has_rules(format: SchemaFormat) -> bool {
    matches!(format, SchemaFormat::JsonSchema | SchemaFormat::Avro | SchemaFormat::Protobuf)
}

/// How long quarantined records stay: as those of the product, but each of them counts.
pub(super) fn quarantine_policy(set: Option<&ProductSettings>) -> Policy {
    Policy { compact: None, ..policy(set) }
}

/// What becomes of records that do not conform; `None`: values are not checked. What was stored has
/// passed [`resolve`].
pub(super) fn handling(set: Option<&ProductSettings>, format: SchemaFormat) -> Option<Handling> {
    let set = set.copied().unwrap_or_default();
    match set.enforcement() {
        _ if !has_rules(format) => None,
        Enforcement::Off => None,
        Enforcement::Warn => Some(Handling::Warn),
        Enforcement::Enforce | Enforcement::Unspecified => match set.on_fail() {
            OnFail::Quarantine => Some(Handling::Quarantine),
            OnFail::Reject | OnFail::Unspecified => Some(Handling::Refuse),
        },
    }
}

/// The floor for appends, if there is one.
pub(super) fn floor(set: Option<&ProductSettings>) -> Option<meshlog_storage::Durability> {
    match Durability::try_from(set?.minimum_durability) {
        Ok(Durability::Synced) => Some(meshlog_storage::Durability::Synced),
        _ => None,
    }
}
