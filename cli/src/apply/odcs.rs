//! Data contracts of the Open Data Contract Standard 3.1 (ODCS): a product as one, and one as a product.
//!
//! What a contract has a place for stands there; what only we know stands in `customProperties` whose
//! names begin with `meshlog`, the exact text of the schema among them. So an exported contract gives
//! the same product again. What a contract says and a product cannot hold is named, never dropped in
//! silence.

use meshlog_client::proto::SchemaField;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{
    document::{Document, Link, Product, Schema},
    export,
    terms::Format,
};
use crate::{
    exit::{Failure, Result},
    output,
};

/// The version of the standard that is written.
const API_VERSION: &str = "v3.1.0";

/// Whether a document is a data contract.
pub(super) fn is_contract(value: &Value) -> bool {
    value.get("kind").and_then(Value::as_str) == Some("DataContract")
}

/// A contract for each product; `fields` are those of their schemas.
pub(super) fn export(document: &Document, fields: &[Vec<SchemaField>]) -> Result<String> {
    let mut document = document.clone();
    document.spread_manager();
    let mut texts = Vec::new();
    for (product, fields) in document.products.iter().zip(fields) {
        texts.push(export::to_yaml(&contract(product, fields)?)?);
    }
    Ok(texts.join("---\n"))
}

/// One product as a contract.
fn contract(product: &Product, fields: &[SchemaField]) -> Result<Value> {
    let (domain, name) = product.name.split_once('.').unwrap_or(("", &product.name));
    let mut contract = Map::new();
    let mut put = |key: &str, value: Value| {
        if !output::is_empty(&value) {
            contract.insert(key.to_owned(), value);
        }
    };
    put("apiVersion", API_VERSION.into());
    put("kind", "DataContract".into());
    put("id", product.name.clone().into());
    put("name", product.name.clone().into());
    put("version", "1".into());
    put("status", status(product)?);
    put("domain", domain.into());
    put("dataProduct", product.name.clone().into());
    put("description", json!({"purpose": product.description}));
    put("tags", product.tags.clone().into());
    let mut object = json!({
        "name": name,
        "physicalName": product.name,
        "physicalType": "topic",
        "logicalType": "object",
    });
    let properties = properties(product, fields);
    if !properties.is_empty() {
        object["properties"] = properties.into();
    }
    put("schema", json!([object]));
    if !product.support.is_empty() {
        put("support", json!([{"channel": product.support}]));
    }
    if !product.owner.is_empty() {
        put("team", json!({"name": product.owner}));
    }
    put("authoritativeDefinitions", definitions(product));
    put("customProperties", ours(product)?.into());
    Ok(contract.into())
}

/// Where a product is in its life, as the standards of Bitol say it.
pub(super) fn status(product: &Product) -> Result<Value> {
    let status = product.state.map(|state| output::value(&state)).transpose()?;
    Ok(status.unwrap_or_else(|| "draft".into()))
}

/// Where to read more, as the standards of Bitol say it.
pub(super) fn definitions(product: &Product) -> Value {
    let links = product.links.iter();
    links.map(|link| json!({"url": link.url, "type": link.title})).collect()
}

/// What only we know.
fn ours(product: &Product) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    let mut put = |property: &str, value: Value| {
        if !output::is_empty(&value) || value.is_object() {
            all.push(json!({"property": property, "value": value}));
        }
    };
    if let Some(classification) = product.classification {
        put("meshlogClassification", output::value(&classification)?);
    }
    if let Some(kind) = product.kind {
        put("meshlogKind", output::value(&kind)?);
    }
    if let Some(deprecation) = &product.deprecation {
        put("meshlogDeprecation", output::value(&deprecation)?);
    }
    put("meshlogKey", product.key.clone().into());
    if let Some(partitions) = product.partitions {
        put("meshlogPartitions", partitions.into());
    }
    put("meshlogInputs", product.inputs.clone().into());
    if !product.settings.is_empty() {
        put("meshlogSettings", output::value(&product.settings)?);
    }
    put("meshlogDocs", product.docs.clone().into());
    put("meshlogManagedBy", product.managed_by.clone().into());
    if let Some(schema) = &product.schema {
        put("meshlogSchema", output::value(&schema)?);
    }
    if let Some(schema) = &product.key_schema {
        put("meshlogKeySchema", output::value(&schema)?);
    }
    // Tags of fields that the table of fields does not list have no other place.
    if !product.field_tags.is_empty() {
        put("meshlogFieldTags", output::value(&product.field_tags)?);
    }
    Ok(all)
}

