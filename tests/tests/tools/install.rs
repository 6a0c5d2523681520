//! Finds other people's tools, or installs them below the folder of this build.

use std::path::PathBuf;
use std::process::Command;

use crate::{Outcome, run};

/// A tool from `PATH`, or one installed from the npm registry.
pub(crate) fn npm_tool(name: &str, package: &str, may_install: bool) -> Result<PathBuf, String> {
    if is_there(name) {
        return Ok(name.into());
    }
    let modules = npm_packages("npm", &[package], may_install)?;
    Ok(modules.join(".bin").join(name))
}

/// The `node_modules` with these packages, in a folder of this name.
pub(crate) fn npm_packages(
    folder: &str,
    packages: &[&str],
    may_install: bool,
) -> Result<PathBuf, String> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(folder);
    let modules = folder.join("node_modules");
    // Written last, so a broken installation is made again.
    let stamp = folder.join("installed");
    let wanted = packages.join(" ");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(modules);
    }
    if !may_install {
        return Err(format!("`npm install {wanted}` was not done; MESHLOG_REQUIRE=all does it"));
    }
    let mut install = Command::new("npm");
    install.args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(&folder).args(packages);
    done(run(&mut install), &wanted)?;
    std::fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(modules)
}

/// A tool from `PATH`, or one built from the Go module proxy.
pub(crate) fn go_tool(name: &str, package: &str, may_install: bool) -> Result<PathBuf, String> {
    if is_there(name) {
        return Ok(name.into());
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("go");
    let tool = folder.join(name);
    if tool.exists() {
        return Ok(tool);
    }
    if !may_install {
        return Err(format!("{name} is not installed; `go install {package}` installs it"));
    }
    let mut install = Command::new("go");
    install.args(["install", package]).env("GOBIN", &folder).current_dir(std::env::temp_dir());
    done(run(&mut install), package).map(|()| tool)
}

/// A tool from `PATH`, or one of a Debian package, which needs root.
pub(crate) fn debian_tool(name: &str, package: &str, may_install: bool) -> Result<String, String> {
    if is_there(name) {
        return Ok(name.to_owned());
    }
    if !may_install {
        return Err(format!("{name} is not installed; `apt-get install {package}` installs it"));
    }
    _ = run(Command::new("apt-get").args(["update", "-qq"]));
    let mut install = Command::new("apt-get");
    install.args(["install", "-y", "-qq", "--no-install-recommends", package]);
    install.env("DEBIAN_FRONTEND", "noninteractive");
    done(run(&mut install), package).map(|()| name.to_owned())
}

/// A Python that can import these modules, or one in a folder of this name with this package.
pub(crate) fn python_with(
    folder: &str,
    package: &str,
    modules: &str,
    may_install: bool,
) -> Result<PathBuf, String> {
    let imports = |python: &PathBuf| {
        let asked = Command::new(python).args(["-c", &format!("import {modules}")]).output();
        asked.is_ok_and(|output| output.status.success())
    };
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(folder);
    let own = folder.join("bin/python");
    for python in [PathBuf::from("python3"), own.clone()] {
        if imports(&python) {
            return Ok(python);
        }
    }
    if !may_install {
        return Err(format!(
            "the Python package is not installed; `pip install '{package}'` installs it"
        ));
    }
    done(run(Command::new("python3").args(["-m", "venv"]).arg(&folder)), package)?;
    let mut install = Command::new(&own);
    install.args(["-m", "pip", "install", "--quiet", package]);
    done(run(&mut install), package).map(|()| own)
}

fn is_there(name: &str) -> bool {
    Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
}

fn done(outcome: Outcome, what: &str) -> Result<(), String> {
    match outcome {
        Outcome::Passed => Ok(()),
        Outcome::Failed(why) | Outcome::Skipped(why) => {
            Err(format!("{what} is not installed and could not be installed:\n{why}"))
        }
    }
}
