//! Other projects' cases, from `broker/tests-data/compatibility`, and `docs/conformance.md`, which
//! lists exactly those on which we disagree.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::*;

/// A case on which the two sides do not agree: suite, id, what they say, what we say.
type Disagreement = (String, String, &'static str, &'static str);

fn data(name: &str) -> Value {
    let path = format!("{}/tests-data/compatibility/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap()
}

fn verdict(comparison: &Comparison) -> &'static str {
    match (comparison.is_compatible(), comparison.is_breaking()) {
        (true, _) => "compatible",
        (_, true) => "incompatible",
        _ => "not proven",
    }
}

/// What we say of a pair of texts, judged by the words of the schemas alone.
fn says(format: SchemaFormat, reader: &str, writer: &str) -> &'static str {
    let parse = |text: &str| {
        let source = SchemaSource {
            format: format.into(),
            text: text.to_owned(),
            ..SchemaSource::default()
        };
        Schema::parse(&source)
    };
    let (Ok(reader), Ok(writer)) = (parse(reader), parse(writer)) else {
        return "not a schema";
    };
    match can_read(&reader, &writer, Terms::default()) {
        Ok(comparison) => verdict(&comparison),
        Err(_) => "too complex",
    }
}

fn word(compatible: bool) -> &'static str {
    if compatible { "compatible" } else { "incompatible" }
}

/// The suites that are pairs of a reader and a writer, or of an old and a new schema.
fn run() -> (BTreeMap<String, (usize, usize)>, Vec<Disagreement>) {
    let mut counts = BTreeMap::new();
    let mut disagreements = Vec::new();
    for (file, format) in [
        ("avro-apache.json", SchemaFormat::Avro),
        ("avro-karapace.json", SchemaFormat::Avro),
        ("avro-apicurio.json", SchemaFormat::Avro),
        ("json-apicurio.json", SchemaFormat::JsonSchema),
        ("json-karapace.json", SchemaFormat::JsonSchema),
    ] {
        let data = data(file);
        let suite = file.trim_end_matches(".json").to_owned();
        let mut judge = |id: String, reader: &Value, writer: &Value, stated: bool| {
            let text = |schema: &Value| text(schema, &data);
            let ours = says(format, &text(reader), &text(writer));
            let count: &mut (usize, usize) = counts.entry(suite.clone()).or_default();
            count.0 += 1;
            match ours == word(stated) {
                true => count.1 += 1,
                false => disagreements.push((suite.clone(), id, word(stated), ours)),
            }
        };
        for case in data["cases"].as_array().unwrap() {
            let id = case["id"].as_str().unwrap();
            match case.get("reader") {
                Some(reader) => {
                    let stated = case["compatible"].as_bool().unwrap();
                    judge(id.to_owned(), reader, &case["writer"], stated);
                }
                None => {
                    let (old, new) = (&case["old"], &case["new"]);
                    let stated = |way: &str| case[way].as_bool().unwrap();
                    judge(format!("{id} backward"), new, old, stated("backward"));
                    judge(format!("{id} forward"), old, new, stated("forward"));
                }
            }
        }
    }
    for (suite, judged) in [("protobuf-karapace", karapace()), ("protobuf-buf", buf())] {
        let count: &mut (usize, usize) = counts.entry(suite.to_owned()).or_default();
        for (id, theirs, ours) in judged {
            count.0 += 1;
            match ours == theirs {
                true => count.1 += 1,
                false => disagreements.push((suite.to_owned(), id, theirs, ours)),
            }
        }
    }
    (counts, disagreements)
}

/// The files of one directory, by name.
fn files(texts: &Value) -> Option<prost_reflect::DescriptorPool> {
    struct Files(std::collections::HashMap<String, String>);
    impl protox::file::FileResolver for Files {
        fn open_file(&self, name: &str) -> Result<protox::file::File, protox::Error> {
            match self.0.get(name) {
                Some(text) => protox::file::File::from_source(name, text),
                None => Err(protox::Error::file_not_found(name)),
            }
        }
    }
    let texts = texts.as_object().unwrap().iter();
    let texts: Vec<(String, String)> =
        texts.map(|(name, text)| (name.clone(), text.as_str().unwrap().to_owned())).collect();
    let mut resolver = protox::file::ChainFileResolver::new();
    resolver.add(Files(texts.iter().cloned().collect()));
    resolver.add(protox::file::GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    for (name, _) in &texts {
        compiler.open_file(name).ok()?;
    }
    Some(compiler.descriptor_pool())
}

fn is_own(message: &prost_reflect::MessageDescriptor) -> bool {
    !message.full_name().starts_with("google.protobuf.") && !message.is_map_entry()
}

fn rules_of(found: Comparison) -> impl Iterator<Item = &'static str> {
    let breaking = found.differences.into_iter().filter(|one| one.weight != Weight::Warning);
    breaking.map(|one| one.rule)
}

