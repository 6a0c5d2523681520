//! Values of Avro and Protobuf as rules see them.

use prost_reflect::{DynamicMessage, Kind, MapKey, ReflectMessage as _, Value};

/// Most parts of one value that are made for rules.
pub(crate) const MAX_PARTS: usize = 65_536;

/// A decoded value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Data>),
    Map(Vec<(String, Data)>),
}

impl Data {
    /// Of a message; `None`: it has too many parts. A field without presence has its default value
    /// where it is absent; one with presence is not there. An enum is its name.
    pub(crate) fn of_message(message: &DynamicMessage) -> Option<Self> {
        message_of(message, &mut MAX_PARTS.clone())
    }
}

fn message_of(message: &DynamicMessage, left: &mut usize) -> Option<Data> {
    let mut members = Vec::new();
    for field in message.descriptor().fields() {
        if field.supports_presence() && !message.has_field(&field) {
            continue;
        }
        let value = data_of(&message.get_field(&field), &field.kind(), left)?;
        members.push((field.name().to_owned(), value));
    }
    Some(Data::Map(members))
}

fn data_of(value: &Value, kind: &Kind, left: &mut usize) -> Option<Data> {
    *left = left.checked_sub(1)?;
    Some(match value {
        Value::Bool(boolean) => Data::Bool(*boolean),
        Value::I32(number) => Data::Int((*number).into()),
        Value::I64(number) => Data::Int(*number),
        Value::U32(number) => Data::Uint((*number).into()),
        Value::U64(number) => Data::Uint(*number),
        Value::F32(number) => Data::Double((*number).into()),
        Value::F64(number) => Data::Double(*number),
        Value::String(text) => Data::Text(text.clone()),
        Value::Bytes(bytes) => Data::Bytes(bytes.to_vec()),
        Value::EnumNumber(number) => {
            let name = match kind {
                Kind::Enum(names) => names.get_value(*number),
                _ => None,
            };
            match name {
                Some(name) => Data::Text(name.name().to_owned()),
                None => Data::Int((*number).into()),
            }
        }
        Value::Message(message) => message_of(message, left)?,
        Value::List(list) => {
            Data::List(list.iter().map(|item| data_of(item, kind, left)).collect::<Option<_>>()?)
        }
        Value::Map(map) => {
            let kind = match kind {
                Kind::Message(entry) if entry.is_map_entry() => {
                    entry.map_entry_value_field().kind()
                }
                other => other.clone(),
            };
            let member = |(key, value): (&MapKey, &Value)| {
                Some((key_text(key), data_of(value, &kind, left)?))
            };
            Data::Map(map.iter().map(member).collect::<Option<_>>()?)
        }
    })
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}
