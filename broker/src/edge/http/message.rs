//! Messages of the wire contract as JSON: the standard mapping of protobuf, with the names of the
//! `.proto` files. 64-bit numbers and times are strings, bytes are base64, enums are names. Both
//! `page_size` and `pageSize` are read; `page_size` is written.
//!
//! It works on the descriptors that reflection serves, so one description serves gRPC, JSON and
//! OpenAPI.

use std::sync::LazyLock;

use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor,
    SerializeOptions,
};
use serde_json::{Map, Value};

use crate::error::{Error, Reason, Result};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(meshlog_proto::FILE_DESCRIPTOR_SET)
        .expect("the descriptors are compiled with the program")
});

/// The description of a message of `meshlog.v1`.
pub(super) fn descriptor(name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(&format!("meshlog.v1.{name}"))
        .expect("a test asks for every message that a route names")
}

/// The encoded message that this JSON describes.
pub(super) fn encode(descriptor: MessageDescriptor, json: Value) -> Result<Bytes> {
    let name = descriptor.name().to_owned();
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let message = DynamicMessage::deserialize_with_options(descriptor, json, &options);
    match message {
        Ok(message) => Ok(message.encode_to_vec().into()),
        Err(error) => Err(Error::new(
            Reason::InvalidArgument,
            format!(
                "the request is no {name}: {error}; GET /openapi.json describes it field by field"
            ),
        )),
    }
}

/// The JSON of an encoded message.
pub(super) fn decode(descriptor: MessageDescriptor, message: &[u8]) -> Result<Vec<u8>> {
    let options = SerializeOptions::new().use_proto_field_name(true);
    let broken = |what: &dyn std::fmt::Display| {
        Error::new(Reason::Internal, format!("an answer cannot be written as JSON: {what}"))
    };
    let message = DynamicMessage::decode(descriptor, message).map_err(|error| broken(&error))?;
    let mut json = Vec::with_capacity(512);
    let mut serializer = serde_json::Serializer::new(&mut json);
    message.serialize_with_options(&mut serializer, &options).map_err(|error| broken(&error))?;
    Ok(json)
}

/// Puts the text of a path or query parameter where its field is; `product.name` is a field of a
/// field. A parameter that repeats the body is accepted, one that contradicts it is not.
pub(super) fn put(
    json: &mut Map<String, Value>,
    descriptor: &MessageDescriptor,
    path: &str,
    text: &str,
) -> Result<()> {
    let (outer, name) = path.rsplit_once('.').map_or((None, path), |(o, name)| (Some(o), name));
    let (mut json, mut descriptor) = (json, descriptor.clone());
    for outer in outer.iter().flat_map(|outer| outer.split('.')) {
        let field = field(&descriptor, outer).ok_or_else(|| unknown(path))?;
        let Kind::Message(inner) = field.kind() else { return Err(unknown(path)) };
        let key = key_in(json, &field);
        let inside = json.entry(key).or_insert_with(|| Value::Object(Map::new()));
        json = inside.as_object_mut().ok_or_else(|| contradiction(path, text))?;
        descriptor = inner;
    }
    let field = field(&descriptor, name).ok_or_else(|| unknown(path))?;
    let value = match field.kind() {
        Kind::Bool if text == "true" || text.is_empty() => Value::Bool(true),
        Kind::Bool if text == "false" => Value::Bool(false),
        _ => Value::String(text.to_owned()),
    };
    let key = key_in(json, &field);
    match json.get_mut(&key) {
        Some(Value::Array(values)) if field.is_list() => values.push(value),
        None if field.is_list() => {
            json.insert(key, Value::Array(vec![value]));
        }
        None => {
            json.insert(key, value);
        }
        Some(there) if *there == value => {}
        Some(_) => return Err(contradiction(path, text)),
    }
    Ok(())
}

/// The spelling of a field that is there already, or that of the contract.
fn key_in(json: &Map<String, Value>, field: &FieldDescriptor) -> String {
    match json.contains_key(field.json_name()) {
        true => field.json_name().to_owned(),
        false => field.name().to_owned(),
    }
}

fn field(descriptor: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    descriptor.get_field_by_name(name).or_else(|| descriptor.get_field_by_json_name(name))
}

fn unknown(path: &str) -> Error {
    Error::new(
        Reason::InvalidArgument,
        format!("there is no parameter `{path}`; GET /openapi.json lists those there are"),
    )
    .with("field", path)
}

fn contradiction(path: &str, text: &str) -> Error {
    Error::new(
        Reason::InvalidArgument,
        format!("`{path}` is `{text}` in the address and something else elsewhere; say it once"),
    )
    .with("field", path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshlog_proto::v1;
    use serde_json::json;

    fn round_trip(name: &str, json: Value) -> Value {
        let bytes = encode(descriptor(name), json).unwrap();
        serde_json::from_slice(&decode(descriptor(name), &bytes).unwrap()).unwrap()
    }

    #[test]
    fn both_spellings_of_a_field_are_read_and_that_of_the_contract_is_written() {
        let camel = json!({"positions": [{"partition": 1, "offset": "7"}], "productId": "x"});
        let snake = json!({"positions": [{"partition": 1, "offset": "7"}], "product_id": "x"});
        assert_eq!(
            round_trip("CommitOffsetsRequest", camel),
            round_trip("CommitOffsetsRequest", snake.clone())
        );
        assert_eq!(round_trip("CommitOffsetsRequest", snake)["product_id"], "x");
    }

    #[test]
    fn parameters_become_fields_of_their_type() {
        let asked = descriptor("ListProductsRequest");
        let mut json = Map::new();
        put(&mut json, &asked, "domain", "ops").unwrap();
        put(&mut json, &asked, "page_size", "7").unwrap();
        let bytes = encode(asked, Value::Object(json)).unwrap();
        let request = v1::ListProductsRequest::decode(bytes).unwrap();
        assert_eq!((request.domain.as_str(), request.page_size), ("ops", 7));
    }

    #[test]
    fn a_parameter_reaches_into_the_body_and_may_not_contradict_it() {
        let asked = descriptor("UpdateProductRequest");
        let Value::Object(body) = json!({"product": {"name": "ops.a", "docs": "x"}}) else {
            panic!()
        };
        let mut same = body.clone();
        put(&mut same, &asked, "product.name", "ops.a").unwrap();
        assert_eq!(same, body);
        let refused = put(&mut body.clone(), &asked, "product.name", "ops.b").unwrap_err();
        assert_eq!(refused.metadata()["field"], "product.name");
        let unknown = put(&mut Map::new(), &asked, "colour", "red").unwrap_err();
        assert!(unknown.to_string().contains("`colour`"), "{unknown}");
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let refused = encode(descriptor("GetProductRequest"), json!({"colour": 1})).unwrap_err();
        assert!(refused.to_string().contains("colour"), "{refused}");
    }
}
