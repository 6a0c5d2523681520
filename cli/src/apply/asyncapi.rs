//! The products as an AsyncAPI 3.1 document: a channel with one message for each, and the operations of
//! a program that appends to it and of one that reads it. Written only.

use serde_json::{Map, Value, json};

use super::{
    document::{Document, Product, Schema},
    export,
    terms::{Format, State},
};
use crate::{
    exit::{Exit, Failure, Result},
    output,
};

/// The version of the specification that is written.
const VERSION: &str = "3.1.0";

/// One document with all of them.
pub(super) fn export(document: &Document) -> Result<String> {
    export::to_yaml(&api(document)?)
}

fn api(document: &Document) -> Result<Value> {
    let (mut channels, mut operations) = (Map::new(), Map::new());
    for product in &document.products {
        // Names stand in references, where a dot is as good as a letter, and in code, where it is not.
        let id = product.name.replace(['.', '-'], "_");
        channels.insert(id.clone(), channel(product)?);
        let channel = json!({"$ref": format!("#/channels/{id}")});
        let messages = json!([{"$ref": format!("#/channels/{id}/messages/record")}]);
        let operation =
            |action: &str| json!({"action": action, "channel": channel, "messages": messages});
        if product.state != Some(State::Retired) {
            operations.insert(format!("append_{id}"), operation("send"));
        }
        operations.insert(format!("read_{id}"), operation("receive"));
    }
    Ok(json!({
        "asyncapi": VERSION,
        "info": {
            "title": "Data products",
            "version": "1",
            "description": "The data products of a broker, each a channel, as `meshlog export` wrote them.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
    }))
}

fn channel(product: &Product) -> Result<Value> {
    let mut channel = Map::new();
    let mut put = |key: &str, value: Value| {
        if !output::is_empty(&value) {
            channel.insert(key.to_owned(), value);
        }
    };
    put("address", product.name.clone().into());
    put("title", product.name.clone().into());
    put("summary", product.description.clone().into());
    put("description", product.docs.clone().into());
    let tags = product.tags.iter().map(|tag| json!({"name": tag}));
    put("tags", tags.collect::<Vec<_>>().into());
    if let Some(link) = product.links.first() {
        put("externalDocs", json!({"url": link.url, "description": link.title}));
    }
    put("messages", json!({"record": message(product)?}));
    put("x-meshlog-owner", product.owner.clone().into());
    put("x-meshlog-support", product.support.clone().into());
    put("x-meshlog-key", product.key.clone().into());
    if let Some(classification) = product.classification {
        put("x-meshlog-classification", output::value(&classification)?);
    }
    if let Some(state) = product.state {
        put("x-meshlog-state", output::value(&state)?);
    }
    Ok(channel.into())
}

fn message(product: &Product) -> Result<Value> {
    let mut message = json!({"name": product.name, "title": product.name});
    if matches!(product.state, Some(State::Deprecated | State::Retired)) {
        message["deprecated"] = true.into();
    }
    let Some(schema) = &product.schema else { return Ok(message) };
    let (content_type, payload) = payload(product, schema)?;
    if !content_type.is_empty() {
        message["contentType"] = content_type.into();
    }
    if !payload.is_null() {
        message["payload"] = payload;
    }
    Ok(message)
}

/// The media type of the values, and their schema in its own language.
fn payload(product: &Product, schema: &Schema) -> Result<(String, Value)> {
    let json = || {
        serde_json::from_str::<Value>(&schema.text).map_err(|error| {
            Failure::new(Exit::Error, format!("the schema of {}: {error}", product.name))
        })
    };
    Ok(match schema.format {
        Some(Format::JsonSchema) => {
            let text = json()?;
            let draft = text.get("$schema").and_then(Value::as_str).unwrap_or_default();
            let draft = ["draft-07", "2019-09"].into_iter().find(|one| draft.contains(one));
            let format = format!("application/schema+json;version={}", draft.unwrap_or("2020-12"));
            ("application/json".into(), json!({"schemaFormat": format, "schema": text}))
        }
        Some(Format::Avro) => {
            let format = "application/vnd.apache.avro+json;version=1.9.0";
            (
                "application/vnd.apache.avro".into(),
                json!({"schemaFormat": format, "schema": json()?}),
            )
        }
        Some(Format::Protobuf) => {
            let format = "application/vnd.google.protobuf;version=3";
            (
                "application/x-protobuf".into(),
                json!({"schemaFormat": format, "schema": schema.text}),
            )
        }
        Some(Format::Opaque) | None => (schema.media_type.clone(), Value::Null),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::read;

    const PUBLISHED: &str = include_str!("../../../tests/data/asyncapi/asyncapi-3.1.0.json");

    #[test]
    fn a_document_is_valid_with_schemas_of_every_language() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/flights/mesh.yaml");
        let mut document = read::read(&[path.into()]).unwrap().document;
        for (format, text, media_type) in [
            (Format::Avro, r#"{"type": "record", "name": "A", "fields": []}"#, ""),
            (Format::Protobuf, "syntax = \"proto3\"; message A {}", ""),
            (Format::Opaque, "", "image/jpeg"),
        ] {
            let schema = Schema {
                format: Some(format),
                text: text.into(),
                media_type: media_type.into(),
                ..Schema::default()
            };
            let name = format!("ops.{}", output::plain(&output::value(&format).unwrap()));
            let product = Product { name, schema: Some(schema), ..Product::default() };
            document.products.push(product);
        }
        document.products[0].state = Some(State::Retired);
        let schema: Value = serde_json::from_str(PUBLISHED).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let written: Value = read::parse("api", &export(&document).unwrap()).unwrap().remove(0);
        let errors: Vec<_> = validator
            .iter_errors(&written)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
        assert_eq!(written["channels"].as_object().unwrap().len(), document.products.len());
        let operations = written["operations"].as_object().unwrap();
        assert_eq!(
            operations.len(),
            2 * document.products.len() - 1,
            "nobody appends to a retired one"
        );
        let image = &written["channels"]["ops_opaque"]["messages"]["record"];
        assert_eq!(image["contentType"], "image/jpeg");
    }
}
