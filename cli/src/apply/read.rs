//! From files to documents: which files are meant, what they say, and where one of them is wrong.
//!
//! A file is not trusted: sizes, depth and what aliases expand to are bounded, a key may stand in a
//! mapping once, and a field that is not known is refused by its place, with the nearest name.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_saphyr::Error;

use super::{
    document::{Document, Schema},
    odcs,
    terms::Format,
};
use crate::{
    exit::{Failure, Result},
    schema,
};

/// Most bytes of one file.
const MAX_FILE_BYTES: u64 = 8 << 20;
/// Most files of one command.
const MAX_FILES: usize = 10_000;
/// Most values of one file, in anchors and aliases too.
const MAX_NODES: usize = 500_000;

/// What one command was given: everything that its files say, and what they say in vain.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// As if it stood in one file.
    pub(super) document: Document,
    /// Names that the files give themselves, each once.
    pub(super) managers: Vec<String>,
    /// Sentences about what was read and not used.
    pub(super) remarks: Vec<String>,
}

/// A text and where it stands.
struct Source {
    name: String,
    directory: PathBuf,
    text: String,
}

/// Reads everything that is named: files, the .yaml and .yml files of directories, `-` for standard
/// input.
pub(super) fn read(paths: &[PathBuf]) -> Result<Given> {
    let mut given = Given::default();
    let mut places = Places::default();
    for source in sources(paths)? {
        for (at, value) in parse::<Value>(&source.name, &source.text)?.into_iter().enumerate() {
            let document = match odcs::is_contract(&value) {
                true => {
                    let (document, unknown) = odcs::import(&source.name, &value)?;
                    let remark = |path| format!("{}: {path} is not used", source.name);
                    given.remarks.extend(unknown.into_iter().map(remark));
                    document
                }
                false => {
                    let mut all = parse::<Document>(&source.name, &source.text)?;
                    match at < all.len() {
                        true => all.swap_remove(at),
                        false => continue,
                    }
                }
            };
            take(&source, document, &mut given, &mut places)?;
        }
    }
    Ok(given)
}

/// Where each thing was said.
#[derive(Default)]
struct Places(std::collections::HashMap<(&'static str, String), String>);

impl Places {
    fn put(&mut self, kind: &'static str, name: &str, source: &str) -> Result<()> {
        match self.0.insert((kind, name.to_owned()), source.to_owned()) {
            None => Ok(()),
            Some(before) => Err(Failure::usage(format!(
                "the {kind} `{name}` is in {before} and again in {source}; say it once"
            ))),
        }
    }
}

fn take(
    source: &Source,
    mut document: Document,
    given: &mut Given,
    places: &mut Places,
) -> Result<()> {
    let manager = document.managed_by.clone();
    document.spread_manager();
    if !manager.is_empty() && !given.managers.contains(&manager) {
        given.managers.push(manager);
    }
    for team in &document.teams {
        places.put("team", &team.name, &source.name)?;
    }
    for key in &document.tag_keys {
        places.put("tag key", &key.name, &source.name)?;
    }
    for domain in &mut document.domains {
        domain.tags.sort();
        places.put("domain", &domain.name, &source.name)?;
    }
    for product in &mut document.products {
        places.put("product", &product.name, &source.name)?;
        let name = &product.name;
        for schema in [&mut product.schema, &mut product.key_schema].into_iter().flatten() {
            load(schema, source)
                .map_err(|why| Failure::usage(format!("{}: product {name}: {why}", source.name)))?;
        }
        product.sort();
    }
    let all = &mut given.document;
    all.teams.append(&mut document.teams);
    all.tag_keys.append(&mut document.tag_keys);
    all.domains.append(&mut document.domains);
    all.products.append(&mut document.products);
    Ok(())
}

/// Puts the text of a schema in the place of the name of its file.
fn load(schema: &mut Schema, source: &Source) -> Result<(), String> {
    if schema.file.is_empty() {
        return match schema.format {
            Some(_) => Ok(()),
            None => Err("its schema needs a `file`, or a `format` and a `text`".into()),
        };
    }
    if !schema.text.is_empty() || schema.format == Some(Format::Opaque) {
        return Err("its schema has a `file` and something else; say one of them".into());
    }
    let path = Path::new(&schema.file);
    if path.is_absolute() {
        return Err(format!("write {} from the directory of this file", schema.file));
    }
    let path = source.directory.join(path);
    let length = fs::metadata(&path).map(|found| found.len()).unwrap_or_default();
    if length > MAX_FILE_BYTES {
        return Err(format!("{} has {length} bytes; a schema has at most 256 KiB", path.display()));
    }
    let read = schema::read_file(&path).map_err(|failure| failure.to_string())?;
    let format = Format::of_wire(read.format);
    if schema.format.is_some() && schema.format != format {
        return Err(format!("the extension of {} says another format", schema.file));
    }
    schema.file.clear();
    schema.format = format;
    schema.text = read.text;
    Ok(())
}

fn sources(paths: &[PathBuf]) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let text = bounded("standard input", &mut std::io::stdin().lock())?;
            let name = "standard input".into();
            sources.push(Source { name, directory: PathBuf::from("."), text });
            continue;
        }
        for file in files_of(path)? {
            let name = file.display().to_string();
            let unreadable =
                |error| Failure::usage(format!("{} cannot be read: {error}", file.display()));
            let text = bounded(&name, &mut fs::File::open(&file).map_err(unreadable)?)?;
            let directory = file.parent().unwrap_or(Path::new(".")).to_owned();
            sources.push(Source { name, directory, text });
        }
        if sources.len() > MAX_FILES {
            return Err(Failure::usage(format!("more than {MAX_FILES} files; name fewer")));
        }
    }
    Ok(sources)
}

