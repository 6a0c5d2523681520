//! JSON values.

use serde_json::Value;

use super::super::profile::Number;
use super::{Listener, Parts, Place, Scalar};

/// The depth was bounded when the value was read.
pub(super) fn tell(value: &Value, listener: &mut impl Listener, place: Place) {
    match value {
        Value::Null => listener.scalar(place, Scalar::Null),
        Value::Bool(boolean) => listener.scalar(place, Scalar::Boolean(*boolean)),
        Value::Number(number) => {
            let integer = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
            let number = match integer {
                Some(integer) => Some(Number::Integer(integer)),
                None => number.as_f64().and_then(Number::of_float),
            };
            listener.scalar(place, number.map_or(Scalar::Null, Scalar::Number));
        }
        Value::String(text) => listener.scalar(place, Scalar::Text(text)),
        Value::Array(array) => {
            listener.parts(place, Parts::Array);
            let Some(items) = listener.items(place) else { return };
            for item in array {
                listener.item(items);
                tell(item, listener, items);
            }
        }
        Value::Object(members) => {
            listener.parts(place, Parts::Object);
            for (name, member) in members {
                if let Some(place) = listener.member(place, name) {
                    tell(member, listener, place);
                }
            }
        }
    }
}
