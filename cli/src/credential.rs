//! The key that commands send: where it is found, and files that only their owner can read.
//!
//! It is never an argument, because everybody on the machine can see those.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use clap::{Args, ValueHint};
use meshlog_client::Key;

use crate::{
    exit::{Exit, Failure, Result},
    output,
    settings::{Setting, Source, environment},
};

/// The variable that holds a key itself.
const VARIABLE: &str = "MESHLOG_KEY";
/// Most bytes of a file with a key; tokens are longer than keys.
const MAX_BYTES: u64 = 16 << 10;

/// What says who calls.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct KeyArgs {
    /// File with the key that says who calls [env: MESHLOG_KEY_FILE, or MESHLOG_KEY with the key
    /// itself] [default: that of the context, or `key_file` of the configuration file]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) key_file: Option<PathBuf>,
}

/// Where the key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In this file.
    File(PathBuf),
    /// In the variable itself.
    Environment,
}

impl Place {
    /// As `config show` says it, which is not the key.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Environment => "(hidden)".to_owned(),
        }
    }

    /// The key; `warns` says whether a file that others can read is told of.
    pub(crate) fn read(&self, warns: bool) -> Result<Key> {
        match self {
            Self::File(path) => read(path, warns),
            Self::Environment => {
                let found = environment(VARIABLE).map(|setting| setting.value);
                Ok(Key::from(found.unwrap_or_default().trim()))
            }
        }
    }
}

impl KeyArgs {
    /// Flag, environment, then what the configuration file says for this broker; before the
    /// environment, if the context was `named` on the command line.
    pub(crate) fn resolve(
        &self,
        of_file: Option<Setting<PathBuf>>,
        named: bool,
    ) -> Option<Setting<Place>> {
        let flag = self.key_file.clone();
        let flag = flag.map(|path| Setting::new(Place::File(path), Source::Flag("--key-file")));
        let text = || {
            let Setting { source, .. } = environment(VARIABLE)?;
            Some(Setting::new(Place::Environment, source))
        };
        let file = || {
            let Setting { value, source } = environment("MESHLOG_KEY_FILE")?;
            Some(Setting::new(Place::File(value.into()), source))
        };
        let of_file =
            of_file.map(|setting| Setting::new(Place::File(setting.value), setting.source));
        match (flag, of_file) {
            (Some(flag), _) => Some(flag),
            (None, Some(of_file)) if named => Some(of_file),
            (None, of_file) => text().or_else(file).or(of_file),
        }
    }
}

fn read(path: &Path, warns: bool) -> Result<Key> {
    let shown = path.display();
    let unusable =
        |what: &dyn std::fmt::Display| Failure::usage(format!("the key file {shown} {what}"));
    let file =
        File::open(path).map_err(|error| unusable(&format_args!("cannot be read: {error}")))?;
    let others = file
        .metadata()
        .is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o077 != 0);
    if others && warns {
        output::warn(format_args!(
            "warning: others can read the key file {shown}; `chmod 600 {shown}` keeps it to you"
        ));
    }
    let mut bytes = Vec::with_capacity(MAX_BYTES as usize + 1);
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unusable(&format_args!("cannot be read: {error}")))?;
    let text = String::from_utf8(bytes).map(Key::from);
    let text = text.map_err(|_| unusable(&"is not text, so it holds no key"))?;
    let key = text.reveal().trim();
    match key {
        "" => Err(unusable(&"is empty; it holds one line, the key as it was shown")),
        key if key.len() as u64 > MAX_BYTES || key.contains(char::is_whitespace) => {
            Err(unusable(&"does not hold a key and nothing else, on one line"))
        }
        key => Ok(Key::from(key)),
    }
}

/// A new file for a key, that only its owner can read, also while it is written.
#[derive(Debug)]
pub(crate) struct NewFile<'a> {
    path: &'a Path,
    file: File,
    written: bool,
}

impl<'a> NewFile<'a> {
    /// Made before the key exists, so that none comes to be that nobody can keep.
    pub(crate) fn create(path: &'a Path) -> Result<Self> {
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|error| {
            let exit = match error.kind() {
                std::io::ErrorKind::AlreadyExists => Exit::Conflict,
                _ => Exit::Error,
            };
            Failure::new(exit, format!("{} cannot be created: {error}", path.display()))
        })?;
        Ok(Self { path, file, written: false })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.path
    }

    /// Writes the key.
    pub(crate) fn write(mut self, secret: &str) -> Result<()> {
        let written = writeln!(self.file, "{secret}").and_then(|()| self.file.sync_all());
        written.map_err(|error| {
            Failure::new(
                Exit::Error,
                format!(
                    "the key could not be written to {}: {error}; revoke it (`meshlog key list` shows \
                     it) and make another one",
                    self.path.display()
                ),
            )
        })?;
        self.written = true;
        Ok(())
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        if !self.written {
            drop(fs::remove_file(self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_holds_one_line_and_its_error_shows_none_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.key");
        for good in ["mlk_1_x", "mlk_1_x\n", "  mlk_1_x \r\n"] {
            fs::write(&path, good).unwrap();
            assert_eq!(read(&path, false).unwrap().reveal(), "mlk_1_x");
        }
        for bad in ["", "\n", "mlk_1_x\nmlk_2_x", "a mlk_1_x", &"mlk".repeat(20_000)] {
            fs::write(&path, bad).unwrap();
            let refused = read(&path, false).unwrap_err();
            assert_eq!(refused.exit(), Exit::Usage);
            let text = refused.to_string();
            assert!(text.contains("a.key") && !text.contains("mlk"), "{text}");
        }
        fs::write(&path, b"\xff\xfe").unwrap();
        read(&path, false).unwrap_err();
        read(&directory.path().join("absent"), false).unwrap_err();
    }

    #[test]
    fn a_new_key_file_is_for_its_owner_and_goes_if_no_key_came() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.key");
        drop(NewFile::create(&path).unwrap());
        assert!(!path.exists(), "no key was written");
        NewFile::create(&path).unwrap().write("mlk_1_x").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "mlk_1_x\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(NewFile::create(&path).unwrap_err().exit(), Exit::Conflict);
        assert!(path.exists(), "what was there stays");
    }
}
