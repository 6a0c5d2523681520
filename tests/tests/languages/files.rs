//! Files of the repository, without what tools left in it.

use std::fs;
use std::path::Path;

/// What package managers and generators make; `.gitignore` of each example names the same.
const MADE: [&str; 9] = [
    ".venv",
    "__pycache__",
    "bin",
    "dist",
    "gen",
    "meshlog",
    "node_modules",
    "target",
    ".pytest_cache",
];

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

pub(crate) fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

/// Every file below a folder, in the order of their names.
pub(crate) fn walk(folder: &Path, visit: &mut dyn FnMut(&Path)) -> Result<(), String> {
    let listing = |error| format!("{} cannot be listed: {error}", folder.display());
    let mut entries: Vec<_> =
        fs::read_dir(folder).map_err(listing)?.collect::<Result<_, _>>().map_err(listing)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if !path.is_dir() {
            visit(&path);
        } else if !MADE.iter().any(|made| entry.file_name() == *made) {
            walk(&path, visit)?;
        }
    }
    Ok(())
}

/// Removes what an earlier copy brought and what was generated from it; installed packages stay.
pub(crate) fn clear(folder: &Path) -> Result<(), String> {
    if !folder.exists() {
        return Ok(());
    }
    let mut files = Vec::new();
    walk(folder, &mut |file| files.push(file.to_owned()))?;
    let failed = |error| format!("{} cannot be cleared: {error}", folder.display());
    files.iter().try_for_each(fs::remove_file).map_err(failed)?;
    for generated in ["dist", "gen", "meshlog"].map(|name| folder.join(name)) {
        if generated.exists() {
            fs::remove_dir_all(&generated).map_err(failed)?;
        }
    }
    Ok(())
}

/// Copies a folder into another, over what is there.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let mut files = Vec::new();
    walk(from, &mut |file| files.push(file.to_owned()))?;
    for file in files {
        copy_file(&file, &to.join(file.strip_prefix(from).unwrap_or(&file)))?;
    }
    Ok(())
}

pub(crate) fn copy_file(from: &Path, to: &Path) -> Result<(), String> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let copied = fs::copy(from, to);
    copied.map(drop).map_err(|error| format!("{} cannot be copied: {error}", from.display()))
}

/// Lock files pin versions and hashes; where packages come from is the reader's own setting.
pub(crate) fn locks_name_no_registry() -> Result<(), String> {
    let locks = [
        "python/requirements.txt",
        "go/go.mod",
        "go/go.sum",
        "typescript/package-lock.json",
        "java/pom.xml",
    ];
    for lock in locks {
        let text = read(&root().join("examples").join(lock))?;
        // The one address that is a name and no place.
        let text = text.replace("http://maven.apache.org/POM/4.0.0", "");
        let is_place = |line: &&str| {
            line.contains("\"resolved\"")
                || line.contains("<repository>")
                || line.contains("index-url")
        };
        if let Some(line) = text.lines().find(is_place) {
            return Err(format!("examples/{lock} names a registry: {}", line.trim()));
        }
    }
    Ok(())
}