/// A field with what is below it.
#[derive(Default)]
struct Node<'a> {
    path: String,
    field: Option<&'a SchemaField>,
    items: Option<Box<Node<'a>>>,
    below: Vec<(String, Node<'a>)>,
}

impl<'a> Node<'a> {
    fn put(&mut self, path: &str, field: &'a SchemaField) {
        let mut node = self;
        for part in path.split('.') {
            let name = part.trim_end_matches("[]");
            let lists = (part.len() - name.len()) / 2;
            if !name.is_empty() {
                let at = match node.below.iter().position(|(known, _)| known == name) {
                    Some(at) => at,
                    None => {
                        node.below.push((name.to_owned(), Node::default()));
                        node.below.len() - 1
                    }
                };
                node = &mut node.below[at].1;
            }
            for _ in 0..lists {
                node = node.items.get_or_insert_default();
            }
        }
        node.field = Some(field);
        node.path = path.to_owned();
    }

    fn value(&self, name: Option<&str>, product: &Product) -> Value {
        let mut value = Map::new();
        if let Some(name) = name {
            value.insert("name".into(), name.into());
        }
        let logical = match (&self.items, self.below.is_empty()) {
            (Some(_), _) => Some("array"),
            (None, false) => Some("object"),
            (None, true) => self.field.and_then(|field| logical(&field.r#type)),
        };
        if let Some(logical) = logical {
            value.insert("logicalType".into(), logical.into());
        }
        if let Some(field) = self.field {
            if !field.r#type.is_empty() {
                value.insert("physicalType".into(), field.r#type.clone().into());
            }
            if name.is_some() {
                value.insert("required".into(), (!field.optional).into());
            }
            if !field.docs.is_empty() {
                value.insert("description".into(), field.docs.clone().into());
            }
            if let Some(tags) = product.field_tags.get(&self.path) {
                value.insert("tags".into(), tags.clone().into());
            }
        }
        if let Some(items) = &self.items {
            value.insert("items".into(), items.value(None, product));
        } else if !self.below.is_empty() {
            value.insert("properties".into(), self.properties(product).into());
        }
        value.into()
    }

    fn properties(&self, product: &Product) -> Vec<Value> {
        self.below.iter().map(|(name, node)| node.value(Some(name), product)).collect()
    }
}

fn properties(product: &Product, fields: &[SchemaField]) -> Vec<Value> {
    let mut root = Node::default();
    fields.iter().for_each(|field| root.put(&field.path, field));
    root.properties(product)
}

/// The standard's word for a type in the words of JSON Schema, Avro or Protobuf.
fn logical(of_type: &str) -> Option<&'static str> {
    let words = of_type.split(|c: char| !c.is_ascii_alphanumeric());
    words.into_iter().find_map(|word| match word {
        "string" | "bytes" | "enum" => Some("string"),
        "integer" | "int" | "long" | "int32" | "int64" | "uint32" | "uint64" | "sint32"
        | "sint64" | "fixed32" | "fixed64" | "sfixed32" | "sfixed64" => Some("integer"),
        "number" | "float" | "double" => Some("number"),
        "boolean" | "bool" => Some("boolean"),
        "object" | "record" | "map" | "message" => Some("object"),
        "array" | "repeated" => Some("array"),
        _ => None,
    })
}

/// A contract as a document with one product, and the paths of what it says and a product cannot
/// hold.
pub(super) fn import(source: &str, value: &Value) -> Result<(Document, Vec<String>)> {
    let mut reader = Reader { source, unused: Vec::new() };
    let product = reader.product(value)?;
    let document = Document { products: vec![product], ..Document::default() };
    Ok((document, reader.unused))
}

struct Reader<'a> {
    source: &'a str,
    unused: Vec<String>,
}

