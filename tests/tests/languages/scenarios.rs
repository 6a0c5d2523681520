//! `languages/scenarios.json`, as far as this side needs it: the programs read the rest.

use std::path::PathBuf;

use crate::files::{read as read_file, root};

pub(crate) struct Scenario {
    pub(crate) name: String,
    /// All of it.
    pub(crate) given: serde_json::Value,
}

pub(crate) fn path() -> PathBuf {
    root().join("tests/languages/scenarios.json")
}

pub(crate) fn read() -> Result<Vec<Scenario>, String> {
    let file: serde_json::Value = serde_json::from_str(&read_file(&path())?)
        .map_err(|error| format!("{}: {error}", path().display()))?;
    let given = file["scenarios"].as_array().cloned().unwrap_or_default();
    let scenarios: Vec<_> = given
        .into_iter()
        .map(|given| Scenario {
            name: given["name"].as_str().unwrap_or_default().to_owned(),
            given,
        })
        .collect();
    match scenarios.len() {
        0 => Err(format!("{} has no scenarios", path().display())),
        _ => Ok(scenarios),
    }
}