/// Rules that the pairs of messages of the same name break when one reads what the other wrote.
fn of_one_file(reader: &str, writer: &str) -> Option<Vec<&'static str>> {
    let one = |text: &str| files(&serde_json::json!({"one.proto": text}));
    let (reader, writer) = (one(reader)?, one(writer)?);
    let mut rules = Vec::new();
    for old in writer.all_messages().filter(is_own) {
        let mut named = reader.all_messages().filter(is_own).filter(|new| new.name() == old.name());
        match named.next() {
            Some(new) => {
                let found = super::super::protobuf::compare(&new, &old, Profile::Wire);
                rules.extend(rules_of(found.unwrap()));
            }
            None if old.parent_message().is_none() => rules.push("the message is gone"),
            None => {}
        }
    }
    Some(rules)
}

/// Rules that are broken in either direction, or by what goes: buf's categories guard all three.
fn of_directories(new: &Value, old: &Value, profile: Profile) -> Option<Vec<&'static str>> {
    use super::super::protobuf::{compare, compare_enums, keeps, keeps_enums};
    let (new, old) = (files(new)?, files(old)?);
    let mut rules = Vec::new();
    for old in old.all_messages().filter(is_own) {
        let Some(new) = new.get_message_by_name(old.full_name()) else { continue };
        rules.extend(rules_of(compare(&new, &old, profile).unwrap()));
        rules.extend(rules_of(compare(&old, &new, profile).unwrap()));
        rules.extend(rules_of(keeps(&new, &old, profile).unwrap()));
    }
    for old in old.all_enums() {
        let Some(new) = new.get_enum_by_name(old.full_name()) else { continue };
        rules.extend(rules_of(compare_enums(&new, &old, profile).unwrap()));
        rules.extend(rules_of(compare_enums(&old, &new, profile).unwrap()));
        rules.extend(rules_of(keeps_enums(&new, &old, profile).unwrap()));
    }
    Some(rules)
}

type Judged = Vec<(String, &'static str, &'static str)>;

fn karapace() -> Judged {
    let data = data("protobuf-karapace.json");
    let judge = |case: &Value| {
        let text = |side: &str| case[side].as_str().unwrap();
        let ours = of_one_file(text("reader"), text("writer"));
        let ours = ours.map_or("not a schema", |rules| word(rules.is_empty()));
        let stated = word(case["compatible"].as_bool().unwrap());
        (case["id"].as_str().unwrap().to_owned(), stated, ours)
    };
    data["cases"].as_array().unwrap().iter().map(judge).collect()
}

/// Of each of buf's cases, whether the rule that it is about is broken.
fn buf() -> Judged {
    let data = data("protobuf-buf.json");
    let judge = |case: &Value| {
        let text = |side: &str| case[side].as_str().unwrap();
        let profile = match text("profile") {
            "WIRE" => Profile::Wire,
            _ => Profile::WireJson,
        };
        let ours = of_directories(&case["new"], &case["old"], profile);
        let rules: &[&str] = match text("rule") {
            "FIELD_SAME_NAME" => &["PROTOBUF_FIELD_SAME_NAME"],
            "FIELD_SAME_JSON_NAME" => {
                &["PROTOBUF_FIELD_SAME_JSON_NAME", "PROTOBUF_FIELD_SAME_NAME"]
            }
            "FIELD_SAME_ONEOF" => &["PROTOBUF_FIELD_SAME_ONEOF"],
            "ENUM_VALUE_SAME_NAME" => &["PROTOBUF_ENUM_VALUE_SAME_NAME"],
            "MESSAGE_SAME_REQUIRED_FIELDS" => &["PROTOBUF_REQUIRED_FIELD_NOT_WRITTEN"],
            rule if rule.contains("CARDINALITY") => &["PROTOBUF_FIELD_CARDINALITY"],
            rule if rule.contains("TYPE") => &["PROTOBUF_FIELD_TYPE"],
            rule if rule.contains("UNLESS") => &["PROTOBUF_DELETED_UNLESS_RESERVED"],
            rule if rule.starts_with("RESERVED") => &["PROTOBUF_RESERVED_NO_DELETE"],
            _ => &[],
        };
        let ours = ours
            .map_or("not a schema", |found| word(!found.iter().any(|rule| rules.contains(rule))));
        let stated = word(case["annotations"] == 0);
        (case["id"].as_str().unwrap().to_owned(), stated, ours)
    };
    data["cases"].as_array().unwrap().iter().map(judge).collect()
}