impl Reader<'_> {
    fn wrong(&self, path: &str, what: &str) -> Failure {
        Failure::usage(format!("{}: {path}: {what}", self.source))
    }

    /// The members of an object; the others than `known` are said to be unused.
    fn members<'v>(
        &mut self,
        path: &str,
        value: &'v Value,
        known: &[&str],
    ) -> Result<&'v Map<String, Value>> {
        let members =
            value.as_object().ok_or_else(|| self.wrong(path, "a mapping is expected here"))?;
        let dot = if path.is_empty() { "" } else { "." };
        for name in members.keys().filter(|name| !known.contains(&name.as_str())) {
            self.unused.push(format!("{path}{dot}{name}"));
        }
        Ok(members)
    }

    fn text(&self, path: &str, value: Option<&Value>) -> Result<String> {
        match value {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Number(number)) => Ok(number.to_string()),
            Some(_) => Err(self.wrong(path, "a text is expected here")),
        }
    }

    fn list<'v>(&self, path: &str, value: Option<&'v Value>) -> Result<&'v [Value]> {
        match value {
            None | Some(Value::Null) => Ok(&[]),
            Some(Value::Array(items)) => Ok(items),
            Some(_) => Err(self.wrong(path, "a list is expected here")),
        }
    }

    fn texts(&self, path: &str, value: Option<&Value>) -> Result<Vec<String>> {
        self.list(path, value)?.iter().map(|item| self.text(path, Some(item))).collect()
    }

    fn typed<T: DeserializeOwned>(&self, path: &str, value: &Value) -> Result<T> {
        serde_json::from_value(value.clone()).map_err(|error| self.wrong(path, &error.to_string()))
    }

    fn product(&mut self, value: &Value) -> Result<Product> {
        // Of these, `id`, `version` and `dataProduct` say nothing that a product holds but its name.
        const KNOWN: [&str; 14] = [
            "apiVersion",
            "kind",
            "id",
            "name",
            "version",
            "status",
            "domain",
            "dataProduct",
            "description",
            "tags",
            "schema",
            "support",
            "team",
            "customProperties",
        ];
        let known = [&KNOWN[..], &["authoritativeDefinitions"]].concat();
        let contract = self.members("", value, &known)?;
        let api = self.text("apiVersion", contract.get("apiVersion"))?;
        if !api.starts_with("v3.") {
            return Err(self.wrong("apiVersion", &format!("`{api}` is not v3.x of the standard")));
        }
        let mut product = Product { name: self.name(contract)?, ..Product::default() };
        match self.text("status", contract.get("status"))?.as_str() {
            "" => {}
            "proposed" => product.state = Some(self.typed("status", &"draft".into())?),
            status => product.state = Some(self.typed("status", &status.into())?),
        }
        if let Some(description) = contract.get("description") {
            let members = self.members("description", description, &["purpose"])?;
            product.description = self.text("description.purpose", members.get("purpose"))?;
        }
        product.tags = self.texts("tags", contract.get("tags"))?;
        if let Some(team) = contract.get("team") {
            match team {
                Value::Object(_) => {
                    let members = self.members("team", team, &["name"])?;
                    product.owner = self.text("team.name", members.get("name"))?;
                }
                _ => self.unused.push("team".into()),
            }
        }
        for (at, channel) in self.list("support", contract.get("support"))?.iter().enumerate() {
            match at {
                0 => {
                    let members = self.members("support[0]", channel, &["channel"])?;
                    product.support = self.text("support[0].channel", members.get("channel"))?;
                }
                _ => self.unused.push(format!("support[{at}]")),
            }
        }
        let links = contract.get("authoritativeDefinitions");
        for (at, link) in self.list("authoritativeDefinitions", links)?.iter().enumerate() {
            let path = format!("authoritativeDefinitions[{at}]");
            let members = self.members(&path, link, &["url", "type"])?;
            product.links.push(Link {
                title: self.text(&path, members.get("type"))?,
                url: self.text(&path, members.get("url"))?,
            });
        }
        self.ours(contract.get("customProperties"), &mut product)?;
        let objects = self.list("schema", contract.get("schema"))?;
        if let Some(object) = objects.first() {
            self.schema(object, &mut product)?;
        }
        let others = 1..objects.len();
        self.unused.extend(others.map(|at| format!("schema[{at}]")));
        Ok(product)
    }

    /// `<domain>.<name>`: the name if it is one, else made of the domain and the name.
    fn name(&self, contract: &Map<String, Value>) -> Result<String> {
        let name = self.text("name", contract.get("name"))?;
        if name.contains('.') {
            return Ok(name);
        }
        let domain = self.text("domain", contract.get("domain"))?;
        let of = if name.is_empty() { self.text("id", contract.get("id"))? } else { name };
        if domain.is_empty() || of.is_empty() {
            return Err(self.wrong("name", "write it as <domain>.<name>, or give a domain too"));
        }
        Ok(format!("{}.{}", label(&domain), label(&of)))
    }

    fn ours(&mut self, properties: Option<&Value>, product: &mut Product) -> Result<()> {
        for (at, entry) in self.list("customProperties", properties)?.iter().enumerate() {
            let path = format!("customProperties[{at}]");
            let property = self.text(&path, entry.get("property"))?;
            let value = entry.get("value").unwrap_or(&Value::Null);
            match property.as_str() {
                "meshlogClassification" => product.classification = self.typed(&path, value)?,
                "meshlogKind" => product.kind = self.typed(&path, value)?,
                "meshlogDeprecation" => product.deprecation = self.typed(&path, value)?,
                "meshlogKey" => product.key = self.typed(&path, value)?,
                "meshlogPartitions" => product.partitions = self.typed(&path, value)?,
                "meshlogInputs" => product.inputs = self.typed(&path, value)?,
                "meshlogSettings" => product.settings = self.typed(&path, value)?,
                "meshlogDocs" => product.docs = self.typed(&path, value)?,
                "meshlogManagedBy" => product.managed_by = self.typed(&path, value)?,
                "meshlogSchema" => product.schema = self.typed(&path, value)?,
                "meshlogKeySchema" => product.key_schema = self.typed(&path, value)?,
                "meshlogFieldTags" => product.field_tags = self.typed(&path, value)?,
                _ => self.unused.push(format!("{path} ({property})")),
            }
        }
        Ok(())
    }

    /// The exact text, if it is one of ours; else a JSON Schema of the properties.
    fn schema(&mut self, object: &Value, product: &mut Product) -> Result<()> {
        let known = ["name", "physicalName", "physicalType", "logicalType", "properties"];
        let described = [&known[..], &["description"]].concat();
        let members = self.members("schema[0]", object, &described)?;
        if product.schema.is_some() {
            return Ok(());
        }
        let mut schema = Map::new();
        schema.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
        let docs = self.text("schema[0].description", members.get("description"))?;
        if !docs.is_empty() {
            schema.insert("description".into(), docs.into());
        }
        let listed = self.list("schema[0].properties", members.get("properties"))?;
        self.properties("schema[0]", "", listed, &mut schema, product)?;
        let text = serde_json::to_string_pretty(&Value::from(schema))
            .map_err(|error| self.wrong("schema[0]", &error.to_string()))?;
        let format = Some(Format::JsonSchema);
        product.schema = Some(Schema { format, text: text + "\n", ..Schema::default() });
        Ok(())
    }

    fn properties(
        &mut self,
        place: &str,
        prefix: &str,
        listed: &[Value],
        schema: &mut Map<String, Value>,
        product: &mut Product,
    ) -> Result<()> {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for (at, property) in listed.iter().enumerate() {
            let place = format!("{place}.properties[{at}]");
            let name = self.text(&place, property.get("name"))?;
            let path = match prefix {
                "" => name.clone(),
                prefix => format!("{prefix}.{name}"),
            };
            let value = self.property(&place, &path, property, product)?;
            if property.get("required") == Some(&Value::Bool(true)) {
                required.push(Value::from(name.clone()));
            }
            properties.insert(name, value);
        }
        schema.insert("type".into(), "object".into());
        schema.insert("properties".into(), properties.into());
        if !required.is_empty() {
            schema.insert("required".into(), required.into());
        }
        Ok(())
    }

    fn property(
        &mut self,
        place: &str,
        path: &str,
        property: &Value,
        product: &mut Product,
    ) -> Result<Value> {
        let known = [
            "name",
            "logicalType",
            "physicalType",
            "physicalName",
            "required",
            "description",
            "tags",
            "properties",
            "items",
        ];
        let members = self.members(place, property, &known)?;
        let mut schema = Map::new();
        let docs = self.text(place, members.get("description"))?;
        if !docs.is_empty() {
            schema.insert("description".into(), docs.into());
        }
        let tags = self.texts(place, members.get("tags"))?;
        if !tags.is_empty() {
            product.field_tags.insert(path.to_owned(), tags);
        }
        match self.text(place, members.get("logicalType"))?.as_str() {
            "" => {}
            "object" => {
                let listed = self.list(place, members.get("properties"))?;
                self.properties(place, path, listed, &mut schema, product)?;
            }
            "array" => {
                schema.insert("type".into(), "array".into());
                if let Some(items) = members.get("items") {
                    let (place, path) = (format!("{place}.items"), format!("{path}[]"));
                    let items = self.property(&place, &path, items, product)?;
                    schema.insert("items".into(), items);
                }
            }
            "date" => insert_text(&mut schema, "date"),
            "timestamp" => insert_text(&mut schema, "date-time"),
            "time" => insert_text(&mut schema, "time"),
            other => {
                schema.insert("type".into(), other.into());
            }
        }
        Ok(schema.into())
    }
}

