//! What can be set, as the code says it: a JSON Schema for editors, a reference for people, a file with
//! comments.
//!
//! All three come from the doc comments and defaults of the settings' types, so they cannot differ from
//! them. Whoever joins these settings with others (the command line's file) derives the schema of the
//! whole.

use std::fmt::Write as _;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

/// The JSON Schema (draft 2020-12) of a type of settings, with defaults and descriptions.
#[must_use]
pub fn schema_of<T: JsonSchema>() -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// The settings of a schema as tables of Markdown, one per table of the file.
#[must_use]
pub fn markdown(schema: &Value) -> String {
    let mut text = String::new();
    for table in tables(schema, None) {
        let head = match table.path.is_empty() {
            true => "## At the top of the file".to_owned(),
            false => format!("## `[{}]`", table.path),
        };
        _ = write!(text, "{head}\n\n");
        if !table.path.is_empty() && !table.meaning.is_empty() {
            _ = write!(text, "{}\n\n", table.meaning);
        }
        text.push_str("| Key | Type | Default | Meaning |\n|---|---|---|---|\n");
        for (key, setting) in &table.settings {
            let default = match setting.get("default").filter(|default| !default.is_null()) {
                Some(Value::String(default)) => format!("`{default}`"),
                Some(default) => format!("`{default}`"),
                None => String::new(),
            };
            let meaning = meaning_of(setting);
            // The default has a column of its own, unless it needs words.
            let meaning = match default.is_empty() {
                true => meaning,
                false => meaning.split(" Default").next().unwrap_or_default().to_owned(),
            };
            _ = writeln!(text, "| `{key}` | {} | {default} | {meaning} |", type_of(setting));
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// These settings as a TOML file that says what each means. What is not set stands there as a
/// comment.
#[must_use]
pub fn commented_toml(schema: &Value, values: &Value) -> String {
    let mut text = String::new();
    for table in tables(schema, Some(values)) {
        if !table.path.is_empty() {
            comment(&mut text, &table.meaning);
            _ = write!(text, "[{}]\n\n", table.path);
        }
        for (key, setting) in &table.settings {
            comment(&mut text, &meaning_of(setting));
            match table.values.and_then(|values| values.get(key)) {
                // The strings of JSON and of TOML are written alike.
                Some(value) if !value.is_null() => _ = write!(text, "{key} = {value}\n\n"),
                _ => _ = write!(text, "# {key} =\n\n"),
            }
        }
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// A table of the file.
struct Table<'a> {
    /// `broker.storage`; empty for the top. A table that people name is written `NAME`.
    path: String,
    meaning: String,
    settings: Vec<(&'a String, &'a Value)>,
    values: Option<&'a Value>,
}

/// All tables with a setting in them, each before those inside of it. With values, the tables that
/// people name are those there are.
fn tables<'a>(schema: &'a Value, values: Option<&'a Value>) -> Vec<Table<'a>> {
    let mut tables = Vec::new();
    collect(String::new(), schema, values, &mut tables);
    tables
}

fn collect<'a>(
    path: String,
    schema: &'a Value,
    values: Option<&'a Value>,
    tables: &mut Vec<Table<'a>>,
) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    let inside = |name: &str| match path.is_empty() {
        true => name.to_owned(),
        false => format!("{path}.{name}"),
    };
    let is_table = |schema: &Value| {
        schema.get("properties").is_some()
            || schema.get("additionalProperties").is_some_and(Value::is_object)
    };
    let settings: Vec<_> = properties.iter().filter(|(_, schema)| !is_table(schema)).collect();
    if !settings.is_empty() {
        let meaning = meaning_of(schema);
        tables.push(Table { path: path.clone(), meaning, settings, values });
    }
    for (name, schema) in properties.iter().filter(|(_, schema)| is_table(schema)) {
        let below = values.and_then(|values| values.get(name));
        let named = schema.get("additionalProperties").filter(|named| named.is_object());
        match (named, values) {
            (None, _) => collect(inside(name), schema, below, tables),
            (Some(named), None) => collect(format!("{}.NAME", inside(name)), named, None, tables),
            (Some(named), Some(_)) => {
                for (key, value) in below.and_then(Value::as_object).into_iter().flatten() {
                    let path = format!("{}.{}", inside(name), Value::from(key.as_str()));
                    collect(path, named, Some(value), tables);
                }
            }
        }
    }
}

fn meaning_of(schema: &Value) -> String {
    let meaning = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    meaning.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn type_of(setting: &Value) -> String {
    if let Some(title) = setting.get("title").and_then(Value::as_str) {
        return title.to_owned();
    }
    match setting.get("type") {
        Some(Value::Array(types)) => {
            let types = types.iter().filter_map(Value::as_str).filter(|one| *one != "null");
            types.collect::<Vec<_>>().join(" or ")
        }
        Some(Value::String(one)) => one.clone(),
        _ => "value".to_owned(),
    }
}

/// Wrapped at 100 columns.
fn comment(text: &mut String, meaning: &str) {
    let mut width = 0;
    for word in meaning.split_whitespace() {
        if width == 0 || width + 1 + word.len() > 100 {
            text.push_str(if width == 0 { "#" } else { "\n#" });
            width = 1;
        }
        _ = write!(text, " {word}");
        width += 1 + word.len();
    }
    if width > 0 {
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    #[test]
    fn every_setting_says_what_it_means_and_has_a_type_and_a_default() {
        let schema = schema_of::<Config>();
        let mut count = 0;
        for table in tables(&schema, None) {
            let is_named = table.path.ends_with(".NAME");
            for (key, setting) in table.settings {
                count += usize::from(!is_named);
                assert!(!meaning_of(setting).is_empty(), "{}.{key} means nothing", table.path);
                assert_ne!(type_of(setting), "value", "{}.{key}", table.path);
                let has_default = setting.get("default").is_some();
                assert!(has_default || *key == "data_dir", "{}.{key} has no default", table.path);
            }
        }
        assert_eq!(count, flatten(&serde_json::to_value(Config::at("/d")).unwrap()));
    }

    /// Leaves of a document. Tables that people name are empty.
    fn flatten(value: &Value) -> usize {
        value.as_object().map_or(1, |object| object.values().map(flatten).sum())
    }

    #[test]
    fn the_words_about_a_default_and_the_default_agree() {
        let schema = schema_of::<Config>();
        for table in tables(&schema, None) {
            for (key, setting) in table.settings {
                let meaning = meaning_of(setting);
                let said = meaning.rsplit("Default ").next().unwrap().trim_end_matches('.');
                let said = said.replace([' ', ','], "");
                // What is empty says so in words.
                let said_default = |default: &&Value| !(default.is_null() || *default == "");
                let Some(default) = setting.get("default").filter(said_default) else {
                    continue;
                };
                let default = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
                assert_eq!(said, default, "{}.{key}: {meaning}", table.path);
            }
        }
    }

    #[test]
    fn the_schema_takes_what_the_settings_take_and_refuses_what_they_refuse() {
        let schema = schema_of::<Config>();
        let schema = jsonschema::validator_for(&schema).unwrap();
        for (text, is_right) in [
            (r#"{}"#, true),
            (r#"{"data_dir": "/d", "storage": {"ring": "64MiB", "group": 1048576}}"#, true),
            (r#"{"storage": {"ring": "1 gib"}}"#, true),
            (r#"{"storage": {"ring": "64 parsecs"}}"#, false),
            (r#"{"storage": {"ring": -1}}"#, false),
            (r#"{"storage": {"rings": 1}}"#, false),
            (r#"{"edge": {"drain_deadline": "1m 30s", "max_connections": 5}}"#, true),
            (r#"{"edge": {"drain_deadline": "soon"}}"#, false),
            (r#"{"edge": {"drain_deadline": 10}}"#, false),
            (r#"{"edge": {"max_connections": "5"}}"#, false),
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(schema.is_valid(&value), is_right, "the schema and {text}");
            assert_eq!(serde_json::from_str::<Config>(text).is_ok(), is_right, "{text}");
        }
    }
}
