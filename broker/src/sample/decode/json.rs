//! JSON values.

use serde_json::Value;

use super::super::profile::Number;
use super::{Parts, Place, Scalar, Tree};

/// The depth was bounded when the value was read.
pub(super) fn tell(value: &Value, tree: &mut Tree, place: Place) {
    match value {
        Value::Null => tree.scalar(place, Scalar::Null),
        Value::Bool(boolean) => tree.scalar(place, Scalar::Boolean(*boolean)),
        Value::Number(number) => {
            let integer = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
            let number = match integer {
                Some(integer) => Some(Number::Integer(integer)),
                None => number.as_f64().and_then(Number::of_float),
            };
            tree.scalar(place, number.map_or(Scalar::Null, Scalar::Number));
        }
        Value::String(text) => tree.scalar(place, Scalar::Text(text)),
        Value::Array(array) => {
            tree.parts(place, Parts::Array);
            let Some(items) = tree.items(place) else { return };
            for item in array {
                tree.item(items);
                tell(item, tree, items);
            }
        }
        Value::Object(members) => {
            tree.parts(place, Parts::Object);
            for (name, member) in members {
                if let Some(place) = tree.member(place, name) {
                    tell(member, tree, place);
                }
            }
        }
    }
}