/// The file itself, or the YAML files of a directory by name.
fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable = |error| Failure::usage(format!("{} cannot be read: {error}", path.display()));
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        let extension = file.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("yaml" | "yml")) && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    match files.is_empty() {
        true => Err(Failure::usage(format!("{} has no .yaml or .yml file", path.display()))),
        false => Ok(files),
    }
}

fn bounded(name: &str, from: &mut dyn Read) -> Result<String> {
    let mut bytes = Vec::new();
    let read = from.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::usage(format!("{name} cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Failure::usage(format!("{name} has more than 8 MiB; split it")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::usage(format!("{name} is not UTF-8: the byte at {at} is not text"))
    })
}

/// Every document of a text.
pub(super) fn parse<T: DeserializeOwned>(name: &str, text: &str) -> Result<Vec<T>> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: MAX_NODES,
            max_events: MAX_NODES * 3,
            max_aliases: 10_000,
            max_anchors: 10_000,
            max_depth: 64,
            max_documents: 1_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 16,
        },
        strict_booleans: true,
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| explain(name, &error))
}

/// Where it is wrong, what is expected, and the nearest name.
fn explain(name: &str, error: &Error) -> Failure {
    let what = match error.without_snippet() {
        Error::SerdeUnknownField { field, expected, .. } => {
            format!("there is no `{field}` here{}", instead(field, expected))
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            format!("`{variant}` is none of the values here{}", instead(variant, expected))
        }
        Error::SerdeMissingField { field, .. } => format!("`{field}` is missing here"),
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("`{key}` stands here a second time; say it once")
        }
        Error::SerdeInvalidType { unexpected, expected, .. } => {
            format!("here stands {unexpected}, and {expected} is expected")
        }
        other => {
            let text = other.to_string();
            let line = text.lines().next().unwrap_or_default();
            line.split(" at line ").next().unwrap_or_default().to_owned()
        }
    };
    let place = error.location().map(|at| format!(":{}:{}", at.line(), at.column()));
    Failure::usage(format!("{name}{}: {what}", place.unwrap_or_default()))
}

