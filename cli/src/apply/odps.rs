//! Data products of the Open Data Product Standard 1.0 (ODPS): each product with one output port, whose
//! contract is the one that [`super::odcs`] writes, and an input port for each product it is made of.
//! Written only: nothing in it is not in the contract.

use serde_json::{Map, Value, json};

use super::{
    document::{Document, Product},
    export, odcs,
};
use crate::{exit::Result, output};

/// The version of the standard that is written.
const API_VERSION: &str = "v1.0.0";

/// A data product for each product.
pub(super) fn export(document: &Document) -> Result<String> {
    let texts = document.products.iter().map(|product| export::to_yaml(&data_product(product)?));
    Ok(texts.collect::<Result<Vec<_>>>()?.join("---\n"))
}

fn data_product(product: &Product) -> Result<Value> {
    let domain = product.name.split('.').next().unwrap_or_default();
    let mut data_product = Map::new();
    let mut put = |key: &str, value: Value| {
        if !output::is_empty(&value) {
            data_product.insert(key.to_owned(), value);
        }
    };
    put("apiVersion", API_VERSION.into());
    put("kind", "DataProduct".into());
    put("id", product.name.clone().into());
    put("name", product.name.clone().into());
    put("version", "1".into());
    put("status", odcs::status(product)?);
    put("domain", domain.into());
    put("description", json!({"purpose": product.description, "usage": product.docs}));
    put("tags", product.tags.clone().into());
    let inputs = product.inputs.iter();
    let inputs = inputs.map(|name| json!({"name": name, "version": "1", "contractId": name}));
    put("inputPorts", inputs.collect::<Vec<_>>().into());
    let contracts = product.inputs.iter().map(|name| json!({"id": name, "version": "1"}));
    let mut port = json!({
        "name": product.name,
        "description": product.description,
        "type": "meshlog",
        "version": "1",
        "contractId": product.name,
    });
    let contracts: Vec<Value> = contracts.collect();
    if !contracts.is_empty() {
        port["inputContracts"] = contracts.into();
    }
    put("outputPorts", json!([port]));
    put("authoritativeDefinitions", odcs::definitions(product));
    if !product.owner.is_empty() {
        put("team", json!({"name": product.owner}));
    }
    let mut ours = Vec::new();
    let mut note = |property: &str, value: Value| {
        if !output::is_empty(&value) {
            ours.push(json!({"property": property, "value": value}));
        }
    };
    // The standard wants an address for a channel; ours is a text for people.
    note("meshlogSupport", product.support.clone().into());
    if let Some(classification) = product.classification {
        note("meshlogClassification", output::value(&classification)?);
    }
    if let Some(kind) = product.kind {
        note("meshlogKind", output::value(&kind)?);
    }
    if let Some(deprecation) = &product.deprecation {
        note("meshlogDeprecation", output::value(deprecation)?);
    }
    put("customProperties", ours.into());
    Ok(data_product.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::read;

    const PUBLISHED: &str = include_str!("../../../tests/data/odps/odps-json-schema-v1.0.0.json");

    #[test]
    fn a_data_product_is_valid_and_names_its_contract_and_what_it_is_made_of() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/flights/mesh.yaml");
        let mut document = read::read(&[path.into()]).unwrap().document;
        document.products[0].inputs = vec!["weather.observations".into()];
        let schema: Value = serde_json::from_str(PUBLISHED).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let text = export(&document).unwrap();
        let written: Vec<Value> = read::parse("products", &text).unwrap();
        assert_eq!(written.len(), document.products.len());
        for (value, product) in written.iter().zip(&document.products) {
            let errors: Vec<_> = validator.iter_errors(value).map(|e| e.to_string()).collect();
            assert!(errors.is_empty(), "{}: {errors:#?}", product.name);
            assert_eq!(value["outputPorts"][0]["contractId"], *product.name);
            assert_eq!(value["team"]["name"], *product.owner);
        }
        assert_eq!(written[0]["inputPorts"][0]["contractId"], "weather.observations");
    }
}
