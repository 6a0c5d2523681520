//! Which fields of a thing an update changes.

use super::invalid;
use super::name::shown;
use crate::error::{Error, Result};

/// Most paths in one mask.
const MAX_PATHS: usize = 64;

/// The paths of a mask; without one, the fields that were given a value.
///
/// # Errors
/// `INVALID_ARGUMENT` if that leaves nothing to change; it lists what can be.
pub(super) fn paths(
    mask: Option<prost_types::FieldMask>,
    given: &[(&str, bool)],
) -> Result<Vec<String>> {
    let paths = match mask {
        Some(mask) if !mask.paths.is_empty() => mask.paths,
        _ => {
            let given = given.iter().filter(|(_, given)| *given);
            given.map(|(path, _)| (*path).to_owned()).collect()
        }
    };
    if paths.len() > MAX_PATHS {
        return Err(invalid("update_mask", format!("at most {MAX_PATHS} paths")));
    }
    match paths.is_empty() {
        true => Err(invalid("update_mask", format!("name what to change: {}", changeable(given)))),
        false => Ok(paths),
    }
}

/// A path that no update changes.
pub(super) fn unknown(path: &str, given: &[(&str, bool)]) -> Error {
    let path = shown(path);
    invalid(
        "update_mask",
        format!("`{path}` cannot be changed; what can is: {}", changeable(given)),
    )
}

fn changeable(given: &[(&str, bool)]) -> String {
    given.iter().map(|(path, _)| *path).collect::<Vec<_>>().join(", ")
}
