//! What a product's owner decided, and what applies.

use meshlog_proto::v1::{Durability, Enforcement, ProductSettings, SchemaFormat};

use super::invalid;
use crate::error::Result;

/// What applies, with defaults filled in.
///
/// # Errors
/// For a value that is not known, or that cannot be kept for this format.
pub(super) fn resolve(
    set: Option<&ProductSettings>,
    format: SchemaFormat,
) -> Result<ProductSettings> {
    let set = set.copied().unwrap_or_default();
    let default = match format {
        SchemaFormat::JsonSchema => Enforcement::Enforce,
        _ => Enforcement::Off,
    };
    let enforcement = match Enforcement::try_from(set.enforcement) {
        Ok(Enforcement::Unspecified) => default,
        Ok(Enforcement::Off) => Enforcement::Off,
        Ok(Enforcement::Enforce) if default == Enforcement::Enforce => Enforcement::Enforce,
        Ok(Enforcement::Enforce) => {
            return Err(invalid(
                "settings.enforcement",
                "only JSON Schema can be enforced; leave it out, or give the product a JSON Schema",
            ));
        }
        Err(_) => return Err(invalid("settings.enforcement", "use OFF or ENFORCE")),
    };
    let durability = match Durability::try_from(set.minimum_durability) {
        Ok(Durability::Unspecified | Durability::Written) => Durability::Written,
        Ok(Durability::Synced) => Durability::Synced,
        Ok(Durability::Memory) | Err(_) => {
            return Err(invalid("settings.minimum_durability", "use WRITTEN or SYNCED"));
        }
    };
    Ok(ProductSettings { enforcement: enforcement.into(), minimum_durability: durability.into() })
}

/// The floor for appends, if there is one.
pub(super) fn floor(set: Option<&ProductSettings>) -> Option<meshlog_storage::Durability> {
    match Durability::try_from(set?.minimum_durability) {
        Ok(Durability::Synced) => Some(meshlog_storage::Durability::Synced),
        _ => None,
    }
}