/// Draft 7, where the suite is about it and the case does not say.
fn text(schema: &Value, data: &Value) -> String {
    let mut schema = schema.clone();
    if data.get("draft").is_some()
        && let Value::Object(members) = &mut schema
    {
        members
            .entry("$schema")
            .or_insert_with(|| "http://json-schema.org/draft-07/schema#".into());
    }
    schema.to_string()
}

#[test]
fn the_table_of_disagreements_lists_exactly_those_there_are() {
    let (counts, disagreements) = run();
    let path = format!("{}/../docs/conformance.md", env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(path).unwrap_or_default();
    let rows: BTreeSet<String> = document
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').take(5).map(str::trim).collect::<Vec<_>>().join(" | "))
        .collect();
    let wanted: BTreeSet<String> = disagreements
        .iter()
        .map(|(suite, id, theirs, ours)| format!(" | `{suite}` | {id} | {theirs} | {ours}"))
        .map(|row| row.trim_start().to_owned())
        .map(|row| if row.starts_with('|') { format!(" {row}") } else { row })
        .collect();
    let trim = |set: &BTreeSet<String>| -> BTreeSet<String> {
        set.iter().map(|row| row.trim().to_owned()).collect()
    };
    let (rows, wanted) = (trim(&rows), trim(&wanted));
    let missing: Vec<_> = wanted.difference(&rows).collect();
    let stale: Vec<_> = rows.difference(&wanted).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "docs/conformance.md\nlacks:\n{}\nlists in vain:\n{}\ncounts: {counts:?}",
        missing.iter().map(|row| format!("{row} |\n")).collect::<String>(),
        stale.iter().map(|row| format!("{row}\n")).collect::<String>(),
    );
    for (suite, (cases, agree)) in counts {
        let row = format!("| {suite} | {cases} | {agree} |");
        assert!(document.contains(&row), "docs/conformance.md lacks the count `{row}`");
    }
}

/// The pages compare what we say with what others say: what they quote of us must be what we say.
#[test]
fn the_guide_quotes_what_we_say() {
    let record = |fields: &str| format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#);
    let field = |name: &str, of: &str| format!(r#"{{"name":"{name}","type":{of}}}"#);
    let symbols = |list: &str| {
        record(&field("state", &format!(r#"{{"type":"enum","name":"E","symbols":[{list}]}}"#)))
    };
    let (avro, json, proto) =
        (SchemaFormat::Avro, SchemaFormat::JsonSchema, SchemaFormat::Protobuf);
    let object = |required: &str, max: u8| {
        format!(
            r#"{{"type":"object","properties":{{"gate":{{"type":"integer"}},"id":{{"type":"string","maxLength":{max}}}}},"required":[{required}]}}"#
        )
    };
    let message = |of: &str| format!("syntax = \"proto3\"; message M {{ {of} a = 1; }}");
    let id = field("id", r#""long""#);
    let path = format!("{}/../docs/guide/change-a-schema.md", env!("CARGO_MANIFEST_DIR"));
    let guide = std::fs::read_to_string(path).unwrap();
    for (format, old, new) in [
        (avro, record(&id), record(&format!("{id},{}", field("gate", r#""int""#)))),
        (avro, symbols(r#""A","B""#), symbols(r#""A""#)),
        (avro, record(&id), record(&field("id", r#""int""#))),
        (json, object("", 8), object(r#""gate""#, 8)),
        (json, object("", 8), object("", 3)),
        (proto, message("int32"), message("string")),
    ] {
        let found = reads(format, &new, &old);
        let one = &found.differences[0];
        let example = found.counterexample.map(|value| format!("; for instance {value}"));
        let said = format!(
            "{} was {}; is {} ({}): {}{}",
            one.path,
            one.writer,
            one.reader,
            one.rule,
            one.hint,
            example.unwrap_or_default()
        );
        let quoted = said.replace('`', "\"");
        assert!(guide.contains(&quoted), "docs/guide/change-a-schema.md does not quote\n{quoted}");
    }
}
