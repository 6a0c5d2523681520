//! The shipped program, for tests that run it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The binary under test: `MESHLOG_BINARY`, or the one beside this test, which `build` builds with
/// the command it is given, if it is not there or not new.
///
/// # Errors
/// Those of `build`; or the test does not know where it stands.
pub fn binary(build: impl FnOnce(Command) -> Result<(), String>) -> Result<PathBuf, String> {
    if let Some(binary) = std::env::var_os("MESHLOG_BINARY") {
        return Ok(binary.into());
    }
    let this = std::env::current_exe()
        .map_err(|error| format!("this test does not know its path: {error}"))?;
    // target/<profile>/deps/<test>-<hash>
    let profile =
        this.parent().and_then(Path::parent).ok_or("this test is not below a target folder")?;
    // Whoever runs all tests has it already: built with these targets, it is the one that the tests
    // of `cli` use, while `cargo build` would build it once more with fewer features of its
    // dependencies.
    let mut command = Command::new(env!("CARGO"));
    command.args(["test", "--workspace", "--test", "cli", "--no-run", "--quiet"]);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.ends_with("release") {
        command.arg("--release");
    }
    build(command)?;
    Ok(profile.join("meshlog"))
}
