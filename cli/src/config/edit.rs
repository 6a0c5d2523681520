//! The configuration file, changed in place: what the user wrote stays as it is, with its comments
//! and its order, and whoever reads the file meanwhile sees the old one or the new one, whole.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use toml_edit::{DocumentMut, Item, Table, value};

use crate::{
    exit::{Exit, Failure, Result},
    settings::{Context, File},
};

/// The file, open for changes.
pub(super) struct Edit {
    path: PathBuf,
    /// What a file without any setting says: it stays in front.
    head: String,
    document: DocumentMut,
}

impl Edit {
    /// Reads the user's file; one that cannot be used is not changed either.
    pub(super) fn open() -> Result<Self> {
        let path = File::path().ok_or_else(super::no_home)?;
        File::read(&path)?;
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(unreadable(&path, &error)),
        };
        let mut document: DocumentMut = text.parse().map_err(|error| unreadable(&path, &error))?;
        let mut head = String::new();
        if document.is_empty() {
            head = text;
            document = DocumentMut::new();
        }
        Ok(Self { path, head, document })
    }

    /// Sets what a context is, whether there is one or not.
    pub(super) fn put_context(&mut self, name: &str, context: &Context) {
        let contexts = self.document.entry("context").or_insert_with(|| {
            let mut table = Table::new();
            // Only `[context.NAME]` shall stand in the file.
            table.set_implicit(true);
            Item::Table(table)
        });
        let entry = &mut contexts[name];
        if entry.as_table_like().is_none() {
            *entry = Item::Table(Table::new());
        }
        entry["server"] = value(&context.server);
        let text = |file: &Option<PathBuf>| file.as_ref().map(|file| file.display().to_string());
        for (key, set) in [
            ("application", context.application.clone()),
            ("key_file", text(&context.key_file)),
            ("tls_ca", text(&context.tls_ca)),
            ("tls_cert", text(&context.tls_cert)),
            ("tls_key", text(&context.tls_key)),
        ] {
            match set {
                Some(set) => entry[key] = value(set),
                None => {
                    entry.as_table_like_mut().map(|entry| entry.remove(key));
                }
            }
        }
    }

    /// Forgets a context.
    pub(super) fn remove_context(&mut self, name: &str) {
        if let Some(contexts) = self.document.get_mut("context").and_then(Item::as_table_like_mut) {
            contexts.remove(name);
            if contexts.is_empty() {
                self.document.remove("context");
            }
        }
    }

    /// Sets the context in use, or none.
    pub(super) fn use_context(&mut self, name: Option<&str>) {
        match name {
            Some(name) => self.document["current_context"] = value(name),
            None => {
                self.document.remove("current_context");
            }
        }
    }

    /// Writes the file: into a new one beside it that only the user can read, synced, then renamed.
    pub(super) fn save(self) -> Result<()> {
        // A link stays one; what it leads to is replaced.
        let path = fs::canonicalize(&self.path).unwrap_or(self.path);
        let directory = path.parent().unwrap_or(Path::new("."));
        let write = || -> io::Result<()> {
            fs::create_dir_all(directory)?;
            let mut file = tempfile::NamedTempFile::new_in(directory)?;
            file.write_all(self.head.as_bytes())?;
            file.write_all(self.document.to_string().as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|error| {
            Failure::new(Exit::Error, format!("{} cannot be written: {error}", path.display()))
        })
    }
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::usage(format!("the configuration file {} cannot be used: {error}", path.display()))
}