fn insert_text(schema: &mut Map<String, Value>, format: &str) {
    schema.insert("type".into(), "string".into());
    schema.insert("format".into(), format.into());
}

/// A name of the standard, which may be any text, as a part of one of ours.
fn label(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let lower = text.to_lowercase();
    let mapped = lower.chars().map(|c| if allowed(c) { c } else { '-' }).collect::<String>();
    mapped.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::read;

    const PUBLISHED: &str = include_str!("../../../tests/data/odcs/odcs-json-schema-v3.1.0.json");

    fn assert_valid(contract: &Value) {
        let schema: Value = serde_json::from_str(PUBLISHED).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<_> = validator
            .iter_errors(contract)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }

    fn field(path: &str, of_type: &str, optional: bool) -> SchemaField {
        SchemaField {
            path: path.into(),
            r#type: of_type.into(),
            optional,
            docs: format!("About {path}"),
        }
    }

    fn flights() -> Vec<Product> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/flights/mesh.yaml");
        read::read(&[path.into()]).unwrap().document.products
    }

    #[test]
    fn a_contract_is_valid_and_gives_the_same_product_again() {
        let fields = [
            field("dep_delay", "integer | null", true),
            field("legs", "array", false),
            field("legs[]", "object", false),
            field("legs[].dest", "string", false),
            field("plane", "object", false),
            field("plane.tailnum", "string", true),
        ];
        for product in flights() {
            let contract = contract(&product, &fields).unwrap();
            assert_valid(&contract);
            let legs = &contract["schema"][0]["properties"][1];
            assert_eq!(legs["items"]["properties"][0]["name"], "dest");
            let text = export::to_yaml(&contract).unwrap();
            let read: Value = read::parse("contract", &text).unwrap().remove(0);
            assert_eq!(read, contract);
            let (document, unused) = import("contract", &read).unwrap();
            assert_eq!(unused, Vec::<String>::new());
            let mut again = document.products[0].clone();
            again.sort();
            assert_eq!(again, product);
        }
    }

    #[test]
    fn what_a_product_cannot_hold_is_named() {
        let contract = json!({
            "apiVersion": "v3.1.0", "kind": "DataContract", "id": "x", "version": "1",
            "status": "proposed", "domain": "Ops", "name": "Flight Delays",
            "price": {"priceAmount": 1}, "team": {"name": "ops", "members": []},
            "description": {"purpose": "p", "usage": "u"},
            "schema": [{"name": "t", "properties": [
                {"name": "at", "logicalType": "timestamp", "required": true, "tags": ["pii"],
                 "quality": []},
                {"name": "where", "logicalType": "object",
                 "properties": [{"name": "gate", "logicalType": "string", "tags": ["unit=gate"]}]},
                {"name": "tags", "logicalType": "array", "items": {"logicalType": "integer"}},
            ]}, {"name": "other"}],
            "customProperties": [{"property": "mine", "value": 1}],
        });
        assert_valid(&contract);
        let (document, unused) = import("c.yaml", &contract).unwrap();
        assert_eq!(
            unused,
            [
                "price",
                "description.usage",
                "team.members",
                "customProperties[0] (mine)",
                "schema[0].properties[0].quality",
                "schema[1]",
            ]
        );
        let product = &document.products[0];
        assert_eq!(product.name, "ops.flight-delays");
        assert_eq!(product.field_tags["where.gate"], ["unit=gate"]);
        let text = &product.schema.as_ref().unwrap().text;
        let schema: Value = serde_json::from_str(text).unwrap();
        assert_eq!(schema["required"], json!(["at"]));
        assert_eq!(schema["properties"]["at"]["format"], "date-time");
        assert_eq!(schema["properties"]["where"]["properties"]["gate"]["type"], "string");
        assert_eq!(schema["properties"]["tags"]["items"]["type"], "integer");
    }

    #[test]
    fn a_contract_that_is_wrong_is_refused_by_its_place() {
        let base = json!({"apiVersion": "v3.1.0", "kind": "DataContract", "name": "a.b"});
        for (key, value, word) in [
            ("apiVersion", json!("v2.2.0"), "v3"),
            ("status", json!("someday"), "status"),
            ("tags", json!("one"), "tags"),
            ("name", json!("lonely"), "domain"),
        ] {
            let mut wrong = base.clone();
            wrong[key] = value;
            let why = import("c.yaml", &wrong).unwrap_err().to_string();
            assert!(why.contains("c.yaml") && why.contains(word), "{why}");
        }
    }
}