/// The nearest of the names there are, and all of them.
fn instead(given: &str, there: &[&str]) -> String {
    let near = there.iter().map(|name| (strsim::jaro_winkler(given, name), name));
    let near = near.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(likeness, _)| *likeness > 0.7);
    let near = near.map(|(_, name)| format!("; did you mean `{name}`?")).unwrap_or_default();
    format!("{near} There are: {}", there.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        parse::<Document>("mesh.yaml", text).unwrap_err().to_string()
    }

    #[test]
    fn a_field_that_is_not_known_is_named_by_its_place_with_the_nearest_one() {
        let text = refusal("teams:\n  - name: ops\n    contact: [a@b.example]\n");
        assert!(text.starts_with("mesh.yaml:3:5: there is no `contact` here"), "{text}");
        assert!(text.contains("did you mean `contacts`?"), "{text}");
        let text = refusal("products:\n  - name: a.b\n    classification: publik\n");
        assert!(text.starts_with("mesh.yaml:3:"), "{text}");
        assert!(text.contains("did you mean `public`?") && text.contains("restricted"), "{text}");
    }

    #[test]
    fn what_is_no_yaml_or_of_another_type_is_named_by_its_place() {
        let text = refusal("teams:\n  - name: [ops\n");
        assert!(text.starts_with("mesh.yaml:"), "{text}");
        let text = refusal("teams:\n  name: ops\n");
        assert!(text.starts_with("mesh.yaml:2:"), "{text}");
        let text = refusal("products:\n  - name: a.b\n    settings: {retention_age: soon}\n");
        assert!(text.starts_with("mesh.yaml:3:") && text.contains("unlimited"), "{text}");
        let text = refusal("products:\n  - owner: a\n");
        assert!(text.contains("`name` is missing"), "{text}");
    }

    #[test]
    fn a_key_that_stands_twice_is_refused_and_not_overwritten() {
        let text = refusal("teams:\n  - name: a\n    description: x\n    description: y\n");
        assert!(text.starts_with("mesh.yaml:4:"), "{text}");
        assert!(text.contains("`description` stands here a second time"), "{text}");
        let text = refusal("products:\n  - name: a.b\n    field_tags: {x: [a], x: [b]}\n");
        assert!(text.contains("`x` stands here a second time"), "{text}");
    }

    #[test]
    fn aliases_repeat_a_value_and_do_not_explode() {
        let text = "teams:\n  - name: a\n    contacts: &all [a@b.example]\n  - name: b\n    contacts: *all\n";
        let documents = parse::<Document>("mesh.yaml", text).unwrap();
        assert_eq!(documents[0].teams[1].contacts, ["a@b.example"]);

        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let below = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", [below.as_str(); 10].join(", "));
        }
        let started = std::time::Instant::now();
        let refused = parse::<Value>("mesh.yaml", &bomb).unwrap_err().to_string();
        assert!(refused.starts_with("mesh.yaml"), "{refused}");
        assert!(started.elapsed() < std::time::Duration::from_secs(5));
        let deep = "[".repeat(10_000);
        parse::<Value>("mesh.yaml", &deep).unwrap_err();
    }

    #[test]
    fn several_documents_and_files_are_one_mesh_and_say_each_thing_once() {
        let directory = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        put("a.yaml", "managed_by: a\nteams: [{name: one}]\n---\nteams: [{name: two}]\n");
        put("b.yml", "teams: [{name: three, managed_by: c}]\n");
        put("c.txt", "no YAML: [");
        let given = read(&[directory.path().to_owned()]).unwrap();
        let teams: Vec<_> =
            given.document.teams.iter().map(|team| (&*team.name, &*team.managed_by)).collect();
        assert_eq!(teams, [("one", "a"), ("two", ""), ("three", "c")]);
        assert_eq!(given.managers, ["a"]);
        put("d.yaml", "teams: [{name: two}]\n");
        let twice = read(&[directory.path().to_owned()]).unwrap_err().to_string();
        assert!(twice.contains("`two`") && twice.contains("d.yaml"), "{twice}");
        let none = read(&[directory.path().join("missing.yaml")]).unwrap_err().to_string();
        assert!(none.contains("missing.yaml"), "{none}");
    }

    #[test]
    fn a_schema_is_a_file_beside_the_document_or_a_text_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        let path = directory.path().join("mesh.yaml");
        put("x.json", "{\"type\": \"object\"}");
        put("mesh.yaml", "products: [{name: a.b, schema: {file: x.json}}]\n");
        let given = read(std::slice::from_ref(&path)).unwrap();
        let schema = given.document.products[0].schema.clone().unwrap();
        assert_eq!(schema.format, Some(Format::JsonSchema));
        assert_eq!((schema.text.as_str(), schema.file.as_str()), ("{\"type\": \"object\"}", ""));
        for (wrong, word) in [
            ("{file: /etc/hostname}", "directory"),
            ("{file: y.json}", "y.json"),
            ("{file: x.json, text: '{}'}", "one of them"),
            ("{file: x.json, format: avro}", "another format"),
            ("{text: '{}'}", "format"),
        ] {
            put("mesh.yaml", &format!("products: [{{name: a.b, schema: {wrong}}}]\n"));
            let why = read(std::slice::from_ref(&path)).unwrap_err().to_string();
            assert!(why.contains(word) && why.contains("a.b"), "{why}");
        }
    }
}
