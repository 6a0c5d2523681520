//! Where programs of other languages are built: a copy of what a reader has, below the target folder.
//!
//! ```text
//! target/tmp/languages/proto                 as in the repository
//!                     /examples/<language>   the example, its packages and stubs, and the program of the scenarios
//!                     /ready/<language>      the fingerprint of the files that it was built from
//!                     /protoc                only where the machine has none
//! ```

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::files::{clear, copy, root, walk};
use crate::process::{Limit, run, shell};
use crate::report::Cell;
use crate::scenarios;

/// Brings a `protoc` where there is none.
const GRPCIO_TOOLS: &str = "grpcio-tools==1.85.1";

pub(crate) struct Workshop {
    folder: PathBuf,
    binary: PathBuf,
    /// Whether packages may be installed, and a skip is a failure.
    is_required: bool,
}

impl Workshop {
    /// Finds or builds the binary.
    pub(crate) fn open() -> Result<Self, String> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("languages");
        let is_required = std::env::var("MESHLOG_REQUIRE").is_ok_and(|value| value == "all");
        let proto = folder.join("proto");
        if proto.exists() {
            fs::remove_dir_all(&proto).map_err(|error| format!("{}: {error}", proto.display()))?;
        }
        copy(&root().join("proto/meshlog"), &proto.join("meshlog"))?;
        copy(&root().join("proto/google"), &proto.join("google"))?;
        Ok(Self {
            folder,
            binary: meshlog_tests::binary(|build| run(build, Limit::Installing).map(drop))?,
            is_required,
        })
    }

    pub(crate) fn binary(&self) -> &Path {
        &self.binary
    }

    /// The `.proto` files.
    pub(crate) fn contract(&self) -> PathBuf {
        self.folder.join("proto/meshlog")
    }

    pub(crate) fn scenarios(&self) -> PathBuf {
        scenarios::path()
    }

    pub(crate) fn folder_of(&self, language: &str) -> PathBuf {
        self.folder.join("examples").join(language)
    }

    /// `PATH` with the binary in it.
    pub(crate) fn path(&self) -> String {
        let own = self.binary.parent().unwrap_or(&self.binary);
        format!("{}:{}", own.display(), std::env::var("PATH").unwrap_or_default())
    }

    /// `PATH` with the binary and a `protoc` in it.
    pub(crate) fn path_with_protoc(&self) -> Result<String, Cell> {
        if Command::new("protoc")
            .arg("--version")
            .output()
            .is_ok_and(|output| output.status.success())
        {
            return Ok(self.path());
        }
        let folder = self.folder.join("protoc");
        let protoc = folder.join("protoc");
        if !protoc.exists() {
            if !self.is_required {
                return Err(self.skip(
                    "there is no `protoc`; install the package protobuf-compiler".to_owned(),
                ));
            }
            let make = || {
                fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
                let install = format!("python3 -m venv . && bin/pip install -q {GRPCIO_TOOLS}");
                run(shell(&install, &folder, &self.path()), Limit::Installing)?;
                let python = folder.join("bin/python");
                let script =
                    format!("#!/bin/sh\nexec {} -m grpc_tools.protoc \"$@\"\n", python.display());
                fs::write(&protoc, script)
                    .and_then(|()| fs::set_permissions(&protoc, fs::Permissions::from_mode(0o755)))
                    .map_err(|error| format!("{}: {error}", protoc.display()))
            };
            make().map_err(Cell::Failed)?;
        }
        Ok(format!("{}:{}", folder.display(), self.path()))
    }

    /// A skip, which is a failure where everything is required.
    pub(crate) fn skip(&self, why: String) -> Cell {
        if self.is_required { Cell::Failed(why) } else { Cell::Skipped(why) }
    }

    /// Copies the example of a language and, to this place in it, its program of the scenarios.
    pub(crate) fn bench(&self, language: &str, place: &str) -> Result<Bench, Cell> {
        let folder = self.folder_of(language);
        let example = root().join("examples").join(language);
        let program = root().join("tests/languages").join(language);
        let page = root().join("docs/clients").join(format!("{language}.md"));
        let sources = [
            example.clone(),
            program.clone(),
            page,
            self.folder.join("proto/meshlog"),
            self.folder.join("proto/google"),
        ];
        let bench = self.bench_of(language, folder, &sources)?;
        if !bench.is_ready() {
            let refill = || {
                clear(&bench.folder)?;
                copy(&example, &bench.folder)?;
                copy(&program, &bench.folder.join(place))
            };
            refill().map_err(Cell::Failed)?;
        }
        Ok(bench)
    }

    /// A folder for something built from these files. Whoever let packages be installed once, lets them be renewed.
    pub(crate) fn bench_of(
        &self,
        name: &str,
        folder: PathBuf,
        sources: &[PathBuf],
    ) -> Result<Bench, Cell> {
        let stamp = self.folder.join("ready").join(name);
        if !self.is_required && !stamp.exists() {
            return Err(self.skip(format!(
                "its packages are not installed; `MESHLOG_REQUIRE=all cargo test --workspace --test languages -- {name}` \
                 installs them below the target folder"
            )));
        }
        let fingerprint = fingerprint(sources).map_err(Cell::Failed)?;
        let bench = Bench { folder, stamp, fingerprint };
        if !bench.is_ready() && bench.stamp.exists() {
            // What is there is taken apart now, and must not pass for ready if this does not end well.
            bench.stamp_with("not ready").map_err(Cell::Failed)?;
        }
        Ok(bench)
    }
}

/// A folder in which something is built.
pub(crate) struct Bench {
    pub(crate) folder: PathBuf,
    stamp: PathBuf,
    fingerprint: String,
}

impl Bench {
    /// Whether it was built from the same files before.
    pub(crate) fn is_ready(&self) -> bool {
        self.folder.exists()
            && fs::read_to_string(&self.stamp).is_ok_and(|stamp| stamp == self.fingerprint)
    }

    pub(crate) fn mark_ready(&self) -> Result<(), String> {
        self.stamp_with(&self.fingerprint)
    }

    fn stamp_with(&self, text: &str) -> Result<(), String> {
        let folder = self.stamp.parent().unwrap_or(&self.stamp);
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&self.stamp, text))
            .map_err(|error| format!("{}: {error}", self.stamp.display()))
    }
}

fn fingerprint(sources: &[PathBuf]) -> Result<String, String> {
    let mut hasher = DefaultHasher::new();
    for source in sources {
        let mut visit = |file: &Path| {
            file.strip_prefix(source).unwrap_or(file).hash(&mut hasher);
            fs::read(file).unwrap_or_default().hash(&mut hasher);
        };
        match source.is_dir() {
            true => walk(source, &mut visit)?,
            false => visit(source),
        }
    }
    Ok(format!("{:016x}", hasher.finish()))
}
