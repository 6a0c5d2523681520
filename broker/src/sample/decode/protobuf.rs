//! Protobuf messages.
//!
//! A field without presence has its default value where it is absent; one with presence is null. Maps
//! are objects whose members are not told, as in the field table; so are the messages of
//! `google.protobuf`, except that a timestamp is its text.

use prost_reflect::{DynamicMessage, Kind, ReflectMessage as _, Value};

use super::super::profile::Number;
use super::{Listener, Parts, Place, Scalar};

pub(super) fn tell(message: &DynamicMessage, listener: &mut impl Listener, place: Place) {
    listener.parts(place, Parts::Object);
    for field in message.descriptor().fields() {
        let Some(place) = listener.member(place, field.name()) else { continue };
        if field.supports_presence() && !message.has_field(&field) {
            continue;
        }
        tell_value(&message.get_field(&field), &field.kind(), listener, place);
    }
}

fn tell_value(value: &Value, kind: &Kind, listener: &mut impl Listener, place: Place) {
    let scalar = match value {
        Value::Bool(boolean) => Scalar::Boolean(*boolean),
        Value::I32(number) => integer(*number),
        Value::I64(number) => integer(*number),
        Value::U32(number) => integer(*number),
        Value::U64(number) => integer(*number),
        Value::F32(number) => float(shortest(*number)),
        Value::F64(number) => float(*number),
        Value::String(text) => Scalar::Text(text),
        Value::Bytes(bytes) => Scalar::Bytes(bytes),
        Value::EnumNumber(number) => {
            let name = match kind {
                Kind::Enum(names) => names.get_value(*number),
                _ => None,
            };
            return match name {
                Some(name) => listener.scalar(place, Scalar::Text(name.name())),
                None => listener.scalar(place, integer(*number)),
            };
        }
        Value::Message(message) => {
            let descriptor = message.descriptor();
            return match descriptor.full_name() {
                "google.protobuf.Timestamp" => match message.transcode_to() {
                    Ok::<prost_types::Timestamp, _>(time) => {
                        listener.scalar(place, Scalar::Text(&time.to_string()));
                    }
                    Err(_) => listener.parts(place, Parts::Object),
                },
                name if name.starts_with("google.protobuf.") => {
                    listener.parts(place, Parts::Object)
                }
                _ => tell(message, listener, place),
            };
        }
        Value::List(list) => {
            listener.parts(place, Parts::Array);
            let Some(items) = listener.items(place) else { return };
            for item in list {
                listener.item(items);
                tell_value(item, kind, listener, items);
            }
            return;
        }
        Value::Map(_) => return listener.parts(place, Parts::Object),
    };
    listener.scalar(place, scalar);
}

fn integer(number: impl Into<i128>) -> Scalar<'static> {
    Scalar::Number(Number::Integer(number.into()))
}

pub(super) fn float(number: f64) -> Scalar<'static> {
    Number::of_float(number).map_or(Scalar::NotFinite(number), Scalar::Number)
}

/// The float of 64 bits that is written as shortly as the one of 32 bits: 0.1 and not 0.10000000149.
pub(super) fn shortest(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| f64::from(number))
}
